"""``tinynet doctor``: one line for each thing that tinynet stands on: ok, missing, and what to do."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tinynet
from tinynet import backend
from tinynet.cli import emit
from tinynet.errors import DataError, DeviceError


@dataclass(frozen=True)
class Finding:
    """One line: ``state`` is "ok", "missing" (it goes on without), or "broken" (the exit code is 1)."""

    name: str
    state: str
    text: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.state:8} {self.name:14} {self.text}" + (f"; {self.advice}" if self.advice else "")


def run(args: Namespace) -> int:
    """Print all findings; 1 when something that is needed does not work."""
    findings = [_guarded(name, look) for name, look in _LOOKS.items()]
    if args.precompile:
        findings.append(_guarded("precompile", _precompile))
    emit(args.json, [asdict(f) for f in findings], "\n".join(map(str, findings)))
    return int(any(f.state == "broken" for f in findings))


def _guarded(name: str, look: Callable[[str], Finding]) -> Finding:
    """A look that fails in an unforeseen way is a finding, too."""
    try:
        return look(name)
    except Exception as error:
        return Finding(name, "broken", f"{type(error).__name__}: {error}")


def _tinynet(name: str) -> Finding:
    return Finding(name, "ok", f"{tinynet.__version__} in {Path(tinynet.__file__).parent}")


def _python(name: str) -> Finding:
    where = f"{platform.system()} {platform.machine()}, {_cores()} cores"
    return Finding(
        name, "ok", f"{platform.python_version()} on {where}"
    )  # an older one does not come this far


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _numpy(name: str) -> Finding:
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[call-overload,index]
    text = f"{np.__version__}, BLAS {blas['name']} {blas['version']}"
    from tinynet.kernels.cpu.process import blas_library

    threads = (
        "1 BLAS thread beside the kernels' own" if blas_library() else "BLAS threads as its own settings say"
    )
    return Finding(name, "ok", f"{text}, {threads}")


def _numba(name: str) -> Finding:
    try:
        import numba
    except ImportError as error:
        text = f"cannot be imported ({error}): no drawn digits, and slower NumPy kernels"
        return Finding(name, "broken", text, "pip install numba")
    llvm = ".".join(map(str, importlib.import_module("llvmlite.binding").llvm_version_info))
    return Finding(name, "ok", f"{numba.__version__}, LLVM {llvm}, {tinynet.threads()} threads")


def _kernel_cache(name: str) -> Finding:
    """Where Numba keeps the kernels it compiled."""
    folder = importlib.import_module("tinynet.kernels.cpu.jit").cache_folder()
    if folder is None:
        advice = "set NUMBA_CACHE_DIR to a folder that can be written"
        return Finding(
            name, "missing", "no folder can be written: kernels are compiled in each process", advice
        )
    files = list(folder.glob("*.nbc"))
    size = sum(f.stat().st_size for f in files) / 1e6
    state = f"{len(files)} compiled, {size:.1f} MB" if files else "empty: the first run compiles, once"
    return Finding(name, "ok", f"{folder}, {state}")


def _cupy(name: str) -> Finding:
    try:
        cupy = backend.import_cupy()
    except DeviceError as error:
        found = "".join(f"{package}, " for package in backend.cupy_packages())
        return Finding(name, "missing", f"{found}only needed for a GPU", str(error))
    return Finding(name, "ok", " ".join([*backend.cupy_packages(), cupy.__version__]))


def _driver(name: str) -> Finding:
    """Asked of the system itself, so that it can be told which CuPy fits."""
    version = _driver_version()
    if version == 0:
        return Finding(name, "missing", "no NVIDIA driver is loaded", "nvidia-smi shows what is there")
    return Finding(name, "ok", f"for CUDA {version // 1000}.{version % 1000 // 10}")


def _driver_version() -> int:
    """CUDA's number of the driver, such as 13010; 0 where there is none."""
    version = ctypes.c_int(0)
    try:
        library = ctypes.CDLL("nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1")
        library.cuDriverGetVersion(ctypes.byref(version))
    except OSError:
        return 0
    return version.value


def _with_gpu(look: Callable[[str, Any], Finding]) -> Callable[[str], Finding]:
    """A look that needs CuPy and a GPU; without them it says so."""

    def guarded(name: str) -> Finding:
        try:
            cupy = backend.import_cupy()
        except DeviceError:
            return Finding(name, "missing", "needs CuPy", "see CuPy")
        try:
            backend.require_device(cupy)
        except DeviceError as error:
            return Finding(name, "missing", "needs a GPU", str(error) if name == "GPU" else "see GPU")
        return look(name, cupy)

    return guarded


