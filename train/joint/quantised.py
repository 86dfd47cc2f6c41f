"""Rounding of matrices: to the 4-bit blocks of the file, and to 8 bits for measuring what that costs."""

import copy

import numpy as np
from e5.source import BLOCK_WEIGHTS, dequantise


def quantise(array):
    """[rows, columns] f32 -> blocks: scale = the value of largest size / -8, weights rounded to -8..7 times it."""
    blocks = array.reshape(-1, BLOCK_WEIGHTS)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(1)[:, None], 1)
    scale = (extreme / -8.0).astype(np.float16)
    divisor = np.where(scale == 0, 1, scale).astype(np.float32)
    nibbles = np.clip(np.rint(blocks / divisor) + 8, 0, 15).astype(np.uint8)
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
