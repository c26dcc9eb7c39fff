"""What a training run leaves behind: its numbers epoch by epoch, and the report of an evaluation."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.errors import DataError, unknown_name
from tinynet.files import atomic_write


class History:
    """The numbers of each epoch: ``history["loss"]`` is a column, ``history[-1]`` the last epoch's dict.

    Values are plain floats. The names are "loss", those of the metrics, and the same with "val_" in front
    for the validation data; "lr" is added by the callback :class:`~tinynet.training.LearningRate`.
    """

    def __init__(self, epochs: Iterable[Mapping[str, float]] = ()):
        self.epochs: list[dict[str, float]] = []
        for numbers in epochs:
            self.append(numbers)

    @property
    def columns(self) -> list[str]:
        """The names of all columns, in the order in which they first came."""
        return list(dict.fromkeys(name for numbers in self.epochs for name in numbers))

    def append(self, numbers: Mapping[str, float]) -> None:
        """Add one epoch."""
        self.epochs.append({name: float(value) for name, value in numbers.items()})

    def __getitem__(self, key: str | int) -> Any:
        if not isinstance(key, str):
            return self.epochs[key]
        if key not in self:
            raise unknown_name("column", key, self.columns)
        return [numbers.get(key, math.nan) for numbers in self.epochs]

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __iter__(self) -> Iterator[dict[str, float]]:
        return iter(self.epochs)

    def __len__(self) -> int:
        return len(self.epochs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self.epochs == other.epochs

    __hash__ = None  # type: ignore[assignment]  # it grows

    def __repr__(self) -> str:
        last = f", last {describe(self.epochs[-1])}" if self.epochs else ""
        return f"<History of {len(self)} epochs{last}>"

    def save(self, path: str | os.PathLike) -> None:
        """Write a JSON list with one object per epoch, whole or not at all; NaN and infinity become null."""
        atomic_write(path, (json.dumps(to_json(self.epochs), indent=1) + "\n").encode())

    @classmethod
    def load(cls, path: str | os.PathLike) -> History:
        """Read a file of :meth:`save`; null becomes NaN. Raises :class:`DataError` for anything else."""
        try:
            return cls(from_json(json.loads(Path(path).read_bytes())))
        except OSError as error:
            raise DataError(f"cannot read the history {path}: {error.strerror}") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is no history of a training run, or damaged: {error}") from error


class Report(Mapping[str, Any]):
    """Result of an evaluation: ``report["accuracy"]``, ``report.loss`` (mean over samples), ``report.n``.

    As a mapping it holds "loss" and one entry per metric, a float or, for a confusion matrix, an array.
    """

    def __init__(self, loss: float, n: int, metrics: Mapping[str, Any]):
        self.loss, self.n = loss, n
        self._values = {"loss": loss, **metrics}

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            raise unknown_name("metric", name, self._values)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or ``default`` where there is none."""
        return self._values.get(name, default)

    @property
    def scalars(self) -> dict[str, float]:
        """The loss and those metrics that are a single number."""
        return {name: value for name, value in self._values.items() if np.ndim(value) == 0}

    def __str__(self) -> str:
        arrays = (f"\n{name}:\n{value}" for name, value in self._values.items() if np.ndim(value))
        return f"{describe(self.scalars)}  ({self.n:,} samples){''.join(arrays)}"

    __repr__ = __str__


def describe(numbers: Mapping[str, float]) -> str:
    """Names and numbers in one line: ``loss 0.0712  accuracy 0.9781``."""
    return "  ".join(f"{name} {short(value)}" for name, value in numbers.items())


def short(value: float) -> str:
    """Four decimals, or an exponent when these would hide the number."""
    plain = value == 0 or 1e-3 <= abs(value) < 1e4 or not math.isfinite(value)
    return f"{value:.4f}" if plain else f"{value:.3e}"


def to_json(epochs: list[dict[str, float]]) -> list[dict[str, float | None]]:
    """Epochs as JSON knows them: NaN and infinity, which it does not have, become None."""
    return [{k: v if math.isfinite(v) else None for k, v in numbers.items()} for numbers in epochs]


def from_json(epochs: list[dict[str, float | None]]) -> list[dict[str, float]]:
    """The reverse of :func:`to_json`; None becomes NaN."""
    return [{k: math.nan if v is None else v for k, v in numbers.items()} for numbers in epochs]
