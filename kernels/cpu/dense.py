"""The fully connected layer: a product that starts from the bias and ends with the ReLU; its gradients."""

from __future__ import annotations

import numpy as np

from tinynet.kernels import arrays, blocks
from tinynet.kernels.cpu.jit import contiguous, kernel
from tinynet.kernels.cpu.matmul import bias_grad, is_worth_tiles, product


def dense(x, weight, bias, relu):
    """x (R, F) @ weight (F, U) + bias (U,), then ReLU if ``relu``."""
    if not is_worth_tiles(x, weight) or not (bias is None or bias.dtype == np.float32):
        return blocks.dense(arrays, x, weight, bias, relu)
    return product(x, weight, None if bias is None else contiguous(bias), relu)


def dense_backward(grad_y, x, weight, y, needs):
    """Gradients of :func:`dense` in x, weight and bias; ``y`` is its result if there was a ReLU."""
    if grad_y.dtype != np.float32 or not is_worth_tiles(x, weight):
        return blocks.dense_backward(arrays, grad_y, x, weight, y, needs)
    if y is not None:
        grad_y = masked(grad_y, y)
    return (
        product(grad_y, weight.T) if needs[0] else None,
        product(x.T, grad_y) if needs[1] else None,
        bias_grad(grad_y) if needs[2] else None,
    )


def masked(grad, y):
    """``grad`` where the ReLU let something through."""
    out = np.empty(grad.shape, np.float32)
    _mask(contiguous(grad).reshape(-1), contiguous(y).reshape(-1), out.reshape(-1))
    return out


@kernel
def _mask(grad, y, out):
    for i in range(len(out)):
        out[i] = grad[i] * np.float32(y[i] > 0)  # not a choice: NaN times 0 is NaN
