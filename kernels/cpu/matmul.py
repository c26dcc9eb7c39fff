"""Matrix products in float32 by register tiles (see microkernel.py), and sums over rows.

out = start + a @ b is cut so that whatever is used again lies near the multipliers:

==========  =============================  =====================================================
registers   rows x columns of out          a tile: 16 to 24 registers for a block of the depth
L1          rows x ``DEPTH`` of a          each number meets the columns of one tile
L2          ``DEPTH`` x columns of b       a panel: it meets one tile of rows after the other
L2          ``ROWS`` x ``DEPTH`` of a      a part: it meets one panel after the other
==========  =============================  =====================================================

Every thread has parts of its own, so none waits for another, and results are equal bit for bit for a given
number of threads. Either operand may be a transposed view. Of a, single numbers are read, so that costs
nothing. b is read by whole registers: where its columns lie apart, or the last register would reach beyond
its end, the panel is packed, that is copied into a scratch row by row.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from tinynet.kernels import arrays
from tinynet.kernels.cpu.jit import contiguous, inner_kernel, kernel
from tinynet.kernels.cpu.loops import call_loop
from tinynet.kernels.cpu.microkernel import address_of, most_rows, tile_address
from tinynet.kernels.cpu.threads import share, thread_count
from tinynet.kernels.cpu.transpose import LANES, transpose_square

DEPTH = 512
ROWS = 128
_SMALL = 1 << 15  # below so many multiplications NumPy is faster: the call itself would dominate
_ALONE = 1 << 18  # below so many, waking the other threads costs more than they save
_FAR = 1 << 12  # numbers in rows that are far apart: each tile reads pages of their own, so wide tiles pay
_ORIGIN = np.zeros((1, 2), np.int64)  # the one segment of a plain product


def matmul(a, b):
    """(M, K) @ (K, N)."""
    if not is_worth_tiles(a, b):
        return arrays.matmul(a, b)
    return product(a, b)


def is_worth_tiles(a, b):
    """Whether the product of two matrices is one of float32, and large enough."""
    return a.dtype == np.float32 == b.dtype and a.size * b.shape[1] >= _SMALL


def product(a, b, start=None, relu=False):
    """start + a @ b in float32, clipped at zero if ``relu``; start (N,), or (M, N), which is added to."""
    (m, depth), n = a.shape, b.shape[1]
    if start is None:
        start = np.zeros(n, np.float32)
    if start.ndim == 2:
        out, start, start_row = start, start.reshape(-1), n
    else:
        out, start_row = np.empty((m, n), np.float32), 0
    (a, a_turned), (b, b_turned) = upright(a), upright(b)
    threads = 1 if m * n * depth < _ALONE else thread_count()
    far = depth > _FAR and not a_turned
    parts, height, blocks = _plan(m, n, far, b_turned, threads)
    _multiply(a, a_turned, b.reshape(-1), b_turned, start, start_row, out, parts, height, blocks, relu)
    return out


def upright(matrix):
    """The matrix in C order, or its transpose if that is, and whether it is the transpose."""
    flags = matrix.flags
    if flags.carray:
        return matrix, False
    if flags.f_contiguous and not flags.c_contiguous:
        return contiguous(matrix.T), True
    return contiguous(matrix), False


@functools.lru_cache(maxsize=512)
def _plan(m: int, n: int, far: bool, transposed: bool, threads: int) -> tuple[np.ndarray, int, np.ndarray]:
    """Parts (first row, last row, first block, last block), the height of tiles, and blocks of columns.

    ``far``: rows of a are far apart; ``transposed``: those of b are its columns.
    """
    vectors = -(-n // LANES)

    def work(down: int) -> int:  # of one thread, per number of depth; packing costs as much as 6 rows
        return (-(-m // down) + 6 * transposed) * -(-vectors // (threads // down))

    down = min((d for d in range(threads, 0, -1) if threads % d == 0), key=work)
    height, blocks = tile_blocks(m, n, transposed, -(-m // down), far and not transposed)
    across = min(threads // down, len(blocks))
    tiles = -(-m // height)
    down *= -(-tiles * height // (down * ROWS))
    parts = [
        (*(min(i * tiles // down * height, m) for i in (r, r + 1)),
         *(i * len(blocks) // across for i in (c, c + 1)))
        for r in range(down) for c in range(across)
    ]  # fmt: skip
    return np.array([p for p in parts if p[0] < p[1]], np.int64), height, blocks


def _tile_form(rows: int, columns: int, far: bool) -> tuple[int, int, int]:
    """(rows, vectors, lanes) of the tile that covers ``rows`` x ``columns`` with the least work."""
    lanes = LANES
    if columns <= lanes // 2 and lanes > 4:
        lanes //= 2
    vectors = -(-columns // lanes)
    # rows of a that are a power of two apart share one set of L1: of these it holds 8
    most = min(rows, 16 if vectors == 1 else 8)
    forms = [
        (r, v) for v in range(1, min(vectors, 4) + 1) for r in range(1, min(most, max(most_rows(v), 1)) + 1)
    ]
    return (*min(forms, key=lambda form: _work(rows, vectors, *form, far)), lanes)


def _work(rows: int, vectors: int, height: int, width: int, far: bool) -> float:
    """Cycles per number of depth; whole tiles, and the lower and narrower ones at the edges."""
    fetch = 0.4 if far else 0.2

    def tile(r: int, v: int) -> float:
        # a product needs about 8 others under way to hide its latency; a is read from L1, b from L2
        return max(r * v, 8) + fetch * r + 0.8 * v if r * v else 0

    (down, low), (across, narrow) = divmod(rows, height), divmod(vectors, width)
    cycles = across * (down * tile(height, width) + tile(low, width)) + down * tile(height, narrow)
    kinds = (1 + (low > 0)) * (1 + (narrow > 0))  # each is to be compiled, for some 70 ms
    return (cycles + tile(low, narrow)) * (1 + 0.03 * (kinds - 1))


def tile_blocks(
    rows: int, columns: int, packs: bool, share: int, far: bool = False
) -> tuple[int, np.ndarray]:
    """The height of tiles for ``rows`` of which a thread has ``share``, and a table of blocks of columns.

    ``far``: the rows that meet these tiles are far apart. Columns of the table: first column, how many, the
    tile, the tile for the rows that remain, width of the packed panel or 0.
    """
    height, vectors, lanes = _tile_form(share, columns, far)
    blocks = []
    for column in range(0, columns, vectors * lanes):
        width = min(vectors * lanes, columns - column)
        used = -(-width // lanes)
        form = used, lanes, width % lanes != 0
        tail = tile_address(rows % height, *form) if rows % height else 0
        panel = used * lanes if packs or width % lanes else 0
        blocks.append((column, width, tile_address(height, *form), tail, panel))
    return height, np.array(blocks, np.int64)


@kernel
def _multiply(a, a_turned, b, b_turned, start, start_row, out, parts, height, blocks, relu):
    a_row, a_step = (1, a.shape[1]) if a_turned else (a.shape[1], 1)
    depth = a.shape[0 if a_turned else 1]
    b_step, b_column = (1, depth) if b_turned else (out.shape[1], 1)
    share(
        len(parts), multiply_part,
        (a, a_row, a_step, b, b_step, b_column, start, start_row, out, parts, height, blocks, depth, relu),
    )  # fmt: skip


@inner_kernel
def multiply_part(
    part, a, a_row, a_step, b, b_step, b_column, start, start_row, out, parts, height, blocks, depth, relu
):  # fmt: skip
    """One part of the product: block by block of the depth, panel by panel, tile by tile."""
    n, first, rows = out.shape[1], parts[part, 0], parts[part, 1] - parts[part, 0]
    cuts = (depth + DEPTH - 1) // DEPTH
    scratch = np.zeros((depth + cuts - 1) // cuts * max(blocks[0, 4], blocks[-1, 4]), np.float32)
    for cut in range(cuts):
        k = depth * cut // cuts
        steps = depth * (cut + 1) // cuts - k
        for i in range(parts[part, 2], parts[part, 3]):
            column, panel_step = blocks[i, 0], blocks[i, 4]
            place = k * b_step + column * b_column
            if panel_step:
                pack(b, place, b_step, b_column, steps, blocks[i, 1], scratch, panel_step)
            panel = address_of(scratch) if panel_step else address_of(b) + 4 * place
            target = address_of(out) + 4 * (first * n + column)
            origin = address_of(start) + 4 * (first * start_row + column)
            multiply_tiles(
                address_of(a) + 4 * (first * a_row + k * a_step), a_row, a_step, panel, panel_step or b_step,
                target if cut else origin, n if cut else start_row, target, n,
                rows, height, blocks[i], steps, relu and cut == cuts - 1,
            )  # fmt: skip


@inner_kernel
def multiply_tiles(
    a, a_row, a_step, b, b_step, start, start_row, out, out_row, rows, height, block, steps, relu
):  # fmt: skip
    """out = start + a @ b for one block of columns. a, b, start and out are addresses; start may be out."""
    for r in range(0, rows, height):
        call_loop(
            block[2] if r + height <= rows else block[3],
            (a + 4 * r * a_row, a_row, a_step, b, b_step, address_of(_ORIGIN), 1, steps,
             start + 4 * r * start_row, start_row, out + 4 * r * out_row, out_row, block[1], np.int64(relu)),
        )  # fmt: skip


@inner_kernel
def pack(b, origin, b_step, b_column, steps, columns, panel, panel_step):
    """panel[k * panel_step + j] = b[origin + k * b_step + j * b_column] for k in steps, j in columns."""
    squares = LANES if b_column != 1 else 1 << 40
    whole_steps, whole_columns = steps // squares * LANES, columns // squares * LANES
    for j in range(0, whole_columns, LANES):
        for k in range(0, whole_steps, LANES):
            source = address_of(b) + 4 * (origin + k * b_step + j * b_column)
            transpose_square(source, b_column, address_of(panel) + 4 * (k * panel_step + j), panel_step)
    for k in range(steps):
        for j in range(whole_columns if k < whole_steps else 0, columns):
            panel[k * panel_step + j] = b[origin + k * b_step + j * b_column]


def bias_grad(grad_y):
    """Sum over all axes but the last: (..., C) to (C,)."""
    features = grad_y.shape[-1]
    if grad_y.dtype != np.float32 or grad_y.size == 0:
        return arrays.bias_grad(grad_y)
    # narrow rows are laid side by side, so that a run of additions is at least 64 long
    rows = grad_y.size // features
    fold = math.gcd(rows, 64 // features) if 64 % features == 0 and features < 64 else 1
    out = np.empty(features, np.float32)
    total = np.zeros(fold * features)
    _sum_rows(contiguous(grad_y).reshape(rows // fold, fold * features), total, out)
    return out


@kernel
def _sum_rows(x, total, out):
    """Add the rows, in float32 for 32 of them at a time and in float64 beyond; then what lay side by side."""
    some = np.empty(x.shape[1], np.float32)
    for first in range(0, len(x), 32):
        for c in range(len(some)):
            some[c] = 0
        for r in range(first, min(first + 32, len(x))):
            for c in range(len(some)):
                some[c] += x[r, c]
        for c in range(len(some)):
            total[c] += some[c]
    for c in range(len(out)):
        for other in range(c + len(out), len(total), len(out)):
            total[c] += total[other]
        out[c] = total[c]
