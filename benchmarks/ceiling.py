"""What this machine can do at best, measured in the same run as the kernels that are compared with it."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from benchmarks import timing
from tinynet.kernels.cpu.jit import inner_kernel, kernel
from tinynet.kernels.cpu.loops import call_loop
from tinynet.kernels.cpu.microkernel import address_of, most_rows, registers, tile_address
from tinynet.kernels.cpu.threads import share

_STEPS = 4096  # of a tile in one call: long enough that its beginning and end do not count
_COPIES = tuple(4**k for k in range(7, 15))  # bytes moved (read and written): 16 KiB to 256 MiB


class Ceiling(NamedTuple):
    """GFLOP/s of the best tile from registers, and GB/s (read + written) of copying, by bytes moved.

    ``disturbed`` tells that other processes were at work each time, so that both may be too low.
    """

    gflops: float
    tile: str
    copy: dict[int, float]
    disturbed: bool

    def bandwidth(self, moved: int) -> float:
        """GB/s of a copy that moves about as many bytes: what fits into a cache is copied faster."""
        return self.copy[min(self.copy, key=lambda size: abs(math.log(size / max(moved, 1))))]

    def shares(self, flops: float | None, moved: int, seconds: float) -> dict[str, float]:
        """Which part of both ceilings a kernel reaches that does so much in so many seconds."""
        shares = {"copy": moved / seconds / 1e9 / self.bandwidth(moved)}
        return shares | ({"flops": flops / seconds / 1e9 / self.gflops} if flops else {})


def measure(threads: int, budget: float, attempts: int) -> Ceiling:
    """Measure both ceilings with ``threads`` threads: ``budget`` seconds for each figure."""
    rates, spoiled = timing.undisturbed(
        lambda: {form: tile_rate(*form, threads, budget) for form in forms()}, attempts
    )
    copies, spoiled_too = timing.undisturbed(
        lambda: {size: copy_rate(size, threads, budget) for size in _COPIES}, attempts
    )
    best = max(rates, key=rates.__getitem__)
    tile = "{} rows x {} vectors of {}".format(*best)
    return Ceiling(rates[best], tile, copies, spoiled or spoiled_too)


def forms() -> list[tuple[int, int, int]]:
    """(rows, vectors, lanes) of tiles that fill the registers; the machine decides which is fastest."""
    return [(most_rows(vectors), vectors, registers()[0]) for vectors in (1, 2, 3, 4)]


def tile_rate(rows: int, vectors: int, lanes: int, threads: int, budget: float) -> float:
    """GFLOP/s of one form of tile when its operands never leave the nearest cache, on all threads together.

    The threads do not wait for each other, and of each the shortest time counts.
    """
    tile, columns = tile_address(rows, vectors, lanes, False), vectors * lanes
    numbers, segment = np.full(columns, 1e-3, np.float32), np.zeros((1, 2), np.int64)

    def shortest(_: int) -> float:
        out = np.zeros((rows, columns), np.float32)
        return min(timing.sample(lambda: _products(tile, numbers, segment, out, _STEPS), budget))

    with ThreadPoolExecutor(threads) as pool:
        return sum(2 * rows * columns * _STEPS / s for s in pool.map(shortest, range(threads))) / 1e9


@kernel
def _products(tile, numbers, segment, out, steps):
    """Run the tile once, on the same few numbers all the time (strides of 0)."""
    columns = out.shape[1]
    call_loop(
        tile,
        (address_of(numbers), 0, 0, address_of(numbers), 0, address_of(segment), 1, steps,
         address_of(numbers), 0, address_of(out), columns, columns),
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
