from itertools import product

import numpy as np
import torch
from joint import paths
from joint.labels import END, INDEX, LABELS, START, TRANSITIONS, from_spans, to_spans, viterbi


def likelihood(scores, labels):
    """By going through all sequences."""
    every = []
    for path in product(range(len(LABELS)), repeat=len(scores)):
        illegal = START[path[0]] + END[path[-1]] + sum(TRANSITIONS[a, b] for a, b in zip(path, path[1:]))
        every.append(illegal + sum(row[label] for row, label in zip(scores.tolist(), path)))
    own = sum(row[label] for row, label in zip(scores.tolist(), labels))
    return np.logaddexp.reduce(every) - own


def test_the_loss_is_that_of_all_legal_sequences():
    torch.manual_seed(0)
    scores = torch.randn(4, len(LABELS))
    labels = [INDEX["B-PER"], INDEX["M-PER"], INDEX["E-PER"], INDEX["O"]]
    wanted = (likelihood(scores[:3], labels[:3]) + likelihood(scores[3:], labels[3:])) / 4
    np.testing.assert_allclose(paths.loss(scores, torch.tensor(labels), [3, 1]).item(), wanted, rtol=1e-5)


def test_learning_it_makes_the_decoder_right():
    torch.manual_seed(0)
    scores = torch.randn(6, len(LABELS), requires_grad=True)
    spans = [(1, 4, "ORG"), (4, 5, "LOC")]
    for _ in range(50):
        paths.loss(scores, torch.tensor(from_spans(6, spans)), [6]).backward()
        with torch.no_grad():
            scores -= 10 * scores.grad
            scores.grad = None
    assert to_spans(viterbi(scores.detach().numpy())) == spans
