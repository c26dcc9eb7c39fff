"""Pooling over one to three spatial axes: pool.cu."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from tinynet.kernels.cuda.loader import contiguous, float32_kernel, launch
from tinynet.kernels.geometry import Window

Array = Any

_AXIS = (1, 1, 1, 1, 0, 1)  # in, out, size, stride, padding, dilation of an axis that is not there
_THREADS = 128
_MOST_SAMPLES = 65535  # blocks along the second axis of a grid; beyond that a thread takes several samples


@float32_kernel
def max_pool(x: Array, window: Window) -> tuple[Array, Array]:
    """Largest value in each window, and where it stood."""
    cupy, shape = sys.modules["cupy"], _output_shape(x, window)
    y, where = cupy.empty(shape, np.float32), cupy.empty(shape, _index_type(window))
    _launch("max_pool", y, (contiguous(x), y, where), x.shape, window)
    return y, where


@float32_kernel
def max_pool_backward(grad_y: Array, where: Array, x_shape: tuple, window: Window) -> Array:
    """Give each gradient back to the place that won."""
    grad_x = sys.modules["cupy"].empty(x_shape, np.float32)
    where = contiguous(where.astype(_index_type(window), copy=False))
    _launch("max_pool_backward", grad_x, (contiguous(grad_y), where, grad_x), x_shape, window)
    return grad_x


@float32_kernel
def avg_pool(x: Array, window: Window, count_padding: bool) -> Array:
    """Mean over each window."""
    y = sys.modules["cupy"].empty(_output_shape(x, window), np.float32)
    _launch("avg_pool", y, (contiguous(x), y), x.shape, window, _counts_all(window, count_padding))
    return y


@float32_kernel
def avg_pool_backward(grad_y: Array, x_shape: tuple, window: Window, count_padding: bool) -> Array:
    """Share each gradient equally among the places of its window."""
    grad_x = sys.modules["cupy"].empty(x_shape, np.float32)
    operands = contiguous(grad_y), grad_x
    _launch("avg_pool_backward", grad_x, operands, x_shape, window, _counts_all(window, count_padding))
    return grad_x


def _output_shape(x: Array, window: Window) -> tuple[int, ...]:
    return (len(x), *window.output_shape(x.shape[1:-1]), x.shape[-1])


def _index_type(window: Window) -> type:
    return np.uint8 if math.prod(window.size) <= 256 else np.int32


def _counts_all(window: Window, count_padding: bool) -> bool:
    """Whether the divisor is the same for all windows: padding counts, or there is none."""
    return count_padding or not any(map(sum, window.padding))


def _launch(name: str, target: Array, arrays: tuple, x_shape: tuple, window: Window, *flags: bool) -> None:
    """One thread for so many channels of each place of ``target``, in every sample."""
    pack = 4 if x_shape[-1] % 4 == 0 and all(a.data.ptr % 16 == 0 for a in arrays) else 1
    geometry = _geometry(x_shape, window, pack)
    grid, block = _threads(math.prod(target.shape[1:]) // pack, x_shape[0])
    wide = int(_index_type(window) is np.int32)
    launch(name, "pool.cu", grid, block, *arrays, geometry, *flags, PACK=pack, WIDE=wide)


def _geometry(x_shape: tuple, window: Window, pack: int) -> np.ndarray:
    """The struct Geometry of pool.cu."""
    samples, *spatial, channels = x_shape
    before = [first for first, _ in window.padding]
    out = window.output_shape(tuple(spatial))
    axes = [*zip(spatial, out, window.size, window.stride, before, window.dilation)]
    axes = [_AXIS] * (3 - len(axes)) + axes
    return np.array([*sum(axes, ()), samples, channels // pack], np.int32)


def _threads(per_sample: int, samples: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Grid and block: places of a sample along the first axis, samples along the second."""
    across = min(_THREADS, -(-per_sample // 32) * 32) or 1
    down = _THREADS // across
    return (-(-per_sample // across), min(-(-samples // down), _MOST_SAMPLES)), (across, down)
