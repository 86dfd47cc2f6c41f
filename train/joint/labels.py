"""Entity labels of characters (BMES), their legal order, and the slots by which one piece labels several characters.

A piece of the teacher's vocabulary holds 1.4 Chinese characters on average, and one entity in sixteen begins or ends inside a piece.
So the entity head gives each piece SLOTS rows of labels: the first, second and third character have their own slot, the last
character of a longer piece the fourth, and those between share the third.
"""

import numpy as np

KINDS = ["PER", "LOC", "ORG"]
LABELS = ["O", *(f"{place}-{kind}" for kind in KINDS for place in "BMES")]
INDEX = {label: i for i, label in enumerate(LABELS)}
SLOTS = 4
_ILLEGAL = -1e9


def slot(position, length):
    """The slot of the character at `position` in a piece of `length` characters."""
    return SLOTS - 1 if SLOTS - 1 <= position == length - 1 else min(position, SLOTS - 2)


def from_spans(length, spans):
    """One label index a character for spans (start, end, kind)."""
    labels = [0] * length
    for start, end, kind in spans:
        if end - start == 1:
            labels[start] = INDEX[f"S-{kind}"]
            continue
        labels[start:end] = [INDEX[f"M-{kind}"]] * (end - start)
        labels[start] = INDEX[f"B-{kind}"]
        labels[end - 1] = INDEX[f"E-{kind}"]
    return labels


def to_spans(labels):
    """Spans of a legal sequence of label indices."""
    spans, start = [], 0
    for i, label in enumerate(labels):
        place, _, kind = LABELS[label].partition("-")
        if place in ("B", "S"):
            start = i
        if place in ("E", "S"):
            spans.append((start, i + 1, kind))
    return spans


def _follows(left, right):
    """Whether label `right` may follow label `left`; None stands for the text's edge."""
    place, _, kind = (left or "O").partition("-")
    next_place, _, next_kind = (right or "O").partition("-")
    if place in ("B", "M"):
        return next_place in ("M", "E") and kind == next_kind
    return next_place in ("O", "B", "S")


TRANSITIONS = np.array([[0.0 if _follows(a, b) else _ILLEGAL for b in LABELS] for a in LABELS], np.float32)
START = np.array([0.0 if _follows(None, b) else _ILLEGAL for b in LABELS], np.float32)
END = np.array([0.0 if _follows(a, None) else _ILLEGAL for a in LABELS], np.float32)


def viterbi(scores):
    """The best legal sequence for log-probabilities [characters, labels]: sum of scores, ties to the lower label."""
    if len(scores) == 0:
        return []
    best, back = START + scores[0], []
    for row in scores[1:]:
        through = best[:, None] + TRANSITIONS
        back.append(through.argmax(0))
        best = through.max(0) + row
    label = int((best + END).argmax())
    path = [label]
    for pointers in reversed(back):
        label = int(pointers[label])
        path.append(label)
    return path[::-1]
