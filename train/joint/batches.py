"""Batches of texts with exactly the same number of tokens, so that no token is padding."""

import random


def by_length(lengths, tokens_max, seed):
    """Lists of indices: one length each, at most `tokens_max` tokens (one text at least), in shuffled order."""
    rng = random.Random(seed)
    order = list(range(len(lengths)))
    rng.shuffle(order)
    groups, batches = {}, []
    for index in order:
        group = groups.setdefault(lengths[index], [])
        group.append(index)
        if (len(group) + 1) * lengths[index] > tokens_max:
            batches.append(groups.pop(lengths[index]))
    batches += groups.values()
    rng.shuffle(batches)
    return batches
