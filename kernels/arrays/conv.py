"""Convolution as a matrix product: im2col lays every window out as a row, col2im adds the rows back.

One image of a convolution without groups::

    x (H, W, C)  --im2col-->  columns (OH * OW, KH * KW * C)  @  filters (KH * KW * C, O)  =  y (OH * OW, O)

With groups the channels fall into G independent convolutions; G is then a leading axis, over which
``@`` loops. Nothing here depends on the number of spatial axes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from tinynet.kernels.arrays._library import Array, xp_of
from tinynet.kernels.arrays._window import taps
from tinynet.kernels.geometry import Window

COLUMN_BYTES = 64 * 2**20  # columns repeat each input once per tap, so few images at a time have them


def im2col(x: Array, window: Window) -> Array:
    """All windows of x (N, *spatial, C): a view (N, *out, *kernel, C) of the padded input.

    The view copies nothing: neighbouring windows share their memory. Read it, do not write to it.
    """
    xp = xp_of(x)
    padded = xp.pad(x, ((0, 0), *window.padding, (0, 0))) if any(map(any, window.padding)) else x
    n, *spatial, c = padded.strides
    return xp.lib.stride_tricks.as_strided(
        padded,
        shape=(len(x), *window.output_shape(x.shape[1:-1]), *window.size, x.shape[-1]),
        strides=(
            n,
            *(s * step for s, step in zip(spatial, window.stride)),
            *(s * gap for s, gap in zip(spatial, window.dilation)),
            c,
        ),
    )


def col2im(columns: Array, x_shape: tuple[int, ...], window: Window) -> Array:
    """The adjoint of :func:`im2col`: each entry of (N, *out, *kernel, C) is added to where it came from."""
    x = xp_of(columns).zeros(x_shape, columns.dtype)
    every = (slice(None),) * (1 + window.rank)
    for tap, outputs, inputs in taps(x_shape[1:-1], window):
        x[inputs] += columns[every + tap][outputs]
    return x


def conv(x: Array, weight: Array, bias: Array | None, window: Window, groups: int) -> Array:
    """Slide ``weight`` over ``x``: columns @ filters."""
    y = xp_of(x).empty((len(x), *window.output_shape(x.shape[1:-1]), weight.shape[-1]), x.dtype)
    filters = _filters(weight, groups)
    for images in _image_chunks(x.shape, x.itemsize, window):
        rows = _columns(x[images], window, groups) @ filters  # (G, rows, O/G)
        y[images] = rows.transpose(1, 0, 2).reshape(y[images].shape)
    if bias is not None:
        y += bias
    return y


def conv_input_grad(grad_y: Array, weight: Array, x_shape: tuple, window: Window, groups: int) -> Array:
    """Gradient in x: col2im of grad_y @ filters transposed."""
    grad_x = xp_of(grad_y).empty(x_shape, grad_y.dtype)
    filters = _filters(weight, groups).transpose(0, 2, 1)
    for images in _image_chunks(x_shape, grad_y.itemsize, window):
        columns = _rows(grad_y[images], groups) @ filters  # (G, rows, taps * C/G)
        grad_x[images] = col2im(_ungroup(columns, grad_y[images].shape, window), grad_x[images].shape, window)
    return grad_x


def conv_weight_grad(x: Array, grad_y: Array, window: Window, groups: int) -> Array:
    """Gradient in the weight: columns transposed @ grad_y, summed over the images."""
    c, o = x.shape[-1] // groups, grad_y.shape[-1]
    grad = xp_of(x).zeros((groups, math.prod(window.size) * c, o // groups), x.dtype)
    for images in _image_chunks(x.shape, x.itemsize, window):
        grad += _columns(x[images], window, groups).transpose(0, 2, 1) @ _rows(grad_y[images], groups)
    return grad.transpose(1, 0, 2).reshape(*window.size, c, o)


def _image_chunks(x_shape: tuple[int, ...], itemsize: int, window: Window) -> Iterator[slice]:
    """Slices of the batch whose columns take at most ``COLUMN_BYTES``, or one image each."""
    n, *spatial, c = x_shape
    per_image = math.prod(window.output_shape(tuple(spatial))) * math.prod(window.size) * c * itemsize
    step = max(1, COLUMN_BYTES // per_image)
    return (slice(start, start + step) for start in range(0, n, step))


def _filters(weight: Array, groups: int) -> Array:
    """The weight (*kernel, C/G, O) as matrices (G, taps * C/G, O/G)."""
    *kernel, c, o = weight.shape
    return weight.reshape(math.prod(kernel) * c, groups, o // groups).transpose(1, 0, 2)


def _columns(x: Array, window: Window, groups: int) -> Array:
    """The windows of x as the rows of matrices (G, N * positions, taps * C/G)."""
    windows = im2col(x, window)
    *left, c = windows.shape
    positions, taps = math.prod(left[: 1 + window.rank]), math.prod(window.size)
    grouped = xp_of(x).moveaxis(windows.reshape(*left, groups, c // groups), -2, 0)
    return grouped.reshape(groups, positions, taps * (c // groups))


def _ungroup(columns: Array, y_shape: tuple[int, ...], window: Window) -> Array:
    """Undo :func:`_columns`: (G, N * positions, taps * C/G) to (N, *out, *kernel, C)."""
    groups, taps = len(columns), math.prod(window.size)
    shape = (*y_shape[:-1], *window.size)
    c = columns.shape[-1] // taps
    return xp_of(columns).moveaxis(columns.reshape(groups, *shape, c), 0, -2).reshape(*shape, groups * c)


def _rows(y: Array, groups: int) -> Array:
    """An output or its gradient (N, *out, O) as the rows of matrices (G, N * positions, O/G)."""
    *left, o = y.shape
    return y.reshape(math.prod(left), groups, o // groups).transpose(1, 0, 2)
