"""Activation functions, element by element, and softmax along an axis.

Where a function has two branches they are added, each zero where the other holds: on random signs that is
several times faster than NumPy's ``where``.
"""

from __future__ import annotations

import math

from tinynet import kernels
from tinynet.autograd import Op
from tinynet.backend import Array, array_module
from tinynet.errors import ShapeError
from tinynet.ops.checks import TensorLike, floats, one_axis
from tinynet.tensor import Tensor


class Relu(Op):
    """max(x, 0); the gradient passes where x > 0."""

    def forward(self, x):
        self.y = array_module(x).maximum(x, 0)
        return self.y

    def backward(self, grad):
        return grad * (self.y > 0).astype(grad.dtype)  # float times boolean is slower in NumPy


def relu(x: TensorLike) -> Tensor:
    """max(x, 0), element by element (Nair and Hinton 2010)."""
    return Relu.apply(floats(x, "relu"))


class LeakyRelu(Op):
    """x where x > 0, else slope * x."""

    def forward(self, x, *, slope):
        xp = array_module(x)
        self.positive, self.slope = x > 0, slope
        return xp.maximum(x, 0) + slope * xp.minimum(x, 0)

    def backward(self, grad):
        return grad * self.positive + (self.slope * grad) * ~self.positive


def leaky_relu(x: TensorLike, slope: float = 0.01) -> Tensor:
    """x where x > 0, else ``slope`` * x (Maas et al. 2013)."""
    return LeakyRelu.apply(floats(x, "leaky_relu"), slope=slope)


class PRelu(Op):
    """x where x > 0, else slope * x, with a slope that learns."""

    def forward(self, x, slope):
        xp = array_module(x)
        self.positive, self.low, self.slope = x > 0, xp.minimum(x, 0), slope
        return xp.maximum(x, 0) + slope * self.low

    def backward(self, grad):
        grad_x = grad * self.positive + (self.slope * grad) * ~self.positive if self.needs[0] else None
        return grad_x, grad * self.low if self.needs[1] else None


def prelu(x: TensorLike, slope: TensorLike) -> Tensor:
    """x where x > 0, else ``slope`` * x; slope is a tensor, one number or one per feature (He et al. 2015).

    Raises :class:`ShapeError` when ``slope`` does not broadcast to the shape of ``x``.
    """
    x = floats(x, "prelu")
    slope = floats(slope, "prelu", like=x)
    ones = (1,) * (x.ndim - slope.ndim) + slope.shape
    if len(ones) != x.ndim or any(s not in (1, n) for s, n in zip(ones, x.shape)):
        raise ShapeError(
            f"prelu: slopes of shape {slope.shape} do not fit x of shape {x.shape}; features come last"
        )
    return PRelu.apply(x, slope)


class Elu(Op):
    """x where x > 0, else alpha (exp(x) - 1), whose slope is itself plus alpha."""

    def forward(self, x, *, alpha):
        xp = array_module(x)
        self.positive, self.alpha = x > 0, alpha
        self.low = alpha * xp.expm1(xp.minimum(x, 0))
        return xp.maximum(x, 0) + self.low

    def backward(self, grad):
        return grad * self.positive + grad * (self.low + self.alpha) * ~self.positive


