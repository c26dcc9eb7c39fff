"""Convolution and matrix product: which numbers meet, one product at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tinynet.kernels.geometry import Window

Index = tuple[int, ...]


def visits(spatial: tuple[int, ...], window: Window) -> Iterator[tuple[Index, Index, Index]]:
    """Output position, tap of the window, and the input place under that tap, unless that is padding."""
    for position in np.ndindex(*window.output_shape(spatial)):
        for tap in np.ndindex(*window.size):
            axes = zip(position, tap, window.stride, window.dilation, window.padding)
            place = tuple(p * step + k * gap - before for p, k, step, gap, (before, _) in axes)
            if all(0 <= q < s for q, s in zip(place, spatial)):
                yield position, tap, place


def products(
    x_shape: tuple[int, ...], filters: int, window: Window, groups: int
) -> Iterator[tuple[Index, Index, Index]]:
    """Every product of a convolution as three indices: y[first] += x[second] * weight[third].

    Output channel o belongs to group o // (O / G), and sees only that group's C / G input channels.
    """
    images, *spatial, channels = x_shape
    inputs, outputs = channels // groups, filters // groups  # per group
    for position, tap, place in visits(tuple(spatial), window):
        for n, o, c in np.ndindex(images, filters, inputs):
            group = o // outputs
            yield (n, *position, o), (n, *place, group * inputs + c), (*tap, c, o)


def conv(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, window: Window, groups: int
) -> np.ndarray:
    """Slide ``weight`` over ``x`` and add ``bias``."""
    filters = weight.shape[-1]
    y = np.zeros((len(x), *window.output_shape(x.shape[1:-1]), filters))
    for iy, ix, iw in products(x.shape, filters, window, groups):
        y[iy] += float(x[ix]) * float(weight[iw])
    if bias is not None:
        y += bias
    return y.astype(x.dtype)


def conv_input_grad(
    grad_y: np.ndarray, weight: np.ndarray, x_shape: tuple, window: Window, groups: int
) -> np.ndarray:
    """The gradient of y runs the same products backwards, to x."""
    grad_x = np.zeros(x_shape)
    for iy, ix, iw in products(x_shape, weight.shape[-1], window, groups):
        grad_x[ix] += float(grad_y[iy]) * float(weight[iw])
    return grad_x.astype(grad_y.dtype)


def conv_weight_grad(x: np.ndarray, grad_y: np.ndarray, window: Window, groups: int) -> np.ndarray:
    """The gradient of y runs the same products backwards, to the weight."""
    filters = grad_y.shape[-1]
    grad = np.zeros((*window.size, x.shape[-1] // groups, filters))
    for iy, ix, iw in products(x.shape, filters, window, groups):
        grad[iw] += float(grad_y[iy]) * float(x[ix])
    return grad.astype(x.dtype)


def bias_grad(grad_y: np.ndarray) -> np.ndarray:
    """Sum over all axes but the last."""
    total = np.zeros(grad_y.shape[-1])
    for index in np.ndindex(*grad_y.shape):
        total[index[-1]] += grad_y[index]
    return total.astype(grad_y.dtype)


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """c[i, j] = sum over k of a[i, k] * b[k, j]."""
    c = np.zeros((a.shape[0], b.shape[1]))
    for i, j, k in np.ndindex(a.shape[0], b.shape[1], a.shape[1]):
        c[i, j] += float(a[i, k]) * float(b[k, j])
    return c.astype(a.dtype)
