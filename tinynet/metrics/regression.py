"""Metrics of regression."""

from __future__ import annotations

from typing import Any

from tinynet.errors import DataError
from tinynet.metrics.metric import Sums, as_arrays


class MeanSquaredError(Sums):
    """Mean of (pred - target)^2 over all elements; both of the same shape, else :class:`DataError`."""

    name = "mse"

    def terms(self, pred: Any, target: Any) -> tuple[Any, int]:
        """Squared differences, and the number of elements."""
        pred, target = as_arrays(pred, target)
        if pred.shape != target.shape:
            raise DataError(f"predictions of shape {pred.shape} and targets of shape {target.shape} differ")
        return ((pred.astype("float64") - target) ** 2).sum(), pred.size

    def result(self) -> float:
        total, seen = self.sums
        return float(total) / seen if seen else float("nan")
