"""``python -m benchmarks kernels``: every kernel, right first, then how fast, beside what the machine can do."""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from benchmarks import machine, report, timing
from benchmarks.cases import Case, all_cases
from tinynet import kernels

ROOMS = ("numpy", "fast")
LIMIT = 5e-5  # of the largest number in the right result: float32 sums of up to 100,000 terms stay well below


class Effort(NamedTuple):
    """How much time is spent: rounds over both rooms, seconds for each in a round, real cases per kernel."""

    rounds: int
    budget: float
    cases: int


FULL, QUICK = Effort(5, 0.1, 100), Effort(1, 0.01, 1)


def add_arguments(verbs: Any) -> None:
    """The verb ``kernels`` and its options."""
    parser = verbs.add_parser(
        "kernels",
        help="every kernel: errors, times, shares of the ceiling",
        description="Check every kernel against plain loops and float64, then time it. Exit code 1: one is wrong.",
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
    threads = _set_threads(arguments)
    effort = QUICK if arguments.quick else FULL
    result = measure(cases, threads, effort)
    heading = f"# Kernels\n\n{machine.summary(result['machine'])}"
    tables = _tables(result)
    report.show(heading, tables)
    report.keep(arguments, result, heading, tables)
    return 1 if result["wrong"] else 0


def _chosen(arguments: argparse.Namespace) -> list[Case]:
    cases = all_cases()
    known = list(dict.fromkeys(case.kernel for case in cases))
    for name in arguments.only or []:
        if name not in known:
            arguments.fail(f"there is no kernel {name!r}; known: {', '.join(known)}")
    return [case for case in cases if case.kernel in (arguments.only or known)]


def _set_threads(arguments: argparse.Namespace) -> int:
    import numba

    most = numba.config.NUMBA_NUM_THREADS
    threads = arguments.threads or most
    if not 1 <= threads <= most:
        arguments.fail(f"--threads {threads}: this machine has 1 to {most}")
    numba.set_num_threads(threads)
    return threads


def measure(cases: list[Case], threads: int, effort: Effort) -> dict[str, Any]:
    """All figures, fit for JSON."""
    from benchmarks import ceiling

    top = ceiling.measure(threads, effort.budget)
    rows = [_row(case, threads, effort, top) for case in _trimmed(cases, effort.cases)]
    return {
        "benchmark": "kernels",
        "format": 1,
        "machine": machine.facts(threads),
        "settings": effort._asdict() | {"limit": LIMIT},
        "ceiling": top._asdict(),
        "rows": rows,
        "wrong": [f"{row['kernel']} ({row['case']}): {fault}" for row in rows for fault in row["faults"]],
    }


def _trimmed(cases: list[Case], most: int) -> list[Case]:
    """The tiny case and the first ``most`` real ones of each kernel."""
    places: dict[str, int] = {}
    for case in cases:
        places[case.kernel] = places.get(case.kernel, -1) + 1
        if places[case.kernel] <= most:
            yield case


def _row(case: Case, threads: int, effort: Effort, top: Any) -> dict[str, Any]:
    given = case.arguments(np.random.default_rng(0))
    errors, faults = check(case, given)
    row = {
        "kernel": case.kernel, "case": case.label, "tiny": case.tiny, "flops": case.flops,
        "bytes": moved(case, given), "errors": errors, "faults": faults, "disturbed": False, "rooms": {},
    }  # fmt: skip
    if not faults:
        row["rooms"], row["disturbed"] = _times(case, given, threads, effort)
        seconds = row["rooms"]["fast"]["median"]
        row |= {
            "gb_per_s": row["bytes"] / seconds / 1e9,
            "share": top.shares(case.flops, row["bytes"], seconds),
        }
        row["gflops"] = case.flops / seconds / 1e9 if case.flops else None
    return row


# --- is it right? ---


def check(case: Case, given: tuple) -> tuple[dict[str, float], list[str]]:
    """Errors of both rooms, relative to the largest number of the right result, and what is wrong in words.

    A tiny case is compared with the plain loops, a real one with whole-array operations in float64.
    """
    truth_room = "reference" if case.tiny else "numpy"
    truth = _results(case, tuple(map(_in_float64, given)), truth_room)
    errors, faults = {}, []
    for room in ROOMS:
        outcome = _compare(_results(case, given, room), truth)
        errors[room] = outcome if isinstance(outcome, float) else float("inf")
        if not errors[room] <= LIMIT:
            faults.append(f"the {room} room differs from {truth_room}: {outcome}")
    return errors, faults


def _in_float64(value: Any) -> Any:
    return value.astype(np.float64) if isinstance(value, np.ndarray) and value.dtype == np.float32 else value


def _results(case: Case, given: tuple, room: str) -> list[np.ndarray]:
    """What the kernel returns, and what it has made of the arguments that it changes."""
    given = tuple(v.copy() if i in case.changed else v for i, v in enumerate(given))
    with kernels.use(room):
        returned = getattr(kernels, case.kernel)(*given)
    returned = [] if returned is None else list(returned) if isinstance(returned, tuple) else [returned]
    return returned + [given[i] for i in case.changed]


def _compare(got: list[np.ndarray], truth: list[np.ndarray]) -> float | str:
    """The largest error of all results, or in words why they cannot be compared."""
    shapes, right = [a.shape for a in got], [a.shape for a in truth]
    if shapes != right:
        return f"shapes {shapes} instead of {right}"
    return max(map(_error, got, truth))


def _error(got: np.ndarray, truth: np.ndarray) -> float:
    scale = np.abs(truth).max(initial=0.0) or 1.0
    error = np.abs(got.astype(np.float64) - truth).max(initial=0.0) / scale
    return float(error) if np.isfinite(error) else float("inf")


def moved(case: Case, given: tuple) -> int:
    """Bytes that must be moved: every array argument read once, every result written once."""
    read = sum(v.nbytes for v in given if isinstance(v, np.ndarray))
    return read + sum(result.nbytes for result in _results(case, given, "fast"))


# --- how fast? ---


def _times(case: Case, given: tuple, threads: int, effort: Effort) -> tuple[dict[str, Any], bool]:
    """Seconds in each room, in alternating rounds; the plain loops once, and only on a tiny case."""
    samples: dict[str, list[float]] = {room: [] for room in ROOMS}
    disturbed = False
    for _ in range(effort.rounds):
        for room in ROOMS:
            some, spoiled = timing.undisturbed(
                lambda room=room: _samples(case, given, room, threads, effort.budget)
            )
            samples[room] += some
            disturbed |= spoiled
    if case.tiny:
        samples["reference"] = _samples(case, given, "reference", threads, 0.0)
    return {room: timing.Spread.of(some)._asdict() for room, some in samples.items()}, disturbed


def _samples(case: Case, given: tuple, room: str, threads: int, budget: float) -> list[float]:
    function = getattr(kernels, case.kernel)
    with kernels.use(room), _blas_threads(threads if room == "numpy" else 1):
        return timing.sample(lambda: function(*given), budget)


@contextlib.contextmanager
def _blas_threads(count: int) -> Iterator[None]:
    """NumPy's BLAS with ``count`` threads, after the threads that worked before have gone to sleep.

    Threads of BLAS and of Numba wait for their next task by spinning, each in the other's way.
    """
    from tinynet.kernels.cpu.process import set_blas_threads

    set_blas_threads(count)
    time.sleep(0.05)
    try:
        yield
    finally:
        set_blas_threads(1)


# --- tables ---


def _tables(result: dict[str, Any]) -> list[report.Table]:
    right = [row for row in result["rows"] if not row["faults"]]
    tables = [_ceiling_table(result["ceiling"])]
    tables += [_real_table([row for row in right if not row["tiny"]])]
    tables += [_tiny_table([row for row in right if row["tiny"]])]
    if result["wrong"]:
        wrong = [[line] for line in result["wrong"]]
        tables.append(report.Table("WRONG kernels, not timed", ["what differs"], wrong))
    return tables


def _ceiling_table(top: dict[str, Any]) -> report.Table:
    rows = [["products from registers", f"{report.digits(top['gflops'])} GFLOP/s", top["tile"]]]
    rows += [
        ["copy", f"{report.digits(rate)} GB/s", f"{size >> 10} KiB moved"]
        for size, rate in top["copy"].items()
    ]
    return report.Table("The ceiling, measured in this run", ["what", "rate", "with"], rows)


def _real_table(rows: list[dict[str, Any]]) -> report.Table:
    return report.Table(
        "Kernels on real shapes",
        ["kernel", "case", "error", "NumPy", "Numba", "quartiles", "faster", "GFLOP/s", "GB/s", "of ceiling"],
        [_real_cells(row) for row in rows],
        "Error: of the Numba kernel, relative to the largest number, against float64. Times are medians; faster: NumPy "
        "over Numba. GB/s counts every argument and result once. Of ceiling: the share of the products from registers "
        "(flops) or of a copy of as many bytes (copy), whichever is larger; a kernel that reads more than it writes, or "
        "whose arguments lie in a cache, can pass 100 % of a copy. *: other processes disturbed all attempts.",
    )


def _real_cells(row: dict[str, Any]) -> list[str]:
    fast, numpy = row["rooms"]["fast"], row["rooms"]["numpy"]
    which, share = max(row["share"].items(), key=lambda item: item[1])
    return [
        row["kernel"] + ("*" if row["disturbed"] else ""),
        row["case"],
        f"{row['errors']['fast']:.0e}",
        report.seconds(numpy["median"]),
        report.seconds(fast["median"]),
        f"{report.seconds(fast['low'])} to {report.seconds(fast['high'])}",
        report.digits(numpy["median"] / fast["median"]),
        report.digits(row["gflops"]) if row["gflops"] else "-",
        report.digits(row["gb_per_s"]),
        f"{100 * share:.0f} % {which}",
    ]


def _tiny_table(rows: list[dict[str, Any]]) -> report.Table:
    return report.Table(
        "Kernels on a tiny shape, the only one on which the plain loops are timed",
        ["kernel", "case", "error", "reference", "NumPy", "Numba"],
        [
            [row["kernel"], row["case"], f"{row['errors']['fast']:.0e}"]
            + [report.seconds(row["rooms"][room]["median"]) for room in ("reference", "numpy", "fast")]
            for row in rows
        ],
        "Error: of the Numba kernel against the plain loops in float64. These times are mostly the cost of a call.",
    )
