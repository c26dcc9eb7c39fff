"""Convolution with all its steps in sight: im2col, a matrix product, and col2im for the way back.

The same results as :mod:`tinynet.kernels.cuda.conv`, which never stores the columns, from kernels that are
easier to read: for lessons, and to hold the others against. Where there is no bias, None stands for it.
"""

from __future__ import annotations

import math

from tinynet.kernels.cuda.conv import Array, empty, geometry
from tinynet.kernels.cuda.loader import blocks, contiguous, launch
from tinynet.kernels.cuda.matmul import gemm
from tinynet.kernels.geometry import Window


def conv_im2col(x: Array, weight: Array, bias: Array | None, window: Window, groups: int) -> Array:
    """Slide ``weight`` over ``x`` and add ``bias``: columns @ filters, group by group."""
    columns = im2col(x, weight.shape, window, groups)
    y = empty((len(x), *window.output_shape(x.shape[1:-1]), weight.shape[-1]))
    for rows, filters, result in zip(columns, _filters(weight, groups), _filters(y, groups)):
        result[:] = gemm(rows, filters)
    if bias is not None:
        y += bias
    return y


def conv_input_grad_im2col(
    grad_y: Array, weight: Array, x_shape: tuple, window: Window, groups: int
) -> Array:
    """Gradient in x: col2im of grad_y @ filters transposed."""
    positions, depth = math.prod(grad_y.shape[:-1]), math.prod(weight.shape[:-1])
    columns = empty((groups, positions, depth))
    for result, grad, filters in zip(columns, _filters(grad_y, groups), _filters(weight, groups)):
        gemm(grad, filters.T, result)
    return col2im(columns, x_shape, weight.shape, window, groups)


def conv_weight_grad_im2col(x: Array, grad_y: Array, window: Window, groups: int) -> Array:
    """Gradient in the weight: columns transposed @ grad_y."""
    grad = empty((*window.size, x.shape[-1] // groups, grad_y.shape[-1]))
    columns = im2col(x, grad.shape, window, groups)
    for result, rows, grads in zip(_filters(grad, groups), columns, _filters(grad_y, groups)):
        result[:] = gemm(rows.T, grads)
    return grad


def im2col(x: Array, weight_shape: tuple, window: Window, groups: int = 1) -> Array:
    """Every window of x (N, *spatial, C) as a row: (groups, N * positions, taps * C / groups)."""
    positions = len(x) * math.prod(window.output_shape(x.shape[1:-1]))
    columns = empty((groups, positions, math.prod(weight_shape[:-1])))
    numbers = geometry(x.shape, weight_shape, window, groups)
    launch("im2col", "im2col.cu", blocks(columns.size), (256,), contiguous(x), columns, numbers)
    return columns


def col2im(columns: Array, x_shape: tuple, weight_shape: tuple, window: Window, groups: int = 1) -> Array:
    """The adjoint of :func:`im2col`: each number of the columns is added to the place that it came from."""
    x = empty(x_shape)
    numbers = geometry(tuple(x_shape), weight_shape, window, groups)
    launch("col2im", "im2col.cu", blocks(x.size), (256,), contiguous(columns), x, numbers)
    return x


def _filters(array: Array, groups: int) -> list[Array]:
    """The last axis cut into groups: matrices (everything else, O / groups), views of the array."""
    matrix = array.reshape(math.prod(array.shape[:-1]), array.shape[-1])
    width = matrix.shape[1] // groups
    return [matrix[:, g * width : (g + 1) * width] for g in range(groups)]
