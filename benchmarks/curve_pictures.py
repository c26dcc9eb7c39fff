"""The pictures of ``python -m benchmarks curves``, one per curve; the title says what one sees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.report import digits, seconds

_COLORS = {
    "tinynet": "#0b6e4f", "torch": "#d1495b", "torch-malloc": "#edae49", "torch-compile": "#7b4f9d",
    "jax": "#2e6fb7", "conv": "#0b6e4f", "conv_input_grad": "#2e6fb7", "conv_weight_grad": "#d1495b",
}  # fmt: skip
_MODES = {"adam": "training step", "infer": "inference"}
_KERNELS = {"conv": "forward", "conv_input_grad": "input gradient", "conv_weight_grad": "weight gradient"}


def draw(folder: str, sections: dict[str, list[dict[str, Any]]]) -> list[Path]:
    """Write the pictures of all sections that were measured; returns their files."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    written = []
    for name, rows in sections.items():
        for suffix, figure in _DRAWN[name](rows) if rows else ():
            written.append(Path(folder) / f"{name}{suffix}.png")
            figure.savefig(written[-1], dpi=110)
    return written


def page(title: str, x: str, y: str) -> tuple[Figure, Any]:
    """A picture with a title, which may have two lines, and names for its axes."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=13, wrap=True)
    axes.set_xlabel(x, fontsize=12)
    axes.set_ylabel(y, fontsize=12)
    axes.tick_params(labelsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd")
    axes.set_axisbelow(True)
    return figure, axes


def _threads(rows: list[dict[str, Any]]) -> Iterator[tuple[str, Figure]]:
    """Bars: how many times one thread's speed more threads have, for each net."""
    for n in [n for n in rows[0]["threads"] if n != "1"]:
        there = [row for row in rows if row["times_one_thread"].get(n)]
        values = [row["times_one_thread"][n] for row in there]
        if not there:
            continue
        low, high = (f(v["median"] for v in values) for f in (min, max))
        span = " to ".join(dict.fromkeys([digits(low), digits(high)]))
        figure, axes = page(
            f"{n} threads train {span} times as fast as one",
            "network (batch)", "times the samples/s of one thread",
        )  # fmt: skip
        errors = [[v["median"] - v["low"] for v in values], [v["high"] - v["median"] for v in values]]
        places = range(len(there))
        bars = axes.bar(
            places, [v["median"] for v in values], 0.5, yerr=errors, capsize=4, color=_COLORS["tinynet"]
        )
        axes.bar_label(
            bars, [digits(v["median"]) for v in values], label_type="center", color="white", fontsize=12
        )
        axes.set_xticks(places, [f"{row['net']} ({row['batch']})" for row in there])
        axes.set_xlim(-0.6, len(there) - 0.4)
        axes.axhline(int(n), color="#888888", linestyle="--", label=f"{n}: every thread counts in full")
        axes.set_ylim(0, max(int(n), high) * 1.25)
        axes.legend(loc="upper right", frameon=False, fontsize=11)
        yield f"-{n}", figure


def _engines(rows: list[dict[str, Any]], key: str, x: str, what: str) -> Iterator[tuple[str, Figure]]:
    """Lines of time per sample: one picture for each net and mode, one line for each engine."""
    for net in dict.fromkeys(row["net"] for row in rows):
        some = [row for row in rows if row["net"] == net]
        for mode, words in _MODES.items():
            lines = {
                name: _times([row for row in some if mode in row["engines"].get(name, {})], name, key, mode)
                for name in some[0]["engines"]
            }
            lines = {name: points for name, points in lines.items() if points[0]}
            if lines:
                title = f"Net ({net}), {words}: {_course(lines, what)}"
                yield f"-{net}-{mode}", _time_figure(title, lines, x)


def _times(rows: list[dict[str, Any]], name: str, key: str, mode: str) -> tuple[list[int], list[Any]]:
    return [row[key] for row in rows], [row["engines"][name][mode]["samples_per_second"] for row in rows]


def _course(lines: dict[str, tuple[list[int], list[Any]]], what: str) -> str:
    """In words, where tinynet's line (or the first) begins and ends."""
    name = "tinynet" if "tinynet" in lines else next(iter(lines))
    where, rates = lines[name]
    begin, end = (seconds(1 / rates[i]["median"]) for i in (0, -1))
    return f"{name} takes {begin} per sample\nat {what} {where[0]}, {end} at {what} {where[-1]:,}"


