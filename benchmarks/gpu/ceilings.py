"""What the card can do at best, measured in the same run as the kernels that are compared with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.gpu.device import Cpu, measure, region
from tinynet import kernels

SIDE = {"cuda": 8192, "cpu": 256}  # of the matrices
COPY_BYTES = {"cuda": 4 << 30, "cpu": 64 << 20}  # read and written
LAUNCHES, NODES = 400, 100  # fewer than a stream's queue holds, so that the host never waits for the card
_BUMP = 'extern "C" __global__ void bump(float* x) { x[0] += 1.0f; }'


def copy(device: Cpu, regions: int) -> dict[str, Any]:
    """GB/s of a copy from the card's memory to the card's memory, read and written bytes together."""
    xp, free = device.xp, device.free_bytes()
    moved = COPY_BYTES[device.kind] if not free else min(COPY_BYTES[device.kind], free // 2)
    source = xp.ones(moved // 8, np.float32)
    target = xp.empty_like(source)
    found = measure(device, lambda: xp.copyto(target, source), regions)
    return {"bytes": moved, "gb_per_s": moved / found.seconds / 1e9, **found.facts()}


def product(device: Cpu, precision: str, regions: int) -> dict[str, Any]:
    """TFLOP/s of the library's product of two large square matrices of random numbers."""
    side, call = SIDE[device.kind], _product(device, precision)
    found = measure(device, call, regions)
    return {"side": side, "tflops": 2 * side**3 / found.seconds / 1e12, **found.facts()}


def _product(device: Cpu, precision: str) -> Callable[[], Any]:
    side = SIDE[device.kind]
    a, b = (device.put(np.random.default_rng(i).standard_normal((side, side), np.float32)) for i in (0, 1))
    if device.kind == "cpu":
        return lambda: a @ b
    from benchmarks.gpu.library import Library

    return Library(device.xp).product(a, b, precision)


def launches(device: Cpu, regions: int) -> dict[str, Any]:
    """Host microseconds of a launch in several ways, and of a graph; device microseconds of a node in it."""
    calls = _launches(device)
    found: dict[str, Any] = {f"{name}_us": _host_us(device, call, regions) for name, call in calls.items()}
    bump = calls["raw_kernel"]
    replay = device.graph(lambda: [bump() for _ in range(NODES)])
    replay()
    found["graph_us"] = _host_us(device, replay, regions, LAUNCHES // NODES)
    found["node_us"] = measure(device, replay, regions).seconds / NODES * 1e6
    return found


def _launches(device: Cpu) -> dict[str, Callable[[], Any]]:
    """The same tiny work as a raw kernel, as a ufunc, and as a product by the library."""
    x, small = device.put(np.zeros(1, np.float32)), device.put(np.ones((16, 16), np.float32))
    return {
        "raw_kernel": bump(device, x),
        "ufunc": lambda: device.xp.add(x, 1, out=x),
        "product": lambda: kernels.matmul(small, small),
    }


def bump(device: Cpu, x: Any) -> Callable[[], Any]:
    """A call that adds 1 to one number in place, by a kernel of one thread."""
    if device.kind == "cpu":
        return lambda: np.add(x, 1, out=x)
    kernel = device.xp.RawModule(code=_BUMP).get_function("bump")
    return lambda: kernel((1,), (1,), (x,))


def _host_us(device: Cpu, call: Callable[[], Any], regions: int, count: int = LAUNCHES) -> float:
    """Microseconds until a call comes back, the card still at work; the shortest of several regions."""
    return min(_until_back(device, call, count) for _ in range(regions + 1)) / count * 1e6


def _until_back(device: Cpu, call: Callable[[], Any], count: int) -> float:
    device.wait()
    start = time.perf_counter()
    for _ in range(count):
        call()
    seconds = time.perf_counter() - start
    device.wait()
    return seconds


# --- questions on which the design depends ---


def epoch_graph(device: Cpu, nodes: int) -> dict[str, Any]:
    """Seconds to record and to start a graph of as many tiny launches as an epoch of net (a) has."""
    call = bump(device, device.put(np.zeros(1, np.float32)))
    call()
    device.wait()
    start = time.perf_counter()
    replay = device.graph(lambda: [call() for _ in range(nodes)])
    recorded = time.perf_counter() - start
    first, _ = region(device, replay, 1)
    again, _ = region(device, replay, 1)
    return {"nodes": nodes, "record_seconds": recorded, "first_seconds": first, "replay_seconds": again}


# --- the section ---


def measure_all(ask: Callable[..., Any], regions: int) -> dict[str, Any]:
    """Copy, products and launches; ``ask`` as in correctness.py. None where it could not be measured."""
    products = {p: ask("product", precision=p, regions=regions) for p in ("fp32", "tf32", "bf16")}
    return {
        "copy": ask("copy", regions=regions),
        "products": products,
        "launches": ask("launches", regions=regions),
    }


def floor_seconds(section: dict[str, Any], flops: int | None, moved: int, precision: str) -> float | None:
    """The least seconds for so many operations and bytes, by the ceilings of this run; None without them."""
    top, copied = (section.get("products") or {}).get(precision), section.get("copy")
    if not top or not copied:
        return None
    return max((flops or 0) / top["tflops"] / 1e12, moved / copied["gb_per_s"] / 1e9)
