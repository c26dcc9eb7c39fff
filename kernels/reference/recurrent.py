"""Recurrent layers as the papers write them: one sample, one step, one vector at a time.

Each backward walks the steps from last to first and adds up every step's part of the weights' gradients.
"""

from __future__ import annotations

import numpy as np

Arrays = tuple[np.ndarray, ...]


def rnn(
    x: np.ndarray, w_ih: np.ndarray, w_hh: np.ndarray, bias: np.ndarray, h0: np.ndarray, activation: str
) -> np.ndarray:
    """h_t = act(x_t @ w_ih + h_(t-1) @ w_hh + bias)."""
    samples, steps, _ = x.shape
    h = np.zeros((samples, steps + 1, h0.shape[1]))  # h[:, t] is the state before step t
    h[:, 0] = h0
    for n, t in np.ndindex(samples, steps):
        z = x[n, t] @ _wide(w_ih) + h[n, t] @ _wide(w_hh) + bias
        h[n, t + 1] = np.tanh(z) if activation == "tanh" else np.maximum(z, 0)
    return h[:, 1:].astype(x.dtype)


def rnn_backward(
    grad_hs: np.ndarray, x: np.ndarray, w_ih: np.ndarray, w_hh: np.ndarray, h0: np.ndarray, hs: np.ndarray,
    activation: str, needs: tuple[bool, ...],
) -> Arrays:  # fmt: skip
    """Gradients of :func:`rnn` in x, w_ih, w_hh, bias and h0."""
    grads = grad_x, grad_w_ih, grad_w_hh, grad_bias, grad_h0 = _zeros(x, w_ih, w_hh, w_ih[0], h0)
    for n in range(len(x)):
        for t in reversed(range(x.shape[1])):
            h, h_before = hs[n, t], hs[n, t - 1] if t else h0[n]
            grad_h = grad_hs[n, t] + grad_h0[n]
            grad_z = grad_h * (1 - h**2 if activation == "tanh" else h > 0)
            grad_x[n, t] = w_ih @ grad_z
            grad_w_ih += np.outer(x[n, t], grad_z)
            grad_w_hh += np.outer(h_before, grad_z)
            grad_bias += grad_z
            grad_h0[n] = w_hh @ grad_z
    return tuple(g.astype(x.dtype) for g in grads)


def lstm(
    x: np.ndarray, w_ih: np.ndarray, w_hh: np.ndarray, bias: np.ndarray, h0: np.ndarray, c0: np.ndarray
) -> Arrays:
    """c_t = f * c_(t-1) + i * g and h_t = o * tanh(c_t), the gates i f g o from x_t and h_(t-1)."""
    samples, steps, _ = x.shape
    h, c = (np.zeros((samples, steps + 1, h0.shape[1])) for _ in range(2))
    h[:, 0], c[:, 0] = h0, c0
    gates = np.zeros((samples, steps, w_ih.shape[1]))
    for n, t in np.ndindex(samples, steps):
        i, f, g, o = np.split(x[n, t] @ _wide(w_ih) + h[n, t] @ _wide(w_hh) + bias, 4)
        i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
        c[n, t + 1] = f * c[n, t] + i * g
        h[n, t + 1] = o * np.tanh(c[n, t + 1])
        gates[n, t] = np.concatenate([i, f, g, o])
    return h[:, 1:].astype(x.dtype), c[:, 1:].astype(x.dtype), gates.astype(x.dtype)


