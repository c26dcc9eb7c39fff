"""Layers that are computed in one go, put together from single kernels: what a fused kernel must equal.

A room with a fused kernel of the same name uses that; the others come here, with themselves as ``room``.
"""

from __future__ import annotations

from itertools import accumulate
from types import ModuleType
from typing import Any

from tinynet.kernels.arrays._library import xp_of
from tinynet.kernels.geometry import Window

Array = Any

HALVING = Window((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))  # the pool that a convolution can take along
CLOSED = 4  # the index of a pooled place whose ReLU lets nothing through; 0 to 3 are the winners


def conv_block(
    room: ModuleType, x: Array, weight: Array, bias: Array | None, window: Window, groups: int, relu: bool,
    pool: bool, places: bool = True,
) -> tuple[Array, Array | None]:  # fmt: skip
    """Convolution, bias, ReLU and pooling, one after the other; the places come without being asked for."""
    y = room.conv(x, weight, bias, window, groups)
    if relu:
        y = y.clip(0, None)
    if not pool:
        return y, None
    y, where = room.max_pool(y, HALVING)
    if relu:
        where[~(y > 0)] = CLOSED
    return y, where


def conv_block_backward(
    room: ModuleType, grad_y: Array, x: Array, weight: Array, y: Array | None, where: Array | None,
    window: Window, groups: int, needs: tuple[bool, bool, bool],
) -> tuple[Array | None, Array | None, Array | None]:  # fmt: skip
    """Back through the pool, the ReLU and the convolution."""
    if where is not None:
        shape = (len(x), *window.output_shape(x.shape[1:-1]), weight.shape[-1])
        grad_y = room.max_pool_backward(grad_y, where, shape, HALVING)  # no place has index CLOSED
    elif y is not None:
        grad_y = grad_y * (y > 0).astype(grad_y.dtype)
    return (
        room.conv_input_grad(grad_y, weight, x.shape, window, groups) if needs[0] else None,
        room.conv_weight_grad(x, grad_y, window, groups) if needs[1] else None,
        room.bias_grad(grad_y) if needs[2] else None,
    )


def conv_transpose(
    room: ModuleType, x: Array, weight: Array, bias: Array | None, y_shape: tuple, window: Window, groups: int
) -> Array:
    """Input gradient of a convolution, and bias."""
    y = room.conv_input_grad(x, weight, y_shape, window, groups)
    if bias is not None:
        y += bias
    return y


def dense(room: ModuleType, x: Array, weight: Array, bias: Array | None, relu: bool) -> Array:
    """Product, bias and ReLU."""
    y = room.matmul(x, weight)
    if bias is not None:
        y += bias
    return y.clip(0, None) if relu else y


def dense_backward(
    room: ModuleType, grad_y: Array, x: Array, weight: Array, y: Array | None,
    needs: tuple[bool, bool, bool],
) -> tuple[Array | None, Array | None, Array | None]:  # fmt: skip
    """Back through the ReLU and the product."""
    if y is not None:
        grad_y = grad_y * (y > 0).astype(grad_y.dtype)
    return (
        room.matmul(grad_y, weight.T) if needs[0] else None,
        room.matmul(x.T, grad_y) if needs[1] else None,
        room.bias_grad(grad_y) if needs[2] else None,
    )


def norm_block(
    room: ModuleType, x: Array, weight: Array, bias: Array, eps: float, relu: bool
) -> tuple[Array, Array, Array]:
    """Batch normalisation and ReLU."""
    y, mean, var = room.batch_norm(x, weight, bias, eps)
    return y.clip(0, None) if relu else y, mean, var


def norm_block_backward(
    room: ModuleType, grad_y: Array, x: Array, weight: Array, bias: Array, mean: Array, var: Array,
    eps: float, y: Array | None,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Back through the ReLU and the normalisation."""
    if y is not None:
        grad_y = grad_y * (y > 0).astype(grad_y.dtype)
    return room.batch_norm_backward(grad_y, x, weight, mean, var, eps)


def scale_shift(room: ModuleType, x: Array, scale: Array, shift: Array, relu: bool) -> Array:
    """x * scale + shift per feature, and ReLU."""
    y = x * scale + shift
    return y.clip(0, None) if relu else y


def join(room: ModuleType, axis: int, *parts: Array) -> Array:
    """Arrays one after the other."""
    return xp_of(parts[0]).concatenate(parts, axis)


def cut(room: ModuleType, x: Array, sizes: tuple[int, ...], axis: int) -> tuple[Array, ...]:
    """Its pieces, copied."""
    xp, ends = xp_of(x), list(accumulate(sizes))
    return tuple(map(xp.ascontiguousarray, xp.split(x, ends[:-1], axis)))