def elu(x: TensorLike, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else ``alpha`` * (exp(x) - 1) (Clevert et al. 2016)."""
    return Elu.apply(floats(x, "elu"), alpha=alpha)


class Gelu(Op):
    """x P(x), where P is the share of a standard normal distribution below x; its slope is P(x) + x p(x)."""

    def forward(self, x):
        self.x = x
        self.below = (1 + kernels.erf(array_module(x).asarray(x * math.sqrt(0.5)))) / 2
        return x * self.below

    def backward(self, grad):
        density = array_module(grad).exp(self.x * self.x / -2) * (1 / math.sqrt(2 * math.pi))
        return grad * (self.below + self.x * density)


class GeluTanh(Op):
    """x (1 + tanh(u)) / 2 with u = sqrt(2 / pi) (x + 0.044715 x^3)."""

    def forward(self, x):
        self.x = x
        self.tanh = array_module(x).tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x)))
        return x * (1 + self.tanh) / 2

    def backward(self, grad):
        slope_u = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * (self.x * self.x))
        return grad * (1 + self.tanh + self.x * (1 - self.tanh * self.tanh) * slope_u) / 2


def gelu(x: TensorLike, approximate: bool = False) -> Tensor:
    """x times the normal distribution function of x (Hendrycks and Gimpel 2016).

    ``approximate=True`` takes their formula with tanh instead of the error function.
    """
    return (GeluTanh if approximate else Gelu).apply(floats(x, "gelu"))


def stable_sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) on arrays; only exp(-abs(x)) is formed, so nothing overflows."""
    xp = array_module(x)
    e = xp.exp(-xp.abs(x))
    return xp.maximum(e, x >= 0) / (1 + e)


class Sigmoid(Op):
    """y = 1 / (1 + exp(-x)); dy/dx = y (1 - y)."""

    def forward(self, x):
        self.y = stable_sigmoid(x)
        return self.y

    def backward(self, grad):
        return grad * self.y * (1 - self.y)


def sigmoid(x: TensorLike) -> Tensor:
    """1 / (1 + exp(-x)), accurate on both sides and without overflow."""
    return Sigmoid.apply(floats(x, "sigmoid"))


class Tanh(Op):
    """y = tanh(x); dy/dx = 1 - y^2."""

    def forward(self, x):
        self.y = array_module(x).tanh(x)
        return self.y

    def backward(self, grad):
        return grad * (1 - self.y * self.y)


def tanh(x: TensorLike) -> Tensor:
    """Hyperbolic tangent."""
    return Tanh.apply(floats(x, "tanh"))


def stable_softplus(x: Array) -> Array:
    """log(1 + exp(x)) on arrays, as max(x, 0) + log(1 + exp(-abs(x)))."""
    xp = array_module(x)
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


class Softplus(Op):
    """log(1 + exp(x)); the slope is sigmoid(x)."""

    def forward(self, x):
        self.x = x
        return stable_softplus(x)

    def backward(self, grad):
        return grad * stable_sigmoid(self.x)


def softplus(x: TensorLike) -> Tensor:
    """log(1 + exp(x)), a smooth relu, without overflow."""
    return Softplus.apply(floats(x, "softplus"))


class Softmax(Op):
    """y = exp(x) / sum(exp(x)); dL/dx = y (g - sum(g y))."""

    def forward(self, x, *, axis):
        e = array_module(x).exp(x - x.max(axis=axis, keepdims=True))
        self.axis, self.y = axis, e / e.sum(axis=axis, keepdims=True)
        return self.y

    def backward(self, grad):
        return self.y * (grad - (grad * self.y).sum(axis=self.axis, keepdims=True))


def softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along ``axis``: positive numbers that sum to 1. ShapeError for an empty axis."""
    x = floats(x, "softmax")
    return Softmax.apply(x, axis=_class_axis(x, axis, "softmax"))


class LogSoftmax(Op):
    """y = x - logsumexp(x); dL/dx = g - exp(y) sum(g)."""

    def forward(self, x, *, axis):
        xp = array_module(x)
        shifted = x - x.max(axis=axis, keepdims=True)
        self.axis, self.y = axis, shifted - xp.log(xp.exp(shifted).sum(axis=axis, keepdims=True))
        return self.y

    def backward(self, grad):
        return grad - array_module(grad).exp(self.y) * grad.sum(axis=self.axis, keepdims=True)


def log_softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """The logarithm of :func:`softmax`, computed without forming it, so that no information is lost."""
    x = floats(x, "log_softmax")
    return LogSoftmax.apply(x, axis=_class_axis(x, axis, "log_softmax"))


def _class_axis(x: Tensor, axis: int, name: str) -> int:
    axis = one_axis(axis, x.data.shape, name)
    if x.data.shape[axis] == 0:
        raise ShapeError(f"{name} along axis {axis} of shape {x.shape}: there are no classes")
    return axis
