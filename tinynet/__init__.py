"""tinynet: a small deep-learning framework to look inside.

The rooms (``tinynet.nn``, ``tinynet.data``, ...) are imported when they are first used, so that
``import tinynet`` takes little time and loads neither Numba, CuPy, Pillow, matplotlib nor rich.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tinynet.autograd import Op, no_grad
from tinynet.backend import device
from tinynet.gradcheck import gradcheck
from tinynet.random import seed
from tinynet.tensor import Tensor, tensor

if TYPE_CHECKING:
    import tinynet.kernels as kernels  # a folder of its own in the repository, see pyproject.toml
    from tinynet import data, io, metrics, models, nn, ops, optim, training

__version__ = "0.1.0"
__all__ = [
    "Op", "Tensor", "data", "device", "gradcheck", "io", "kernels", "metrics", "models", "nn", "no_grad",
    "ops", "optim", "seed", "tensor", "training",
]  # fmt: skip

_ROOMS = {"data", "io", "kernels", "metrics", "models", "nn", "ops", "optim", "training"}


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"tinynet.{name}")
    from tinynet.errors import did_you_mean

    for room in () if name.startswith("_") else ("nn", "ops", "optim", "data", "metrics", "training"):
        if name in importlib.import_module(f"tinynet.{room}").__all__:
            raise AttributeError(f"tinynet has no {name!r}; it is tinynet.{room}.{name}")
    raise AttributeError(f"tinynet has no {name!r}. {did_you_mean(name, __all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
