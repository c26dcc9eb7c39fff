"""The tables of ``python -m benchmarks train``."""

from __future__ import annotations

from typing import Any

from benchmarks.nets import NETS
from benchmarks.race import summary
from benchmarks.report import Table, digits

_TITLES = {
    "adam": "Training step with Adam",
    "sgd": "Training step with SGD and momentum",
    "infer": "Inference",
}
_RATE_NOTE = (
    "Medians of the rounds, quartiles in brackets. *: some rounds were disturbed by other processes, again "
    "and again."
)
_RATIO_NOTE = "Medians and quartiles over the rounds of tinynet's samples/s over those of the peer."


def tables_of(result: dict[str, Any]) -> list[Table]:
    """Speed in each mode, memory, networks, engines, and what went wrong."""
    names, comparisons = list(result["engines"]), result["comparisons"]
    tables = []
    for mode, title in _TITLES.items():
        tables.append(_rates(f"{title}, samples/s", mode, names, comparisons))
        if len(names) > 1 and "tinynet" in names:
            tables.append(_ratios(f"{title}: tinynet is so many times as fast as", mode, names, comparisons))
    tables += [_memory(names, comparisons), _networks(comparisons), engines_table(result)]
    faults = [[c["net"], str(c["batch"]), summary(fault)] for c in comparisons for fault in c["faults"]]
    return tables + ([Table("NOT compared", ["net", "batch", "why"], faults, left=3)] if faults else [])


def _rates(title: str, mode: str, names: list[str], comparisons: list[dict[str, Any]]) -> Table:
    rows = [[*_key(c), *(_rate(c["engines"][name].get(mode)) for name in names)] for c in comparisons]
    return Table(title, ["net", "batch", *names], rows, _RATE_NOTE)


def _ratios(title: str, mode: str, names: list[str], comparisons: list[dict[str, Any]]) -> Table:
    peers = [name for name in names if name != "tinynet"]
    rows = [[*_key(c), *(_ratio(c["ratios"].get(peer, {}).get(mode)) for peer in peers)] for c in comparisons]
    return Table(title, ["net", "batch", *peers], rows, _RATIO_NOTE)


def _key(comparison: dict[str, Any]) -> list[str]:
    return [comparison["net"], str(comparison["batch"])]


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
        [*_key(c), *(_mib(c["engines"][name].get("memory")) for name in names), _against_torch(c)]
        for c in comparisons
    ]
    return Table(
        "Peak memory of a training step with Adam, MiB",
        ["net", "batch", *names, "tinynet / torch"],
        rows,
        "Beyond what the process holds after its imports, of which a compiler is a part if it is loaded by "
        "then; in brackets the whole process, of which the ratio is. Each figure has its own process, and "
        "three steps go before, so that the peak of compiling is not counted.",
    )


def _mib(memory: dict[str, Any] | None) -> str:
    return f"{memory['step_mib']:.0f} ({memory['peak_mib']:.0f})" if memory else "-"


def _against_torch(comparison: dict[str, Any]) -> str:
    ours, theirs = (comparison["engines"].get(name, {}).get("memory") for name in ("tinynet", "torch"))
    return digits(ours["peak_mib"] / theirs["peak_mib"]) if ours and theirs else "-"


def _networks(comparisons: list[dict[str, Any]]) -> Table:
    rows = [[c["net"], NETS[c["net"]].description, f"{c['parameters']:,}"] for c in comparisons]
    unique = list(dict.fromkeys(map(tuple, rows)))
    return Table("The networks", ["net", "what it is", "parameters"], unique)


def engines_table(result: dict[str, Any]) -> Table:
    """What each engine is and what its process is told; and those that were left out, with the reason."""
    here = [
        [name, f"{e['package']} {e['version']}, Python {e['python']}", _settings(e["environment"])]
        for name, e in result["engines"].items()
    ]
    gone = [[name, "left out", reason] for name, reason in result["left_out"].items()]
    note = "What several threads share is computed by as many as stated above, in every engine."
    return Table("The engines", ["engine", "what runs", "environment, or why not"], here + gone, note, 3)


def _settings(environment: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in environment.items()) or "nothing set"
