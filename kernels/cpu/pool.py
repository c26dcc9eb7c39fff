"""Pooling in float32: rows of pixels over all threads, channels in the inner loop.

An array (N, D, H, W, C) is treated as its rows (N * D * H, W * C); images and sequences have axes of size 1
in front. A plan lists the taps of the window: for each, how far its input row and column lie from stride
times the output's, and at which output columns it falls on the input and not on the padding. The backwards
run over the rows of the *input* and fetch what the outputs send there: no two threads write to one place.

Inner loops index with np.uint64: with signed numbers Numba would test each index for being negative (counted
from the end), and the compiler could use no vector instructions.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from tinynet.kernels import arrays
from tinynet.kernels.blocks import HALVING
from tinynet.kernels.cpu.halving import POOL, UNPOOL, row_address
from tinynet.kernels.cpu.jit import contiguous, inner_kernel, kernel
from tinynet.kernels.cpu.loops import call_loop
from tinynet.kernels.cpu.microkernel import address_of
from tinynet.kernels.cpu.threads import share, tasks_for
from tinynet.kernels.geometry import Window

# Columns of the table of taps: output row r sees, through the tap, input row r * stride + down (and depth
# likewise), and output columns first to last - 1 see input column o * stride + right.
_DEEP, _DOWN, _RIGHT, _FIRST, _LAST = range(5)


class _Plan(NamedTuple):
    out: tuple[int, ...]  # spatial shape of the output
    grid: np.ndarray  # input depth, height, width; output depth, height, width; the three strides
    taps: np.ndarray  # (taps, 5), row by row
    places: np.ndarray  # (out depth * out height, out width): how many taps see input and not padding


@functools.lru_cache(maxsize=256)
def _plan(spatial: tuple[int, ...], window: Window) -> _Plan:
    lead = (1,) * (3 - len(spatial))
    out = window.output_shape(spatial)
    before = (0,) * len(lead) + tuple(first for first, _ in window.padding)
    stride, dilation = lead + window.stride, lead + window.dilation
    taps = []
    for tap in np.ndindex(*lead, *window.size):
        deep, down, right = (k * d - b for k, d, b in zip(tap, dilation, before))
        first = max(0, -(right // stride[2]))  # -(a // b) is -a / b rounded up
        last = min(out[-1], (spatial[-1] - 1 - right) // stride[2] + 1)
        taps.append((deep, down, right, first, last))
    ones = np.ones((1, *spatial, 1))
    places = np.rint(arrays.avg_pool(ones, window, count_padding=True) * len(taps)).clip(1)
    grid = np.array([*lead, *spatial, *lead, *out, *stride])
    return _Plan(out, grid, np.array(taps), places.reshape(-1, out[-1]).astype(np.float32))


def _rows(x: np.ndarray) -> np.ndarray:
    """(N, *spatial, C) as its rows of pixels."""
    return contiguous(x).reshape(-1, x.shape[-2] * x.shape[-1])


def _is_plain(x: np.ndarray) -> bool:
    return x.dtype == np.float32 and x.size > 0 and 3 <= x.ndim <= 5


def _is_halving(window: Window) -> bool:
    """Whether this is the pool of most networks, which has loops of its own."""
    return window == HALVING


def max_pool(x: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Largest value in each window, and the index of its tap."""
    if not _is_plain(x):
        return arrays.max_pool(x, window)
    plan = _plan(x.shape[1:-1], window)
    shape = (len(x), *plan.out, x.shape[-1])
    y, where = np.empty(shape, np.float32), np.empty(shape, np.uint8 if len(plan.taps) <= 256 else np.int32)
    lines = _rows(x), _rows(y), _rows(where)
    tasks = tasks_for(len(lines[1]), x.size)
    if _is_halving(window):
        sizes = x.shape[1], y.shape[1], x.shape[-1]
        _max_pool_halving(*lines, *sizes, row_address(POOL, x.shape[-1]), tasks)
    else:
        _max_pool(*lines, plan.taps, plan.grid, tasks)
    return y, where


def max_pool_backward(
    grad_y: np.ndarray, where: np.ndarray, x_shape: tuple[int, ...], window: Window
) -> np.ndarray:
    """Give each gradient back to the place that won."""
    if not _is_plain(grad_y):
        return arrays.max_pool_backward(grad_y, where, x_shape, window)
    grad_x = np.empty(x_shape, np.float32)
    lines = _rows(grad_y), _rows(where), _rows(grad_x)
    tasks = tasks_for(len(lines[2]), grad_x.size)
    if _is_halving(window):
        sizes = x_shape[1], grad_y.shape[1], x_shape[-1]
        _max_pool_halving_backward(*lines, *sizes, row_address(UNPOOL, x_shape[-1]), tasks)
    else:
        plan = _plan(tuple(x_shape[1:-1]), window)
        _max_pool_backward(*lines, plan.taps, plan.grid, tasks)
    return grad_x


