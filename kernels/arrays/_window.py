"""Where the taps of a window fall on its input."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tinynet.kernels.geometry import Window

Place = tuple[slice, ...]


def taps(spatial: tuple[int, ...], window: Window) -> Iterator[tuple[tuple[int, ...], Place, Place]]:
    """For each tap of the window: its index, the outputs that see the input through it, and what they see.

    The last two index arrays (N, *out, C) and (N, *spatial, C), and select equally many positions: output
    o lies over input o * stride + tap * dilation - padding. Outputs whose tap falls on padding are left out.
    """
    out = window.output_shape(spatial)
    for tap in np.ndindex(*window.size):
        axes = zip(tap, spatial, out, window.stride, window.padding, window.dilation)
        outputs, inputs = zip(
            *(_overlap(k * d - before, s, o, step) for k, s, o, step, (before, _), d in axes)
        )
        yield tap, (slice(None), *outputs), (slice(None), *inputs)


def _overlap(shift: int, size: int, out: int, stride: int) -> tuple[slice, slice]:
    """The o in 0..out-1 with 0 <= o * stride + shift < size, and those places, along one axis."""
    first = max(0, -(shift // stride))  # -(a // b) is -a / b rounded up
    count = max(0, min(out, (size - 1 - shift) // stride + 1) - first)
    start = first * stride + shift if count else 0
    stop = start + (count - 1) * stride + 1 if count else 0
    return slice(first, first + count), slice(start, stop, stride)
