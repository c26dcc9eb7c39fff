"""The norm of many arrays together, and making them shorter by it: clip.cu."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinynet.kernels import arrays as plain
from tinynet.kernels.cuda.loader import launch

Array = Any
Arrays = Sequence[Array]

_ARRAYS, _CHUNK, _THREADS = 160, 4096, 256  # clip.cu knows them too


def total_norm(arrays: Arrays) -> Array:
    """Square root of the sum of all squares."""
    if not _ours(arrays):
        return plain.total_norm(arrays)
    cupy = sys.modules["cupy"]
    tables = list(_tables(arrays))
    partial, norm = cupy.empty(sum(blocks for *_, blocks in tables)), cupy.empty(())
    start = 0
    for table, count, blocks in tables:
        launch(
            "square_sums", "clip.cu", (blocks,), (_THREADS,), table, count, partial[start : start + blocks]
        )
        start += blocks
    launch("root_of_sum", "clip.cu", (1,), (_THREADS,), partial, norm, len(partial))
    return norm


def limit_norm(arrays: Arrays, norm: Array, limit: float) -> None:
    """Multiply all arrays, in place, by limit / max(norm, limit)."""
    if not _ours(arrays):
        return plain.limit_norm(arrays, norm, limit)
    for table, count, blocks in _tables(arrays):
        launch("limit_norm", "clip.cu", (blocks,), (_THREADS,), table, count, norm, np.array([limit]))


def _ours(arrays: Arrays) -> bool:
    return all(a.dtype == np.float32 and a.flags.c_contiguous for a in arrays)


def _tables(arrays: Arrays) -> Iterator[tuple[np.ndarray, int, int]]:
    """A struct Table, its number of arrays, and that of blocks, for so many arrays at a time."""
    for i in range(0, len(arrays), _ARRAYS):
        some = arrays[i : i + _ARRAYS]
        blocks = np.cumsum([0, *(-(-a.size // _CHUNK) for a in some)])
        table = np.zeros((3, _ARRAYS), np.int64)
        table[:, : len(some)] = [a.data.ptr for a in some], [a.size for a in some], blocks[:-1]
        yield table, len(some), int(blocks[-1])
