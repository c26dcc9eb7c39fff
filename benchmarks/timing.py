"""Medians and quartiles of repeated calls, and a watch on what other processes do meanwhile."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from benchmarks.pace import Pace

SHORTEST_SAMPLE = 1e-4  # seconds: shorter calls are repeated within one sample, or the clock is what is timed


class Spread(NamedTuple):
    """Median and quartiles of ``count`` samples, in the samples' unit."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, samples: list[float]) -> Spread:
        """The median and quartiles of at least one sample."""
        if len(samples) == 1:
            return cls(samples[0], samples[0], samples[0], 1)
        low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(median, low, high, len(samples))


class Watch:
    """How busy others keep the processors from now on: other processes, or a virtual machine's host."""

    def __init__(self) -> None:
        self._before = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float]:
        return machine_busy(), time.process_time(), time.perf_counter()

    def others(self) -> float:
        """Seconds of processor time that others have used since the watch was made; 0 where unknown."""
        (busy, own, _), (busy_now, own_now, _) = self._before, self._now()
        return max(0.0, (busy_now - busy) - (own_now - own))

    def disturbed(self) -> bool:
        """Whether others used over a tenth of one core. The system counts in ticks, so 20 ms are forgiven."""
        return self.others() > 0.02 + 0.1 * (time.perf_counter() - self._before[2])


def machine_busy() -> float:
    """Seconds that all processors together have worked since the start, for whomever; 0 where unknown."""
    try:
        line = Path("/proc/stat").read_text().partition("\n")[0]
    except OSError:  # not Linux
        return 0.0
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = map(int, line.split()[1:9])
    return (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")


def undisturbed(measurement: Callable[[], Any], attempts: int, pace: Pace | None = None) -> tuple[Any, bool]:
    """Repeat ``measurement()`` until nobody else used the machine meanwhile, ``attempts`` times at most.

    ``pace`` tells, before and after, whether all cores are there. Returns the measurement's result and
    whether all attempts were disturbed; it is then the result of the quietest.
    """
    made = []
    for _ in range(attempts):
        there = pace is None or pace.settle()
        watch = Watch()
        result = measurement()
        others, disturbed = watch.others(), watch.disturbed()
        slow = not there or (pace is not None and not pace.full())
        if not (disturbed or slow):
            return result, False
        made.append((slow, others, len(made), result))
    return min(made)[3], True


def sample(call: Callable[[], Any], budget: float, least: int = 3) -> list[float]:
    """Seconds per call in samples over about ``budget`` seconds, at least ``least``; two calls warm up."""
    once = seconds_of(call, 1)
    repeats = max(1, round(SHORTEST_SAMPLE / max(min(once, seconds_of(call, 1)), 1e-7)))
    samples: list[float] = []
    end = time.perf_counter() + budget
    while len(samples) < least or time.perf_counter() < end:
        samples.append(seconds_of(call, repeats))
    return samples


def seconds_of(call: Callable[[], Any], repeats: int) -> float:
    """Mean seconds of ``repeats`` calls in a row."""
    begin = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - begin) / repeats
