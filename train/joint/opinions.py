"""What a linear model of characters thinks of each training review, fitted without that review.

The label of a review is that of the whole text it was cut from, and so often wrong for the piece. A model that has not seen the piece
disagrees where the label is odd, and it errs elsewhere than an encoder does: together they are better than either (see README.md).
"""

import json
from collections import Counter

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from . import SEED, corpora, metrics, say, write_atomically

FOLDS = 5
GRAM_CHARACTERS = (1, 2, 3)
GRAM_TEXTS_MIN = 2
EPOCHS = 3
BATCH_TEXTS = 256
RATE = 0.1


def run(out):
    """Writes out/teacher/opinions.json once: text -> probability that it is positive."""
    path = out / "teacher" / "opinions.json"
    if path.is_file():
        return
    rows = corpora.load(out, "reviews-train")
    labels = np.array([row["sentiment"] for row in rows])
    logits = out_of_fold([row["text"] for row in rows], labels)
    both = np.stack([-logits, logits], 1) / 2
    found = metrics.softmax(both / metrics.temperature(both, labels))[:, 1]
    say(f"opinions: {((logits > 0) == labels).mean():.4f} of {len(rows)} reviews as labelled")
    text = json.dumps({row["text"]: round(float(p), 4) for row, p in zip(rows, found)}, ensure_ascii=False)
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def load(out):
    return json.loads((out / "teacher" / "opinions.json").read_text(encoding="utf-8"))


def out_of_fold(texts, labels):
    """Logits of the positive label, each from a model of the other folds."""
    torch.manual_seed(SEED)
    folds = np.random.default_rng(SEED).integers(FOLDS, size=len(texts))
    bags, size = grams(texts)
    logits = np.zeros(len(texts), np.float32)
    for fold in range(FOLDS):
        inside, outside = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        logits[inside] = answer(fit(bags, size, labels, outside), bags, inside)
    return logits


def grams(texts):
    """(for each text the ids of its grams and their weights, of length 1 together; how many grams there are)"""
    sets = [{text[i : i + n] for n in GRAM_CHARACTERS for i in range(len(text) - n + 1)} for text in texts]
    counts = Counter(gram for found in sets for gram in found)
    known = {gram: i for i, gram in enumerate(sorted(gram for gram, count in counts.items() if count >= GRAM_TEXTS_MIN))}
    rarity = torch.tensor([np.log(len(texts) / counts[gram]) for gram in known], dtype=torch.float32)
    ids = [torch.tensor(sorted(known[gram] for gram in found if gram in known), dtype=torch.long) for found in sets]
    return [(found, F.normalize(rarity[found], dim=0)) for found in ids], len(known)


def fit(bags, size, labels, chosen):
    """Logistic regression on the chosen texts; a few epochs from zero are all the regularisation it has."""
    model = nn.EmbeddingBag(size, 1, mode="sum", sparse=True)
    nn.init.zeros_(model.weight)
    optimiser = torch.optim.SparseAdam(model.parameters(), lr=RATE)
    wanted = torch.tensor(labels, dtype=torch.float32)
    for _ in range(EPOCHS):
        for batch in torch.tensor(chosen)[torch.randperm(len(chosen))].split(BATCH_TEXTS):
            loss = F.binary_cross_entropy_with_logits(logits_of(model, bags, batch), wanted[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model


def answer(model, bags, chosen):
    with torch.inference_mode():
        return logits_of(model, bags, chosen).numpy()


def logits_of(model, bags, batch):
    ids, weights = zip(*(bags[i] for i in batch))
    offsets = np.cumsum([0, *map(len, ids[:-1])])
    return model(torch.cat(ids), torch.tensor(offsets), per_sample_weights=torch.cat(weights))[:, 0]
