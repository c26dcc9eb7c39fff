"""Gated recurrent unit in float32; see recurrent.py for how samples and steps are walked."""

from __future__ import annotations

import numpy as np

from tinynet.kernels import arrays
from tinynet.kernels.cpu.elementwise import sigmoid, tanh
from tinynet.kernels.cpu.jit import contiguous, inner_kernel, kernel
from tinynet.kernels.cpu.matmul import bias_grad
from tinynet.kernels.cpu.microkernel import address_of
from tinynet.kernels.cpu.recurrent import (
    add_product,
    band_of,
    is_plain,
    outside_in_line,
    place,
    project_grad,
    read,
    remember,
    rows_of,
    stacked,
    state_weight_grad,
    steps_in_line,
    tiles,
    time_major,
    weight_in_line,
)
from tinynet.kernels.cpu.threads import share
from tinynet.kernels.recurrent import all_steps

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
    steps = x.shape[1]
    hs, gates = np.empty((steps, *h0.shape), f4), np.empty((steps, len(h0), 4 * h0.shape[1]), f4)
    _gru(
        *steps_in_line(x), stacked(w_ih, w_hh), contiguous(bias_ih), contiguous(bias_hh), contiguous(h0),
        h0.any(), gates, hs, *tiles(len(x), w_ih.shape[1]),
    )  # fmt: skip
    return hs.swapaxes(0, 1), gates.swapaxes(0, 1)


@kernel
def _gru(x, sample, step, weight, bias_ih, bias_hh, h0, begun, gates, hs, height, table, bands):
    share(
        bands, gru_walk,
        (x, sample, step, weight, bias_ih, bias_hh, h0, begun, gates, hs, height, table, bands),
    )  # fmt: skip


@inner_kernel
def gru_walk(band, x, sample, step, weight, bias_ih, bias_hh, h0, begun, gates, hs, height, table, bands):
    """Gates and states of one band of samples, step by step; ``begun`` as in rnn_walk."""
    i, j = band_of(band, bands, height, len(h0))
    units, (wide, columns) = hs.shape[2], weight.shape
    features = wide - units
    rows, sums = rows_of(h0, i, j, features), np.empty((2, j - i, columns), f4)
    inputs, product = sums[0], sums[1]
    at, below = address_of(rows), address_of(weight) + 4 * features * columns
    for t in range(len(hs)):
        read(x, i * sample + t * step, sample, features, rows)
        add_product(
            at, wide, features, address_of(weight), address_of(bias_ih), 0, address_of(inputs), columns,
            j - i, height, table,
        )  # fmt: skip
        add_product(
            at + 4 * features, wide, units if t or begun else 0, below, address_of(bias_hh), 0,
            address_of(product), columns, j - i, height, table,
        )  # fmt: skip
        for n in range(i, j):
            _gru_gates(inputs[n - i], product[n - i], gates[t, n])
            _gru_state(gates[t, n], rows[n - i, features:], hs[t, n])
            remember(hs[t, n], rows[n - i])


@inner_kernel
def _gru_gates(inputs, product, gates):
    """r, z, the candidate n and, behind it, what the reset gate was multiplied with."""
    units = len(gates) // 4
    for u in range(2 * units):
        gates[u] = sigmoid(inputs[u] + product[u])
    r, n, h_n = gates[:units], gates[2 * units : 3 * units], gates[3 * units :]
    x_n, p_n = inputs[2 * units :], product[2 * units :]
    for u in range(units):
        h_n[u] = p_n[u]
    for u in range(units):
        n[u] = tanh(x_n[u] + r[u] * p_n[u])


@inner_kernel
def _gru_state(gates, h_before, h):
    units = len(h)
    z, n = gates[units : 2 * units], gates[2 * units : 3 * units]
    for u in range(units):
        h[u] = (f4(1) - z[u]) * n[u] + z[u] * h_before[u]


def gru_backward(
    grad_hs: np.ndarray, x: np.ndarray, w_ih: np.ndarray, w_hh: np.ndarray, h0: np.ndarray, hs: np.ndarray,
    gates: np.ndarray, needs: tuple[bool, ...],
) -> tuple[np.ndarray | None, ...]:  # fmt: skip
    """Gradients of :func:`gru` in x, w_ih, w_hh, bias_ih, bias_hh and h0."""
    if not is_plain(x, grad_hs, w_ih, w_hh, h0, hs, gates):
        return arrays.gru_backward(all_steps(grad_hs, hs), x, w_ih, w_hh, h0, hs, gates, needs)
    hs, gates = time_major(hs), time_major(gates)
    grad_inputs = np.empty((*hs.shape[:2], w_ih.shape[1]), f4)  # of x @ w_ih + bias_ih
    grad_states = np.empty_like(grad_inputs)  # of h @ w_hh + bias_hh: they differ in n, by the reset gate
    grad_h = grad_hs[:, -1].copy()
    _gru_backward(
        *outside_in_line(grad_hs, len(hs)), gates, contiguous(h0), hs, grad_inputs, grad_states, grad_h,
        weight_in_line(w_hh.T), *tiles(*h0.shape),
    )  # fmt: skip
    grad_x, grad_w_ih, grad_bias_ih = project_grad(grad_inputs, x, w_ih, needs)
    grad_w_hh = state_weight_grad(h0, hs, grad_states)
    return grad_x, grad_w_ih, grad_w_hh, grad_bias_ih, bias_grad(grad_states), grad_h


@kernel
def _gru_backward(
    outside, sample, step, gates, h0, hs, grad_inputs, grad_states, grad_h, weight, height, table, bands,
):  # fmt: skip
    share(
        bands, gru_walk_back,
        (outside, sample, step, gates, h0, hs, grad_inputs, grad_states, grad_h, weight, height, table,
        bands),
    )  # fmt: skip


@inner_kernel
def gru_walk_back(
    band, outside, sample, step, gates, h0, hs, grad_inputs, grad_states, grad_h, weight, height, table,
    bands,
):  # fmt: skip
    """From the gradients of the states to those of the sums under the gates, for one band of samples."""
    i, j = band_of(band, bands, height, len(h0))
    units = hs.shape[2]
    some, nothing = address_of(grad_h) + 4 * i * units, np.zeros(units, f4)
    for t in range(len(hs) - 1, -1, -1):
        before = hs[t - 1] if t else h0
        for n in range(i, j):
            _gru_gate_grads(gates[t, n], before[n], grad_h[n], grad_inputs[t, n])
            _gru_state_grads(gates[t, n], grad_inputs[t, n], grad_states[t, n])
            at = n * sample + (t - 1) * step
            _pass_by(gates[t, n], grad_h[n], outside[at : at + units] if t else nothing)
        add_product(
            place(grad_states, t, i), 3 * units, 3 * units, address_of(weight), some, units, some, units,
            j - i, height, table,
        )  # fmt: skip


@inner_kernel
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


@inner_kernel
def _gru_state_grads(gates, grad_inputs, grad_states):
    units = len(gates) // 4
    for u in range(2 * units):
        grad_states[u] = grad_inputs[u]
    for u in range(units):
        grad_states[2 * units + u] = grad_inputs[2 * units + u] * gates[u]


@inner_kernel
def _pass_by(gates, grad_h, outside):
    """What reaches the state before past all products, by the update gate and from outside."""
    units = len(grad_h)
    z = gates[units : 2 * units]
    for u in range(units):
        grad_h[u] = grad_h[u] * z[u] + outside[u]
