"""Whole training steps: tinynet and its peers on the same data, from the same weights, in turns.

An engine's way of running a step ("eager", "graph", ...) at one precision is an entry. Its first twenty
losses must be those of the others before it is compared with them.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.children import EngineError
from benchmarks.gpu.correctness import finite, loss_error
from benchmarks.gpu.crew import Member
from benchmarks.nets import NETS, Net, write_weights
from benchmarks.race import summary
from benchmarks.timing import Spread

AGREE = {"fp32": 1e-3, "tf32": 1e-2}  # relative: steps magnify differences in rounding
EPOCH = 60_000  # samples
BAR_PRECISION = {"a": "fp32", "b": "tf32", "c": "tf32"}  # (a) is too small for tensor cores
ONE_PRECISION = ("jax-gpu", "torch-compile-gpu")  # they compile for long: only that of the net's bar
COMPILED = (("a", 128), ("b", 128), ("b", 1024))  # the only ones for torch.compile


class Extent(NamedTuple):
    """Nets with their batches, the most important first; rounds, and seconds for each entry in a round."""

    tasks: list[tuple[str, int]]
    rounds: int
    seconds: float


class Entry:
    """One engine, way and precision on one net; ``row`` is what the result file gets."""

    def __init__(self, member: Member, job: dict[str, Any]):
        self._member, self._job, self._process = member, job, -1
        names = {name: job[name] for name in ("how", "precision")}
        self.row: dict[str, Any] = {"engine": member.engine, **names, "losses": [], "fault": "", "rounds": []}
        self.row["device_rounds"] = []

    def begin(self) -> None:
        """Take the first steps."""
        first = self._ask("begin", **self._job)
        if first:
            self._process = self._member.process
            self.row |= {"bytes": first["bytes"], "begin_seconds": first["seconds"]}
            if all(map(math.isfinite, first["losses"])):
                self.row["losses"] = first["losses"]
            else:
                self.row["fault"] = "a loss is not a number"

    def ask(self, order: str, **settings: Any) -> dict[str, Any] | None:
        """An order about this entry; None, and a fault, when it fails. In a new process it begins anew."""
        if self._process != self._member.process:
            self.begin()
        names = {name: self._job[name] for name in ("how", "precision")}
        return None if self.row["fault"] else self._ask(order, **names, **settings)

    def _ask(self, order: str, **settings: Any) -> dict[str, Any] | None:
        try:
            return self._member.ask(order, **settings)
        except EngineError as error:
            self.row |= {"fault": summary(error), "log": str(error)}
            return None


def wanted(engines: dict[str, Any], net: str, batch: int) -> Iterator[tuple[str, str, str]]:
    """(engine, how, precision) of everything that is measured on this net."""
    for engine, facts in engines.items():
        one = engine in ONE_PRECISION or net == "c"
        if engine == "torch-compile-gpu" and (net, batch) not in COMPILED:
            continue
        for how in facts["hows"]:
            yield from ((engine, how, p) for p in ([BAR_PRECISION[net]] if one else AGREE))


def measure(
    members: dict[str, Member], engines: dict[str, Any], extent: Extent, late: Callable[[], bool],
    save: Callable[[dict], None],
) -> dict[str, Any]:  # fmt: skip
    """All tasks, as long as there is time; ``save(section)`` is called after each."""
    section: dict[str, Any] = {"tasks": [], "skipped": []}
    for net, batch in extent.tasks:
        if late():
            section["skipped"].append(f"net {net}, batch {batch}")
            continue
        with tempfile.TemporaryDirectory() as folder:
            section["tasks"].append(_task(members, engines, NETS[net], batch, extent, folder, late))
        save(section)
    return section


def _task(
    members: dict[str, Member], engines: dict[str, Any], net: Net, batch: int, extent: Extent, folder: str,
    late: Callable[[], bool],
) -> dict[str, Any]:  # fmt: skip
    """One net at one batch: begin with every entry, compare the losses, race those that agree."""
    weights = f"{folder}/weights.npz"
    task: dict[str, Any] = {"net": net.name, "batch": batch, "parameters": write_weights(net, Path(weights))}
    task |= {"flops_per_sample": flops_per_sample(net), "rows": [], "skipped": []}
    entries = []
    for engine, how, precision in wanted(engines, net.name, batch):
        job = {"net": net.name, "batch": batch, "weights": weights, "how": how, "precision": precision}
        if late():
            task["skipped"].append(f"{engine}, {how}, {precision}")
            continue
        entries.append(Entry(members[engine], job))
        entries[-1].begin()
    compare([entry.row for entry in entries])
    _race(entries, batch, extent)
    for member in members.values():
        member.attempt("forget")
    return task | {"rows": [entry.row for entry in entries]}


def compare(rows: list[dict[str, Any]]) -> None:
    """The losses of the first row that has any are what the others are held against."""
    truth = next((row["losses"] for row in rows if row["losses"]), [])
    for row in rows:
        if row["fault"]:
            continue
        error = loss_error(row["losses"], truth)
        row["loss_error"] = finite(error)
        if not error <= AGREE[row["precision"]]:
            row["fault"] = (
                f"its first losses differ by {error:.1e}: {row['losses'][:3]} instead of {truth[:3]}"
            )


def _race(entries: list[Entry], batch: int, extent: Extent) -> None:
    """Rounds in which each entry has its turn, A B C A B C, so that a slow while is slow for all."""
    for entry in _sound(entries):
        entry.row["calls"] = (entry.ask("calls", shortest=extent.seconds) or {}).get("calls", 0)
    for _ in range(extent.rounds):
        for entry in _sound(entries):
            found = entry.ask("race", calls=entry.row["calls"])
            if found:
                _note(entry.row, found, batch)
    for entry in entries:
        _conclude(entry.row)


def _sound(entries: list[Entry]) -> Iterator[Entry]:
    return (entry for entry in entries if not entry.row["fault"])


def _note(row: dict[str, Any], found: dict[str, Any], batch: int) -> None:
    row["rounds"].append(found["steps"] * batch / found["host"])
    if found["device"]:
        row["device_rounds"].append(found["steps"] * batch / found["device"])


def _conclude(row: dict[str, Any]) -> None:
    if row["rounds"]:
        row["samples_per_second"] = Spread.of(row["rounds"])._asdict()
        row["epoch_seconds"] = EPOCH / row["samples_per_second"]["median"]


def flops_per_sample(net: Net) -> int:
    """Of a training step: each product forward, and backward for its weight and (but the image) its input."""
    layers = net.in_tinynet().summary().to_dict()["layers"]
    adds = [layer["multiply_adds"] for layer in layers]
    return 2 * (3 * sum(adds) - next(filter(None, adds)))
