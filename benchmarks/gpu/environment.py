"""The facts about card, driver and libraries; they are asked for and never set."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.gpu.device import Cpu

_QUERY = (
    "name", "driver_version", "compute_cap", "memory.total", "clocks.sm", "clocks.max.sm", "clocks.mem",
    "power.draw", "power.limit", "temperature.gpu", "mig.mode.current", "utilization.gpu",
)  # fmt: skip
_PACKAGES = re.compile(r"cupy\S*|nvidia-\S+|torch|triton|jax\S*|cuda-\S+")
_VARIABLES = re.compile(r"CUPY_\w+|CUDA_\w+|NVIDIA_\w+|CUBLAS_\w+|CUDNN_\w+|PYTORCH_\w+")


def host_facts(threads: int) -> dict[str, Any]:
    """What can be told without CuPy: the machine, the packages, the environment, what nvidia-smi says."""
    return {
        "machine": machine.facts(threads),
        "virtual": virtual(),
        "packages": packages(),
        "environment": {n: os.environ[n] for n in sorted(os.environ) if _VARIABLES.fullmatch(n)},
        "nvidia_smi": nvidia_smi(),
    }


def card_facts(device: Cpu) -> dict[str, Any]:
    """What CuPy tells of the card, from a process that uses it; of the CPU in a rehearsal its name."""
    if device.kind == "cpu":
        return {"kind": "cpu", "name": f"a rehearsal on {machine.cpu_model() or platform.machine()}"}
    runtime = device.xp.cuda.runtime
    card = runtime.getDeviceProperties(device.xp.cuda.Device().id)
    free, total = runtime.memGetInfo()
    return {
        "kind": "cuda",
        "name": card["name"].decode(),
        "compute_capability": f"{card['major']}.{card['minor']}",
        "multiprocessors": card["multiProcessorCount"],
        "l2_bytes": card["l2CacheSize"],
        "memory_bytes": total,
        "free_bytes": free,
        "driver": runtime.driverGetVersion(),
        "runtime": runtime.runtimeGetVersion(),
        "cupy": device.xp.__version__,
    }


def packages() -> dict[str, str]:
    """Versions of all installed packages that have to do with a GPU."""
    found = {(d.metadata["Name"] or ""): d.version for d in importlib.metadata.distributions()}
    return {name: found[name] for name in sorted(found) if _PACKAGES.fullmatch(name)}


def nvidia_smi() -> dict[str, str]:
    """What nvidia-smi tells of the first card; empty where there is no such program."""
    command = ["nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    line = done.stdout.partition("\n")[0].split(", ") if done.returncode == 0 else []
    return dict(zip(_QUERY, line))


def virtual() -> str:
    """Whether this is a virtual machine or a container, as far as Linux tells."""
    try:
        seen = "virtual machine" if "hypervisor" in Path("/proc/cpuinfo").read_text() else "no hypervisor"
    except OSError:
        return "unknown"
    inside = any(Path(name).exists() for name in ("/.dockerenv", "/run/.containerenv"))
    return seen + (", container" if inside else "")


def summary(facts: dict[str, Any], card: dict[str, Any] | None) -> str:
    """The facts in a few lines of Markdown."""
    smi = ", ".join(f"{name} {value}" for name, value in facts["nvidia_smi"].items()) or "no nvidia-smi"
    names = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    lines = [
        _card_line(card) if card else "no CUDA device",
        f"nvidia-smi: {smi}",
        f"GPU packages: {names or 'none'}",
        f"{facts['virtual']}; {_setting(facts['environment'])}",
    ]
    return "\n".join([machine.summary(facts["machine"]), *(f"* {line}" for line in lines)])


def _card_line(card: dict[str, Any]) -> str:
    if card["kind"] == "cpu":
        return f"{card['name']}: no figure here is one of a GPU"
    driver, runtime = (f"{v // 1000}.{v % 1000 // 10}" for v in (card["driver"], card["runtime"]))
    return (
        f"{card['name']}, compute capability {card['compute_capability']}, {card['multiprocessors']} "
        f"multiprocessors, {card['memory_bytes'] / 2**30:.0f} GiB; driver for CUDA {driver}, runtime "
        f"{runtime}, CuPy {card['cupy']}"
    )


def _setting(environment: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in environment.items()) or "no CUDA variable set"
