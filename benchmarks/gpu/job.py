"""What an engine is given to train on a GPU, the same for all, and what it must be able to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np

from benchmarks.gpu.device import Cpu
from benchmarks.nets import Net

CHUNK = 20  # steps in one call of the engines that take several at a time; 20 losses are compared
BATCHES = 10 * CHUNK  # that are drawn; then the first comes again
NEARLY_NONE = 1e-12  # rate of dropout: all the work of dropout, and numbers that can be compared
PIXELS = 60_000 * 28 * 28  # of all images together, as in MNIST

FEW = 256

PRECISIONS = ("fp32", "tf32")


class Job(NamedTuple):
    """A network, a data set of bytes and labels, the order of the batches, the first weights, and the way.

    images (n, *sample) uint8, labels (n,) or (n, H, W) int64, order (batches, batch) int32: row i holds the
    samples of step i. ``how`` names one of the ways in which the engine can run a step.
    """

    net: Net
    images: np.ndarray
    labels: np.ndarray
    order: np.ndarray
    weights: list[np.ndarray]
    how: str
    precision: str = "fp32"
    device: str = "cuda"
    dtype: str = "float32"

    @classmethod
    def make(
        cls, net: Net, batch: int, weights: list[np.ndarray], how: str, few: bool = False, **more: Any
    ) -> Job:
        """A job on random data, which arithmetic does not mind: as many as in MNIST, or few."""
        rng = np.random.default_rng(0)
        count = FEW if few else max(FEW, PIXELS // int(np.prod(net.sample)))
        images = rng.integers(0, 256, (count, *net.sample), np.uint8)
        labels = rng.integers(0, net.classes, (count, *(net.sample[:-1] if net.per_pixel else ())))
        order = rng.integers(0, count, (BATCHES, batch), np.int32)
        return cls(net, images, labels, order, weights, how, **more)


class Engine(Protocol):
    """One network in training. ``chunk`` is how many steps an advance takes, ``device`` has the clock."""

    chunk: int
    device: Cpu

    def advance(self) -> Any:
        """Take ``chunk`` steps on the next batches, without waiting; what it returns holds the losses."""

    def losses(self, result: Any) -> Iterable[float]:
        """The losses of an advance, waited for."""


class Turn:
    """Which batches come next: counts round and round through ``BATCHES``, ``chunk`` at a time."""

    def __init__(self, chunk: int):
        self.chunk, self._next = chunk, 0

    def take(self) -> int:
        """The number of the first batch of this advance."""
        here, self._next = self._next, (self._next + self.chunk) % BATCHES
        return here
