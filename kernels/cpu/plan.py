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
import math
from typing import NamedTuple

import numpy as np

from tinynet.kernels.cpu.few import LARGEST, PLACES, PLAIN, few_blocks, fits_few
from tinynet.kernels.cpu.few_sums import few_sums_blocks, fits_few_sums
from tinynet.kernels.cpu.microkernel import most_rows, registers
from tinynet.kernels.cpu.phases import dot, padded_grad, phase_segments, phases_of
from tinynet.kernels.cpu.square_sums import sums_address
from tinynet.kernels.cpu.squares import fits_squares, square_blocks
from tinynet.kernels.cpu.tiling import column_blocks, matrix_blocks, paired_block, paired_columns
from tinynet.kernels.cpu.winners import INPUT, WEIGHT, winners_address
from tinynet.kernels.geometry import Window

NEAREST = 24 << 10  # bytes of a band of rows: they are to stay in the nearest cache
ENOUGH = 128  # pixels that make it worth a tile's while to fetch sums and to put them back


class Plan(NamedTuple):
    """A head, jobs, blocks and segments in one row of integers, which is one argument of a kernel (see
    plan_table.py)."""

    table: np.ndarray
    ragged: bool  # some tile reads beyond the last column of b
    squares: bool  # the tiles are those of squares.py
    by_windows: bool  # of 2 x 2 pixels there is one result, or one gradient


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


