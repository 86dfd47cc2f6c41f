"""What products are computed in: bfloat16 where the processor has instructions for it, else floats, of which it then does several times as many."""

import time
from functools import cache

import torch

SHAPE = 256
REPEATS = 5


@cache
def fastest():
    """The faster of both, measured once in a process."""
    return min((torch.bfloat16, torch.float32), key=_seconds)


def _seconds(dtype):
    """The least time of some small products, so that whatever else the machine does matters little."""
    left, right = (torch.ones(SHAPE, SHAPE, dtype=dtype) for _ in range(2))
    left @ right
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - began)
    return min(times)


def products(dtype=None):
    """A context whose products are computed in `dtype`, or in the fastest."""
    dtype = dtype or fastest()
    return torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16)
