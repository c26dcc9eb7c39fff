"""The tables of ``python -m benchmarks kernels``."""

from __future__ import annotations

from typing import Any

from benchmarks.report import Table, digits, seconds


def tables_of(result: dict[str, Any]) -> list[Table]:
    """The ceiling, real shapes, two of their sides looked at closer, tiny shapes, and what is wrong."""
    right = [row for row in result["rows"] if not row["faults"]]
    real = [row for row in right if not row["tiny"]]
    tables = [_ceiling_table(result["ceiling"]), _real_table(real)]
    tables += [_share_table(real, result["ceiling"])] if any(map(_counts, real)) else []
    tables += [_block_table(real)] if any("fused" in row for row in real) else []
    tables += [_tiny_table([row for row in right if row["tiny"]])]
    if result["wrong"]:
        wrong = [[line] for line in result["wrong"]]
        tables.append(Table("WRONG kernels, not timed", ["what differs"], wrong))
    return tables


def _ceiling_table(top: dict[str, Any]) -> Table:
    tile = "{} rows x {} vectors of {}".format(*top["form"])
    rows = [["products from registers", f"{digits(top['gflops'])} GFLOP/s", tile]]
    rows += [
        ["copy", f"{digits(rate)} GB/s", f"{size >> 10} KiB moved"] for size, rate in top["copy"].items()
    ]
    note = "Other processes were at work meanwhile: both may be too low." if top["disturbed"] else ""
    return Table("The ceiling, measured in this run", ["what", "rate", "with"], rows, note)


_REAL_NOTE = (
    "Error: of the Numba kernel, relative to the largest number, against float64. Times are medians; faster: "
    "NumPy over Numba. GB/s counts every argument and result once. Of ceiling: the share of the products "
    "from registers, measured in turn with the kernel (flops), or of a copy of as many bytes (copy), "
    "whichever is larger; a kernel that reads more than it writes can pass 100 % of a copy. *: other "
    "processes disturbed all attempts."
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


_CONV = ("conv", "conv_input_grad", "conv_weight_grad")


def _counts(row: dict[str, Any]) -> bool:
    """A convolution with at least 16 channels on both sides in each group."""
    few = "tiny", "a1", "a2", "b1", "depthwise"
    return row["kernel"] in _CONV and not row["case"].startswith(few)


def _share_table(rows: list[dict[str, Any]], top: dict[str, Any]) -> Table:
    cells: dict[str, dict[str, str]] = {}
    for row in filter(_counts, rows):
        cells.setdefault(row["case"], {})[row["kernel"]] = _share(row, top)
    return Table(
        "Convolutions of 16 channels and more: share of the products from registers",
        ["case", *_CONV],
        [[case, *(found.get(kernel, "-") for kernel in _CONV)] for case, found in cells.items()],
        "By the medians of kernel and products, measured in turn; in brackets by the shortest time of each. "
        "The way up is a transposed convolution: its forward is conv_input_grad, its input gradient is conv. "
        "Operations are counted by the definition: a kernel that multiplies less can pass 100 %.",
        left=1,
    )


def _share(row: dict[str, Any], top: dict[str, Any]) -> str:
    best = row["flops"] / row["best"] / 1e9 / top["gflops"]
    return f"{100 * row['share']['flops']:.0f} % ({100 * best:.0f} %)" + "*" * row["disturbed"]


def _block_table(rows: list[dict[str, Any]]) -> Table:
    return Table(
        "Blocks: one kernel against the single ones in a row",
        ["block", "case", "apart", "in one", "faster"],
        [_block_cells(row) for row in rows if "fused" in row],
        "Medians; faster: apart over in one. Not fused: there is no such kernel yet, both are the same.",
    )


def _block_cells(row: dict[str, Any]) -> list[str]:
    apart, fast = row["rooms"]["apart"]["median"], row["rooms"]["fast"]["median"]
    faster = digits(apart / fast) if row["fused"] else "not fused"
    return [row["kernel"] + "*" * row["disturbed"], row["case"], seconds(apart), seconds(fast), faster]


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
