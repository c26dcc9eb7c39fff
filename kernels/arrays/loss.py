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
