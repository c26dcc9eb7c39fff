"""The four networks that are compared, what they are fed with, and the weights they all start from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Net(NamedTuple):
    """One network: the shape of a sample, its classes, and the batches it is measured with."""

    name: str
    description: str
    sample: tuple[int, ...]  # features last
    classes: int
    per_pixel: bool
    batches: tuple[int, ...]  # that ``train`` measures by default

    def batch_of(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs (N, *sample) and labels, (N,) or one per pixel; random, for arithmetic does not mind."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal((size, *self.sample), np.float32)
        labels = (size, *self.sample[:-1]) if self.per_pixel else (size,)
        return x, rng.integers(0, self.classes, labels)

    def in_tinynet(self) -> Any:
        """The network in tinynet, its sizes known."""
        model = _models()[self.name]()
        model.build(self.sample)
        return model


_BATCHES = (32, 64, 128, 256)
NETS = {
    net.name: net
    for net in (
        Net("a", "two small convolutions and two Dense layers", (28, 28, 1), 10, False, _BATCHES),
        Net("b", "two wider convolutions, dropout, two Dense layers", (28, 28, 1), 10, False, _BATCHES),
        Net("c", "U-Net of depth 3, base 16, with batch normalisation", (64, 64, 1), 2, True, (32, 64)),
        Net("d", "simple recurrent layer of 128 over 28 rows, Dense layer", (28, 28), 10, False, _BATCHES),
    )
}


def _models() -> dict[str, Callable[[], Any]]:
    from tinynet import models

    return {
        "a": models.small_cnn,
        "b": models.wide_cnn,
        "c": lambda: models.UNet(base=16, depth=3),
        "d": models.row_rnn,
    }


def write_weights(net: Net, path: Path) -> int:
    """Store initial weights as tinynet draws them, in order and features last; returns how many numbers."""
    import tinynet as tn

    tn.seed(0)
    parameters = [p.data for p in net.in_tinynet().parameters()]
    np.savez(path, *parameters)
    return sum(p.size for p in parameters)


def read_weights(path: Path) -> list[np.ndarray]:
    """What :func:`write_weights` stored, in the same order."""
    with np.load(path) as stored:
        return [stored[f"arr_{i}"] for i in range(len(stored.files))]
