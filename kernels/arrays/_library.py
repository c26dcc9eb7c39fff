"""Which array library an array belongs to, and sums that do not lose digits."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

Array = Any


def xp_of(array: Array) -> Any:
    """The library whose functions take ``array``: numpy, or cupy for an array on a GPU."""
    return np if isinstance(array, np.ndarray) else sys.modules["cupy"]


def wide_sum(values: Array, axis: int, keepdims: bool = False) -> Array:
    """Sum with a float64 accumulator: over a million rows a float32 one would lose four digits of seven."""
    return values.sum(axis=axis, keepdims=keepdims, dtype=np.float64).astype(values.dtype)
