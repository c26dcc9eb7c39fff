"""Metrics of segmentation: how well two masks overlap."""

from __future__ import annotations

from typing import Any

from tinynet.backend import Array, array_module
from tinynet.errors import ArgumentError
from tinynet.metrics.metric import Sums, as_arrays, labels


class _Overlap(Sums):
    """Mean overlap over samples and classes; what overlap is, the subclass says."""

    def __init__(
        self,
        classes: int | None = None,
        *,
        background: bool = False,
        empty: float = 1.0,
        threshold: float = 0.0,
    ):
        self.classes, self.background = classes, background
        self.empty, self.threshold = empty, threshold
        super().__init__()

    def terms(self, pred: Any, target: Any) -> tuple[Any, ...]:
        """The sum of the overlaps, and their number."""
        k = self._number_of_classes(*as_arrays(pred, target))
        predicted, true = (a.reshape(len(a), -1) for a in labels(pred, target, self.threshold))
        total, count = 0.0, 0
        for c in range(0 if self.background else 1, k):
            found, wanted = predicted == c, true == c
            both = (found & wanted).sum(1)
            total, count = total + self.overlap(both, found.sum(1), wanted.sum(1)).sum(), count + len(both)
        return total, count

    def overlap(self, both: Array, found: Array, wanted: Array) -> Array:
        """Overlap per sample (N,), from the pixels in both masks, the predicted and the true one."""
        raise TypeError(f"{type(self).__name__} defines no overlap")

    def _ratio(self, top: Array, bottom: Array) -> Array:
        xp = array_module(bottom)
        return xp.where(bottom > 0, top / xp.maximum(bottom, 1), self.empty)

    def _number_of_classes(self, pred: Any, target: Any) -> int:
        if self.classes is not None:
            return self.classes
        if pred.dtype.kind != "f":
            raise ArgumentError(
                f"predictions are labels, so the number of classes is unknown: {self}(classes=...)"
            )
        return max(pred.shape[-1], 2) if pred.ndim > target.ndim or pred.shape[-1] == 1 else 2

    def result(self) -> float:
        return float(self.sums[0]) / self.sums[1] if self.sums[1] else float("nan")

    def __repr__(self) -> str:
        return type(self).__name__


class DiceScore(_Overlap):
    """Dice overlap 2 |A and B| / (|A| + |B|) of predicted and true masks (Dice 1945).

    Scores (N, ..., K) with integer masks (N, ...), or one score per pixel (see ``threshold`` of
    :class:`Accuracy`). It is taken per sample and class and then averaged; the background, class 0, does not
    count unless ``background=True``. A mask that is empty on both sides counts as ``empty``, one that is
    empty on one side as 0.
    """

    name = "dice"

    def overlap(self, both: Array, found: Array, wanted: Array) -> Array:
        return self._ratio(2 * both, found + wanted)


class IoU(_Overlap):
    """Intersection over union |A and B| / |A or B| (Jaccard 1912); arguments as :class:`DiceScore`."""

    name = "iou"

    def overlap(self, both: Array, found: Array, wanted: Array) -> Array:
        return self._ratio(both, found + wanted - both)
