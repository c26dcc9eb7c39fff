"""Arrays as the kernels of convolutions take them: contiguous, float32, of four dimensions or in one row."""

from __future__ import annotations

import numpy as np

from tinynet.kernels.cpu.jit import contiguous
from tinynet.kernels.cpu.microkernel import SLACK
from tinynet.kernels.cpu.plan import Plan
from tinynet.kernels.cpu.squares import mapped

f4 = np.float32
NOTHING = np.zeros((0, 0, 0, 0), f4)
_NO_PLACES = np.zeros((0, 0, 0, 0), np.uint8)
_LEADING = (1, 1), (1,), ()  # axes of size 1 that make sequences and images three-dimensional


def turned_weight(weight):
    """(*kernel, C / groups, O) turned by 180 degrees: (taps, O, C / groups)."""
    return weight.reshape(-1, *weight.shape[-2:])[::-1].swapaxes(1, 2)


def in_rows(x):
    """(N, *spatial, C) as (N, D, H, W * C)."""
    if x.ndim == 4:  # images, nearly always
        n, height, width, channels = x.shape
        return contiguous(x).reshape(n, 1, height, width * channels)
    n, *axes, width, channels = x.shape
    return contiguous(x).reshape(n, *_LEADING[len(axes)], *axes, width * channels)


def in_one_row(b, plan: Plan):
    """b as one contiguous row of numbers, mapped if the tiles need it, with room behind it when the last tile
    reads too far."""
    if plan.squares:
        return mapped(contiguous(b))
    if not plan.ragged:
        return contiguous(b).reshape(-1)
    row = np.zeros(b.size + SLACK, f4)
    row[: b.size] = b.reshape(-1)
    return row


def start_from(bias, filters: int, ragged: bool):
    """What the sums of a convolution begin with: the bias, or zeros, with room behind when ``ragged``."""
    if bias is not None and bias.dtype == f4 and not ragged:
        return contiguous(bias)
    start = np.zeros(filters + SLACK, f4)
    if bias is not None:
        start[:filters] = bias
    return start


def places_in_rows(where):
    """The places of the pool in rows, or none."""
    return _NO_PLACES if where is None else in_rows(where)
