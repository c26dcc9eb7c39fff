"""Softmax and cross-entropy in one: loss.cu."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from tinynet.kernels import arrays
from tinynet.kernels.cuda.loader import blocks, contiguous, float32_kernel, launch

Array = Any

_ROWS = 8  # rows of a block, a warp for each
_ONE_BLOCK = 1 << 14  # numbers that one block adds up; more are first added by
_BLOCKS = 256  # of them


@float32_kernel
def softmax_cross_entropy(logits: Array, labels: Array) -> tuple[Array, Array]:
    """Losses (R,) and probabilities (R, K); a row whose label is out of range gives NaN."""
    if logits.size == 0:
        return arrays.softmax_cross_entropy(logits, labels)
    cupy, (rows, classes) = sys.modules["cupy"], logits.shape
    losses, probabilities = cupy.empty(rows, np.float32), cupy.empty((rows, classes), np.float32)
    labels = contiguous(labels.astype(np.int64, copy=False))
    operands = contiguous(logits), labels, losses, probabilities
    launch("softmax_cross_entropy", "loss.cu", blocks(rows, _ROWS), (32, _ROWS), *operands, rows, classes)
    return losses, probabilities


@float32_kernel
def softmax_cross_entropy_grad(probabilities: Array, labels: Array, grad: Array, divisor: float) -> Array:
    """(probabilities - onehot) * grad / divisor."""
    out = sys.modules["cupy"].empty(probabilities.shape, np.float32)
    labels = contiguous(labels.astype(np.int64, copy=False))
    operands = contiguous(probabilities), labels, contiguous(grad), out
    sizes = float(divisor), grad.size > 1, out.shape[-1], np.int64(out.size)
    launch("softmax_cross_entropy_grad", "loss.cu", blocks(out.size), (256,), *operands, *sizes)
    return out


@float32_kernel
def scaled_sum(values: Array, divisor: float) -> Array:
    """Sum over the divisor; the sum runs in float64, and in two stages when there are many values."""
    values = contiguous(values)
    if values.size > _ONE_BLOCK:
        values = _sums(values, 1.0, (_BLOCKS,))
    return _sums(values, float(divisor), ())


def _sums(values: Array, divisor: float, shape: tuple[int, ...]) -> Array:
    """As many sums as ``shape`` has elements, each of an equal share of the values."""
    out = sys.modules["cupy"].empty(shape, np.float32)
    launch("scaled_sum", "loss.cu", (out.size,), (256,), values, out, divisor, values.size)
    return out


def add_scaled(total: Array, value: Array, factor: float) -> None:
    """Add value * factor to ``total``, in place."""
    if value.dtype != np.float32 or factor != np.float32(factor):
        return arrays.add_scaled(total, value, factor)
    launch("add_scaled", "loss.cu", (1,), (1,), total, value, float(factor))
