"""Initialisers: where the numbers of a new layer come from.

Give a layer a name, ``init="he_normal"``, or one of the objects below, ``init=nn.init.Normal(0.02)``. Any
function from a shape to an array will do. The numbers are drawn from tinynet's stream, see
:func:`tinynet.seed`.

fan_in is the number of inputs that one output sums over, fan_out the number of outputs that one input feeds:
for a weight (*kernel, in, out) they are kernel * in and kernel * out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinynet.backend import DEFAULT_DTYPE
from tinynet.errors import ArgumentError, unknown_name
from tinynet.random import generator

Shape = tuple[int, ...]
Initializer = Callable[[Shape], np.ndarray]


@dataclass(frozen=True)
class Constant:
    """Every number is ``value``."""

    value: float

    def __call__(self, shape: Shape) -> np.ndarray:
        return np.full(shape, self.value, DEFAULT_DTYPE)


@dataclass(frozen=True)
class Normal:
    """Gaussian numbers with mean 0 and standard deviation ``std``."""

    std: float = 0.05

    def __call__(self, shape: Shape) -> np.ndarray:
        return generator().normal(0.0, self.std, shape).astype(DEFAULT_DTYPE)


@dataclass(frozen=True)
class Uniform:
    """Numbers spread evenly from ``low`` to ``high``."""

    low: float = -0.05
    high: float = 0.05

    def __call__(self, shape: Shape) -> np.ndarray:
        return generator().uniform(self.low, self.high, shape).astype(DEFAULT_DTYPE)


@dataclass(frozen=True)
class VarianceScaling:
    """Variance ``scale / n``, with n the ``fan``: "in", "out" or "average" of both.

    Glorot (Glorot and Bengio 2010) is scale 1 with the average, He (He et al. 2015) scale 2 with "in", for
    ReLU; LeCun (LeCun et al. 1998) scale 1 with "in".
    """

    scale: float
    fan: str
    uniform: bool

    def __call__(self, shape: Shape) -> np.ndarray:
        std = math.sqrt(self.scale / max(self._count(shape), 1))
        if self.uniform:
            return Uniform(-std * math.sqrt(3), std * math.sqrt(3))(shape)
        return Normal(std)(shape)

    def _count(self, shape: Shape) -> float:
        fan_in, fan_out = fans(shape)
        return {"in": fan_in, "out": fan_out, "average": (fan_in + fan_out) / 2}[self.fan]


@dataclass(frozen=True)
class Orthogonal:
    """A matrix with orthonormal rows or columns, whichever are fewer, times ``gain`` (Saxe et al. 2014).

    A weight with more axes is seen as the matrix (all axes but the last, last).
    """

    gain: float = 1.0

    def __call__(self, shape: Shape) -> np.ndarray:
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(generator().normal(size=(max(rows, columns), min(rows, columns))))
        q *= np.sign(np.diag(r))  # makes the draw uniform over the orthogonal matrices (Mezzadri 2007)
        return (self.gain * (q if rows >= columns else q.T)).reshape(shape).astype(DEFAULT_DTYPE)


def fans(shape: Shape) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (*kernel, in, out); of a vector twice its length."""
    if len(shape) < 2:
        return math.prod(shape), math.prod(shape)
    return math.prod(shape[:-1]), math.prod(shape[:-2]) * shape[-1]


glorot_uniform = VarianceScaling(1.0, "average", uniform=True)
glorot_normal = VarianceScaling(1.0, "average", uniform=False)
he_uniform = VarianceScaling(2.0, "in", uniform=True)
he_normal = VarianceScaling(2.0, "in", uniform=False)
lecun_normal = VarianceScaling(1.0, "in", uniform=False)
orthogonal = Orthogonal()
zeros = Constant(0.0)
ones = Constant(1.0)
normal = Normal()
uniform = Uniform()

_NAMES: dict[str, Initializer] = {
    "glorot_uniform": glorot_uniform,
    "glorot_normal": glorot_normal,
    "he_uniform": he_uniform,
    "he_normal": he_normal,
    "lecun_normal": lecun_normal,
    "orthogonal": orthogonal,
    "zeros": zeros,
    "ones": ones,
    "normal": normal,
    "uniform": uniform,
}


def get(init: str | Initializer) -> Initializer:
    """The initialiser of that name, or the object itself; a wrong name raises :class:`ArgumentError`."""
    if callable(init) and not isinstance(init, type):
        return init
    if isinstance(init, type) or init == "constant":
        raise ArgumentError(
            f"init={init!r} does not say which numbers: write for example init=nn.init.Constant(0.1)"
        )
    if not isinstance(init, str) or init not in _NAMES:
        raise unknown_name("init", init, _NAMES)
    return _NAMES[init]


def draw(init: Initializer, shape: Shape) -> np.ndarray:
    """An array of ``shape`` from ``init``; raises :class:`ArgumentError` when it gives something else."""
    array = init(shape)
    if getattr(array, "shape", None) != shape:
        raise ArgumentError(f"init={init!r} gave {type(array).__name__} instead of an array of shape {shape}")
    return array
