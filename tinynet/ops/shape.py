"""Operations that move elements without changing them: reshape, transpose, join, cut, pad, index."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from tinynet import kernels
from tinynet.autograd import Op
from tinynet.backend import array_module
from tinynet.errors import ArgumentError, DTypeError, ShapeError
from tinynet.ops.checks import TensorLike, axes_of, integer, inverse_order, one_axis
from tinynet.tensor import Axis, Tensor, as_tensor


class Reshape(Op):
    """The same elements in another shape."""

    def forward(self, x, *, shape):
        self.shape = x.shape
        return x.reshape(shape)

    def backward(self, grad):
        return grad.reshape(self.shape)


def reshape(x: TensorLike, *shape: Any) -> Tensor:
    """``x`` in another shape of the same size: ``reshape(x, 2, 3)``, ``reshape(x, (2, -1))``; -1 fills in.

    Raises :class:`ShapeError` when the sizes differ.
    """
    x, wanted = as_tensor(x), _integers(shape, "reshape")
    try:
        return Reshape.apply(x, shape=wanted)
    except ValueError:
        raise ShapeError(
            f"cannot reshape {x.shape} into {wanted}: the first holds {x.size} numbers, "
            f"the second {_size_in_words(wanted)}"
        ) from None


def _size_in_words(shape: tuple[int, ...]) -> str:
    known = math.prod(s for s in shape if s >= 0)
    if shape.count(-1) > 1:
        return "leaves more than one size open"
    return f"a multiple of {known}" if -1 in shape else str(known)


def _integers(values: tuple[Any, ...], name: str) -> tuple[int, ...]:
    """(2, 3) from either f(x, 2, 3) or f(x, (2, 3))."""
    if len(values) == 1 and isinstance(values[0], (tuple, list)):
        values = tuple(values[0])
    return tuple(integer(v, f"each argument of {name}") for v in values)


class Transpose(Op):
    """The axes in another order."""

    def forward(self, x, *, axes):
        self.axes = axes
        return x.transpose(axes)

    def backward(self, grad):
        return grad.transpose(inverse_order(self.axes))


def transpose(x: TensorLike, *axes: Any) -> Tensor:
    """``x`` with its axes in the order given, or reversed without one: ``transpose(x, 0, 2, 3, 1)``."""
    x = as_tensor(x)
    order = _integers(axes, "transpose") if axes else tuple(reversed(range(x.ndim)))
    if sorted(axes_of(order, x.shape, "transpose")) != list(range(x.ndim)):
        raise ShapeError(f"transpose of shape {x.shape} needs each of its {x.ndim} axes once, got {order}")
    return Transpose.apply(x, axes=axes_of(order, x.shape, "transpose"))


def flatten(x: TensorLike, start: int = 0) -> Tensor:
    """All axes from ``start`` on joined into one; ``flatten(x, 1)`` keeps the batch axis."""
    x = as_tensor(x)
    shape = x.data.shape
    start = one_axis(start, shape, "flatten") if shape else 0
    return Reshape.apply(x, shape=(*shape[:start], math.prod(shape[start:])))


def squeeze(x: TensorLike, axis: Axis = None) -> Tensor:
    """``x`` without the given axes, or without all axes of size 1. ShapeError when one of them is longer."""
    x = as_tensor(x)
    ones = tuple(i for i, s in enumerate(x.shape) if s == 1)
    axes = ones if axis is None else axes_of(axis, x.shape, "squeeze")
    if not set(axes) <= set(ones):
        raise ShapeError(f"squeeze(axis={axis}) of shape {x.shape}: only axes of size 1 can be left out")
    return Reshape.apply(x, shape=tuple(s for i, s in enumerate(x.shape) if i not in axes))


def expand_dims(x: TensorLike, axis: int) -> Tensor:
    """``x`` with a new axis of size 1 at position ``axis`` of the result."""
    x = as_tensor(x)
    axis = one_axis(axis, (*x.shape, 1), "expand_dims")
    return Reshape.apply(x, shape=(*x.shape[:axis], 1, *x.shape[axis:]))


class BroadcastTo(Op):
    """x repeated along new axes and axes of size 1; the caller sums the gradient back."""

    def forward(self, x, *, shape):
        return array_module(x).broadcast_to(x, shape)

    def backward(self, grad):
        return grad


def broadcast_to(x: TensorLike, shape: Sequence[int]) -> Tensor:
    """``x`` repeated to ``shape`` by NumPy's rules (a read-only view). ShapeError when it does not fit."""
    x, wanted = as_tensor(x), _integers((shape,), "broadcast_to")
    try:
        return BroadcastTo.apply(x, shape=wanted)
    except ValueError:
        raise ShapeError(
            f"shape {x.shape} cannot be broadcast to {wanted}: only axes of size 1 repeat"
        ) from None


class Flip(Op):
    """The elements in reverse order along some axes."""

    def forward(self, x, *, axes):
        self.axes = axes
        return array_module(x).flip(x, axes)

    def backward(self, grad):
        return array_module(grad).flip(grad, self.axes)


