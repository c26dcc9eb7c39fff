"""Array libraries and devices: the one place that looks for CuPy."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import sys
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from tinynet.errors import ArgumentError, DeviceError, DeviceMemoryError

Array = Any  # a NumPy or CuPy array

DEFAULT_DTYPE = np.dtype(np.float32)


def array_module(array: Array) -> Any:
    """``numpy``, or ``cupy`` for an array that lives on a GPU."""
    if isinstance(array, (np.ndarray, np.generic, int, float, list, tuple)):
        return np
    cupy = sys.modules.get("cupy")
    return cupy if cupy is not None and isinstance(array, cupy.ndarray) else np


def is_array(value: object) -> TypeGuard[Array]:
    """Whether ``value`` is a NumPy or CuPy array."""
    cupy = sys.modules.get("cupy")
    return isinstance(value, np.ndarray) or (cupy is not None and isinstance(value, cupy.ndarray))


def can_look(array: Array) -> bool:
    """Whether the values of an array can be had now; not those of a GPU array while a step is recorded."""
    xp = array_module(array)
    return xp is np or not xp.cuda.get_current_stream().is_capturing()


def device_of(array: Array) -> str:
    """``"cpu"``, or ``"cuda:0"`` and so on."""
    return "cpu" if array_module(array) is np else f"cuda:{array.device.id}"


def to_device(array: Array, name: str) -> Array:
    """The array itself when it is there already, else a copy on device ``name``.

    Raises :class:`DeviceMemoryError` when the GPU has no room for it.
    """
    if device_of(array) == name or device_of(array) == (name := device(name)):
        return array
    if name == "cpu":
        return array.get()
    cupy = require_cuda()
    try:
        with cupy.cuda.Device(int(name.partition(":")[2])):
            return cupy.asarray(array)
    except MemoryError as error:
        raise DeviceMemoryError(memory_text(error)) from error


def host(array: Array) -> np.ndarray:
    """The array in the computer's own memory, copied there from a GPU if need be."""
    return to_device(array, "cpu")


def device(name: str) -> str:
    """Check a device name and return its full form: ``"cpu"``, ``"cuda"`` (the first GPU), ``"cuda:1"``.

    Raises :class:`DeviceError` when a GPU is asked for and none can be used, with the cause and the fix.
    """
    if name == "cpu":
        return "cpu"
    match = re.fullmatch(r"cuda(?::(\d+))?", str(name))
    if match is None:
        raise ArgumentError(f"unknown device {name!r}. Known: 'cpu', 'cuda', 'cuda:0', 'cuda:1', ...")
    number, cupy = int(match[1] or 0), require_cuda()
    count = cupy.cuda.runtime.getDeviceCount()
    if number >= count:
        raise DeviceError(f"there is no GPU number {number}: this machine has {count}, counted from 0")
    return f"cuda:{number}"


def require_cuda() -> Any:
    """CuPy, ready for use, or a :class:`DeviceError` that tells which of four causes stands in the way."""
    global _ready
    if _ready is None or _ready is not sys.modules.get("cupy"):
        cupy = import_cupy()
        require_device(cupy)
        for library in GPU_LIBRARIES:
            require_library(cupy, library)
        _ready = cupy
    return _ready


_ready: Any = None  # the cupy that was found to be in order

# NVRTC compiles the kernels, cuBLAS multiplies matrices: name in CuPy, and the package that has it.
GPU_LIBRARIES = {"nvrtc": "nvidia-cuda-nvrtc", "cublas": "nvidia-cublas"}


def gpu_is_full(error: MemoryError) -> bool:
    """Whether it was a GPU that had no memory left, and not the computer."""
    cupy = sys.modules.get("cupy")
    own = isinstance(error, DeviceMemoryError)
    return own or (cupy is not None and isinstance(error, cupy.cuda.memory.OutOfMemoryError))


def memory_text(error: MemoryError) -> str:
    """What a full GPU has to say: how much was asked for, and how much there was."""
    asked = re.search(r"allocating ([\d,]+) bytes", str(error))
    what = f"{in_bytes(int(asked[1].replace(',', '')))} more were asked for" if asked else str(error)
    free, total = gpu_memory()
    return f"the memory of the GPU is full: {what}, {in_bytes(free)} of {in_bytes(total)} are free"


