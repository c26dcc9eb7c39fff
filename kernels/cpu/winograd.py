"""Convolution by 3 x 3 with 16 multiplications in place of 36 (Winograd 1980; Lavin and Gray 2016).

Two neighbouring outputs of a filter w of three taps need six products,

    y0 = x0 w0 + x1 w1 + x2 w2        y1 = x1 w0 + x2 w1 + x3 w2

but four are enough: with m = (G w) * (B^T x), element by element, y = A^T m. In two dimensions a tile of
2 x 2 outputs comes from 4 x 4 inputs by Y = A^T [(G W G^T) * (B^T X B)] A. With C channels and O filters the
products are 16 matrix products, one for each place (i, j) of the 4 x 4 square, over all tiles of a block:

    V[ij] = B^T X B    (tiles, C)       "input map", a few additions
    M[ij] = V[ij] @ U[ij]               register tiles (microkernel.py); U = G W G^T, made once per call
    Y = A^T M A        (tiles, O)       "output map", with bias and ReLU

All of this is linear in x and in w, so the way back is the same chain transposed, each map by its adjoint:

    dM = A dY A^T,   dU[ij] += V[ij]^T @ dM[ij],   dV[ij] = dM[ij] @ U[ij]^T,   dX = B dV B^T (tiles overlap
    and are added),   dW = G^T dU G at the end.

A block of some 64 tiles keeps V, M and U in the second cache. Rounding errors are two to three times those of
the direct sum; a NaN or an infinity spreads over the tiles that it touches.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from tinynet.kernels.cpu.bands import add_row, fill, fill_grad, fold, is_padded, new_scratch
from tinynet.kernels.cpu.halving import call_row
from tinynet.kernels.cpu.jit import inner_kernel, kernel
from tinynet.kernels.cpu.microkernel import address_of, call_tile, registers
from tinynet.kernels.cpu.threads import share, shares_for
from tinynet.kernels.cpu.tiling import matrix_blocks
from tinynet.kernels.cpu.transform import (
    ADD,
    FINISH,
    INPUT,
    INPUT_BACK,
    OUTPUT,
    OUTPUT_BACK,
    STORE,
    call_map,
    map_address,
)
from tinynet.kernels.geometry import Window

f4 = np.float32
_TILES = 64  # in a block, about: enough rows for the products, few enough for the cache
_WORTH = 512  # channels times filters; 16 x 16 is as fast by direct sums
_ORIGIN = np.zeros((1, 2), np.int64)  # the one segment of a plain product


class Plan(NamedTuple):
    """Sizes and addresses of one shape, and the register tiles of its three products."""

    numbers: np.ndarray  # rows and columns of tiles, C, O, rows of tiles in a block; addresses of the maps
    head: np.ndarray  # place of the input in its padded copy, as in plan.HEAD
    grad_head: np.ndarray  # the same for the output gradient, which has no margin
    forward: np.ndarray  # blocks of V @ U, as in tiling.BLOCK
    weights: np.ndarray  # of V^T @ dM
    back: np.ndarray  # of dM @ U^T


def fits(spatial: tuple[int, ...], channels: int, filters: int, window: Window, groups: int) -> bool:
    """Whether a convolution is done this way: 3 x 3 without stride, even outputs, full vectors, and enough
    channels that the maps cost less than the multiplications they save."""
    lanes = registers()[0]
    return (
        (window.size, window.stride, window.dilation, groups) == ((3, 3), (1, 1), (1, 1), 1)
        and channels % lanes == filters % lanes == 0
        and channels * filters >= _WORTH
        and all(n > 0 and n % 2 == 0 for n in window.output_shape(spatial))
    )


@functools.lru_cache(maxsize=512)
def plan_tiles(spatial: tuple[int, ...], channels: int, filters: int, window: Window) -> Plan:
    """The plan for images of that shape."""
    rows, columns = (n // 2 for n in window.output_shape(spatial))
    height, width = window.padded_shape(spatial)
    (top, _), (left, _) = window.padding
    per_block = max(1, _TILES // columns)
    maps = (INPUT, STORE), (OUTPUT, FINISH), (OUTPUT_BACK, STORE), (INPUT_BACK, ADD)
    numbers = [rows, columns, channels, filters, per_block, *(map_address(*m) for m in maps)]
    tiles = per_block * columns
    return Plan(
        np.array(numbers),
        _head((top, left * channels), (height, width * channels), channels),
        _head((0, 0), (2 * rows, 2 * columns * filters), filters),
        _blocks(tiles, filters),
        _blocks(channels, filters),
        _blocks(tiles, channels),
    )


def _head(before: tuple[int, int], padded: tuple[int, int], channels: int) -> np.ndarray:
    return np.array([0, *before, 1, *padded, *(0,) * 8, channels])


def _blocks(rows: int, columns: int) -> np.ndarray:
    return np.array(matrix_blocks(rows, columns, rows), np.int64)


def transformed(weight: np.ndarray) -> np.ndarray:
    """U = G W G^T: (3, 3, C, O) to (16, C, O)."""
    for axis in (0, 1):
        w0, w1, w2 = np.moveaxis(weight, axis, 0)
        ends, middle = f4(0.5) * (w0 + w2), f4(0.5) * w1
        weight = np.stack([w0, ends + middle, ends - middle, w2], axis)
    return weight.reshape(16, *weight.shape[2:])


def transformed_back(grad: np.ndarray) -> np.ndarray:
    """dW = G^T dU G: (16, C, O) to (3, 3, C, O)."""
    grad = grad.reshape(4, 4, *grad.shape[1:])
    for axis in (0, 1):
        u0, u1, u2, u3 = np.moveaxis(grad, axis, 0)
        ends, middle = f4(0.5) * (u1 + u2), f4(0.5) * (u1 - u2)
        grad = np.stack([u0 + ends, middle, ends + u3], axis)
    return grad


@inner_kernel
def multiply_planes(a, a_plane, a_row, a_step, depth, b, b_plane, out, out_plane, columns, blocks, add):
    """out[k] = a[k] @ b[k], or added to it, for the 16 places k; ``a``, ``b`` and ``out`` are addresses."""
    nothing = np.zeros(columns, f4)
    for k in range(16):
        for i in range(len(blocks)):
            column, row = blocks[i, 0], blocks[i, 4]
            to = out + 4 * (k * out_plane + row * columns + column)
            start, start_row = (to, columns) if add else (address_of(nothing), 0)
            call_tile(
                blocks[i, 3],
                (a + 4 * (k * a_plane + row * a_row), a_row, a_step,
                 b + 4 * (k * b_plane + column), columns, address_of(_ORIGIN), 1, depth,
                 start, start_row, to, columns, blocks[i, 1]),
            )  # fmt: skip


@inner_kernel
def new_planes(numbers, channels):
    """Room for 16 planes (tiles, channels) of a block, and their distance: not a power of two, so that the 16
    places of a tile do not compete for one set of cache lines."""
    plane = numbers[4] * numbers[1] * channels + 16
    return np.zeros(16 * plane, f4), plane


# --- forward ---


def convolve(
    x: np.ndarray, weight: np.ndarray, start: np.ndarray, y: np.ndarray, where: np.ndarray, loop: int,
    relu: int, plan: Plan,
) -> None:  # fmt: skip
    """Fill y (N, 1, H, W * O): all as in conv.py, rows of pixels as the last axis."""
    shares = shares_for(len(x) * plan.numbers[0])
    _convolve(x, transformed(weight), start, y, where, loop, relu, *plan[:2], plan.forward, shares)


@kernel
def _convolve(x, u, start, y, where, loop, relu, numbers, head, blocks, shares):
    share(shares, convolve_rows, (x, u, start, y, where, loop, relu, numbers, head, blocks, shares))


@inner_kernel
def convolve_rows(t, x, u, start, y, where, loop, relu, numbers, head, blocks, shares):
    """The rows of tiles of share t, block by block."""
    rows, columns, channels, filters, per_block = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    (v, v_plane), (m, m_plane) = new_planes(numbers, channels), new_planes(numbers, filters)
    padded, filled, total = new_scratch(head), 0, len(x) * rows
    pair = np.empty(4 * columns * filters if loop else 0, f4)
    for first in range(t * total // shares, (t + 1) * total // shares, per_block):
        last = min(first + per_block, (t + 1) * total // shares)
        for r in range(first, last):
            image, row = r // rows, r % rows
            filled = fill(padded, x[image], head, filled if row else 0, 2 * row + 4)
            a = address_of(padded) if is_padded(head, x) else address_of(x[image])
            map_input(a, head, address_of(v) + 4 * (r - first) * columns * channels, v_plane, numbers, row)
        multiply_planes(
            address_of(v), v_plane, channels, 1, channels, address_of(u), channels * filters, address_of(m),
            m_plane, filters, blocks, False,
        )  # fmt: skip
        for r in range(first, last):
            image, row = r // rows, r % rows
            to = address_of(pair) if loop else address_of(y[image, 0, 2 * row])
            source = address_of(m) + 4 * (r - first) * columns * filters
            line = 2 * columns * filters
            call_map(
                numbers[6],
                (source, 4 * m_plane, m_plane, filters, to, line, filters, 2 * filters, columns, filters,
                 address_of(start), 0 if loop else relu),
            )  # fmt: skip
            if loop:
                places = address_of(where[image, 0, row])
                call_row(
                    loop, (to, to + 4 * line, address_of(y[image, 0, row]), places, columns, filters, relu)
                )


@inner_kernel
def map_input(a, head, to, plane, numbers, row):
    """One row of tiles of V = B^T X B; ``a`` is the address of the padded image."""
    line, channels = head[5], numbers[2]
    call_map(
        numbers[5],
        (a + 8 * row * line, line, channels, 2 * channels, to, 4 * plane, plane, channels, numbers[1],
         channels),
    )  # fmt: skip


# --- backward ---


def convolve_back(
    grad_y: np.ndarray, y: np.ndarray, where: np.ndarray, loop: int, x: np.ndarray, weight: np.ndarray,
    grad_x: np.ndarray, sums: np.ndarray, wants_weight: bool, plan: Plan,
) -> np.ndarray:  # fmt: skip
    """Fill grad_x, add bias gradients to ``sums`` (shares, O), return the weight gradient."""
    turned = np.ascontiguousarray(transformed(weight).swapaxes(1, 2))
    partial = np.empty((len(sums), 16 * weight[0, 0].size if wants_weight else 0), f4)
    _convolve_back(
        grad_y, y, where, loop, x, turned, grad_x, partial, sums, *plan[:3], *plan[4:]
    )  # fmt: skip
    return transformed_back(partial.sum(axis=0).reshape(16, *weight.shape[2:])) if wants_weight else weight


@kernel
def _convolve_back(
    grad_y, y, where, loop, x, turned, grad_x, partial, sums, numbers, head, grad_head, weights, back
):  # fmt: skip
    share(
        len(sums), convolve_rows_back,
        (grad_y, y, where, loop, x, turned, grad_x, partial, sums, numbers, head, grad_head, weights, back),
    )  # fmt: skip


@inner_kernel
def convolve_rows_back(
    t, grad_y, y, where, loop, x, turned, grad_x, partial, sums, numbers, head, grad_head, weights, back
):  # fmt: skip
    """The images of share t, block by block of rows of tiles."""
    rows, columns, channels, filters, per_block = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    (v, v_plane), (m, m_plane) = new_planes(numbers, channels), new_planes(numbers, filters)
    padded, grad, padded_grad = new_scratch(head), new_scratch(grad_head), new_scratch(head)
    filled, filled_grad, line = 0, 0, 2 * columns * filters
    row_sum = np.zeros(2 * columns * sums.shape[1], f4)
    partial[t, :] = 0
    end = (t + 1) * len(x) // len(sums) * rows
    for first in range(t * len(x) // len(sums) * rows, end, per_block):
        last = min(first + per_block, end)
        for r in range(first, last):
            image, row = r // rows, r % rows
            filled_grad = fill_grad(
                grad, grad_y, y, where, loop, image, grad_head, filled_grad if row else 0, 2 * row + 2
            )
            dy, to = address_of(grad) + 8 * row * line, (r - first) * columns
            call_map(
                numbers[7],
                (dy, line, filters, 2 * filters, address_of(m) + 4 * to * filters, 4 * m_plane, m_plane,
                 filters, columns, filters),
            )  # fmt: skip
            add_row(row_sum, grad, 2 * row * line)
            add_row(row_sum, grad, (2 * row + 1) * line)
            if partial.shape[1]:
                filled = fill(padded, x[image], head, filled if row else 0, 2 * row + 4)
                a = address_of(padded) if is_padded(head, x) else address_of(x[image])
                map_input(a, head, address_of(v) + 4 * to * channels, v_plane, numbers, row)
        fold(row_sum, sums[t])
        if partial.shape[1]:
            multiply_planes(
                address_of(v), v_plane, 1, channels, (last - first) * columns, address_of(m), m_plane,
                address_of(partial[t]), channels * filters, filters, weights, True,
            )  # fmt: skip
        if len(grad_x):
            multiply_planes(
                address_of(m), m_plane, filters, 1, filters, address_of(turned), channels * filters,
                address_of(v), v_plane, channels, back, False,
            )  # fmt: skip
            for r in range(first, last):
                image, row = r // rows, r % rows
                source = address_of(v) + 4 * (r - first) * columns * channels
                call_map(
                    numbers[8],
                    (source, 4 * v_plane, v_plane, channels, address_of(padded_grad) + 8 * row * head[5],
                     head[5], channels, 2 * channels, columns, channels),
                )  # fmt: skip
                if row == rows - 1:
                    take(padded_grad, grad_x[image], head)


@inner_kernel
def take(padded, image, head):
    """Move the inside of a padded copy to an image (D, H, W * C), and leave zeros behind."""
    _, height, numbers = image.shape
    for h in range(height):
        first = (h + head[1]) * head[5] + head[2]
        row, source = image[0, h], padded[first : first + numbers]
        for i in range(numbers):
            row[i] = source[i]
    padded[:] = 0
