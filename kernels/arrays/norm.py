"""Normalisation down the columns or along the rows of a matrix.

The variance comes from a second pass over the data: as E[x^2] - E[x]^2 it would lose its digits.
"""

from __future__ import annotations

import math

from tinynet.kernels.arrays._library import Array, wide_sum, xp_of


def batch_norm(x: Array, weight: Array, bias: Array, eps: float) -> tuple[Array, Array, Array]:
    """Normalise each feature over all other axes: a matrix of samples, down its columns."""
    y, mean, var = _normalise(_as_matrix(x), weight, bias, eps, axis=0)
    return y.reshape(x.shape), mean, var


def batch_norm_backward(
    grad_y: Array, x: Array, weight: Array, mean: Array, var: Array, eps: float
) -> tuple[Array, Array, Array]:
    """Gradients of :func:`batch_norm` in x, weight and bias."""
    grad_x, *rest = _normalise_grad(_as_matrix(grad_y), _as_matrix(x), weight, mean, var, eps, axis=0)
    return grad_x.reshape(x.shape), *rest


def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> tuple[Array, Array, Array]:
    """Normalise along each row of x (R, F)."""
    return _normalise(x, weight, bias, eps, axis=1)


def layer_norm_backward(
    grad_y: Array, x: Array, weight: Array, mean: Array, var: Array, eps: float
) -> tuple[Array, Array, Array]:
    """Gradients of :func:`layer_norm` in x, weight and bias."""
    return _normalise_grad(grad_y, x, weight, mean, var, eps, axis=1)


def _as_matrix(x: Array) -> Array:
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _mean(values: Array, axis: int) -> Array:
    """Mean along an axis, kept as an axis of length 1; of nothing, 0."""
    return wide_sum(values, axis, keepdims=True) / max(values.shape[axis], 1)


def _normalise(x: Array, weight: Array, bias: Array, eps: float, axis: int) -> tuple[Array, Array, Array]:
    mean = _mean(x, axis)
    centred = x - mean
    var = _mean(centred * centred, axis)
    y = centred / xp_of(x).sqrt(var + eps) * weight + bias
    return y, mean.squeeze(axis), var.squeeze(axis)


def _normalise_grad(
    grad_y: Array, x: Array, weight: Array, mean: Array, var: Array, eps: float, axis: int
) -> tuple[Array, Array, Array]:
    """The gradient in x is that of the normalised values less what the mean and the variance take away.

    dx = (g - mean(g) - xhat * mean(g * xhat)) / std with g = dy * weight (Ioffe and Szegedy 2015).
    """
    xp = xp_of(x)
    std = xp.sqrt(xp.expand_dims(var, axis) + eps)
    xhat = (x - xp.expand_dims(mean, axis)) / std
    g = grad_y * weight
    grad_x = (g - _mean(g, axis) - xhat * _mean(g * xhat, axis)) / std
    return grad_x, wide_sum(grad_y * xhat, 0), wide_sum(grad_y, 0)
