"""One stream of random numbers per process, so that one seed makes a whole run repeatable."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.errors import ArgumentError

_generator = np.random.Generator(np.random.PCG64(0))


def seed(value: int) -> None:
    """Restart the stream: the same seed on the same machine gives the same weights, bit for bit.

    Raises :class:`ArgumentError` for anything but an integer of at least 0.
    """
    global _generator
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 0:
        raise ArgumentError(f"seed={value!r}: a seed is an integer of at least 0")
    _generator = np.random.Generator(np.random.PCG64(value))


def generator() -> np.random.Generator:
    """The generator that initialisers, dropout and shuffles draw from."""
    return _generator


def draw_key() -> int:
    """A fresh 62-bit key for a counter-based kernel such as dropout."""
    return int(_generator.integers(1 << 62))


def get_state() -> dict[str, Any]:
    """The stream's position, ready for JSON; see :func:`set_state`."""
    return dict(_generator.bit_generator.state)


def set_state(state: dict[str, Any]) -> None:
    """Go back to a position returned by :func:`get_state`."""
    _generator.bit_generator.state = state