def avg_pool(x: np.ndarray, window: Window, count_padding: bool) -> np.ndarray:
    """Mean over each window."""
    if not _is_plain(x):
        return arrays.avg_pool(x, window, count_padding)
    plan = _plan(x.shape[1:-1], window)
    y = np.empty((len(x), *plan.out, x.shape[-1]), np.float32)
    lines, divisor = (_rows(x), _rows(y)), _divisor(plan, count_padding)
    _avg_pool(*lines, divisor, plan.taps, plan.grid, tasks_for(len(lines[1]), x.size))
    return y


def avg_pool_backward(
    grad_y: np.ndarray, x_shape: tuple[int, ...], window: Window, count_padding: bool
) -> np.ndarray:
    """Share each gradient equally among the places of its window."""
    if not _is_plain(grad_y):
        return arrays.avg_pool_backward(grad_y, x_shape, window, count_padding)
    plan = _plan(tuple(x_shape[1:-1]), window)
    divisor = _divisor(plan, count_padding)  # (out depth * out height, out width)
    each = grad_y.reshape(len(grad_y), *divisor.shape, -1) / divisor[..., None]
    grad_x = np.empty(x_shape, np.float32)
    lines = _rows(each), _rows(grad_x)
    _avg_pool_backward(*lines, plan.taps, plan.grid, tasks_for(len(lines[1]), grad_x.size))
    return grad_x


def _divisor(plan: _Plan, count_padding: bool) -> np.ndarray:
    return np.full_like(plan.places, len(plan.taps)) if count_padding else plan.places


# --- any window ---


