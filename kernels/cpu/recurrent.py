"""Recurrent layers in float32: every thread takes its own samples through all time steps, and never waits.

A thread keeps a row [x_t | h_(t-1)] for each of its samples, and multiplies these rows by w_ih above w_hh in
register tiles (see microkernel.py): one product a step. On the way back the walk leaves the gradients of
these sums; those of x and of the weights are then one large product over all steps each.

What the walk writes is time-major (T, N, F), so that the numbers of one step lie together; results are handed
out as (N, T, U) views of it. Arrays are walked as single lines of numbers, and the loops over units touch few
of them each: for many arrays the compiler gives up on vector instructions, because it would have to check at
run time that none overlap.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from tinynet.kernels import arrays
from tinynet.kernels.cpu.elementwise import tanh
from tinynet.kernels.cpu.jit import contiguous, inner_kernel, kernel
from tinynet.kernels.cpu.matmul import matmul, multiply_tiles, pack, product, tile_blocks, upright
from tinynet.kernels.cpu.microkernel import SLACK, address_of
from tinynet.kernels.cpu.threads import share, thread_count
from tinynet.kernels.recurrent import all_steps

f4 = np.float32
BAND = 32  # samples that a thread takes through all steps together: their rows stay in the L1 cache


def is_plain(x: np.ndarray, *others: np.ndarray) -> bool:
    """Whether there is something to do, and all of it in float32."""
    return x.size > 0 and all(a.dtype == f4 for a in (x, *others))


# --- before the walk ---


def time_major(x: np.ndarray) -> np.ndarray:
    """(N, T, F) to a contiguous (T, N, F): free for what this module handed out."""
    return contiguous(x.swapaxes(0, 1))


def steps_in_line(x: np.ndarray) -> tuple[np.ndarray, int, int]:
    """The numbers of (N, T, F) in one line, and the distances there of neighbouring samples and steps."""
    n, t, f = x.shape
    if x.swapaxes(0, 1).flags.c_contiguous:
        return time_major(x).reshape(-1), f, n * f
    return contiguous(x).reshape(-1), t * f, f


def outside_in_line(grad: np.ndarray, steps: int) -> tuple[np.ndarray, int, int]:
    """:func:`steps_in_line` of the gradients (N, T, U) of the states; where only the last has one, zeros.

    These zeros are one row for all samples and steps: real ones would be written and then read by each band,
    rows far apart, which took a tenth of the time of the way back.
    """
    if grad.shape[1] < steps:
        return np.zeros(grad.shape[2], f4), 0, 0
    return steps_in_line(grad)


def weight_in_line(weight: np.ndarray) -> np.ndarray:
    """The rows of ``weight`` one after the other, and room for a last tile that reads too far."""
    line, (source, turned) = np.empty(weight.size + SLACK, f4), upright(weight)
    _lay_weight(source.reshape(-1), turned, *weight.shape, line)
    return line


@kernel
def _lay_weight(source, turned, rows, columns, line):
    step, column = (1, rows) if turned else (columns, 1)
    pack(source, 0, step, column, rows, columns, line, columns)


def stacked(w_ih: np.ndarray, w_hh: np.ndarray) -> np.ndarray:
    """w_ih above w_hh (F + U, columns), with room behind it like :func:`weight_in_line`."""
    shape = len(w_ih) + len(w_hh), w_ih.shape[1]
    size = math.prod(shape)
    line = np.empty(size + SLACK, f4)
    return np.concatenate((w_ih, w_hh), out=line[:size].reshape(shape))


def tiles(samples: int, columns: int) -> tuple[int, np.ndarray, int]:
    """Height and table of the tiles of a walk (see matmul.py), and the number of bands of samples."""
    return _tiles(samples, columns, thread_count())


@functools.lru_cache(maxsize=256)
def _tiles(samples: int, columns: int, threads: int) -> tuple[int, np.ndarray, int]:
    height, table = tile_blocks(samples, columns, False, -(-samples // threads))
    return height, table, min(max(threads, samples // BAND), -(-samples // height))


# --- after the walk ---


def rows(x: np.ndarray) -> np.ndarray:
    """All steps of all samples (T, N, F) as the rows of one matrix."""
    return x.reshape(-1, x.shape[-1])


def project_grad(
    grad: np.ndarray, x: np.ndarray, w_ih: np.ndarray, needs: tuple[bool, ...]
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Gradients of x (if needs[0]), w_ih and the bias from ``grad`` (T, N, gates * U) of their sum."""
    n, t, f = x.shape
    grad_x = matmul(rows(grad), w_ih.T).reshape(t, n, f).swapaxes(0, 1) if needs[0] else None
    inputs = np.empty((t, n, f + 1), f4)
    _lay_inputs(*steps_in_line(x), inputs)
    both = matmul(rows(inputs).T, rows(grad))
    return grad_x, both[:f], both[f]


