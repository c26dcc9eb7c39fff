"""Optimiser steps in float32: one call for all parameters, each in one pass over memory.

The kernel gets a table of addresses, so the arrays of a parameter may lie anywhere, and be others at the next
step. As a rule only the gradients are, and the rest of the table is known. Each thread takes an equal share
of all elements together.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from operator import is_
from typing import NamedTuple

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
    lines = _lines(params, grads, states, states)
    if lines is not None:
        table, grads = lines
        numbers = np.array((lr, momentum, weight_decay), f4)
        _sgd(_tasks(table), table, numbers, bool(nesterov), moving)
        return
    sgd = sgd_step if len(params) > 1 else arrays.sgd_step  # one by one, as not all are float32
    for one in zip(params, grads, states):
        p, g, v = ([array] for array in one)
        sgd(p, g, v if moving else None, lr, momentum, nesterov, weight_decay)


def adam_step(
    params: Arrays, grads: Arrays, means: Arrays, squares: Arrays, lr: float, beta1: float, beta2: float,
    eps: float, weight_decay: float, decoupled: bool, steps: Sequence[int],
) -> None:  # fmt: skip
    """One step of Adam or, decoupled, of AdamW."""
    lines = _lines(params, grads, means, squares)
    if lines is not None:
        table, grads = lines
        decay, keep = (0.0, 1 - lr * weight_decay) if decoupled else (weight_decay, 1.0)
        numbers = np.array((beta1, 1 - beta1, beta2, 1 - beta2, eps, decay, keep), f4)
        known = {step: _rates(lr, beta1, beta2, step) for step in set(steps)}
        _adam(_tasks(table), table, np.array([known[step] for step in steps], f4), numbers)
        return
    adam = adam_step if len(params) > 1 else arrays.adam_step  # one by one, as not all are float32
    for *one, step in zip(params, grads, means, squares, steps):
        adam(*([array] for array in one), lr, beta1, beta2, eps, weight_decay, decoupled, [step])


def _rates(lr: float, beta1: float, beta2: float, step: int) -> tuple[float, float]:
    """The factors of m and of sqrt(v) that correct their start at zero."""
    return lr / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step)


def _lines(params: Arrays, grads: Arrays, first: Arrays, second: Arrays) -> tuple[np.ndarray, Arrays] | None:
    """The table of addresses, and the gradients in line; None unless all are lines of float32 numbers.

    A row of the table: where the elements of the parameter begin and end, counted over all, and the addresses
    of its arrays. It holds as long as the gradients that are returned live.
    """
    table, lines = _known_table([*params, *first, *second], len(params)), []
    if table is None:
        return None
    for i, (p, g) in enumerate(zip(params, grads)):
        if type(g) is not np.ndarray or g.dtype is not f4 or not p.flags.writeable:
            return None
        line = contiguous(g).reshape(-1)
        _enter(table, i, line)
        lines.append(line)
    return table, lines


class _Known(NamedTuple):
    """Arrays that were here last time, and their table; it does not keep them alive."""

    arrays: list[Callable[[], np.ndarray | None]]
    table: np.ndarray | None


_known = _Known([], None)


def _known_table(fixed: list[np.ndarray], count: int) -> np.ndarray | None:
    """A copy of the table for ``count`` parameters and their states, in which the gradients are missing.

    The very same arrays come back at every step. They are compared as objects: an address alone could
    belong to another array by now.
    """
    global _known
    known = _known
    if len(known.arrays) != len(fixed) or not all(map(is_, [array() for array in known.arrays], fixed)):
        _known = known = _Known([weakref.ref(a) for a in fixed], _new_table(fixed, count))
    return None if known.table is None else known.table.copy()


def _new_table(fixed: list[np.ndarray], count: int) -> np.ndarray | None:
    if not all(type(a) is np.ndarray and a.dtype is f4 and a.flags.carray for a in fixed):
        return None
    addresses = [a.ctypes.data for a in fixed]
    ends = np.cumsum([a.size for a in fixed[:count]])
    begins = ends - [a.size for a in fixed[:count]]
    places = np.array(addresses, np.int64).reshape(3, count)
    return np.stack([begins, ends, places[0], np.zeros(count, np.int64), *places[1:]], axis=1)


def _tasks(table: np.ndarray) -> int:
    """Into how many shares to cut all elements, some for each thread."""
    return 4 * thread_count() if table[-1, 1] > _SMALL else 1


@kernel
def _enter(table, i, grad):
    table[i, 3] = address_of(grad)


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
