"""Gradients of the states of recurrent layers, of which often the last one alone has any."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

Array = Any


def steps_for(room: ModuleType, grad: Array, states: Array) -> Array:
    """``grad`` (N, T, U) or (N, 1, U), in the form that the room takes: only some take the short one."""
    return grad if takes_last_alone(room) else all_steps(grad, states)


def takes_last_alone(room: ModuleType) -> bool:
    """Whether the room can make do with the last state alone, and with its gradient."""
    return getattr(room, "TAKES_LAST_ALONE", False)


def all_steps(grad: Array, states: Array) -> Array:
    """``grad`` (N, T, U), or that of the last of T ``states`` (N, 1, U) with zeros for those before it."""
    if grad.shape[1] == states.shape[1]:
        return grad
    whole = np.zeros_like(states, dtype=grad.dtype)  # on a GPU it is made there
    whole[:, -1:] = grad
    return whole
