"""Losses. ``reduction`` "mean" and "sum" give a single number, "none" one per element or row."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet import kernels
from tinynet.autograd import Op
from tinynet.backend import array_module, can_look
from tinynet.errors import ArgumentError, DTypeError, ShapeError
from tinynet.ops.activation import log_softmax, sigmoid, softmax, softplus, stable_sigmoid, stable_softplus
from tinynet.ops.checks import TensorLike, beside, check_reduction, constant, floats
from tinynet.ops.choice import clip
from tinynet.ops.index import getitem
from tinynet.ops.math import exp
from tinynet.ops.reduce import mean
from tinynet.ops.reduce import sum as sum_over
from tinynet.ops.shape import reshape
from tinynet.ops.targets import (
    class_labels,
    class_probabilities,
    logits_and_target,
    shares,
    warn_of_probabilities,
)
from tinynet.tensor import Tensor, as_tensor

Array = Any


def _reduce(losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    return mean(losses) if reduction == "mean" else sum_over(losses)


class SquaredError(Op):
    """(pred - target)^2; the slope is twice the difference."""

    def forward(self, pred, target):
        self.difference = pred - target
        return self.difference * self.difference

    def backward(self, grad):
        grad_pred = 2 * grad * self.difference
        return grad_pred, -grad_pred if self.needs[1] else None


def mse(pred: TensorLike, target: TensorLike, reduction: str = "mean") -> Tensor:
    """The mean squared error between ``pred`` and ``target`` of the same shape.

    A target that is an array is taken in the dtype of ``pred``. Raises :class:`ShapeError` when the shapes
    differ, for nothing is broadcast here, and :class:`DTypeError` for integer targets.
    """
    check_reduction(reduction)
    pred = floats(pred, "mse")
    target = _quantities(target, pred)
    if pred.data.shape != target.data.shape:
        hint = _column_hint(pred.shape, target.shape)
        raise ShapeError(f"mse got {pred.shape} and {target.shape}; the shapes must be equal.{hint}")
    if pred.size == 0:
        raise ShapeError(f"mse of an empty batch: the prediction has shape {pred.shape}")
    return _reduce(SquaredError.apply(pred, target), reduction)


def _quantities(target: TensorLike, pred: Tensor) -> Tensor:
    tensor = as_tensor(target, pred)
    if tensor.dtype.kind != "f":
        raise DTypeError(
            f"mse got integer targets ({tensor.dtype}). Class labels are names, not quantities: use "
            f"cross_entropy for them. If they are quantities, convert them: .astype({str(pred.dtype)!r})"
        )
    return tensor if tensor is target else Tensor(tensor.data.astype(pred.dtype, copy=False))


def _column_hint(pred: tuple[int, ...], target: tuple[int, ...]) -> str:
    if pred == (*target, 1):
        return " Give the target a last axis: target[..., None]"
    return " Take the last axis off the target: target[..., 0]" if target == (*pred, 1) else ""


class CrossEntropy(Op):
    """-log softmax(logits)[label] of each row, times its weight; the slope is softmax(logits) - onehot.

    Their sum divided by ``divisor`` is computed in the same step, or nothing of it when that is None.
    """

    def forward(self, logits, *, labels, weight, divisor):
        losses, self.probabilities = kernels.softmax_cross_entropy(logits, labels)
        self.labels, self.weight, self.divisor = labels, weight, divisor
        if weight is not None:  # inf without weight is nothing
            losses = array_module(losses).where(weight > 0, losses, 0) * weight
        return losses if divisor is None else _over(losses, divisor)

    def backward(self, grad):
        divisor = 1 if self.divisor is None else self.divisor
        if self.weight is not None:
            grad, divisor = grad / divisor * self.weight, 1
        return kernels.softmax_cross_entropy_grad(self.probabilities, self.labels, grad, divisor)


def _over(losses: Array, divisor: Any) -> Array:
    """Their sum over a number, or over an array without axes."""
    return losses.sum() / divisor if hasattr(divisor, "shape") else kernels.scaled_sum(losses, divisor)


class SoftCrossEntropy(Op):
    """-sum(target * log softmax(logits)) for each row; the slope is sum(target) softmax(logits) - target.

    ``divisor`` as in :class:`CrossEntropy`.
    """

    def forward(self, logits, *, target, divisor):
        xp = array_module(logits)
        shifted = logits - logits.max(axis=-1, keepdims=True)
        self.logs = shifted - xp.log(xp.exp(shifted).sum(axis=-1, keepdims=True))
        self.target, self.divisor = target, divisor
        losses = -(target * self.logs).sum(axis=-1)
        return losses if divisor is None else losses.sum() / divisor

    def backward(self, grad):
        total = self.target.sum(axis=-1, keepdims=True)
        softmax = array_module(grad).exp(self.logs)
        return (softmax * total - self.target) * _per_row(grad, self.divisor)


def _per_row(grad: Array, divisor: float | None) -> Array:
    """The gradient of each row's loss: (R, 1), or (1, 1) when it is the same for all."""
    return grad.reshape(-1, 1) if divisor is None else grad.reshape(1, 1) / divisor


