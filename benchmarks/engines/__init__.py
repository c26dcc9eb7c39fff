"""The engines that are compared. Each has a module here with ``load(threads)`` and a class ``Engine``.

``Engine(net, x, labels, weights, dropout, mode)`` holds one network on one batch, started from ``weights``
(see nets.py), for one of the MODES; without ``dropout`` its dropout layers do nothing, so that engines can be
compared number by number. ``step()`` is zero_grad, forward, loss, backward and the step of the mode's
optimiser, and returns the loss in the engine's own type; ``infer()`` is the forward alone; ``logits()``
returns it as an array, features last. A module may also have ``prove()``, which raises where the engine
cannot work although its package is there.
"""

from __future__ import annotations

import importlib
from collections import ChainMap
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np

MODES = ("adam", "sgd", "infer")
ADAM = {"lr": 1e-3}
SGD = {"lr": 0.01, "momentum": 0.9}

# glibc's malloc, told to keep the memory it has: what a user of PyTorch can do without touching the code.
_KEEP_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(64 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
}


class Description(NamedTuple):
    """Where an engine is found: its module here, the package it needs, its process and its environment."""

    module: str
    package: str
    environment: dict[str, str]
    worker: str = "benchmarks.worker"


class Engine(Protocol):
    """What every engine can do; see the top of this file."""

    def step(self) -> Any: ...

    def infer(self) -> Any: ...

    def logits(self) -> np.ndarray: ...


ENGINES = {
    "tinynet": Description("with_tinynet", "tinynet", {}),
    "torch": Description("with_torch", "torch", {}),
    "torch-malloc": Description("with_torch", "torch", _KEEP_MEMORY),
    "torch-compile": Description("with_torch_compile", "torch", {"TORCHINDUCTOR_COMPILE_THREADS": "1"}),
    "jax": Description("with_jax", "jax", {}),
}

# On a GPU; see benchmarks/gpu/worker.py for what these can do.
_GPU_WORKER = "benchmarks.gpu.worker"
_NO_POOL = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # by default JAX takes three quarters of the card
GPU_ENGINES = {
    "tinynet-gpu": Description("gpu_tinynet", "tinynet", {}, _GPU_WORKER),
    "torch-gpu": Description("gpu_torch", "torch", {}, _GPU_WORKER),
    "torch-compile-gpu": Description("gpu_torch_compile", "torch", {}, _GPU_WORKER),
    "jax-gpu": Description("gpu_jax", "jax", _NO_POOL, _GPU_WORKER),
}
KNOWN = ChainMap(GPU_ENGINES, ENGINES)


def module_of(name: str) -> ModuleType:
    """The engine's module, which imports nothing heavy by itself: its ``load`` does."""
    return importlib.import_module(f"benchmarks.engines.{KNOWN[name].module}")
