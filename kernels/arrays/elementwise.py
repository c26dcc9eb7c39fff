"""Kernels that treat each element by itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinynet.kernels.arrays._library import Array, xp_of


def dropout(x: Array, rate: float, key: int) -> Array:
    """Zero each element with probability ``rate`` and scale the rest by 1 / (1 - rate)."""
    xp = xp_of(x)
    threshold = xp.uint32(min(round(rate * 2**32), 2**32 - 1))
    keep = _hash(xp, x.size, key) >= threshold
    return xp.where(keep.reshape(x.shape), x * x.dtype.type(1 / (1 - rate)), x.dtype.type(0))


def _hash(xp: Any, count: int, key: int) -> Array:
    """The hash of element 0, 1, ... count - 1, as tinynet.kernels.dropout defines it."""
    h = xp.arange(count).astype(xp.uint32)
    h *= xp.uint32(0x9E3779B1)
    h += xp.uint32(key & 0xFFFFFFFF)
    _mix(xp, h)
    h ^= xp.uint32(key >> 32)
    _mix(xp, h)
    return h


def _mix(xp: Any, h: Array) -> None:
    """lowbias32 in place."""
    h ^= h >> xp.uint32(16)
    h *= xp.uint32(0x7FEB352D)
    h ^= h >> xp.uint32(15)
    h *= xp.uint32(0x846CA68B)
    h ^= h >> xp.uint32(16)


def erf(x: Array) -> Array:
    """The Gauss error function, from CuPy's own kernel or, NumPy having none, from Python's math."""
    if xp_of(x) is np:
        return np.fromiter(map(math.erf, x.ravel().tolist()), x.dtype, x.size).reshape(x.shape)
    import cupyx.scipy.special

    return cupyx.scipy.special.erf(x)
