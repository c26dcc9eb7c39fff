"""Gated recurrent unit in float32; see recurrent.py for how samples and steps are walked."""

from __future__ import annotations

import numba
import numpy as np

from tinynet.kernels import arrays
from tinynet.kernels.cpu.elementwise import sigmoid, tanh
from tinynet.kernels.cpu.jit import contiguous, kernel, parallel_kernel
from tinynet.kernels.cpu.matmul import bias_grad
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


def gru(
    x: np.ndarray,
    w_ih: np.ndarray,
    w_hh: np.ndarray,
    bias_ih: np.ndarray,
    bias_hh: np.ndarray,
    h0: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Gated recurrent unit (Cho et al. 2014), gates r z n, the reset gate after the product."""
    if not is_plain(x, w_ih, w_hh, bias_ih, bias_hh, h0):
        return arrays.gru(x, w_ih, w_hh, bias_ih, bias_hh, h0)
    inputs = project(x, w_ih)
    inputs += bias_ih
    hs, gates = np.empty((len(inputs), *h0.shape), f4), np.empty((*inputs.shape[:2], 4 * h0.shape[1]), f4)
    start = np.broadcast_to(bias_hh, inputs.shape[1:])
    _gru(inputs, contiguous(start), contiguous(h0), gates, hs, *tiles(w_hh, len(x)))
    return hs.swapaxes(0, 1), gates.swapaxes(0, 1)


@parallel_kernel
def _gru(inputs, start, h0, gates, hs, weight, blocks, segment, bands):
    for band in numba.prange(bands):
        i, j = band * len(h0) // bands, (band + 1) * len(h0) // bands
        product, h = np.empty_like(start[i:j]), h0[i:j]
        for t in range(len(hs)):
            add_product(h, weight, start[i:j], product, blocks, segment)
            for n in range(i, j):
                _gru_gates(inputs[t][n], product[n - i], gates[t][n])
                _gru_state(gates[t][n], h[n - i], hs[t][n])
            h = hs[t][i:j]


@kernel
def _gru_gates(inputs, product, gates):
    """r, z, the candidate n and, behind it, what the reset gate was multiplied with."""
    units = len(gates) // 4
    for u in range(2 * units):
        gates[u] = sigmoid(inputs[u] + product[u])
    r, n, h_n = gates[:units], gates[2 * units : 3 * units], gates[3 * units :]
    x_n, p_n = inputs[2 * units :], product[2 * units :]
    for u in range(units):
        h_n[u] = p_n[u]
        n[u] = tanh(x_n[u] + r[u] * p_n[u])


@kernel
def _gru_state(gates, h_before, h):
    units = len(h)
    z, n = gates[units : 2 * units], gates[2 * units : 3 * units]
    for u in range(units):
        h[u] = (f4(1) - z[u]) * n[u] + z[u] * h_before[u]


def gru_backward(
    grad_hs: np.ndarray, x: np.ndarray, w_ih: np.ndarray, w_hh: np.ndarray, h0: np.ndarray, hs: np.ndarray,
    gates: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Gradients of :func:`gru` in x, w_ih, w_hh, bias_ih, bias_hh and h0."""
    if not is_plain(x, grad_hs, w_ih, w_hh, h0, hs, gates):
        return arrays.gru_backward(grad_hs, x, w_ih, w_hh, h0, hs, gates)
    hs, gates, outside = time_major(hs), time_major(gates), after_zeros(grad_hs)
    grad_inputs = np.empty((*hs.shape[:2], w_ih.shape[1]), f4)  # of x @ w_ih + bias_ih
    grad_states = np.empty(
        grad_inputs.shape, f4
    )  # of h @ w_hh + bias_hh: they differ in n, by the reset gate
    grad_h = outside[-1].copy()
    _gru_backward(
        outside, gates, contiguous(h0), hs, grad_inputs, grad_states, grad_h, *tiles(w_hh.T, len(x))
    )
    grad_x, grad_w_ih, grad_bias_ih = project_grad(grad_inputs, x, w_ih)
    grad_w_hh = state_weight_grad(h0, hs, grad_states)
    return grad_x, grad_w_ih, grad_w_hh, grad_bias_ih, bias_grad(grad_states), grad_h


@parallel_kernel
def _gru_backward(outside, gates, h0, hs, grad_inputs, grad_states, grad_h, weight, blocks, segment, bands):
    for band in numba.prange(bands):
        i, j = band * len(h0) // bands, (band + 1) * len(h0) // bands
        for t in range(len(hs) - 1, -1, -1):
            before = hs[t - 1] if t else h0
            for n in range(i, j):
                _gru_gate_grads(gates[t][n], before[n], grad_h[n], grad_inputs[t][n])
                _gru_state_grads(gates[t][n], grad_inputs[t][n], grad_states[t][n])
                _pass_by(gates[t][n], grad_h[n], outside[t][n])
            add_product(grad_states[t][i:j], weight, outside[t][i:j], grad_h[i:j], blocks, segment)


@kernel
def _gru_gate_grads(gates, h_before, grad_h, grad):
    units = len(grad_h)
    r, z, n, h_n = gates[:units], gates[units : 2 * units], gates[2 * units : 3 * units], gates[3 * units :]
    grad_r, grad_z, grad_n = grad[:units], grad[units : 2 * units], grad[2 * units :]
    for u in range(units):
        grad_n[u] = grad_h[u] * (f4(1) - z[u]) * (f4(1) - n[u] * n[u])
    for u in range(units):
        grad_r[u] = grad_n[u] * h_n[u] * r[u] * (f4(1) - r[u])
    for u in range(units):
        grad_z[u] = grad_h[u] * (h_before[u] - n[u]) * z[u] * (f4(1) - z[u])


@kernel
def _gru_state_grads(gates, grad_inputs, grad_states):
    units = len(gates) // 4
    for u in range(2 * units):
        grad_states[u] = grad_inputs[u]
    for u in range(units):
        grad_states[2 * units + u] = grad_inputs[2 * units + u] * gates[u]


@kernel
def _pass_by(gates, grad_h, outside):
    """Add to ``outside`` what reaches the state before past all products, by the update gate."""
    units = len(grad_h)
    z = gates[units : 2 * units]
    for u in range(units):
        outside[u] += grad_h[u] * z[u]
