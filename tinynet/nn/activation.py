"""Activations, as layers and as the ``activation=`` of other layers."""

from __future__ import annotations

from collections.abc import Callable

from tinynet import ops
from tinynet.errors import unknown_name
from tinynet.nn.checks import with_brackets
from tinynet.nn.init import Constant
from tinynet.nn.layer import Drawn, Layer
from tinynet.nn.module import Module
from tinynet.nn.parameter import Parameter
from tinynet.tensor import Tensor

Activation = str | Callable[[Tensor], Tensor] | None

_NAMES = ("relu", "leaky_relu", "elu", "gelu", "sigmoid", "tanh", "softplus", "softmax", "log_softmax")


def get(activation: Activation) -> Callable[[Tensor], Tensor] | None:
    """The function of that name; functions, layers and None are returned as they are.

    A wrong name raises :class:`ArgumentError`.
    """
    with_brackets(activation, "activation")
    if activation is None or callable(activation):
        return activation
    if not isinstance(activation, str) or activation not in _NAMES:
        raise unknown_name("activation", activation, _NAMES)
    return getattr(ops, activation)


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(x)


class LeakyReLU(Module):
    """x where positive, ``slope`` * x elsewhere."""

    def __init__(self, slope: float = 0.01):
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return ops.leaky_relu(x, self.slope)


class PReLU(Layer):
    """x where positive, slope * x elsewhere; ``weight`` (C,) a learned slope per feature (He et al. 2015)."""

    def __init__(self, slope: float = 0.25, *, in_features: int | None = None):
        self.slope = slope
        self.weight = Parameter()
        self.size(in_features)

    def shapes(self, features: int) -> Drawn:
        return {"weight": (Constant(self.slope), (features,))}

    def run(self, x: Tensor) -> Tensor:
        return ops.prelu(x, self.weight)


class ELU(Module):
    """x where positive, ``alpha`` * (exp(x) - 1) elsewhere (Clevert et al. 2016)."""

    def __init__(self, alpha: float = 1.0):
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return ops.elu(x, self.alpha)


class GELU(Module):
    """x * Phi(x), Phi the normal distribution (Hendrycks and Gimpel 2016), or its tanh approximation."""

    def __init__(self, approximate: bool = False):
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return ops.gelu(x, approximate=self.approximate)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.sigmoid(x)


class Tanh(Module):
    """Hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.tanh(x)


class Softplus(Module):
    """log(1 + exp(x)), a smooth ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.softplus(x)


class Softmax(Module):
    """exp(x) / sum(exp(x)) along ``axis``: probabilities from logits. The losses want logits."""

    def __init__(self, axis: int = -1):
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return ops.softmax(x, self.axis)
