"""Matrix products in float32 by register tiles (see microkernel.py), and sums over rows.

Either operand may be a transposed view. Of a, single numbers are read, so that costs nothing; b is read by
rows of registers, so a transposed b is copied first.
"""

from __future__ import annotations

import functools
import math

import numba
import numpy as np

from tinynet.kernels import arrays
from tinynet.kernels.cpu.jit import contiguous, kernel, parallel_kernel
from tinynet.kernels.cpu.microkernel import SLACK, address_of, call_tile
from tinynet.kernels.cpu.plan import column_blocks

_SMALL = 1 << 15  # below so many multiplications NumPy is faster: the call itself would dominate
_ONE_SEGMENT = np.zeros((1, 2), np.int64)
_ZEROS = np.zeros(64, np.float32)  # what a tile starts from


def matmul(a, b):
    """(M, K) @ (K, N)."""
    (m, k), n = a.shape, b.shape[1]
    if a.dtype != np.float32 or b.dtype != np.float32 or m * n * k < _SMALL:
        return arrays.matmul(a, b)
    out = np.empty((m, n), np.float32)
    blocks, bands, ragged = _plan(m, n, numba.get_num_threads())
    b = _rows_of(b, ragged)
    if a.T.flags.c_contiguous:
        _matmul(contiguous(a.T).reshape(-1), 1, m, b, out, blocks, bands, k, _ONE_SEGMENT, _ZEROS)
    else:
        _matmul(contiguous(a).reshape(-1), k, 1, b, out, blocks, bands, k, _ONE_SEGMENT, _ZEROS)
    return out


@functools.lru_cache(maxsize=512)
def _plan(m: int, n: int, threads: int) -> tuple[np.ndarray, int, bool]:
    """Column blocks as in plan.BLOCK, into how many bands the rows are cut, and whether b needs slack."""
    blocks = column_blocks(m, n)
    widest = max(rows for _, _, rows, _ in blocks)
    bands = min(-(-4 * threads // len(blocks)), -(-m // widest))
    return np.array(blocks, np.int64), bands, n % 8 != 0 or blocks[-1][1] % 16 != 0


def _rows_of(b, ragged: bool):
    """b row by row in one line of numbers; behind it room for a last tile that reads too far."""
    k, n = b.shape
    row = np.empty(k * n + SLACK, np.float32) if ragged or not b.flags.c_contiguous else None
    if row is None:
        return contiguous(b).reshape(-1)
    row[k * n :] = 0
    if b.T.flags.c_contiguous:
        _transpose(contiguous(b.T), row[: k * n].reshape(k, n))
    else:
        row[: k * n].reshape(k, n)[...] = b
    return row


@parallel_kernel
def _matmul(a, a_row, a_step, b, out, blocks, bands, depth, segment, nothing):
    for task in numba.prange(bands * len(blocks)):
        multiply_band(a, a_row, a_step, b, out, blocks, np.int64(task), bands, depth, segment, nothing)


@kernel
def multiply_band(a, a_row, a_step, b, out, blocks, task, bands, depth, segment, nothing):
    """One band of rows times one block of columns."""
    (m, n), i, band = out.shape, task // bands, task % bands
    column, columns, rows, tile = blocks[i, 0], blocks[i, 1], blocks[i, 2], blocks[i, 3]
    tiles = (m + rows - 1) // rows
    for j in range(band * tiles // bands, (band + 1) * tiles // bands):
        first = min(j * rows, m - rows)  # the last tile overlaps the one before and writes the same numbers
        call_tile(
            tile,
            (address_of(a) + 4 * first * a_row, a_row, a_step, address_of(b) + 4 * column, n,
             address_of(segment), 1, depth, address_of(nothing), 0,
             address_of(out) + 4 * (first * n + column), n, columns, 0),
        )  # fmt: skip


@kernel
def _transpose(source, target):
    """target = source.T, in squares of 16 x 16 that fit into the nearest cache."""
    m, n = source.shape
    for row in range(0, m, 16):
        for column in range(0, n, 16):
            for i in range(row, min(row + 16, m)):
                for j in range(column, min(column + 16, n)):
                    target[j, i] = source[i, j]


def bias_grad(grad_y):
    """Sum over all axes but the last: (..., C) to (C,)."""
    features = grad_y.shape[-1]
    if grad_y.dtype != np.float32 or grad_y.size == 0:
        return arrays.bias_grad(grad_y)
    # narrow rows are laid side by side, so that a run of additions is at least 64 long
    rows = math.prod(grad_y.shape[:-1])
    fold = math.gcd(rows, 64 // features) if 64 % features == 0 and features < 64 else 1
    total = np.zeros(fold * features, np.float64)
    _sum_rows(contiguous(grad_y).reshape(rows // fold, fold * features), total)
    return total.reshape(fold, features).sum(axis=0).astype(np.float32)


@kernel
def _sum_rows(x, total):
    """Add the rows, in float32 for 32 of them at a time and in float64 beyond."""
    some = np.zeros(len(total), np.float32)
    for first in range(0, len(x), 32):
        for c in range(len(some)):
            some[c] = 0
        for r in range(first, min(first + 32, len(x))):
            for c in range(len(some)):
                some[c] += x[r, c]
        for c in range(len(some)):
            total[c] += some[c]
