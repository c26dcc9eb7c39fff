"""Recurrent layers in float32: every thread takes its own samples through all time steps, and never waits.

What does not depend on the state is one large product for all steps: the inputs times w_ih before the walk
through time, the gradients of x and of the weights after it. Inside the walk, products with w_hh are done by
register tiles (see microkernel.py) that start from what the product is to be added to.

Here sequences are time-major (T, N, F), so that the numbers of one step lie together; results are handed out
as (N, T, U) views of them. The loops over units are short and touch few arrays each: for many arrays the
compiler gives up on vector instructions, because it would have to check at run time that none overlap.
"""

from __future__ import annotations

import functools

import numba
import numpy as np

from tinynet.kernels import arrays
from tinynet.kernels.cpu.elementwise import tanh
from tinynet.kernels.cpu.jit import contiguous, kernel, parallel_kernel
from tinynet.kernels.cpu.matmul import bias_grad, matmul
from tinynet.kernels.cpu.microkernel import SLACK, address_of, call_tile
from tinynet.kernels.cpu.plan import column_blocks

f4 = np.float32
_ORIGIN = np.zeros((1, 2), np.int64)  # the one segment of a plain product


def is_plain(x: np.ndarray, *others: np.ndarray) -> bool:
    """Whether there is something to do, and all of it in float32."""
    return x.size > 0 and all(a.dtype == f4 for a in (x, *others))


def time_major(x: np.ndarray) -> np.ndarray:
    """(N, T, F) to a contiguous (T, N, F): free for what this module handed out."""
    return contiguous(x.swapaxes(0, 1))


def after_zeros(grad: np.ndarray) -> np.ndarray:
    """Gradients (N, T, U) from outside, time-major, with zeros for the initial state: (T + 1, N, U)."""
    n, t, u = grad.shape
    steps = np.zeros((t + 1, n, u), f4)
    steps[1:] = grad.swapaxes(0, 1)
    return steps


def rows(x: np.ndarray) -> np.ndarray:
    """All steps of all samples (T, N, F) as the rows of one matrix."""
    return x.reshape(-1, x.shape[-1])


def project(x: np.ndarray, w_ih: np.ndarray) -> np.ndarray:
    """x @ w_ih for all steps at once: (N, T, F) to (T, N, gates * U)."""
    n, t, _ = x.shape
    return matmul(rows(time_major(x)), w_ih).reshape(t, n, w_ih.shape[1])


