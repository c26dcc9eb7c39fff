"""Padding and indexing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinynet.autograd import Op
from tinynet.backend import array_module
from tinynet.errors import ArgumentError, ShapeError, unknown_name
from tinynet.ops.checks import TensorLike, integer
from tinynet.tensor import Tensor, as_tensor


class Pad(Op):
    """A border of one value around the array; the gradient is cut back."""

    def forward(self, x, *, widths, value):
        self.inner = tuple(slice(before, before + s) for s, (before, _) in zip(x.shape, widths))
        return array_module(x).pad(x, widths, constant_values=value)

    def backward(self, grad):
        return grad[self.inner]


class PadByIndex(Op):
    """A border that repeats elements of the array; what was repeated receives the sum of its gradients."""

    def forward(self, x, *, indices):
        self.shape, self.indices = x.shape, indices
        for axis, index in indices:
            x = x.take(index, axis)
        return x

    def backward(self, grad):
        for axis, index in reversed(self.indices):
            grad = grad.swapaxes(0, axis)
            folded = array_module(grad).zeros((self.shape[axis], *grad.shape[1:]), grad.dtype)
            for target, row in zip(index.tolist(), grad):
                folded[target] += row
            grad = folded.swapaxes(0, axis)
        return grad


def pad(x: TensorLike, widths: Sequence[Sequence[int]], mode: str = "constant", value: float = 0.0) -> Tensor:
    """``x`` with a border: one (before, after) pair of widths per axis, batch and features included.

    ``mode`` "constant" fills with ``value``, "edge" repeats the outermost element, "reflect" mirrors without
    repeating it. For images (N, H, W, C): ``pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))``.
    """
    x = as_tensor(x)
    pairs = _pad_widths(widths, x.shape)
    if mode == "constant":
        return Pad.apply(x, widths=pairs, value=value)
    if mode not in ("edge", "reflect"):
        raise unknown_name("pad mode", mode, ("constant", "edge", "reflect"))
    return PadByIndex.apply(x, indices=_border_indices(pairs, x, mode))


def _pad_widths(widths: Any, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    if not isinstance(widths, (tuple, list)) or not all(
        isinstance(w, (tuple, list)) and len(w) == 2 for w in widths
    ):
        raise ArgumentError(f"pad needs one (before, after) pair per axis, got {widths!r}")
    if len(widths) != len(shape):
        raise ShapeError(f"pad got {len(widths)} pairs of widths for the {len(shape)} axes of shape {shape}")
    pairs = tuple((integer(a, "a width"), integer(b, "a width")) for a, b in widths)
    if any(a < 0 or b < 0 for a, b in pairs):
        raise ArgumentError(f"pad widths are at least 0, got {widths!r}; to cut, index: x[1:-1]")
    return pairs


def _border_indices(pairs: tuple[tuple[int, int], ...], x: Tensor, mode: str) -> list[tuple[int, Any]]:
    """For each axis with a border, which element stands at each place of the result."""
    xp, found = array_module(x.data), []
    for axis, (pair, size) in enumerate(zip(pairs, x.shape)):
        if pair != (0, 0) and size == 0:
            raise ShapeError(f'pad(mode="{mode}"): axis {axis} of shape {x.shape} has no element to repeat')
        if pair != (0, 0):
            found.append((axis, xp.asarray(np.pad(np.arange(size), pair, mode))))  # type: ignore[call-overload]
    return found


class GetItem(Op):
    """x[index]; elements taken several times receive the sum of their gradients."""

    def forward(self, x, *, index):
        self.shape, self.index = x.shape, index
        return x[index]

    def backward(self, grad):
        xp = array_module(grad)
        if _may_repeat(self.index):
            return _scatter_add(xp, grad, self.index, self.shape)
        grad_x = xp.zeros(self.shape, grad.dtype)
        grad_x[self.index] = grad
        return grad_x


def _may_repeat(index: Any) -> bool:
    """Whether one element can be taken twice: only lists and arrays of integers do that."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(
        isinstance(p, list) or (hasattr(p, "ndim") and p.ndim > 0 and p.dtype.kind != "b") for p in parts
    )


def _scatter_add(xp: Any, grad: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """Add grad to the places it came from, counted in one line because add.at is fast only there."""
    size = math.prod(shape)
    places = xp.arange(size).reshape(shape)[index]
    grad_x = xp.zeros(size, grad.dtype)
    xp.add.at(grad_x, places.reshape(-1), grad.reshape(-1))
    return grad_x.reshape(shape)


def getitem(x: TensorLike, index: Any) -> Tensor:
    """``x[index]`` with NumPy's basic and advanced indexing; gradients of repeated indices add up.

    The index may hold tensors of integers or booleans. Raises IndexError as NumPy does.
    """
    return GetItem.apply(as_tensor(x), index=_arrays(index))


def _arrays(index: Any) -> Any:
    if isinstance(index, Tensor):
        return index.data
    return tuple(_arrays(i) for i in index) if isinstance(index, tuple) else index
