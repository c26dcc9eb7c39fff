"""Dropout in float32: the mask is a hash of the element's number, so no mask is drawn or kept."""

from __future__ import annotations

import numba
import numpy as np

from tinynet.kernels import arrays
from tinynet.kernels.cpu.jit import contiguous, kernel, parallel_kernel

_BLOCK = 1 << 13  # elements a thread takes at a time


def dropout(x: np.ndarray, rate: float, key: int) -> np.ndarray:
    """Zero each element with probability ``rate`` and scale the rest by 1 / (1 - rate)."""
    if x.dtype != np.float32 or x.size == 0:
        return arrays.dropout(x, rate, key)
    y = np.empty(x.shape, np.float32)
    threshold = np.uint32(min(round(rate * 2**32), 2**32 - 1))
    low, high, scale = np.uint32(key & 0xFFFFFFFF), np.uint32(key >> 32), np.float32(1 / (1 - rate))
    numbers = contiguous(x).reshape(-1), y.reshape(-1)
    if x.size <= 2 * _BLOCK:
        _drop(*numbers, 0, threshold, low, high, scale)
    else:
        _drop_blocks(*numbers, threshold, low, high, scale)
    return y


@parallel_kernel
def _drop_blocks(x, y, threshold, low, high, scale):
    for block in numba.prange((len(x) + _BLOCK - 1) // _BLOCK):
        first = block * _BLOCK
        _drop(x[first : first + _BLOCK], y[first : first + _BLOCK], first, threshold, low, high, scale)


@kernel
def _drop(x, y, first, threshold, low, high, scale):
    for i in range(len(x)):
        h = np.uint32(np.uint32(first + i) * np.uint32(0x9E3779B1) + low)
        keep = _mix(np.uint32(_mix(h) ^ high)) >= threshold
        value = x[i] * scale
        y[i] = value if keep else np.float32(0)


@kernel
def _mix(h):
    """lowbias32 (Wellons 2018); Numba widens products of uint32, hence the casts."""
    h = np.uint32(np.uint32(h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D))
    h = np.uint32(np.uint32(h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(h ^ (h >> np.uint32(16)))
