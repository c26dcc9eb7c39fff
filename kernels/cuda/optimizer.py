"""Optimiser steps: one launch for (nearly) all parameters, by a table of addresses: optimizer.cu."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinynet.kernels import arrays
from tinynet.kernels.cuda.loader import contiguous, launch
from tinynet.kernels.live import Live, words

Array = Any
Arrays = Sequence[Array]

_TENSORS = 80  # in a table; optimizer.cu knows it too
_CHUNK = 1024  # elements of a block of 256 threads
_ENTRY = 6  # 8-byte words: four addresses, size, first block


def sgd_step(
    params: Arrays, grads: Arrays, velocities: Arrays | None, lr: float | Live, momentum: float,
    nesterov: bool, weight_decay: float,
) -> None:  # fmt: skip
    """One step of gradient descent with momentum (Sutskever et al. 2013)."""
    moving = velocities is not None
    states = params if velocities is None else velocities
    ours, others = _sorted(params, grads, states, states)
    for i in others:
        own = None if velocities is None else [velocities[i]]
        arrays.sgd_step([params[i]], [grads[i]], own, lr, momentum, nesterov, weight_decay)
    if ours:
        numbers = words(_floating(lr))
        for rows in _tables(ours):
            _launch("sgd_step", rows, numbers, float(momentum), float(weight_decay), moving, bool(nesterov))


def adam_step(
    params: Arrays, grads: Arrays, means: Arrays, squares: Arrays, lr: float | Live, beta1: float,
    beta2: float, eps: float, weight_decay: float, decoupled: bool, steps: Sequence[int | Live],
) -> None:  # fmt: skip
    """One step of Adam or, decoupled, of AdamW."""
    ours, others = _sorted(params, grads, means, squares)
    for i in others:
        own = [params[i]], [grads[i]], [means[i]], [squares[i]]
        arrays.adam_step(*own, lr, beta1, beta2, eps, weight_decay, decoupled, [steps[i]])
    if ours:
        numbers = words(_floating(lr), *(steps[row[0]] for row in ours))
        settings = np.array([beta1, beta2, eps, weight_decay], np.float64)
        for before, rows in enumerate(_tables(ours)):
            _launch("adam_step", rows, numbers, before * _TENSORS, settings, bool(decoupled))


def _floating(number: float | Live) -> float | Live:
    return number if isinstance(number, Live) else float(number)


def _sorted(params: Arrays, grads: Arrays, first: Arrays, second: Arrays) -> tuple[list[tuple], list[int]]:
    """(number, param, grad, states) of those that are lines of float32 numbers, and numbers of the others."""
    ours: list[tuple] = []
    others: list[int] = []
    for i, (param, grad, *states) in enumerate(zip(params, grads, first, second)):
        if (
            all(a.dtype == np.float32 and a.flags.c_contiguous for a in (param, *states))
            and grad.dtype == np.float32
        ):
            ours.append((i, param, contiguous(grad), *states))
        else:
            others.append(i)
    return ours, others


def _tables(rows: list[tuple]) -> list[list[tuple]]:
    """The rows, so many at a time."""
    return [rows[i : i + _TENSORS] for i in range(0, len(rows), _TENSORS)]


def _launch(name: str, rows: list[tuple], *settings: Any) -> None:
    """One launch over a struct Table, which goes by value: a graph keeps it."""
    table, blocks = np.zeros((_TENSORS, _ENTRY), np.int64), 0
    for entry, (_, *tensors) in zip(table, rows):
        entry[:4] = [a.data.ptr for a in tensors]
        entry[4:] = tensors[0].size, blocks
        blocks += -(-tensors[0].size // _CHUNK)
    launch(name, "optimizer.cu", (blocks,), (256,), table, len(rows), *settings)
