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

from tinynet.errors import ArgumentError, DeviceError

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


def device_of(array: Array) -> str:
    """``"cpu"``, or ``"cuda:0"`` and so on."""
    return "cpu" if array_module(array) is np else f"cuda:{array.device.id}"


def to_device(array: Array, name: str) -> Array:
    """The array itself when it is there already, else a copy on device ``name``."""
    name = device(name)
    if device_of(array) == name:
        return array
    if name == "cpu":
        return array.get()
    cupy = require_cuda()
    with cupy.cuda.Device(int(name.partition(":")[2])):
        return cupy.asarray(array)


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
    cupy = _import_cupy()
    _require_device(cupy)
    _require_libraries(cupy)
    return cupy


def _import_cupy() -> Any:
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


def _require_device(cupy: Any) -> None:
    if cupy.cuda.is_available():
        return
    try:
        driver = cupy.cuda.runtime.driverGetVersion()
    except Exception:  # without a driver the question itself may fail
        driver = 0
    if driver == 0:
        raise DeviceError("no NVIDIA driver is loaded on this machine; nvidia-smi shows what is there")
    raise DeviceError(
        f"the NVIDIA driver (CUDA {driver // 1000}.{driver % 1000 // 10}) shows no usable GPU, or is too old "
        "for the installed CuPy. See nvidia-smi, and CUDA_VISIBLE_DEVICES if it is set"
    )


def _require_libraries(cupy: Any) -> None:
    major = cupy.cuda.runtime.runtimeGetVersion() // 1000
    for library, package in (("nvrtc", "nvidia-cuda-nvrtc"), ("cublas", "nvidia-cublas")):
        try:
            importlib.import_module(f"cupy_backends.cuda.libs.{library}").getVersion()
        except TypeError:  # cuBLAS asks for a handle: its library was found
            continue
        except Exception as error:
            command = f"pip install {package}" + ("-cu12" if major == 12 else "")
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