@inner_kernel
def _input_row(row, tap, grid):
    """The input row that an output row sees through a tap; -1 for padding."""
    depth, height, out_depth, out_height = grid[0], grid[1], grid[3], grid[4]
    d = row // out_height % out_depth * grid[6] + tap[_DEEP]
    h = row % out_height * grid[7] + tap[_DOWN]
    inside = 0 <= d < depth and 0 <= h < height
    return (row // (out_height * out_depth) * depth + d) * height + h if inside else -1


@inner_kernel
def _output_row(row, tap, grid):
    """The output row that sees an input row through a tap; -1 if there is none."""
    depth, height, out_depth, out_height = grid[0], grid[1], grid[3], grid[4]
    d, h = row // height % depth - tap[_DEEP], row % height - tap[_DOWN]
    inside = 0 <= d < out_depth * grid[6] and 0 <= h < out_height * grid[7]
    if not inside or d % grid[6] or h % grid[7]:
        return -1
    return (row // (height * depth) * out_depth + d // grid[6]) * out_height + h // grid[7]


@inner_kernel
def _spans(tap, channels, stride):
    """How a tap walks along a row: (runs, numbers per run, output start, input start, input step).

    With stride 1 the pixels of both rows lie side by side and make one long run.
    """
    pixels, start = max(tap[_LAST] - tap[_FIRST], 0), tap[_FIRST] * channels
    source = start * stride + tap[_RIGHT] * channels
    if stride == 1:
        return 1, pixels * channels, start, source, 0
    return pixels, channels, start, source, stride * channels


@kernel
def _max_pool(x, y, where, taps, grid, tasks):
    share(tasks, _max_pool_rows, (x, y, where, taps, grid, tasks))


@inner_kernel
def _max_pool_rows(task, x, y, where, taps, grid, tasks):
    """Taps from last to first, each taking over from equals, so that of equal values the first stays."""
    channels = x.shape[1] // grid[2]
    for row in range(task * len(y) // tasks, (task + 1) * len(y) // tasks):
        y[row] = -np.inf
        where[row] = 0
        for t in range(len(taps) - 1, -1, -1):
            source = _input_row(row, taps[t], grid)
            if source >= 0:
                _take_larger(x[source], y[row], where[row], t, _spans(taps[t], channels, grid[8]))


@inner_kernel
def _take_larger(x, y, where, t, spans):
    runs, count, to, of, step = spans
    for i in range(runs):
        for c in range(count):
            o = np.uint64(to + i * count + c)
            value, best, at = x[np.uint64(of + i * step + c)], y[o], where[o]
            wins = (value >= best) | (value != value)
            y[o] = value if wins else best
            where[o] = t if wins else at


@kernel
def _max_pool_backward(grad_y, where, grad_x, taps, grid, tasks):
    share(tasks, _max_pool_backward_rows, (grad_y, where, grad_x, taps, grid, tasks))


@inner_kernel
def _max_pool_backward_rows(task, grad_y, where, grad_x, taps, grid, tasks):
    channels = grad_x.shape[1] // grid[2]
    for row in range(task * len(grad_x) // tasks, (task + 1) * len(grad_x) // tasks):
        grad_x[row] = 0
        for t in range(len(taps)):
            source = _output_row(row, taps[t], grid)
            if source >= 0:
                _add_where(grad_y[source], where[source], t, grad_x[row], _spans(taps[t], channels, grid[8]))


@inner_kernel
def _add_where(grad_y, where, t, grad_x, spans):
    runs, count, of, to, step = spans
    for i in range(runs):
        for c in range(count):
            o = np.uint64(of + i * count + c)
            g, at = grad_y[o], where[o]
            grad_x[np.uint64(to + i * step + c)] += g if at == t else np.float32(0)


@kernel
def _avg_pool(x, y, divisor, taps, grid, tasks):
    share(tasks, _avg_pool_rows, (x, y, divisor, taps, grid, tasks))


@inner_kernel
def _avg_pool_rows(task, x, y, divisor, taps, grid, tasks):
    channels = x.shape[1] // grid[2]
    for row in range(task * len(y) // tasks, (task + 1) * len(y) // tasks):
        y[row] = 0
        for t in range(len(taps)):
            source = _input_row(row, taps[t], grid)
            if source >= 0:
                _add_from(x[source], y[row], _spans(taps[t], channels, grid[8]))
        _divide_pixels(y[row], divisor[row % len(divisor)], channels)


@inner_kernel
def _add_from(x, y, spans):
    runs, count, to, of, step = spans
    for i in range(runs):
        for c in range(count):
            y[np.uint64(to + i * count + c)] += x[np.uint64(of + i * step + c)]


@inner_kernel
def _divide_pixels(y, divisor, channels):
    for w in range(len(divisor)):
        for c in range(channels):
            y[np.uint64(w * channels + c)] /= divisor[w]


@kernel
def _avg_pool_backward(each, grad_x, taps, grid, tasks):
    share(tasks, _avg_pool_backward_rows, (each, grad_x, taps, grid, tasks))


@inner_kernel
def _avg_pool_backward_rows(task, each, grad_x, taps, grid, tasks):
    channels = grad_x.shape[1] // grid[2]
    for row in range(task * len(grad_x) // tasks, (task + 1) * len(grad_x) // tasks):
        grad_x[row] = 0
        for t in range(len(taps)):
            source = _output_row(row, taps[t], grid)
            if source >= 0:
                _add_to(grad_x[row], each[source], _spans(taps[t], channels, grid[8]))


@inner_kernel
def _add_to(grad_x, each, spans):
    runs, count, of, to, step = spans
    for i in range(runs):
        for c in range(count):
            grad_x[np.uint64(to + i * step + c)] += each[np.uint64(of + i * count + c)]


# --- 2 x 2 windows side by side: each input pixel belongs to one window, or to none at an odd edge ---


@kernel
def _max_pool_halving(x, y, where, height, out_height, channels, loop, tasks):
    share(tasks, _halve_rows, (x, y, where, height, out_height, channels, loop, tasks))


@inner_kernel
def _halve_rows(task, x, y, where, height, out_height, channels, loop, tasks):
    for row in range(task * len(y) // tasks, (task + 1) * len(y) // tasks):
        source = row // out_height * height + 2 * (row % out_height)
        _halve(x[source], x[source + 1], y[row], where[row], channels, loop)


@inner_kernel
def _halve(above, below, values, places, channels, loop):
    """One row of windows, by the loop of halving.py."""
    call_loop(
        loop,
        (address_of(above), address_of(below), address_of(values), address_of(places),
         len(values) // channels, channels, 0),
    )  # fmt: skip


@kernel
def _max_pool_halving_backward(grad_y, where, grad_x, height, out_height, channels, loop, tasks):
    share(tasks, _halve_backward_rows, (grad_y, where, grad_x, height, out_height, channels, loop, tasks))


@inner_kernel
def _halve_backward_rows(task, grad_y, where, grad_x, height, out_height, channels, loop, tasks):
    for row in range(task * len(grad_x) // tasks, (task + 1) * len(grad_x) // tasks):
        image, h = row // height, row % height
        if h >= 2 * out_height:
            grad_x[row] = 0
        elif h % 2 == 0:
            source = image * out_height + h // 2
            _halve(grad_x[row], grad_x[row + 1], grad_y[source], where[source], channels, loop)
            grad_x[row : row + 2, 2 * grad_y.shape[1] :] = 0
