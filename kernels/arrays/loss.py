"""Softmax and cross-entropy in one, because together they are simpler and safer than apart."""

from __future__ import annotations

import numpy as np

from tinynet.kernels.arrays._library import Array, xp_of


def softmax_cross_entropy(logits: Array, labels: Array) -> tuple[Array, Array]:
    """Losses (R,) and probabilities (R, K); a row that holds +inf or NaN gives NaN.

    The row's maximum is subtracted first: the result is the same, and exp cannot overflow.
    """
    xp = xp_of(logits)
    with np.errstate(invalid="ignore"):  # inf - inf is the NaN that is wanted
        shifted = logits - logits.max(axis=1, keepdims=True)
    powers = xp.exp(shifted)
    total = powers.sum(axis=1, keepdims=True)
    losses = xp.log(total[:, 0]) - shifted[xp.arange(len(labels)), labels]
    return losses, powers / total


def softmax_cross_entropy_grad(probabilities: Array, labels: Array, grad: Array, divisor: float) -> Array:
    """(probabilities - onehot) * grad / divisor."""
    scale = grad.reshape(-1, 1) / divisor  # (R, 1), or (1, 1) when it is the same for all
    grad_logits = probabilities * scale
    grad_logits[xp_of(grad).arange(len(labels)), labels] -= scale[:, 0]
    return grad_logits


def scaled_sum(values: Array, divisor: float) -> Array:
    """Sum over the divisor."""
    return values.sum() / divisor


def add_scaled(total: Array, value: Array, factor: float) -> None:
    """Add the product, in float64."""
    total += value.reshape(total.shape).astype(np.float64) * factor
