"""Everything that the student learns from, as token ids with whatever answers are known, and batches of it as tensors."""

from dataclasses import dataclass

import numpy as np
import torch

from . import corpora, teacher, tokens
from .labels import SLOTS, from_spans

NO_LABEL = -100


@dataclass
class Item:
    """One text: its pieces; labels of its characters, sentiment, and whether the teacher's answers are at hand."""

    text: str
    pieces: tokens.Pieces
    labels: list | None = None
    sentiment: int = NO_LABEL
    taught: bool = False


def training(out, teacher_texts, limit=None):
    """(items, the teacher's answers to the first `teacher_texts`). Texts without any label or answer are left out; `limit` cuts each labelled part."""
    answers = teacher.Answers(out, teacher_texts)
    rows = [row for part in ("reviews-train", "entities-train") for row in corpora.load(out, part)[:limit]]
    known = {row["text"] for row in rows}
    rows += [{"text": text} for text in answers.places if text not in known]
    items = encoded(rows, tokens.TRAINING_TOKENS, tokens.prompt_of)
    for item in items:
        item.taught = item.text in answers.places
    taught = {item.text: len(item.pieces.ids) for item in items if item.taught}
    answers.locate(taught)
    return items, answers


def encoded(rows, tokens_max, prompt_of):
    """Rows of the data as items."""
    loaded = tokens.tokenizer(tokens_max)
    texts = [row["text"] for row in rows]
    found = tokens.encode(loaded, texts, [prompt_of(text) for text in texts])
    return [_item(row, pieces) for row, pieces in zip(rows, found)]


def _item(row, pieces):
    labels = None
    if "entities" in row:
        every = from_spans(len(row["text"]), row["entities"])
        labels = [every[i] for i in pieces.chars]
    return Item(row["text"], pieces, labels, row.get("sentiment", NO_LABEL))


@dataclass
class Batch:
    """Items of one length. `places` and `labels` run over the labelled characters; `taught` are the rows with a teacher."""

    ids: torch.Tensor
    places: torch.Tensor
    labels: torch.Tensor
    sentiment: torch.Tensor
    taught: torch.Tensor
    vectors: torch.Tensor
    states: torch.Tensor


def collate(items, answers):
    ids = torch.tensor([item.pieces.ids for item in items])
    length = ids.shape[1]
    places, labels, taught, vectors, states = [], [], [], [], []
    for row, item in enumerate(items):
        if item.labels is not None:
            places += [row * length * SLOTS + place for place in item.pieces.places]
            labels += item.labels
        if item.taught:
            taught.append(row)
            vectors.append(answers.vector(item.text))
            states.append(answers.states(item.text))
    return Batch(
        ids,
        torch.tensor(places, dtype=torch.long),
        torch.tensor(labels, dtype=torch.long),
        torch.tensor([item.sentiment for item in items]),
        torch.tensor(taught, dtype=torch.long),
        torch.tensor(np.array(vectors, np.float32)),
        torch.tensor(np.array(states, np.float32)),
    )
