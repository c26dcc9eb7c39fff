"""Softmax and cross-entropy in float32, row by row, in one pass while the row is in the nearest cache."""

from __future__ import annotations

import math

import numpy as np

from tinynet.kernels import arrays
from tinynet.kernels.cpu.elementwise import exp
from tinynet.kernels.cpu.jit import contiguous, exact_kernel, inner_kernel, kernel
from tinynet.kernels.cpu.threads import share, tasks_for


def softmax_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Losses (R,) and probabilities (R, K)."""
    if logits.dtype != np.float32 or logits.size == 0:
        return arrays.softmax_cross_entropy(logits, labels)
    losses, probabilities = np.empty(len(logits), np.float32), np.empty(logits.shape, np.float32)
    labels = contiguous(labels.astype(np.int64, copy=False))
    _softmax(contiguous(logits), labels, losses, probabilities, tasks_for(len(logits), logits.size))
    return losses, probabilities


def softmax_cross_entropy_grad(
    probabilities: np.ndarray, labels: np.ndarray, grad: np.ndarray, divisor: float
) -> np.ndarray:
    """(probabilities - onehot) * grad / divisor."""
    scale = grad.reshape(-1) / divisor  # (R,), or (1,) when it is the same for all
    if not probabilities.dtype == scale.dtype == np.float32 or labels.dtype != np.int64:
        return arrays.softmax_cross_entropy_grad(probabilities, labels, grad, divisor)
    out = np.empty(probabilities.shape, np.float32)
    _slopes(contiguous(probabilities), contiguous(labels), contiguous(scale), out)
    return out


@kernel
def _slopes(probabilities, labels, scale, out):
    for r in range(len(out)):
        factor = scale[r if len(scale) > 1 else 0]
        for k in range(out.shape[1]):
            out[r, k] = probabilities[r, k] * factor
        out[r, labels[r]] -= factor


@kernel
def _softmax(logits, labels, losses, probabilities, tasks):
    share(tasks, _softmax_rows, (logits, labels, losses, probabilities, tasks))


@inner_kernel
def _softmax_rows(task, logits, labels, losses, probabilities, tasks):
    """All exponentials in one run, because rows of few classes are too short for vector instructions."""
    i, j = task * len(logits) // tasks, (task + 1) * len(logits) // tasks
    _subtract_top(logits[i:j], labels[i:j], losses[i:j], probabilities[i:j])
    _exponentials(probabilities[i:j].reshape(-1))
    _divide_by_total(losses[i:j], probabilities[i:j])


@inner_kernel
def _subtract_top(logits, labels, losses, shifted):
    for r in range(len(logits)):
        top = logits[r, 0]
        for k in range(1, logits.shape[1]):
            top = max(top, logits[r, k])
        for k in range(logits.shape[1]):
            shifted[r, k] = logits[r, k] - top
        losses[r] = shifted[r, labels[r]]


@inner_kernel
def _exponentials(x):
    for i in range(len(x)):
        x[i] = exp(x[i])


@inner_kernel
def _divide_by_total(losses, powers):
    for r in range(len(powers)):
        total = np.float32(0)
        for k in range(powers.shape[1]):
            total += powers[r, k]
        losses[r] = _loss(total, losses[r])
        for k in range(powers.shape[1]):
            powers[r, k] /= total


@exact_kernel
def _loss(total, shifted):
    """Large logits have cancelled in ``shifted``; added to the small logarithm they would swallow it."""
    return math.log(total) - shifted
