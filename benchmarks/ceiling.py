"""What this machine can do at best, measured in the same run as the kernels that are compared with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks import timing
from tinynet.kernels.cpu.jit import inner_kernel, kernel
from tinynet.kernels.cpu.loops import call_loop
from tinynet.kernels.cpu.microkernel import address_of, most_rows, registers, tile_address
from tinynet.kernels.cpu.threads import share

_STEPS = 1 << 15  # of a tile in one call: long enough that waking the threads does not count
_COPIES = tuple(4**k for k in range(7, 15))  # bytes moved (read and written): 16 KiB to 256 MiB


class Ceiling(NamedTuple):
    """GFLOP/s of the best tile from registers, and GB/s (read + written) of copying, by bytes moved.

    ``form`` is the best tile's (rows, vectors, lanes). ``disturbed`` tells that other processes were at work
    each time, so that both may be too low.
    """

    gflops: float
    form: tuple[int, int, int]
    copy: dict[int, float]
    disturbed: bool

    def bandwidth(self, moved: int) -> float:
        """GB/s of a copy that moves about as many bytes: what fits into a cache is copied faster."""
        return self.copy[min(self.copy, key=lambda size: abs(math.log(size / max(moved, 1))))]

    def samples(self, threads: int, budget: float) -> list[float]:
        """Seconds that 1e9 operations from registers take now, several times over ``budget`` seconds."""
        call, flops = products(*self.form, threads)
        return [seconds * 1e9 / flops for seconds in timing.sample(call, budget)]


def measure(threads: int, budget: float, attempts: int) -> Ceiling:
    """Measure both ceilings with ``threads`` threads: ``budget`` seconds for each figure."""
    rates, spoiled = timing.undisturbed(
        lambda: {form: tile_rate(*form, threads, budget) for form in forms()}, attempts
    )
    copies, spoiled_too = timing.undisturbed(
        lambda: {size: copy_rate(size, threads, budget) for size in _COPIES}, attempts
    )
    best = max(rates, key=rates.__getitem__)
    return Ceiling(rates[best], best, copies, spoiled or spoiled_too)


def forms() -> list[tuple[int, int, int]]:
    """(rows, vectors, lanes) of tiles that fill the registers; the machine decides which is fastest."""
    return [(most_rows(vectors), vectors, registers()[0]) for vectors in (1, 2, 3, 4)]


def products(rows: int, vectors: int, lanes: int, threads: int) -> tuple[Callable[[], None], int]:
    """A call in which all threads run a form of tile on numbers of the nearest cache, and its operations."""
    tile, columns = tile_address(rows, vectors, lanes, False), vectors * lanes
    numbers, segment = np.full(columns, 1e-3, np.float32), np.zeros((1, 2), np.int64)
    out = np.zeros((threads, rows, columns), np.float32)
    return lambda: _products(tile, numbers, segment, out, _STEPS), 2 * out.size * _STEPS


def tile_rate(rows: int, vectors: int, lanes: int, threads: int, budget: float) -> float:
    """GFLOP/s of one form of tile, on all threads together, in the shortest time."""
    call, flops = products(rows, vectors, lanes, threads)
    return flops / min(timing.sample(call, budget)) / 1e9


@kernel
def _products(tile, numbers, segment, out, steps):
    share(len(out), _products_of_thread, (tile, numbers, segment, out, steps))


@inner_kernel
def _products_of_thread(t, tile, numbers, segment, out, steps):
    """Run the tile once, on the same few numbers all the time (strides of 0)."""
    columns = out.shape[2]
    call_loop(
        tile,
        (address_of(numbers), 0, 0, address_of(numbers), 0, address_of(segment), 1, steps,
         address_of(numbers), 0, address_of(out[t]), columns, columns),
    )  # fmt: skip


def copy_rate(moved: int, threads: int, budget: float) -> float:
    """GB/s, read and written bytes together, of the faster of two ways to copy: one thread, or all."""
    source = np.ones(moved // 8, np.float32)
    target = np.empty_like(source)
    ways = [lambda: np.copyto(target, source), lambda: _copy(source, target, threads)]
    best = min(min(timing.sample(way, budget / 2)) for way in ways)
    return moved / best / 1e9


@kernel
def _copy(source, target, threads):
    share(threads, _copy_part, (source, target, threads))


@inner_kernel
def _copy_part(t, source, target, threads):
    first, last = t * len(source) // threads, (t + 1) * len(source) // threads
    numbers, copies = source[first:last], target[first:last]
    for i in range(len(numbers)):
        copies[i] = numbers[i]
