"""Norms of all gradients together, and batches out of data that lie in memory as a whole."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from benchmarks.case import Arguments, Case, normal, times


def norms_of_all(sizes: Sequence[tuple[str, int]]) -> list[Case]:
    """The norm of all gradients together, and what limits it."""
    cases = []
    for name, size in sizes:
        label, tiny = f"{name}: {size}", name == "tiny"
        cases.append(
            Case("total_norm", label, lambda rng, n=size: (normal(rng, n),), 2 * size, (), tiny, True)
        )
    for name, size in sizes:
        label, tiny = f"{name}: {size}", name == "tiny"
        cases.append(Case("limit_norm", label, lambda rng, n=size: _too_long(rng, n), size, (0,), tiny))
    return cases


def _too_long(rng: np.random.Generator, size: int) -> Arguments:
    array = normal(rng, size)
    return array, np.array(np.linalg.norm(array.astype(np.float64))), 1.0


_PICKED = [
    ("tiny", 5, (4, 3, 1), 3),
    ("MNIST", 60_000, (28, 28, 1), 128),
    ("MNIST", 60_000, (28, 28, 1), 1024),
]
_WARP = (10.0, 0.1, 0.1, 1.5)  # rotation in degrees, shear, scale, shift in pixels


def data_cases() -> list[Case]:
    """Pictures of bytes that become float32, as they are and moved a little."""
    more: dict[str, Arguments] = {"gather": (True,), "gather_warped": (12345678901, _WARP, 0.0)}
    return [
        Case(
            kernel,
            f"{name}: {count} of {times((n, *shape))}",
            lambda rng, n=n, shape=shape, count=count, last=last: (*_picked(rng, n, shape), 1, count, *last),
            None,
            tiny=name == "tiny",
            read=count * (math.prod(shape) + 4),
        )
        for kernel, last in more.items()
        for name, n, shape, count in _PICKED
    ]


def _picked(rng: np.random.Generator, n: int, shape: tuple) -> Arguments:
    return rng.integers(0, 256, (n, *shape), np.uint8), rng.permutation(n).astype(np.int32)


# --- features side by side ---

_JOINED = [("tiny", (2, 3, 4), (2, 3)), ("c", (32, 64, 64), (16, 16)), ("c", (32, 16, 16), (64, 64)),
           ("three", (32, 32, 32), (3, 20, 10))]  # fmt: skip


def pieces() -> list[Case]:
    """Features joined and cut apart."""
    return [
        Case(kernel, f"{name}: {times(axes)}, {' + '.join(map(str, sizes))}",
             lambda rng, make=make, axes=axes, sizes=sizes: make(rng, axes, sizes), None, tiny=name == "tiny")
        for kernel, make in (("join", _join), ("cut", _cut))
        for name, axes, sizes in _JOINED
    ]  # fmt: skip


def _join(rng: np.random.Generator, axes: tuple, sizes: tuple[int, ...]) -> Arguments:
    return len(axes), *(normal(rng, *axes, n) for n in sizes)


def _cut(rng: np.random.Generator, axes: tuple, sizes: tuple[int, ...]) -> Arguments:
    return normal(rng, *axes, sum(sizes)), sizes, len(axes)
