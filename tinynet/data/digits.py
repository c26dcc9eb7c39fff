"""Handwriting-like digits that tinynet draws itself: endless training data without a file or a network."""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.backend import cache_folder
from tinynet.data.dataset import Batch, Dataset
from tinynet.data.jit import in_chunks, kernels, warn_once
from tinynet.data.seeding import branch, check_seed, sample_keys
from tinynet.data.style import READABLE, WIDE, DigitStyle, style
from tinynet.errors import ArgumentError, CheckpointError, unknown_name
from tinynet.files import read_arrays, write_arrays

_SKELETONS = Path(__file__).with_name("digit_skeletons.json")
_SPLITS = {"train": WIDE, "test": READABLE}
_CHUNK = 512  # digits that a thread draws at a time


def digits(
    n: int = 60_000,
    seed: int = 0,
    split: str = "train",
    *,
    fresh: bool | None = None,
    setting: DigitStyle | str | None = None,
    cache: bool = False,
) -> DrawnDigits:
    """A dataset of ``n`` drawn digits: x (n, 28, 28, 1) with ink 1 on 0, y (n,) labels 0..9.

    ``split="train"`` draws in the wide style and afresh in each epoch (``fresh``), ``split="test"`` in a
    style that a person can read, the same digits always. ``setting`` is another :class:`DigitStyle`, or
    ``"wide"`` or ``"readable"``. Digit i of epoch e depends on (seed, split, e, i) and the style alone.

    ``cache=True`` keeps a fixed set in the cache folder, where the next run finds it. Drawing needs Numba.
    Raises :class:`ArgumentError` for arguments that make no sense, alone or together.
    """
    if split not in _SPLITS:
        raise unknown_name("split", split, _SPLITS)
    if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 1:
        raise ArgumentError(f"n={n!r}: need at least 1 digit")
    fresh = split == "train" and not cache if fresh is None else fresh
    if fresh and (cache or split == "test"):
        raise ArgumentError(
            "digits drawn afresh each epoch cannot be kept or compared: with fresh=True leave out "
            + ("cache=True" if cache else 'split="test"')
        )
    chosen = _SPLITS[split] if setting is None else style(setting)
    return DrawnDigits(int(n), check_seed(seed), split, fresh, chosen, cache)


class DrawnDigits(Dataset):
    """What :func:`digits` returns. Drawn when first asked for: 60,000 in about 2 s on one core."""

    def __init__(self, n: int, seed: int, split: str, fresh: bool, style: DigitStyle, cache: bool):
        self.n, self.drawing_seed, self.split, self.fresh = n, seed, split, fresh
        self.style, self.cache = style, cache
        self._drawn: Batch | None = None

    def __len__(self) -> int:
        return self.n

    @property
    def x(self) -> np.ndarray:  # type: ignore[override]
        """The pictures of this epoch: (n, 28, 28, 1) uint8."""
        return self._draw()[0]

    @property
    def y(self) -> np.ndarray:  # type: ignore[override]
        """Their labels: (n,) int64."""
        return self._draw()[1]

    def start_epoch(self, epoch: int) -> None:
        """New digits, when they are drawn afresh."""
        if self.fresh and epoch != self.epoch:
            self._drawn = None
        super().start_epoch(epoch)

    def _draw(self) -> Batch:
        if self._drawn is None:
            self._drawn = self._cached() if self.cache else draw(self._keys(), self.style)
        return self._drawn

    def _keys(self) -> np.ndarray:
        keys = sample_keys(self.drawing_seed, self.epoch if self.fresh else 0, np.arange(self.n))
        return branch(keys, list(_SPLITS).index(self.split))

    def _cached(self) -> Batch:
        name = f"{self.split}-{self.n}-{self.drawing_seed}-{_version(self.style)}.safetensors"
        path = cache_folder() / "digits" / name
        found = _read(path, self.n)
        if found is None:
            found = draw(self._keys(), self.style)
            _write(path, found)
        return found

    def __repr__(self) -> str:
        how = "drawn afresh each epoch" if self.fresh else "fixed"
        return f"DrawnDigits({self.n} digits, split={self.split!r}, {how})"


def draw(keys: np.ndarray, style: DigitStyle = WIDE, threads: int | None = None) -> Batch:
    """Draw a digit for each key (n,) uint64: pictures (n, 28, 28, 1) uint8 and labels (n,) int64."""
    pen = kernels("pen")
    images, labels = np.empty((len(keys), pen.SIDE, pen.SIDE), np.uint8), np.empty(len(keys), np.int64)
    shapes, knobs = pen.Skeletons(*_skeletons()), pen.Knobs(*map(float, astuple(style)))
    in_chunks(
        lambda part: pen.draw(keys[part], shapes, knobs, images[part], labels[part]),
        len(keys),
        _CHUNK,
        threads,
    )
    return images[..., None], labels


@lru_cache
def _skeletons() -> tuple[Any, ...]:
    """All forms in the flat arrays of ``pen.Skeletons``."""
    pen = kernels("pen")
    points: list[list[float]] = []
    strokes, forms, starts, longest = [0], [0], [0], 0
    for of_digit in json.loads(_SKELETONS.read_text())["digits"].values():
        for form in of_digit:
            longest = max(longest, sum(pen.samples(len(stroke)) for stroke in form))
            for stroke in form:
                points += stroke
                strokes.append(len(points))
            forms.append(len(strokes) - 1)
        starts.append(len(forms) - 1)
    return np.array(points), np.array(strokes), np.array(forms), np.array(starts), longest


def _version(style: DigitStyle) -> str:
    """Changes with everything that a drawing depends on, the pen's own code included."""
    content = repr(style).encode() + _SKELETONS.read_bytes() + Path(__file__).with_name("pen.py").read_bytes()
    return hashlib.sha256(content).hexdigest()[:16]


def _read(path: Path, n: int) -> Batch | None:
    """The cached digits, or None when they are missing or damaged in any way."""
    try:
        arrays, _ = read_arrays(path)
        x, y = arrays["x"], arrays["y"]
    except (CheckpointError, OSError, KeyError):
        return None
    return (x, y) if x.shape == (n, 28, 28, 1) and x.dtype == np.uint8 and y.shape == (n,) else None


def _write(path: Path, drawn: Batch) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(path, {"x": drawn[0], "y": drawn[1]})
    except (OSError, CheckpointError) as error:
        warn_once("digits", f"drawn digits cannot be kept in the cache folder ({error}); going on without")