class _Source(NamedTuple):
    """Where a source (D, H, W, channels) starts in its padded copy, and how large that is."""

    before: tuple[int, int, int]
    padded: tuple[int, int, int]
    channels: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one padded row."""
        return 4 * self.padded[2] * self.channels


class _Need(NamedTuple):
    """Output rows below r need the padded rows below r * step + lead."""

    step: int
    lead: int


class _Tables:
    """Collects jobs, blocks and segments, which plan_table.py describes."""

    def __init__(self, squares: bool = False, paired: bool = False, pooled: bool = False):
        self.jobs: list[tuple[int, ...]] = []
        self.blocks: list[tuple[int, ...]] = []
        self.segments: list[tuple[int, int]] = []
        self.squares, self.paired, self.pooled, self.tiles = squares, paired, pooled, 0
        self.few: tuple[int, int] | None = None  # numbers under the window, and kind, if it is that tile

    def add(self, a, out, counts, segments, columns, start_origin):
        """One job: ``a`` and ``out`` are (origin, three strides), ``counts`` the pixels along each axis."""
        if min(counts) < 1:
            return
        if self.squares:
            blocks = square_blocks(counts[2], a[-1], columns, self.pooled)
        elif self.few:
            numbers, kind = self.few
            parts = len(segments), numbers // len(segments)
            blocks = few_blocks(counts[1:], a[-1], columns, parts, kind)
        elif self.paired:
            blocks = [paired_block(counts[2], columns, self.pooled)]
        else:
            blocks = column_blocks(counts[2], columns, self.pooled)
        first_segment, first_block = len(self.segments), len(self.blocks)
        self.segments += segments
        self.blocks += blocks
        depth, height, width = counts
        self.tiles += sum(depth * height // (1 + more) * -(-width // n) for *_, n, _, more in blocks)
        where = first_segment, len(segments), first_block, len(blocks)
        self.jobs.append((*a, *out, *counts, *where, start_origin))

    def plan(self, source: _Source, steps: int, step: int, bands: int, need: _Need) -> Plan:
        lanes, c = registers()[0], source.channels
        (d, h, w), (depth, height, width) = source.before, source.padded
        sizes = len(self.jobs), len(self.blocks), len(self.segments)
        head = (
            d, h, w * c, depth, height, width * c, steps, step, bands, *need, *sizes, c, 1 + self.pooled,
            self.tiles,
        )  # fmt: skip
        parts = [
            np.array(part, np.int64).reshape(-1) for part in (head, self.jobs, self.blocks, self.segments)
        ]
        ragged = any(columns % lanes for _, columns, *_ in self.blocks)
        return Plan(np.concatenate(parts), ragged, self.squares, self.pooled)


class _Groups(NamedTuple):
    """How many groups there are, channels and filters of each, and the channels and filters that meet in one.
    Where a filter sees one channel alone, a group is some vectors of them, for tiles that do not mix them."""

    count: int
    channels: int
    filters: int
    depth: int
    height: int

    @property
    def paired(self) -> bool:
        return self.channels > self.depth


def _groups(channels: int, filters: int, groups: int, most: int = 4) -> _Groups:
    """The groups; those of paired tiles of at most so many vectors."""
    columns = paired_columns(channels, most)
    if groups == channels == filters and columns:
        return _Groups(channels // columns, columns, columns, 1, 1)
    c, f = channels // groups, filters // groups
    return _Groups(groups, c, f, c, f)


def _bands(rows: int, *sources: tuple[_Source, _Need], least: int = 2) -> int:
    """Into how many bands the output rows are cut, so that what a band reads stays in the nearest cache, as
    long as it has this many rows."""
    fixed = sum(source.row_bytes * need.lead for source, need in sources)
    each = sum(source.row_bytes * max(need.step, 1) for source, need in sources)
    return max(1, rows // max(least, (NEAREST - fixed) // each))


@functools.lru_cache(maxsize=512)
def plan_conv(
    spatial: tuple[int, ...], channels: int, filters: int, window: Window, groups: int,
    pooled: bool = False, places: bool = True,
) -> Plan:  # fmt: skip
    """Forward: a is the padded input image, b the weights (*kernel, channels / groups, filters).

    ``pooled``: of 2 x 2 pixels of an image only the largest value is written; odd ones at the edge are not
    made. Its place is written as well, but by some tiles only if ``places``.
    """
    spatial, window = in_3d(spatial, window)
    padded, out = window.padded_shape(spatial), window.output_shape(spatial)
    written = (out[0], out[1] // 2, out[2] // 2) if pooled else out
    pixel, out_pixel = _strides(padded, channels), _strides(written, filters)
    n, c, f, depth, _ = every = _groups(channels, filters, groups)
    tables = _Tables(fits_squares(out, channels, filters, window, groups), every.paired, pooled)
    if fits_few(channels, filters, window, groups):
        kind = PLAIN if not pooled else PLACES if places else LARGEST
        tables.few = math.prod(window.size) * channels, kind
    if pooled:
        out = written[0], 2 * written[1], 2 * written[2]
    spread, steps = [d * p for d, p in zip(window.dilation, pixel)], depth
    for g in range(n):
        segments = [
            (dot(tap, spread) + g * c, i * depth * filters + g * f)
            for i, tap in enumerate(itertools.product(*map(range, window.size)))
        ]
        segments, steps = merge(segments, depth, filters)
        a = (0, *(s * p for s, p in zip(window.stride, pixel)))
        tables.add(a, (g * f, *out_pixel), out, segments, f, g * f)
    source, need = _input(spatial, window, channels)
    return tables.plan(source, steps, filters, _bands(out[1], (source, need)) if need.step else 1, need)


def _input(spatial, window: Window, channels: int) -> tuple[_Source, _Need]:
    """The padded input of a convolution in 3-D, and which of its rows the output rows need."""
    padded = window.padded_shape(spatial)
    source = _Source(tuple(p[0] for p in window.padding), padded, channels)
    if padded[0] > 1:  # a volume is there as a whole
        return source, _Need(0, padded[1])
    return source, _Need(window.stride[1], window.extent[1] - window.stride[1])


@functools.lru_cache(maxsize=512)
def plan_input_grad(
    spatial: tuple[int, ...], channels: int, filters: int, window: Window, groups: int
) -> Plan:
    """Input gradient: a is the padded output gradient, b the weights turned by 180 degrees."""
    spatial, window = in_3d(spatial, window)
    margin, padded = padded_grad(spatial, window)
    axes = [
        phases_of(n, k, s, b, d, m)
        for n, k, s, (b, _), d, m in zip(
            spatial, window.size, window.stride, window.padding, window.dilation, margin
        )
    ]
    pixel, in_pixel = _strides(padded, filters), _strides(spatial, channels)
    n, c, f, depth, steps = every = _groups(channels, filters, groups)
    # merging is possible only when every phase meets every tap of a row, that is without stride
    can_merge = groups == 1 and all(len(axis) == 1 for axis in axes)
    tables = _Tables(fits_squares(spatial, filters, channels, window, groups), every.paired)
    for phase in itertools.product(*axes):
        for g in range(n):
            segments = phase_segments(phase, pixel, window, depth * filters, g * f, depth)
            if can_merge:
                segments, steps = merge(segments, f, c)
            a = (dot([p.origin for p in phase], pixel), *pixel)
            target = (dot([p.first for p in phase], in_pixel) + g * c, *(
                s * p for s, p in zip(window.stride, in_pixel)
            ))  # fmt: skip
            tables.add(a, target, [p.count for p in phase], segments, c, g * c)
    source = _Source(margin, padded, filters)
    if padded[0] > 1 or max(window.stride) > 1:  # phases cross all rows
        return tables.plan(source, steps, c, 1, _Need(0, padded[1]))
    need = _Need(1, margin[1] + window.padding[1][0])
    return tables.plan(source, steps, c, _bands(spatial[1], (source, need)), need)


@functools.lru_cache(maxsize=512)
def plan_no_input_grad(
    spatial: tuple[int, ...], filters: int, window: Window, channels: int | None = None
) -> Plan:
    """No jobs; only the place of the output gradient, without a margin. With ``channels`` the input gradient
    comes from the winners of a pool: the only block is the loop of winners.py for that."""
    spatial, window = in_3d(spatial, window)
    out = window.output_shape(spatial)
    need = _Need(1, 0) if out[0] == 1 else _Need(0, out[1])
    tables = _Tables(pooled=channels is not None)
    if channels is not None:
        tables.blocks = [(0, 0, 0, winners_address(INPUT, channels, *window.size[1:]), 0)]
    return tables.plan(_Source((0, 0, 0), out, filters), filters, 1, 1, need)


@functools.lru_cache(maxsize=512)
def plan_weight_grad(
    spatial: tuple[int, ...], channels: int, filters: int, window: Window, groups: int, with_margin: bool,
    pooled: bool = False, winners: bool = False,
) -> Plan:  # fmt: skip
    """Weight gradient: a is the padded input, b the output gradient, rows the channels under a kernel row.

    A job is (origin in a, origin in b, origin in the weights, distance of the runs in a, that of the rows in
    a); each meets every block. Segments are the rows of output pixels, which lie in ``padded_grad`` if
    ``with_margin``. The tile of square_sums.py makes all in one job, and that of few_sums.py, which sees the
    gradient behind a pool if there was one: ``pooled``. So does, with ``winners``, the loop of winners.py,
    whose segments are pairs.
    """
    spatial, window = in_3d(spatial, window)
    if pooled and fits_few_sums(channels, filters, window, groups):
        return _plan_few_sums(spatial, channels, filters, window, with_margin and max(window.stride) > 1)
    source, need = _input(spatial, window, channels)
    out = window.output_shape(spatial)
    margin, padded_out = padded_grad(spatial, window) if with_margin else ((0, 0, 0), out)
    grad = _Source(margin, padded_out, filters)
    pixel, grad_pixel = _strides(source.padded, channels), _strides(padded_out, filters)
    squares = not winners and fits_squares(out, channels, filters, window, groups)
    n, c, f, *_ = every = _groups(channels, filters, groups, most=1)
    tables = _Tables(squares)
    kernel_axes, rows, run = _weight_rows(window, channels, groups, every.paired)
    spread = [d * p for d, p in zip(window.dilation, pixel)]
    a_row = spread[2] if every.paired else 1
    tables.jobs = [
        (dot(tap, spread) + g * c, g * f, i * rows * filters + g * f, spread[1], a_row, *(0,) * 11)
        for i, tap in enumerate(itertools.product(*map(range, kernel_axes)))
        for g in range(n)
    ]
    tables.segments = [
        (dot((d * window.stride[0], h * window.stride[1]), pixel),
         dot((d + margin[0], h + margin[1], margin[2]), grad_pixel))
        for d in range(out[0])
        for h in range(out[1] - out[1] % 2 if winners else out[1])
    ]  # fmt: skip
    if squares or winners:
        address = sums_address(c, f) if squares else winners_address(WEIGHT, c, *window.size[1:])
        tables.jobs, tables.blocks = [(0,) * 16], [(0, f, rows, address, 0)]
    else:
        tables.blocks = matrix_blocks(rows, f, run, every.paired)
    can_band = need.step and not (with_margin and max(window.stride) > 1)
    needs = (source, need), (grad, _Need(1, 2 * margin[1]))
    bands = _bands(out[1], *needs, least=max(2, ENOUGH // out[2])) if can_band else 1
    return tables.plan(source, out[2], window.stride[2] * channels, bands, need)


def _plan_few_sums(spatial, channels: int, filters: int, window: Window, is_whole: bool) -> Plan:
    """Weight gradient from a pooled gradient: segments are the rows of windows. ``is_whole``: in one band."""
    source, need = _input(spatial, window, channels)
    _, height, width = (n // 2 for n in window.output_shape(spatial))
    row, tables = source.padded[2] * channels, _Tables(pooled=True)
    down, along = window.stride[1] * row, window.dilation[1] * row
    tables.jobs = [(0, 0, 0, along, down, *(0,) * 11)]
    tables.segments = [(2 * h * down, h * width * filters) for h in range(height)]
    tables.blocks = few_sums_blocks(channels, filters, window)
    need = _Need(2 * need.step, need.lead)
    bands = 1 if is_whole else _bands(height, (source, need))
    return tables.plan(source, width, 2 * window.stride[2] * channels, bands, need)


def _weight_rows(
    window: Window, channels: int, groups: int, paired: bool
) -> tuple[tuple[int, ...], int, int]:
    """Over which kernel axes the jobs run, how many rows of the weights one makes, and how long a run is.

    A job makes all rows under one kernel row, which are neighbours in a. With few channels these are too few
    to keep the multipliers busy, and one job takes the kernel rows together, in runs. Paired tiles have the
    channels in their columns, and the taps alone in their rows.
    """
    depth, height, width = window.size
    per_row, room = width if paired else width * channels, most_rows(1)
    if not paired and (groups > 1 or window.dilation[2] > 1):
        return window.size, channels // groups, channels // groups
    if (paired or per_row < 8) and height * per_row <= room:
        return (depth, 1, 1), height * per_row, per_row
    return (depth, height, 1), per_row, per_row
