"""Reductions: sum, mean, variance, extremes, logsumexp. ``axis`` None means all axes, as in NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinynet.autograd import Op
from tinynet.backend import array_module
from tinynet.errors import ShapeError
from tinynet.ops.checks import TensorLike, axes_of, floats, inverse_order
from tinynet.tensor import Axis, Tensor, as_tensor


def _kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape after a reduction that keeps the reduced axes with size 1."""
    return tuple(1 if i in axes else s for i, s in enumerate(shape))


def _count(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    return math.prod(shape[a] for a in axes)


def _spread(grad: Any, shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    """The gradient of a sum: one number repeated over all that went into it."""
    return array_module(grad).broadcast_to(grad.reshape(_kept(shape, axes)), shape)


def _filled(x: Tensor, axis: Axis, name: str) -> tuple[int, ...]:
    """The axes to reduce; :class:`ShapeError` when there is nothing along them."""
    axes = axes_of(axis, x.data.shape, name)
    if _count(x.data.shape, axes) == 0:
        raise ShapeError(f"{name}() of no elements: shape {x.shape} is empty along axis={axis}")
    return axes


class Sum(Op):
    """The sum over some axes; every element receives the gradient of its sum."""

    def forward(self, x, *, axes, keepdims):
        self.shape, self.axes = x.shape, axes
        return x.sum(axis=axes, keepdims=keepdims)

    def backward(self, grad):
        return _spread(grad, self.shape, self.axes)


def sum(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum over ``axis`` (an integer, a tuple, or None for all); 0 where there is nothing to sum."""
    x = as_tensor(x)
    return Sum.apply(x, axes=axes_of(axis, x.data.shape, "sum"), keepdims=keepdims)


class Mean(Op):
    """The mean over some axes; each of n elements receives 1 / n of the gradient."""

    def forward(self, x, *, axes, keepdims):
        self.shape, self.axes = x.shape, axes
        return x.sum(axis=axes, keepdims=keepdims) / _count(x.shape, axes)

    def backward(self, grad):
        return _spread(grad / _count(self.shape, self.axes), self.shape, self.axes)


def mean(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean over ``axis``. Raises :class:`ShapeError` when there is nothing to average."""
    x = floats(x, "mean")
    return Mean.apply(x, axes=_filled(x, axis, "mean"), keepdims=keepdims)


class Var(Op):
    """The mean square of the distance to the mean; its slope is 2 / n times that distance."""

    def forward(self, x, *, axes, keepdims):
        self.axes, self.n = axes, _count(x.shape, axes)
        self.centred = x - x.sum(axis=axes, keepdims=True) / self.n
        return (self.centred * self.centred).sum(axis=axes, keepdims=keepdims) / self.n

    def backward(self, grad):
        return self.centred * (grad * (2 / self.n)).reshape(_kept(self.centred.shape, self.axes))


def var(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The population variance over ``axis``: the mean of (x - mean)**2, divided by n, not by n - 1."""
    x = floats(x, "var")
    return Var.apply(x, axes=_filled(x, axis, "var"), keepdims=keepdims)


def _rows(x: Any, axes: tuple[int, ...]) -> Any:
    """x with the reduced axes moved to the end and joined into one."""
    rest = tuple(i for i in range(x.ndim) if i not in axes)
    return x.transpose(rest + axes).reshape(*(x.shape[i] for i in rest), _count(x.shape, axes))


def _unrows(rows: Any, shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    """The way back from :func:`_rows`."""
    order = (*(i for i in range(len(shape)) if i not in axes), *axes)
    return rows.reshape([shape[i] for i in order]).transpose(inverse_order(order))


class Max(Op):
    """The largest element; the first of equal ones takes the whole gradient. NaN counts as largest."""

    def forward(self, x, *, axes, keepdims):
        self.x, self.axes = x, axes
        return x.max(axis=axes, keepdims=keepdims)

    def backward(self, grad):
        return _to_winner(grad, self.x, self.axes, "argmax")


class Min(Op):
    """The smallest element; the first of equal ones takes the whole gradient. NaN counts as smallest."""

    def forward(self, x, *, axes, keepdims):
        self.x, self.axes = x, axes
        return x.min(axis=axes, keepdims=keepdims)

    def backward(self, grad):
        return _to_winner(grad, self.x, self.axes, "argmin")


def _to_winner(grad: Any, x: Any, axes: tuple[int, ...], which: str) -> Any:
    rows = _rows(x, axes)
    winner = getattr(rows, which)(-1)
    hit = array_module(x).arange(rows.shape[-1]) == winner[..., None]
    return _unrows(hit * grad.reshape(winner.shape)[..., None], x.shape, axes)


def max(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest element over ``axis``; ties give the gradient to the first. ShapeError if none."""
    x = as_tensor(x)
    return Max.apply(x, axes=_filled(x, axis, "max"), keepdims=keepdims)


def min(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest element over ``axis``; ties give the gradient to the first. ShapeError if none."""
    x = as_tensor(x)
    return Min.apply(x, axes=_filled(x, axis, "min"), keepdims=keepdims)


class LogSumExp(Op):
    """log(sum(exp(x))), with the largest element taken out first; the slope is softmax(x)."""

    def forward(self, x, *, axes, keepdims):
        xp = array_module(x)
        top = x.max(axis=axes, keepdims=True)
        top = xp.where(xp.isfinite(top), top, 0)
        with np.errstate(divide="ignore", over="ignore"):
            self.exps = xp.exp(x - top)
            self.sums = self.exps.sum(axis=axes, keepdims=True)
            y = xp.log(self.sums) + top
        return y if keepdims else y.reshape([s for i, s in enumerate(x.shape) if i not in axes])

    def backward(self, grad):
        share = self.exps / array_module(grad).where(
            self.sums == 0, 1, self.sums
        )  # all -inf: no slope at all
        return share * grad.reshape(self.sums.shape)


def logsumexp(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over ``axis``, without overflow; -inf when all elements are -inf."""
    x = floats(x, "logsumexp")
    return LogSumExp.apply(x, axes=_filled(x, axis, "logsumexp"), keepdims=keepdims)
