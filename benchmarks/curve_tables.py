"""The tables of ``python -m benchmarks curves``."""

from __future__ import annotations

from typing import Any

from benchmarks.race import summary
from benchmarks.report import Table, digits, seconds
from benchmarks.tape import CHAIN
from benchmarks.train_tables import engines_table

_MEDIANS = "Medians of the rounds. *: some rounds were disturbed by other processes, again and again."


def tables_of(result: dict[str, Any]) -> list[Table]:
    """One table per section that was measured, the engines, and what went wrong."""
    tables = [table for name, rows in result["sections"].items() if rows for table in _TABLES[name](rows)] + [
        engines_table(result)
    ]
    faults = [[summary(fault)] for fault in result["faults"]]
    return tables + ([Table("NOT measured", ["why"], faults, left=1)] if faults else [])


def _threads_tables(rows: list[dict[str, Any]]) -> list[Table]:
    counts = list(rows[0]["threads"])
    more = [n for n in counts if n != "1"]
    cells = [
        [row["net"], str(row["batch"]), *(_rate(row["threads"].get(n)) for n in counts)]
        + [_spread(row["times_one_thread"].get(n)) for n in more]
        for row in rows
    ]
    columns = [
        "net",
        "batch",
        *(f"{n} thread{'s' * (n != '1')}" for n in counts),
        *(f"{n} / 1" for n in more),
    ]
    return [Table("Training step with Adam by threads, samples/s", columns, cells, _MEDIANS)]


def _rate(figures: dict[str, Any] | None) -> str:
    if figures is None:
        return "-"
    one = figures["adam"]
    return f"{one['samples_per_second']['median']:.0f}" + "*" * bool(one["disturbed"])


def _spread(spread: dict[str, Any] | None) -> str:
    return f"{digits(spread['median'])} ({digits(spread['low'])}-{digits(spread['high'])})" if spread else "-"


def _engine_tables(title: str, key: str, rows: list[dict[str, Any]]) -> list[Table]:
    names = list(dict.fromkeys(name for row in rows for name in row["engines"]))
    cells = [
        [row["net"], str(row[key])]
        + [per_sample(row["engines"].get(name, {}).get(mode)) for mode in ("adam", "infer") for name in names]
        for row in rows
    ]
    columns = ["net", key, *(f"{what}, {name}" for what in ("training", "inference") for name in names)]
    return [Table(title, columns, cells, _MEDIANS)]


def per_sample(figures: dict[str, Any] | None) -> str:
    """Time per sample, or a dash."""
    if figures is None:
        return "-"
    return seconds(1 / figures["samples_per_second"]["median"]) + "*" * bool(figures["disturbed"])


def _batch_tables(rows: list[dict[str, Any]]) -> list[Table]:
    return _engine_tables("Time per sample by batch", "batch", rows)


def _side_tables(rows: list[dict[str, Any]]) -> list[Table]:
    return _engine_tables(f"Time per sample by side of the image, batch {rows[0]['batch']}", "side", rows)


def _conv_tables(rows: list[dict[str, Any]]) -> list[Table]:
    names, top = list(rows[0]["kernels"]), rows[0]["ceiling_gflops"]
    cells = [[str(row["side"]), *(_gflops(row["kernels"][name], top) for name in names)] for row in rows]
    channels, batch = rows[0]["channels"], rows[0]["batch"]
    title = f"Convolution 3x3, {channels} to {channels} channels, {batch} images, by their side: GFLOP/s"
    note = f"Medians; in brackets the share of {digits(top)} GFLOP/s, the products from registers."
    return [Table(title, ["side", *names], cells, note, left=1)]


def _gflops(figures: dict[str, Any], top: float) -> str:
    rate = figures["gflops"]["median"]
    return f"{digits(rate)}{'*' * figures['disturbed']} ({100 * rate / top:.0f} %)"


def _tape_tables(rows: list[dict[str, Any]]) -> list[Table]:
    steps = [
        [str(row["batch"]), str(row["kernel_calls"]), *_microseconds(row, "step", "kernels")]
        for row in rows
        if "batch" in row
    ]
    ops = [[row["op"], *_microseconds(row, "op_and_tape", "numpy")] for row in rows if "op" in row]
    return [
        Table(
            "Overhead of a training step of net (a), us",
            ["batch", "kernel calls", "step", "its kernels alone", "overhead"],
            steps,
            "The kernels alone: the same calls with the same arguments, one after another. The overhead is "
            "all the rest: tape, layers, loss, optimiser.",
            left=1,
        ),
        Table(
            "Overhead of an operation on one number, forward and backward, us",
            ["operation", "with tape", "NumPy alone", "overhead"],
            ops,
            f"One of {CHAIN} in a row.",
            left=1,
        ),
    ]


def _microseconds(row: dict[str, Any], *names: str) -> list[str]:
    return [digits(row[name]["median"]) + "*" * bool(row["disturbed"]) for name in (*names, "overhead")]


_TABLES = {
    "threads": _threads_tables,
    "batch": _batch_tables,
    "side": _side_tables,
    "conv": _conv_tables,
    "tape": _tape_tables,
}
