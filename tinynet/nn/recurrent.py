"""Recurrent layers over sequences (N, T, F): simple, LSTM and GRU, in one or both directions."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet import ops
from tinynet.errors import unknown_name
from tinynet.nn.checks import whole
from tinynet.nn.init import Initializer, draw, zeros
from tinynet.nn.init import get as get_init
from tinynet.nn.layer import Drawn, Layer
from tinynet.nn.parameter import Parameter
from tinynet.tensor import Tensor

States = tuple[Tensor | None, ...]


class _Recurrent(Layer):
    """What the three cells share. ``gates`` stand side by side in the weights, each initialised by itself."""

    ndim, axes = 3, "(N, T, F)"
    first = "weight_ih"
    gates = 1
    biases: tuple[str, ...] = ("bias",)
    _right_call = "{1}, in_features={0}"

    def __init__(
        self,
        units: int,
        *,
        return_sequences: bool = False,
        return_state: bool = False,
        bidirectional: bool = False,
        in_features: int | None = None,
        init: str | Initializer = "glorot_uniform",
        recurrent_init: str | Initializer = "orthogonal",
    ):
        self.units = whole(units, "units")
        self.return_sequences, self.return_state = return_sequences, return_state
        self.bidirectional = bidirectional
        self.init, self.recurrent_init = get_init(init), get_init(recurrent_init)
        for end in self._directions():
            for name in ("weight_ih", "weight_hh", *self.biases):
                setattr(self, name + end, Parameter())
        self.size(in_features)

    @property
    def in_features(self) -> int | None:
        """Number of features of each step; None as long as no data were seen."""
        return self._features

    def _directions(self) -> tuple[str, ...]:
        return ("", "_reverse") if self.bidirectional else ("",)

    def shapes(self, features: int) -> Drawn:
        drawn: Drawn = {}
        columns = self.gates * self.units
        for end in self._directions():
            drawn["weight_ih" + end] = (self._per_gate(self.init), (features, columns))
            drawn["weight_hh" + end] = (self._per_gate(self.recurrent_init), (self.units, columns))
            drawn |= {name + end: (self._draw_bias, (columns,)) for name in self.biases}
        return drawn

    def _per_gate(self, init: Initializer) -> Initializer:
        def draw_all(shape: tuple[int, ...]) -> np.ndarray:
            one = (shape[0], shape[1] // self.gates)
            return np.concatenate([draw(init, one) for _ in range(self.gates)], axis=1)

        return draw_all

    def _draw_bias(self, shape: tuple[int, ...]) -> np.ndarray:
        return zeros(shape)

    def scan(self, x: Tensor, weights: list[Tensor], states: States, last: bool) -> tuple[Tensor, ...]:
        """The states at all steps, each (N, T, U), or the last ones (N, U); the output first."""
        raise TypeError(f"{type(self).__name__} defines no scan")

    def _run(self, x: Tensor, *states: Tensor | None) -> Any:
        """Both directions, and what the user asked to have returned."""
        halves = self._split(states)
        only_last = not self.return_sequences
        sequences = [self.scan(x, self._weights(""), halves[0], only_last)]
        if self.bidirectional:
            sequences.append(self.scan(ops.flip(x, 1), self._weights("_reverse"), halves[1], only_last))
        ends = sequences if only_last else [tuple(s[:, -1] for s in kinds) for kinds in sequences]
        last = tuple(_side_by_side(list(kind)) for kind in zip(*ends))
        output = last[0]
        if self.return_sequences:
            output = _side_by_side([sequences[0][0], *(ops.flip(s[0], 1) for s in sequences[1:])])
        return (output, *last) if self.return_state else output

    def _weights(self, end: str) -> list[Tensor]:
        return [getattr(self, name + end) for name in ("weight_ih", "weight_hh", *self.biases)]

    def _split(self, states: States) -> list[States]:
        """The states (N, 2U) of both directions apart."""
        if not self.bidirectional:
            return [states]
        pairs = [(None, None) if s is None else ops.split(s, 2, -1) for s in states]
        return [tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)]

    def multiply_adds(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> int:
        return in_shape[0] * sum(p.size for p in self._own_parameters() if p.ndim == 2)


def _side_by_side(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else ops.concat(parts, axis=-1)


class SimpleRNN(_Recurrent):
    """h_t = tanh(x_t @ weight_ih + h_(t-1) @ weight_hh + bias): (N, T, F) to the last h (N, units).

    ``weight_ih`` (F, units), ``weight_hh`` (units, units) orthogonal at first, ``bias`` (units,).

    * ``activation`` is "tanh" or "relu".
    * ``return_sequences`` gives all h (N, T, units) instead of the last one.
    * ``return_state`` gives (output, last h), and ``layer(x, h0)`` starts from a state.
    * ``bidirectional`` also reads backwards, with parameters ``..._reverse`` of its own; outputs and states
      of both directions stand side by side: (..., 2 * units).
    """

    def __init__(self, units: int, *, activation: str = "tanh", **settings: Any):
        if activation not in ("tanh", "relu"):
            raise unknown_name("activation", activation, ("tanh", "relu"))
        self.activation = activation
        super().__init__(units, **settings)

    def run(self, x: Tensor, h0: Tensor | None = None) -> Any:
        return self._run(x, h0)

    def scan(self, x: Tensor, weights: list[Tensor], states: States, last: bool) -> tuple[Tensor, ...]:
        return (ops.rnn(x, *weights, *states, activation=self.activation, last=last),)


class LSTM(_Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997): (N, T, F) to the last h (N, units).

    Gates in the order i f g o: c_t = f c_(t-1) + i g, h_t = o tanh(c_t). ``weight_ih`` (F, 4 units),
    ``weight_hh`` (units, 4 units) orthogonal per gate at first, ``bias`` (4 units,): zero, but 1 for the
    forget gate, so that a new cell remembers (Jozefowicz et al. 2015). Arguments as :class:`SimpleRNN`; with
    ``return_state`` the result is (output, last h, last c), and ``layer(x, h0, c0)`` starts from states.
    """

    gates = 4

    def _draw_bias(self, shape: tuple[int, ...]) -> np.ndarray:
        bias = zeros(shape)
        bias[self.units : 2 * self.units] = 1
        return bias

    def run(self, x: Tensor, h0: Tensor | None = None, c0: Tensor | None = None) -> Any:
        return self._run(x, h0, c0)

    def scan(self, x: Tensor, weights: list[Tensor], states: States, last: bool) -> tuple[Tensor, ...]:
        return ops.lstm(x, *weights, *states, last=last)


class GRU(_Recurrent):
    """Gated recurrent unit (Cho et al. 2014): (N, T, F) to the last h (N, units).

    Gates in the order r z n, the reset gate acts after the product: n = tanh(x W_n + b_n + r (h U_n + c_n)),
    h' = (1 - z) n + z h. ``weight_ih`` (F, 3 units), ``weight_hh`` (units, 3 units) orthogonal per gate at
    first, ``bias_ih`` and ``bias_hh`` (3 units,). Arguments as :class:`SimpleRNN`.
    """

    gates = 3
    biases = ("bias_ih", "bias_hh")

    def run(self, x: Tensor, h0: Tensor | None = None) -> Any:
        return self._run(x, h0)

    def scan(self, x: Tensor, weights: list[Tensor], states: States, last: bool) -> tuple[Tensor, ...]:
        return (ops.gru(x, *weights, *states, last=last),)
