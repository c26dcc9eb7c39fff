"""Checks of what losses are given to aim at: labels, probabilities, masks.

Values are looked at where that is possible: not those of GPU arrays in a step that is being recorded.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from tinynet.backend import array_module, can_look
from tinynet.errors import ArgumentError, DataError, DTypeError, ShapeError
from tinynet.ops.checks import TensorLike, constant, floats, same_device
from tinynet.tensor import Tensor, as_tensor

Array = Any

_told: set[str] = set()


def logits_and_target(name: str, logits: TensorLike, target: TensorLike) -> tuple[Tensor, Array]:
    """The logits as a tensor (N, ..., K), the target as an array, both on one device.

    Raises :class:`ArgumentError` when the two look swapped, :class:`ShapeError` for an empty batch.
    """
    logits, array = as_tensor(logits), constant(target, "target")
    if logits.dtype.kind != "f" and array.dtype.kind == "f":
        raise ArgumentError(
            f"{name} got a first argument of {logits.dtype} and a second of {array.dtype}: swapped? "
            f"It is {name}(logits, target)"
        )
    logits = floats(logits, name)
    if logits.ndim == 0 or logits.size == 0:
        raise ShapeError(f"{name} of an empty batch: the logits have shape {logits.shape}")
    same_device(logits, array, f"the target of {name}")
    return logits, array


def class_labels(name: str, target: Array, logits: Tensor, ignore: int | None = None) -> Array:
    """The labels (...) as int64 in one row, each checked against the K classes of logits (..., K).

    Raises :class:`DTypeError` for labels that are no integers, :class:`ShapeError` for another shape, and
    :class:`DataError` for the first label out of range.
    """
    if target.shape != logits.shape[:-1]:
        raise ShapeError(_label_shape_text(name, target, logits.shape))
    if target.dtype.kind not in "iu":
        raise DTypeError(f"{name} needs integer class labels, got {target.dtype}. Convert: .astype('int64')")
    labels = target.reshape(-1).astype(np.int64, copy=False)
    # as unsigned numbers the negative ones are large
    if can_look(labels) and labels.view(np.uint64).max() >= logits.shape[-1]:
        _check_range(name, labels, target.shape, logits.shape[-1], ignore)
    return labels


def _label_shape_text(name: str, target: Array, logits: tuple[int, ...]) -> str:
    text = f"{name} got logits of shape {logits} and a target of {target.dtype} and shape {target.shape}. It "
    text += f"takes integer labels of shape {logits[:-1]}, or class probabilities of shape {logits}."
    if target.shape == logits:
        return text + " One-hot rows? Use their .astype('float32'), or the labels: target.argmax(-1)"
    if target.shape == (*logits[:-1], 1):
        return text + " Leave out the last axis: target[..., 0]"
    if target.shape == logits[:1]:
        return (
            text + " One label per sample? Then nn.Flatten() or a global pool must come before the last layer"
        )
    return text


def _check_range(name: str, labels: Array, shape: tuple[int, ...], classes: int, ignore: int | None) -> None:
    outside = (labels < 0) | (labels >= classes)
    if ignore is not None:
        outside &= labels != ignore
    if not outside.any():
        return
    first = int(outside.argmax())
    place = ", ".join(str(int(i)) for i in np.unravel_index(first, shape))
    hint = " Labels that count from 1? Subtract 1" if labels.min() == 1 and labels.max() == classes else ""
    raise DataError(
        f"{name}: label {int(labels[first])} at index {place} is out of range: there are {classes} classes, "
        f"0 to {classes - 1}.{hint}"
    )


def class_probabilities(name: str, target: Array, logits: Tensor) -> Array:
    """Probabilities (..., K) as rows (R, K) in the dtype of the logits; they are positive and sum to 1.

    Raises :class:`ShapeError` for another shape and :class:`DataError` for rows that are no probabilities.
    """
    if target.shape == logits.shape[:-1]:
        raise DTypeError(f"{name} needs integer class labels, got {target.dtype}. Convert: .astype('int64')")
    if target.shape != logits.shape:
        raise ShapeError(_label_shape_text(name, target, logits.shape))
    rows = target.reshape(-1, target.shape[-1]).astype(logits.dtype, copy=False)
    if not can_look(rows):
        return _or_nan(rows, ~_not_probabilities(rows)[:, None])
    _check_probabilities(name, rows, logits.data.reshape(rows.shape))
    return rows


def _or_nan(target: Array, right: Array) -> Array:
    """The target, with NaN where it is wrong: nobody can look at it now, so the loss is to show it."""
    xp = array_module(target)
    return xp.where(right, target, xp.asarray(np.nan, dtype=target.dtype))


def _check_probabilities(name: str, rows: Array, logits: Array) -> None:
    wrong = _not_probabilities(rows)
    if not wrong.any():
        return
    swapped = not _not_probabilities(logits).any()
    hint = f" The arguments may be swapped: it is {name}(logits, target)" if swapped else ""
    first = int(wrong.argmax())
    raise DataError(
        f"{name}: row {first} of the target is no set of probabilities: its smallest entry is "
        f"{float(rows[first].min()):.4g}, its sum {float(rows[first].sum()):.4g}.{hint}"
    )


def _not_probabilities(rows: Array) -> Array:
    """Which rows are not positive numbers that sum to 1."""
    xp = array_module(rows)
    return ~((rows.min(axis=-1) >= 0) & (xp.abs(rows.sum(axis=-1) - 1) < 1e-3))


def warn_of_probabilities(name: str, rows: Array) -> None:
    """Say once when logits look like the output of a softmax: a second one would flatten the gradients."""
    if name in _told or not can_look(rows) or not 0 <= float(rows[0, 0]) <= 1:  # very often the end of it
        return
    if not abs(float(rows[0].sum()) - 1) < 1e-3 or _not_probabilities(rows).any():
        return
    _told.add(name)
    warnings.warn(
        f"{name} takes logits, but every row of its input is positive and sums to 1. Leave out the softmax "
        "before it: the loss has its own",
        stacklevel=3,
    )


def shares(name: str, target: Array, logits: Tensor) -> Array:
    """Numbers from 0 to 1 in the shape and dtype of the logits: binary labels, masks, or probabilities.

    Raises :class:`ShapeError` for another shape and :class:`DataError` for the first number out of range.
    """
    if target.shape != logits.shape:
        column = target.shape == logits.shape[:-1] and logits.shape[-1] == 1
        hint = ". Give the target its last axis: target[..., None]" if column else "; they must be equal"
        if not column and target.shape == logits.shape[:-1]:
            hint += ". For one label out of several classes use cross_entropy"
        raise ShapeError(
            f"{name} got logits of shape {logits.shape} and a target of shape {target.shape}{hint}"
        )
    if not can_look(target):
        right = (target >= 0) & (target <= 1)
        return _or_nan(target.astype(logits.dtype, copy=False), right)
    _check_shares(name, target)
    return target.astype(logits.dtype, copy=False)


def _check_shares(name: str, target: Array) -> None:
    wrong = ~((target >= 0) & (target <= 1))
    if not wrong.any():
        return
    first = int(wrong.argmax())
    place = ", ".join(str(int(i)) for i in np.unravel_index(first, target.shape))
    hint = " A mask of 0 and 255? Divide it by 255" if target.max() == 255 else ""
    raise DataError(
        f"{name} needs a target between 0 and 1, got {target.reshape(-1)[first]} at index {place}.{hint}"
    )
