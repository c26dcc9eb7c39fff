"""Convolution, with bias, ReLU and pooling, and its gradients as products: conv.cu, conv_weight.cu."""

from __future__ import annotations

import functools
import math
import sys
from typing import Any

import numpy as np

from tinynet.kernels.blocks import CLOSED
from tinynet.kernels.cuda.conv_plan import product_tile, stretch_of, weight_tile
from tinynet.kernels.cuda.loader import contiguous, float32_kernel, launch
from tinynet.kernels.geometry import Window

Array = Any
Needs = tuple[bool, bool, bool]

assert CLOSED == 4  # conv.cu knows it
MOST_PLACES = 2**31 - 2**9  # counted in 32 bits, and a tile may reach behind the last one


@float32_kernel
def conv(x: Array, weight: Array, bias: Array | None, window: Window, groups: int) -> Array:
    """Slide ``weight`` over ``x`` and add ``bias``."""
    return conv_block(x, weight, bias, window, groups, False, False)[0]


@float32_kernel
def conv_block(
    x: Array, weight: Array, bias: Array | None, window: Window, groups: int, relu: bool, pool: bool,
    places: bool = True,
) -> tuple[Array, Array | None]:  # fmt: skip
    """Convolution, bias, ReLU and pool in one kernel; the places come without being asked for."""
    x, weight, bias = map(contiguous, (x, weight, bias))
    channels, filters = weight.shape[-2], weight.shape[-1] // groups
    out = tuple(o // 2 if pool else o for o in window.output_shape(x.shape[1:-1]))
    y = empty((len(x), *out, weight.shape[-1]))
    where = empty(y.shape, np.uint8) if pool else None
    rows, width = len(x) * math.prod(out) * (4 if pool else 1), _width(channels, x)
    depth = math.prod(window.size) * channels
    tile = product_tile(rows, filters, depth, channels, groups, width, False)
    launch(
        "convolve", "conv.cu", (*tile.grid(rows, filters), groups), (tile.threads,), x, None, None, weight,
        bias, y, where, geometry(x.shape, weight.shape, window, groups), relu, pool,
        **tile.defines, WIDTH=width, WIDTH_B=_width(filters, weight),
    )  # fmt: skip
    return y, where


@float32_kernel
def conv_input_grad(grad_y: Array, weight: Array, x_shape: tuple, window: Window, groups: int) -> Array:
    """The gradient in x: each value collects from the outputs that saw it."""
    return _input_grad((contiguous(grad_y), None, None), contiguous(weight), tuple(x_shape), window, groups)


@float32_kernel
def conv_weight_grad(x: Array, grad_y: Array, window: Window, groups: int) -> Array:
    """The gradient in the weight: a sum over all positions, in parts."""
    return _weight_grad(contiguous(x), (contiguous(grad_y), None, None), window, groups, False)[0]


@float32_kernel
def conv_block_backward(
    grad_y: Array, x: Array, weight: Array, y: Array | None, where: Array | None, window: Window,
    groups: int, needs: Needs,
) -> tuple[Array | None, Array | None, Array | None]:  # fmt: skip
    """Gradients of :func:`conv_block`; pool and ReLU are undone while the gradient is read."""
    x, weight, *gradient = map(contiguous, (x, weight, grad_y, y, where))
    grad_x = _input_grad(gradient, weight, x.shape, window, groups) if needs[0] else None
    if not (needs[1] or needs[2]):
        return grad_x, None, None
    grad_weight, grad_bias = _weight_grad(x, gradient, window, groups, needs[2])
    return grad_x, grad_weight if needs[1] else None, grad_bias


def _input_grad(gradient: Any, weight: Array, x_shape: tuple, window: Window, groups: int) -> Array:
    """``gradient`` is that of what a block returned, and the block's y or where, or None.

    Inputs that lie alike between the strides are seen through the same taps. Each such phase is a product of
    its own, and none of them multiplies by the zeros that lie between.
    """
    grad_x = empty(x_shape)
    channels, filters = weight.shape[-2], weight.shape[-1] // groups
    phases = math.prod(window.stride)
    rows = x_shape[0] * math.prod(-(-s // step) for s, step in zip(x_shape[1:-1], window.stride))
    width, others = _width(filters, *gradient, weight), groups * phases
    depth = math.prod(window.size) * filters
    tile = product_tile(rows, channels, depth, filters, others, width, phases > 1)
    launch(
        "convolve", "conv.cu", (*tile.grid(rows, channels), others), (tile.threads,), *gradient, weight, None,
        grad_x, None, geometry(x_shape, weight.shape, window, groups), False, False,
        **tile.defines, WIDTH=width, MASK=_mask(gradient), ADJOINT=1, STRIDED=int(phases > 1),
    )  # fmt: skip
    return grad_x


def _weight_grad(
    x: Array, gradient: Any, window: Window, groups: int, with_bias: bool
) -> tuple[Array, Array | None]:
    """Gradients in weight and bias: the parts, and then their sums."""
    grad_y, channels = gradient[0], x.shape[-1] // groups
    shape = (*window.size, channels, grad_y.shape[-1])
    rows, filters, width = math.prod(shape[:-1]) + with_bias, shape[-1] // groups, _width(channels, x)
    positions = math.prod(grad_y.shape[:-1]) * (4 if gradient[2] is not None else 1)
    width_b = _width(filters, *gradient)
    tile = weight_tile(rows, filters, channels, width_b)
    tiles = tile.grid(rows, filters)
    stretch = stretch_of(positions, math.prod(tiles) * groups, tile.k)
    parts = empty((-(-positions // stretch), rows, shape[-1]))
    launch(
        "weight_grad_parts", "conv_weight.cu", (*tiles, groups * len(parts)), (tile.threads,), x, *gradient,
        parts, geometry(x.shape, shape, window, groups), positions, stretch, rows,
        **tile.defines, WIDTH=width, WIDTH_B=width_b, MASK=_mask(gradient),
    )  # fmt: skip
    return _sum(parts, shape, with_bias)


def _sum(parts: Array, shape: tuple[int, ...], with_bias: bool) -> tuple[Array, Array | None]:
    """Of the parts (P, rows, filters): the weight's rows, and the bias's, which is the last."""
    grad_weight, grad_bias = empty(shape), empty(shape[-1:]) if with_bias else None
    results = math.prod(parts.shape[1:])
    launch(
        "add_parts", "add_parts.cu", (-(-results // 32),), (32, 16), parts, grad_weight, grad_bias,
        len(parts), math.prod(shape), results,
    )  # fmt: skip
    return grad_weight, grad_bias


def _mask(gradient: Any) -> int:
    """What lies between a gradient and the convolution: 2 a pool, 1 a ReLU, 0 nothing."""
    _, y, where = gradient
    return 2 if where is not None else int(y is not None)


def _width(count: int, *arrays: Array | None) -> int:
    """How many of ``count`` neighbours a thread may read at once: 4 where these lie at multiples of 4."""
    aligned = (a is None or a.data.ptr % (4 * a.itemsize) == 0 for a in arrays)
    return 4 if count % 4 == 0 and all(aligned) else 1


@functools.lru_cache(maxsize=512)
def geometry(x_shape: tuple, weight_shape: tuple, window: Window, groups: int) -> np.ndarray:
    """The struct Geometry of conv.cuh, which kernels are given by value."""
    size, before, out = x_shape[1:-1], [b for b, _ in window.padding], window.output_shape(x_shape[1:-1])
    places = max(x_shape[0] * math.prod(size), x_shape[0] * math.prod(out), math.prod(weight_shape))
    if places > MOST_PLACES:
        raise ValueError(
            f"{places:,} places in one convolution; a kernel counts to {MOST_PLACES:,}: use fewer images"
        )
    axes = [size, out, window.size, window.stride, before, window.dilation]
    missing = [(0 if values is before else 1,) * (3 - len(size)) for values in axes]  # axes of length 1
    head = (x_shape[0], groups, weight_shape[-2], weight_shape[-1] // groups)
    return np.array([*head, *(n for pair in zip(missing, axes) for part in pair for n in part)], np.int32)


def empty(shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
    """An array on the card, of which nothing is set."""
    return sys.modules["cupy"].empty(shape, dtype)
