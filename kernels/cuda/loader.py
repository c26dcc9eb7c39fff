"""From a ``.cu`` file to a kernel that can be launched: compiled at first use, kept from then on."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.kernels import arrays
from tinynet.kernels import blocks as plain_blocks

Array = Any
Grid = tuple[int, ...]

FOLDER = Path(__file__).parent
_INCLUDE = re.compile(r'^#include "(\w+\.cuh)".*$', re.MULTILINE)


def launch(
    name: str, file: str, grid: Grid, block: Grid, *args: Any, shared: int = 0, **defines: int
) -> None:
    """Run kernel ``name`` of ``file`` on the current stream of the current device.

    Python ints become C ints and floats become C floats, CuPy arrays pointers (make them contiguous first),
    and a NumPy array is passed by value, as a struct of its bytes. ``shared`` is the size of DYN_SHARED in
    bytes. ``defines`` are names that the source leaves open, such as the sizes of a tile. An empty grid does
    nothing.
    """
    if 0 in grid:
        return
    device = sys.modules["cupy"].cuda.Device().id
    kernel = _kernel(name, file, device, tuple(sorted(defines.items())))
    kernel(grid, block, tuple(map(_argument, args)), shared_mem=shared)


def source(file: str) -> str:
    """The text of a ``.cu`` file of this folder, with the headers of this folder that it includes."""
    text = (FOLDER / file).read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda line: source(line[1]), text)


@functools.cache
def _kernel(name: str, file: str, device: int, defines: tuple[tuple[str, int], ...]) -> Any:
    return _module(file, device, defines).get_function(name)


@functools.cache
def _module(file: str, device: int, defines: tuple[tuple[str, int], ...]) -> Any:
    options = ("-std=c++17", *(f"-D{name}={value}" for name, value in defines))
    return sys.modules["cupy"].RawModule(code=source(file), options=options)


def _argument(value: Any) -> Any:
    if isinstance(value, (bool, int)):
        return np.int32(value)
    return np.float32(value) if isinstance(value, float) else value


def float32_kernel(function: Callable) -> Callable:
    """Where a floating-point array is not float32, the whole-array room computes instead."""
    name = function.__name__
    block = getattr(plain_blocks, name, None)
    plain = functools.partial(block, arrays) if block else getattr(arrays, name)

    @functools.wraps(function)
    def choose(*args: Any) -> Any:
        return (function if all(map(_fits, args)) else plain)(*args)

    return choose


def _fits(value: Any) -> bool:
    """Whether a kernel for float32 takes this argument: anything but an array of other floats."""
    dtype = getattr(value, "dtype", None)
    return dtype is None or dtype == np.float32 or dtype.kind != "f"


def contiguous(array: Array | None) -> Array | None:
    """The array itself, or a copy of it that lies in C order."""
    return None if array is None else sys.modules["cupy"].ascontiguousarray(array)


def blocks(count: int, block: int = 256) -> Grid:
    """As many blocks of ``block`` threads as ``count`` elements need."""
    return (-(-count // block),)
