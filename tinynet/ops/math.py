"""Arithmetic and elementary functions, element by element, and the matrix product."""

from __future__ import annotations

import numpy as np

from tinynet import kernels
from tinynet.autograd import Op
from tinynet.backend import array_module
from tinynet.errors import ShapeError
from tinynet.ops.checks import TensorLike, floats, pair
from tinynet.tensor import Tensor, as_tensor


def apply_to_pair(op: type[Op], a: TensorLike, b: TensorLike) -> Tensor:
    """``op`` on two tensors of one dtype and device; shapes that do not fit raise :class:`ShapeError`."""
    a, b = pair(a, b, op.__name__)
    try:
        return op.apply(a, b)
    except ValueError as error:
        raise broadcast_error(op.__name__, a.shape, b.shape) or error from None


def broadcast_error(name: str, *shapes: tuple[int, ...]) -> ShapeError | None:
    """The error for shapes that do not broadcast; None when they do."""
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        listed = " and ".join(str(s) for s in shapes)
        return ShapeError(
            f"{name} got shapes {listed}. Counted from the last axis, sizes must be equal, or one of them 1"
        )
    return None


class Add(Op):
    """a + b; both receive the gradient as it is."""

    def forward(self, a, b):
        return a + b

    def backward(self, grad):
        return grad, grad


def add(a: TensorLike, b: TensorLike) -> Tensor:
    """a + b with NumPy's broadcasting. Raises :class:`ShapeError` when the shapes do not fit."""
    return apply_to_pair(Add, a, b)


class Sub(Op):
    """a - b; b receives the negated gradient."""

    def forward(self, a, b):
        return a - b

    def backward(self, grad):
        return grad, -grad if self.needs[1] else None


def sub(a: TensorLike, b: TensorLike) -> Tensor:
    """a - b with NumPy's broadcasting. Raises :class:`ShapeError` when the shapes do not fit."""
    return apply_to_pair(Sub, a, b)


class Mul(Op):
    """a * b; each receives the gradient times the other."""

    def forward(self, a, b):
        self.a, self.b = a, b
        return a * b

    def backward(self, grad):
        return grad * self.b if self.needs[0] else None, grad * self.a if self.needs[1] else None


def mul(a: TensorLike, b: TensorLike) -> Tensor:
    """a * b with NumPy's broadcasting. Raises :class:`ShapeError` when the shapes do not fit."""
    return apply_to_pair(Mul, a, b)


class Div(Op):
    """y = a / b; dy/da = 1 / b, dy/db = -y / b."""

    def forward(self, a, b):
        self.b, self.y = b, a / b
        return self.y

    def backward(self, grad):
        grad_a = grad / self.b
        return grad_a, -grad_a * self.y if self.needs[1] else None


def div(a: TensorLike, b: TensorLike) -> Tensor:
    """a / b with NumPy's broadcasting; floating-point only. Dividing by zero gives an infinity or NaN."""
    a, b = pair(a, b, "Div")
    return apply_to_pair(Div, floats(a, "div"), floats(b, "div"))


class Neg(Op):
    """-x."""

    def forward(self, x):
        return -x

    def backward(self, grad):
        return -grad


def neg(x: TensorLike) -> Tensor:
    """-x, element by element."""
    return Neg.apply(as_tensor(x))


class Pow(Op):
    """y = a ** b; dy/da = b a**(b-1), which is 0 for b = 0, and dy/db = y log(a), which is 0 for a = 0."""

    def forward(self, a, b):
        self.a, self.b, self.y = a, b, a**b
        return self.y

    def backward(self, grad):
        xp, a, b = array_module(self.a), self.a, self.b
        with np.errstate(divide="ignore", invalid="ignore"):
            grad_a = xp.where(b == 0, 0, grad * (b * a ** (b - 1))) if self.needs[0] else None
            flat = (a == 0) & (b >= 0)  # 0 ** b is 0 on both sides of b
            grad_b = xp.where(flat, 0, grad * (self.y * xp.log(a))) if self.needs[1] else None
        return grad_a, grad_b


class PowConstant(Op):
    """x to a fixed power n; the slope n x**(n-1) is 0 everywhere for n = 0."""

    def forward(self, x, *, n):
        self.x, self.n = x, n
        return x**n

    def backward(self, grad):
        if self.n == 0:
            return array_module(grad).zeros_like(grad)
        with np.errstate(divide="ignore", invalid="ignore"):  # x = 0 and n < 1: an infinite slope
            return grad * (self.n * self.x ** (self.n - 1))