def flip(x: TensorLike, axis: Axis = None) -> Tensor:
    """``x`` reversed along ``axis`` (an integer, a tuple, or None for all)."""
    x = as_tensor(x)
    return Flip.apply(x, axes=axes_of(axis, x.shape, "flip"))


class Concat(Op):
    """Arrays one after the other along an axis; each receives its piece of the gradient."""

    def forward(self, *arrays, axis):
        self.sizes, self.axis = tuple(a.shape[axis] for a in arrays), axis
        return kernels.join(axis, *arrays)

    def backward(self, grad):
        return kernels.cut(grad, self.sizes, self.axis)


def _pieces(array: Any, sizes: Iterable[int], axis: int) -> Iterable[Any]:
    start, before = 0, (slice(None),) * axis
    for size in sizes:
        yield array[(*before, slice(start, start + size))]
        start += size


def concat(tensors: Sequence[TensorLike], axis: int = -1) -> Tensor:
    """Tensors joined along ``axis``, the features by default; all other axes must agree.

    Raises :class:`ShapeError` naming the tensor and the axis that do not fit.
    """
    parts = _alike_parts(tensors, "concat")
    axis = one_axis(axis, parts[0].shape, "concat")
    for i, part in enumerate(parts):
        _check_part(part.shape, parts[0].shape, axis, i)
    return Concat.apply(*parts, axis=axis)


def _alike_parts(tensors: Sequence[TensorLike], name: str) -> list[Tensor]:
    if isinstance(tensors, Tensor) or len(tensors) == 0:
        raise ArgumentError(f"{name} needs a list of at least one tensor: {name}([a, b])")
    first = as_tensor(tensors[0])
    parts = [first, *(as_tensor(t, first) for t in tensors[1:])]
    if len({p.dtype for p in parts}) > 1:
        kinds = ", ".join(str(p.dtype) for p in parts)
        raise DTypeError(f"{name} got tensors of {kinds}. Convert them to one dtype with .astype()")
    return parts


def _check_part(shape: tuple[int, ...], first: tuple[int, ...], axis: int, number: int) -> None:
    if len(shape) != len(first):
        raise ShapeError(f"concat got {first} and {shape} (tensor {number}): the numbers of axes differ")
    for i, (a, b) in enumerate(zip(first, shape)):
        if a != b and i != axis:
            raise ShapeError(
                f"concat along axis {axis} got {first} and {shape} (tensor {number}): {a} and {b} on axis {i}"
            )


class Stack(Op):
    """Arrays of one shape side by side along a new axis; each receives its slice of the gradient."""

    def forward(self, *arrays, axis):
        self.axis = axis
        return array_module(arrays[0]).stack(arrays, axis)

    def backward(self, grad):
        before = (slice(None),) * self.axis
        return tuple(grad[(*before, i)] for i in range(grad.shape[self.axis]))


def stack(tensors: Sequence[TensorLike], axis: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis. Raises :class:`ShapeError` when the shapes differ."""
    parts = _alike_parts(tensors, "stack")
    for i, part in enumerate(parts):
        if part.shape != parts[0].shape:
            raise ShapeError(
                f"stack got {parts[0].shape} and {part.shape} (tensor {i}): the shapes must be equal"
            )
    return Stack.apply(*parts, axis=one_axis(axis, (*parts[0].shape, 1), "stack"))


class Split(Op):
    """Pieces along an axis; a piece that was not used gives a zero gradient."""

    def forward(self, x, *, sizes, axis):
        self.shape, self.sizes, self.axis = x.shape, sizes, axis
        return tuple(_pieces(x, sizes, axis))

    def backward(self, *grads):
        known = next(g for g in grads if g is not None)
        grad_x = array_module(known).zeros(self.shape, known.dtype)
        for piece, grad in zip(_pieces(grad_x, self.sizes, self.axis), grads):
            if grad is not None:
                piece[...] = grad
        return grad_x


def split(x: TensorLike, sections: int | Sequence[int], axis: int = -1) -> tuple[Tensor, ...]:
    """``x`` cut along ``axis``: into that many equal parts, or into parts of the sizes listed.

    ``split(x, 2)`` halves the features, ``split(x, (3, 5))`` takes the first 3 and the next 5 of 8.
    Raises :class:`ShapeError` when the parts do not add up.
    """
    x = as_tensor(x)
    axis = one_axis(axis, x.shape, "split")
    return Split.apply(x, sizes=_part_sizes(sections, x.shape[axis], axis), axis=axis)


def _part_sizes(sections: int | Sequence[int], length: int, axis: int) -> tuple[int, ...]:
    if isinstance(sections, (tuple, list)):
        sizes = tuple(integer(s, "each size in split") for s in sections)
        if not sizes or min(sizes) < 0 or sum(sizes) != length:
            arithmetic = " + ".join(map(str, sizes))
            raise ShapeError(
                f"split({list(sizes)}): {arithmetic} = {sum(sizes)}, but axis {axis} has {length}"
            )
        return sizes
    count = integer(sections, "sections")
    if count < 1 or length % count:
        raise ShapeError(f"axis {axis} of size {length} cannot be split into {count} equal parts")
    return (length // count,) * count
