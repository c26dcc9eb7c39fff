"""The device that is measured: a GPU through CuPy, or in a rehearsal the CPU, which answers as well."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.timing import Spread

Call = Callable[[], Any]
SHORTEST_REGION = 0.02  # seconds between two events: their own cost, and a launch's, do not count then
L2_BYTES = 60e6  # of an H200, the largest there is: data of this size are not in it twice


class Measured(NamedTuple):
    """Seconds of one call: between events on the device, and by the host's clock with a wait at the end."""

    device: Spread
    host: Spread

    @property
    def seconds(self) -> float:
        """The device's median; the host's where the device does not tell."""
        return self.device.median or self.host.median

    def facts(self) -> dict[str, Any]:
        """Fit for JSON."""
        return {"device": self.device._asdict(), "host": self.host._asdict()}


class Cpu:
    """The CPU in the place of a GPU, to try the benchmark out; its events are the host's clock."""

    kind = "cpu"
    xp: Any = np

    def put(self, value: Any) -> Any:
        """An array on the device; anything else as it is."""
        return value.copy() if isinstance(value, np.ndarray) else value

    def get(self, array: Any) -> np.ndarray:
        """An array of the device on the host."""
        return array

    def wait(self) -> None:
        """Until the device has finished all that it was told."""

    def event(self) -> Any:
        """A moment in the device's work."""
        return time.perf_counter()

    def between(self, begin: Any, end: Any) -> float:
        """Seconds from one event to another that has happened."""
        return end - begin

    def graph(self, call: Call) -> Call:
        """What ``call`` does, recorded once and started in one go."""
        return call

    def poison(self, sizes: list[int]) -> None:
        """Fill the memory that the next arrays of these sizes (bytes) will get with NaN."""

    def free_bytes(self) -> int:
        """Memory that is left on the device; 0 where nobody tells."""
        return 0

    def release(self) -> None:
        """Give back memory that is kept for later."""


class Gpu(Cpu):
    """The current GPU."""

    kind = "cuda"

    def __init__(self) -> None:
        from tinynet import backend

        self.xp = backend.require_cuda()
        self.runtime = self.xp.cuda.runtime

    def put(self, value: Any) -> Any:
        return self.xp.asarray(value) if isinstance(value, np.ndarray) else value

    def get(self, array: Any) -> np.ndarray:
        return array if isinstance(array, np.ndarray) else array.get()

    def wait(self) -> None:
        self.runtime.deviceSynchronize()

    def event(self) -> Any:
        event = self.xp.cuda.Event()
        event.record()
        return event

    def between(self, begin: Any, end: Any) -> float:
        return self.xp.cuda.get_elapsed_time(begin, end) / 1e3

    def graph(self, call: Call) -> Call:
        from tinynet.kernels.cuda.graph import Graph

        return Graph(call).replay

    def poison(self, sizes: list[int]) -> None:
        blocks = [self.xp.full(-(-size // 4), np.nan, np.float32) for size in sizes]
        del blocks  # back to the pool, from which the next array of this size comes

    def free_bytes(self) -> int:
        return int(self.runtime.memGetInfo()[0])

    def release(self) -> None:
        self.xp.get_default_memory_pool().free_all_blocks()


def open_device(kind: str) -> Cpu:
    """The device by its kind, "cuda" or "cpu"; :class:`tinynet.errors.DeviceError` where there is none."""
    return Gpu() if kind == "cuda" else Cpu()


def region(device: Cpu, call: Call, count: int) -> tuple[float, float]:
    """Seconds of ``count`` calls in a row: between two events, and by the host's clock."""
    device.wait()
    start, begin = time.perf_counter(), device.event()
    for _ in range(count):
        call()
    end = device.event()
    device.wait()
    return device.between(begin, end), time.perf_counter() - start


def enough(device: Cpu, call: Call, shortest: float) -> int:
    """How many calls fill a region of ``shortest`` seconds."""
    count = 1
    while (seconds := region(device, call, count)[1]) < shortest / 4:
        count *= 4
    return max(1, round(count * shortest / seconds))


def measure(device: Cpu, call: Call, regions: int, shortest: float = SHORTEST_REGION) -> Measured:
    """Seconds of one call, from several regions; what comes first is compiled meanwhile and not counted."""
    region(device, call, 2)
    count = enough(device, call, shortest)
    seconds = [region(device, call, count) for _ in range(regions)]
    return Measured(*(Spread.of([s[i] / count for s in seconds]) for i in (0, 1)))


def in_turns(calls: list[Call]) -> Call:
    """Each call takes the next of ``calls``: with copies of the data that do not all fit into a cache."""
    state = [0]

    def call() -> Any:
        state[0] = (state[0] + 1) % len(calls)
        return calls[state[0]]()

    return call
