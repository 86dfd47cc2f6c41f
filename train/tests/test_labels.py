from itertools import product

import numpy as np
from joint.labels import END, LABELS, SLOTS, START, TRANSITIONS, from_spans, slot, to_spans, viterbi

SPANS = [(0, 3, "PER"), (3, 4, "LOC"), (5, 7, "ORG")]


def test_spans_survive_labels():
    labels = from_spans(8, SPANS)
    assert [LABELS[i] for i in labels] == ["B-PER", "M-PER", "E-PER", "S-LOC", "O", "B-ORG", "E-ORG", "O"]
    assert to_spans(labels) == SPANS


def test_slots_keep_borders_apart():
    assert [slot(i, 1) for i in range(1)] == [0]
    assert [slot(i, 4) for i in range(4)] == [0, 1, 2, 3]
    assert [slot(i, 6) for i in range(6)] == [0, 1, 2, 2, 2, SLOTS - 1]


def test_viterbi_finds_the_best_legal_sequence():
    for seed in range(20):
        scores = np.random.default_rng(seed).normal(size=(3, len(LABELS))).astype(np.float32)

        def value(path, scores=scores):
            steps = sum(TRANSITIONS[a, b] for a, b in zip(path, path[1:]))
            return START[path[0]] + END[path[-1]] + steps + sum(row[label] for row, label in zip(scores, path))

        best = max(product(range(len(LABELS)), repeat=3), key=value)
        assert viterbi(scores) == list(best)


def test_viterbi_of_nothing():
    assert viterbi(np.zeros((0, len(LABELS)))) == []
