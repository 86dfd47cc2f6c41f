"""Reads a trained model back from what `plimsoll quantize` made of it: where training may begin when its checkpoint is gone."""

import json
import struct

import numpy as np
import torch
from e5.weights import Q4_KEY

from .export import HEADS, WORDS
from .model import new_student, read_config

PACKED_KEY = "plimsoll.packed"
# Panels of outputs, and inputs in a word: crates/kernel/src/packed.rs.
PANEL, WORD_INPUTS = 48, 4


def load_student(folder):
    """A student with the weights of a model directory in 8 bits. Its temperature stays in the sentiment head: a scale that training moves anyhow."""
    tensors = read_file(folder / "model.safetensors")
    student = new_student(list(range(read_config(folder)["num_hidden_layers"])))
    state = {f"encoder.{own}": tensors[theirs] for own, theirs in student.encoder.published().items() if theirs != WORDS}
    state |= {f"{own}.{kind}": tensors[f"{theirs}.{kind}"] for own, theirs in HEADS.items() for kind in ("weight", "bias")}
    words = student.encoder.words.weight.data
    student.load_state_dict({**{name: torch.tensor(array) for name, array in state.items()}, "encoder.words.weight": words})
    return student


def read_file(path):
    """Published name -> f32 array, without the words, which are the teacher's."""
    raw = path.read_bytes()
    (size,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8 : 8 + size])
    metadata = header.pop("__metadata__")
    if metadata.get(PACKED_KEY) != "int8" or metadata[Q4_KEY] != WORDS:
        raise ValueError(f"{path}: not a model in 8 bits with words in 4-bit blocks")
    tensors = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        data = raw[8 + size + start : 8 + size + end]
        if name.endswith(".packed"):
            tensors |= unpacked(name.removesuffix(".packed"), data, header)
        elif name != WORDS:
            tensors[name] = _floats(data, entry["dtype"]).reshape(entry["shape"])
    return tensors


def _floats(data, kind):
    if kind == "BF16":
        return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, np.float32)


def unpacked(name, data, header):
    """Published names -> matrices [outputs, inputs] of one packed product; the three of attention are packed side by side."""
    names = [name.replace("query", part) for part in ("query", "key", "value")] if name.endswith("self.query") else [name]
    outputs = [header[f"{part}.bias"]["shape"][0] for part in names]
    matrix = unpack(np.frombuffer(data, np.uint8), sum(outputs))
    return {f"{part}.weight": rows for part, rows in zip(names, np.split(matrix, np.cumsum(outputs)[:-1]))}


def unpack(data, outputs):
    """Panels of outputs, step by step along the inputs, then a scale and a sum for each output -> f32 [outputs, inputs]."""
    padded = -(-outputs // PANEL) * PANEL
    columns = padded * 2 * 4
    panels = data[:-columns].view(np.int8).reshape(padded // PANEL, -1, PANEL, WORD_INPUTS)
    scales = data[-columns:].view(np.float32)[:outputs]
    return panels.transpose(0, 2, 1, 3).reshape(padded, -1)[:outputs] * scales[:, None]
