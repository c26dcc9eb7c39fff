"""Normalisation in float32.

Batch norm sees x (..., C) as one long line of numbers and walks along it in *strides*: as many pixels as make
some 512 numbers, so that the inner loops suit vector instructions however few channels there are. What is
known of a channel (mean, slope, sums) is laid out once for each pixel of a stride. Forward and backward are
each one pass for the sums and one for the result, and take the ReLU along. Sums are taken in blocks, which
depend on the shape alone, and put together in float64: the result is the same for any number of threads.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from tinynet.kernels import arrays, blocks
from tinynet.kernels.cpu.jit import contiguous, inner_kernel, kernel
from tinynet.kernels.cpu.threads import share, tasks_for

_STRIDE = 512  # numbers in a stride, more only when one pixel has more channels
_SAMPLES = 64  # pixels from which a first idea of the mean is taken
_LEAST, _MOST = 1 << 14, 1 << 17  # numbers in a block: worth a thread's while; few enough to add in float32
_BLOCKS = 32  # as many blocks unless these limits say otherwise
_ROW_BLOCKS = 64  # into at most so many blocks layer norm cuts its rows where it sums over them

f4 = np.float32


def _all_float32(*operands: np.ndarray) -> bool:
    return all(a.dtype == f4 for a in operands)


# --- batch norm: statistics of channels ---


def batch_norm(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normalise each feature over all other axes."""
    return norm_block(x, weight, bias, eps, relu=False)


