"""Rounding of matrices: to the 4-bit blocks of the file, and to 8 bits for measuring what that costs."""

import copy

import numpy as np
from e5.source import BLOCK_WEIGHTS, dequantise


# Tried as shares of the usual scale, that one first: a block may lose less when its largest value is cut off.
SCALES = [1.0, 0.8, 0.85, 0.9, 0.95]


def quantise(array):
    """[rows, columns] f32 -> blocks: weights rounded to -8..7 times a scale, which is the value of largest size / -8, or the share of it
    with the least squared error."""
    blocks = array.reshape(-1, BLOCK_WEIGHTS)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(1)[:, None], 1)
    scale, nibbles, least = None, None, None
    for share in SCALES:
        tried = (extreme / -8.0 * share).astype(np.float16)
        divisor = np.where(tried == 0, 1, tried).astype(np.float32)
        rounded = np.clip(np.rint(blocks / divisor), -8, 7)
        error = ((rounded * divisor - blocks) ** 2).sum(1, keepdims=True)
        if scale is None:
            scale, nibbles, least = tried, rounded, error
        better = error < least
        scale, nibbles, least = np.where(better, tried, scale), np.where(better, rounded, nibbles), np.minimum(error, least)
    nibbles = (nibbles + 8).astype(np.uint8)
    half = BLOCK_WEIGHTS // 2
    packed = nibbles[:, :half] | nibbles[:, half:] << 4
    return np.concatenate([scale.view(np.uint8), packed], 1).reshape(len(array), -1)


def rounded(student, bits):
    """A copy of the student whose matrices went through 4-bit blocks, or through 8 bits with one scale a row: for measuring the loss."""
    copied = copy.deepcopy(student)
    for name, parameter in copied.encoder.named_parameters():
        if name.startswith("layers.") and parameter.ndim == 2:
            array = parameter.detach().numpy()
            parameter.data.copy_(parameter.new_tensor(through_blocks(array) if bits == 4 else through_rows(array)))
    return copied


def through_blocks(array):
    return dequantise(quantise(array), array.shape[1])


def through_rows(array):
    scale = np.abs(array).max(1, keepdims=True) / 127.0
    return np.rint(array / scale) * scale
