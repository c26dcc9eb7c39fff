"""What the tests of the GPU backend share: the ``gpu`` fixture."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import shim
import standin
import standin_memory
from measure import relative_error  # noqa: F401  (tests import it from measure)

import tinynet as tn
from tinynet.kernels.cuda import cublas, loader

PARTS = ("cupy", "cupyx", "cupy_backends")


@pytest.fixture(scope="module", params=[*shim.ORDERS, pytest.param("card", marks=pytest.mark.gpu)])
def gpu(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The cupy in use: the stand-in, with the threads of a block in one of three orders, or the real one."""
    with installed(request.param) as cupy:
        yield cupy


@pytest.fixture(scope="module")
def standin_gpu() -> Iterator[Any]:
    """The stand-in alone, for what a real card cannot be asked: counts of transfers, memory that is full."""
    with installed("forward") as cupy:
        yield cupy


@pytest.fixture(autouse=True)
def its_own_cupy(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test finds the cupy of its own fixture in sys.modules, and starts with fp32 products."""
    if "gpu" in request.fixturenames:
        which = request.node.callspec.params["gpu"]
    else:
        which = "forward" if "standin_gpu" in request.fixturenames else None
    with tn.kernels.precision("fp32"), installed(which):
        yield
    assert standin_memory.current() is standin_memory.Stream.null, "the test left another stream in use"


@contextmanager
def installed(which: str | None) -> Iterator[Any]:
    """``cupy`` played (``which`` is an order of threads), real ("card"), or none that is played (None)."""
    before, order, library = _cupy_modules(), standin.order, cublas.library
    cupy = _unplayed() if which is None else _real() if which == "card" else _played(which)
    if cupy is not before.get("cupy"):
        _forget_kernels()
    if which != "card":
        cublas.library = lambda: None  # the real one would take an address on the host for one on a card
    try:
        yield cupy
    finally:
        cublas.library = library
        if cupy is not before.get("cupy"):
            _forget_kernels()
            _replace_modules(before)
        standin.order = order


def _cupy_modules() -> dict[str, Any]:
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] in PARTS}


def _played(order: str) -> Any:
    if not shim.available():
        pytest.skip("needs g++ to run the kernels on the CPU")
    return standin.install(order)


def _unplayed() -> Any:
    if sys.modules.get("cupy") is standin.modules()["cupy"]:
        _replace_modules(_real_modules)
    return sys.modules.get("cupy")


def _real() -> Any:
    _replace_modules(_real_modules)
    cupy = pytest.importorskip("cupy", reason="needs a GPU: CuPy is not installed")
    _real_modules.update(_cupy_modules())
    if not cupy.cuda.is_available():
        pytest.skip("needs a GPU: CuPy sees none")
    return cupy


_real_modules: dict[str, Any] = {}  # kept, because CuPy can be imported only once


def _replace_modules(modules: dict[str, Any]) -> None:
    for name in _cupy_modules():
        del sys.modules[name]
    sys.modules.update(modules)


def _forget_kernels() -> None:
    """Kernels belong to the cupy that loaded them."""
    loader._kernel.cache_clear()
    loader._module.cache_clear()
