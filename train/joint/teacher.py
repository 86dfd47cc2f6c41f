"""What the teacher says about the training texts, computed once and kept in shards: pooled vectors and last hidden states."""

import random

import numpy as np
import torch

from . import SEED, corpora, say, tokens, write_atomically
from .batches import by_length
from .model import embedding, load_teacher
from .precision import products

SHARD_TEXTS = 512
BATCH_TOKENS = 4096


def texts(out):
    """All texts for distillation in a fixed shuffled order: any beginning of it is a fair sample of the whole."""
    parts = ["reviews-train", "entities-train", "unlabelled-train"]
    found = corpora.unique(row["text"] for part in parts for row in corpora.load(out, part))
    random.Random(SEED).shuffle(found)
    return found


def shards_of(out, count):
    """The first `count` texts in shards, all of them full."""
    found = texts(out)[:count]
    return [found[i : i + SHARD_TEXTS] for i in range(0, len(found) - SHARD_TEXTS + 1, SHARD_TEXTS)]


def run(out, count):
    """Computes the shards of the first `count` texts that are missing."""
    folder = out / "teacher"
    folder.mkdir(parents=True, exist_ok=True)
    shards = shards_of(out, count)
    missing = [i for i in range(len(shards)) if not _path(folder, i, "hidden").is_file()]
    if not missing:
        return
    encoder, loaded = load_teacher(), tokens.tokenizer(tokens.TRAINING_TOKENS)
    for i in missing:
        say(f"teacher: shard {i + 1} of {len(shards)}")
        encoded = tokens.encode(loaded, shards[i], [tokens.prompt_of(text) for text in shards[i]])
        vectors, hidden = answers(encoder, [pieces.ids for pieces in encoded])
        write_atomically(_path(folder, i, "vectors"), lambda path: save(path, vectors.astype(np.float16)))
        write_atomically(_path(folder, i, "hidden"), lambda path: save(path, np.concatenate(hidden).astype(np.float16)))


def save(path, array):
    with open(path, "wb") as file:
        np.save(file, array)


def _path(folder, shard, what):
    return folder / f"{shard:04}.{what}.npy"


def answers(encoder, ids, dtype=None):
    """(vectors [texts, hidden] of length 1, hidden states of each text), by products in `dtype`, or in the fastest."""
    vectors, hidden = [None] * len(ids), [None] * len(ids)
    with torch.inference_mode(), products(dtype):
        for batch in by_length([len(row) for row in ids], BATCH_TOKENS, SEED):
            states = encoder(torch.tensor([ids[i] for i in batch])).float()
            for i, vector, rows in zip(batch, embedding(states).numpy(), states.numpy()):
                vectors[i], hidden[i] = vector, rows
    return np.stack(vectors), hidden


class Answers:
    """The shards of the first `count` texts, hidden states mapped: text -> (vector, hidden states)."""

    def __init__(self, out, count):
        folder, self.places = out / "teacher", {}
        shards = shards_of(out, count)
        self.vectors = [np.load(_path(folder, shard, "vectors")) for shard in range(len(shards))]
        self.hidden = [np.load(_path(folder, shard, "hidden"), mmap_mode="r") for shard in range(len(shards))]
        self.starts = [None] * len(shards)
        for shard, found in enumerate(shards):
            self.places.update((text, (shard, row)) for row, text in enumerate(found))

    def locate(self, lengths):
        """Tells the token count of each text known here; hidden states are then found by it."""
        counts = [np.zeros(SHARD_TEXTS, np.int64) for _ in self.starts]
        for text, length in lengths.items():
            shard, row = self.places[text]
            counts[shard][row] = length
        for shard, count in enumerate(counts):
            if count.sum() != len(self.hidden[shard]):
                raise ValueError(f"shard {shard} has {len(self.hidden[shard])} tokens, its texts have {count.sum()}")
            self.starts[shard] = np.concatenate([[0], np.cumsum(count)])

    def vector(self, text):
        shard, row = self.places[text]
        return self.vectors[shard][row]

    def states(self, text):
        shard, row = self.places[text]
        return self.hidden[shard][self.starts[shard][row] : self.starts[shard][row + 1]]
