"""Convolution by 3 x 3 with fewer multiplications (Winograd 1980; Lavin and Gray 2016).

Two neighbouring outputs of a filter w of three taps need six products,

    y0 = x0 w0 + x1 w1 + x2 w2        y1 = x1 w0 + x2 w1 + x3 w2

but four are enough: with m = (G w) * (B^T x), element by element, y = A^T m. In two dimensions a tile of
2 x 2 outputs comes from 4 x 4 inputs by Y = A^T [(G W G^T) * (B^T X B)] A, with 16 products in place of 36;
in the same way 4 x 4 outputs come from 6 x 6 inputs with 36 products in place of 144, by maps of more
additions. With C channels and O filters the products are matrix products, one for each place (i, j) of that
square, over all tiles of a block:

    V[ij] = B^T X B    (tiles, C)       "input map", a few additions (transform.py)
    M[ij] = V[ij] @ U[ij]               register tiles (microkernel.py); U = G W G^T, made once per call
    Y = A^T M A        (tiles, O)       "output map", with bias and ReLU

All of this is linear in x and in w, so the way back is the same chain transposed, each map by its adjoint:

    dM = A dY A^T,   dU[ij] += V[ij]^T @ dM[ij],   dV[ij] = dM[ij] @ U[ij]^T,   dX = B dV B^T (tiles overlap
    and are added),   dW = G^T dU G at the end.

A block of some tiles keeps V, M and U in the second cache (U of deep layers comes from the third). A NaN or
an infinity spreads over the tiles that it touches.

Rounding, measured against float64 with 16 to 192 channels of normally distributed numbers, rectified or not:
the error of an output is at most 1.4e-6 of its sum of absolute products with tiles of 4 x 4, 3e-7 with direct
sums and 2e-7 with tiles of 2 x 2; of an input gradient 8e-7, 4e-7 and 2e-7; of a weight gradient 4e-7, 2e-7
and 2e-7. By norm tiles of 4 x 4 have 1.2 to 2.8 times the error of direct sums, 1.5e-6 at most, and tiles of
2 x 2 about as much as direct sums or less.
"""

from __future__ import annotations

import numpy as np

from tinynet.kernels.cpu.bands import add_row, fill, fill_grad, fold, is_copied, is_padded, new_scratch, seen
from tinynet.kernels.cpu.jit import contiguous, inner_kernel, kernel
from tinynet.kernels.cpu.loops import call_loop
from tinynet.kernels.cpu.microkernel import address_of
from tinynet.kernels.cpu.points import TAPS
from tinynet.kernels.cpu.threads import share, shares_for
from tinynet.kernels.cpu.winograd_plan import Plan

f4 = np.float32
_ORIGIN = np.zeros((1, 2), np.int64)  # the one segment of a plain product
_LINE = 16  # floats in a line of the cache


@inner_kernel
def plane_of(rows, columns):
    """How far apart matrices of that size stand: not a power of two, so that the same place in all of them is
    not always in the same set of cache lines."""
    return rows * columns + _LINE


@inner_kernel
def new_planes(sizes, rows, columns):
    """Room for a matrix for each place of a tile. A last tile may multiply rows that nobody has filled, into
    rows that nobody reads."""
    return np.empty(sizes.places * plane_of(rows, columns) + _LINE, f4)


@inner_kernel
def start_of(planes):
    """The address where the planes start: that of a line of the cache."""
    return (address_of(planes) + 63) & ~63


@inner_kernel
def transformed(weight, sizes):
    """U = G W G^T, planes (C, O), of a weight (3, 3, C, O)."""
    channels, filters = weight.shape[2:]
    u, plane = new_planes(sizes, channels, filters), plane_of(channels, filters)
    call_loop(
        sizes.filter_map,
        (address_of(weight), TAPS * channels * filters, channels * filters, filters, start_of(u),
         (sizes.side + TAPS - 1) * plane, plane, filters, channels, filters),
    )  # fmt: skip
    return u


@inner_kernel
def add_transformed_back(planes, sizes, grad):
    """Add dW = G^T dU G to the weight gradient (3, 3, C, O), which lies flat; dU is in planes (C, O)."""
    channels, filters = sizes.channels, sizes.filters
    plane = plane_of(channels, filters)
    call_loop(
        sizes.filter_back_map,
        (start_of(planes), (sizes.side + TAPS - 1) * plane, plane, filters, address_of(grad),
         TAPS * channels * filters, channels * filters, filters, channels, filters),
    )  # fmt: skip


@inner_kernel
def multiply_planes(
    sizes, a, a_plane, a_row, a_step, rows, depth, b, b_plane, out, out_plane, columns, blocks, add
):
    """out[k] = a[k] @ b[k], or added to it, for all places k and at least so many rows of a; ``a``, ``b`` and
    ``out`` are addresses."""
    nothing = np.zeros(columns, f4)
    for k in range(sizes.places):
        for i in range(len(blocks)):
            column, row = blocks[i, 0], blocks[i, 4]
            if row >= rows:  # the last block of a share may be half empty
                continue
            to = out + 4 * (k * out_plane + row * columns + column)
            start, start_row = (to, columns) if add else (address_of(nothing), 0)
            call_loop(
                blocks[i, 3],
                (a + 4 * (k * a_plane + row * a_row), a_row, a_step,
                 b + 4 * (k * b_plane + column), columns, address_of(_ORIGIN), 1, depth,
                 start, start_row, to, columns, blocks[i, 1]),
            )  # fmt: skip


