"""Matrix product and bias gradient."""

from __future__ import annotations

import math

from tinynet.kernels.arrays._library import Array, wide_sum


def matmul(a: Array, b: Array) -> Array:
    """Matrix product, by the library's BLAS."""
    return a @ b


def bias_grad(grad_y: Array) -> Array:
    """Sum over all axes but the last."""
    *left, features = grad_y.shape
    return wide_sum(grad_y.reshape(math.prod(left), features), axis=0)
