"""Writes a model directory that the server loads: f32, and the table of words in the teacher's 4-bit blocks."""

import json
import shutil
import struct

import numpy as np
from e5.weights import ALIGNMENT, Q4_KEY

from . import ROOT, TEACHER
from .labels import LABELS, SLOTS
from .model import SENTIMENTS, read_file, read_config

WORDS = "embeddings.word_embeddings.weight"
COPIED = ["tokenizer.json", "tokenizer_config.json", "modules.json", "config_sentence_transformers.json", "1_Pooling/config.json", "pruning.json"]
HEADS = {
    "sentiment_dense": "plimsoll.sequence_classifier.dense",
    "sentiment": "plimsoll.sequence_classifier",
    "entities": "plimsoll.token_classifier",
}


def run(student, temperature, folder):
    """The temperature goes into the sentiment head's last layer, so that its softmax is calibrated."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(TEACHER / name, folder / name)
    shutil.copyfile(ROOT / "models" / "default" / "LICENSE", folder / "LICENSE")
    (folder / "config.json").write_text(json.dumps(config(student), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    write_file(folder / "model.safetensors", list(tensors(student, temperature)))


def config(student):
    return {
        **read_config(),
        "num_hidden_layers": len(student.encoder.layers),
        "plimsoll_heads": {
            "sequence_classifier": {"id2label": dict(enumerate(SENTIMENTS)), "pooling": "cls", "activation": "tanh"},
            "token_classifier": {"id2label": dict(enumerate(LABELS)), "slots": SLOTS},
        },
    }


def tensors(student, temperature):
    """(published name, array, is 4-bit) in the file's order."""
    state = {name: parameter.detach().numpy() for name, parameter in student.named_parameters()}
    for own, theirs in student.encoder.published().items():
        array = state[f"encoder.{own}"]
        if theirs == WORDS:
            yield theirs, read_file(TEACHER / "model.safetensors")[0][WORDS], True
        else:
            yield theirs, array, False
    for own, theirs in HEADS.items():
        divisor = temperature if own == "sentiment" else 1.0
        for kind in ("weight", "bias"):
            yield f"{theirs}.{kind}", (state[f"{own}.{kind}"] / divisor).astype(np.float32), False


def write_file(path, named):
    """safetensors allows no gaps, so what is no multiple of 64 bytes (biases of the heads) comes last and all else stays aligned."""
    named.sort(key=lambda entry: entry[1].nbytes % ALIGNMENT != 0)
    header, at = {"__metadata__": {"format": "pt", Q4_KEY: ",".join(name for name, _, q4 in named if q4)}}, 0
    for name, array, _ in named:
        kind = {"uint8": "U8", "float32": "F32"}[array.dtype.name]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(np.ascontiguousarray(array).tobytes() for _, array, _ in named)
