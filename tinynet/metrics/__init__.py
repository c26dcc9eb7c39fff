"""Figures of merit, gathered batch by batch."""

from __future__ import annotations

from typing import Any

from tinynet.errors import ArgumentError, did_you_mean, unknown_name
from tinynet.metrics.classification import Accuracy, ConfusionMatrix, Sensitivity, Specificity
from tinynet.metrics.metric import Metric
from tinynet.metrics.ranking import AUC
from tinynet.metrics.regression import MeanSquaredError
from tinynet.metrics.segmentation import DiceScore, IoU

__all__ = [
    "AUC", "Accuracy", "ConfusionMatrix", "DiceScore", "IoU", "MeanSquaredError", "Metric", "Sensitivity",
    "Specificity", "get",
]  # fmt: skip

_NAMES: dict[str, type[Metric]] = {
    kind.name: kind
    for kind in (Accuracy, AUC, Sensitivity, Specificity, ConfusionMatrix, DiceScore, IoU, MeanSquaredError)
}

_ELSEWHERE = {  # names of other packages, and what they are called here
    "MSE": "MeanSquaredError()",
    "AUROC": "AUC()",
    "Recall": "Sensitivity()",
    "Dice": "DiceScore()",
    "MeanIoU": "IoU()",
    "JaccardIndex": "IoU()",
    "BinaryAccuracy": "Accuracy(threshold=0.5)",
    "CategoricalAccuracy": "Accuracy()",
    "SparseCategoricalAccuracy": "Accuracy()",
}


def get(metric: Any) -> Metric:
    """The metric of that name ("accuracy", "auc", ...), or the object itself.

    A wrong name raises :class:`ArgumentError`.
    """
    if isinstance(metric, str) and metric in _NAMES:
        return _NAMES[metric]()
    if all(hasattr(metric, verb) for verb in ("update", "result", "reset")) and not isinstance(metric, type):
        return metric
    if isinstance(metric, type):
        raise ArgumentError(f"metric is the class {metric.__name__}; write {metric.__name__}() with brackets")
    if callable(metric):
        raise ArgumentError("a function is no metric: write a subclass of tn.metrics.Metric, or give a name")
    raise unknown_name("metric", metric, _NAMES)


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        raise AttributeError(f"tinynet.metrics has no {name!r}; it is called {_ELSEWHERE[name]}")
    raise AttributeError(f"tinynet.metrics has no {name!r}. {did_you_mean(name, __all__)}")
