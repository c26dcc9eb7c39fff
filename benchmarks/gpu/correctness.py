"""Are the results right? Every kernel, and twenty training steps, against float64; only then times count."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import kernels as host
from benchmarks.case import Case
from benchmarks.cases import all_cases
from benchmarks.gpu.device import Cpu
from benchmarks.gpu.job import CHUNK, Job
from benchmarks.nets import NETS, read_weights
from tinynet import kernels

LIMITS = {"fp32": 1e-5, "tf32": 1e-3}  # relative norm of a kernel's error
LOSS_LIMITS = {"fp32": 1e-4, "tf32": 1e-2}  # relative, of each of the first losses
WAYS = ("eager", "graph", "graph of 20")
RECORDED = 5  # times twenty steps: three run as they are before those that are recorded
STEP_BATCH = {"a": 32, "b": 16, "c": 4}
# What multiplies matrices, and so has a form in TF32.
PRODUCTS = (
    "conv", "conv_block", "conv_block_backward", "conv_input_grad", "conv_transpose",
    "conv_weight_grad", "dense", "dense_backward", "matmul", "rnn", "rnn_backward", "lstm", "lstm_backward",
    "gru", "gru_backward",
)  # fmt: skip


def names() -> list[tuple[str, str]]:
    """Every kernel with each precision that it has."""
    plain = [(name, "fp32") for name in dict.fromkeys(case.kernel for case in all_cases())]
    return plain + [(name, "tf32") for name in PRODUCTS]


def check_kernel(device: Cpu, kernel: str, precision: str, seed: int, most: int) -> list[dict[str, Any]]:
    """The tiny case, whose sides are odd, and the first ``most`` real ones of one kernel."""
    cases = [case for case in host.trimmed(all_cases(), most) if case.kernel == kernel]
    with kernels.precision(precision):
        return [
            _check(device, case, precision, np.random.default_rng([seed, i])) for i, case in enumerate(cases)
        ]


def _check(device: Cpu, case: Case, precision: str, rng: np.random.Generator) -> dict[str, Any]:
    """The error of a second run, whose outputs lie where there was NaN; the bits of both runs are equal."""
    given = case.arguments(rng)
    truth = host.results_of(case, tuple(map(host.in_float64, given)), "numpy")
    there = tuple(device.put(value) for value in given)
    first = [device.get(a) for a in host.results_of(case, there, "fast")]
    device.poison([a.nbytes for a in first])
    again = [device.get(a) for a in host.results_of(case, there, "fast")]
    error = max(map(relative_norm, again, truth))
    row = {"kernel": case.kernel, "case": case.label, "precision": precision, "error": finite(error)}
    return row | {"fault": _fault(error, LIMITS[precision], first, again)}


def _fault(error: float, limit: float, first: list[np.ndarray], again: list[np.ndarray]) -> str:
    if not error <= limit:
        return f"relative norm of the error {error:.1e}, more than {limit:.0e}"
    if not all(map(np.array_equal, first, again)):
        return "two runs on the same data give different bits"
    return ""


def relative_norm(got: np.ndarray, truth: np.ndarray) -> float:
    """Norm of the difference over norm of the truth; of whole numbers 0 or infinity."""
    if got.shape != truth.shape:
        return math.inf
    if truth.dtype.kind != "f":
        return 0.0 if np.array_equal(got, truth) else math.inf
    norm = float(np.linalg.norm(truth)) or 1.0
    error = float(np.linalg.norm(got.astype(np.float64) - truth)) / norm
    return error if math.isfinite(error) else math.inf


def finite(number: float) -> float | None:
    """The number, or None for what JSON does not know."""
    return number if math.isfinite(number) else None


# --- training ---


def check_training(device: Cpu, net: str, weights: str) -> list[dict[str, Any]]:
    """Losses of twenty steps on the CPU in float32, and on the device in each way and precision.

    Each is held against the CPU in float64.
    """
    values, batch = read_weights(Path(weights)), STEP_BATCH[net]

    def run(how: str, precision: str = "fp32", **more: Any) -> Trained:
        return _train(Job.make(NETS[net], batch, values, how, few=True, precision=precision, **more))

    with kernels.use("numpy"):
        truth = run("eager", device="cpu", dtype="float64").losses
    rows = [_row(net, "CPU, float32", "fp32", run("eager", device="cpu"), truth)]
    for precision in LOSS_LIMITS:
        rows += _ways(net, precision, truth, partial(run, precision=precision, device=device.kind))
    return rows


class Trained(NamedTuple):
    """Losses of the first steps, and the weights after all; or why there are none."""

    losses: list[float]
    weights: list[np.ndarray]
    fault: str = ""


def _ways(
    net: str, precision: str, truth: list[float], run: Callable[[str], Trained]
) -> list[dict[str, Any]]:
    """Single steps against the truth; a graph of one step, and one of twenty, must give the same bits."""
    eager, *graphs = (_trying(run, how) for how in WAYS)
    rows = [_row(net, WAYS[0], precision, eager, truth)]
    for how, graph in zip(WAYS[1:], graphs):
        rows.append(_row(net, how, precision, graph, truth))
        if not rows[-1]["fault"] and not all(map(np.array_equal, eager.weights, graph.weights)):
            rows[-1]["fault"] = "the weights are not those of single steps, bit for bit"
    return rows


def _trying(run: Callable[[str], Trained], how: str) -> Trained:
    try:
        return run(how)
    except Exception as error:
        return Trained([], [], f"{type(error).__name__}: {error}")


def _train(job: Job) -> Trained:
    """A step is recorded after some runs, so there must be more of them than losses are looked at."""
    from benchmarks.engines import gpu_tinynet

    engine, losses = gpu_tinynet.Engine(job), []
    steps = CHUNK if job.device == "cpu" else RECORDED * CHUNK
    while len(losses) < steps:
        losses += engine.losses(engine.advance())
    return Trained(losses[:CHUNK], engine.weights())


def _row(net: str, how: str, precision: str, got: Trained, truth: list[float]) -> dict[str, Any]:
    error, limit = loss_error(got.losses, truth), LOSS_LIMITS[precision]
    fault = got.fault or ("" if error <= limit else f"losses differ by {error:.1e}, more than {limit:.0e}")
    return {"net": net, "how": how, "precision": precision, "error": finite(error), "fault": fault}


def loss_error(losses: list[float], truth: list[float]) -> float:
    """The largest difference, relative to the true loss of that step."""
    if len(losses) != len(truth):
        return math.inf
    errors = [abs(a - b) / max(abs(b), 1e-12) for a, b in zip(losses, truth)]
    return max(errors) if all(map(math.isfinite, errors)) else math.inf


# --- the section ---


def measure(
    ask: Callable[..., Any], nets: dict[str, str], seed: int, most: int, late: Callable[[], bool]
) -> dict:
    """All rows; ``ask(what, **settings)`` is a function of this file in another process, None if that fails.

    ``nets`` names the files of first weights. What there is no time for is listed as skipped.
    """
    section: dict[str, Any] = {"seed": seed, "kernels": [], "training": [], "skipped": []}
    for kernel, precision in names():
        if late():
            section["skipped"].append(f"{kernel}, {precision}")
            continue
        rows = ask("check_kernel", kernel=kernel, precision=precision, seed=seed, most=most)
        section["kernels"] += rows or [_crashed(kernel=kernel, case="", precision=precision)]
    for net, weights in nets.items():
        if late():
            section["skipped"].append(f"training of net {net}")
            continue
        rows = ask("check_training", net=net, weights=weights)
        section["training"] += rows or [_crashed(net=net, how="", precision="")]
    return section


def _crashed(**row: str) -> dict[str, Any]:
    return {**row, "error": None, "fault": "it could not be run; the log has the reason"}


def faults(section: dict[str, Any]) -> list[str]:
    """What is wrong, in words; times mean nothing as long as this is not empty."""
    wrong = [
        f"{r['kernel']} ({r['case']}), {r['precision']}: {r['fault']}"
        for r in section["kernels"]
        if r["fault"]
    ]
    return wrong + [
        f"training net {r['net']}, {r['how']}, {r['precision']}: {r['fault']}"
        for r in section["training"]
        if r["fault"]
    ]
