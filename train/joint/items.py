"""Everything that the student learns from, as token ids with whatever answers are known, and batches of it as tensors."""

from dataclasses import dataclass

import numpy as np
import torch

from . import corpora, opinions, teacher, tokens
from .labels import SLOTS, from_spans

NO_LABEL = -100


@dataclass
class Item:
    """One text: its pieces; entities and the labels of its characters, sentiment, the probability that it is positive, which is learnt,
    and whether the teacher's answers are at hand."""

    text: str
    pieces: tokens.Pieces
    entities: list | None = None
    labels: list | None = None
    sentiment: int = NO_LABEL
    positive: float = 0.0
    taught: bool = False


def training(out, teacher_texts, opinion_share, limit=None):
    """(items, the teacher's answers to the first `teacher_texts`). Texts without any label or answer are left out; `limit` cuts each labelled part.
    What is learnt of a review's sentiment is its label, and to a share the opinion of others."""
    answers = teacher.Answers(out, teacher_texts)
    heard = opinions.load(out)
    rows = [row for part in ("reviews-train", "entities-train") for row in corpora.load(out, part)[:limit]]
    known = {row["text"] for row in rows}
    rows += [{"text": text} for text in answers.places if text not in known]
    items = encoded(rows, tokens.TRAINING_TOKENS, tokens.prompt_of)
    for item in items:
        item.taught = item.text in answers.places
        if item.sentiment != NO_LABEL:
            item.positive = (1 - opinion_share) * item.sentiment + opinion_share * heard[item.text]
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
    return Item(row["text"], pieces, row.get("entities"), labels, row.get("sentiment", NO_LABEL))


@dataclass
class Batch:
    """Items of one length. `places` and `labels` run over the labelled characters, of which the labelled texts have
    `characters` each; `taught` are the rows with a teacher."""

    ids: torch.Tensor
    characters: list
    places: torch.Tensor
    labels: torch.Tensor
    sentiment: torch.Tensor
    positive: torch.Tensor
    taught: torch.Tensor
    vectors: torch.Tensor
    states: torch.Tensor


def collate(items, answers):
    ids = torch.tensor([item.pieces.ids for item in items])
    length = ids.shape[1]
    characters, places, labels, taught, vectors, states = [], [], [], [], [], []
    for row, item in enumerate(items):
        if item.labels:
            characters.append(len(item.labels))
            places += [row * length * SLOTS + place for place in item.pieces.places]
            labels += item.labels
        if item.taught:
            taught.append(row)
            vectors.append(answers.vector(item.text))
            states.append(answers.states(item.text))
    return Batch(
        ids,
        characters,
        torch.tensor(places, dtype=torch.long),
        torch.tensor(labels, dtype=torch.long),
        torch.tensor([item.sentiment for item in items]),
        torch.tensor([item.positive for item in items]),
        torch.tensor(taught, dtype=torch.long),
        torch.tensor(np.array(vectors, np.float32)),
        torch.tensor(np.array(states, np.float32)),
    )
