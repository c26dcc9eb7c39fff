"""Recurrent layers over whole sequences (N, T, F); gates stand side by side along the last axis."""

from __future__ import annotations

from typing import Any

from tinynet import kernels
from tinynet.autograd import Op, is_recording
from tinynet.backend import array_module
from tinynet.errors import ShapeError, unknown_name
from tinynet.ops.checks import TensorLike, check_parameter, floats
from tinynet.tensor import Tensor


class Rnn(Op):
    """h_t = act(x_t @ weight_ih + h_(t-1) @ weight_hh + bias)."""

    def forward(self, x, weight_ih, weight_hh, bias, h0, *, activation, last):
        alone = last and not (is_recording() and any(self.needs))  # the others are for the backward
        self.hs = kernels.rnn(x, weight_ih, weight_hh, bias, h0, activation, alone)
        self.inputs, self.activation = (x, weight_ih, weight_hh, h0), activation
        return self.hs[:, -1] if last else self.hs

    def backward(self, grad):
        return kernels.rnn_backward(_steps(grad), *self.inputs, self.hs, self.activation, self.needs)


def rnn(
    x: TensorLike, weight_ih: TensorLike, weight_hh: TensorLike, bias: TensorLike,
    h0: TensorLike | None = None, *, activation: str = "tanh",
    last: bool = False,
) -> Tensor:  # fmt: skip
    """A simple recurrent layer (Elman 1990): h_t = act(x_t @ weight_ih + h_(t-1) @ weight_hh + bias).

    x (N, T, F), weight_ih (F, U), weight_hh (U, U), bias (U,), h0 (N, U) or None for zeros; ``activation``
    "tanh" or "relu". Returns all states h (N, T, U), or the ``last`` alone (N, U), whose backward is
    faster than that of ``h[:, -1]``. Raises :class:`ShapeError` naming what does not fit.
    """
    if activation not in ("tanh", "relu"):
        raise unknown_name("activation of rnn", activation, ("tanh", "relu"))
    parameters = _parameters("rnn", 1, x, weight_ih, weight_hh, bias)
    return Rnn.apply(*parameters, _state("rnn", h0, "h0", *parameters[:3]), activation=activation, last=last)


class Lstm(Op):
    """Four gates i f g o; c_t = f * c_(t-1) + i * g and h_t = o * tanh(c_t)."""

    def forward(self, x, weight_ih, weight_hh, bias, h0, c0, *, last):
        hs, cs, gates = kernels.lstm(x, weight_ih, weight_hh, bias, h0, c0)
        self.inputs, self.outputs = (x, weight_ih, weight_hh, h0, c0), (hs, cs, gates)
        return (hs[:, -1], cs[:, -1]) if last else (hs, cs)

    def backward(self, grad_hs, grad_cs):
        if grad_hs is None or grad_cs is None:  # an output that was not used
            none = array_module(self.outputs[0]).zeros_like(self.outputs[0][:, -1])
            grad_hs, grad_cs = (none if grad is None else grad for grad in (grad_hs, grad_cs))
        return kernels.lstm_backward(
            _steps(grad_hs), _steps(grad_cs), *self.inputs, *self.outputs, self.needs
        )


