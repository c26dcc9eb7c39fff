"""The process of one engine on the GPU. Beside training it can be asked for parts of the other sections.

Started as ``python -m benchmarks.gpu.worker ENGINE THREADS DEVICE``; see benchmarks/worker.py for the orders
and their answers. A fault on a GPU spoils everything that a process does there afterwards: so whoever asks
replaces the process after an answer that is an error.
"""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import worker
from benchmarks.gpu import device as clock
from benchmarks.gpu.job import CHUNK, Job
from benchmarks.nets import NETS, read_weights


class GpuSession(worker.Session):
    """One engine, and the network that it trains, once for each way. Public methods are the orders."""

    def __init__(self, name: str, threads: int, device: str):
        super().__init__(name, threads)
        self.kind, self._free = device, 0

    def hello(self) -> dict[str, Any]:
        """What is running here; fails where the engine cannot use the device."""
        return super().hello() | {"hows": self._module.HOWS}

    def _prove(self) -> None:
        self._module.prove(self.kind)

    def part(self, name: str, what: str, **settings: Any) -> Any:
        """A function of benchmarks/gpu/NAME.py, on the device."""
        function = getattr(importlib.import_module(f"benchmarks.gpu.{name}"), what)
        return function(clock.open_device(self.kind), **settings)

    def own(self, what: str, **settings: Any) -> Any:
        """A function of the engine's own module."""
        return getattr(self._module, what)(self.kind, **settings)

    def begin(self, net: str, batch: int, weights: str, how: str, precision: str) -> dict[str, Any]:
        """Make the network, and take the first steps: their losses, the seconds, and the memory it took."""
        device, values = self._module.open_device(self.kind), read_weights(Path(weights))
        start, before = time.perf_counter(), device.free_bytes()
        few = self.kind == "cpu"
        job = Job.make(NETS[net], batch, values, how, few, precision=precision, device=self.kind)
        engine = self._engines[_key(how, precision)] = self._module.Engine(job)
        losses: list[float] = []
        while len(losses) < CHUNK:
            losses += engine.losses(engine.advance())
        seconds = time.perf_counter() - start
        return {"losses": losses, "seconds": seconds, "bytes": max(0, before - device.free_bytes())}

    def calls(self, how: str, precision: str, shortest: float) -> dict[str, Any]:
        """How many advances fill a region of ``shortest`` seconds."""
        engine = self._engines[_key(how, precision)]
        return {"calls": clock.enough(engine.device, engine.advance, shortest)}

    def race(self, how: str, precision: str, calls: int) -> dict[str, Any]:
        """Seconds of so many advances: between events on the device (or None), and by the host's clock."""
        engine = self._engines[_key(how, precision)]
        device, host = clock.region(engine.device, engine.advance, calls)
        return {"device": device, "host": host, "steps": calls * engine.chunk}

    def forget(self) -> dict[str, Any]:
        """Drop all networks and give their memory back."""
        self._engines.clear()
        self._module.open_device(self.kind).release()
        return {}


def _key(how: str, precision: str) -> str:
    return f"{how}, {precision}"


if __name__ == "__main__":
    worker.main(sys.argv[1:], GpuSession)
