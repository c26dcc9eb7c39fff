"""The facts without which a figure means nothing: processor, versions, thread counts, date, commit."""

from __future__ import annotations

import ctypes
import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("tinynet", "numpy", "numba", "llvmlite", "torch", "jax", "jaxlib")
# What the environment may say about threads, BLAS kernels and the allocator.
VARIABLES = re.compile(
    r"OPENBLAS_\w+|OMP_\w+|GOMP_\w+|KMP_\w+|MKL_\w+|NUMBA_\w+|BLIS_\w+|MALLOC_\w+|XLA_\w+"
    r"|TORCH_\w+|TORCHINDUCTOR_\w+|ATEN_\w+|DNNL_\w+|LD_PRELOAD"
)


def facts(threads: int) -> dict[str, Any]:
    """Everything about this machine and this moment that a reader of the figures needs, fit for JSON."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "cpu": cpu_model(),
        "instructions": instructions(),
        "cores": cores(),
        "caches": caches(),
        "memory_gib": memory_gib(),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "packages": versions(),
        "blas": blas(),
        "threads": threads,
        "environment": environment(),
    }


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment() -> dict[str, str]:
    """What is set in this process's environment of all that can change a figure."""
    return {name: os.environ[name] for name in sorted(os.environ) if VARIABLES.fullmatch(name)}


def commit() -> str | None:
    """The commit of the sources, with "+" behind it when files were changed since; None outside of git."""
    number = _git("rev-parse", "--short=12", "HEAD")
    return f"{number}+" if number and _git("status", "--porcelain") else number or None


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:  # no git
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def cpu_model() -> str:
    """The processor's own name, with family and model where Linux has them: virtual machines hide names."""
    info = _read("/proc/cpuinfo")
    name = _field(info, "model name") or platform.processor() or platform.machine()
    family, model = _field(info, "cpu family"), _field(info, "model")
    return f"{name} (family {family}, model {model})" if family else name


def instructions() -> list[str]:
    """The vector instructions that matter to the kernels, the best ones first."""
    from llvmlite import binding

    present = binding.get_host_cpu_features()
    return [name for name in ("avx512f", "avx2", "fma", "avx", "neon", "sse4.2") if present.get(name)]


def caches() -> dict[str, str]:
    """Sizes of the first core's caches, such as {"L1 data": "32K"}; empty if unknown."""
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (_read(folder / name).strip() for name in ("level", "type", "size"))
        found[f"L{level} {kind.lower()}"] = size
    return found


def memory_gib() -> float | None:
    """The machine's memory, where Linux tells it."""
    kib = _field(_read("/proc/meminfo"), "MemTotal")
    return round(int(kib.split()[0]) / 2**20, 1) if kib else None


def versions() -> dict[str, str]:
    """Versions of the installed packages that take part; found without importing them."""
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def blas() -> dict[str, str]:
    """Name and version of NumPy's BLAS and, for OpenBLAS, for which processor its kernels were chosen."""
    from tinynet.kernels.cpu.process import blas_library

    built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    described = {"name": str(built.get("name")), "version": str(built.get("version"))}
    corename = getattr(blas_library(), "scipy_openblas_get_corename64_", None)
    if corename is not None:
        corename.restype = ctypes.c_char_p
        described["kernels"] = corename().decode()
    return described


def summary(machine: dict[str, Any]) -> str:
    """The facts in a few lines of Markdown."""
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    environment = " ".join(f"{name}={value}" for name, value in machine["environment"].items())
    caches_of = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    lines = [
        f"{machine['date']}, commit {machine['commit'] or 'unknown'}",
        f"{machine['cpu']}, {machine['cores']} cores, {' '.join(machine['instructions'])}",
        f"{caches_of or 'caches unknown'}; {machine['memory_gib']} GiB; {machine['system']}",
        f"Python {machine['python']}, {packages}",
        f"NumPy's BLAS: {' '.join(machine['blas'].values())}",
        f"{machine['threads']} threads; environment: {environment or 'nothing set'}",
    ]
    return "\n".join(f"* {line}" for line in lines)


def _field(text: str, name: str) -> str:
    found = re.search(rf"^{re.escape(name)}\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
