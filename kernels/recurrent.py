"""Recurrent layers as the rest of tinynet calls them, with help for the rooms that know no short cuts.

x (N, T, F), h (N, U); gates side by side along the last axis. Often only the last state is looked at, and
only it has a gradient. A room with ``TAKES_LAST_ALONE`` makes use of that; the others get whole arrays.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from tinynet.kernels.rooms import room_of

Array = Any


def rnn(
    x: Array, w_ih: Array, w_hh: Array, bias: Array, h0: Array, activation: str, last: bool = False
) -> Array:
    """h_t = act(x_t @ w_ih + h_(t-1) @ w_hh + bias), act "tanh" or "relu".

    w_ih (F, U), w_hh (U, U), bias (U,), h0 (N, U). Returns all h (N, T, U), or the ``last`` alone (N, 1, U).
    """
    room = room_of(x)
    if last and takes_last_alone(room):
        return room.rnn(x, w_ih, w_hh, bias, h0, activation, last)
    hs = room.rnn(x, w_ih, w_hh, bias, h0, activation)
    return hs[:, -1:] if last else hs


def rnn_backward(
    grad_hs: Array, x: Array, w_ih: Array, w_hh: Array, h0: Array, hs: Array, activation: str,
    needs: tuple[bool, ...],
) -> tuple[Array | None, ...]:  # fmt: skip
    """Gradients of :func:`rnn` in x, w_ih, w_hh, bias and h0.

    grad_hs (N, T, U), or (N, 1, U) if only the last state has a gradient. Of what ``needs`` (one entry per
    gradient) does not ask for, a room may return None.
    """
    room = room_of(x)
    return room.rnn_backward(steps_for(room, grad_hs, hs), x, w_ih, w_hh, h0, hs, activation, needs)


def lstm(x: Array, w_ih: Array, w_hh: Array, bias: Array, h0: Array, c0: Array) -> tuple[Array, Array, Array]:
    """Long short-term memory; gate order i f g o along the last axis.

    w_ih (F, 4U), w_hh (U, 4U), bias (4U,), h0 and c0 (N, U).
    Returns h (N, T, U), c (N, T, U) and the activated gates (N, T, 4U) that the backward needs.
    """
    return room_of(x).lstm(x, w_ih, w_hh, bias, h0, c0)


def lstm_backward(
    grad_hs: Array, grad_cs: Array, x: Array, w_ih: Array, w_hh: Array, h0: Array, c0: Array,
    hs: Array, cs: Array, gates: Array, needs: tuple[bool, ...],
) -> tuple[Array | None, ...]:  # fmt: skip
    """Gradients of :func:`lstm` in x, w_ih, w_hh, bias, h0 and c0.

    grad_hs, grad_cs and ``needs`` as in :func:`rnn_backward`.
    """
    room = room_of(x)
    grads = steps_for(room, grad_hs, hs), steps_for(room, grad_cs, cs)
    return room.lstm_backward(*grads, x, w_ih, w_hh, h0, c0, hs, cs, gates, needs)


def gru(x: Array, w_ih: Array, w_hh: Array, bias_ih: Array, bias_hh: Array, h0: Array) -> tuple[Array, Array]:
    """Gated recurrent unit, gate order r z n; the reset gate acts after the product (PyTorch, cuDNN).

    n = tanh(x @ W_n + b_n + r * (h @ U_n + c_n)), h' = (1 - z) * n + z * h. w_ih (F, 3U), w_hh (U, 3U),
    biases (3U,). Returns h (N, T, U) and what the backward needs (N, T, 4U): r, z, n, h @ U_n + c_n.
    """
    return room_of(x).gru(x, w_ih, w_hh, bias_ih, bias_hh, h0)


def gru_backward(
    grad_hs: Array, x: Array, w_ih: Array, w_hh: Array, h0: Array, hs: Array, gates: Array,
    needs: tuple[bool, ...],
) -> tuple[Array | None, ...]:  # fmt: skip
    """Gradients of :func:`gru` in x, w_ih, w_hh, bias_ih, bias_hh and h0; arguments as in rnn_backward."""
    room = room_of(x)
    return room.gru_backward(steps_for(room, grad_hs, hs), x, w_ih, w_hh, h0, hs, gates, needs)


# --- the last state alone ---


def steps_for(room: ModuleType, grad: Array, states: Array) -> Array:
    """``grad`` (N, T, U) or (N, 1, U), in the form that the room takes: only some take the short one."""
    return grad if takes_last_alone(room) else all_steps(grad, states)


def takes_last_alone(room: ModuleType) -> bool:
    """Whether the room can make do with the last state alone, and with its gradient."""
    return getattr(room, "TAKES_LAST_ALONE", False)


def all_steps(grad: Array, states: Array) -> Array:
    """``grad`` (N, T, U), or that of the last of T ``states`` (N, 1, U) with zeros for those before it."""
    if grad.shape[1] == states.shape[1]:
        return grad
    whole = np.zeros_like(states, dtype=grad.dtype)  # on a GPU it is made there
    whole[:, -1:] = grad
    return whole
