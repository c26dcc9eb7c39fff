"""The stand-in's memory, streams and captured graphs. Everything happens at once, except inside a capture.

Inside a capture nothing is computed at all, as on a card: the operations are noted down, and
:meth:`Graph.launch` carries them out. See :mod:`standin`.
"""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

UNIT = 512  # bytes: CuPy rounds every allocation up to this


_ILLEGAL = "cudaErrorIllegalState: the operation cannot be performed in the present state"


class CUDARuntimeError(RuntimeError):
    """What the CUDA runtime itself refuses."""


class FreedMemory(RuntimeError):
    """A graph works on memory that its owner gave back: on a card, another array may own it by now."""


class OutOfMemoryError(MemoryError):
    """CuPy's own class and words."""

    def __init__(self, size: int, total: int, limit: int = 0):
        self._size, self._total, self._limit = size, total, limit
        text = f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes"
        super().__init__(text + (f", limit set to: {limit:,} bytes)." if limit else ")."))


@dataclass
class Card:
    """The card that is played: how large it is, and what lies on it."""

    memory: int = 16 * 2**30
    pools: Any = field(default_factory=weakref.WeakSet)

    def used(self) -> int:
        return sum(pool.total_bytes() for pool in self.pools)


@dataclass
class Transfers:
    """How often arrays crossed between the computer's memory and the card's since :meth:`reset`."""

    to_host: int = 0
    to_device: int = 0

    def reset(self) -> None:
        self.to_host = self.to_device = 0


card, transfers = Card(), Transfers()
_numbers = itertools.count()


class Block:
    """A piece of a pool's memory; it goes back to the pool when nothing refers to it any more."""

    def __init__(self, pool: MemoryPool, size: int):
        self.pool, self.size, self.number = pool, size, next(_numbers)
        pool.live += size

    def __del__(self):
        self.pool.live -= self.size


@dataclass
class MemoryPointer:
    """What an allocator returns."""

    mem: Block
    ptr: int = 0


