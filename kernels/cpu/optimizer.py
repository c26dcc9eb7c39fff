"""Optimiser steps in float32: one call for all parameters, each in one pass over memory.

The kernel gets a table of addresses, so the arrays of a parameter may lie anywhere, and be others at the next
step. Each thread takes an equal share of all elements together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from tinynet.kernels import arrays
from tinynet.kernels.cpu.jit import contiguous, inner_kernel, kernel
from tinynet.kernels.cpu.microkernel import address_of
from tinynet.kernels.cpu.threads import share, thread_count

f4 = np.dtype(np.float32)
_SMALL = 1 << 14  # so many elements are not worth waking the other threads

Arrays = Sequence[np.ndarray]


def sgd_step(
    params: Arrays, grads: Arrays, velocities: Arrays | None, lr: float, momentum: float, nesterov: bool,
    weight_decay: float,
) -> None:  # fmt: skip
    """One step of gradient descent with momentum (Sutskever et al. 2013)."""
    moving = velocities is not None
    states = params if velocities is None else velocities
    rows, others = _sorted(params, grads, states, states)
    for i in others:
        own = [velocities[i]] if velocities is not None else None
        arrays.sgd_step([params[i]], [grads[i]], own, lr, momentum, nesterov, weight_decay)
    if rows:
        numbers = np.array((lr, momentum, weight_decay), f4)
        table, tasks = _table(rows)
        _sgd(tasks, table, numbers, bool(nesterov), moving)


def adam_step(
    params: Arrays, grads: Arrays, means: Arrays, squares: Arrays, lr: float, beta1: float, beta2: float,
    eps: float, weight_decay: float, decoupled: bool, steps: Sequence[int],
) -> None:  # fmt: skip
    """One step of Adam or, decoupled, of AdamW."""
    rows, others = _sorted(params, grads, means, squares)
    for i in others:
        own = [params[i]], [grads[i]], [means[i]], [squares[i]]
        arrays.adam_step(*own, lr, beta1, beta2, eps, weight_decay, decoupled, [steps[i]])
    if rows:
        decay, keep = (0.0, 1 - lr * weight_decay) if decoupled else (weight_decay, 1.0)
        numbers = np.array((beta1, 1 - beta1, beta2, 1 - beta2, eps, decay, keep), f4)
        known = {step: _rates(lr, beta1, beta2, step) for step in set(steps)}
        rates = [known[steps[row[0]]] for row in rows]
        table, tasks = _table(rows)
        _adam(tasks, table, np.array(rates, f4), numbers)


def _rates(lr: float, beta1: float, beta2: float, step: int) -> tuple[float, float]:
    """The factors of m and of sqrt(v) that correct their start at zero."""
    return lr / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step)


def _sorted(params: Arrays, grads: Arrays, first: Arrays, second: Arrays) -> tuple[list[tuple], list[int]]:
    """(number, param, grad, states) of those that are lines of float32 numbers, and numbers of the others."""
    rows, others = [], []
    for i, row in enumerate(zip(params, grads, first, second)):
        p, g, a, b = row
        if not (p.dtype is g.dtype is a.dtype is b.dtype is f4 and type(p) is type(g) is np.ndarray):
            others.append(i)
        elif p.flags.carray and a.flags.carray and b.flags.carray:
            rows.append((i, *row) if g.flags.carray else (i, p, contiguous(g), a, b))
        else:
            others.append(i)
    return rows, others


def _table(rows: list[tuple]) -> tuple[np.ndarray, int]:
    """Where the elements of each parameter begin and end, counted over all, and the addresses of its arrays.

    Also into how many shares to cut them, some for each thread.
    """
    table, end = np.empty((len(rows), 6), np.int64), 0
    for i, (_, p, g, a, b) in enumerate(rows):
        begin, end = end, end + p.size
        _enter(table, i, begin, end, p.reshape(-1), g.reshape(-1), a.reshape(-1), b.reshape(-1))
    return table, 4 * thread_count() if end > _SMALL else 1


@kernel
def _enter(table, i, begin, end, param, grad, first, second):
    table[i, 0], table[i, 1] = begin, end
    table[i, 2], table[i, 3] = address_of(param), address_of(grad)
    table[i, 4], table[i, 5] = address_of(first), address_of(second)


@intrinsic
def _floats(typingctx, address):
    """The float32 numbers from that address on."""

    def codegen(context, builder, signature, values):
        return builder.inttoptr(values[0], ir.FloatType().as_pointer())

    return types.CPointer(types.float32)(types.int64), codegen


@kernel
def _sgd(tasks, table, numbers, nesterov, moving):
    share(tasks, _sgd_share, (tasks, table, numbers, nesterov, moving))


@inner_kernel
def _sgd_share(task, tasks, table, numbers, nesterov, moving):
    """Without momentum nothing is read from or written to the velocity; its address is that of param."""
    total = table[-1, 1]
    lr, momentum, weight_decay = numbers[0], numbers[1], numbers[2]
    for k in range(len(table)):
        low = max(table[k, 0], task * total // tasks)
        n, skip = min(table[k, 1], (task + 1) * total // tasks) - low, 4 * (low - table[k, 0])
        param, grad = _floats(table[k, 2] + skip), _floats(table[k, 3] + skip)
        velocity = _floats(table[k, 4] + skip)
        for i in range(n):
            update = grad[i]
            if weight_decay != 0:
                update += weight_decay * param[i]
            if moving:
                v = momentum * velocity[i] + update
                velocity[i] = v
                update = update + momentum * v if nesterov else v
            param[i] -= lr * update


@kernel
def _adam(tasks, table, rates, numbers):
    share(tasks, _adam_share, (tasks, table, rates, numbers))


@inner_kernel
def _adam_share(task, tasks, table, rates, numbers):
    total = table[-1, 1]
    beta1, rest1, beta2, rest2 = numbers[0], numbers[1], numbers[2], numbers[3]
    eps, decay, keep = numbers[4], numbers[5], numbers[6]
    for k in range(len(table)):
        low = max(table[k, 0], task * total // tasks)
        n, skip = min(table[k, 1], (task + 1) * total // tasks) - low, 4 * (low - table[k, 0])
        param, grad = _floats(table[k, 2] + skip), _floats(table[k, 3] + skip)
        mean, square = _floats(table[k, 4] + skip), _floats(table[k, 5] + skip)
        rate, spread = rates[k, 0], rates[k, 1]
        for i in range(n):
            g = grad[i]
            if decay != 0:  # not always, because 0 * infinity is no number
                g += decay * param[i]
            m, v = beta1 * mean[i] + rest1 * g, beta2 * square[i] + rest2 * g * g
            mean[i], square[i] = m, v
            param[i] = keep * param[i] - rate * m / (math.sqrt(v) * spread + eps)
