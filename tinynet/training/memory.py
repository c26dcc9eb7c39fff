"""When a batch is too large for the memory of a GPU: say so, and say which one would fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinynet.backend import gpu_is_full, gpu_memory, gpu_pool, memory_text
from tinynet.errors import DeviceMemoryError

SAFE = 0.9  # of the memory that is free: some of it lies between arrays
TRIES = 6

Trial = Callable[[int], Any]  # the work on the first so many samples of the batch


def in_memory(
    work: Callable[[], Any], trial: Trial, undo: Callable[[], None], count: int, reserve: int = 0
) -> Any:
    """``work()`` on a batch of ``count`` samples; :class:`DeviceMemoryError` when the GPU has no room for it.

    The batch size in the error is measured: ``trial(n)`` does the work on fewer samples, ``undo()`` takes
    back what that, or the failed work, has changed. ``reserve`` bytes are still to be taken by others.
    """
    try:
        return work()
    except MemoryError as error:
        if not gpu_is_full(error):
            raise
        text = str(error) if isinstance(error, DeviceMemoryError) else memory_text(error)
    # The error is gone, and with it the arrays of the work that failed.
    undo()
    n = _largest(trial, undo, count, reserve)
    raise DeviceMemoryError(f"{text}, in a batch of {count}. {_advice(n)}")


def _advice(n: int) -> str:
    if n:
        return f"About batch_size={n} would fit"
    return "Not even a single sample would fit: it takes a larger GPU, smaller inputs or fewer features"


def _largest(trial: Trial, undo: Callable[[], None], count: int, reserve: int) -> int:
    """About the largest number of samples whose work fits, found by measuring small ones; 0 for none."""
    small = max(1, count // 16)
    first = _measured(trial, undo, small)
    if first is None and small > 1:
        small, first = 1, _measured(trial, undo, 1)
    if first is None or count == 1:
        return 0
    second = _measured(trial, undo, 2 * small)
    if second is None:
        return small
    free = SAFE * (gpu_memory()[0] - reserve)
    each = max(second - first, 1) / small  # bytes for one sample more; beyond, use is about linear
    n = min(count - 1, max(small, int(small + (free - first) / each)))
    for _ in range(TRIES):  # what is recommended has been tried
        if n <= small or _measured(trial, undo, n) is not None:
            break
        n = max(small, n * 3 // 4)
    return n


def _measured(trial: Trial, undo: Callable[[], None], n: int) -> int | None:
    """How many bytes the work on ``n`` samples takes at one time, at most; None if it does not fit."""
    pool = gpu_pool()
    pool.free_all_blocks()
    before = pool.total_bytes()
    try:
        trial(n)
    except MemoryError:
        return None
    finally:
        undo()
    return pool.total_bytes() - before
