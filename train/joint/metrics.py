"""Figures: spans, confusion, calibration, correlation. Numpy only."""

from collections import Counter

import numpy as np

BINS = 15


def span_scores(gold, found):
    """Exact spans: kind -> (precision, recall, F1), and "all" over all of them; both are lists of lists of (start, end, kind)."""
    right, wanted, given = Counter(), Counter(), Counter()
    for truth, answer in zip(gold, found, strict=True):
        truth, answer = set(truth), set(answer)
        for counter, spans in [(right, truth & answer), (wanted, truth), (given, answer)]:
            counter.update(kind for _, _, kind in spans)
            counter["all"] += len(spans)
    return {kind: _f1(right[kind], given[kind], wanted[kind]) for kind in sorted(wanted | given)}


def _f1(right, given, wanted):
    return right / max(given, 1), right / max(wanted, 1), 2 * right / max(given + wanted, 1)


def span_confusion(gold, found):
    """(true kind, answer) -> count. Answers: a kind for exact borders, "borders" when only they are wrong, "missed"; true kind "none" for inventions."""
    table = Counter()
    for truth, answer in zip(gold, found, strict=True):
        exact = {(start, end): kind for start, end, kind in answer}
        for start, end, kind in truth:
            overlaps = any(a < end and start < b for a, b, _ in answer)
            table[kind, exact.get((start, end), "borders" if overlaps else "missed")] += 1
        for start, end, kind in answer:
            if not any(a < end and start < b for a, b, _ in truth):
                table["none", kind] += 1
    return table


def calibration_error(probabilities, labels):
    """Expected calibration error of the most probable label's probability, 15 bins of equal width (Guo et al. 2017, equation 3)."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(confidence[bins == b].sum() - right[bins == b].sum()) for b in range(BINS)]
    return float(sum(gaps) / len(labels))


def softmax(logits):
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def temperature(logits, labels):
    """The divisor of the logits with the least log loss, by golden section search over its logarithm."""

    def loss(log_t):
        probabilities = softmax(logits / np.exp(log_t))
        return -np.log(probabilities[np.arange(len(labels)), labels] + 1e-12).mean()

    low, high, ratio = -2.5, 2.5, (5**0.5 - 1) / 2
    for _ in range(60):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def spearman(a, b):
    """Rank correlation; equal values share their mean rank."""
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def ranks(values):
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def pair_similarities(left, right=None):
    """Dot products of all pairs within one set of unit vectors, or across two."""
    if right is not None:
        return (left @ right.T).ravel()
    rows, columns = np.triu_indices(len(left), 1)
    return (left @ left.T)[rows, columns]
