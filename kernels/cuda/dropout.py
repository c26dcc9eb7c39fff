"""Dropout by a hash of the element's number: dropout.cu."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from tinynet.kernels.cuda.loader import blocks, contiguous, float32_kernel, launch
from tinynet.kernels.live import Live, words

Array = Any

_CHUNK = 1024  # elements of a block of 256 threads


@float32_kernel
def dropout(x: Array, rate: float, key: int | Live) -> Array:
    """Zero each element with probability ``rate`` and scale the rest; the key is a number or a live one."""
    y = sys.modules["cupy"].empty(x.shape, np.float32)
    threshold = np.uint32(min(round(rate * 2**32), 2**32 - 1))
    settings = np.uint64(x.size), threshold, 1 / (1 - rate)
    launch("dropout", "dropout.cu", blocks(x.size, _CHUNK), (256,), contiguous(x), y, words(key), *settings)
    return y
