"""Splitting a dataset into parts that have nothing in common."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinynet.data.dataset import Dataset, Subset, as_dataset
from tinynet.data.seeding import check_seed
from tinynet.errors import ArgumentError, DataError, ShapeError


def split(
    dataset: Any, fractions: Sequence[float], seed: int = 0, groups: Sequence | np.ndarray | None = None
) -> tuple[Subset, ...]:
    """Cut a dataset, or a pair (x, y), into random parts: ``train, held_out = split(d, (0.8, 0.2))``.

    ``fractions`` are positive and sum to 1 at most. ``groups`` (n,) says what belongs together, for instance
    the patient of each picture: a group goes into one part as a whole, so the sizes only come near the
    fractions. Without it, samples of one patient in both parts make the test easier than reality.

    Raises :class:`ArgumentError` for fractions that make no sense, :class:`DataError` for a part that would
    be empty; warns when pictures that are equal in every byte lie in different parts.
    """
    data = as_dataset(dataset)
    _check_fractions(fractions)
    labels = np.arange(len(data)) if groups is None else np.asarray(groups)
    if labels.shape != (len(data),):
        raise ShapeError(f"groups has shape {labels.shape}, need one group for each of {len(data)} samples")
    parts = _cut(labels, fractions, check_seed(seed))
    if empty := [i for i, part in enumerate(parts) if len(part) == 0]:
        count = len(np.unique(labels))
        raise DataError(
            f"part {empty[0]} of {tuple(fractions)} would be empty: there are only {count} groups"
        )
    check_overlap(parts, labels)
    _warn_of_duplicates(data, parts)
    return tuple(Subset(data, part) for part in parts)


def check_overlap(parts: Sequence[np.ndarray], groups: np.ndarray) -> None:
    """Raise :class:`DataError` when a group of ``groups`` (n,) lies in two of ``parts`` (sample numbers)."""
    owner: dict[Any, int] = {}
    for number, part in enumerate(parts):
        for group in np.unique(groups[part]).tolist():
            if owner.setdefault(group, number) != number:
                raise DataError(f"group {group!r} has samples in part {owner[group]} and in part {number}")


def _check_fractions(fractions: Sequence[float]) -> None:
    if not isinstance(fractions, (Sequence, np.ndarray)):
        raise ArgumentError(f"fractions={fractions!r}: give one for each part, such as (0.8, 0.2)")
    if len(fractions) == 0 or min(fractions) <= 0 or sum(fractions) > 1 + 1e-9:
        raise ArgumentError(f"fractions={tuple(fractions)}: need positive numbers that sum to 1 at most")


def _cut(labels: np.ndarray, fractions: Sequence[float], seed: int) -> list[np.ndarray]:
    """Sample numbers of each part, in order; groups are dealt out in random order until a part is full."""
    names, group_of = np.unique(labels, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    sizes = np.bincount(group_of)[order]
    middles = (np.cumsum(sizes) - sizes / 2) / len(labels)
    part_of = np.empty(len(names), np.int64)
    part_of[order] = np.searchsorted(np.cumsum(fractions) + 1e-12, middles)
    return [np.flatnonzero(part_of[group_of] == part) for part in range(len(fractions))]


def _warn_of_duplicates(data: Dataset, parts: Sequence[np.ndarray]) -> None:
    if not isinstance(x := getattr(data, "x", None), np.ndarray):
        return
    seen: dict[bytes, tuple[int, int]] = {}
    for number, part in enumerate(parts):
        for i in part.tolist():
            key = hashlib.blake2b(x[i].tobytes(), digest_size=16).digest()
            other, j = seen.setdefault(key, (number, i))
            if other != number:
                warnings.warn(
                    f"samples {j} and {i} are equal but lie in different parts, {other} and {number}",
                    stacklevel=3,
                )
                return
