"""Normalisation in float32.

Batch norm sees x (..., C) as one long line of numbers and walks along it in *rows*: as many pixels as fill
some vector registers, however few channels there are (norm_loops.py). What is known of a channel (mean,
slope, sums) is laid out once for each pixel of a row. Forward and backward are each one pass for the sums and
one for the result, and take the ReLU along. Sums are taken in blocks, which depend on the shape alone, and
put together in float64: the result is the same for any number of threads.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from tinynet.kernels import arrays, blocks
from tinynet.kernels.cpu.jit import contiguous, inner_kernel, kernel
from tinynet.kernels.cpu.loops import call_loop
from tinynet.kernels.cpu.microkernel import address_of, registers
from tinynet.kernels.cpu.norm_loops import norm_loop, row_sizes
from tinynet.kernels.cpu.threads import share, tasks_for

_SAMPLES = 64  # pixels from which a first idea of the mean is taken
_BLOCK = 1 << 14  # numbers in a block: worth a thread's while; few enough to add in float32
_ROW_BLOCKS = 64  # into at most so many blocks layer norm cuts its rows where it sums over them

f4 = np.float32
_NO_SUMS = np.zeros((0, 2, 0), f4)


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
    return norm_block_backward(grad_y, x, weight, np.zeros_like(weight), mean, var, eps, None)


def norm_block(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float, relu: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Batch norm, then ReLU if ``relu``."""
    if not _all_float32(x, weight, bias) or x.size == 0:
        return blocks.norm_block(arrays, x, weight, bias, eps, relu)
    x = contiguous(x)
    mean, var = (a.astype(f4) for a in _statistics(x))
    return _scaled(x, mean, weight * _inverse(var, eps), bias, relu), mean, var


def norm_block_backward(
    grad_y: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, mean: np.ndarray,
    var: np.ndarray, eps: float, y: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Gradients of :func:`norm_block` in x, weight and bias (Ioffe and Szegedy 2015)."""
    if not _all_float32(grad_y, x, weight, bias, mean, var) or x.size == 0:
        return blocks.norm_block_backward(arrays, grad_y, x, weight, bias, mean, var, eps, y)
    x, grad_y, count = contiguous(x), contiguous(grad_y), x.size // x.shape[-1]
    inverse, relu = _inverse(var, eps), y is not None
    forward = mean, weight * inverse, bias
    # sums of dy and of dy * (x - mean), dy counting where the ReLU is open
    total, product = _sums("grads", relu, x, grad_y, _table(x, *forward))
    # dx = slope * (dy - sum(dy) / n - (x - mean) / std^2 * sum(dy * (x - mean)) / n)
    table = _table(x, *forward, total / count, inverse**2 * product / count)
    grad_x = np.empty(x.shape, f4)
    _walk_along("scale_grad", relu, x, grad_y, grad_x, table, _NO_SUMS)
    return grad_x, (product * inverse).astype(f4), total.astype(f4)


def _inverse(var: np.ndarray, eps: float) -> np.ndarray:
    """1 over the standard deviation, in float64 from a variance in float32, forward and backward alike."""
    return 1 / np.sqrt(var + np.float64(eps))


def scale_shift(x: np.ndarray, scale: np.ndarray, shift: np.ndarray, relu: bool) -> np.ndarray:
    """x * scale + shift per feature, then ReLU if ``relu``."""
    if not _all_float32(x, scale, shift) or x.size == 0:
        return blocks.scale_shift(arrays, x, scale, shift, relu)
    return _scaled(contiguous(x), 0, scale, shift, relu)


def _scaled(x: np.ndarray, mean, slope: np.ndarray, bias: np.ndarray, relu: bool) -> np.ndarray:
    """(x - mean) * slope + bias, clipped at zero if ``relu``."""
    y = np.empty(x.shape, f4)
    _walk_along("scale", relu, x, x, y, _table(x, mean, slope, bias), _NO_SUMS)
    return y


def _table(x: np.ndarray, *values) -> np.ndarray:
    """Values per channel, each laid out along a row: (values, pixels * C)."""
    channels = x.shape[-1]
    table = np.empty((len(values), row_sizes(channels)[0] // channels, channels), f4)
    for row, value in zip(table, values):
        row[...] = value
    return table.reshape(len(values), -1)


@functools.lru_cache(maxsize=256)
def _edges(size: int, row: int) -> np.ndarray:
    """Where blocks of whole rows begin, and the end of the last, in an array of ``size`` numbers."""
    blocks, rows = max(1, size // _BLOCK), -(-size // row)
    return np.minimum(np.arange(blocks + 1) * rows // blocks * row, size)


def _sums(loop: str, relu: bool, x: np.ndarray, grad_y: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Two sums for each channel (2, C) in float64."""
    row = table.shape[1]
    partial = np.zeros((len(_edges(x.size, row)) - 1, 2, row), f4)
    _walk_along(loop, relu, x, grad_y, x, table, partial)
    return partial.sum(axis=0, dtype=np.float64).reshape(2, -1, x.shape[-1]).sum(axis=1)


def _walk_along(loop: str, relu: bool, x, grad_y, out, table, partial) -> None:
    """One loop of norm_loops.py over arrays like x, of which it reads or writes those that it needs."""
    row, vectors = row_sizes(x.shape[-1])
    whole = norm_loop(loop, vectors, int(relu), 0)
    ragged = norm_loop(loop, vectors, int(relu), 1) if x.size % row else 0
    lines = (a.reshape(-1) for a in (x, grad_y, out))
    _walk(whole, ragged, vectors * registers()[0], *lines, table, partial, _edges(x.size, row))


def _statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population variance (C,) in float64.

    Summed up are deviations from the mean of a sample, and their squares: however far from zero the numbers
    lie, there is little to cancel in E[d^2] - E[d]^2.
    """
    pixels = x.reshape(-1, x.shape[-1])
    near = pixels[:: len(pixels) // _SAMPLES | 1].mean(axis=0)  # an odd step visits all columns of an image
    total, squares = _sums("moments", False, x, x, _table(x, near)) / len(pixels)
    return near + total, np.maximum(squares - total**2, 0)


@kernel
def _walk(whole, ragged, width, x, grad_y, out, table, partial, edges):
    share(len(edges) - 1, _walk_block, (whole, ragged, width, x, grad_y, out, table, partial, edges))


@inner_kernel
def _walk_block(b, whole, ragged, width, x, grad_y, out, table, partial, edges):
    """The rows of block b, so many columns of them at a time, and what is left of a row."""
    step = table.shape[1]
    rows, rest = (edges[b + 1] - edges[b]) // step, (edges[b + 1] - edges[b]) % step
    for column in range(0, step, width):
        start = 4 * (edges[b] + column)
        source, grads, to = address_of(x) + start, address_of(grad_y) + start, address_of(out) + start
        known, sums = address_of(table) + 4 * column, address_of(partial) + 4 * (2 * b * step + column)
        call_loop(whole, (rows, width, step, source, grads, to, known, sums))
        if rest > column:
            end = 4 * rows * step
            call_loop(ragged, (1, rest - column, step, source + end, grads + end, to + end, known, sums))


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
