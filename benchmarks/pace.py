"""Whether all cores of this machine are there now.

What a virtual machine calls its cores are threads of its host's. For a while, most of all after a rest, two
of them may run on one real core: each then does half of its work, and no figure of the system tells. Products
from registers show it, because they leave a core's multipliers nothing to do for anybody else.
"""

from __future__ import annotations

import functools
import time

from benchmarks import ceiling, timing

FULL = 0.9  # of the best rate so far
PATIENCE = 1.0  # seconds: a machine whose cores have work is given other cores by its host before that
_CALLS = 4  # of some 0.2 ms each


class Pace:
    """The rate of products from registers on ``threads`` threads, now and at best."""

    def __init__(self, threads: int):
        *_, form = ceiling.forms()
        self._call, self._flops = ceiling.products(*form, threads)
        self.best = 0.0
        end = time.perf_counter() + PATIENCE
        while time.perf_counter() < end:
            self.now()

    def now(self) -> float:
        """GFLOP/s, in the shortest of a few calls."""
        rate = self._flops / min(timing.seconds_of(self._call, 1) for _ in range(_CALLS)) / 1e9
        self.best = max(self.best, rate)
        return rate

    def full(self) -> bool:
        """Whether the machine works at its best rate, or nearly so."""
        return self.now() > FULL * self.best

    def settle(self) -> bool:
        """Keep all cores at work until they are there; tells whether they came before the patience ended."""
        end = time.perf_counter() + PATIENCE
        while time.perf_counter() < end:
            if self.full():
                return True
        return False


@functools.cache
def of_this_machine() -> Pace:
    """The pace with as many threads as this process may use."""
    import tinynet

    return Pace(tinynet.threads())
