"""Which room computes: the one chosen for NumPy arrays, the CUDA room for CuPy arrays."""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

import tinynet.kernels.blocks as blocks

_ROOMS = {"reference": "reference", "numpy": "arrays", "fast": "cpu"}
loaded: dict[str, ModuleType] = {}  # those in use so far, by name
_current = "fast"


class use:
    """Choose the room for NumPy arrays: ``kernels.use("reference")``, or as a ``with`` block."""

    def __init__(self, name: str):
        global _current
        if name not in _ROOMS:
            raise ValueError(f"unknown room {name!r} for kernels; known: {', '.join(_ROOMS)}")
        self._before, _current = _current, name

    def __enter__(self) -> use:
        return self

    def __exit__(self, *error: object) -> None:
        global _current
        _current = self._before


def room() -> str:
    """Name of the room that NumPy arrays use now."""
    return _current


def room_of(array: Any) -> ModuleType:
    """The room whose kernels take this array."""
    name = _current if isinstance(array, np.ndarray) else "cuda"
    return loaded.get(name) or _load(name)


def _load(name: str) -> ModuleType:
    folder = _ROOMS.get(name, name)
    if name == "fast" and not _has_numba():
        folder = "arrays"
    loaded[name] = importlib.import_module(f"tinynet.kernels.{folder}")
    return loaded[name]


def block_of(array: Any, name: str) -> Callable:
    """A room's own fused kernel, or the same put together from its single kernels."""
    room = room_of(array)
    own = getattr(room, name, None)  # or a file of the room that has this name
    return own if callable(own) else functools.partial(getattr(blocks, name), room)


def _has_numba() -> bool:
    try:
        importlib.import_module("numba")
    except ImportError as error:
        warnings.warn(
            f"Numba cannot be imported ({error}); going on with NumPy kernels, slower", stacklevel=5
        )
        return False
    return True
