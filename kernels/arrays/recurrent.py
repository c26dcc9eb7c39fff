"""Recurrent layers: a loop over time, the whole batch at once.

What does not depend on the state is one large product outside of the loop: the inputs times w_ih before
it, the gradients of x and of the weights after it.
"""

from __future__ import annotations

from tinynet.kernels.arrays._library import Array, wide_sum, xp_of


def rnn(x: Array, w_ih: Array, w_hh: Array, bias: Array, h0: Array, activation: str) -> Array:
    """Simple recurrent layer: h = act(x @ w_ih + h @ w_hh + bias)."""
    xp = xp_of(x)
    pre = _project(x, w_ih, bias)  # (N, T, U)
    hs, h = xp.empty_like(pre), h0
    for t in range(x.shape[1]):
        z = pre[:, t] + h @ w_hh
        hs[:, t] = h = xp.tanh(z) if activation == "tanh" else xp.maximum(z, 0)
    return hs


def rnn_backward(
    grad_hs: Array, x: Array, w_ih: Array, w_hh: Array, h0: Array, hs: Array, activation: str,
    needs: tuple[bool, ...],
) -> tuple[Array | None, ...]:  # fmt: skip
    """Gradients of :func:`rnn` in x, w_ih, w_hh, bias and h0."""
    xp = xp_of(x)
    slope = 1 - hs * hs if activation == "tanh" else (hs > 0).astype(hs.dtype)
    grad_pre, grad_h = xp.empty_like(hs), xp.zeros_like(h0)
    for t in reversed(range(x.shape[1])):
        grad_pre[:, t] = (grad_hs[:, t] + grad_h) * slope[:, t]
        grad_h = grad_pre[:, t] @ w_hh.T
    grad_x, grad_w_ih, grad_bias = _project_grad(grad_pre, x, w_ih, needs)
    return grad_x, grad_w_ih, _outer(_previous(h0, hs), grad_pre), grad_bias, grad_h


def lstm(x: Array, w_ih: Array, w_hh: Array, bias: Array, h0: Array, c0: Array) -> tuple[Array, Array, Array]:
    """Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000)."""
    xp = xp_of(x)
    gates = _project(x, w_ih, bias)  # (N, T, 4U): i f g o, activated in place
    hs = xp.empty((*x.shape[:2], h0.shape[1]), x.dtype)
    cs, h, c = xp.empty_like(hs), h0, c0
    for t in range(x.shape[1]):
        gates[:, t] += h @ w_hh
        i, f, g, o = xp.split(gates[:, t], 4, axis=-1)  # views
        i[:], f[:], g[:], o[:] = _sigmoid(i), _sigmoid(f), xp.tanh(g), _sigmoid(o)
        cs[:, t] = c = f * c + i * g
        hs[:, t] = h = o * xp.tanh(c)
    return hs, cs, gates


def lstm_backward(
    grad_hs: Array, grad_cs: Array, x: Array, w_ih: Array, w_hh: Array, h0: Array, c0: Array,
    hs: Array, cs: Array, gates: Array, needs: tuple[bool, ...],
) -> tuple[Array | None, ...]:  # fmt: skip
    """Gradients of :func:`lstm` in x, w_ih, w_hh, bias, h0 and c0."""
    xp = xp_of(x)
    grad_pre, grad_h, grad_c = xp.empty_like(gates), xp.zeros_like(h0), xp.zeros_like(c0)
    c_before = _previous(c0, cs)
    for t in reversed(range(x.shape[1])):
        i, f, g, o = xp.split(gates[:, t], 4, axis=-1)
        tanh_c = xp.tanh(cs[:, t])
        grad_h = grad_h + grad_hs[:, t]
        grad_c = grad_c + grad_cs[:, t] + grad_h * o * (1 - tanh_c * tanh_c)
        di, df, dg, do = xp.split(grad_pre[:, t], 4, axis=-1)
        di[:] = grad_c * g * i * (1 - i)
        df[:] = grad_c * c_before[:, t] * f * (1 - f)
        dg[:] = grad_c * i * (1 - g * g)
        do[:] = grad_h * tanh_c * o * (1 - o)
        grad_h, grad_c = grad_pre[:, t] @ w_hh.T, grad_c * f
    grad_x, grad_w_ih, grad_bias = _project_grad(grad_pre, x, w_ih, needs)
    return grad_x, grad_w_ih, _outer(_previous(h0, hs), grad_pre), grad_bias, grad_h, grad_c


