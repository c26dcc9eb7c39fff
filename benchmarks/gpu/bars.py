"""The ratios that were promised, and whether a result reaches them; all from the JSON of a run alone."""

from __future__ import annotations

from typing import Any, NamedTuple

from benchmarks.gpu.training import BAR_PRECISION

OURS = ("tinynet-gpu", ("graph", "graph of 20"))
PEERS = {  # the peer's fastest way counts
    "torch eager": ("torch-gpu", ("eager", "channels-last")),
    "torch.compile(max-autotune)": ("torch-compile-gpu", ("compiled",)),
    "torch, whole step as a graph": ("torch-gpu", ("graph", "graph, channels-last")),
    "jax jit / scan": ("jax-gpu", ("jit", "scan")),
}
MNIST_SECONDS = 0.3  # of training until 99 % of the test digits are read


class Bar(NamedTuple):
    """tinynet's samples/s over those of ``against`` on this net and batch; None: no bar, but reported."""

    against: str
    net: str
    batch: int
    least: float | None


BARS = [
    Bar("torch eager", "a", 128, 8.0),
    Bar("torch eager", "b", 128, 2.5),
    Bar("torch eager", "b", 1024, 1.2),
    Bar("torch.compile(max-autotune)", "a", 128, 2.0),
    Bar("torch.compile(max-autotune)", "b", 128, 1.2),
    Bar("torch.compile(max-autotune)", "b", 1024, 0.9),
    Bar("torch, whole step as a graph", "a", 128, 1.8),
    Bar("torch, whole step as a graph", "b", 128, 1.0),
    Bar("torch, whole step as a graph", "b", 1024, 0.8),
    Bar("jax jit / scan", "a", 128, 1.2),
    Bar("jax jit / scan", "b", 128, 0.8),
    Bar("jax jit / scan", "b", 1024, None),
]


def judge(result: dict[str, Any]) -> list[dict[str, Any]]:
    """One row for each bar: ratio of medians, and PASS, MISS, "reported", or why there is no verdict."""
    tasks = {(t["net"], t["batch"]): t["rows"] for t in _section(result, "training").get("tasks", [])}
    rows = [_judge(bar, tasks.get((bar.net, bar.batch), [])) for bar in BARS]
    rows.append(_judge_mnist(_section(result, "accuracy")))
    reason = unfit(result)
    return [row | {"verdict": reason} if reason and row["ratio"] is not None else row for row in rows]


def unfit(result: dict[str, Any]) -> str:
    """Why no figure of this run may be held against a bar; empty if they all may."""
    if result.get("faults"):
        return "invalid"
    if result["settings"]["device"] == "cpu":
        return "a rehearsal"
    return "a trial" if result["settings"]["quick"] else ""


def _section(result: dict[str, Any], name: str) -> dict[str, Any]:
    return result["sections"].get(name) or {}


def _judge(bar: Bar, rows: list[dict[str, Any]]) -> dict[str, Any]:
    precision = BAR_PRECISION[bar.net]
    ours, theirs = (fastest(rows, *side, precision) for side in (OURS, PEERS[bar.against]))
    row = {"bar": bar.against, "net": bar.net, "batch": bar.batch, "precision": precision, "least": bar.least}
    if ours is None or theirs is None:
        return row | {"ratio": None, "verdict": _missing(rows, OURS if ours is None else PEERS[bar.against])}
    ratio = ours["samples_per_second"]["median"] / theirs["samples_per_second"]["median"]
    names = {"ours": ours["how"], "theirs": theirs["how"]}
    return row | names | {"ratio": ratio, "verdict": verdict(ratio, bar.least)}


def fastest(
    rows: list[dict[str, Any]], engine: str, hows: tuple[str, ...], precision: str
) -> dict[str, Any] | None:
    """The fastest measured row of an engine among some ways; one with a fault does not count."""
    there = [
        row
        for row in rows
        if (row["engine"], row["precision"]) == (engine, precision) and row["how"] in hows
        if not row["fault"] and "samples_per_second" in row
    ]
    return max(there, key=lambda row: row["samples_per_second"]["median"], default=None)


def _missing(rows: list[dict[str, Any]], side: tuple[str, tuple[str, ...]]) -> str:
    failed = [row for row in rows if row["engine"] == side[0] and row["how"] in side[1] and row["fault"]]
    return f"{side[0]} failed" if failed else f"{side[0]} not measured"


def verdict(ratio: float, least: float | None) -> str:
    """PASS from the bar on."""
    return "reported" if least is None else "PASS" if ratio >= least else "MISS"


def _judge_mnist(section: dict[str, Any]) -> dict[str, Any]:
    """Of the seeds the median; here the number is seconds, and the bar is the most there may be."""
    precision = "tf32"
    row = {"bar": "99 % of MNIST, s of training", "net": "b", "batch": section.get("batch")}
    row |= {"precision": precision, "least": MNIST_SECONDS}
    if "medians" not in section:
        return row | {"ratio": None, "verdict": section.get("skipped", "not measured")}
    found = section["medians"][precision]
    if found is None:
        return row | {"ratio": None, "verdict": "99 % not reached"}
    return row | {
        "ratio": found["seconds"],
        "verdict": "PASS" if found["seconds"] < MNIST_SECONDS else "MISS",
    }