def gpu_memory() -> tuple[int, int]:
    """Bytes that new arrays on the current GPU can have, and bytes of the whole card, or of CuPy's limit."""
    pool, (free, total) = gpu_pool(), sys.modules["cupy"].cuda.runtime.memGetInfo()
    free, limit = free + pool.free_bytes(), pool.get_limit()  # the pool keeps what arrays have given back
    return (min(free, limit - pool.used_bytes()), min(total, limit)) if limit else (free, total)


def gpu_pool() -> Any:
    """CuPy's memory pool, from which arrays on a GPU come."""
    return sys.modules["cupy"].get_default_memory_pool()


def in_bytes(count: float) -> str:
    """A number of bytes as people read it: "1.5 GiB"."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"


def import_cupy() -> Any:
    """CuPy, whether or not there is a GPU for it; :class:`DeviceError` where it is not installed rightly."""
    packages = cupy_packages()
    if len(packages) > 1:
        raise DeviceError(
            f"several CuPy packages are installed ({', '.join(packages)}); they overwrite each other. "
            f"Remove all of them, then install one: pip uninstall -y {' '.join(packages)}"
        )
    try:
        return importlib.import_module("cupy")
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise DeviceError(f"CuPy is installed but cannot be imported: {error}") from error
        raise DeviceError(
            'a GPU needs CuPy, which is not installed. In the tinynet folder: pip install -e ".[cuda13]" '
            '(or ".[cuda12]" for a driver of CUDA 12; nvidia-smi shows which)'
        ) from error
    except Exception as error:
        raise DeviceError(f"CuPy is installed but cannot be imported: {error}") from error


def require_device(cupy: Any) -> None:
    """There must be a driver that fits CuPy, and a GPU that it shows."""
    if cupy.cuda.is_available():
        return
    try:
        driver, runtime = cupy.cuda.runtime.driverGetVersion(), cupy.cuda.runtime.runtimeGetVersion()
    except Exception:  # without a driver the question itself may fail
        driver, runtime = 0, 0
    if driver == 0:
        raise DeviceError("no NVIDIA driver is loaded on this machine; nvidia-smi shows what is there")
    if driver // 1000 < runtime // 1000:
        raise DeviceError(_too_old(driver, runtime))
    raise DeviceError(
        f"the NVIDIA driver (CUDA {_version(driver)}) shows no usable GPU. See nvidia-smi, and "
        "CUDA_VISIBLE_DEVICES if it is set"
    )


def _too_old(driver: int, runtime: int) -> str:
    text = (
        f"the NVIDIA driver (for CUDA {_version(driver)}) is too old for the installed CuPy, which needs "
        f"CUDA {runtime // 1000}. Install a newer driver"
    )
    if driver // 1000 != 12:
        return text
    packages = " ".join(cupy_packages())
    return f'{text}, or the CuPy for CUDA 12: pip uninstall -y {packages} && pip install -e ".[cuda12]"'


def _version(number: int) -> str:
    """CUDA's own way to write 13.1 is 13010."""
    return f"{number // 1000}.{number % 1000 // 10}"


def require_library(cupy: Any, library: str) -> None:
    """One of :data:`GPU_LIBRARIES` must be found; CuPy's packages bring none of them along."""
    libraries = importlib.import_module("cupy_backends.cuda.libs")
    try:
        found = getattr(libraries, library)  # a library is loaded when its name is first looked up,
        if library == "nvrtc":
            found.getVersion()  # and this one when it is first used
    except Exception as error:
        major = cupy.cuda.runtime.runtimeGetVersion() // 1000
        command = f"pip install {GPU_LIBRARIES[library]}" + ("-cu12" if major == 12 else "")
        raise DeviceError(
            f"CuPy finds no {library.upper()} library ({error}). Install it: {command}"
        ) from error


def cupy_packages() -> list[str]:
    """The installed distributions that bring a ``cupy`` package, for instance ``["cupy-cuda13x"]``."""
    names = (d.metadata["Name"] or "" for d in importlib.metadata.distributions())
    return sorted({n for n in names if re.fullmatch(r"cupy(-cuda\d+x?|-rocm.*)?", n)})


def cache_folder() -> Path:
    """Where tinynet keeps what it can make again: ``~/.cache/tinynet``, or below ``XDG_CACHE_HOME``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tinynet"
