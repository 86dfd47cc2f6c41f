"""Writes `model.safetensors`: Hugging Face's BERT names, 4-bit matrices as they are, everything 64-byte aligned."""

import json
import struct

import numpy as np

from .source import BLOCK_BYTES, BLOCK_WEIGHTS

ALIGNMENT = 64
Q4_KEY = "plimsoll.q4_0"
EMBEDDINGS = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def tensors(source, kept):
    """(Hugging Face name, array, is 4-bit), embeddings cut to the kept rows; 4-bit matrices have shape [rows, bytes a row]."""
    hidden, wide = source.hidden, source.intermediate
    columns = {"emb.pos": hidden, "emb.type": hidden}
    for short, name in EMBEDDINGS.items():
        data = source.tensors[short]
        if short == "emb.word":
            yield name, _blocks(data, hidden)[kept], True
        else:
            yield name, data.reshape(-1, columns[short]) if short in columns else data, False
    for layer in range(source.layers):
        for short, name in LAYER.items():
            data = source.tensors[f"l{layer}.{short}.w"]
            matrix = data.dtype == np.uint8
            yield f"encoder.layer.{layer}.{name}.weight", _blocks(data, wide if short == "fo" else hidden) if matrix else data, matrix
            yield f"encoder.layer.{layer}.{name}.bias", source.tensors[f"l{layer}.{short}.b"], False


def _blocks(data, columns):
    return data.reshape(-1, columns // BLOCK_WEIGHTS * BLOCK_BYTES)


def write(path, named):
    """Writes the tensors in order. Every size must be a multiple of 64, since safetensors allows no gaps between tensors."""
    header, parts, at = {"__metadata__": {"format": "pt", Q4_KEY: ",".join(name for name, _, q4 in named if q4)}}, [], 0
    for name, array, _ in named:
        raw = np.ascontiguousarray(array).tobytes()
        if len(raw) % ALIGNMENT:
            raise ValueError(f"{name}: {len(raw)} bytes are not a multiple of {ALIGNMENT}")
        header[name] = {"dtype": "U8" if array.dtype == np.uint8 else "F32", "shape": list(array.shape), "data_offsets": [at, at + len(raw)]}
        parts.append(raw)
        at += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(parts)