def lstm(
    x: TensorLike, weight_ih: TensorLike, weight_hh: TensorLike, bias: TensorLike,
    h0: TensorLike | None = None, c0: TensorLike | None = None, *, last: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    x (N, T, F), weight_ih (F, 4U), weight_hh (U, 4U), bias (4U,), h0 and c0 (N, U) or None for zeros. The
    gates stand in the order i f g o: i, f, o = sigmoid, g = tanh of x_t @ weight_ih + h_(t-1) @ weight_hh +
    bias; c_t = f * c_(t-1) + i * g; h_t = o * tanh(c_t). Returns all h and all c, both (N, T, U), or the
    ``last`` of both (N, U). Raises :class:`ShapeError` naming what does not fit.
    """
    parameters = _parameters("lstm", 4, x, weight_ih, weight_hh, bias)
    states = [_state("lstm", s, name, *parameters[:3]) for s, name in ((h0, "h0"), (c0, "c0"))]
    return Lstm.apply(*parameters, *states, last=last)


class Gru(Op):
    """Gates r z n; h_t = (1 - z) * n + z * h_(t-1)."""

    def forward(self, x, weight_ih, weight_hh, bias_ih, bias_hh, h0, *, last):
        self.hs, self.gates = kernels.gru(x, weight_ih, weight_hh, bias_ih, bias_hh, h0)
        self.inputs = (x, weight_ih, weight_hh, h0)
        return self.hs[:, -1] if last else self.hs

    def backward(self, grad):
        return kernels.gru_backward(_steps(grad), *self.inputs, self.hs, self.gates, self.needs)


def gru(
    x: TensorLike, weight_ih: TensorLike, weight_hh: TensorLike, bias_ih: TensorLike, bias_hh: TensorLike,
    h0: TensorLike | None = None, *, last: bool = False,
) -> Tensor:  # fmt: skip
    """Gated recurrent unit (Cho et al. 2014), with the reset gate after the product, as in PyTorch and Keras.

    x (N, T, F), weight_ih (F, 3U), weight_hh (U, 3U), bias_ih and bias_hh (3U,), h0 (N, U) or None for zeros.
    The gates stand in the order r z n: r, z = sigmoid(x_t @ W + b + h @ V + d), n = tanh(x_t @ W + b + r * (h
    @ V + d)), h_t = (1 - z) * n + z * h. Returns all h (N, T, U), or the ``last`` alone (N, U). Raises
    :class:`ShapeError` naming what does not fit.
    """
    parameters = _parameters("gru", 3, x, weight_ih, weight_hh, bias_ih, bias_hh)
    return Gru.apply(*parameters, _state("gru", h0, "h0", *parameters[:3]), last=last)


def _steps(grad: Any) -> Any:
    """The gradient of the last states (N, U) as that of one step (N, 1, U); that of all stays as it is."""
    return grad[:, None] if grad.ndim == 2 else grad


def _parameters(
    name: str, gates: int, x: TensorLike, weight_ih: TensorLike, weight_hh: TensorLike, *biases: TensorLike
) -> list[Tensor]:
    """All as tensors, after the checks of rank, features and gates."""
    x, weight_ih, weight_hh, *biases = (floats(t, name) for t in (x, weight_ih, weight_hh, *biases))  # type: ignore[assignment]
    _check_sequence(name, x.data.shape, weight_ih.data.shape)
    units = weight_hh.data.shape[0] if weight_hh.ndim else 0
    features, wide = x.data.shape[-1], gates * units
    check_parameter(weight_hh, (units, wide), "weight_hh", "{} with {} gate(s)", name, gates)
    per_step = "{} units of {} with {} features per step"
    check_parameter(weight_ih, (features, wide), "weight_ih", per_step, units, name, features)
    for bias, which in zip(biases, ("bias",) if len(biases) == 1 else ("bias_ih", "bias_hh")):
        check_parameter(bias, (wide,), which, "{} units of {}", units, name)
    return [x, weight_ih, weight_hh, *biases]


def _check_sequence(name: str, x: tuple[int, ...], weight_ih: tuple[int, ...]) -> None:
    if len(x) != 3:
        hint = " A single sequence? Use x[None]" if len(x) == 2 else ""
        raise ShapeError(f"{name} needs sequences of shape (N, steps, features), got {x}.{hint}")
    if x[1] == 0:
        raise ShapeError(f"{name} got x of shape {x}: sequences of no steps")
    if len(weight_ih) == 2 and x[-1] != weight_ih[0]:
        swapped = " Steps and features swapped? x.transpose(0, 2, 1)" if x[1] == weight_ih[0] else ""
        raise ShapeError(
            f"{name} got x of shape {x} with {x[-1]} features per step, but weight_ih of shape {weight_ih} "
            f"takes {weight_ih[0]}.{swapped}"
        )


def _state(
    name: str, state: TensorLike | None, what: str, x: Tensor, weight_ih: Tensor, weight_hh: Tensor
) -> Tensor:
    shape = (x.data.shape[0], weight_hh.data.shape[0])
    if state is None:
        return Tensor(array_module(x.data).zeros(shape, x.data.dtype))
    state = floats(state, name, like=x)
    check_parameter(state, shape, what, "{} sequences and {} units of {}", *shape, name)
    return state
