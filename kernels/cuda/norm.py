"""Batch norm, down the columns of a matrix (R, C), and layer norm, along its rows: norm.cu."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from tinynet.kernels import arrays
from tinynet.kernels import blocks as plain_blocks
from tinynet.kernels.cuda.loader import blocks, contiguous, float32_kernel, launch

Array = Any
Arrays3 = tuple[Array, Array, Array]

_THREADS = 512  # most threads in a block that walks down the columns; norm.cu knows it too
_EACH = 8  # rows for a thread, at least
_MOST_SUMMING = 512  # blocks whose sums have to be added up afterwards
_MOST = 8192  # blocks otherwise
_CHANNELS, _SHARES = 8, 32  # of a block that adds these sums up
_LONG = 1024  # features from which a whole block takes a row, no longer a warp


# --- batch norm: statistics of channels ---


def batch_norm(x: Array, weight: Array, bias: Array, eps: float) -> Arrays3:
    """Normalise each feature over all other axes."""
    return norm_block(x, weight, bias, eps, False)


def batch_norm_backward(
    grad_y: Array, x: Array, weight: Array, mean: Array, var: Array, eps: float
) -> Arrays3:
    """Gradients of :func:`batch_norm` in x, weight and bias."""
    return norm_block_backward(grad_y, x, weight, weight, mean, var, eps, None)  # without ReLU any bias


@float32_kernel
def norm_block(x: Array, weight: Array, bias: Array, eps: float, relu: bool) -> Arrays3:
    """Batch norm, then ReLU if ``relu``."""
    if x.size == 0:
        return plain_blocks.norm_block(arrays, x, weight, bias, eps, relu)
    x, (rows, channels) = contiguous(x), _matrix(x)
    partial = _sums("moments", rows, channels, (x,))
    y, (mean, var), table = _empty(x.shape), _empty((2, channels)), _empty((2, channels))
    found = contiguous(weight), mean, var, table
    _finish("finish_moments", partial, found, rows, channels, eps)
    _walk("normalise", rows, channels, (x, mean, table, contiguous(bias), y), relu)
    return y, mean, var


@float32_kernel
def norm_block_backward(
    grad_y: Array, x: Array, weight: Array, bias: Array, mean: Array, var: Array, eps: float, y: Array | None
) -> Arrays3:
    """Gradients of :func:`norm_block` in x, weight and bias (Ioffe and Szegedy 2015)."""
    if x.size == 0:
        return plain_blocks.norm_block_backward(arrays, grad_y, x, weight, bias, mean, var, eps, y)
    grad_y, x, (rows, channels), relu = contiguous(grad_y), contiguous(x), _matrix(x), y is not None
    seen = grad_y, x, contiguous(y) if relu else grad_y, contiguous(mean)  # y is looked at with a ReLU only
    partial = _sums("grad_moments", rows, channels, seen, relu)
    grad_x, (grad_weight, grad_bias), table = _empty(x.shape), _empty((2, channels)), _empty((3, channels))
    found = contiguous(weight), contiguous(var), grad_weight, grad_bias, table
    _finish("finish_grad_moments", partial, found, rows, channels, eps)
    _walk("normalise_grad", rows, channels, (*seen, table, grad_x), relu)
    return grad_x, grad_weight, grad_bias


@float32_kernel
def scale_shift(x: Array, scale: Array, shift: Array, relu: bool) -> Array:
    """x * scale + shift per feature, then ReLU if ``relu``."""
    y = _empty(x.shape)
    if x.size:
        _walk("scale_shift", *_matrix(x), (contiguous(x), contiguous(scale), contiguous(shift), y), relu)
    return y


# --- layer norm: statistics of rows ---


@float32_kernel
def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> Arrays3:
    """Normalise along each row of x (R, F)."""
    if x.size == 0:
        return arrays.layer_norm(x, weight, bias, eps)
    y, (mean, var) = _empty(x.shape), _empty((2, len(x)))
    operands = contiguous(x), contiguous(weight), contiguous(bias), y, mean, var
    launch("layer_norm", "norm.cu", *_teams(*x.shape), *operands, *x.shape, eps)
    return y, mean, var


@float32_kernel
def layer_norm_backward(
    grad_y: Array, x: Array, weight: Array, mean: Array, var: Array, eps: float
) -> Arrays3:
    """Gradients of :func:`layer_norm` in x, weight and bias."""
    if x.size == 0:
        return arrays.layer_norm_backward(grad_y, x, weight, mean, var, eps)
    grad_y, x, mean, (rows, features) = contiguous(grad_y), contiguous(x), contiguous(mean), x.shape
    grad_x, inverses = _empty(x.shape), _empty((rows,))
    operands = grad_y, x, contiguous(weight), mean, contiguous(var), grad_x, inverses
    launch("layer_norm_grad", "norm.cu", *_teams(rows, features), *operands, rows, features, eps)
    grad_weight, grad_bias = _empty((2, features))
    partial = _sums("feature_grads", rows, features, (grad_y, x, mean, inverses))
    _finish("finish_feature_grads", partial, (grad_weight, grad_bias), features)
    return grad_x, grad_weight, grad_bias


# --- launches ---


def _empty(shape: tuple[int, ...], dtype: type = np.float32) -> Array:
    return sys.modules["cupy"].empty(shape, dtype)


def _matrix(x: Array) -> tuple[int, int]:
    """Rows and channels of x (..., C)."""
    return x.size // x.shape[-1], x.shape[-1]


def _sums(name: str, rows: int, channels: int, operands: tuple, *flags: bool) -> Array:
    """Two sums for each channel and block (blocks, 2, C), left there by kernel ``name``."""
    grid, block = _columns(rows, channels, _MOST_SUMMING)
    partial = _empty((grid[0], 2, channels), np.float64)
    launch(name, "norm.cu", grid, block, *operands, partial, rows, channels, *flags)
    return partial


def _finish(name: str, partial: Array, operands: tuple, *numbers: float) -> None:
    """Add up what the blocks have left."""
    grid, block = (1, *blocks(partial.shape[-1], _CHANNELS)), (_CHANNELS, _SHARES)
    launch(name, "norm.cu", grid, block, partial, *operands, len(partial), *numbers)


def _walk(name: str, rows: int, channels: int, operands: tuple, *flags: bool) -> None:
    """Something done to each element, by threads that know their channel."""
    launch(name, "norm.cu", *_columns(rows, channels, _MOST), *operands, rows, channels, *flags)


def _columns(rows: int, channels: int, most: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Grid (blocks down the rows, tiles of channels), about ``most`` at most; block (channels, rows)."""
    tiles = -(-channels // _THREADS)
    width = -(-channels // tiles)
    height = _THREADS // width
    each = max(_EACH, -(-rows // (height * max(1, most // tiles))))
    each = -(-each // 4) * 4  # they are loaded four at a time
    return (-(-rows // (height * each)), tiles), (width, height)


def _teams(rows: int, features: int) -> tuple[tuple[int], tuple[int, int]]:
    """Grid and block such that each row has a team of threads."""
    block = (32, 8) if features < _LONG else (256, 1)
    return blocks(rows, block[1]), block
