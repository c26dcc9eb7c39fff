"""Checks of what users type into constructors."""

from __future__ import annotations

import warnings
from numbers import Real
from typing import Any

from tinynet.errors import ArgumentError, unknown_name
from tinynet.ops.window import Padding, Size, per_axis

_PADDINGS = ("valid", "same")
_said: set[str] = set()


def whole(value: Any, name: str) -> int:
    """``value`` if it is a whole number of at least 1, else an :class:`ArgumentError`."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise ArgumentError(f"{name}={value!r}: give a whole number of at least 1")
    return int(value)


def share(value: Any, name: str) -> float:
    """``value`` if it is a number from 0 up to, but not including, 1."""
    if not isinstance(value, Real) or not 0 <= float(value) < 1:
        raise ArgumentError(f"{name}={value!r}: give a number from 0 up to, but not including, 1")
    return float(value)


def window_sizes(rank: int, least: int = 1, **sizes: Size) -> None:
    """Each of ``sizes`` is an integer of at least ``least``, or ``rank`` of them."""
    for name, value in sizes.items():
        per_axis(value, rank, name, least)


def known_padding(padding: Padding) -> Padding:
    """A string must be one of the known paddings; numbers are checked when the input is there."""
    if isinstance(padding, str) and padding not in _PADDINGS:
        raise unknown_name("padding", padding, _PADDINGS)
    return padding


def missing_axis(shape: tuple[int, ...]) -> str:
    """What to type when data have one axis too few: the batch axis, or the one of the channels."""
    batch = "For a single sample add the batch axis: x[None]."
    few = shape[-1] <= 4  # grey to colour and alpha
    return f" {batch}" if few else f" No axis for channels or features? Add one: x[..., None]. {batch}"


def with_brackets(value: Any, name: str) -> None:
    """Raise :class:`ArgumentError` when ``value`` is a class where an object of it was meant."""
    if isinstance(value, type):
        raise ArgumentError(f"{name} is the class {value.__name__}; write {value.__name__}() with brackets")


def warn_once(text: str) -> None:
    """Warn, but never twice with the same text in one process."""
    if text not in _said:
        _said.add(text)
        warnings.warn(text, stacklevel=3)