@kernel
def _lay_inputs(x, sample, step, inputs):
    share(len(inputs), lay_inputs_of, (x, sample, step, inputs))


@inner_kernel
def lay_inputs_of(t, x, sample, step, inputs):
    """Those of all samples at step t, each with a 1 behind: the bias is the weight of an input that is 1."""
    last = inputs.shape[2] - 1
    read(x, t * step, sample, last, inputs[t])
    for n in range(inputs.shape[1]):
        inputs[t, n, last] = 1


def state_weight_grad(h0: np.ndarray, hs: np.ndarray, grad: np.ndarray) -> np.ndarray:
    """Gradient of w_hh: the state before each step times ``grad`` (T, N, gates * U), summed over steps."""
    total = np.zeros(grad.shape[2], f4)  # a row, to which products are added
    if h0.any() or len(hs) == 1:
        total = product(h0.T, grad[0], total)
    return product(rows(hs[:-1]).T, rows(grad[1:]), total) if len(hs) > 1 else total


# --- inside the walk ---


@inner_kernel
def band_of(band, bands, height, samples):
    """First and last sample of a band: whole tiles, as equally many as can be."""
    whole = (samples + height - 1) // height
    return band * whole // bands * height, min((band + 1) * whole // bands * height, samples)


@inner_kernel
def rows_of(h0, i, j, features):
    """The rows [x_t | h_(t-1)] of samples i to j before the first step; x is still to come."""
    rows = np.empty((j - i, features + h0.shape[1]), f4)
    for n in range(i, j):
        remember(h0[n], rows[n - i])
    return rows


@inner_kernel
def read(x, at, sample, features, rows):
    """Begin each row with the numbers of x of this step: those of the first sample are at ``at``."""
    for n in range(len(rows)):
        copy(address_of(x) + 4 * (at + n * sample), address_of(rows[n]), features)


@inner_kernel
def remember(h, row):
    """Put the state at the end of its row."""
    copy(address_of(h), address_of(row) + 4 * (len(row) - len(h)), len(h))


@intrinsic
def copy(typingctx, source, target, count):
    """Copy so many floats from one address to another."""

    def codegen(context, builder, signature, values):
        source, target = (builder.inttoptr(v, ir.FloatType().as_pointer()) for v in values[:2])
        cgutils.raw_memcpy(builder, target, source, values[2], 4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), codegen


@inner_kernel
def place(steps, t, n):
    """Address of the numbers of step t and sample n, of ``steps`` (T, N, F)."""
    return address_of(steps) + 4 * (t * steps.shape[1] + n) * steps.shape[2]


@inner_kernel
def add_product(a, a_row, depth, weight, start, start_row, out, columns, samples, height, table):
    """out = start + a @ weight for a band of samples; all four are addresses, and start may be out."""
    for k in range(len(table)):
        at = 4 * table[k, 0]
        multiply_tiles(
            a, a_row, 1, weight + at, columns, start + at, start_row, out + at, columns, samples, height,
            table[k], depth, False,
        )  # fmt: skip


# --- simple recurrent layer ---


def rnn(
    x: np.ndarray, w_ih: np.ndarray, w_hh: np.ndarray, bias: np.ndarray, h0: np.ndarray, activation: str,
    last: bool = False,
) -> np.ndarray:  # fmt: skip
    """h_t = act(x_t @ w_ih + h_(t-1) @ w_hh + bias)."""
    if not is_plain(x, w_ih, w_hh, bias, h0):
        hs = arrays.rnn(x, w_ih, w_hh, bias, h0, activation)
        return hs[:, -1:] if last else hs
    samples, steps, _ = x.shape
    hs = np.empty((1 if last else steps, *h0.shape), f4)
    _rnn(
        *steps_in_line(x), stacked(w_ih, w_hh), contiguous(bias), contiguous(h0), h0.any(), steps, hs,
        activation == "relu", *tiles(samples, h0.shape[1]),
    )  # fmt: skip
    return hs.swapaxes(0, 1)