def gru(x: Array, w_ih: Array, w_hh: Array, bias_ih: Array, bias_hh: Array, h0: Array) -> tuple[Array, Array]:
    """Gated recurrent unit (Cho et al. 2014), the reset gate after the product."""
    xp = xp_of(x)
    units = h0.shape[1]
    inputs = _project(x, w_ih, bias_ih)  # (N, T, 3U): r z n
    gates = xp.empty((*x.shape[:2], 4 * units), x.dtype)
    hs, h = xp.empty((*x.shape[:2], units), x.dtype), h0
    for t in range(x.shape[1]):
        x_r, x_z, x_n = xp.split(inputs[:, t], 3, axis=-1)
        h_r, h_z, h_n = xp.split(h @ w_hh + bias_hh, 3, axis=-1)
        r, z = _sigmoid(x_r + h_r), _sigmoid(x_z + h_z)
        n = xp.tanh(x_n + r * h_n)
        hs[:, t] = h = (1 - z) * n + z * h
        gates[:, t] = xp.concatenate([r, z, n, h_n], axis=-1)
    return hs, gates


def gru_backward(
    grad_hs: Array, x: Array, w_ih: Array, w_hh: Array, h0: Array, hs: Array, gates: Array,
    needs: tuple[bool, ...],
) -> tuple[Array | None, ...]:  # fmt: skip
    """Gradients of :func:`gru` in x, w_ih, w_hh, bias_ih, bias_hh and h0."""
    xp = xp_of(x)
    h_before, grad_h = _previous(h0, hs), xp.zeros_like(h0)
    grad_inputs = xp.empty((*x.shape[:2], 3 * h0.shape[1]), x.dtype)  # of x @ w_ih + bias_ih
    grad_states = xp.empty_like(grad_inputs)  # of h @ w_hh + bias_hh: they differ in n, by the reset gate
    for t in reversed(range(x.shape[1])):
        r, z, n, h_n = xp.split(gates[:, t], 4, axis=-1)
        grad_h = grad_h + grad_hs[:, t]
        dn = grad_h * (1 - z) * (1 - n * n)
        dr = dn * h_n * r * (1 - r)
        dz = grad_h * (h_before[:, t] - n) * z * (1 - z)
        grad_inputs[:, t] = xp.concatenate([dr, dz, dn], axis=-1)
        grad_states[:, t] = xp.concatenate([dr, dz, dn * r], axis=-1)
        grad_h = grad_h * z + grad_states[:, t] @ w_hh.T
    grad_x, grad_w_ih, grad_bias_ih = _project_grad(grad_inputs, x, w_ih, needs)
    grad_bias_hh = wide_sum(_rows(grad_states), 0)
    return grad_x, grad_w_ih, _outer(h_before, grad_states), grad_bias_ih, grad_bias_hh, grad_h


def _sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), written so that nothing overflows."""
    return 0.5 * xp_of(x).tanh(0.5 * x) + 0.5


def _rows(x: Array) -> Array:
    """A sequence (N, T, F) as the rows of a matrix (N * T, F)."""
    n, t, f = x.shape
    return x.reshape(n * t, f)


def _project(x: Array, w_ih: Array, bias: Array) -> Array:
    """x @ w_ih + bias for all steps in one product: (N, T, F) to (N, T, gates * U)."""
    return (_rows(x) @ w_ih + bias).reshape(*x.shape[:2], w_ih.shape[1])


def _project_grad(
    grad: Array, x: Array, w_ih: Array, needs: tuple[bool, ...]
) -> tuple[Array | None, Array, Array]:
    """Gradients of :func:`_project` in x (if needs[0]), w_ih and bias."""
    grad_x = (_rows(grad) @ w_ih.T).reshape(x.shape) if needs[0] else None
    return grad_x, _outer(x, grad), wide_sum(_rows(grad), 0)


def _outer(a: Array, b: Array) -> Array:
    """Sum of the outer products of all steps of all samples, as one product: (F, U)."""
    return _rows(a).T @ _rows(b)


def _previous(first: Array, states: Array) -> Array:
    """The state before each step: ``first``, then all of ``states`` (N, T, U) but the last."""
    return xp_of(states).concatenate([first[:, None], states], axis=1)[:, :-1]
