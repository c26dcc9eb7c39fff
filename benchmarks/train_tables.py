"""The tables of ``python -m benchmarks train``."""

from __future__ import annotations

from typing import Any

from benchmarks.nets import NETS
from benchmarks.report import Table, digits

_SPEED_NOTE = (
    "Medians of the rounds, quartiles in brackets. A ratio is the median over the rounds of tinynet over the "
    "peer. *: some rounds were disturbed by other processes, again and again."
)


def tables_of(result: dict[str, Any]) -> list[Table]:
    """Speed of training and of inference, memory, the networks, and what went wrong."""
    names, comparisons = result["settings"]["engines"], result["comparisons"]
    tables = [
        _speed("Training step with Adam, samples/s", "train", names, comparisons),
        _speed("Inference, samples/s", "infer", names, comparisons),
        _memory(names, comparisons),
        _networks(comparisons),
    ]
    faults = [[c["net"], str(c["batch"]), fault] for c in comparisons for fault in c["faults"]]
    return tables + ([Table("NOT compared", ["net", "batch", "why"], faults)] if faults else [])


def _speed(title: str, mode: str, names: list[str], comparisons: list[dict[str, Any]]) -> Table:
    peers = [name for name in names if name != "tinynet"]
    rows = [
        [c["net"], str(c["batch"])]
        + [_rate(c["engines"][name].get(mode)) for name in names]
        + [_ratio(c["ratios"].get(peer, {}).get(mode)) for peer in peers]
        for c in comparisons
    ]
    return Table(title, ["net", "batch", *names, *(f"x {peer}" for peer in peers)], rows, _SPEED_NOTE)


def _rate(figures: dict[str, Any] | None) -> str:
    if figures is None:
        return "-"
    spread, mark = figures["samples_per_second"], "*" if figures["disturbed"] else ""
    return f"{spread['median']:.0f}{mark} ({spread['low']:.0f}-{spread['high']:.0f})"


def _ratio(spread: dict[str, Any] | None) -> str:
    if spread is None:
        return "-"
    return f"{digits(spread['median'])} ({digits(spread['low'])}-{digits(spread['high'])})"


def _memory(names: list[str], comparisons: list[dict[str, Any]]) -> Table:
    rows = [
        [
            c["net"],
            str(c["batch"]),
            *(_mib(c["engines"][name].get("memory")) for name in names),
            _against_torch(c),
        ]
        for c in comparisons
    ]
    return Table(
        "Peak memory of a training step, MiB",
        ["net", "batch", *names, "/ torch"],
        rows,
        "Beyond what the process holds after its imports; in brackets the whole process. Each figure has its "
        "own process, and three steps go before, so that compiling is not counted.",
    )


def _mib(memory: dict[str, Any] | None) -> str:
    return f"{memory['step_mib']:.0f} ({memory['peak_mib']:.0f})" if memory else "-"


def _against_torch(comparison: dict[str, Any]) -> str:
    ours, theirs = (comparison["engines"].get(name, {}).get("memory") for name in ("tinynet", "torch"))
    return digits(ours["step_mib"] / theirs["step_mib"]) if ours and theirs and theirs["step_mib"] else "-"


def _networks(comparisons: list[dict[str, Any]]) -> Table:
    rows = [[c["net"], NETS[c["net"]].description, f"{c['parameters']:,}"] for c in comparisons]
    unique = list(dict.fromkeys(map(tuple, rows)))
    return Table("The networks", ["net", "what it is", "parameters"], unique)
