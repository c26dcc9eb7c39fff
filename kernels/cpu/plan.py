"""Plans: which tiles, over which numbers, make up a convolution. Plain integers, made once per shape.

A *job* is one regular grid of output pixels that share their list of segments (see microkernel.py):

* a convolution is one job per group of channels;
* its input gradient (and so a transposed convolution) is one job per group and *phase*: with stride s, the
  input pixels 0, s, 2s, ... meet other kernel taps than the pixels 1, s + 1, ...; within a phase, neighbours
  meet neighbouring output gradients, so it is a plain convolution again;
* its weight gradient is one job per kernel row, whose segments are the rows of output pixels.

All geometry is three-dimensional; images and sequences have leading axes of size 1.
"""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import numpy as np

from tinynet.kernels.cpu.microkernel import registers, tile_address
from tinynet.kernels.geometry import Window

# Columns of the table of jobs. Origins and strides in floats, counts in pixels.
JOB = (
    "a_origin", "a_depth", "a_height", "a_width", "out_origin", "out_depth", "out_height", "out_width",
    "depth", "height", "width", "first_segment", "n_segments", "first_block", "n_blocks", "start_origin",
)  # fmt: skip
# Columns of the table of blocks: a range of output columns, and the tile that does it.
BLOCK = ("column", "columns", "rows", "address")


class Plan(NamedTuple):
    """What a driver in conv.py needs: the padded source, the tables, and the strides within a segment."""

    before: np.ndarray  # (3,) where the source starts in its padded copy: depth, height, number in the row
    padded: np.ndarray  # (3,) shape of that copy: depth, height, numbers in a row
    jobs: np.ndarray  # (J, len(JOB))
    blocks: np.ndarray  # (B, len(BLOCK))
    segments: np.ndarray  # (S, 2): offsets into a and b
    steps: int
    b_step: int
    ragged: bool  # some tile reads beyond the last column of b


def in_3d(shape: tuple[int, ...], window: Window) -> tuple[tuple[int, ...], Window]:
    """Spatial shape and window with leading axes of size 1."""
    lead = 3 - len(shape)
    return (1,) * lead + tuple(shape), Window(
        (1,) * lead + window.size,
        (1,) * lead + window.stride,
        ((0, 0),) * lead + window.padding,
        (1,) * lead + window.dilation,
    )


def _strides(shape: tuple[int, ...], channels: int) -> tuple[int, int, int]:
    _, h, w = shape
    return h * w * channels, w * channels, channels


def _in_rows(sizes, channels: int) -> np.ndarray:
    """Sizes along (D, H, W) as sizes along (D, H, W * channels)."""
    d, h, w = sizes
    return np.array([d, h, w * channels], np.int64)


def _dot(a, b) -> int:
    return sum(x * y for x, y in zip(a, b))


def merge(segments: list[tuple[int, int]], steps: int, b_step: int) -> tuple[list[tuple[int, int]], int]:
    """Join neighbouring segments into longer ones, when all of them can be joined alike."""
    run = 1
    while run < len(segments) and _follows(segments[run - 1], segments[run], steps, b_step):
        run += 1
    if len(segments) % run:
        return segments, steps
    for i in range(1, len(segments)):
        if i % run and not _follows(segments[i - 1], segments[i], steps, b_step):
            return segments, steps
    return segments[::run], steps * run


def _follows(first: tuple[int, int], second: tuple[int, int], steps: int, b_step: int) -> bool:
    return second[0] == first[0] + steps and second[1] == first[1] + steps * b_step


