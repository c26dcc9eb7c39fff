"""Optimiser steps in float32, in one pass over memory; large arrays are shared out among the threads."""

from __future__ import annotations

import math

import numba
import numpy as np

from tinynet.kernels import arrays
from tinynet.kernels.cpu.jit import contiguous, kernel, parallel_kernel

f4 = np.float32
_BLOCK = 1 << 13  # elements a thread takes at a time


def _in_place(*changed: np.ndarray) -> bool:
    """Whether these can be changed through flat float32 views of them."""
    return all(a.dtype == np.float32 and a.flags.c_contiguous and a.size for a in changed)


def sgd_step(
    param: np.ndarray, grad: np.ndarray, velocity: np.ndarray | None, lr: float, momentum: float,
    nesterov: bool, weight_decay: float,
) -> None:  # fmt: skip
    """One step of gradient descent with momentum (Sutskever et al. 2013)."""
    changed = (param,) if velocity is None else (param, velocity)
    if not _in_place(*changed) or grad.dtype != np.float32:
        return arrays.sgd_step(param, grad, velocity, lr, momentum, nesterov, weight_decay)
    # without momentum nothing is read from or written to the velocity; the argument still needs its type
    state = (param if velocity is None else velocity).reshape(-1)
    settings = f4(lr), f4(momentum), nesterov, f4(weight_decay), velocity is not None
    step = _sgd if param.size <= 2 * _BLOCK else _sgd_blocks
    step(param.reshape(-1), contiguous(grad).reshape(-1), state, *settings)
    return None


@parallel_kernel
def _sgd_blocks(param, grad, velocity, lr, momentum, nesterov, weight_decay, moving):
    for block in numba.prange((len(param) + _BLOCK - 1) // _BLOCK):
        i, j = block * _BLOCK, (block + 1) * _BLOCK
        _sgd(param[i:j], grad[i:j], velocity[i:j], lr, momentum, nesterov, weight_decay, moving)


@kernel
def _sgd(param, grad, velocity, lr, momentum, nesterov, weight_decay, moving):
    for i in range(len(param)):
        update = grad[i]
        if weight_decay != 0:
            update += weight_decay * param[i]
        if moving:
            v = momentum * velocity[i] + update
            velocity[i] = v
            update = update + momentum * v if nesterov else v
        param[i] -= lr * update


def adam_step(
    param: np.ndarray, grad: np.ndarray, mean: np.ndarray, square: np.ndarray, lr: float, beta1: float,
    beta2: float, eps: float, weight_decay: float, decoupled: bool, step: int,
) -> None:  # fmt: skip
    """One step of Adam or, decoupled, of AdamW."""
    if not _in_place(param, mean, square) or grad.dtype != np.float32:
        return arrays.adam_step(
            param, grad, mean, square, lr, beta1, beta2, eps, weight_decay, decoupled, step
        )
    decay, keep = (0.0, 1 - lr * weight_decay) if decoupled else (weight_decay, 1.0)
    rate, spread = lr / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step)
    numbers = [a.reshape(-1) for a in (param, contiguous(grad), mean, square)]
    settings = (rate, spread, beta1, 1 - beta1, beta2, 1 - beta2, eps, decay, keep)
    run = _adam if param.size <= 2 * _BLOCK else _adam_blocks
    run(*numbers, *map(f4, settings))
    return None


@parallel_kernel
def _adam_blocks(param, grad, mean, square, rate, spread, beta1, rest1, beta2, rest2, eps, decay, keep):
    for block in numba.prange((len(param) + _BLOCK - 1) // _BLOCK):
        i, j = block * _BLOCK, (block + 1) * _BLOCK
        _adam(
            param[i:j],
            grad[i:j],
            mean[i:j],
            square[i:j],
            rate,
            spread,
            beta1,
            rest1,
            beta2,
            rest2,
            eps,
            decay,
            keep,
        )


@kernel
def _adam(param, grad, mean, square, rate, spread, beta1, rest1, beta2, rest2, eps, decay, keep):
    for i in range(len(param)):
        g = grad[i]
        if decay != 0:  # not always, because 0 * infinity is no number
            g += decay * param[i]
        m, v = beta1 * mean[i] + rest1 * g, beta2 * square[i] + rest2 * g * g
        mean[i], square[i] = m, v
        param[i] = keep * param[i] - rate * m / (math.sqrt(v) * spread + eps)
