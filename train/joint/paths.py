"""The loss of whole sequences: the probability of the true one among all legal ones, as the decoder compares them.

A conditional random field (Lafferty et al. 2001) with fixed transitions, legal or not: nothing is added to the model, but
the scores of characters learn to agree on where an entity begins and ends.
"""

import torch
from torch.nn.utils.rnn import pad_sequence

from .labels import END, START, TRANSITIONS

_START, _TRANSITIONS, _END = (torch.tensor(table) for table in (START, TRANSITIONS, END))


def loss(scores, labels, characters):
    """Negative log-likelihood a character; `scores` [all characters, labels] and `labels` are those of one text after the other, which have
    `characters` each."""
    texts = pad_sequence(scores.split(characters), batch_first=True)
    counts = torch.tensor(characters)
    total = _START + texts[:, 0]
    for place in range(1, texts.shape[1]):
        longer = torch.logsumexp(total[:, :, None] + _TRANSITIONS, 1) + texts[:, place]
        total = torch.where((place < counts)[:, None], longer, total)
    every = torch.logsumexp(total + _END, 1).sum()
    return (every - scores.gather(1, labels[:, None]).sum()) / len(labels)