@_with_gpu
def _gpu(name: str, cupy: Any) -> Finding:
    cards = [cupy.cuda.runtime.getDeviceProperties(i) for i in range(cupy.cuda.runtime.getDeviceCount())]
    texts = [f"{c['name'].decode()} (compute capability {c['major']}.{c['minor']})" for c in cards]
    return Finding(name, "ok", ", ".join(texts))


@_with_gpu
def _gpu_memory(name: str, cupy: Any) -> Finding:
    free, total = map(backend.in_bytes, backend.gpu_memory())
    return Finding(name, "ok", f"{free} of {total} are free")


def _library(name: str) -> Finding:
    """NVRTC or cuBLAS: both come as packages of their own, or with the CUDA toolkit."""
    try:
        cupy = backend.import_cupy()
    except DeviceError:
        return Finding(name, "missing", "needs CuPy", "see CuPy")
    try:
        backend.require_library(cupy, name.lower())
    except DeviceError as error:
        reason, _, advice = str(error).rpartition(". ")
        return Finding(name, "missing", reason, advice)
    return Finding(name, "ok", "found")


def _packages(name: str) -> Finding:
    needed = {"pillow": "PIL", "rich": "rich", "safetensors": "safetensors"}
    lacking = [package for package, module in needed.items() if importlib.util.find_spec(module) is None]
    if lacking:
        return Finding(
            name, "broken", f"{', '.join(lacking)} not installed", f"pip install {' '.join(lacking)}"
        )
    return Finding(name, "ok", ", ".join(f"{p} {importlib.metadata.version(p)}" for p in needed))


def _matplotlib(name: str) -> Finding:
    if importlib.util.find_spec("matplotlib") is None:
        return Finding(name, "missing", "only needed for curves.png", "pip install matplotlib")
    return Finding(name, "ok", importlib.metadata.version("matplotlib"))


def _cache_folder(name: str) -> Finding:
    folder = backend.cache_folder()
    nearest = next(p for p in (folder, *folder.parents) if p.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
        return Finding(
            name, "missing", f"{folder} cannot be written: kept sets of digits are drawn anew", "chmod it"
        )
    return Finding(name, "ok", str(folder) + ("" if folder.exists() else ", made when it is first needed"))


def _mnist(name: str) -> Finding:
    from tinynet import data

    folder = backend.cache_folder() / "mnist"
    try:
        sizes = [len(data.mnist(split=split)) for split in ("train", "test")]
    except DataError as error:
        if folder.is_dir():
            return Finding(name, "missing", str(error))
        how = f"copy its four .gz files to {folder}, or give --data FOLDER"
        return Finding(name, "missing", "only needed for --data mnist", how)
    return Finding(name, "ok", f"{sizes[0]:,} and {sizes[1]:,} digits in {folder}")


def _precompile(name: str) -> Finding:
    """Use each net of the examples, on drawn digits: what runs once is compiled and kept."""
    from tinynet import models

    start, nets = time.perf_counter(), (models.small_cnn, models.wide_cnn, models.row_rnn)
    for make in nets:
        _use(make())
    return Finding(
        name, "ok", f"kernels of {len(nets)} nets are compiled, {time.perf_counter() - start:.1f} s"
    )


def _use(model: Any) -> None:
    """Train and evaluate with the usual batch sizes, for some of which there are kernels of their own."""
    from tinynet import data, training

    trainer, digits = training.Trainer(model, "adam", "cross_entropy", ["accuracy"]), data.digits(256)
    for batch_size in (32, 64, 128, 256):
        trainer.fit(digits, batch_size=batch_size, verbose="silent")
        trainer.evaluate(digits, batch_size=batch_size)


_LOOKS: dict[str, Callable[[str], Finding]] = {
    "tinynet": _tinynet,
    "Python": _python,
    "NumPy": _numpy,
    "Numba": _numba,
    "kernel cache": _kernel_cache,
    "CuPy": _cupy,
    "GPU driver": _driver,
    "GPU": _gpu,
    "GPU memory": _gpu_memory,
    "NVRTC": _library,
    "cuBLAS": _library,
    "packages": _packages,
    "matplotlib": _matplotlib,
    "cache folder": _cache_folder,
    "MNIST": _mnist,
}