@kernel
def _rnn(x, sample, step, weight, bias, h0, begun, steps, hs, relu, height, table, bands):
    share(
        bands, rnn_walk,
        (x, sample, step, weight, bias, h0, begun, steps, hs, relu, height, table, bands),
    )  # fmt: skip


@inner_kernel
def rnn_walk(band, x, sample, step, weight, bias, h0, begun, steps, hs, relu, height, table, bands):
    """The states of one band of samples, step by step; ``hs`` may have room for one step only.

    ``begun`` says whether any state before the first step is not zero.
    """
    i, j = band_of(band, bands, height, hs.shape[1])
    units, wide = hs.shape[2], len(weight)
    features = wide - units
    rows = rows_of(h0, i, j, features)
    for t in range(steps):
        read(x, i * sample + t * step, sample, features, rows)
        kept = min(t, len(hs) - 1)
        add_product(
            address_of(rows), wide, wide if t or begun else features, address_of(weight), address_of(bias), 0,
            place(hs, kept, i), units, j - i, height, table,
        )  # fmt: skip
        _activate(hs[kept, i:j].reshape(-1), relu)
        for n in range(i, j):
            remember(hs[kept, n], rows[n - i])


@inner_kernel
def _activate(h, relu):
    if relu:
        for u in range(len(h)):
            h[u] = f4(0) if h[u] < 0 else h[u]
    else:
        for u in range(len(h)):
            h[u] = tanh(h[u])


def rnn_backward(
    grad_hs: np.ndarray, x: np.ndarray, w_ih: np.ndarray, w_hh: np.ndarray, h0: np.ndarray, hs: np.ndarray,
    activation: str, needs: tuple[bool, ...],
) -> tuple[np.ndarray | None, ...]:  # fmt: skip
    """Gradients of :func:`rnn` in x, w_ih, w_hh, bias and h0."""
    if not is_plain(x, grad_hs, w_ih, w_hh, h0, hs):
        return arrays.rnn_backward(all_steps(grad_hs, hs), x, w_ih, w_hh, h0, hs, activation, needs)
    hs, grad_h = time_major(hs), grad_hs[:, -1].copy()
    grad = np.empty(hs.shape, f4)
    _rnn_backward(
        *outside_in_line(grad_hs, len(hs)), hs, grad, grad_h, weight_in_line(w_hh.T), activation == "relu",
        needs[4], *tiles(*h0.shape),
    )  # fmt: skip
    grad_x, grad_w_ih, grad_bias = project_grad(grad, x, w_ih, needs)
    return grad_x, grad_w_ih, state_weight_grad(h0, hs, grad), grad_bias, grad_h if needs[4] else None


@kernel
def _rnn_backward(outside, sample, step, hs, grad, grad_h, weight, relu, to_h0, height, table, bands):
    share(
        bands, rnn_walk_back,
        (outside, sample, step, hs, grad, grad_h, weight, relu, to_h0, height, table, bands),
    )  # fmt: skip


@inner_kernel
def rnn_walk_back(band, outside, sample, step, hs, grad, grad_h, weight, relu, to_h0, height, table, bands):
    """From the gradients of the states to those before the activation, for one band of samples."""
    i, j = band_of(band, bands, height, hs.shape[1])
    units = hs.shape[2]
    some, nothing = address_of(grad_h) + 4 * i * units, np.zeros(units, f4)
    for t in range(len(hs) - 1, -1, -1):
        _activate_grad(grad_h[i:j].reshape(-1), hs[t, i:j].reshape(-1), grad[t, i:j].reshape(-1), relu)
        start = address_of(outside) + 4 * (i * sample + (t - 1) * step) if t else address_of(nothing)
        if t or to_h0:
            add_product(
                place(grad, t, i), units, units, address_of(weight), start, sample if t else 0, some, units,
                j - i, height, table,
            )  # fmt: skip


@inner_kernel
def _activate_grad(grad_h, h, grad, relu):
    for u in range(len(grad)):
        grad[u] = grad_h[u] * (f4(h[u] > 0) if relu else f4(1) - h[u] * h[u])