class MemoryPool:
    """A pool keeps what was freed for its own next use, until free_all_blocks()."""

    def __init__(self, allocator: Any = None):
        self.live = self.peak = self.limit = 0
        card.pools.add(self)

    def malloc(self, size: int) -> MemoryPointer:
        size = -(-size // UNIT) * UNIT
        if self.limit and self.live + size > self.limit:
            raise OutOfMemoryError(size, self.live, self.limit)
        others = card.used() - self.total_bytes()
        if others + max(self.live + size, self.peak) > card.memory:
            self.free_all_blocks()  # as CuPy does before it gives up
            if card.used() + size > card.memory:
                raise OutOfMemoryError(size, self.live)
        self.peak = max(self.peak, self.live + size)
        return MemoryPointer(Block(self, size))

    def used_bytes(self) -> int:
        return self.live

    def total_bytes(self) -> int:
        return max(self.peak, self.live)

    def free_bytes(self) -> int:
        return self.total_bytes() - self.live

    def free_all_blocks(self, stream: Any = None) -> None:
        self.peak = self.live

    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        self.limit = int(fraction * card.memory) if fraction is not None else size or 0

    def get_limit(self) -> int:
        return self.limit


default_pool = MemoryPool()
_allocator: Callable[[int], MemoryPointer] = default_pool.malloc


def set_allocator(allocator: Callable[[int], MemoryPointer] | None = None) -> None:
    global _allocator
    _allocator = allocator or default_pool.malloc


def get_allocator() -> Callable[[int], MemoryPointer]:
    return _allocator


@contextmanager
def using_allocator(allocator: Callable[[int], MemoryPointer] | None = None):
    before = _allocator
    set_allocator(allocator)
    try:
        yield
    finally:
        set_allocator(before)


def allocate(size: int) -> Block:
    """Memory for an array, from the allocator in force."""
    return _allocator(size).mem


# --- streams and graphs ---


class Graph:
    """The operations of a capture, ready to be carried out as often as wanted."""

    def __init__(self, nodes: list[tuple[str, Callable[[], Any]]], blocks: dict[int, Any]):
        self.nodes, self._blocks = nodes, blocks

    def launch(self, stream: Stream | None = None) -> None:
        if (stream or current()).is_capturing():
            raise NotImplementedError("the stand-in puts no graph into another one")
        freed = sum(block() is None and not _kept(pool) for block, pool in self._blocks.values())
        if freed:
            raise FreedMemory(
                f"the graph works on {freed} arrays whose memory went back to its pool. Capture under a "
                "private pool that lives as long as the graph, and keep the arrays that come from outside"
            )
        with np.errstate(all="ignore"):
            for _, run in self.nodes:
                run()

    def upload(self, stream: Stream | None = None) -> None:
        pass

    def debug_dot_str(self, flags: int = 0) -> str:
        """One line for each node, as Graphviz reads it."""
        lines = (f'"graph_1_node_{i}" [label="{name}"];' for i, (name, _) in enumerate(self.nodes))
        return "digraph dot {\n" + "\n".join(lines) + "\n}\n"


def _kept(pool: Any) -> bool:
    """Whether freed memory of this pool stays out of other hands: it is private, and still there."""
    return pool() is not None and pool() is not default_pool


class Stream:
    """A queue of work. The stand-in does all work at once, so all that matters is who captures."""

    null: Stream

    def __init__(
        self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: int | None = None
    ):
        self.ptr = 0 if null else id(self)
        self.device_id, self.is_non_blocking = 0, non_blocking
        self._nodes: list[tuple[str, Callable[[], Any]]] | None = None
        self._blocks: dict[int, Any] = {}
        self._outer: list[Stream] = []

    def __enter__(self) -> Stream:
        self._outer.append(current())
        return self.use()

    def __exit__(self, *error: object) -> None:
        self._outer.pop().use()

    def use(self) -> Stream:
        global _current
        _current = self
        return self

    def begin_capture(self, mode: int | None = None) -> None:
        if self.ptr == 0:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if self.is_capturing():
            raise CUDARuntimeError(
                "cudaErrorIllegalState: the operation cannot be performed in the present state"
            )
        self._nodes, self._blocks = [], {}

    def end_capture(self) -> Graph:
        if self._nodes is None:
            raise CUDARuntimeError(
                "cudaErrorIllegalState: the operation cannot be performed in the present state"
            )
        nodes, self._nodes = self._nodes, None
        gc.collect()  # what only a cycle keeps alive is as good as freed
        return Graph(nodes, self._blocks)

    def is_capturing(self) -> bool:
        return self._nodes is not None

    def note(self, name: str, run: Callable[[], Any], blocks: list[Block]) -> None:
        """Put one operation into the capture."""
        assert self._nodes is not None
        self._nodes.append((name, run))
        for block in blocks:
            self._blocks.setdefault(block.number, (weakref.ref(block), weakref.ref(block.pool)))

    def synchronize(self) -> None:
        if self.is_capturing():
            raise CUDARuntimeError(
                "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing"
            )

    done = True

    def record(self, event: Event | None = None) -> Event:
        return event or Event()

    def wait_event(self, event: Event) -> None:
        pass


class Event:
    """A point in a stream; the stand-in measures no time."""

    done, ptr = True, 0

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False):
        pass

    def record(self, stream: Stream | None = None) -> None:
        pass

    def synchronize(self) -> None:
        current().synchronize()


Stream.null = Stream(null=True)
_current = Stream.null


def current() -> Stream:
    return _current


def refuse_in_capture(what: str) -> None:
    """Raise what CuPy raises when the current stream is capturing. ``what`` is "D2H transfers" or so."""
    if current().is_capturing():
        raise RuntimeError(f"the current stream is capturing, so {what} are disallowed")


def refuse_cublas_in_capture() -> None:
    if current().is_capturing():
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")


def count_to_host() -> None:
    refuse_in_capture("D2H transfers")
    transfers.to_host += 1


def count_to_device() -> None:
    refuse_in_capture("H2D transfers")
    transfers.to_device += 1
