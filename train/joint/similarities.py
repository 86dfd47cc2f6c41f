"""The loss of the order of similarities.

The teacher's similarities lie close together, so that a vector may be near its own and the order of the pairs lost all the same. The pairs within a batch
are few and of one length: their gradient is mostly noise. But what an error of one vector does to its similarities with all texts that the teacher
answered needs no other text at hand, only their second moment.
"""

import torch


class Similarities:
    """Of the teacher's vectors [texts, hidden], of length 1."""

    def __init__(self, vectors):
        vectors = torch.tensor(vectors, dtype=torch.float32)
        vectors = torch.nn.functional.normalize(vectors, dim=-1)
        mean = vectors.mean(0)
        self.moment = vectors.T @ vectors / len(vectors)
        self.variance = self.moment.square().sum() - (mean @ mean) ** 2

    def loss(self, found, wanted):
        """Squared distance of the similarities of `found` and of `wanted` to the teacher's vectors, mean over all pairs, in units of the variance of the
        teacher's similarities among themselves."""
        errors = found - wanted
        return ((errors @ self.moment) * errors).sum(-1).mean() / self.variance
