"""Pooling, one window at a time."""

from __future__ import annotations

import math

import numpy as np

from tinynet.kernels.geometry import Window
from tinynet.kernels.reference.conv import visits


def max_pool(x: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Largest value in each window, and the row-by-row index of its tap.

    A window that lies wholly in the padding gives -inf, and its index has no meaning.
    """
    shape = (len(x), *window.output_shape(x.shape[1:-1]), x.shape[-1])
    y = np.full(shape, -np.inf, x.dtype)
    where = np.zeros(shape, np.uint8 if math.prod(window.size) <= 256 else np.int32)
    seen = np.zeros(shape, bool)
    for position, tap, place in visits(x.shape[1:-1], window):
        for n, c in np.ndindex(len(x), x.shape[-1]):
            at, value = (n, *position, c), x[(n, *place, c)]
            if not seen[at] or value > y[at] or (np.isnan(value) and not np.isnan(y[at])):
                y[at], where[at], seen[at] = value, np.ravel_multi_index(tap, window.size), True
    return y, where


def max_pool_backward(grad_y: np.ndarray, where: np.ndarray, x_shape: tuple, window: Window) -> np.ndarray:
    """Give each gradient back to the place that won."""
    grad_x = np.zeros(x_shape)
    for position, tap, place in visits(x_shape[1:-1], window):
        for n, c in np.ndindex(x_shape[0], x_shape[-1]):
            if where[(n, *position, c)] == np.ravel_multi_index(tap, window.size):
                grad_x[(n, *place, c)] += grad_y[(n, *position, c)]
    return grad_x.astype(grad_y.dtype)


def avg_pool(x: np.ndarray, window: Window, count_padding: bool) -> np.ndarray:
    """Mean over each window; one that lies wholly in the padding gives 0."""
    y = np.zeros((len(x), *window.output_shape(x.shape[1:-1]), x.shape[-1]))
    divisor = _divisor(x.shape[1:-1], window, count_padding)
    for position, _, place in visits(x.shape[1:-1], window):
        for n, c in np.ndindex(len(x), x.shape[-1]):
            y[(n, *position, c)] += x[(n, *place, c)] / divisor[position]
    return y.astype(x.dtype)


def avg_pool_backward(grad_y: np.ndarray, x_shape: tuple, window: Window, count_padding: bool) -> np.ndarray:
    """Share each gradient equally among the places of its window."""
    grad_x = np.zeros(x_shape)
    divisor = _divisor(x_shape[1:-1], window, count_padding)
    for position, _, place in visits(x_shape[1:-1], window):
        for n, c in np.ndindex(x_shape[0], x_shape[-1]):
            grad_x[(n, *place, c)] += grad_y[(n, *position, c)] / divisor[position]
    return grad_x.astype(grad_y.dtype)


def _divisor(spatial: tuple[int, ...], window: Window, count_padding: bool) -> np.ndarray:
    """Over how many places each window averages: all its taps, or those that lie on the input."""
    if count_padding:
        return np.full(window.output_shape(spatial), math.prod(window.size))
    places = np.zeros(window.output_shape(spatial), int)
    for position, _, _ in visits(spatial, window):
        places[position] += 1
    return places
