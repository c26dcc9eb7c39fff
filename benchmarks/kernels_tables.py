"""The tables of ``python -m benchmarks kernels``."""

from __future__ import annotations

from typing import Any

from benchmarks.report import Table, digits, seconds


def tables_of(result: dict[str, Any]) -> list[Table]:
    """The ceiling, real shapes, tiny shapes, and what is wrong."""
    right = [row for row in result["rows"] if not row["faults"]]
    tables = [_ceiling_table(result["ceiling"])]
    tables += [_real_table([row for row in right if not row["tiny"]])]
    tables += [_tiny_table([row for row in right if row["tiny"]])]
    if result["wrong"]:
        wrong = [[line] for line in result["wrong"]]
        tables.append(Table("WRONG kernels, not timed", ["what differs"], wrong))
    return tables


def _ceiling_table(top: dict[str, Any]) -> Table:
    rows = [["products from registers", f"{digits(top['gflops'])} GFLOP/s", top["tile"]]]
    rows += [
        ["copy", f"{digits(rate)} GB/s", f"{size >> 10} KiB moved"] for size, rate in top["copy"].items()
    ]
    note = "Other processes were at work meanwhile: both may be too low." if top["disturbed"] else ""
    return Table("The ceiling, measured in this run", ["what", "rate", "with"], rows, note)


_REAL_NOTE = (
    "Error: of the Numba kernel, relative to the largest number, against float64. Times are medians; faster: "
    "NumPy over Numba. GB/s counts every argument and result once. Of ceiling: the share of the products "
    "from registers (flops) or of a copy of as many bytes (copy), whichever is larger; a kernel that reads "
    "more than it writes can pass 100 % of a copy. *: other processes disturbed all attempts."
)


def _real_table(rows: list[dict[str, Any]]) -> Table:
    return Table(
        "Kernels on real shapes",
        ["kernel", "case", "error", "NumPy", "Numba", "quartiles", "faster", "GFLOP/s", "GB/s", "of ceiling"],
        [_real_cells(row) for row in rows],
        _REAL_NOTE,
    )


def _real_cells(row: dict[str, Any]) -> list[str]:
    fast, numpy = row["rooms"]["fast"], row["rooms"]["numpy"]
    which, share = max(row["share"].items(), key=lambda item: item[1])
    return [
        row["kernel"] + ("*" if row["disturbed"] else ""),
        row["case"],
        f"{row['errors']['fast']:.0e}",
        seconds(numpy["median"]),
        seconds(fast["median"]),
        f"{seconds(fast['low'])} to {seconds(fast['high'])}",
        digits(numpy["median"] / fast["median"]),
        digits(row["gflops"]) if row["gflops"] else "-",
        digits(row["gb_per_s"]),
        f"{100 * share:.0f} % {which}",
    ]


def _tiny_table(rows: list[dict[str, Any]]) -> Table:
    return Table(
        "Kernels on a tiny shape, the only one on which the plain loops are timed",
        ["kernel", "case", "error", "reference", "NumPy", "Numba"],
        [
            [row["kernel"], row["case"], f"{row['errors']['fast']:.0e}"]
            + [seconds(row["rooms"][room]["median"]) for room in ("reference", "numpy", "fast")]
            for row in rows
        ],
        "Error: of the Numba kernel against the plain loops in float64. Mostly the cost of a call.",
    )
