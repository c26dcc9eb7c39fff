"""The error classes of tinynet, and the helpers that word them.

Each error says what was got and where, shows the arithmetic, and names the fix when the fix is certain.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TinynetError(Exception):
    """Base of all errors that tinynet raises on purpose."""

    layer: str = ""  # dotted path of the layer in which it happened, filled in on the way out by Module

    def __str__(self) -> str:
        message = super().__str__()
        return f"in {self.layer}: {message}" if self.layer else message


class ShapeError(TinynetError, ValueError):
    """Shapes or ranks that do not fit together."""


class DTypeError(TinynetError, TypeError):
    """An array of the wrong kind of number."""


class DeviceError(TinynetError, RuntimeError):
    """No such device, or arrays on different devices."""


class DeviceMemoryError(DeviceError, MemoryError):
    """A GPU has no room for what is wanted."""


class GraphError(TinynetError, RuntimeError):
    """The recorded graph cannot do what was asked of it."""


class CaptureError(TinynetError, RuntimeError):
    """A step that cannot be recorded as a CUDA graph."""


class DataError(TinynetError, ValueError):
    """Data that cannot be used: missing, damaged, or out of range."""


class CheckpointError(TinynetError, ValueError):
    """Weights or checkpoints that cannot be read, written, or fitted to the model."""


class ArgumentError(TinynetError, ValueError):
    """An argument outside of what the function can do."""


class NotFiniteError(TinynetError, ArithmeticError):
    """A NaN or an infinity where a number was needed."""


class MissingPackageError(TinynetError, ImportError):
    """An optional package is needed for this; the message holds the pip command."""


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """A sentence that lists the nearest of ``options``, or all of them when none is near."""
    options = sorted(options)
    folded = {option.lower(): option for option in options}
    near = difflib.get_close_matches(name.lower(), folded, n=3, cutoff=0.5)
    near = near[:1] if name.lower() in folded else near
    if near:
        return "Did you mean " + " or ".join(repr(folded[n]) for n in near) + "?"
    return "Known: " + ", ".join(options) + "."


def unknown_name(kind: str, name: object, options: Iterable[str]) -> ArgumentError:
    """The error for a string that names nothing: ``unknown_name("loss", "mze", losses)``."""
    return ArgumentError(f"unknown {kind} {name!r}. {did_you_mean(str(name), options)}")


def by_x(shape: Iterable[int]) -> str:
    """A shape as people write it: ``by_x((28, 28, 1))`` is ``"28x28x1"``."""
    return "x".join(str(s) for s in shape) or "a single number"
