"""Measures what pruning and conversion cost, on lines that were not counted."""

import ctypes
import subprocess
from dataclasses import dataclass

import numpy as np

TOKENS_MAX = 510
TEXTS_PER_CORPUS = 40


@dataclass
class Coverage:
    """One corpus: lines, the teacher's tokens, how many of them the pruned tokenizer gives at the same place, and cosines."""

    lines: int
    tokens: int
    same: int
    mean_cosine: float
    min_cosine: float


def coverage(teacher, pruned, kept, encoder, prefix, lines):
    """Compares token by token (same offsets, same piece) on all lines, and embeddings on the first few."""
    tokens = same = 0
    cosines = []
    for i, line in enumerate(lines):
        old, new = teacher.encode(prefix + line), pruned.encode(prefix + line)
        new_ids = [kept[id_] for id_ in new.ids]
        tokens += len(old.ids)
        same += len(set(zip(old.offsets, old.ids, range(len(old.ids)))) & _placed(old, new, new_ids))
        if i < TEXTS_PER_CORPUS and max(len(old.ids), len(new_ids)) <= TOKENS_MAX:
            cosines.append(1.0 if old.ids == new_ids else float(encoder.embed(old.ids) @ encoder.embed(new_ids)))
    return Coverage(len(lines), tokens, same, float(np.mean(cosines)), float(np.min(cosines)))


def _placed(old, new, new_ids):
    """The pruned tokens as (offsets, piece, place among the teacher's tokens)."""
    places = {}
    for place, offsets in enumerate(old.offsets):
        places.setdefault(offsets, []).append(place)
    return {(offsets, id_, place) for offsets, id_ in zip(new.offsets, new_ids) for place in places.get(offsets, ())}


def engine_cosines(model_file, source_dir, work, encoder, teacher, lines):
    """Compiles the package's own e5.c and compares its embeddings (int8 activations) with the f32 forward of the same weights."""
    library = work / "libe5.so"
    subprocess.run(["cc", "-O2", "-march=native", "-fPIC", "-shared", "-o", library, source_dir / "e5.c", "-lm"], check=True)
    engine = ctypes.CDLL(str(library))
    engine.e5_load.restype = ctypes.c_void_p
    model = ctypes.c_void_p(engine.e5_load(str(model_file).encode()))
    if not model:
        raise RuntimeError("the package's engine does not load its model")
    out = (ctypes.c_float * 384)()
    cosines = []
    for line in lines:
        ids = teacher.encode("passage: " + line).ids
        if len(ids) <= TOKENS_MAX:
            engine.e5_embed(model, line.encode(), 0, out)
            cosines.append(float(encoder.embed(ids) @ np.array(out)))
    return cosines
