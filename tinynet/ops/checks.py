"""Checks that the public functions share: a comparison or two when all is well, a sentence when it is not."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinynet.backend import array_module, device_of
from tinynet.errors import ArgumentError, DeviceError, DTypeError, GraphError, ShapeError, unknown_name
from tinynet.kernels.live import recording, words
from tinynet.tensor import Tensor, as_tensor

TensorLike = Any  # a Tensor, an array, a number, or nested lists of numbers

REDUCTIONS = ("mean", "sum", "none")


def floats(x: TensorLike, name: str, like: Tensor | None = None) -> Tensor:
    """``x`` as a tensor of floating-point numbers, for the operation ``name``.

    Raises :class:`DTypeError` for integers and booleans: nothing is converted silently.
    """
    if not isinstance(x, Tensor):
        x = as_tensor(x, like)
    if x.data.dtype.kind != "f":
        raise DTypeError(
            f"{name} needs floating-point numbers, got {x.dtype}. Convert first: .astype('float32')"
        )
    return x


def pair(a: TensorLike, b: TensorLike, name: str) -> tuple[Tensor, Tensor]:
    """Both as tensors; a Python number takes the dtype of the other. Integers do not mix with floats."""
    if not isinstance(a, Tensor):
        a = as_tensor(a, b if isinstance(b, Tensor) else None)
    if not isinstance(b, Tensor):
        b = as_tensor(b, a)
    if a.data.dtype is not b.data.dtype:
        _check_kinds(a, b, name)
    return a, b


def _check_kinds(a: Tensor, b: Tensor, name: str) -> None:
    kinds = {a.dtype.kind, b.dtype.kind}
    if "f" in kinds and kinds & {"i", "u"}:
        wanted = a.dtype if a.dtype.kind == "f" else b.dtype
        raise DTypeError(
            f"{name} got {a.dtype} and {b.dtype}. Convert the integers: .astype({str(wanted)!r})"
        )


def integer(value: Any, name: str) -> int:
    """``value`` as a Python int; NumPy's integers are welcome, floats and booleans are not."""
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise ArgumentError(f"{name} must be an integer, got {value!r}")
    return operator.index(value)


def axes_of(axis: Any, shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """The axes to work along, counted from 0; None means all. ShapeError when there is no such axis."""
    ndim = len(shape)
    if axis is None:
        return tuple(range(ndim))
    axes = [integer(a, "axis") for a in (axis if isinstance(axis, (tuple, list)) else (axis,))]
    for a in axes:
        if not -ndim <= a < ndim:
            legal = f"its axes are {-ndim} to {ndim - 1}" if ndim else "a single number has no axes"
            raise ShapeError(f"{name}: there is no axis {a} in shape {shape}; {legal}")
    axes = [a % ndim for a in axes]
    if len(set(axes)) < len(axes):
        raise ShapeError(f"{name}: axis={axis} names the same axis of shape {shape} twice")
    return tuple(axes)


def one_axis(axis: Any, shape: tuple[int, ...], name: str) -> int:
    """A single axis counted from 0; :class:`ShapeError` when there is no such axis."""
    if isinstance(axis, int) and 0 <= axis < len(shape):
        return axis
    return axes_of((integer(axis, "axis"),), shape, name)[0]


def inverse_order(axes: Sequence[int]) -> tuple[int, ...]:
    """The order of axes that undoes a transposition by ``axes``."""
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


def check_reduction(reduction: str) -> None:
    """Raise :class:`ArgumentError` unless ``reduction`` is "mean", "sum" or "none"."""
    if reduction not in REDUCTIONS:
        raise unknown_name("reduction", reduction, REDUCTIONS)


def check_parameter(tensor: Tensor, shape: tuple[int, ...], what: str, why: str, *given: Any) -> None:
    """Raise :class:`ShapeError` unless a parameter (a weight, a bias, a state) has ``shape``.

    ``why`` may have places {} for what is ``given``; they are filled when there is an error.
    """
    if tensor.data.shape != shape:
        raise ShapeError(f"{what} has shape {tensor.shape}, but {why.format(*given)} needs {shape}")


def channels_hint(shape: tuple[int, ...], channels: int) -> str:
    """The transpose to type when ``shape`` looks like a channels-first batch, else nothing."""
    if len(shape) < 3 or shape[1] != channels or shape[-1] == channels:
        return ""
    order = ", ".join(str(a) for a in (0, *range(2, len(shape)), 1))
    return f" Axis 1 has {channels}: a channels-first batch? Features come last here: x.transpose({order})"


def same_device(x: Tensor, array: Any, what: str) -> None:
    """Raise :class:`DeviceError` unless ``array`` (labels, a mask) lives where ``x`` does."""
    if type(array) is not type(x.data) and device_of(array) != x.device:
        raise DeviceError(
            f"{what} is on {device_of(array)}, but the input is on {x.device}. Use .to({x.device!r})"
        )


def constant(value: Any, what: str) -> Any:
    """The array behind ``value``, through which no gradient passes; GraphError if one was asked for."""
    value = as_tensor(value)
    if value.requires_grad:
        raise GraphError(f"no gradient passes through the {what}; use {what}.detach()")
    return value.data


def beside(x: Any, array: Any) -> Any:
    """``array`` in the dtype of the array ``x`` and where that is.

    In a step that is recorded nothing can be copied from host memory; there it travels as live numbers.
    """
    if recording() and type(array) is np.ndarray:
        return words(*array.reshape(-1).tolist()).view(np.float64).astype(x.dtype).reshape(array.shape)
    return array_module(x).asarray(array, dtype=x.dtype)
