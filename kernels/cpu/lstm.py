"""Long short-term memory in float32; see recurrent.py for how samples and steps are walked."""

from __future__ import annotations

import numba
import numpy as np

from tinynet.kernels import arrays
from tinynet.kernels.cpu.elementwise import sigmoid, tanh
from tinynet.kernels.cpu.jit import contiguous, kernel, parallel_kernel
from tinynet.kernels.cpu.recurrent import (
    add_product,
    after_zeros,
    is_plain,
    project,
    project_grad,
    state_weight_grad,
    tiles,
    time_major,
)

f4 = np.float32


def lstm(
    x: np.ndarray, w_ih: np.ndarray, w_hh: np.ndarray, bias: np.ndarray, h0: np.ndarray, c0: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Long short-term memory (Hochreiter and Schmidhuber 1997), gates i f g o."""
    if not is_plain(x, w_ih, w_hh, bias, h0, c0):
        return arrays.lstm(x, w_ih, w_hh, bias, h0, c0)
    inputs = project(x, w_ih)
    gates, hs = np.empty(inputs.shape, f4), np.empty((len(inputs), *h0.shape), f4)
    cs = np.empty(hs.shape, f4)
    _lstm(inputs, contiguous(h0), contiguous(c0), contiguous(bias), gates, hs, cs, *tiles(w_hh, len(x)))
    return hs.swapaxes(0, 1), cs.swapaxes(0, 1), gates.swapaxes(0, 1)


@parallel_kernel
def _lstm(inputs, h0, c0, bias, gates, hs, cs, weight, blocks, segment, bands):
    for band in numba.prange(bands):
        i, j = band * len(h0) // bands, (band + 1) * len(h0) // bands
        h, c = h0[i:j], c0[i:j]
        for t in range(len(hs)):
            add_product(h, weight, inputs[t][i:j], gates[t][i:j], blocks, segment)
            for n in range(i, j):
                _lstm_gates(gates[t][n], bias)
                _lstm_state(gates[t][n], c[n - i], cs[t][n], hs[t][n])
            h, c = hs[t][i:j], cs[t][i:j]


@kernel
def _lstm_gates(gates, bias):
    units = len(bias) // 4
    for u in range(2 * units):
        gates[u] = sigmoid(gates[u] + bias[u])
    for u in range(2 * units, 3 * units):
        gates[u] = tanh(gates[u] + bias[u])
    for u in range(3 * units, 4 * units):
        gates[u] = sigmoid(gates[u] + bias[u])


@kernel
def _lstm_state(gates, c_before, c, h):
    units = len(h)
    i, f, g, o = gates[:units], gates[units : 2 * units], gates[2 * units : 3 * units], gates[3 * units :]
    for u in range(units):
        c[u] = f[u] * c_before[u] + i[u] * g[u]
        h[u] = o[u] * tanh(c[u])


def lstm_backward(
    grad_hs: np.ndarray, grad_cs: np.ndarray, x: np.ndarray, w_ih: np.ndarray, w_hh: np.ndarray,
    h0: np.ndarray, c0: np.ndarray, hs: np.ndarray, cs: np.ndarray, gates: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Gradients of :func:`lstm` in x, w_ih, w_hh, bias, h0 and c0."""
    if not is_plain(x, grad_hs, grad_cs, w_ih, w_hh, h0, c0, hs, cs, gates):
        return arrays.lstm_backward(grad_hs, grad_cs, x, w_ih, w_hh, h0, c0, hs, cs, gates)
    hs, cs, gates = time_major(hs), time_major(cs), time_major(gates)
    outside, grad = (after_zeros(grad_hs), after_zeros(grad_cs)), np.empty(gates.shape, f4)
    grad_h, grad_c = (steps[-1].copy() for steps in outside)
    _lstm_backward(*outside, gates, contiguous(c0), cs, grad, grad_h, grad_c, *tiles(w_hh.T, len(x)))
    grad_x, grad_w_ih, grad_bias = project_grad(grad, x, w_ih)
    return grad_x, grad_w_ih, state_weight_grad(h0, hs, grad), grad_bias, grad_h, grad_c


@parallel_kernel
def _lstm_backward(grad_hs, grad_cs, gates, c0, cs, grad, grad_h, grad_c, weight, blocks, segment, bands):
    for band in numba.prange(bands):
        i, j = band * len(c0) // bands, (band + 1) * len(c0) // bands
        for t in range(len(cs) - 1, -1, -1):
            before = cs[t - 1] if t else c0
            for n in range(i, j):
                _lstm_output_grad(gates[t][n], cs[t][n], grad_h[n], grad_c[n], grad[t][n])
                _lstm_state_grad(gates[t][n], before[n], grad_c[n], grad[t][n])
                _forget(gates[t][n], grad_cs[t][n], grad_c[n])
            add_product(grad[t][i:j], weight, grad_hs[t][i:j], grad_h[i:j], blocks, segment)


@kernel
def _lstm_output_grad(gates, c, grad_h, grad_c, grad):
    """Through h = o * tanh(c): the gradient of o, and more for c."""
    units = len(c)
    o, grad_o = gates[3 * units :], grad[3 * units :]
    for u in range(units):
        tanh_c = tanh(c[u])
        grad_o[u] = grad_h[u] * tanh_c * o[u] * (f4(1) - o[u])
        grad_c[u] += grad_h[u] * o[u] * (f4(1) - tanh_c * tanh_c)


@kernel
def _lstm_state_grad(gates, c_before, grad_c, grad):
    """Through c = f * c_before + i * g: the gradients of i, f and g."""
    units = len(c_before)
    i, f, g = gates[:units], gates[units : 2 * units], gates[2 * units : 3 * units]
    grad_i, grad_f, grad_g = grad[:units], grad[units : 2 * units], grad[2 * units : 3 * units]
    for u in range(units):
        grad_i[u] = grad_c[u] * g[u] * i[u] * (f4(1) - i[u])
    for u in range(units):
        grad_f[u] = grad_c[u] * c_before[u] * f[u] * (f4(1) - f[u])
    for u in range(units):
        grad_g[u] = grad_c[u] * i[u] * (f4(1) - g[u] * g[u])


@kernel
def _forget(gates, outside, grad_c):
    """From the gradient of c to that of c_before."""
    units = len(grad_c)
    f = gates[units : 2 * units]
    for u in range(units):
        grad_c[u] = grad_c[u] * f[u] + outside[u]
