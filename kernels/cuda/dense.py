"""The fully connected layer: products that end with bias and ReLU, and the way back (dense.cu)."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.kernels.arrays._library import xp_of
from tinynet.kernels.cuda.loader import blocks, contiguous, float32_kernel, launch
from tinynet.kernels.cuda.matmul import gemm

Array = Any

_THREADS = 256
_WALK = 32  # rows that a thread adds up at least
_BLOCKS = 264  # keep a large card busy


@float32_kernel
def dense(x: Array, weight: Array, bias: Array | None, relu: bool) -> Array:
    """x (R, F) @ weight (F, U) + bias (U,), then ReLU if ``relu``."""
    return gemm(x, weight, bias=bias, activation="relu" if relu else None)


@float32_kernel
def dense_backward(
    grad_y: Array, x: Array, weight: Array, y: Array | None, needs: tuple[bool, bool, bool]
) -> tuple[Array | None, Array | None, Array | None]:
    """Gradients of :func:`dense` in x, weight and bias; ``y`` is its result if there was a ReLU."""
    grad_bias = None
    if y is not None or needs[2]:
        grad_y, grad_bias = mask_and_sum(grad_y, y)
    return (
        gemm(grad_y, weight.T) if needs[0] else None,
        gemm(x.T, grad_y) if needs[1] else None,
        grad_bias if needs[2] else None,
    )


@float32_kernel
def bias_grad(grad_y: Array) -> Array:
    """Sum over all axes but the last."""
    return mask_and_sum(grad_y, None)[1]


def mask_and_sum(grad_y: Array, y: Array | None) -> tuple[Array, Array]:
    """The gradient (..., C) before a ReLU whose result was ``y``, if there was one; and its sums (C,)."""
    grad_y, columns = contiguous(grad_y), grad_y.shape[-1]
    xp, rows = xp_of(grad_y), grad_y.size // max(columns, 1)
    masked, sums = grad_y if y is None else xp.empty(grad_y.shape, np.float32), xp.empty(columns, np.float32)
    if rows == 0:
        sums.fill(0)
        return masked, sums
    width, across, down, height = _shape(rows, columns)
    parts = xp.empty((down, columns), np.float64)
    args = grad_y, grad_y if y is None else contiguous(y), masked, parts, sums
    sizes = rows, columns, width, height, y is not None
    launch("mask_and_sum", "dense.cu", (across, down), (_THREADS,), *args, *sizes)
    if down > 1:
        launch("add_parts", "dense.cu", blocks(columns, 32), (_THREADS,), parts, sums, down, columns)
    return masked, sums


def _shape(rows: int, columns: int) -> tuple[int, int, int, int]:
    """Width of a block, blocks across and down, and height of a block."""
    width = min(32, 1 << max(columns - 1, 0).bit_length())
    across = -(-columns // width)
    down = min(max(1, _BLOCKS // max(across, 1)), -(-rows // (_WALK * _THREADS // width)))
    height = -(-rows // down)
    return width, across, -(-rows // height), height
