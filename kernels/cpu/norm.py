"""Normalisation in float32.

Batch norm lays rows of x side by side until they are some hundred numbers long, so that the inner loops suit
vector instructions when there are few channels. Statistics are taken in blocks that stay in a core's cache,
each in two passes about its own mean, and merged by NumPy in float64. The blocks depend on the shape alone,
so the result is the same for any number of threads.
"""

from __future__ import annotations

import functools
import math

import numba
import numpy as np

from tinynet.kernels import arrays
from tinynet.kernels.cpu.jit import contiguous, kernel, parallel_kernel

_COLUMNS = 256  # rows are laid side by side as long as they have no more numbers than this
_LEAST, _MOST = 1 << 14, 1 << 17  # numbers in a block: worth a thread's while; 512 KiB, within its cache
_BLOCKS = 32  # as many blocks unless these limits say otherwise
_SMALL = 1 << 12  # fewer numbers are NumPy's: merging the blocks alone takes as long
_ROW_BLOCKS = 64  # into how many blocks the rows of layer norm are cut

f4 = np.float32


def _all_float32(*operands: np.ndarray) -> bool:
    return all(a.dtype == f4 for a in operands)


# --- batch norm: statistics of columns ---


def batch_norm(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normalise each feature over all other axes."""
    if not _all_float32(x, weight, bias) or x.size < _SMALL:
        return arrays.batch_norm(x, weight, bias, eps)
    rows, fold = _side_by_side(x)
    mean, var = _statistics(rows, x.shape[-1])
    y = np.empty(x.shape, f4)
    slope = weight / np.sqrt(var + eps)
    _apply(rows, y.reshape(rows.shape), _tiled(fold, mean), _tiled(fold, slope), _tiled(fold, bias))
    return y, mean.astype(f4), var.astype(f4)


def batch_norm_backward(
    grad_y: np.ndarray, x: np.ndarray, weight: np.ndarray, mean: np.ndarray, var: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of :func:`batch_norm` in x, weight and bias (Ioffe and Szegedy 2015)."""
    if not _all_float32(grad_y, x, weight, mean, var) or x.size < _SMALL:
        return arrays.batch_norm_backward(grad_y, x, weight, mean, var, eps)
    rows, fold = _side_by_side(x)
    grads, means = contiguous(grad_y).reshape(rows.shape), _tiled(fold, mean)
    partial = np.zeros((_blocks(rows), 2, rows.shape[1]), f4)
    _column_grads(grads, rows, means, partial)
    total, product = _sum_blocks(partial, x.shape[-1])  # sums of dy and of dy * (x - mean)
    inverse = 1 / np.sqrt(var + np.float64(eps))
    slope, count = weight * inverse, x.size // x.shape[-1]
    grad_x = np.empty(x.shape, f4)
    # dx = slope * (dy - sum(dy) / n - (x - mean) / std^2 * sum(dy * (x - mean)) / n)
    factors = slope, -slope * inverse**2 * product / count, -slope * total / count
    _apply_grad(grads, rows, means, grad_x.reshape(rows.shape), *(_tiled(fold, f) for f in factors))
    return grad_x, (product * inverse).astype(f4), total.astype(f4)


def _side_by_side(x: np.ndarray) -> tuple[np.ndarray, int]:
    """x (..., C) as (R / fold, fold * C), and fold."""
    channels = x.shape[-1]
    fold = _fold(x.size // channels, channels)
    return contiguous(x).reshape(-1, fold * channels), fold


@functools.lru_cache(maxsize=256)
def _fold(rows: int, channels: int) -> int:
    """The largest divisor of ``rows`` so that as many rows have at most ``_COLUMNS`` numbers; 1 at least."""
    return next((f for f in range(_COLUMNS // channels, 1, -1) if rows % f == 0), 1)


def _tiled(fold: int, values: np.ndarray) -> np.ndarray:
    return np.tile(values.astype(f4), fold)


def _blocks(rows: np.ndarray) -> int:
    """Into how many blocks the rows of a matrix are cut."""
    return min(max(1, rows.size // _MOST, min(_BLOCKS, rows.size // _LEAST)), len(rows))


def _sum_blocks(partial: np.ndarray, channels: int) -> np.ndarray:
    """Sums (blocks, kinds, fold * C) to (kinds, C) in float64."""
    blocks, kinds, _ = partial.shape
    return partial.reshape(blocks, kinds, -1, channels).sum(axis=(0, 2), dtype=np.float64)


def _statistics(rows: np.ndarray, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population variance (C,) in float64, merged from blocks (Chan, Golub and LeVeque 1979)."""
    partial = np.zeros((_blocks(rows), 3, rows.shape[1]), f4)
    _column_moments(rows, partial)
    shift, total, squares = partial.reshape(len(partial), 3, -1, channels).swapaxes(0, 1).astype(np.float64)
    edges = np.arange(len(partial) + 1) * len(rows) // len(partial)
    count = np.diff(edges)[:, None, None]  # rows of each block
    means = shift + total / count
    samples = rows.size // channels
    mean = (means * count).sum(axis=(0, 1)) / samples
    within = squares - total**2 / count
    between = (means - mean) ** 2 * count
    return mean, (within + between).sum(axis=(0, 1)) / samples


@parallel_kernel
def _column_moments(x, partial):
    blocks = len(partial)
    for b in numba.prange(blocks):
        i, j = b * len(x) // blocks, (b + 1) * len(x) // blocks
        _block_moments(x[i:j], partial[b, 0], partial[b, 1], partial[b, 2])


@kernel
def _block_moments(x, shift, total, squares):
    """Means of the columns as far as float32 goes, then sums of the deviations and of their squares."""
    rows, columns = x.shape
    for r in range(rows):
        for c in range(columns):
            shift[c] += x[r, c]
    for c in range(columns):
        shift[c] /= f4(rows)
    for r in range(rows):
        for c in range(columns):
            d = x[r, c] - shift[c]
            total[c] += d
            squares[c] += d * d


@parallel_kernel
def _apply(x, y, mean, slope, bias):
    for r in numba.prange(len(x)):
        for c in range(x.shape[1]):
            y[r, c] = (x[r, c] - mean[c]) * slope[c] + bias[c]


@parallel_kernel
def _column_grads(grad_y, x, mean, partial):
    blocks = len(partial)
    for b in numba.prange(blocks):
        i, j = b * len(x) // blocks, (b + 1) * len(x) // blocks
        _block_grads(grad_y[i:j], x[i:j], mean, partial[b, 0], partial[b, 1])


@kernel
def _block_grads(grad_y, x, mean, total, product):
    for r in range(len(x)):
        for c in range(x.shape[1]):
            g = grad_y[r, c]
            total[c] += g
            product[c] += g * (x[r, c] - mean[c])


@parallel_kernel
def _apply_grad(grad_y, x, mean, grad_x, of_grad, of_x, constant):
    for r in numba.prange(len(x)):
        for c in range(x.shape[1]):
            grad_x[r, c] = of_grad[c] * grad_y[r, c] + of_x[c] * (x[r, c] - mean[c]) + constant[c]


# --- layer norm: statistics of rows ---


def layer_norm(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normalise along each row of x (R, F)."""
    if not _all_float32(x, weight, bias) or x.size == 0:
        return arrays.layer_norm(x, weight, bias, eps)
    y, mean, var = np.empty(x.shape, f4), np.empty(len(x), f4), np.empty(len(x), f4)
    _layer_norm(contiguous(x), y, contiguous(weight), contiguous(bias), mean, var, f4(eps))
    return y, mean, var


def layer_norm_backward(
    grad_y: np.ndarray, x: np.ndarray, weight: np.ndarray, mean: np.ndarray, var: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of :func:`layer_norm` in x, weight and bias."""
    if not _all_float32(grad_y, x, weight, mean, var) or x.size == 0:
        return arrays.layer_norm_backward(grad_y, x, weight, mean, var, eps)
    grad_x = np.empty(x.shape, f4)
    partial = np.zeros((min(_ROW_BLOCKS, len(x)), 2, x.shape[1]), f4)
    operands = (contiguous(a) for a in (grad_y, x, weight, mean))
    _layer_norm_backward(*operands, 1 / np.sqrt(var + f4(eps)), grad_x, partial)
    grad_weight, grad_bias = _sum_blocks(partial, x.shape[1]).astype(f4)
    return grad_x, grad_weight, grad_bias


@parallel_kernel
def _layer_norm(x, y, weight, bias, mean, var, eps):
    for r in numba.prange(len(x)):
        mean[r], var[r] = _row_moments(x[r])
        slope = f4(1) / math.sqrt(var[r] + eps)
        for c in range(x.shape[1]):
            y[r, c] = (x[r, c] - mean[r]) * slope * weight[c] + bias[c]


@kernel
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


@parallel_kernel
def _layer_norm_backward(grad_y, x, weight, mean, inverse, grad_x, partial):
    blocks = len(partial)
    for b in numba.prange(blocks):
        for r in range(b * len(x) // blocks, (b + 1) * len(x) // blocks):
            _row_grads(grad_y[r], x[r], weight, mean[r], inverse[r], grad_x[r], partial[b, 0], partial[b, 1])


@kernel
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