@inner_kernel
def map_input(x, r, padded, filled, v, tile, sizes, head):
    """V = B^T X B for row r of the tiles of all images, at this tile of the block; returns how many rows are
    in the padded copy by now."""
    image, row, line, channels = r // sizes.rows, r % sizes.rows, head[5], sizes.channels
    plane = plane_of(sizes.per_block * sizes.columns, channels)
    filled = fill(padded, x[image], head, filled if row else 0, sizes.side * (row + 1) + TAPS - 1)
    call_loop(
        sizes.input_map,
        (seen(padded, x, image) + 4 * sizes.side * row * line, line, channels,
         sizes.side * channels, start_of(v) + 4 * tile * channels, (sizes.side + TAPS - 1) * plane, plane,
         channels, sizes.columns, channels),
    )  # fmt: skip
    return filled


# --- forward ---


def convolve(
    x: np.ndarray, weight: np.ndarray, start: np.ndarray, y: np.ndarray, where: np.ndarray, loop: int,
    relu: int, plan: Plan,
) -> None:  # fmt: skip
    """Fill y (N, 1, H, W * O): all as in conv.py, rows of pixels as the last axis."""
    shares = shares_for(len(x) * plan.sizes.rows)
    _convolve(
        x, contiguous(weight), start, y, where, loop, relu, plan.sizes, plan.head, plan.forward, shares
    )  # fmt: skip


@kernel
def _convolve(x, weight, start, y, where, loop, relu, sizes, head, blocks, shares):
    u = transformed(weight, sizes)
    share(shares, convolve_rows, (x, u, start, y, where, loop, relu, sizes, head, blocks, shares))


