"""``python -m benchmarks kernels``: every kernel, first whether it is right, then how fast."""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import tinynet
from benchmarks import machine, report, timing
from benchmarks.case import Case
from benchmarks.cases import all_cases
from benchmarks.kernels_tables import tables_of
from benchmarks.pace import of_this_machine
from tinynet import kernels
from tinynet.kernels import blocks

ROOMS = ("numpy", "fast")
APART = "apart"  # a block put together from the single kernels of the fast room
REGISTERS = "registers"  # beside the rooms: products from registers, the ceiling in the same minutes
LIMIT = 5e-5  # of the largest number in the right result: float32 sums of up to 100,000 terms stay well below


class Effort(NamedTuple):
    """How much time is spent: rounds over both rooms, seconds for each in a round, how often a disturbed
    measurement is tried, real cases per kernel."""

    rounds: int
    budget: float
    attempts: int
    cases: int


FULL, QUICK = Effort(5, 0.1, 4, 100), Effort(1, 0.01, 1, 1)


def add_arguments(verbs: Any) -> None:
    """The verb ``kernels`` and its options."""
    parser = verbs.add_parser(
        "kernels",
        help="every kernel: errors, times, shares of the ceiling",
        description="Check every kernel against plain loops and float64, then time it. "
        "Exit code 1: a kernel is wrong.",
        epilog="example: python -m benchmarks kernels --only conv --only matmul --json conv.json",
    )
    parser.add_argument("--quick", action="store_true", help="one real case per kernel, little time for each")
    parser.add_argument("--only", action="append", metavar="NAME", help="this kernel only; may be repeated")
    parser.add_argument("--threads", type=int, default=None, help="default: as many as there are cores")
    report.add_file_options(parser)
    parser.set_defaults(run=run, fail=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Check, time, show and keep; 1 when a kernel is wrong."""
    cases = _chosen(arguments)
    threads = set_threads(arguments)
    effort = QUICK if arguments.quick else FULL
    for result in measure(cases, threads, effort):  # at once: the next kernel may take long, or crash
        report.keep(arguments, result, _heading(result), tables_of(result))
    report.show(_heading(result), tables_of(result))
    return 1 if result["wrong"] else 0


def _heading(result: dict[str, Any]) -> str:
    return f"# Kernels\n\n{machine.summary(result['machine'])}"


def _chosen(arguments: argparse.Namespace) -> list[Case]:
    cases = all_cases()
    known = list(dict.fromkeys(case.kernel for case in cases))
    for name in arguments.only or []:
        if name not in known:
            arguments.fail(f"there is no kernel {name!r}; known: {', '.join(known)}")
    return [case for case in cases if case.kernel in (arguments.only or known)]


def set_threads(arguments: argparse.Namespace) -> int:
    """Give Numba the threads that the options ask for, or end with code 2; returns how many."""
    import numba

    most = numba.config.NUMBA_NUM_THREADS
    threads = arguments.threads or most
    if not 1 <= threads <= most:
        arguments.fail(f"--threads {threads}: this machine has 1 to {most}")
    tinynet.threads(threads)
    return threads


def measure(cases: list[Case], threads: int, effort: Effort) -> Iterator[dict[str, Any]]:
    """All figures, fit for JSON: what there is so far, after the ceiling and after each kernel."""
    from benchmarks import ceiling

    top = ceiling.measure(threads, effort.budget, effort.attempts)
    result: dict[str, Any] = {
        "benchmark": "kernels",
        "format": 3,
        "machine": machine.facts(threads),
        "settings": effort._asdict() | {"limit": LIMIT},
        "ceiling": top._asdict(),
        "finished": False,
        "rows": [],
        "wrong": [],
    }
    yield result
    for kernel, some in itertools.groupby(trimmed(cases, effort.cases), key=lambda case: case.kernel):
        print(f"kernel {kernel}", file=sys.stderr, flush=True)
        rows = [_row(case, threads, effort, top) for case in some]
        result["rows"] += rows
        result["wrong"] += [f"{kernel} ({row['case']}): {fault}" for row in rows for fault in row["faults"]]
        yield result
    result["finished"] = True
    yield result


def trimmed(cases: list[Case], most: int) -> list[Case]:
    """The tiny case and the first ``most`` real ones of each kernel."""
    places: dict[str, int] = {}
    for case in cases:
        places[case.kernel] = places.get(case.kernel, -1) + 1
        if places[case.kernel] <= most:
            yield case


def _row(case: Case, threads: int, effort: Effort, top: Any) -> dict[str, Any]:
    row = {"kernel": case.kernel, "case": case.label, "tiny": case.tiny, "errors": {}, "faults": []}
    try:
        given = case.arguments(np.random.default_rng(0))
        row["errors"], row["faults"] = check(case, given)
    except Exception as error:
        row["faults"] = [f"not even checked, {type(error).__name__}: {error}"]
    if not row["faults"]:
        samples, disturbed = _times(case, given, threads, effort, top)
        registers = samples.pop(REGISTERS, None)
        rooms = {room: timing.Spread.of(some)._asdict() for room, some in samples.items()}
        row |= {"rooms": rooms, "disturbed": disturbed, "best": min(samples["fast"])}
        row |= _rates(case, given, rooms["fast"]["median"])
        row["share"] = {"copy": row["gb_per_s"] / top.bandwidth(row["bytes"])}
        row["share"] |= {"flops": row["gflops"] * statistics.median(registers)} if registers else {}
        row |= {"fused": is_fused(case.kernel)} if APART in rooms else {}
    return row


def is_fused(kernel: str) -> bool:
    """Whether the fast room computes this block in one go, and does not put it together."""
    from tinynet.kernels import cpu

    return callable(getattr(cpu, kernel, None))


def _rates(case: Case, given: tuple, seconds: float) -> dict[str, Any]:
    """What the Numba kernel does in a second."""
    flops, moved = case.flops, bytes_moved(case, given)
    return {
        "flops": flops,
        "bytes": moved,
        "gflops": flops / seconds / 1e9 if flops else None,
        "gb_per_s": moved / seconds / 1e9,
    }


def bytes_moved(case: Case, given: tuple) -> int:
    """Bytes that must be moved at least: arguments (or what is needed of them) read, results written."""
    given_bytes = sum(v.nbytes for v in given if isinstance(v, np.ndarray))
    read = given_bytes if case.read is None else case.read
    return read + sum(result.nbytes for result in results_of(case, given, "fast"))


# --- is it right? ---


def check(case: Case, given: tuple) -> tuple[dict[str, float | None], list[str]]:
    """Errors of both rooms, relative to the largest number of the right result, and what is wrong in words.

    A tiny case is compared with the plain loops, a real one with whole-array operations in float64.
    """
    judge = "reference" if case.tiny else "numpy"
    truth = results_of(case, tuple(map(in_float64, given)), judge)
    errors, faults = {}, []
    for room in ROOMS:
        errors[room], fault = _judge(case, given, room, truth)
        if fault:
            faults.append(f"the {room} room, against {judge} in float64: {fault}")
    return errors, faults


def in_float64(value: Any) -> Any:
    """A float32 array as float64; anything else as it is."""
    return value.astype(np.float64) if isinstance(value, np.ndarray) and value.dtype == np.float32 else value


def results_of(case: Case, given: tuple, room: str) -> list[np.ndarray]:
    """What the kernel returns, and what it has made of the arguments that it changes."""
    given = tuple(v.copy() if i in case.changed else v for i, v in enumerate(given))
    with kernels.use(room):
        returned = function_of(case.kernel, room)(*given)
    returned = list(returned) if isinstance(returned, tuple) else [returned]
    return [array for array in returned if array is not None] + [given[i] for i in case.changed]


def _judge(case: Case, given: tuple, room: str, truth: list[np.ndarray]) -> tuple[float | None, str]:
    """The largest relative error of the room's results, if it has one, and what is wrong in words."""
    try:
        got = results_of(case, given, room)
    except Exception as error:
        return None, f"it raises {type(error).__name__}: {error}"
    kinds, right = [_kind(a, a.dtype) for a in got], [_kind(a, _dtype(case, a)) for a in truth]
    if kinds != right:
        return None, f"it returns {', '.join(kinds)} instead of {', '.join(right)}"
    error = max(map(_error, case.judged(given, got), case.judged(given, truth)))
    fault = "" if error <= LIMIT else f"it differs by {error:.1e} of the largest number"
    return error if np.isfinite(error) else None, fault


def _kind(array: np.ndarray, dtype: np.dtype) -> str:
    return f"{dtype} {array.shape}"


def _dtype(case: Case, truth: np.ndarray) -> np.dtype:
    """Of the result, when the arguments are float32: truth was computed in float64."""
    return np.dtype(np.float32) if truth.dtype == np.float64 and not case.wide else truth.dtype


def _error(got: np.ndarray, truth: np.ndarray) -> float:
    scale = np.abs(truth).max(initial=0.0) or 1.0
    error = np.abs(got.astype(np.float64) - truth).max(initial=0.0) / scale
    return float(np.nan_to_num(error, nan=np.inf))


# --- how fast? ---


def _times(
    case: Case, given: tuple, threads: int, effort: Effort, top: Any
) -> tuple[dict[str, list[float]], bool]:
    """Seconds in each room, in alternating rounds; the plain loops once, and only on a tiny case.

    Under REGISTERS, if the kernel has operations to count: seconds of 1e9 products from registers.
    """
    rooms = [*ROOMS, APART] if hasattr(blocks, case.kernel) else ROOMS
    measured = {room: functools.partial(samples_of, case, given, room, threads) for room in rooms}
    if case.flops:
        measured[REGISTERS] = functools.partial(top.samples, threads)
    samples: dict[str, list[float]] = {name: [] for name in measured}
    disturbed, pace = False, of_this_machine()
    for _ in range(effort.rounds):
        for name, seconds in measured.items():
            timed = functools.partial(seconds, effort.budget)
            some, spoiled = timing.undisturbed(timed, effort.attempts, pace)
            samples[name] += some
            disturbed |= spoiled
    if case.tiny:
        samples["reference"] = samples_of(case, given, "reference", threads, 0.0)
    return samples, disturbed


def samples_of(case: Case, given: tuple, room: str, threads: int, budget: float) -> list[float]:
    """Seconds of a call in a room, several times over ``budget`` seconds."""
    function = function_of(case.kernel, room)
    with kernels.use("fast" if room == APART else room), _blas_threads(threads if room == "numpy" else 1):
        return timing.sample(lambda: function(*given), budget)


def function_of(kernel: str, room: str) -> Callable:
    """The kernel as a function of one case's arguments; ``room`` may be APART."""
    from tinynet.kernels import cpu

    if room == APART:
        return functools.partial(getattr(blocks, kernel), cpu)
    function = getattr(kernels, kernel)
    return _of_one_parameter(function) if kernel in _OF_LISTS else function


_OF_LISTS = ("sgd_step", "adam_step", "total_norm", "limit_norm")


def _of_one_parameter(step: Callable) -> Callable:
    """Lists, of arrays and of the numbers of their steps, are what the steps of the optimisers take."""
    return lambda *given: step(*[[v] if type(v) is int or np.ndim(v) else v for v in given])


@contextlib.contextmanager
def _blas_threads(count: int) -> Iterator[None]:
    """NumPy's BLAS with ``count`` threads, after the threads that worked before have gone to sleep.

    Threads of BLAS and of Numba wait for their next task by spinning, each in the other's way.
    """
    from tinynet.kernels.cpu.process import set_blas_threads

    set_blas_threads(count)
    time.sleep(0.05)
    of_this_machine().settle()
    try:
        yield
    finally:
        set_blas_threads(1)
