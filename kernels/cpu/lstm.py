"""Long short-term memory in float32; see recurrent.py for how samples and steps are walked."""

from __future__ import annotations

import numpy as np

from tinynet.kernels import arrays
from tinynet.kernels.cpu.elementwise import sigmoid, tanh
from tinynet.kernels.cpu.jit import contiguous, inner_kernel, kernel
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


def lstm(
    x: np.ndarray, w_ih: np.ndarray, w_hh: np.ndarray, bias: np.ndarray, h0: np.ndarray, c0: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Long short-term memory (Hochreiter and Schmidhuber 1997), gates i f g o."""
    if not is_plain(x, w_ih, w_hh, bias, h0, c0):
        return arrays.lstm(x, w_ih, w_hh, bias, h0, c0)
    steps, columns = x.shape[1], w_ih.shape[1]
    gates = np.empty((steps, len(x), columns), f4)
    hs, cs = np.empty((steps, *h0.shape), f4), np.empty((steps, *c0.shape), f4)
    _lstm(
        *steps_in_line(x), stacked(w_ih, w_hh), contiguous(bias), contiguous(h0), h0.any(), contiguous(c0),
        gates, hs, cs, *tiles(len(x), columns),
    )  # fmt: skip
    return hs.swapaxes(0, 1), cs.swapaxes(0, 1), gates.swapaxes(0, 1)


@kernel
def _lstm(x, sample, step, weight, bias, h0, begun, c0, gates, hs, cs, height, table, bands):
    share(
        bands, lstm_walk,
        (x, sample, step, weight, bias, h0, begun, c0, gates, hs, cs, height, table, bands),
    )  # fmt: skip


@inner_kernel
def lstm_walk(band, x, sample, step, weight, bias, h0, begun, c0, gates, hs, cs, height, table, bands):
    """Gates and states of one band of samples, step by step; ``begun`` as in rnn_walk."""
    i, j = band_of(band, bands, height, len(h0))
    wide, columns = weight.shape
    features, c = wide - hs.shape[2], c0
    rows = rows_of(h0, i, j, features)
    for t in range(len(hs)):
        read(x, i * sample + t * step, sample, features, rows)
        add_product(
            address_of(rows), wide, wide if t or begun else features, address_of(weight), address_of(bias), 0,
            place(gates, t, i), columns, j - i, height, table,
        )  # fmt: skip
        for n in range(i, j):
            _lstm_gates(gates[t, n])
            _lstm_state(gates[t, n], c[n], cs[t, n], hs[t, n])
            remember(hs[t, n], rows[n - i])
        c = cs[t]


@inner_kernel
def _lstm_gates(gates):
    units = len(gates) // 4
    i_f, g, o = gates[: 2 * units], gates[2 * units : 3 * units], gates[3 * units :]
    for u in range(2 * units):
        i_f[u] = sigmoid(i_f[u])
    for u in range(units):
        g[u] = tanh(g[u])
    for u in range(units):
        o[u] = sigmoid(o[u])


@inner_kernel
def _lstm_state(gates, c_before, c, h):
    units = len(h)
    i, f, g, o = gates[:units], gates[units : 2 * units], gates[2 * units : 3 * units], gates[3 * units :]
    for u in range(units):
        c[u] = f[u] * c_before[u] + i[u] * g[u]
    for u in range(units):
        h[u] = o[u] * tanh(c[u])


def lstm_backward(
    grad_hs: np.ndarray, grad_cs: np.ndarray, x: np.ndarray, w_ih: np.ndarray, w_hh: np.ndarray,
    h0: np.ndarray, c0: np.ndarray, hs: np.ndarray, cs: np.ndarray, gates: np.ndarray,
    needs: tuple[bool, ...],
) -> tuple[np.ndarray | None, ...]:  # fmt: skip
    """Gradients of :func:`lstm` in x, w_ih, w_hh, bias, h0 and c0."""
    if not is_plain(x, grad_hs, grad_cs, w_ih, w_hh, h0, c0, hs, cs, gates):
        grads = all_steps(grad_hs, hs), all_steps(grad_cs, cs)
        return arrays.lstm_backward(*grads, x, w_ih, w_hh, h0, c0, hs, cs, gates, needs)
    hs, cs, gates = time_major(hs), time_major(cs), time_major(gates)
    grad, grad_h, grad_c = np.empty(gates.shape, f4), grad_hs[:, -1].copy(), grad_cs[:, -1].copy()
    _lstm_backward(
        *outside_in_line(grad_hs, len(hs)), *outside_in_line(grad_cs, len(cs)), gates, contiguous(c0), cs,
        grad, grad_h, grad_c, weight_in_line(w_hh.T), *tiles(*h0.shape),
    )  # fmt: skip
    grad_x, grad_w_ih, grad_bias = project_grad(grad, x, w_ih, needs)
    return grad_x, grad_w_ih, state_weight_grad(h0, hs, grad), grad_bias, grad_h, grad_c


@kernel
def _lstm_backward(
    grad_hs, h_sample, h_step, grad_cs, c_sample, c_step, gates, c0, cs, grad, grad_h, grad_c, weight,
    height, table, bands,
):  # fmt: skip
    share(
        bands, lstm_walk_back,
        (grad_hs, h_sample, h_step, grad_cs, c_sample, c_step, gates, c0, cs, grad, grad_h, grad_c,
        weight, height, table, bands),
    )  # fmt: skip


@inner_kernel
def lstm_walk_back(
    band, grad_hs, h_sample, h_step, grad_cs, c_sample, c_step, gates, c0, cs, grad, grad_h, grad_c,
    weight, height, table, bands,
):  # fmt: skip
    """From the gradients of the states to those of the sums under the gates, for one band of samples."""
    i, j = band_of(band, bands, height, len(c0))
    units = cs.shape[2]
    some, nothing = address_of(grad_h) + 4 * i * units, np.zeros(units, f4)
    for t in range(len(cs) - 1, -1, -1):
        before = cs[t - 1] if t else c0
        for n in range(i, j):
            _lstm_output_grad(gates[t, n], cs[t, n], grad_h[n], grad_c[n], grad[t, n])
            _lstm_state_grad(gates[t, n], before[n], grad_c[n], grad[t, n])
            at = n * c_sample + (t - 1) * c_step
            _forget(gates[t, n], grad_cs[at : at + units] if t else nothing, grad_c[n])
        start = address_of(grad_hs) + 4 * (i * h_sample + (t - 1) * h_step) if t else address_of(nothing)
        add_product(
            place(grad, t, i), 4 * units, 4 * units, address_of(weight), start, h_sample if t else 0, some,
            units, j - i, height, table,
        )  # fmt: skip


@inner_kernel
def _lstm_output_grad(gates, c, grad_h, grad_c, grad):
    """Through h = o * tanh(c): the gradient of o, and more for c."""
    units = len(c)
    o, grad_o = gates[3 * units :], grad[3 * units :]
    tanh_c = grad_o  # for the time being
    for u in range(units):
        tanh_c[u] = tanh(c[u])
    for u in range(units):
        grad_c[u] += grad_h[u] * o[u] * (f4(1) - tanh_c[u] * tanh_c[u])
    for u in range(units):
        grad_o[u] = grad_h[u] * tanh_c[u] * o[u] * (f4(1) - o[u])


@inner_kernel
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


@inner_kernel
def _forget(gates, outside, grad_c):
    """From the gradient of c to that of c_before."""
    units = len(grad_c)
    f = gates[units : 2 * units]
    for u in range(units):
        grad_c[u] = grad_c[u] * f[u] + outside[u]
