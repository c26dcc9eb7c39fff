"""The pictures of ``python -m benchmarks report``: when the GPU is ahead, how near a ceiling kernels are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from benchmarks.curve_pictures import page, plain_numbers
from benchmarks.gpu.kernels import crossover

_LINES = {
    "cpu": ("CPU, all threads", "#2e6fb7"),
    "gpu": ("GPU", "#0b6e4f"),
    "copied": ("GPU, data copied", "#edae49"),
}
_FAMILIES = {  # beginning of a kernel's name: what it is called here, colour
    "conv": ("convolution", "#0b6e4f"),
    "matmul": ("product, Dense", "#2e6fb7"), "dense": ("product, Dense", "#2e6fb7"),
    "rnn": ("recurrent", "#7b4f9d"), "lstm": ("recurrent", "#7b4f9d"), "gru": ("recurrent", "#7b4f9d"),
    "": ("the rest", "#d1495b"),
}  # fmt: skip


class Roof(NamedTuple):
    """Two ceilings, operations and bytes in a second, and what stands on them."""

    name: str
    flops: float
    bandwidth: float


class Point(NamedTuple):
    """A kernel: operations per byte, operations in a second, and the ceiling that it is held against."""

    kernel: str
    intensity: float
    rate: float
    roof: Roof


def draw(folder: Path, kept: dict[str, Any]) -> Iterator[Path]:
    """Write those pictures for which there are figures."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in _figures(kept):
        figure.savefig(folder / f"{name}.png", dpi=110)
        yield folder / f"{name}.png"


def _figures(kept: dict[str, Any]) -> Iterator[tuple[str, Figure]]:
    if "kernels" in kept:
        yield "roofline-cpu", _roofline(kept["kernels"].label, *cpu_roofs(kept["kernels"].result))
    if "gpu" in kept:
        sections = kept["gpu"].result["sections"]
        if "kernels" in sections and sections.get("ceilings", {}).get("copy"):
            yield "roofline-gpu", _roofline(kept["gpu"].label, *gpu_roofs(sections))
        if sections.get("kernels", {}).get("batches"):
            yield "crossover", _crossover(kept["gpu"].label, sections["kernels"]["batches"])


# --- roofline ---


def cpu_roofs(result: dict[str, Any]) -> tuple[list[Roof], list[Point]]:
    """Products from registers, and copies in memory and in the fastest cache, of a result of ``kernels``."""
    top, copies = result["ceiling"]["gflops"] * 1e9, result["ceiling"]["copy"]
    largest = copies[max(copies, key=int)]
    roofs = [Roof("memory", top, largest * 1e9), Roof("cache", top, max(copies.values()) * 1e9)]
    rows = [row for row in result["rows"] if not row["tiny"] and row.get("flops") and "rooms" in row]
    return roofs, [_point(row, row["rooms"]["fast"]["median"], roofs[0]) for row in rows]


def gpu_roofs(sections: dict[str, Any]) -> tuple[list[Roof], list[Point]]:
    """Products in both precisions and the copy, of a result of ``gpu``; kernels by their own time."""
    ceilings, rows = sections["ceilings"], sections["kernels"]["rows"]
    copied = ceilings["copy"]["gb_per_s"] * 1e9
    products = {name: found for name, found in ceilings["products"].items() if found and name != "bf16"}
    roofs = [Roof(name, found["tflops"] * 1e12, copied) for name, found in products.items()]
    rows = [row for row in rows if not row["tiny"] and row["flops"]]
    return roofs, [
        _point(row, _own_seconds(row["gpu"][roof.name]), roof)
        for roof in roofs
        for row in rows
        if roof.name in row["gpu"]
    ]


def _own_seconds(times: dict[str, Any]) -> float:
    return (times["graph"] or times["called"]["device"])["median"]


def _point(row: dict[str, Any], seconds: float, roof: Roof) -> Point:
    return Point(row["kernel"], row["flops"] / row["bytes"], row["flops"] / seconds, roof)


def _roofline(label: str, roofs: list[Roof], points: list[Point]) -> Figure:
    shares = [p.rate / min(p.roof.flops, p.intensity * p.roof.bandwidth) for p in points]
    half = sum(share >= 0.5 for share in shares)
    figure, axes = page(
        f"{half} of {len(points)} kernels and shapes reach half of their ceiling or more\n{label}",
        "operations per byte of arguments and results", "GFLOP/s",
    )  # fmt: skip
    low, high = min(p.intensity for p in points) / 2, max(p.intensity for p in points) * 2
    for roof, style in zip(roofs, ("-", "--", ":")):
        edge = roof.flops / roof.bandwidth
        xs = sorted({low, min(max(edge, low), high), high})
        ys = [min(roof.flops, x * roof.bandwidth) / 1e9 for x in xs]
        axes.plot(xs, ys, style, color="#555555", label=f"ceiling: {roof.name}")
    _scatter(axes, [p for p in points if p.roof is roofs[0]], {"label": True})
    _scatter(axes, [p for p in points if p.roof is not roofs[0]], {"label": False, "markerfacecolor": "none"})
    if any(p.roof is not roofs[0] for p in points):
        axes.plot([], [], "o", color="#555555", markerfacecolor="none", label=f"in {roofs[1].name}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        plain_numbers(axis, (1,))
    axes.legend(frameon=False, fontsize=10, loc="lower right")
    return figure


def _scatter(axes: Any, points: list[Point], style: dict[str, Any]) -> None:
    families: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        start = next(start for start in _FAMILIES if point.kernel.startswith(start))
        families.setdefault(_FAMILIES[start], []).append(point)
    for (name, color), some in families.items():
        xs, ys = [p.intensity for p in some], [p.rate / 1e9 for p in some]
        label = name if style["label"] else None
        axes.plot(xs, ys, "o", color=color, alpha=0.8, markersize=7, **style | {"label": label})


# --- crossover ---


def _crossover(label: str, rows: list[dict[str, Any]]) -> Figure:
    kernels, where = list(dict.fromkeys(row["kernel"] for row in rows)), crossover(rows, "gpu")
    figure = Figure(figsize=(10, 7), layout="constrained")
    for place, kernel in enumerate(kernels):
        axes = figure.add_subplot(2, -(-len(kernels) // 2), place + 1)
        _one_crossover(axes, [row for row in rows if row["kernel"] == kernel], where[kernel])
    figure.suptitle(f"From which batch on the GPU is ahead of the CPU\n{label}", fontsize=13)
    figure.axes[0].legend(frameon=False, fontsize=10)
    return figure


def _one_crossover(axes: Any, rows: list[dict[str, Any]], first: int | None) -> None:
    batches = [row["batch"] for row in rows]
    for key, (name, color) in _LINES.items():
        times = [[row[key][end] * 1e6 for row in rows] for end in ("median", "low", "high")]
        axes.plot(batches, times[0], "o-", color=color, label=name, linewidth=2)
        axes.fill_between(batches, times[1], times[2], color=color, alpha=0.2, linewidth=0)
    if first is not None:
        axes.axvline(first, color="#888888", linestyle="--")
    axes.set_title(
        f"{rows[0]['kernel']}: {'never' if first is None else f'from batch {first:,} on'}", loc="left"
    )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(batches, [f"{b:,}" for b in batches])
    axes.minorticks_off()
    plain_numbers(axes.yaxis, (1,))
    axes.set_xlabel("batch")
    axes.set_ylabel("time of a call, us")
    axes.spines[["top", "right"]].set_visible(False)
