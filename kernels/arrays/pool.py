"""Pooling as a loop over the taps of the window, whole arrays inside; padding is never touched."""

from __future__ import annotations

import math

from tinynet.kernels.arrays._library import Array, xp_of
from tinynet.kernels.arrays._window import taps
from tinynet.kernels.geometry import Window


def max_pool(x: Array, window: Window) -> tuple[Array, Array]:
    """Largest value in each window, and the index of its tap.

    The taps are visited from last to first and take over from equals, so that the first of equals stays.
    """
    xp = xp_of(x)
    shape = (len(x), *window.output_shape(x.shape[1:-1]), x.shape[-1])
    y = xp.full(shape, -xp.inf, x.dtype)
    where = xp.zeros(shape, xp.uint8 if math.prod(window.size) <= 256 else xp.int32)
    for number, (_, outputs, inputs) in reversed(list(enumerate(taps(x.shape[1:-1], window)))):
        value, best = x[inputs], y[outputs]
        wins = (value >= best) | xp.isnan(value)
        y[outputs] = xp.where(wins, value, best)
        where[outputs][wins] = number
    return y, where


def max_pool_backward(grad_y: Array, where: Array, x_shape: tuple, window: Window) -> Array:
    """Give each gradient back to the place that won."""
    xp = xp_of(grad_y)
    grad_x = xp.zeros(x_shape, grad_y.dtype)
    for number, (_, outputs, inputs) in enumerate(taps(x_shape[1:-1], window)):
        grad_x[inputs] += xp.where(where[outputs] == number, grad_y[outputs], 0)
    return grad_x


def avg_pool(x: Array, window: Window, count_padding: bool) -> Array:
    """Mean over each window."""
    y = xp_of(x).zeros((len(x), *window.output_shape(x.shape[1:-1]), x.shape[-1]), x.dtype)
    for _, outputs, inputs in taps(x.shape[1:-1], window):
        y[outputs] += x[inputs]
    return y / _divisor(x, x.shape[1:-1], window, count_padding)


def avg_pool_backward(grad_y: Array, x_shape: tuple, window: Window, count_padding: bool) -> Array:
    """Share each gradient equally among the places of its window."""
    grad_x = xp_of(grad_y).zeros(x_shape, grad_y.dtype)
    share = grad_y / _divisor(grad_y, x_shape[1:-1], window, count_padding)
    for _, outputs, inputs in taps(x_shape[1:-1], window):
        grad_x[inputs] += share[outputs]
    return grad_x


def _divisor(like: Array, spatial: tuple[int, ...], window: Window, count_padding: bool) -> Array:
    """Over how many places each window averages, (1, *out, 1); at least 1, should it see padding alone."""
    shape = (1, *window.output_shape(spatial), 1)
    if count_padding:
        return xp_of(like).full(shape, math.prod(window.size), like.dtype)
    places = xp_of(like).zeros(shape, like.dtype)
    for _, outputs, _ in taps(spatial, window):
        places[outputs] += 1
    return places.clip(1)
