"""Metrics of regression."""

from __future__ import annotations

from typing import Any

from tinynet.errors import DataError
from tinynet.metrics.metric import Metric, as_arrays


class MeanSquaredError(Metric):
    """Mean of (pred - target)^2 over all elements; both of the same shape, else :class:`DataError`."""

    name = "mse"
    _sum: Any
    _seen: int

    def update(self, pred: Any, target: Any) -> None:
        pred, target = as_arrays(pred, target)
        if pred.shape != target.shape:
            raise DataError(f"predictions of shape {pred.shape} and targets of shape {target.shape} differ")
        self._sum = self._sum + ((pred.astype("float64") - target) ** 2).sum()
        self._seen += pred.size

    def result(self) -> float:
        return float(self._sum) / self._seen if self._seen else float("nan")

    def reset(self) -> None:
        self._sum, self._seen = 0.0, 0
