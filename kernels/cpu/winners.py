"""The way back through a pool, a ReLU and a convolution of few channels, from the winners of the pool alone.

Of the 2 x 2 results in a window only the largest went on, so three of four output gradients are zero, and
with them three of four products of both gradients. The loops of winner_loops.py make the others only. As in
conv.py, a thread goes down an image in bands:

    gradients, zero where the ReLU let nothing through -> scratch; input rows -> padded scratch
    winners -> weight gradients; winners -> padded input gradient -> rows that no later band adds to

Weight gradients are summed per share and added up in a fixed order.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from tinynet.kernels.blocks import CLOSED
from tinynet.kernels.cpu.bands import add_row, add_up, fill_always, fold, needed
from tinynet.kernels.cpu.jit import contiguous, inner_kernel, kernel
from tinynet.kernels.cpu.loops import call_loop
from tinynet.kernels.cpu.microkernel import address_of
from tinynet.kernels.cpu.threads import share
from tinynet.kernels.cpu.winner_loops import INPUT, WEIGHT, vector_of, winners_address
from tinynet.kernels.cpu.winograd_plan import fits, side_for
from tinynet.kernels.geometry import Window

f4 = np.float32
_CORNERS = (0, 0), (0, 1), (1, 0), (1, 1)  # of a window, by their places
_ROWS = 24 << 10  # bytes of the padded rows of a band: they are to stay in the nearest cache


class Sizes(NamedTuple):
    """What the kernels need to know of one shape."""

    rows: int  # of windows in an image
    windows: int  # in a row
    filters: int
    per_band: int  # rows of windows in a band
    lanes: int  # channels in a vector
    weight_loop: int  # addresses
    input_loop: int


class Plan(NamedTuple):
    """Sizes of one shape, and where things stand."""

    sizes: Sizes
    head: np.ndarray  # place of the input in its padded copy, as in plan_table.HEAD, where rows are windows
    steps: np.ndarray  # (2, 5) bytes from where a window begins to its winner, for WEIGHT and for INPUT


def fits_winners(spatial: tuple[int, ...], channels: int, filters: int, window: Window, groups: int) -> bool:
    """Whether the way back is this one: for images without stride, in whole vectors of channels, as long as
    it is quicker than what is done otherwise."""
    plain = len(spatial) == 2 and window.stride == window.dilation == (1, 1) and groups == 1
    if not plain or channels % 4:
        return False
    (height, width), most = window.size, 1 << 20  # bytes of all frames: the second cache
    if fits(spatial, channels, filters, window, groups):
        most = 0 if side_for(spatial, window) == 4 else 64 << 10  # Winograd saves as much, or half of it
    return 4 * (height + 2) * (width + 2) * channels * filters <= most


@functools.lru_cache(maxsize=512)
def plan_winners(spatial: tuple[int, ...], channels: int, filters: int, window: Window) -> Plan:
    """The plan for images of that shape."""
    (height, width), (taps, taps_across) = window.padded_shape(spatial), window.size
    (top, _), (left, _) = window.padding
    rows, windows = (n // 2 for n in window.output_shape(spatial))
    row, pixel, lanes = 4 * width * channels, 4 * channels, vector_of(channels)
    bands = -(-rows // max(1, (_ROWS // row - taps + 1) // 2))
    loops = [winners_address(kind, channels, *window.size) for kind in (WEIGHT, INPUT)]
    head = [0, top, left * channels, 1, height, width * channels, 0, 0, bands, 2, taps - 1, 0, 0, 0, channels]
    steps = [(i * row + j * pixel, 4 * lanes * ((1 - i) * (taps_across + 2) + 1 - j)) for i, j in _CORNERS]
    steps.append((0, 0))  # a closed window's gradient is zero: any pixel will do
    sizes = Sizes(rows, windows, filters, -(-rows // bands), lanes, *loops)
    return Plan(sizes, np.array(head), np.array(steps).T.copy())


def convolve_back(
    grad_y: np.ndarray, _y: np.ndarray, where: np.ndarray, _loop: int, x: np.ndarray, weight: np.ndarray,
    grad_x: np.ndarray, sums: np.ndarray, wants_weight: bool, plan: Plan,
) -> np.ndarray:  # fmt: skip
    """Fill grad_x, add bias gradients to ``sums`` (shares, O), return the weight gradient."""
    grad_weight = np.empty(weight.shape if wants_weight else (0, 0, 0, 0), f4)
    _convolve_back(grad_y, where, x, contiguous(weight), grad_x, grad_weight, sums, *plan)
    return grad_weight


@kernel
def _convolve_back(grad_y, where, x, weight, grad_x, grad_weight, sums, sizes, head, steps):
    partial = np.zeros((len(sums), grad_weight.size), f4)
    frames = framed(weight, sizes.lanes)
    share(len(sums), convolve_winners, (grad_y, where, x, frames, grad_x, partial, sums, sizes, head, steps))
    add_up(partial, partial[0])
    turn_back(partial[0], grad_weight)


@inner_kernel
def framed(weight, lanes):
    """The weights (height, width, C, O) of each filter and vector of channels in a frame of zeros."""
    height, width, channels, filters = weight.shape
    frames = np.zeros((channels // lanes, filters, height + 2, width + 2, lanes), f4)
    for i in range(height):
        for j in range(width):
            for c in range(channels):
                for o in range(filters):
                    frames[c // lanes, o, i + 1, j + 1, c % lanes] = weight[i, j, c, o]
    return frames


@inner_kernel
def turn_back(total, grad_weight):
    """The flat sums (O, height, width, C) as a weight gradient (height, width, C, O)."""
    height, width, channels, filters = grad_weight.shape
    for i in range(height):
        for j in range(width):
            for c in range(channels):
                for o in range(filters):
                    grad_weight[i, j, c, o] = total[((o * height + i) * width + j) * channels + c]


@inner_kernel
def convolve_winners(t, grad_y, where, x, frames, grad_x, partial, sums, sizes, head, steps):
    """The images of share t: its sums go to partial[t] and sums[t]."""
    across = sizes.windows * sizes.filters
    padded, led_back = np.zeros(head[4] * head[5], f4), np.zeros(head[4] * head[5], f4)
    opened, row_sum = np.empty(sizes.per_band * across, f4), np.zeros(sizes.windows * sums.shape[1], f4)
    for image in range(t * len(x) // len(sums), (t + 1) * len(x) // len(sums)):
        filled = 0
        for low in range(0, sizes.rows, sizes.per_band):
            high = min(low + sizes.per_band, sizes.rows)
            open_grad(opened, grad_y[image, 0], where[image, 0], low, high, row_sum)
            given = address_of(opened), address_of(where[image, 0, low])
            counts = 4 * head[5], high - low, sizes.windows, sizes.filters
            first = 8 * low * head[5]  # bytes of the padded rows above
            if partial.shape[1]:
                filled = fill_always(padded, x[image], head, filled, needed(head, high))
                to = address_of(steps[0]), address_of(partial[t])
                call_loop(sizes.weight_loop, (address_of(padded) + first, *given, *to, *counts))
            if len(grad_x):
                by = address_of(steps[1]), address_of(frames)
                call_loop(sizes.input_loop, (address_of(led_back) + first, *given, *by, *counts))
                last = head[4] if high == sizes.rows else 2 * high
                move(led_back, grad_x[image, 0], head, 2 * low, last)
        fold(row_sum, sums[t])


@inner_kernel
def open_grad(opened, grad_y, where, low, high, row_sum):
    """The gradients of rows low to high of windows, zero where the ReLU was closed, and their sums."""
    across = grad_y.shape[1]
    for h in range(low, high):
        row, places, to = grad_y[h], where[h], opened[(h - low) * across : (h - low + 1) * across]
        for i in range(across):
            g = row[i]
            to[i] = g if places[i] < CLOSED else f4(0)
        add_row(row_sum, address_of(to), 0)


@inner_kernel
def move(padded, image, head, low, high):
    """The padded rows low to high to where they belong in an image (H, W * C); zeros stay behind."""
    height, numbers = image.shape
    for r in range(low, high):
        row, h = padded[r * head[5] : (r + 1) * head[5]], r - head[1]
        if 0 <= h < height:
            target, inside = image[h], row[head[2] : head[2] + numbers]
            for i in range(numbers):
                target[i] = inside[i]
        for i in range(len(row)):
            row[i] = 0