def project_grad(
    grad: np.ndarray, x: np.ndarray, w_ih: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of x, w_ih and the bias from ``grad`` (T, N, gates * U)."""
    t, n, _ = grad.shape
    grad_x = matmul(rows(grad), w_ih.T).reshape(t, n, x.shape[-1]).swapaxes(0, 1)
    return grad_x, matmul(rows(time_major(x)).T, rows(grad)), bias_grad(grad)


def state_weight_grad(h0: np.ndarray, hs: np.ndarray, grad: np.ndarray) -> np.ndarray:
    """Gradient of w_hh: the state before each step times ``grad`` (T, N, gates * U), summed over steps."""
    first = matmul(h0.T, grad[0])
    return first + matmul(rows(hs[:-1]).T, rows(grad[1:])) if len(hs) > 1 else first


# --- the product inside the walk ---


def tiles(weight: np.ndarray, samples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """What :func:`add_product` needs to multiply by ``weight``, and how many bands of samples there are."""
    line = np.zeros(weight.size + SLACK, f4)
    line[: weight.size].reshape(weight.shape)[...] = weight
    bands = min(numba.get_num_threads(), samples)
    return line, _blocks(samples // bands, weight.shape[1]), _ORIGIN, bands


@functools.lru_cache(maxsize=256)
def _blocks(rows: int, columns: int) -> np.ndarray:
    return np.array(column_blocks(rows, columns), np.int64)


@kernel
def add_product(a, weight, start, out, blocks, segment):
    """out = start + a @ weight; ``out`` and ``start`` must not overlap, because tiles do."""
    rows, depth = a.shape
    columns = out.shape[1]
    for k in range(len(blocks)):
        column, width, height, tile = blocks[k, 0], blocks[k, 1], blocks[k, 2], blocks[k, 3]
        for r in range(0, rows, height):
            first = min(r, rows - height)
            at = 4 * (first * columns + column)
            call_tile(
                tile,
                (address_of(a) + 4 * first * depth, depth, 1, address_of(weight) + 4 * column, columns,
                 address_of(segment), 1, depth,
                 address_of(start) + at, columns, address_of(out) + at, columns, width, 0),
            )  # fmt: skip


# --- simple recurrent layer ---


def rnn(
    x: np.ndarray, w_ih: np.ndarray, w_hh: np.ndarray, bias: np.ndarray, h0: np.ndarray, activation: str
) -> np.ndarray:
    """h_t = act(x_t @ w_ih + h_(t-1) @ w_hh + bias)."""
    if not is_plain(x, w_ih, w_hh, bias, h0):
        return arrays.rnn(x, w_ih, w_hh, bias, h0, activation)
    inputs = project(x, w_ih)
    hs = np.empty(inputs.shape, f4)
    _rnn(inputs, contiguous(h0), contiguous(bias), hs, activation == "relu", *tiles(w_hh, len(x)))
    return hs.swapaxes(0, 1)


@parallel_kernel
def _rnn(inputs, h0, bias, hs, relu, weight, blocks, segment, bands):
    for band in numba.prange(bands):
        i, j = band * len(h0) // bands, (band + 1) * len(h0) // bands
        before = h0[i:j]
        for t in range(len(hs)):
            state = hs[t][i:j]
            add_product(before, weight, inputs[t][i:j], state, blocks, segment)
            _rnn_activate(state, bias, relu)
            before = state


@kernel
def _rnn_activate(state, bias, relu):
    for n in range(len(state)):
        for u in range(len(bias)):
            z = state[n, u] + bias[u]
            state[n, u] = (f4(0) if z < 0 else z) if relu else tanh(z)


def rnn_backward(
    grad_hs: np.ndarray, x: np.ndarray, w_ih: np.ndarray, w_hh: np.ndarray, h0: np.ndarray, hs: np.ndarray,
    activation: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Gradients of :func:`rnn` in x, w_ih, w_hh, bias and h0."""
    if not is_plain(x, grad_hs, w_ih, w_hh, h0, hs):
        return arrays.rnn_backward(grad_hs, x, w_ih, w_hh, h0, hs, activation)
    hs = time_major(hs)
    grad, outside = np.empty(hs.shape, f4), after_zeros(grad_hs)
    grad_h = outside[-1].copy()
    _rnn_backward(outside, hs, grad, grad_h, activation == "relu", *tiles(w_hh.T, len(x)))
    grad_x, grad_w_ih, grad_bias = project_grad(grad, x, w_ih)
    return grad_x, grad_w_ih, state_weight_grad(h0, hs, grad), grad_bias, grad_h


@parallel_kernel
def _rnn_backward(outside, hs, grad, grad_h, relu, weight, blocks, segment, bands):
    for band in numba.prange(bands):
        i, j = band * len(grad_h) // bands, (band + 1) * len(grad_h) // bands
        for t in range(len(hs) - 1, -1, -1):
            _rnn_activate_grad(grad_h[i:j], hs[t][i:j], grad[t][i:j], relu)
            add_product(grad[t][i:j], weight, outside[t][i:j], grad_h[i:j], blocks, segment)


@kernel
def _rnn_activate_grad(grad_h, h, grad, relu):
    for n in range(grad.shape[0]):
        for u in range(grad.shape[1]):
            g = grad_h[n, u]
            grad[n, u] = (g if h[n, u] > 0 else f4(0)) if relu else g * (f4(1) - h[n, u] * h[n, u])
