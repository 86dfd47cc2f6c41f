"""What a pass is made of: every text, but of sentences whose entities are known by heart only a part."""

import random

import numpy as np

from .batches import by_length


class Order:
    """The difficulty of each item is the loss of its labels when it was last seen; nobody has seen it, infinite."""

    def __init__(self, items, plan):
        self.plan = plan
        # A sentence without an entity is taken for easy until it was seen.
        self.difficulty = np.array([0.0 if item.labels and not any(item.labels) else np.inf for item in items], np.float32)

    def batches(self, items, seed):
        """Batches of item indices: all difficult ones, and of the easy ones a share drawn by the seed. What the teacher answered
        stands together and may come several times."""
        drawn = np.random.default_rng(seed).random(len(items)) < self.plan.easy_share
        chosen = np.flatnonzero((self.difficulty >= self.plan.easy_below) | drawn)
        taught = np.array([items[i].taught for i in chosen])
        parts = [chosen[taught]] * self.plan.taught_times + [chosen[~taught]]
        batches = [part[batch] for number, part in enumerate(parts) for batch in self._by_length(items, part, seed + number)]
        random.Random(seed).shuffle(batches)
        return batches

    def _by_length(self, items, indices, seed):
        return by_length([len(items[i].pieces.ids) for i in indices], self.plan.batch_tokens, seed)

    def seen(self, indices, losses):
        """Remembers the losses of items with labels."""
        self.difficulty[indices] = losses
