"""What a case is, and what the makers of cases share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinynet.kernels import Window

Arguments = tuple[Any, ...]


class Case(NamedTuple):
    """One kernel on one shape. ``judged`` makes of its results what must agree with the right ones."""

    kernel: str
    label: str
    arguments: Callable[[np.random.Generator], Arguments]
    flops: int | None
    changed: tuple[int, ...] = ()  # positions of the arguments that the kernel changes in place
    tiny: bool = False
    wide: bool = False  # the result is float64, whatever the arguments are
    read: int | None = None  # bytes, where not all of the arguments are read
    judged: Callable[[Arguments, list[np.ndarray]], list[np.ndarray]] = lambda _, all_of_them: all_of_them


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Normal numbers in float32."""
    return rng.standard_normal(shape, np.float32)


def square(rank: int, size: int, stride: int = 1, padding: int = 0) -> Window:
    """A window with the same side along each axis."""
    return Window((size,) * rank, (stride,) * rank, ((padding, padding),) * rank, (1,) * rank)


def times(shape: Sequence[int]) -> str:
    """Sides with an x between them."""
    return "x".join(map(str, shape))
