"""The phases of an input gradient: input pixels that meet the same taps of the kernel; see plan.py."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from tinynet.kernels.geometry import Window


def dot(a, b) -> int:
    """The sum of the products of two rows of integers."""
    return sum(x * y for x, y in zip(a, b))


class Phase(NamedTuple):
    """One axis of a phase: first input pixel, how many, where they read, and its (offset, tap) pairs."""

    first: int
    count: int
    origin: int
    taps: list[tuple[int, int]]


def phases_of(size: int, k: int, stride: int, before: int, dilation: int, margin: int) -> list[Phase]:
    """Input pixel i meets output o through tap t when i + before = o * stride + t * dilation."""
    phases = []
    for first in range(min(stride, size)):
        r, m = (first + before) % stride, (first + before) // stride
        taps = [
            ((r - t * dilation) // stride, t) for t in reversed(range(k)) if (r - t * dilation) % stride == 0
        ]
        phases.append(Phase(first, -(-(size - first) // stride), m + margin, taps))
    return phases


def padded_grad(spatial, window: Window) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Margin before the output gradient, and its shape with margins: what the input gradient is made from."""
    out = window.output_shape(spatial)
    margin = tuple((e - 1) // s for e, s in zip(window.extent, window.stride))
    beyond = [
        max(0, (n - 1 + b) // s - (o - 1))
        for n, (b, _), s, o in zip(spatial, window.padding, window.stride, out)
    ]
    return margin, tuple(m + o + r for m, o, r in zip(margin, out, beyond))


def phase_segments(phase, pixel, window: Window, tap_size: int, first: int, c: int) -> list[tuple[int, int]]:
    """The segments of a phase (one for each axis): where the taps read, and which rows of b they meet.

    A tap has ``tap_size`` numbers in b, of which those of ``c`` channels begin at number ``first``.
    """
    segments = []
    for taps in itertools.product(*(p.taps for p in phase)):
        flipped = [k - 1 - t for k, (_, t) in zip(window.size, taps)]
        index = (flipped[0] * window.size[1] + flipped[1]) * window.size[2] + flipped[2]
        segments.append((dot([e for e, _ in taps], pixel) + first, index * tap_size + first * c))
    return segments