@inner_kernel
def convolve_rows(t, x, u, start, y, where, loop, relu, sizes, head, blocks, shares):
    """The rows of tiles of share t, block by block."""
    channels, filters, tiles = sizes.channels, sizes.filters, sizes.per_block * sizes.columns
    v, m = new_planes(sizes, tiles, channels), new_planes(sizes, tiles, filters)
    padded, filled, total = new_scratch(head, is_padded(head, x)), 0, len(x) * sizes.rows
    lines = np.empty(sizes.side * sizes.side * sizes.columns * filters + _LINE if loop else 0, f4)
    for first in range(t * total // shares, (t + 1) * total // shares, sizes.per_block):
        last = min(first + sizes.per_block, (t + 1) * total // shares)
        for r in range(first, last):
            filled = map_input(x, r, padded, filled, v, (r - first) * sizes.columns, sizes, head)
        multiply_planes(
            sizes, start_of(v), plane_of(tiles, channels), channels, 1, (last - first) * sizes.columns,
            channels, start_of(u), plane_of(channels, filters), start_of(m), plane_of(tiles, filters),
            filters, blocks, False,
        )  # fmt: skip
        for r in range(first, last):
            source = start_of(m) + 4 * (r - first) * sizes.columns * filters
            if loop:
                map_output(source, start_of(lines), start, 0, sizes)
                pool_lines(start_of(lines), r, y, where, loop, relu, sizes)
            else:
                image, row = r // sizes.rows, r % sizes.rows
                map_output(source, address_of(y[image, 0, sizes.side * row]), start, relu, sizes)


@inner_kernel
def map_output(source, to, start, relu, sizes):
    """One row of tiles of Y = A^T M A, with bias and ReLU."""
    filters = sizes.filters
    plane = plane_of(sizes.per_block * sizes.columns, filters)
    call_loop(
        sizes.output_map,
        (source, (sizes.side + TAPS - 1) * plane, plane, filters, to, sizes.side * sizes.columns * filters,
         filters, sizes.side * filters, sizes.columns, filters, address_of(start), relu),
    )  # fmt: skip


@inner_kernel
def pool_lines(lines, r, y, where, loop, relu, sizes):
    """The lines of row r of the tiles of all images, pooled."""
    image, half, width = r // sizes.rows, sizes.side // 2, sizes.side * sizes.columns
    for i in range(half):
        row, above = half * (r % sizes.rows) + i, lines + 8 * i * width * sizes.filters
        call_loop(
            loop,
            (above, above + 4 * width * sizes.filters, address_of(y[image, 0, row]),
             address_of(where[image, 0, row]), width // 2, sizes.filters, relu),
        )  # fmt: skip


# --- backward ---


def convolve_back(
    grad_y: np.ndarray, y: np.ndarray, where: np.ndarray, loop: int, x: np.ndarray, weight: np.ndarray,
    grad_x: np.ndarray, sums: np.ndarray, wants_weight: bool, plan: Plan,
) -> np.ndarray:  # fmt: skip
    """Fill grad_x, add bias gradients to ``sums`` (shares, O), return the weight gradient."""
    turned = np.ascontiguousarray(weight.swapaxes(2, 3))
    partial = np.zeros((len(sums), weight.size if wants_weight else 0), f4)
    _convolve_back((grad_y, y, where, loop), x, turned, grad_x, partial, sums, *plan[:3], *plan[4:])
    return partial.sum(axis=0).reshape(weight.shape) if wants_weight else weight


@kernel
def _convolve_back(saved, x, turned, grad_x, partial, sums, sizes, head, grad_head, weights, back):
    u = transformed(turned, sizes)
    share(
        len(sums), convolve_rows_back,
        (saved, x, u, grad_x, partial, sums, sizes, head, grad_head, weights, back),
    )  # fmt: skip


@inner_kernel
def convolve_rows_back(t, saved, x, u, grad_x, partial, sums, sizes, head, grad_head, weights, back):
    """The images of share t, block by block of rows of tiles."""
    tiles, wants_weight = sizes.per_block * sizes.columns, partial.shape[1] > 0
    v, m = new_planes(sizes, tiles, sizes.channels), new_planes(sizes, tiles, sizes.filters)
    du = new_planes(sizes, sizes.channels if wants_weight else 0, sizes.filters)
    du[:] = 0
    padded, filled = new_scratch(head, is_padded(head, x)), 0
    scratch, filled_grad = new_scratch(grad_head, is_copied(saved, grad_head)), 0
    padded_grad = new_scratch(head, True)
    row_sum = np.zeros(sizes.side * sizes.columns * sums.shape[1], f4)
    end = (t + 1) * len(x) // len(sums) * sizes.rows
    for first in range(t * len(x) // len(sums) * sizes.rows, end, sizes.per_block):
        last = min(first + sizes.per_block, end)
        for r in range(first, last):
            tile = (r - first) * sizes.columns
            filled_grad = map_grad(saved, r, scratch, filled_grad, m, tile, row_sum, sizes, grad_head)
            if wants_weight:
                filled = map_input(x, r, padded, filled, v, tile, sizes, head)
        fold(row_sum, sums[t])
        if wants_weight:
            add_weight_grad(v, m, du, (last - first) * sizes.columns, sizes, weights)
        if len(grad_x):
            add_input_grad(v, m, u, first, last, padded_grad, grad_x, sizes, head, back)
    if wants_weight:
        add_transformed_back(du, sizes, partial[t])


@inner_kernel
def map_grad(saved, r, scratch, filled, m, tile, row_sum, sizes, head):
    """dM = A dY A^T for row r of the tiles of all images, at this tile of the block, and the sums for the
    bias; returns how many rows of dY are in ``scratch`` by now."""
    grad_y, y, where, loop = saved
    image, row, side, filters = r // sizes.rows, r % sizes.rows, sizes.side, sizes.filters
    line, plane = side * sizes.columns * filters, plane_of(sizes.per_block * sizes.columns, filters)
    filled = fill_grad(
        scratch, grad_y, y, where, loop, image, head, filled if row else 0, side * (row + 1)
    )  # fmt: skip
    grad = seen(scratch, grad_y, image)
    call_loop(
        sizes.output_back_map,
        (grad + 4 * side * row * line, line, filters, side * filters,
         start_of(m) + 4 * tile * filters, (side + TAPS - 1) * plane, plane, filters, sizes.columns, filters),
    )  # fmt: skip
    for i in range(side):
        add_row(row_sum, grad, (side * row + i) * line)
    return filled


@inner_kernel
def add_weight_grad(v, m, du, tiles, sizes, blocks):
    """dU += V^T @ dM, place by place, over the first tiles of the block."""
    channels, filters, room = sizes.channels, sizes.filters, sizes.per_block * sizes.columns
    multiply_planes(
        sizes, start_of(v), plane_of(room, channels), 1, channels, channels, tiles, start_of(m),
        plane_of(room, filters), start_of(du), plane_of(channels, filters), filters, blocks, True,
    )  # fmt: skip


@inner_kernel
def add_input_grad(v, m, u, first, last, padded_grad, grad_x, sizes, head, blocks):
    """dV = dM @ U^T, in the place of V, and dX = B dV B^T for the rows of tiles first to last."""
    channels, filters, tiles = sizes.channels, sizes.filters, sizes.per_block * sizes.columns
    plane, line = plane_of(tiles, channels), head[5]
    multiply_planes(
        sizes, start_of(m), plane_of(tiles, filters), filters, 1, (last - first) * sizes.columns, filters,
        start_of(u), plane_of(filters, channels), start_of(v), plane, channels, blocks, False,
    )  # fmt: skip
    for r in range(first, last):
        image, row = r // sizes.rows, r % sizes.rows
        source = start_of(v) + 4 * (r - first) * sizes.columns * channels
        call_loop(
            sizes.input_back_map,
            (source, (sizes.side + TAPS - 1) * plane, plane, channels,
             address_of(padded_grad) + 4 * sizes.side * row * line, line, channels, sizes.side * channels,
             sizes.columns, channels),
        )  # fmt: skip
        if row == sizes.rows - 1:
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