def batch_norm_backward(
    grad_y: np.ndarray, x: np.ndarray, weight: np.ndarray, mean: np.ndarray, var: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of :func:`batch_norm` in x, weight and bias."""
    return norm_block_backward(grad_y, x, weight, mean, var, eps, None)


def norm_block(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float, relu: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Batch norm, then ReLU if ``relu``."""
    if not _all_float32(x, weight, bias) or x.size == 0:
        return blocks.norm_block(arrays, x, weight, bias, eps, relu)
    x = contiguous(x)
    mean, var = _statistics(x)
    y = _scaled(x, mean, weight / np.sqrt(var + eps), bias, relu)
    return y, mean.astype(f4), var.astype(f4)


def norm_block_backward(
    grad_y: np.ndarray, x: np.ndarray, weight: np.ndarray, mean: np.ndarray, var: np.ndarray, eps: float,
    y: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Gradients of :func:`norm_block` in x, weight and bias (Ioffe and Szegedy 2015)."""
    known = (grad_y, x, weight, mean, var) if y is None else (grad_y, x, weight, mean, var, y)
    if not _all_float32(*known) or x.size == 0:
        return blocks.norm_block_backward(arrays, grad_y, x, weight, mean, var, eps, y)
    x, grad_y, count = contiguous(x), contiguous(grad_y), x.size // x.shape[-1]
    flat = grad_y.reshape(-1), (grad_y if y is None else contiguous(y)).reshape(-1), y is None
    # sums of dy and of dy * (x - mean), dy counting where the ReLU is open
    total, product = _sums(_grads, x, *flat, _table(x, mean)[0])
    inverse = 1 / np.sqrt(var + np.float64(eps))
    # dx = slope * (dy - sum(dy) / n - (x - mean) / std^2 * sum(dy * (x - mean)) / n)
    table = _table(x, mean, weight * inverse, total / count, inverse**2 * product / count)
    grad_x = np.empty(x.shape, f4)
    _apply_grad(x.reshape(-1), *flat, grad_x.reshape(-1), table, _edges(x.size, table.shape[1]))
    return grad_x, (product * inverse).astype(f4), total.astype(f4)


def scale_shift(x: np.ndarray, scale: np.ndarray, shift: np.ndarray, relu: bool) -> np.ndarray:
    """x * scale + shift per feature, then ReLU if ``relu``."""
    if not _all_float32(x, scale, shift) or x.size == 0:
        return blocks.scale_shift(arrays, x, scale, shift, relu)
    return _scaled(contiguous(x), 0, scale, shift, relu)


def _scaled(x: np.ndarray, mean, slope: np.ndarray, bias: np.ndarray, relu: bool) -> np.ndarray:
    """(x - mean) * slope + bias, clipped at zero if ``relu``."""
    y = np.empty(x.shape, f4)
    table, floor = _table(x, mean, slope, bias), f4(0 if relu else -np.inf)
    _apply(x.reshape(-1), y.reshape(-1), floor, table, _edges(x.size, table.shape[1]))
    return y


def _table(x: np.ndarray, *values) -> np.ndarray:
    """Values per channel, each laid out along a stride: (values, pixels * C)."""
    channels = x.shape[-1]
    table = np.empty((len(values), max(1, _STRIDE // channels), channels), f4)
    for row, value in zip(table, values):
        row[...] = value
    return table.reshape(len(values), -1)


@functools.lru_cache(maxsize=256)
def _edges(size: int, stride: int) -> np.ndarray:
    """Where blocks of whole strides begin, and the end of the last, in an array of ``size`` numbers."""
    blocks = max(1, size // _MOST, min(_BLOCKS, size // _LEAST))
    strides = -(-size // stride)
    return np.minimum(np.arange(blocks + 1) * strides // blocks * stride, size)


def _sums(run, x: np.ndarray, *operands) -> np.ndarray:
    """Two sums for each channel (2, C) in float64; the last of the operands is laid out along a stride."""
    length = operands[-1].size
    edges = _edges(x.size, length)
    partial = np.zeros((len(edges) - 1, 2, length), f4)
    run(x.reshape(-1), *operands, partial, edges)
    return partial.sum(axis=0, dtype=np.float64).reshape(2, -1, x.shape[-1]).sum(axis=1)


def _statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population variance (C,) in float64.

    Summed up are deviations from the mean of a sample, and their squares: however far from zero the numbers
    lie, there is little to cancel in E[d^2] - E[d]^2.
    """
    pixels = x.reshape(-1, x.shape[-1])
    near = pixels[:: len(pixels) // _SAMPLES | 1].mean(axis=0)  # an odd step visits all columns of an image
    total, squares = _sums(_moments, x, _table(x, near)[0]) / len(pixels)
    return near + total, np.maximum(squares - total**2, 0)


@kernel
def _moments(x, near, partial, edges):
    share(len(partial), _moments_of_block, (x, near, partial, edges))


@inner_kernel
def _moments_of_block(b, x, near, partial, edges):
    """Sums of x - near and of its square."""
    total, squares = partial[b, 0], partial[b, 1]
    for first in range(edges[b], edges[b + 1], len(near)):
        stride = x[first : first + len(near)]
        for c in range(len(stride)):
            d = stride[c] - near[c]
            total[c] += d
            squares[c] += d * d


@kernel
def _apply(x, y, floor, table, edges):
    share(len(edges) - 1, _apply_to_block, (x, y, floor, table, edges))


@inner_kernel
def _apply_to_block(b, x, y, floor, table, edges):
    mean, slope, bias = table[0], table[1], table[2]
    for i in range(edges[b], edges[b + 1], len(mean)):
        source, target = x[i : i + len(mean)], y[i : i + len(mean)]
        for c in range(len(source)):
            value = (source[c] - mean[c]) * slope[c] + bias[c]
            target[c] = floor if value < floor else value


@kernel
def _grads(x, grad_y, y, plain, mean, partial, edges):
    share(len(partial), _grads_of_block, (x, grad_y, y, plain, mean, partial, edges))


@inner_kernel
def _grads_of_block(b, x, grad_y, y, plain, mean, partial, edges):
    """Sums of dy and of dy * (x - mean), where y > 0 or where it is plain that the gradient passes."""
    total, product = partial[b, 0], partial[b, 1]
    for i in range(edges[b], edges[b + 1], len(mean)):
        j = i + len(mean)
        source, grads, outputs = x[i:j], grad_y[i:j], y[i:j]
        for c in range(len(source)):
            g = grads[c] if (outputs[c] > 0) | plain else f4(0)
            total[c] += g
            product[c] += g * (source[c] - mean[c])


@kernel
def _apply_grad(x, grad_y, y, plain, grad_x, table, edges):
    share(len(edges) - 1, _apply_grad_to_block, (x, grad_y, y, plain, grad_x, table, edges))


@inner_kernel
def _apply_grad_to_block(b, x, grad_y, y, plain, grad_x, table, edges):
    mean, slope, level, tilt = table[0], table[1], table[2], table[3]
    for i in range(edges[b], edges[b + 1], len(mean)):
        j = i + len(mean)
        source, grads, outputs, target = x[i:j], grad_y[i:j], y[i:j], grad_x[i:j]
        for c in range(len(source)):
            g = grads[c] if (outputs[c] > 0) | plain else f4(0)
            target[c] = slope[c] * ((g - level[c]) - tilt[c] * (source[c] - mean[c]))


# --- layer norm: statistics of rows ---


def layer_norm(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normalise along each row of x (R, F)."""
    if not _all_float32(x, weight, bias) or x.size == 0:
        return arrays.layer_norm(x, weight, bias, eps)
    y, mean, var = np.empty(x.shape, f4), np.empty(len(x), f4), np.empty(len(x), f4)
    operands = contiguous(x), y, contiguous(weight), contiguous(bias), mean, var
    _layer_norm(*operands, f4(eps), tasks_for(len(x), x.size))
    return y, mean, var


def layer_norm_backward(
    grad_y: np.ndarray, x: np.ndarray, weight: np.ndarray, mean: np.ndarray, var: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of :func:`layer_norm` in x, weight and bias."""
    if not _all_float32(grad_y, x, weight, mean, var) or x.size == 0:
        return arrays.layer_norm_backward(grad_y, x, weight, mean, var, eps)
    grad_x = np.empty(x.shape, f4)
    partial = np.zeros((min(_ROW_BLOCKS, tasks_for(len(x), x.size)), 2, x.shape[1]), f4)
    operands = (contiguous(a) for a in (grad_y, x, weight, mean))
    _layer_norm_backward(*operands, 1 / np.sqrt(var + f4(eps)), grad_x, partial)
    grad_weight, grad_bias = partial.sum(axis=0, dtype=np.float64).astype(f4)
    return grad_x, grad_weight, grad_bias


@kernel
def _layer_norm(x, y, weight, bias, mean, var, eps, tasks):
    share(tasks, _normalise_rows, (x, y, weight, bias, mean, var, eps, tasks))


@inner_kernel
def _normalise_rows(task, x, y, weight, bias, mean, var, eps, tasks):
    for r in range(task * len(x) // tasks, (task + 1) * len(x) // tasks):
        mean[r], var[r] = _row_moments(x[r])
        slope = f4(1) / math.sqrt(var[r] + eps)
        for c in range(x.shape[1]):
            y[r, c] = (x[r, c] - mean[r]) * slope * weight[c] + bias[c]


@inner_kernel
def _row_moments(x):
    count = f4(len(x))
    shift, total, squares = f4(0), f4(0), f4(0)
    for c in range(len(x)):
        shift += x[c]
    shift /= count
    for c in range(len(x)):
        d = x[c] - shift
        total += d
        squares += d * d
    return shift + total / count, (squares - total * total / count) / count


@kernel
def _layer_norm_backward(grad_y, x, weight, mean, inverse, grad_x, partial):
    share(len(partial), _grads_of_rows, (grad_y, x, weight, mean, inverse, grad_x, partial))


@inner_kernel
def _grads_of_rows(b, grad_y, x, weight, mean, inverse, grad_x, partial):
    for r in range(b * len(x) // len(partial), (b + 1) * len(x) // len(partial)):
        _row_grads(grad_y[r], x[r], weight, mean[r], inverse[r], grad_x[r], partial[b, 0], partial[b, 1])


@inner_kernel
def _row_grads(grad_y, x, weight, mean, inverse, grad_x, grad_weight, grad_bias):
    total, product = f4(0), f4(0)
    for c in range(len(x)):
        normal, g = (x[c] - mean) * inverse, grad_y[c]
        grad_weight[c] += g * normal
        grad_bias[c] += g
        total += g * weight[c]
        product += g * weight[c] * normal
    total, product = total / f4(len(x)), product / f4(len(x))
    for c in range(len(x)):
        grad_x[c] = (grad_y[c] * weight[c] - total - (x[c] - mean) * inverse * product) * inverse