def tile_form(rows: int, columns: int) -> tuple[int, int, int]:
    """(rows, vectors, lanes) of the tile that covers ``rows`` x ``columns`` with the least idle work."""
    lanes, room = registers()
    if columns <= lanes // 2 and lanes > 4:
        lanes //= 2
    vectors = -(-columns // lanes)
    best = None
    for v in range(1, min(vectors, 4) + 1):
        for r in range(1, min(rows, room // v) + 1):
            tiles = -(-rows // r) * -(-vectors // v)
            # a product needs about 8 others under way to hide its latency; loads cost a little beside it
            cost = tiles * (max(r * v, 8) + 0.3 * (r + v))
            if best is None or cost < best[0]:
                best = cost, r, v
    return best[1], best[2], lanes


def column_blocks(rows: int, columns: int) -> list[tuple[int, int, int, int]]:
    """Cut the columns into blocks as wide as a tile; each entry as in ``BLOCK``."""
    blocks, column = [], 0
    while column < columns:
        r, v, lanes = tile_form(rows, columns - column)
        width = min(v * lanes, columns - column)
        blocks.append((column, width, r, tile_address(r, v, lanes, width < v * lanes)))
        column += width
    return blocks


class _Tables:
    """Collects jobs, blocks and segments."""

    def __init__(self):
        self.jobs: list[tuple[int, ...]] = []
        self.blocks: list[tuple[int, int, int, int]] = []
        self.segments: list[tuple[int, int]] = []

    def add(self, a, out, counts, segments, columns, start_origin):
        """One job: ``a`` and ``out`` are (origin, three strides), ``counts`` the pixels along each axis."""
        if min(counts) < 1:
            return
        blocks = column_blocks(counts[2], columns)
        first_segment, first_block = len(self.segments), len(self.blocks)
        self.segments += segments
        self.blocks += blocks
        where = first_segment, len(segments), first_block, len(blocks)
        self.jobs.append((*a, *out, *counts, *where, start_origin))

    def plan(self, before, padded, channels: int, steps: int, b_step: int) -> Plan:
        lanes = registers()[0]
        return Plan(
            _in_rows(before, channels),
            _in_rows(padded, channels),
            np.array(self.jobs, np.int64).reshape(-1, len(JOB)),
            np.array(self.blocks, np.int64).reshape(-1, len(BLOCK)),
            np.array(self.segments, np.int64).reshape(-1, 2),
            steps,
            b_step,
            any(columns % lanes for _, columns, _, _ in self.blocks),
        )


@functools.lru_cache(maxsize=512)
def plan_conv(spatial: tuple[int, ...], channels: int, filters: int, window: Window, groups: int) -> Plan:
    """Forward: a is the padded input image, b the weights (*kernel, channels / groups, filters)."""
    spatial, window = in_3d(spatial, window)
    padded, out = window.padded_shape(spatial), window.output_shape(spatial)
    pixel, out_pixel = _strides(padded, channels), _strides(out, filters)
    c, f = channels // groups, filters // groups
    tables, steps = _Tables(), c
    for g in range(groups):
        segments = [
            (_dot(tap, [d * p for d, p in zip(window.dilation, pixel)]) + g * c, i * c * filters + g * f)
            for i, tap in enumerate(itertools.product(*map(range, window.size)))
        ]
        segments, steps = merge(segments, c, filters)
        a = (0, *(s * p for s, p in zip(window.stride, pixel)))
        tables.add(a, (g * f, *out_pixel), out, segments, f, g * f)
    return tables.plan([p[0] for p in window.padding], padded, channels, steps, filters)


class _Phase(NamedTuple):
    """One axis of a phase: first input pixel, how many, where they read, and its (offset, tap) pairs."""

    first: int
    count: int
    origin: int
    taps: list[tuple[int, int]]


def _phases(
    size: int, out: int, k: int, stride: int, before: int, dilation: int, margin: int
) -> list[_Phase]:
    """Input pixel i meets output o through tap t when i + before = o * stride + t * dilation."""
    phases = []
    for first in range(min(stride, size)):
        r, m = (first + before) % stride, (first + before) // stride
        taps = [
            ((r - t * dilation) // stride, t) for t in reversed(range(k)) if (r - t * dilation) % stride == 0
        ]
        phases.append(_Phase(first, -(-(size - first) // stride), m + margin, taps))
    return phases


@functools.lru_cache(maxsize=512)
def plan_input_grad(
    spatial: tuple[int, ...], channels: int, filters: int, window: Window, groups: int
) -> Plan:
    """Input gradient: a is the padded output gradient, b the weights turned by 180 degrees."""
    spatial, window = in_3d(spatial, window)
    out = window.output_shape(spatial)
    margin = [-(-(e - 1) // s) for e, s in zip(window.extent, window.stride)]
    beyond = [
        max(0, (n - 1 + b) // s - (o - 1))
        for n, (b, _), s, o in zip(spatial, window.padding, window.stride, out)
    ]
    padded = tuple(m + o + r for m, o, r in zip(margin, out, beyond))
    axes = [
        _phases(n, o, k, s, b, d, m)
        for n, o, k, s, (b, _), d, m in zip(
            spatial, out, window.size, window.stride, window.padding, window.dilation, margin
        )
    ]
    return _plan_phases(axes, padded, margin, spatial, channels, filters, window, groups)


def _plan_phases(axes, padded, margin, spatial, channels, filters, window, groups) -> Plan:
    pixel, in_pixel = _strides(padded, filters), _strides(spatial, channels)
    c, f = channels // groups, filters // groups
    # merging is possible only when every phase meets every tap of a row, that is without stride
    can_merge = groups == 1 and all(len(axis) == 1 for axis in axes)
    tables, steps = _Tables(), f
    for phase in itertools.product(*axes):
        for g in range(groups):
            segments = _phase_segments(phase, pixel, window, c * filters, g * f, c)
            if can_merge:
                segments, steps = merge(segments, f, c)
            a = (_dot([p.origin for p in phase], pixel), *pixel)
            target = (_dot([p.first for p in phase], in_pixel) + g * c, *(
                s * p for s, p in zip(window.stride, in_pixel)
            ))  # fmt: skip
            tables.add(a, target, [p.count for p in phase], segments, c, g * c)
    return tables.plan(margin, padded, filters, steps, c)


def _phase_segments(phase, pixel, window: Window, tap_size: int, first: int, c: int) -> list[tuple[int, int]]:
    segments = []
    for taps in itertools.product(*(p.taps for p in phase)):
        flipped = [k - 1 - t for k, (_, t) in zip(window.size, taps)]
        index = (flipped[0] * window.size[1] + flipped[1]) * window.size[2] + flipped[2]
        segments.append((_dot([e for e, _ in taps], pixel) + first, index * tap_size + first * c))
    return segments


class WeightPlan(NamedTuple):
    """Like :class:`Plan`; a job is (a_origin, b_origin, out_origin, rows) and meets every block."""

    before: np.ndarray
    padded: np.ndarray
    jobs: np.ndarray  # (J, 3): origins in a, b and the weights
    blocks: np.ndarray  # (B, 5): first row, then as in BLOCK
    segments: np.ndarray
    steps: int
    a_step: int
    ragged: bool


@functools.lru_cache(maxsize=512)
def plan_weight_grad(
    spatial: tuple[int, ...], channels: int, filters: int, window: Window, groups: int
) -> WeightPlan:
    """Weight gradient: a is the padded input, b the output gradient, rows the channels under a kernel row."""
    spatial, window = in_3d(spatial, window)
    padded, out = window.padded_shape(spatial), window.output_shape(spatial)
    pixel, out_pixel = _strides(padded, channels), _strides(out, filters)
    c, f = channels // groups, filters // groups
    whole_rows = groups == 1 and window.dilation[2] == 1
    rows = window.size[2] * c if whole_rows else c
    taps = itertools.product(*map(range, (*window.size[:2], 1 if whole_rows else window.size[2])))
    spread = [d * p for d, p in zip(window.dilation, pixel)]
    jobs = [
        (_dot(tap, spread) + g * c, g * f, i * rows * filters + g * f)
        for i, tap in enumerate(taps)
        for g in range(groups)
    ]
    segments = [
        (
            d * window.stride[0] * pixel[0] + h * window.stride[1] * pixel[1],
            d * out_pixel[0] + h * out_pixel[1],
        )
        for d in range(out[0])
        for h in range(out[1])
    ]
    blocks = matrix_blocks(rows, f)
    return WeightPlan(
        _in_rows([p[0] for p in window.padding], channels),
        _in_rows(padded, channels),
        np.array(jobs, np.int64).reshape(-1, 3),
        blocks,
        np.array(segments, np.int64).reshape(-1, 2),
        out[2],
        window.stride[2] * channels,
        f % registers()[0] != 0,
    )


def matrix_blocks(rows: int, columns: int) -> np.ndarray:
    """Cut a matrix into tiles without overlap: (first row, column, columns, rows, address) each."""
    blocks, column = [], 0
    while column < columns:
        r, v, lanes = tile_form(rows, columns - column)
        width = min(v * lanes, columns - column)
        for row in range(0, rows, r):
            n = min(r, rows - row)
            blocks.append((row, column, width, n, tile_address(n, v, lanes, width < v * lanes)))
        column += width
    return np.array(blocks, np.int64).reshape(-1, 5)
