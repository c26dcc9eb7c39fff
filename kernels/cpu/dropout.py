"""Dropout in float32: the mask is a hash of the element's number, so no mask is drawn or kept."""

from __future__ import annotations

import numpy as np

from tinynet.kernels import arrays
from tinynet.kernels.cpu.jit import contiguous, inner_kernel, kernel
from tinynet.kernels.cpu.threads import share, tasks_for


def dropout(x: np.ndarray, rate: float, key: int) -> np.ndarray:
    """Zero each element with probability ``rate`` and scale the rest by 1 / (1 - rate)."""
    if x.dtype != np.float32 or x.size == 0:
        return arrays.dropout(x, rate, key)
    y = np.empty(x.shape, np.float32)
    threshold = np.uint32(min(round(rate * 2**32), 2**32 - 1))
    low, high, scale = np.uint32(key & 0xFFFFFFFF), np.uint32(key >> 32), np.float32(1 / (1 - rate))
    tasks = tasks_for(x.size, x.size)
    _drop(contiguous(x).reshape(-1), y.reshape(-1), threshold, low, high, scale, tasks)
    return y


@kernel
def _drop(x, y, threshold, low, high, scale, tasks):
    share(tasks, _drop_part, (x, y, threshold, low, high, scale, tasks))


@inner_kernel
def _drop_part(task, x, y, threshold, low, high, scale, tasks):
    first, last = task * len(x) // tasks, (task + 1) * len(x) // tasks
    source, target = x[first:last], y[first:last]
    for i in range(len(source)):
        h = np.uint32(np.uint32(first + i) * np.uint32(0x9E3779B1) + low)
        keep = _mix(np.uint32(_mix(h) ^ high)) >= threshold
        value = source[i] * scale
        target[i] = value if keep else np.float32(0)


@inner_kernel
def _mix(h):
    """lowbias32 (Wellons 2018); Numba widens products of uint32, hence the casts."""
    h = np.uint32(np.uint32(h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D))
    h = np.uint32(np.uint32(h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(h ^ (h >> np.uint32(16)))
