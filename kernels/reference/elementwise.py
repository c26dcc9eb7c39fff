"""Loss, dropout, error function and optimiser steps: one row or one element at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Arrays = Sequence[np.ndarray]


def softmax_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """-log softmax(row)[label] and softmax(row) for each row; a row that holds +inf or NaN gives NaN."""
    losses, probabilities = np.empty(len(logits)), np.empty(logits.shape)
    for r, label in enumerate(labels):
        row = logits[r].tolist()
        top = max(row)  # subtracted so that exp cannot overflow; the result is the same
        total = sum(math.exp(z - top) for z in row)
        probabilities[r] = [math.exp(z - top) / total for z in row]
        losses[r] = math.log(total) - (row[label] - top)
    return losses.astype(logits.dtype), probabilities.astype(logits.dtype)


def softmax_cross_entropy_grad(
    probabilities: np.ndarray, labels: np.ndarray, grad: np.ndarray, divisor: float
) -> np.ndarray:
    """Row by row: softmax(row), less 1 at the label, times the gradient of the row's loss."""
    grad_logits = np.empty_like(probabilities)
    for r, label in enumerate(labels):
        scale = float(grad[r] if grad.ndim else grad) / divisor
        for k, p in enumerate(probabilities[r].tolist()):
            grad_logits[r, k] = (p - (k == label)) * scale
    return grad_logits


def scaled_sum(values: np.ndarray, divisor: float) -> np.ndarray:
    """Sum over the divisor."""
    return np.array(math.fsum(values.tolist()) / divisor, values.dtype)


def add_scaled(total: np.ndarray, value: np.ndarray, factor: float) -> None:
    """Add the product, in float64."""
    total[...] = total.item() + value.item() * factor


def dropout(x: np.ndarray, rate: float, key: int) -> np.ndarray:
    """Zero each element with probability ``rate`` and scale the rest by 1 / (1 - rate)."""
    y = np.zeros(x.shape, x.dtype)
    threshold = min(round(rate * 2**32), 2**32 - 1)
    for i, index in enumerate(np.ndindex(*x.shape)):
        if hash32(i, key) >= threshold:
            y[index] = float(x[index]) / (1 - rate)
    return y


def hash32(i: int, key: int) -> int:
    """The hash of element ``i``, as :func:`tinynet.kernels.dropout` defines it."""
    h = mix((i * 0x9E3779B1 + key) % 2**32)
    return mix(h ^ (key >> 32))


def mix(h: int) -> int:
    """lowbias32: every bit of ``h`` comes to act on every bit of the result."""
    h = (h ^ (h >> 16)) * 0x7FEB352D % 2**32
    h = (h ^ (h >> 15)) * 0x846CA68B % 2**32
    return h ^ (h >> 16)


def erf(x: np.ndarray) -> np.ndarray:
    """The Gauss error function, for each element."""
    y = np.empty(x.shape, x.dtype)
    for index in np.ndindex(*x.shape):
        y[index] = math.erf(x[index])
    return y


def sgd_step(
    params: Arrays, grads: Arrays, velocities: Arrays | None, lr: float, momentum: float, nesterov: bool,
    weight_decay: float,
) -> None:  # fmt: skip
    """One step of gradient descent in place."""
    for k, param in enumerate(params):
        for i in np.ndindex(*param.shape):
            p = float(param[i])
            g = float(grads[k][i]) + weight_decay * p
            if velocities is not None:
                v = momentum * float(velocities[k][i]) + g
                velocities[k][i] = v
                g = g + momentum * v if nesterov else v
            param[i] = p - lr * g


def adam_step(
    params: Arrays, grads: Arrays, means: Arrays, squares: Arrays, lr: float, beta1: float, beta2: float,
    eps: float, weight_decay: float, decoupled: bool, steps: Sequence[int],
) -> None:  # fmt: skip
    """One step of Adam, or of AdamW when ``decoupled``, in place."""
    for param, grad, mean, square, step in zip(params, grads, means, squares, steps):
        for i in np.ndindex(*param.shape):
            p, g = float(param[i]), float(grad[i])
            if decoupled:
                p *= 1 - lr * weight_decay
            else:
                g += weight_decay * p
            m = beta1 * float(mean[i]) + (1 - beta1) * g
            v = beta2 * float(square[i]) + (1 - beta2) * g * g
            mean[i], square[i] = m, v
            param[i] = p - lr * (m / (1 - beta1**step)) / (math.sqrt(v / (1 - beta2**step)) + eps)


def total_norm(arrays: Arrays) -> np.ndarray:
    """Square root of the sum of all squares."""
    return np.array(math.sqrt(math.fsum(float(x) ** 2 for array in arrays for x in array.flat)))


def limit_norm(arrays: Arrays, norm: np.ndarray, limit: float) -> None:
    """Element by element, multiply by the same factor."""
    factor = limit / max(float(norm), limit)
    for array in arrays:
        for i in np.ndindex(*array.shape):
            array[i] *= array.dtype.type(factor)
