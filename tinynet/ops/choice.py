"""Operations that choose between values: clip, the larger, the smaller, by a condition."""

from __future__ import annotations

from tinynet.autograd import Op
from tinynet.backend import array_module
from tinynet.errors import ArgumentError, DTypeError
from tinynet.ops.checks import TensorLike, pair, same_device
from tinynet.ops.math import apply_to_pair, broadcast_error
from tinynet.tensor import Tensor, as_tensor


class Clip(Op):
    """x limited to low..high; the gradient passes where x lies within, bounds included."""

    def forward(self, x, *, low, high):
        self.x, self.low, self.high = x, low, high
        return array_module(x).clip(x, low, high)

    def backward(self, grad):
        inside = self.x == self.x if self.low is None else self.x >= self.low
        return grad * (inside if self.high is None else inside & (self.x <= self.high))


def clip(x: TensorLike, low: float | None = None, high: float | None = None) -> Tensor:
    """``x`` limited to the range low..high; None leaves that side open. NaN stays NaN.

    Where low > high the result is high, as in NumPy.
    """
    x = as_tensor(x)
    if low is None and high is None:
        raise ArgumentError("clip() needs low, high, or both")
    kind = x.dtype.type  # the bounds take the dtype of x, so that the result keeps it
    return Clip.apply(x, low=None if low is None else kind(low), high=None if high is None else kind(high))


class Maximum(Op):
    """The larger of a and b; of equal values the first takes the whole gradient. NaN wins."""

    def forward(self, a, b):
        self.first = (a >= b) | (a != a)
        return array_module(a).maximum(a, b)

    def backward(self, grad):
        return grad * self.first, grad * ~self.first


def maximum(a: TensorLike, b: TensorLike) -> Tensor:
    """The larger of ``a`` and ``b``, element by element, broadcast; ties give the gradient to ``a``."""
    return apply_to_pair(Maximum, a, b)


class Minimum(Op):
    """The smaller of a and b; of equal values the first takes the whole gradient. NaN wins."""

    def forward(self, a, b):
        self.first = (a <= b) | (a != a)
        return array_module(a).minimum(a, b)

    def backward(self, grad):
        return grad * self.first, grad * ~self.first


def minimum(a: TensorLike, b: TensorLike) -> Tensor:
    """The smaller of ``a`` and ``b``, element by element, broadcast; ties give the gradient to ``a``."""
    return apply_to_pair(Minimum, a, b)


class Where(Op):
    """a where the condition holds, else b; what was not chosen receives 0, even from an infinite gradient."""

    def forward(self, a, b, *, condition):
        self.condition = condition
        return array_module(a).where(condition, a, b)

    def backward(self, grad):
        xp = array_module(grad)
        grad_a = xp.where(self.condition, grad, 0) if self.needs[0] else None
        return grad_a, xp.where(self.condition, 0, grad) if self.needs[1] else None


def where(condition: TensorLike, a: TensorLike, b: TensorLike) -> Tensor:
    """``a`` where the boolean ``condition`` holds, else ``b``; the three broadcast.

    Raises :class:`DTypeError` for a condition that is not boolean, :class:`ShapeError` for shapes that do not
    fit.
    """
    condition = as_tensor(condition)
    if condition.dtype.kind != "b":
        raise DTypeError(f"where() needs a boolean condition, got {condition.dtype}. For instance: x > 0")
    a, b = pair(a, b, "where")
    same_device(a, condition.data, "the condition")
    if error := broadcast_error("where", condition.shape, a.shape, b.shape):
        raise error
    return Where.apply(a, b, condition=condition.data)
