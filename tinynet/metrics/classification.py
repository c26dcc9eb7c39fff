"""Metrics of classification: accuracy, sensitivity, specificity, and the confusion matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.backend import host
from tinynet.errors import DataError
from tinynet.metrics.metric import Metric, Sums, labels


class Accuracy(Sums):
    """Share of samples (or pixels) whose predicted class is the true one.

    Scores (..., K), logits or probabilities alike, are compared by their largest. A single score per sample
    is a logit, and class 1 is predicted above ``threshold`` 0; give 0.5 when it is a probability.
    """

    name = "accuracy"

    def __init__(self, threshold: float = 0.0):
        self.threshold = threshold
        super().__init__()

    def terms(self, pred: Any, target: Any) -> tuple[Any, int]:
        """Right answers, and all."""
        predicted, true = labels(pred, target, self.threshold)
        return (predicted == true).sum(), true.size

    def result(self) -> float:
        right, seen = self.sums
        return float(right) / seen if seen else float("nan")


class _BinaryShare(Sums):
    """Of the samples whose true class is (or is not) ``positive``, the share that is predicted so."""

    of_positives = True

    def __init__(self, positive: int = 1, threshold: float = 0.0):
        self.positive, self.threshold = positive, threshold
        super().__init__()

    def terms(self, pred: Any, target: Any) -> tuple[Any, Any]:
        """Right answers among the samples that are asked for, and the number of these."""
        predicted, true = labels(pred, target, self.threshold)
        asked = (true == self.positive) == self.of_positives
        return (asked & ((predicted == self.positive) == self.of_positives)).sum(), asked.sum()

    def result(self) -> float:
        right, seen = map(int, self.sums)
        return right / seen if seen else float("nan")


class Sensitivity(_BinaryShare):
    """Of the truly positive samples, the share that was found: TP / (TP + FN), also called recall.

    ``positive`` is the class that counts as positive, one against the rest when there are several;
    ``threshold`` as in :class:`Accuracy`. NaN without a positive sample.
    """

    name = "sensitivity"


class Specificity(_BinaryShare):
    """Of the truly negative samples, the share that was left alone: TN / (TN + FP).

    Arguments as :class:`Sensitivity`. NaN without a negative sample.
    """

    name = "specificity"
    of_positives = False


class ConfusionMatrix(Metric):
    """Counts (K, K): row = true class, column = predicted class; K is ``classes``, or grows.

    Raises :class:`DataError` for a negative label, or one not below ``classes``.
    """

    name = "confusion_matrix"
    _counts: np.ndarray

    def __init__(self, classes: int | None = None, threshold: float = 0.0):
        self.classes, self.threshold = classes, threshold
        super().__init__()

    def update(self, pred: Any, target: Any) -> None:
        predicted, true = (host(a).reshape(-1) for a in labels(pred, target, self.threshold))
        if not true.size:
            return
        k = max(int(predicted.max()), int(true.max())) + 1
        self._check(min(int(predicted.min()), int(true.min())), k - 1)
        counts = np.bincount(true * k + predicted, minlength=k * k).reshape(k, k)
        self._grow(max(k, len(self._counts)))
        self._counts[:k, :k] += counts

    def _check(self, lowest: int, highest: int) -> None:
        if lowest < 0 or (self.classes is not None and highest >= self.classes):
            wrong = lowest if lowest < 0 else highest
            raise DataError(
                f"label {wrong} is outside of 0..{highest if self.classes is None else self.classes - 1}"
            )

    def _grow(self, k: int) -> None:
        old, self._counts = self._counts, np.zeros((k, k), np.int64)
        self._counts[: len(old), : len(old)] = old

    def result(self) -> np.ndarray:
        return self._counts.copy()

    def reset(self) -> None:
        k = self.classes or 0
        self._counts = np.zeros((k, k), np.int64)
