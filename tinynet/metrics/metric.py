"""The base of the metrics, and how predictions and targets become labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.backend import Array, can_look, is_array
from tinynet.errors import DataError


class Metric:
    """A figure gathered batch by batch: ``update(pred, target)``, then ``result()``, or ``reset()``.

    Predictions and targets are arrays (NumPy or CuPy) or tensors.
    """

    name: str = "metric"

    def __init__(self) -> None:
        self.reset()

    def update(self, pred: Any, target: Any) -> None:
        """Take in one batch."""
        raise TypeError(f"{type(self).__name__} defines no update(self, pred, target)")

    def result(self) -> Any:
        """The figure for everything since the last :meth:`reset`; NaN when it is not defined."""
        raise TypeError(f"{type(self).__name__} defines no result(self)")

    def reset(self) -> None:
        """Forget everything."""
        raise TypeError(f"{type(self).__name__} defines no reset(self)")

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Sums(Metric):
    """A figure made of sums over all batches, such as the number of right answers and that of all."""

    sums: list[Any]
    number = 2  # of the sums

    def terms(self, pred: Any, target: Any) -> tuple[Any, ...]:
        """What one batch adds to each sum: numbers, or arrays without axes, which may stay on a GPU."""
        raise TypeError(f"{type(self).__name__} defines no terms(self, pred, target)")

    def update(self, pred: Any, target: Any) -> None:
        self.sums = [total + term for total, term in zip(self.sums, self.terms(pred, target))]

    def reset(self) -> None:
        self.sums = [0] * self.number


def as_arrays(pred: Any, target: Any) -> tuple[Array, Array]:
    """Both as arrays; :class:`DataError` unless they have the same number of samples."""
    pred, target = _array(pred), _array(target)
    if pred.ndim == 0 or target.ndim == 0 or len(pred) != len(target):
        raise DataError(
            f"predictions of shape {pred.shape} and targets of shape {target.shape}: the first axis is the "
            "number of samples, and must be the same"
        )
    return pred, target


def _array(value: Any) -> Array:
    if is_array(value):
        return value
    data = getattr(value, "data", None)  # a Tensor's own array
    return data if is_array(data) else np.asarray(value)


def check_shares(target: Array) -> None:
    """Raise :class:`DataError` for targets that are neither whole numbers nor between 0 and 1."""
    if target.dtype.kind == "f" and can_look(target) and ((target < 0) | (target > 1)).any():
        raise DataError(
            "a metric of classes got targets that are no shares between 0 and 1. Class labels are integers; "
            "for quantities there is the metric mse"
        )


def labels(pred: Any, target: Any, threshold: float) -> tuple[Array, Array]:
    """Predicted and true classes, both of the same shape, from what a net gives and a data set holds.

    ==========================  ===============================  ===================================
    predictions                 targets                          predicted class
    ==========================  ===============================  ===================================
    scores (..., K), K > 1      integers (...)                   the largest along the last axis
    scores (..., K), K > 1      floats (..., K): one-hot, soft   the same; the target's largest, too
    one score: (..., 1), (...)  0 and 1, integers or floats      1 where the score is over threshold
    integers, as targets        integers (...)                   as they are
    ==========================  ===============================  ===================================

    Raises :class:`DataError` for other shapes.
    """
    pred, target = as_arrays(pred, target)
    if pred.ndim > 1 and pred.shape == target.shape and pred.shape[-1] > 1 and target.dtype.kind == "f":
        return pred.argmax(-1), target.argmax(-1)
    if pred.ndim == target.ndim and pred.shape != target.shape and target.shape[-1] == 1:
        target = target[..., 0]
    if pred.ndim == target.ndim + 1:
        pred = pred.argmax(-1) if pred.shape[-1] > 1 else pred[..., 0] > threshold
    elif pred.dtype.kind == "f":
        pred = pred > threshold
    check_shares(target)
    if pred.shape != target.shape:
        raise DataError(
            f"scores of shape {pred.shape} do not fit targets of shape {target.shape}; "
            "scores (N, K) go with labels (N,)"
        )
    target = target > 0.5 if target.dtype.kind == "f" else target
    return pred.astype("int64", copy=False), target.astype("int64", copy=False)