def pow(x: TensorLike, exponent: TensorLike) -> Tensor:
    """``x ** exponent``; either may be a number or a tensor.

    As in NumPy, a negative base with a fractional exponent gives NaN, and 0 to a negative power an infinity.
    """
    if not isinstance(exponent, (int, float)):
        return apply_to_pair(Pow, x, exponent)
    x = as_tensor(x)
    if x.dtype.kind != "f" and (exponent < 0 or isinstance(exponent, float)):
        x = floats(x, f"pow with exponent {exponent}")
    return PowConstant.apply(x, n=float(exponent) if isinstance(exponent, np.floating) else exponent)


class MatMul(Op):
    """a @ b as in NumPy: 1-D operands are vectors, leading axes are batches and broadcast."""

    def forward(self, a, b):
        self.a, self.b = a, b
        return _product(a, b)

    def backward(self, grad):
        a = self.a[None, :] if self.a.ndim == 1 else self.a  # vectors as matrices of one row, one column
        b = self.b[:, None] if self.b.ndim == 1 else self.b
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        grad = grad.reshape(*batch, a.shape[-2], b.shape[-1])
        grad_a = _product(grad, b.swapaxes(-1, -2)) if self.needs[0] else None
        grad_b = _product(a.swapaxes(-1, -2), grad) if self.needs[1] else None
        return grad_a, grad_b[..., 0] if grad_b is not None and self.b.ndim == 1 else grad_b


def _product(a, b):
    return kernels.matmul(a, b) if a.ndim == b.ndim == 2 else a @ b


def matmul(a: TensorLike, b: TensorLike) -> Tensor:
    """The matrix product (..., M, K) @ (..., K, N) -> (..., M, N).

    1-D operands are vectors, leading axes are batches and broadcast. Raises :class:`ShapeError` when the
    inner sizes differ.
    """
    a, b = pair(a, b, "MatMul")
    a, b = floats(a, "matmul"), floats(b, "matmul")
    _check_matmul(a.data.shape, b.data.shape)
    return MatMul.apply(a, b)


def _check_matmul(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    if not a or not b:
        raise ShapeError(f"matmul got shapes {a} and {b}: a single number has no rows or columns; use *")
    inner = b[-2] if len(b) > 1 else b[0]
    if a[-1] != inner:
        raise ShapeError(
            f"matmul got shapes {a} and {b}: each row of the first holds {a[-1]} numbers, "
            f"each column of the second {inner}"
        )
    if (
        len(a) > 2
        and len(b) > 2
        and (error := broadcast_error("matmul, before the matrix axes,", a[:-2], b[:-2]))
    ):
        raise error


class Exp(Op):
    """y = exp(x); dy/dx = y."""

    def forward(self, x):
        self.y = array_module(x).exp(x)
        return self.y

    def backward(self, grad):
        return grad * self.y


def exp(x: TensorLike) -> Tensor:
    """e to the power of each element."""
    return Exp.apply(floats(x, "exp"))


class Log(Op):
    """log(x); the slope is 1 / x."""

    def forward(self, x):
        self.x = x
        return array_module(x).log(x)

    def backward(self, grad):
        with np.errstate(divide="ignore", invalid="ignore"):
            return grad / self.x


def log(x: TensorLike) -> Tensor:
    """Natural logarithm. As in NumPy, 0 gives -inf and a negative number NaN, each with a warning."""
    return Log.apply(floats(x, "log"))


class Sqrt(Op):
    """y = sqrt(x); dy/dx = 1 / (2 y), infinite at 0."""

    def forward(self, x):
        self.y = array_module(x).sqrt(x)
        return self.y

    def backward(self, grad):
        with np.errstate(divide="ignore", invalid="ignore"):
            return grad / (2 * self.y)


def sqrt(x: TensorLike) -> Tensor:
    """Square root. Its slope at 0 is infinite: add a small number first where zeros can occur."""
    return Sqrt.apply(floats(x, "sqrt"))


class Abs(Op):
    """abs(x); the slope is the sign, 0 at 0."""

    def forward(self, x):
        self.x = x
        return array_module(x).abs(x)

    def backward(self, grad):
        return grad * array_module(grad).sign(self.x)


def abs(x: TensorLike) -> Tensor:
    """Absolute value; the gradient at 0 is 0."""
    return Abs.apply(as_tensor(x))