def lstm_backward(
    grad_hs: np.ndarray, grad_cs: np.ndarray, x: np.ndarray, w_ih: np.ndarray, w_hh: np.ndarray,
    h0: np.ndarray, c0: np.ndarray, hs: np.ndarray, cs: np.ndarray, gates: np.ndarray,
    needs: tuple[bool, ...],
) -> Arrays:  # fmt: skip
    """Gradients of :func:`lstm` in x, w_ih, w_hh, bias, h0 and c0."""
    grads = _zeros(x, w_ih, w_hh, w_ih[0], h0, c0)
    grad_x, grad_w_ih, grad_w_hh, grad_bias, grad_h0, grad_c0 = grads
    for n in range(len(x)):
        for t in reversed(range(x.shape[1])):
            h_before, c_before = (hs[n, t - 1], cs[n, t - 1]) if t else (h0[n], c0[n])
            i, f, g, o = np.split(_wide(gates[n, t]), 4)
            tanh_c = np.tanh(_wide(cs[n, t]))
            grad_h = grad_hs[n, t] + grad_h0[n]
            grad_c = grad_cs[n, t] + grad_c0[n] + grad_h * o * (1 - tanh_c**2)
            grad_z = np.concatenate(
                [
                    grad_c * g * i * (1 - i),
                    grad_c * c_before * f * (1 - f),
                    grad_c * i * (1 - g**2),
                    grad_h * tanh_c * o * (1 - o),
                ]
            )
            grad_x[n, t] = w_ih @ grad_z
            grad_w_ih += np.outer(x[n, t], grad_z)
            grad_w_hh += np.outer(h_before, grad_z)
            grad_bias += grad_z
            grad_h0[n] = w_hh @ grad_z
            grad_c0[n] = grad_c * f
    return tuple(g.astype(x.dtype) for g in grads)


def gru(
    x: np.ndarray,
    w_ih: np.ndarray,
    w_hh: np.ndarray,
    bias_ih: np.ndarray,
    bias_hh: np.ndarray,
    h0: np.ndarray,
) -> Arrays:
    """h_t = (1 - z) * n + z * h_(t-1), with n = tanh(x_n + r * h_n) and h_n the state's own product."""
    samples, steps, _ = x.shape
    h = np.zeros((samples, steps + 1, h0.shape[1]))
    h[:, 0] = h0
    gates = np.zeros((samples, steps, 4 * h0.shape[1]))
    for n, t in np.ndindex(samples, steps):
        x_r, x_z, x_n = np.split(x[n, t] @ _wide(w_ih) + bias_ih, 3)
        h_r, h_z, h_n = np.split(h[n, t] @ _wide(w_hh) + bias_hh, 3)
        r, z = _sigmoid(x_r + h_r), _sigmoid(x_z + h_z)
        new = np.tanh(x_n + r * h_n)
        h[n, t + 1] = (1 - z) * new + z * h[n, t]
        gates[n, t] = np.concatenate([r, z, new, h_n])
    return h[:, 1:].astype(x.dtype), gates.astype(x.dtype)


def gru_backward(
    grad_hs: np.ndarray, x: np.ndarray, w_ih: np.ndarray, w_hh: np.ndarray, h0: np.ndarray, hs: np.ndarray,
    gates: np.ndarray, needs: tuple[bool, ...],
) -> Arrays:  # fmt: skip
    """Gradients of :func:`gru` in x, w_ih, w_hh, bias_ih, bias_hh and h0."""
    grads = _zeros(x, w_ih, w_hh, w_ih[0], w_ih[0], h0)
    grad_x, grad_w_ih, grad_w_hh, grad_bias_ih, grad_bias_hh, grad_h0 = grads
    for n in range(len(x)):
        for t in reversed(range(x.shape[1])):
            h_before = hs[n, t - 1] if t else h0[n]
            r, z, new, h_n = np.split(_wide(gates[n, t]), 4)
            grad_h = grad_hs[n, t] + grad_h0[n]
            grad_new = grad_h * (1 - z) * (1 - new**2)
            grad_r = grad_new * h_n * r * (1 - r)
            grad_z = grad_h * (h_before - new) * z * (1 - z)
            from_x = np.concatenate([grad_r, grad_z, grad_new])
            from_h = np.concatenate([grad_r, grad_z, grad_new * r])
            grad_x[n, t] = w_ih @ from_x
            grad_w_ih += np.outer(x[n, t], from_x)
            grad_w_hh += np.outer(h_before, from_h)
            grad_bias_ih += from_x
            grad_bias_hh += from_h
            grad_h0[n] = grad_h * z + w_hh @ from_h
    return tuple(g.astype(x.dtype) for g in grads)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * np.tanh(0.5 * x) + 0.5  # 1 / (1 + exp(-x)) without overflow


def _wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64)


def _zeros(*likes: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(np.zeros(like.shape) for like in likes)
