"""Optimiser steps in place, with as few temporary arrays as the formulas allow."""

from __future__ import annotations

from collections.abc import Sequence

from tinynet.kernels.arrays._library import Array, xp_of

Arrays = Sequence[Array]


def sgd_step(
    params: Arrays, grads: Arrays, velocities: Arrays | None, lr: float, momentum: float, nesterov: bool,
    weight_decay: float,
) -> None:  # fmt: skip
    """One step of gradient descent with momentum (Sutskever et al. 2013)."""
    for param, grad, velocity in zip(params, grads, velocities or [None] * len(params)):
        grad = _with_decay(grad, param, weight_decay)
        if velocity is None:
            update = grad
        else:
            velocity *= momentum
            velocity += grad
            update = grad + momentum * velocity if nesterov else velocity
        param -= lr * update


def adam_step(
    params: Arrays, grads: Arrays, means: Arrays, squares: Arrays, lr: float, beta1: float, beta2: float,
    eps: float, weight_decay: float, decoupled: bool, steps: Sequence[int],
) -> None:  # fmt: skip
    """One step of Adam or, decoupled, of AdamW; one temporary array for each parameter."""
    for param, grad, mean, square, step in zip(params, grads, means, squares, steps):
        xp = xp_of(param)
        if decoupled:
            param *= 1 - lr * weight_decay
        else:
            grad = _with_decay(grad, param, weight_decay)
        scratch = xp.empty_like(param)
        mean *= beta1
        mean += xp.multiply(grad, 1 - beta1, out=scratch)
        square *= beta2
        square += xp.multiply(xp.multiply(grad, grad, out=scratch), 1 - beta2, out=scratch)
        denominator = xp.sqrt(xp.divide(square, 1 - beta2**step, out=scratch), out=scratch)
        denominator += eps
        update = xp.divide(mean, denominator, out=scratch)
        param -= xp.multiply(update, lr / (1 - beta1**step), out=scratch)


def total_norm(arrays: Arrays) -> Array:
    """Square root of the sum of all squares."""
    xp = xp_of(arrays[0])
    squares = [(array.astype("float64") ** 2).sum() for array in arrays]
    return xp.asarray(xp.sqrt(sum(squares[1:], squares[0])))


def limit_norm(arrays: Arrays, norm: Array, limit: float) -> None:
    """Make all arrays shorter by the same factor."""
    factor = limit / xp_of(arrays[0]).maximum(norm, limit)
    for array in arrays:
        array *= factor.astype(array.dtype)


def _with_decay(grad: Array, param: Array, weight_decay: float) -> Array:
    return grad + weight_decay * param if weight_decay else grad
