"""Softmax and cross-entropy in float32, row by row, in one pass while the row is in the nearest cache."""

from __future__ import annotations

import math

import numba
import numpy as np

from tinynet.kernels import arrays
from tinynet.kernels.cpu.elementwise import exp
from tinynet.kernels.cpu.jit import contiguous, exact_kernel, kernel, parallel_kernel

_LARGE = 1 << 15  # numbers from which on it pays to wake the other threads
_ROWS = 16  # rows a thread takes at a time


def softmax_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Losses (R,) and probabilities (R, K)."""
    if logits.dtype != np.float32 or logits.size == 0:
        return arrays.softmax_cross_entropy(logits, labels)
    losses, probabilities = np.empty(len(logits), np.float32), np.empty(logits.shape, np.float32)
    run = _softmax_rows if logits.size < _LARGE else _softmax_blocks
    run(contiguous(logits), contiguous(labels.astype(np.int64, copy=False)), losses, probabilities)
    return losses, probabilities


@parallel_kernel
def _softmax_blocks(logits, labels, losses, probabilities):
    for block in numba.prange((len(logits) + _ROWS - 1) // _ROWS):
        i, j = block * _ROWS, (block + 1) * _ROWS
        _softmax_rows(logits[i:j], labels[i:j], losses[i:j], probabilities[i:j])


@kernel
def _softmax_rows(logits, labels, losses, probabilities):
    for r in range(len(logits)):
        row, powers = logits[r], probabilities[r]
        top = row[0]
        for k in range(1, len(row)):
            top = max(top, row[k])
        total = np.float32(0)
        for k in range(len(row)):
            powers[k] = exp(row[k] - top)
            total += powers[k]
        losses[r] = _loss(total, row[labels[r]], top)
        for k in range(len(row)):
            powers[k] /= total


@exact_kernel
def _loss(total, logit, top):
    """Large logits cancel first; added to the small logarithm they would swallow it."""
    return math.log(total) - (logit - top)