def _time_figure(title: str, lines: dict[str, tuple[list[int], list[Any]]], x: str) -> Figure:
    figure, axes = page(title, x, "time per sample, us")
    for name, (where, rates) in lines.items():
        axes.plot(
            where, [1e6 / r["median"] for r in rates], "o-", color=_COLORS[name], label=name, linewidth=2
        )
        low, high = ([1e6 / r[end] for r in rates] for end in ("high", "low"))
        axes.fill_between(where, low, high, color=_COLORS[name], alpha=0.2, linewidth=0)
    axes.set_yscale("log")
    _scale_x(axes, next(iter(lines.values()))[0])
    plain_numbers(axes.yaxis)
    axes.legend(frameon=False, fontsize=12, title="median, band: quartiles")
    return figure


def _scale_x(axes: Any, places: list[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [f"{p:,}" for p in places])
    axes.minorticks_off()


def plain_numbers(axis: Any, steps: tuple[int, ...] = (1, 2, 5)) -> None:
    """1, 2, 5, 10, 20, ... instead of powers of ten, so that there are numbers to read on short axes."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(10, steps))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def _batch(rows: list[dict[str, Any]]) -> Iterator[tuple[str, Figure]]:
    return _engines(rows, "batch", "batch, samples", "batch")


def _side(rows: list[dict[str, Any]]) -> Iterator[tuple[str, Figure]]:
    return _engines(rows, "side", f"side of the image, pixels (batch {rows[0]['batch']})", "side")


def _conv(rows: list[dict[str, Any]]) -> Iterator[tuple[str, Figure]]:
    """GFLOP/s of forward and gradients beside what the micro-kernel reaches from registers.

    Winograd's scheme multiplies less than is counted, and goes beyond that.
    """
    sides, top, channels = [row["side"] for row in rows], rows[0]["ceiling_gflops"], rows[0]["channels"]
    shares = [k["gflops"]["median"] / top for row in rows for k in row["kernels"].values()]
    figure, axes = page(
        f"Convolution 3x3, {channels} to {channels} channels: {100 * min(shares):.0f} to "
        f"{100 * max(shares):.0f} % of what\nthe micro-kernel reaches from registers",
        f"side of the image, pixels (batch {rows[0]['batch']})", "GFLOP/s",
    )  # fmt: skip
    for name, words in _KERNELS.items():
        rates = [row["kernels"][name]["gflops"] for row in rows]
        axes.plot(sides, [r["median"] for r in rates], "o-", color=_COLORS[name], label=words, linewidth=2)
        axes.fill_between(
            sides, [r["low"] for r in rates], [r["high"] for r in rates], color=_COLORS[name], alpha=0.2
        )
    axes.axhline(top, color="#888888", linestyle="--", label="from registers")
    axes.axhline(0.75 * top, color="#888888", linestyle=":", label="75 % of it")
    highest = max(k["gflops"]["high"] for row in rows for k in row["kernels"].values())
    axes.set_ylim(0, max(top, highest) * 1.3)
    _scale_x(axes, sides)
    axes.legend(frameon=False, fontsize=11, ncols=3, loc="upper center")
    yield "", figure


def _tape(rows: list[dict[str, Any]]) -> Iterator[tuple[str, Figure]]:
    """Bars: the kernels of a step and, on top, what comes with them."""
    steps = [row for row in rows if "batch" in row]
    overheads = " and ".join(f"{digits(row['overhead']['median'])} us" for row in steps)
    batches = " and ".join(str(row["batch"]) for row in steps)
    figure, axes = page(
        f"Net (a): tape, layers and optimiser add {overheads}\n"
        f"to the kernels of a training step (batch {batches})",
        "batch", "time per step, us",
    )  # fmt: skip
    bottom = [row["kernels"]["median"] for row in steps]
    top = [max(row["overhead"]["median"], 0.0) for row in steps]
    names = [str(row["batch"]) for row in steps]
    axes.bar(names, bottom, 0.5, color=_COLORS["tinynet"], label="kernels alone")
    bars = axes.bar(names, top, 0.5, bottom=bottom, color=_COLORS["torch-malloc"], label="all the rest")
    axes.bar_label(bars, [f"+ {digits(t)}" for t in top], padding=3, fontsize=11)
    axes.set_ylim(0, 1.2 * max(b + t for b, t in zip(bottom, top)))
    axes.legend(frameon=False, fontsize=11, loc="upper left")
    yield "", figure


_DRAWN = {"threads": _threads, "batch": _batch, "side": _side, "conv": _conv, "tape": _tape}
