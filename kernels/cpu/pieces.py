"""Joining features and cutting them apart again, shared by the threads.

Both are copies of short runs: of each pixel, so many numbers from one place to another. NumPy makes a call of
each run, and one thread; here a run is moved in whole vectors, and all pieces of a pixel one after the other,
so that what is joined is written once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from tinynet.kernels import arrays, blocks
from tinynet.kernels.cpu.jit import inner_kernel, kernel
from tinynet.kernels.cpu.threads import share, tasks_for

_VECTOR = 16  # numbers that are moved at a time: a register of AVX-512, or several of others
_LEAST = 1 << 15  # numbers below which NumPy is done before our table is made

f4 = np.float32


def join(axis: int, *parts: np.ndarray) -> np.ndarray:
    """Arrays one after the other along an axis."""
    first, sizes = parts[0], [p.shape[axis] for p in parts]
    whole_shape = (*first.shape[:axis], sum(sizes), *first.shape[axis + 1 :])
    if any(p.dtype != f4 for p in parts) or not _worth_it(whole_shape, axis):
        return blocks.join(arrays, axis, *parts)
    whole = np.empty(whole_shape, f4)
    _move([np.ascontiguousarray(p) for p in parts], whole, axis, to_whole=True)
    return whole


def cut(x: np.ndarray, sizes: tuple[int, ...], axis: int) -> tuple[np.ndarray, ...]:
    """Its pieces, copied."""
    if x.dtype != f4 or not _worth_it(x.shape, axis):
        return blocks.cut(arrays, x, sizes, axis)
    parts = [np.empty((*x.shape[:axis], n, *x.shape[axis + 1 :]), f4) for n in sizes]
    _move(parts, np.ascontiguousarray(x), axis, to_whole=False)
    return tuple(parts)


def _worth_it(shape: tuple[int, ...], axis: int) -> bool:
    """Whether there is much to copy, and in runs so short that it is not mere copying of memory."""
    runs = math.prod(shape[:axis])
    return math.prod(shape) >= _LEAST and runs >= 64


def _move(parts: list[np.ndarray], whole: np.ndarray, axis: int, to_whole: bool) -> None:
    """Copy the pieces, runs of numbers of each row (all axes before ``axis``), to the whole or from it."""
    rows = math.prod(whole.shape[:axis])
    row, at, table = whole.nbytes // rows, whole.ctypes.data, []
    for part in parts:
        run = part.nbytes // rows
        ends = (part.ctypes.data, run), (at, row)
        table.append((*ends[not to_whole], *ends[to_whole], run // 4))
        at += run
    _copy(np.array(table, np.int64), rows, tasks_for(rows, whole.size))


@kernel
def _copy(table, rows, tasks):
    share(tasks, _copy_rows, (table, rows, tasks))


@inner_kernel
def _copy_rows(task, table, rows, tasks):
    """A task's rows of all pieces; each is (source, bytes of its row, target, bytes of its row, numbers)."""
    for p in range(len(table)):
        source, source_row, target, target_row, numbers = (
            table[p, 0], table[p, 1], table[p, 2], table[p, 3], table[p, 4],
        )  # fmt: skip
        for r in range(task * rows // tasks, (task + 1) * rows // tasks):
            _copy_run(source + r * source_row, target + r * target_row, numbers)


@inner_kernel
def _copy_run(source, target, numbers):
    whole = numbers // _VECTOR * _VECTOR
    for i in range(0, whole, _VECTOR):
        _copy_numbers(_VECTOR, source + 4 * i, target + 4 * i)
    for i in range(whole, numbers):
        _copy_numbers(1, source + 4 * i, target + 4 * i)


@intrinsic(prefer_literal=True)
def _copy_numbers(typingctx: Any, count: Any, source: Any, target: Any) -> Any:
    """Move so many float32, a written number, from one address to another."""
    kind = ir.VectorType(ir.FloatType(), count.literal_value)

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        of, to = (builder.inttoptr(address, kind.as_pointer()) for address in values[1:])
        builder.store(builder.load(of, align=4), to, align=4)
        return context.get_dummy_value()

    return types.void(count, types.int64, types.int64), codegen
