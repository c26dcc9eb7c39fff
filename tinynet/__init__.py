"""tinynet: a small deep-learning framework to look inside.

The rooms (``tinynet.nn``, ``tinynet.data``, ...) are imported when they are first used, so that
``import tinynet`` takes little time and loads neither Numba, CuPy, Pillow, matplotlib nor rich.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tinynet.autograd import Op, no_grad
from tinynet.backend import device
from tinynet.errors import ArgumentError
from tinynet.gradcheck import gradcheck
from tinynet.random import seed
from tinynet.tensor import Tensor, tensor

if TYPE_CHECKING:
    import tinynet.kernels as kernels  # a folder of its own in the repository, see pyproject.toml
    from tinynet import data, io, metrics, models, nn, ops, optim, training
    from tinynet.training.compile import compile

__version__ = "0.1.0"
__all__ = [
    "Op", "Tensor", "compile", "data", "device", "gradcheck", "io", "kernels", "metrics", "models", "nn",
    "no_grad", "ops", "optim", "seed", "tensor", "threads", "training",
]  # fmt: skip

_ROOMS = {"data", "io", "kernels", "metrics", "models", "nn", "ops", "optim", "training"}


def threads(n: int | None = None) -> int:
    """Have the CPU kernels use ``n`` threads from now on, in the whole process; without ``n``, tell how many.

    At first there is one for each processor core. For one number of threads results are equal bit for bit;
    between numbers they may differ in the last bits. Raises :class:`ArgumentError` for a number that cannot
    be had, and says why. The first call loads Numba.
    """
    from tinynet.kernels.cpu import threads as pool

    most, reason = pool.most_threads()
    if n is not None:
        if isinstance(n, bool) or not hasattr(n, "__index__") or not 1 <= n <= most:
            raise ArgumentError(f"threads({n!r}): give a whole number from 1 to {most}: {reason}")
        pool.set_thread_count(int(n))
    return pool.thread_count()


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"tinynet.{name}")
    if name == "compile":
        return importlib.import_module("tinynet.training.compile").compile
    from tinynet.errors import did_you_mean

    for room in () if name.startswith("_") else ("nn", "ops", "optim", "data", "metrics", "training"):
        if name in importlib.import_module(f"tinynet.{room}").__all__:
            raise AttributeError(f"tinynet has no {name!r}; it is tinynet.{room}.{name}")
    raise AttributeError(f"tinynet has no {name!r}. {did_you_mean(name, __all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS, "compile"})
