"""Numbers that change from step to step, such as the learning rate, for kernels in a recorded step.

A CUDA graph repeats its launches with the very arguments they had when it was recorded. What has to change
is therefore read from memory on the device: from a table of 8-byte words that is filled anew before every
replay. In a step that is not recorded the same kernels read the same words, from an array made for the call,
so that both compute the same bits.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np

Array = Any
Number = int | float


class Live(NamedTuple):
    """The place of a changing number: this word of ``table``. It has no value of its own."""

    table: Table
    word: int


class _State(threading.local):
    table: Table | None = None


_state = _State()


def live(function: Callable[[], Number]) -> Any:
    """What ``function()`` gives, or in a step that is being recorded a :class:`Live` place for it.

    Each replay then calls the function once more, in the order in which the places were made. So whatever
    a step has to do on the host each time, such as counting itself or drawing a random key, belongs in there.
    """
    return function() if _state.table is None else _state.table.place(function)


def live_items(dicts: Sequence[dict[str, Number]], key: str) -> list[Any]:
    """What ``dict[key]`` is in each of them, each as :func:`live` gives it."""
    if _state.table is None:
        return [d[key] for d in dicts]
    return [_state.table.place(partial(d.__getitem__, key)) for d in dicts]


def recording() -> bool:
    """Whether a step is being recorded now (by this thread)."""
    return _state.table is not None


def words(*numbers: Number | Live) -> Array:
    """These numbers on the device as 8-byte words (n,): floats as float64, integers as 64 bits; dtype uint64.

    Places that were made one after the other are not copied.
    """
    if _state.table is not None:
        return _state.table.view(numbers)
    values = np.empty(len(numbers), np.uint64)
    _write(numbers, values)
    return sys.modules["cupy"].asarray(values)


@contextmanager
def record_into(table: Table) -> Iterator[None]:
    """Inside this block :func:`live` makes places in ``table``."""
    before, _state.table = _state.table, table
    try:
        yield
    finally:
        _state.table = before


class Table:
    """The changing numbers of one recorded step: ``words`` (capacity,) uint64 on the device."""

    COPIES = 4  # how many replays the host may be ahead of the device

    def __init__(self, capacity: int = 4096):
        self.words = sys.modules["cupy"].zeros(capacity, np.uint64)
        self._functions: list[Callable[[], Number]] = []
        self._numbers: list[Number] = []  # those of the last refill
        self._buffers: list[_Pinned] = []
        self._turn = 0

    def place(self, function: Callable[[], Number]) -> Live:
        """The next free place, for what ``function`` will give at each replay."""
        if len(self._functions) == len(self.words):
            raise OverflowError(f"a recorded step has more than {len(self.words)} changing numbers")
        self._functions.append(function)
        return Live(self, len(self._functions) - 1)

    def view(self, numbers: tuple[Number | Live, ...]) -> Array:
        """The words of these places, side by side; where they are not, new places repeat them."""
        first = numbers[0].word if isinstance(numbers[0], Live) else -1
        if any(number != (self, first + i) for i, number in enumerate(numbers)):
            places = [self.place(self._repeat(number)) for number in numbers]
            first = places[0].word
        return self.words[first : first + len(numbers)]

    def _repeat(self, number: Number | Live) -> Callable[[], Number]:
        if isinstance(number, Live):
            return lambda: self._numbers[number.word]
        return lambda: number

    def refill(self, stream: Any) -> None:
        """Call all functions for the next replay, and copy their numbers to the device, in stream order."""
        self._numbers.clear()
        for function in self._functions:
            self._numbers.append(function())
        if self._numbers:
            self._next_buffer().send(self._numbers, self.words, stream)

    def _next_buffer(self) -> _Pinned:
        if not self._buffers:
            self._buffers = [_Pinned(len(self._functions)) for _ in range(self.COPIES)]
        self._turn = (self._turn + 1) % self.COPIES
        return self._buffers[self._turn]


class _Pinned:
    """Words in memory from which the device copies by itself, while the host goes on."""

    def __init__(self, count: int):
        cuda = sys.modules["cupy"].cuda
        self._memory = cuda.alloc_pinned_memory(8 * count)
        self._words = np.frombuffer(self._memory, np.uint64, count)
        self._copied = cuda.Event(disable_timing=True)

    def send(self, numbers: list[Number], to: Array, stream: Any) -> None:
        """Start a copy, once the one before it is over."""
        self._copied.synchronize()
        _write(numbers, self._words)
        to[: len(numbers)].set(self._words, stream)
        self._copied.record(stream)


def _write(numbers: Any, to: np.ndarray) -> None:
    """Numbers as 8-byte words into ``to`` (n,) uint64."""
    floats = to.view(np.float64)
    for i, number in enumerate(numbers):
        if isinstance(number, (float, np.floating)):
            floats[i] = number
        else:
            to[i] = number
