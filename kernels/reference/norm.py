"""Normalisation, one line of numbers at a time: a column in batch_norm, a row in layer_norm."""

from __future__ import annotations

import math

import numpy as np

Arrays3 = tuple[np.ndarray, np.ndarray, np.ndarray]


def batch_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float) -> Arrays3:
    """Normalise each feature over all other axes, then scale and shift."""
    normal, mean, var = normalise(_as_matrix(x).T, eps)
    y = (normal.T * weight + bias).reshape(x.shape)
    return y.astype(x.dtype), mean.astype(x.dtype), var.astype(x.dtype)


def batch_norm_backward(
    grad_y: np.ndarray, x: np.ndarray, weight: np.ndarray, mean: np.ndarray, var: np.ndarray, eps: float
) -> Arrays3:
    """Gradients of :func:`batch_norm` in x, weight and bias."""
    grads = _as_matrix(grad_y)
    grad_x, normal = normalise_grad((grads * weight).T, _as_matrix(x).T, mean, var, eps)
    return grad_x.T.reshape(x.shape).astype(x.dtype), *scale_and_shift_grad(grads, normal.T)


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float) -> Arrays3:
    """Normalise each row of x (R, F), then scale and shift."""
    normal, mean, var = normalise(x, eps)
    y = normal * weight + bias
    return y.astype(x.dtype), mean.astype(x.dtype), var.astype(x.dtype)


def layer_norm_backward(
    grad_y: np.ndarray, x: np.ndarray, weight: np.ndarray, mean: np.ndarray, var: np.ndarray, eps: float
) -> Arrays3:
    """Gradients of :func:`layer_norm` in x, weight and bias."""
    grad_x, normal = normalise_grad(grad_y * weight, x, mean, var, eps)
    return grad_x.astype(x.dtype), *scale_and_shift_grad(grad_y, normal)


def normalise(lines: np.ndarray, eps: float) -> Arrays3:
    """Each line less its mean, over its standard deviation; the means; the population variances.

    The mean and the variance of an empty line are 0.
    """
    normal, mean, var = np.zeros(lines.shape), np.zeros(len(lines)), np.zeros(len(lines))
    for i, line in enumerate(lines.tolist()):
        count = max(len(line), 1)
        mean[i] = sum(line) / count
        var[i] = sum((v - mean[i]) ** 2 for v in line) / count
        normal[i] = [(v - mean[i]) / math.sqrt(var[i] + eps) for v in line]
    return normal, mean, var


def normalise_grad(
    grads: np.ndarray, lines: np.ndarray, mean: np.ndarray, var: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient in the lines, given that in the normalised lines, which are returned as well.

    A value acts by itself, through the mean, and through the variance (Ioffe and Szegedy 2015).
    """
    grad, normal = np.zeros(lines.shape), np.zeros(lines.shape)
    for i, (gs, line) in enumerate(zip(grads.tolist(), lines.tolist())):
        std, count = math.sqrt(float(var[i]) + eps), max(len(line), 1)
        normal[i] = [(v - float(mean[i])) / std for v in line]
        through_mean = sum(gs) / count
        through_var = sum(g * v for g, v in zip(gs, normal[i])) / count
        grad[i] = [(g - through_mean - v * through_var) / std for g, v in zip(gs, normal[i])]
    return grad, normal


def scale_and_shift_grad(grad_y: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradients in the weight and the bias that follow the normalisation."""
    grad_weight, grad_bias = np.zeros(grad_y.shape[-1]), np.zeros(grad_y.shape[-1])
    for g, v in zip(grad_y, normal):
        grad_weight += g * v
        grad_bias += g
    return grad_weight.astype(grad_y.dtype), grad_bias.astype(grad_y.dtype)


def _as_matrix(x: np.ndarray) -> np.ndarray:
    """x (..., C) as rows (R, C)."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
