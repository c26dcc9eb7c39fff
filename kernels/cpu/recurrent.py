"""Recurrent layers in float32: every thread takes its own samples through all time steps, and never waits.

A thread first writes bias + x_t @ w_ih for all its samples and steps, and then walks through time, adding
h_(t-1) @ w_hh by register tiles (see microkernel.py). On the way back the walk leaves the gradients of these
sums; those of x and of the weights are then one large product over all steps each.

What the walk writes is time-major (T, N, F), so that the numbers of one step lie together; results are handed
out as (N, T, U) views of it. Arrays are walked as single lines of numbers, and the loops over units touch few
of them each: for many arrays the compiler gives up on vector instructions, because it would have to check at
run time that none overlap.
"""

from __future__ import annotations

import functools

import numpy as np

from tinynet.kernels import arrays
from tinynet.kernels.cpu.elementwise import tanh
from tinynet.kernels.cpu.jit import contiguous, kernel
from tinynet.kernels.cpu.matmul import in_line, matmul, multiply_tiles, pack, product, tile_blocks
from tinynet.kernels.cpu.microkernel import SLACK, address_of
from tinynet.kernels.cpu.threads import share, thread_count
from tinynet.kernels.steps import all_steps

f4 = np.float32
NEAR = 1 << 16  # numbers that stay in the L2 cache beside the weights


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
    line = np.zeros(weight.size + SLACK, f4)
    numbers, step, column = in_line(weight)
    pack(numbers, 0, step, column, *weight.shape, line, weight.shape[1])
    return line


def tiles(samples: int, columns: int) -> tuple[int, np.ndarray, int]:
    """Height and table of the tiles of a walk (see matmul.py), and the number of bands of samples."""
    return _tiles(samples, columns, thread_count())


@functools.lru_cache(maxsize=256)
def _tiles(samples: int, columns: int, threads: int) -> tuple[int, np.ndarray, int]:
    height, table = tile_blocks(samples, columns, False, -(-samples // threads))
    return height, table, min(threads, -(-samples // height))


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
    inputs = np.ones((t, n, f + 1), f4)  # the bias is the weight of an input that is always 1
    inputs[:, :, :f] = x.swapaxes(0, 1)
    both = matmul(rows(inputs).T, rows(grad))
    return grad_x, both[:f], both[f]


def state_weight_grad(h0: np.ndarray, hs: np.ndarray, grad: np.ndarray) -> np.ndarray:
    """Gradient of w_hh: the state before each step times ``grad`` (T, N, gates * U), summed over steps."""
    total = np.zeros((h0.shape[1], grad.shape[2]), f4)
    product(h0.T, grad[0], total)
    return product(rows(hs[:-1]).T, rows(grad[1:]), total) if len(hs) > 1 else total


# --- inside the walk ---


@kernel
def band_of(band, bands, height, samples):
    """First and last sample of a band: whole tiles, as equally many as can be."""
    whole = (samples + height - 1) // height
    return band * whole // bands * height, min((band + 1) * whole // bands * height, samples)


@kernel
def project(x, sample, step, w_ih, bias, out, first, i, j, height, table):
    """out[t] = bias + x_t @ w_ih for samples i to j, in advance for as many steps as stay in the L2 cache.

    Called before every step ``first``, it has something to do at each of these runs of steps only. Each
    panel of w_ih is read once for a run.
    """
    steps, samples, columns = out.shape
    depth = (len(w_ih) - SLACK) // columns
    run = max(1, NEAR // ((j - i) * columns))
    if first % run:
        return
    for k in range(len(table)):
        at = 4 * table[k, 0]
        for t in range(first, min(first + run, steps)):
            multiply_tiles(
                address_of(x) + 4 * (i * sample + t * step), sample, 1, address_of(w_ih) + at, columns,
                address_of(bias) + at, 0, address_of(out) + 4 * (t * samples + i) * columns + at, columns,
                j - i, height, table[k], depth, False,
            )  # fmt: skip


@kernel
def place(steps, t, n):
    """Address of the numbers of step t and sample n, of ``steps`` (T, N, F)."""
    return address_of(steps) + 4 * (t * steps.shape[1] + n) * steps.shape[2]


@kernel
def add_product(a, depth, weight, start, start_row, out, columns, samples, height, table):
    """out = start + a @ weight for a band of samples; a, start and out are addresses, start may be out."""
    for k in range(len(table)):
        at = 4 * table[k, 0]
        multiply_tiles(
            a, depth, 1, address_of(weight) + at, columns, start + at, start_row, out + at, columns,
            samples, height, table[k], depth, False,
        )  # fmt: skip


# --- simple recurrent layer ---


def rnn(
    x: np.ndarray, w_ih: np.ndarray, w_hh: np.ndarray, bias: np.ndarray, h0: np.ndarray, activation: str
) -> np.ndarray:
    """h_t = act(x_t @ w_ih + h_(t-1) @ w_hh + bias)."""
    if not is_plain(x, w_ih, w_hh, bias, h0):
        return arrays.rnn(x, w_ih, w_hh, bias, h0, activation)
    samples, steps, _ = x.shape
    hs = np.empty((steps, *h0.shape), f4)
    _rnn(
        *steps_in_line(x), weight_in_line(w_ih), contiguous(bias), contiguous(h0), hs,
        weight_in_line(w_hh), activation == "relu", *tiles(samples, h0.shape[1]),
    )  # fmt: skip
    return hs.swapaxes(0, 1)


@kernel
def _rnn(x, sample, step, w_ih, bias, h0, hs, w_hh, relu, height, table, bands):
    share(bands, rnn_walk, (x, sample, step, w_ih, bias, h0, hs, w_hh, relu, height, table, bands))


@kernel
def rnn_walk(band, x, sample, step, w_ih, bias, h0, hs, w_hh, relu, height, table, bands):
    """The states of one band of samples, step by step."""
    i, j = band_of(band, bands, height, hs.shape[1])
    units = hs.shape[2]
    before = address_of(h0) + 4 * i * units
    for t in range(len(hs)):
        project(x, sample, step, w_ih, bias, hs, t, i, j, height, table)
        state = place(hs, t, i)
        add_product(before, units, w_hh, state, units, state, units, j - i, height, table)
        for n in range(i, j):
            _activate(hs[t, n], relu)
        before = state


@kernel
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


@kernel
def rnn_walk_back(band, outside, sample, step, hs, grad, grad_h, weight, relu, to_h0, height, table, bands):
    """From the gradients of the states to those before the activation, for one band of samples."""
    i, j = band_of(band, bands, height, hs.shape[1])
    units = hs.shape[2]
    some, nothing = address_of(grad_h) + 4 * i * units, np.zeros(units, f4)
    for t in range(len(hs) - 1, -1, -1):
        for n in range(i, j):
            _activate_grad(grad_h[n], hs[t, n], grad[t, n], relu)
        start = address_of(outside) + 4 * (i * sample + (t - 1) * step) if t else address_of(nothing)
        if t or to_h0:
            add_product(
                place(grad, t, i), units, weight, start, sample if t else 0, some, units, j - i, height, table
            )


@kernel
def _activate_grad(grad_h, h, grad, relu):
    for u in range(len(grad)):
        grad[u] = grad_h[u] * (f4(h[u] > 0) if relu else f4(1) - h[u] * h[u])
