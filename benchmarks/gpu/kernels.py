"""Single kernels on CPU and GPU, and from which batch on the GPU is ahead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinynet
from benchmarks import kernels as host
from benchmarks import timing
from benchmarks.case import Arguments, Case, normal
from benchmarks.cases import all_cases
from benchmarks.conv_cases import same_padding
from benchmarks.gpu.correctness import PRODUCTS
from benchmarks.gpu.device import L2_BYTES, Cpu, in_turns, measure
from tinynet import kernels

MOST_COPIES = 64
BATCHES = (1, 4, 16, 64, 256, 1024)
CROSSED = ("conv", "conv_weight_grad", "dense", "softmax_cross_entropy")

# --- one kernel on its cases ---


def time_kernel(
    device: Cpu, kernel: str, most: int, regions: int, budget: float, threads: int
) -> list[dict[str, Any]]:
    """Times of the tiny case and of the first ``most`` real ones, on the CPU and on the device."""
    cases = [case for case in host.trimmed(all_cases(), most) if case.kernel == kernel]
    return [_row(device, case, regions, budget, threads) for case in cases]


def _row(device: Cpu, case: Case, regions: int, budget: float, threads: int) -> dict[str, Any]:
    given = case.arguments(np.random.default_rng(0))
    return {
        "kernel": case.kernel,
        "case": case.label,
        "tiny": case.tiny,
        "flops": case.flops,
        "bytes": host.bytes_moved(case, given),
        "rooms": _on_the_cpu(case, given, budget, threads),
        "gpu": {
            precision: _on_the_device(device, case, given, precision, regions)
            for precision in ("fp32", "tf32")
            if precision == "fp32" or case.kernel in PRODUCTS
        },
    }


def _on_the_cpu(case: Case, given: Arguments, budget: float, threads: int) -> dict[str, Any]:
    """Seconds in each room, in the fast one with a single thread as well; in plain loops if tiny."""

    def spread(room: str, count: int, seconds: float = budget) -> dict[str, Any]:
        tinynet.threads(count)
        return timing.Spread.of(host.samples_of(case, given, room, count, seconds))._asdict()

    rooms = {"fast, 1 thread": spread("fast", 1)}
    rooms |= {"numpy": spread("numpy", threads), "fast": spread("fast", threads)}
    return rooms | ({"reference": spread("reference", threads, 0.0)} if case.tiny else {})


def _on_the_device(device: Cpu, case: Case, given: Arguments, precision: str, regions: int) -> dict[str, Any]:
    """Seconds of a call from Python, and of one among many in a graph, which is the kernel's own time.

    The calls take turns with as many copies of the arguments as do not fit into the card's cache.
    """
    calls = _copies(device, case, given)
    with kernels.precision(precision):
        called = measure(device, in_turns(calls), regions).facts()
        try:
            replay = device.graph(lambda: [call() for call in calls])
        except RuntimeError as error:
            return {"called": called, "graph": None, "why_no_graph": str(error), "copies": len(calls)}
        graph = measure(device, replay, regions).device
    inside = {k: v / len(calls) if k != "count" else v for k, v in graph._asdict().items()}
    return {"called": called, "graph": inside, "why_no_graph": "", "copies": len(calls)}


def _copies(device: Cpu, case: Case, given: Arguments) -> list[Callable[[], Any]]:
    function = host.function_of(case.kernel, "fast")
    size = sum(v.nbytes for v in given if isinstance(v, np.ndarray))
    count = 2 if device.kind == "cpu" else min(MOST_COPIES, 1 + int(2 * L2_BYTES // max(size, 1)))
    sets = [tuple(device.put(value) for value in given) for _ in range(count)]
    return [lambda mine=mine: function(*mine) for mine in sets]


# --- from which batch on? ---


def time_batches(
    device: Cpu, kernel: str, batches: list[int], regions: int, budget: float, threads: int
) -> list[dict[str, Any]]:
    """Seconds on the CPU, on the device, and there with the copies of all arguments and results as well."""
    tinynet.threads(threads)
    return [_batch_row(device, _case_of(kernel, n), n, regions, budget, threads) for n in batches]


def _batch_row(
    device: Cpu, case: Case, batch: int, regions: int, budget: float, threads: int
) -> dict[str, Any]:
    given, function = case.arguments(np.random.default_rng(0)), host.function_of(case.kernel, "fast")
    there = tuple(device.put(value) for value in given)

    def with_copies() -> Any:
        result = function(*(device.put(value) for value in given))
        return [device.get(a) for a in (result if isinstance(result, tuple) else (result,))]

    cpu = timing.Spread.of(host.samples_of(case, given, "fast", threads, budget))
    return {
        "kernel": case.kernel,
        "batch": batch,
        "cpu": cpu._asdict(),
        "gpu": measure(device, lambda: function(*there), regions).host._asdict(),
        "copied": measure(device, with_copies, regions).host._asdict(),
    }


def _case_of(kernel: str, n: int) -> Case:
    """A case of any batch: a convolution of 16 to 32 channels, a layer of 784 to 128 units, ten logits."""
    if kernel.startswith("conv"):
        return next(case for case in same_padding((n, 28, 28, 16), 32) if case.kernel == kernel)
    if kernel == "dense":
        shapes = (n, 784), (784, 128), (128,)
        return Case(kernel, "", lambda rng: (*(normal(rng, *s) for s in shapes), True), 2 * n * 784 * 128)
    return Case(kernel, "", lambda rng: (normal(rng, n, 10), rng.integers(0, 10, n)), None)


# --- the section ---


def section(
    ask: Callable[..., Any], effort: dict[str, Any], batches: list[int], late: Callable[[], bool]
) -> dict[str, Any]:
    """All rows, as long as there is time; ``ask`` as in correctness.py."""
    found: dict[str, Any] = {"rows": [], "batches": [], "skipped": [], "failed": []}
    for kernel in CROSSED:
        some = (
            None if late() else ask("time_batches", kernel=kernel, batches=batches, **_without_most(effort))
        )
        found["batches"] += some or []
    for kernel in dict.fromkeys(case.kernel for case in all_cases()):
        if late():
            found["skipped"].append(kernel)
            continue
        rows = ask("time_kernel", kernel=kernel, **effort)
        found["rows"] += rows or []
        found["failed"] += [] if rows else [kernel]
    return found


def _without_most(effort: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in effort.items() if name != "most"}


def crossover(rows: list[dict[str, Any]], against: str) -> dict[str, int | None]:
    """For each kernel the batch from which on the GPU ("gpu" or "copied") is ahead of the CPU, or None."""
    return {
        kernel: _from_where([row for row in rows if row["kernel"] == kernel], against)
        for kernel in dict.fromkeys(row["kernel"] for row in rows)
    }


def _from_where(rows: list[dict[str, Any]], against: str) -> int | None:
    first = None
    for row in sorted(rows, key=lambda row: -row["batch"]):
        if row[against]["median"] >= row["cpu"]["median"]:
            break
        first = row["batch"]
    return first