def cross_entropy(
    logits: TensorLike, target: TensorLike, *,
    class_weight: TensorLike | None = None, ignore_index: int | None = None, label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """Softmax and cross-entropy in one: -log softmax(logits)[target], logits (..., K).

    ``target`` holds integer labels (...), or probabilities (..., K). ``class_weight`` (K,) weighs each class,
    and the mean is then divided by the sum of the weights of the labels; rows labelled ``ignore_index`` count
    nowhere. ``label_smoothing`` s mixes each target with the uniform distribution: (1 - s) * target + s / K
    (Szegedy et al. 2016; with weights as PyTorch defines it).

    Raises :class:`ShapeError`, :class:`DTypeError` or :class:`DataError` for targets that do not fit, the
    last naming the first offending label; :class:`ArgumentError` when the arguments look swapped. Warns once
    when the input looks like probabilities.
    """
    check_reduction(reduction)
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError(f"label_smoothing={label_smoothing!r} must lie between 0 and 1")
    logits, array = logits_and_target("cross_entropy", logits, target)
    if logits.shape[-1] == 1:
        raise ShapeError(
            f"cross_entropy with logits of shape {logits.shape}: with one class the loss is always 0. "
            "For yes or no use bce_with_logits"
        )
    rows = logits if logits.ndim == 2 else reshape(logits, -1, logits.shape[-1])
    weights = None if class_weight is None else _class_weights(class_weight, logits)
    if array.dtype.kind == "f":
        op, how, total = _against_probabilities(logits, array, weights, label_smoothing, ignore_index)
    else:
        labels = class_labels("cross_entropy", array, logits, ignore_index)
        op, how, total = _against_labels(rows, labels, weights, label_smoothing, ignore_index)
    warn_of_probabilities("cross_entropy", rows.data)
    if reduction == "none":
        return reshape(op.apply(rows, **how, divisor=None), logits.shape[:-1])
    return op.apply(rows, **how, divisor=total if reduction == "mean" else 1)


def _class_weights(class_weight: TensorLike, logits: Tensor) -> Array:
    weights = beside(logits.data, constant(class_weight, "class_weight"))
    if weights.shape != logits.shape[-1:] or (can_look(weights) and not (weights >= 0).all()):
        raise ArgumentError(
            f"class_weight needs one number of at least 0 for each of {logits.shape[-1]} classes, got "
            f"{weights.tolist()}"
        )
    return weights


# The operation for the rows of logits, its settings, and what the mean divides the sum of the losses by.
Chosen = tuple[type[Op], dict[str, Any], Any]


def _against_probabilities(
    logits: Tensor, target: Array, weights: Array | None, smoothing: float, ignore: int | None
) -> Chosen:
    if ignore is not None:
        raise ArgumentError("ignore_index goes with integer labels; this target holds probabilities")
    target = class_probabilities("cross_entropy", target, logits)
    if smoothing:
        target = (1 - smoothing) * target + smoothing / target.shape[-1]
    return SoftCrossEntropy, {"target": target if weights is None else target * weights}, len(target)


def _against_labels(
    rows: Tensor, labels: Array, weights: Array | None, smoothing: float, ignore: int | None
) -> Chosen:
    """The mean divides by 1 when no row counts."""
    if weights is None and ignore is None and not smoothing:
        return CrossEntropy, {"labels": labels, "weight": None}, len(labels)
    xp, (r, k) = array_module(labels), rows.shape
    counts = xp.ones(r, bool) if ignore is None else labels != ignore
    labels = labels * counts
    weights = xp.ones(k, rows.dtype) if weights is None else weights
    weight = weights[labels] * counts
    total = weight.sum()
    total = xp.where(total == 0, xp.ones_like(total), total)  # an array: on a GPU nobody waits for it
    if not smoothing:
        return CrossEntropy, {"labels": labels, "weight": weight}, total
    target = counts[:, None] * (weights * (smoothing / k))
    target[xp.arange(r), labels] += (1 - smoothing) * weight
    return SoftCrossEntropy, {"target": target}, total


class BceWithLogits(Op):
    """(1 - t) x + (1 + (w - 1) t) log(1 + exp(-x)), element by element."""

    def forward(self, logits, *, target, pos_weight):
        self.logits, self.target = logits, target
        self.weight = 1 if pos_weight is None else 1 + (pos_weight - 1) * target
        return (1 - target) * logits + self.weight * stable_softplus(-logits)

    def backward(self, grad):
        return grad * (1 - self.target - self.weight * stable_sigmoid(-self.logits))


def bce_with_logits(
    logits: TensorLike, target: TensorLike, *, pos_weight: TensorLike | None = None, reduction: str = "mean"
) -> Tensor:
    """Sigmoid and binary cross-entropy in one: -w t log p - (1 - t) log(1 - p) with p = sigmoid(logits).

    ``target`` holds numbers from 0 to 1 in the shape of ``logits``; ``pos_weight`` w (a number, or an array
    that broadcasts, such as one per class on the last axis) weighs the positives. Raises :class:`ShapeError`
    when the shapes differ and :class:`DataError` for a target outside of 0 to 1.
    """
    check_reduction(reduction)
    logits, array = logits_and_target("bce_with_logits", logits, target)
    array = shares("bce_with_logits", array, logits)
    if pos_weight is not None:
        pos_weight = beside(logits.data, constant(pos_weight, "pos_weight"))
        if can_look(pos_weight) and not (pos_weight >= 0).all():
            raise ArgumentError(f"pos_weight must be at least 0, got {pos_weight.tolist()}")
    return _reduce(BceWithLogits.apply(logits, target=array, pos_weight=pos_weight), reduction)


def dice(logits: TensorLike, target: TensorLike, *, smooth: float = 1.0) -> Tensor:
    """The soft Dice loss of a segmentation: the mean of 1 - (2 |P T| + smooth) / (|P| + |T| + smooth).

    Milletari et al. 2016, with plain sums in the denominator. logits (N, *spatial, K); sums run over the
    positions, the mean over images and classes, background included. With K = 1 the prediction is
    sigmoid(logits) and the target a mask of 0 and 1, (N, *spatial) or with the last axis; with more classes
    it is softmax(logits) and the target integer labels (N, *spatial) or probabilities like the logits. Thanks
    to ``smooth`` an empty prediction of an empty mask costs nothing. Raises errors as :func:`cross_entropy`
    does.
    """
    logits, array = logits_and_target("dice", logits, target)
    if logits.ndim < 3:
        raise ShapeError(
            f"dice compares images: it needs logits of shape (N, *spatial, K), got {logits.shape}"
        )
    if logits.shape[-1] == 1:
        predicted, truth = sigmoid(logits), _mask("dice", array, logits)
    else:
        predicted, truth = softmax(logits), _one_hot("dice", array, logits)
    axes = tuple(range(1, logits.ndim - 1))
    both = sum_over(predicted * truth, axes)
    return 1 - mean((2 * both + smooth) / (sum_over(predicted, axes) + truth.sum(axes) + smooth))


def _mask(name: str, target: Array, logits: Tensor) -> Array:
    """A binary target in the shape of logits (..., 1)."""
    return shares(name, target[..., None] if target.shape == logits.shape[:-1] else target, logits)


def _one_hot(name: str, target: Array, logits: Tensor) -> Array:
    if target.dtype.kind == "f":
        return class_probabilities(name, target, logits).reshape(logits.shape)
    labels, xp = class_labels(name, target, logits), array_module(target)
    return (labels[:, None] == xp.arange(logits.shape[-1])).astype(logits.dtype).reshape(logits.shape)


def focal(logits: TensorLike, target: TensorLike, *, gamma: float = 2.0, reduction: str = "mean") -> Tensor:
    """The focal loss -(1 - p)^gamma log p, where p is the probability given to the truth (Lin et al. 2017).

    Easy examples count less; gamma 0 is cross-entropy. logits (..., K): with K = 1 the target is a mask of 0
    and 1 (...), p from a sigmoid; else integer labels (...), p from a softmax. Raises errors as
    :func:`cross_entropy`.
    """
    check_reduction(reduction)
    if gamma < 0:
        raise ArgumentError(f"focal: gamma={gamma!r} must be at least 0")
    logits, array = logits_and_target("focal", logits, target)
    log_p = _log_probability_of_truth(logits, array)
    missing = clip(1 - exp(log_p), np.finfo(logits.dtype).tiny, None)  # a power below 1 has no slope at 0
    losses = -(missing**gamma) * log_p
    return _reduce(losses if reduction != "none" else reshape(losses, logits.shape[:-1]), reduction)


def _log_probability_of_truth(logits: Tensor, target: Array) -> Tensor:
    if logits.shape[-1] == 1:
        mask = _mask("focal", target, logits)
        return -softplus((1 - 2 * mask) * logits)
    labels = class_labels("focal", target, logits)
    logs = log_softmax(reshape(logits, -1, logits.shape[-1]))
    return getitem(logs, (array_module(labels).arange(len(labels)), labels))
