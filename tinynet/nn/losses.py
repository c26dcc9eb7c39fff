"""Losses as layers: ``loss(pred, target)``; the formulas are in tinynet.ops."""

from __future__ import annotations

from typing import Any

from tinynet import ops
from tinynet.errors import unknown_name
from tinynet.nn.checks import with_brackets
from tinynet.nn.module import Module
from tinynet.tensor import Tensor


class MSE(Module):
    """Mean of (pred - target)^2, both of the same shape. For numbers to predict, not for class labels."""

    def __init__(self, *, reduction: str = "mean"):
        self.reduction = reduction

    def forward(self, pred: Tensor, target: Any) -> Tensor:
        return ops.mse(pred, target, self.reduction)


class CrossEntropy(Module):
    """-log softmax(logits)[target], mean over all samples; logits (..., K), as they leave the last Dense.

    Targets are integer labels (...) in 0..K-1, or probabilities (..., K). ``class_weight`` (K,) weighs the
    classes, labels equal to ``ignore_index`` do not count, ``label_smoothing`` mixes the target with 1 / K.
    """

    def __init__(
        self,
        class_weight: Any = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        *,
        reduction: str = "mean",
    ):
        self.class_weight, self.ignore_index = class_weight, ignore_index
        self.label_smoothing, self.reduction = label_smoothing, reduction

    def forward(self, pred: Tensor, target: Any) -> Tensor:
        return ops.cross_entropy(
            pred,
            target,
            class_weight=self.class_weight,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            reduction=self.reduction,
        )


class BCEWithLogits(Module):
    """Binary cross-entropy of sigmoid(logits), mean over all elements; targets from 0 to 1, same shape.

    ``pos_weight`` multiplies the loss of the positive targets, for rare positives.
    """

    def __init__(self, pos_weight: Any = None, *, reduction: str = "mean"):
        self.pos_weight, self.reduction = pos_weight, reduction

    def forward(self, pred: Tensor, target: Any) -> Tensor:
        return ops.bce_with_logits(pred, target, pos_weight=self.pos_weight, reduction=self.reduction)


class Dice(Module):
    """1 - Dice overlap of predicted probabilities and target, for segmentation (Milletari et al. 2016).

    Logits (N, ..., K) with integer masks (N, ...), as :func:`tinynet.ops.dice`; ``smooth`` is added to both
    sides of the fraction, so that empty masks count as met.
    """

    def __init__(self, *, smooth: float = 1.0):
        self.smooth = smooth

    def forward(self, pred: Tensor, target: Any) -> Tensor:
        return ops.dice(pred, target, smooth=self.smooth)


class DiceCrossEntropy(Module):
    """Dice loss plus cross-entropy, each with its weight: the usual loss of a U-Net (Isensee et al. 2021).

    Arguments as :class:`Dice`; logits with a single channel (K = 1) are binary, then it is binary
    cross-entropy.
    """

    def __init__(self, *, dice_weight: float = 1.0, cross_entropy_weight: float = 1.0, smooth: float = 1.0):
        self.dice_weight, self.cross_entropy_weight, self.smooth = dice_weight, cross_entropy_weight, smooth

    def forward(self, pred: Tensor, target: Any) -> Tensor:
        dice = ops.dice(pred, target, smooth=self.smooth)
        return self.dice_weight * dice + self.cross_entropy_weight * self._cross_entropy(pred, target)

    def _cross_entropy(self, pred: Tensor, target: Any) -> Tensor:
        if pred.shape[-1] > 1:
            return ops.cross_entropy(pred, target)
        mask = target.data if isinstance(target, Tensor) else target
        return ops.bce_with_logits(pred, mask.reshape(pred.shape))


class Focal(Module):
    """Cross-entropy times (1 - p)^gamma, so that easy samples count less (Lin et al. 2017).

    p is the predicted probability of the target; logits and targets as :func:`tinynet.ops.focal`.
    """

    def __init__(self, gamma: float = 2.0, *, reduction: str = "mean"):
        self.gamma, self.reduction = gamma, reduction

    def forward(self, pred: Tensor, target: Any) -> Tensor:
        return ops.focal(pred, target, gamma=self.gamma, reduction=self.reduction)


_NAMES: dict[str, type[Module]] = {
    "mse": MSE,
    "cross_entropy": CrossEntropy,
    "bce_with_logits": BCEWithLogits,
    "dice": Dice,
    "dice_cross_entropy": DiceCrossEntropy,
    "focal": Focal,
}


def get(loss: Any) -> Any:
    """The loss of that name, or the object itself; a wrong name raises :class:`ArgumentError`."""
    with_brackets(loss, "loss")
    if callable(loss):
        return loss
    if not isinstance(loss, str) or loss not in _NAMES:
        raise unknown_name("loss", loss, _NAMES)
    return _NAMES[loss]()
