"""The area under the ROC curve."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.backend import host
from tinynet.errors import DataError
from tinynet.metrics.metric import Metric, as_arrays, check_shares


class AUC(Metric):
    """Area under the ROC curve: how often a positive sample has a higher score than a negative one.

    It is the Mann-Whitney statistic over all pairs, ties count half (Hanley and McNeil 1982). Scores are
    logits or probabilities: one per sample, (N,) or (N, 1), or (N, K). For K > 2 it is the mean over the
    classes, each against the rest, of those that have both kinds of samples; logits are turned into
    probabilities first, which matters there. NaN when all samples are of one class.
    """

    name = "auc"

    def update(self, pred: Any, target: Any) -> None:
        scores, true = (host(a) for a in as_arrays(pred, target))
        check_shares(true)
        self._scores.append(_columns(scores, true))
        self._labels.append(_classes(scores, true))
        if self._labels[-1].shape != self._scores[-1].shape[:1]:
            raise DataError(f"scores of shape {scores.shape} do not fit targets of shape {true.shape}")
        if self._scores[-1].shape[1] == 1 and (self._labels[-1] > 1).any():
            raise DataError("auc got one score per sample, but labels above 1: give a score for each class")

    def result(self) -> float:
        if not self._scores:
            return float("nan")
        scores, true = np.concatenate(self._scores), np.concatenate(self._labels)
        columns = _against_the_rest(scores.astype(np.float64))
        if len(columns) == 1:
            return mann_whitney(columns[0], true == 1)
        areas = [mann_whitney(column, true == k) for k, column in enumerate(columns)]
        defined = [area for area in areas if not np.isnan(area)]
        return float(np.mean(defined)) if defined else float("nan")

    def reset(self) -> None:
        self._scores: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []


def mann_whitney(scores: np.ndarray, positive: np.ndarray) -> float:
    """Share of the pairs (positive, negative) in which the positive one scores higher; ties count half.

    ``scores`` (N,), ``positive`` (N,) booleans. From the sum of ranks, equal scores sharing the mean of their
    ranks.
    """
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if n_positive == 0 or n_negative == 0 or np.isnan(scores).any():
        return float("nan")
    _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[group]
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def _columns(scores: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(N, K), K = 1 for a single score."""
    single = scores.ndim == 1 or (scores.shape == true.shape and true.dtype.kind in "biu")
    return scores.reshape(-1, 1) if single else scores.reshape(-1, scores.shape[-1])


def _classes(scores: np.ndarray, true: np.ndarray) -> np.ndarray:
    if true.shape == scores.shape and true.ndim > 1 and true.shape[-1] > 1 and true.dtype.kind == "f":
        return true.argmax(-1).reshape(-1)
    return (true > 0.5 if true.dtype.kind == "f" else true).astype(np.int64).reshape(-1)


def _against_the_rest(scores: np.ndarray) -> list[np.ndarray]:
    """For each class a score that orders the samples as its probability does, without rounding to 0 or 1."""
    k = scores.shape[1]
    if k == 1:
        return [scores[:, 0]]
    if k == 2:
        return [scores[:, 1] - scores[:, 0]]
    if _are_probabilities(scores):
        return list(scores.T)
    return [scores[:, i] - _logsumexp(np.delete(scores, i, axis=1)) for i in range(k)]  # the log-odds


def _are_probabilities(scores: np.ndarray) -> bool:
    return bool((scores >= 0).all() and np.allclose(scores.sum(1), 1, atol=1e-3))


def _logsumexp(scores: np.ndarray) -> np.ndarray:
    top = scores.max(1)
    return top + np.log(np.exp(scores - top[:, None]).sum(1))
