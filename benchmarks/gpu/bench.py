"""One run of the benchmark: section after section, each in the files as soon as it is measured."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import options, report
from benchmarks.children import Child
from benchmarks.gpu import accuracy, ceilings, correctness, decisions, environment, kernels, training
from benchmarks.gpu.bars import judge
from benchmarks.gpu.crew import crew
from benchmarks.gpu.tables import heading, tables_of
from benchmarks.nets import NETS, write_weights

FORMAT = 1
OURS = "tinynet-gpu"
# Seconds of each section in a run of 8 minutes; what one leaves, the next may use.
SECTIONS = {
    "environment": 20, "ceilings": 25, "correctness": 60, "decisions": 15, "kernels": 90, "training": 240,
    "accuracy": 30,
}  # fmt: skip
COMPILING = 60.0  # seconds after which torch.compile is given up
_TASKS = [("a", 128), ("b", 128), ("b", 1024), ("a", 1024), ("c", 128), ("c", 1024)]


class Effort(NamedTuple):
    """How much of everything: regions for a figure, real cases of a kernel, seconds for a figure of the CPU,
    batches, nets that are checked, nodes of the large graph, training, seeds."""

    regions: int
    cases: int
    budget: float
    batches: tuple[int, ...]
    checked: str
    nodes: int
    training: training.Extent
    seeds: int


FULL = Effort(5, 2, 0.05, kernels.BATCHES, "abc", 5600, training.Extent(_TASKS, 5, 0.3), 5)
QUICK = Effort(2, 1, 0.01, (1, 64), "ab", 1000, training.Extent(_TASKS[:2], 2, 0.05), 1)
REHEARSAL = Effort(1, 1, 0.001, (1, 4), "a", 100, training.Extent([("a", 8)], 2, 0.01), 1)


class Bench:
    """Options, the result so far, and the time that is left.

    ``engines`` take part, ``left_out`` tells why others do not; ``start`` makes the process of an engine.
    """

    def __init__(
        self, arguments: argparse.Namespace, files: Any, engines: list[str], left_out: dict[str, str],
        start: Callable[..., Any] = Child,
    ):  # fmt: skip
        self.arguments, self.files, self._start = arguments, files, start
        self._names = list(dict.fromkeys([OURS, *(name for name in engines if name not in left_out)]))
        self.effort = REHEARSAL if arguments.device == "cpu" else QUICK if arguments.quick else FULL
        self.begin, self.members = time.monotonic(), {}
        settings = {name: getattr(arguments, name) for name in ("quick", "device", "minutes", "threads")}
        facts = environment.host_facts(arguments.threads)
        self.result: dict[str, Any] = {
            "benchmark": "gpu", "format": FORMAT, "machine": facts.pop("machine"),
            "settings": settings | {"seed": int(time.time()) if arguments.seed is None else arguments.seed},
            "environment": facts, "no_device": "", "card": None, "engines": {}, "left_out": left_out,
            "faults": [], "finished": False, "seconds": {}, "sections": {}, "bars": [],
        }  # fmt: skip

    def give_up(self, reason: str) -> None:
        """There is no device: keep what is known of the machine."""
        self.result |= {"no_device": reason, "finished": True}
        self.save()

    def save(self) -> None:
        """Both files, each whole."""
        self.result["bars"] = judge(self.result)
        report.keep(self.files, self.result, heading(self.result), tables_of(self.result))

    def measure(self) -> None:
        """All sections that were asked for."""
        self.save()
        with (
            tempfile.TemporaryDirectory() as folder,
            crew(self._names, self._launch_of, self._start) as self.members,
        ):
            self.weights = self._first_weights(folder)
            for name in SECTIONS:
                if name in (self.arguments.only or SECTIONS) or name == "environment":
                    self._measure_one(name)
        self.result["finished"] = True
        self.save()

    def _launch_of(self, engine: str) -> Any:
        """torch.compile may take long, but not for ever."""
        launch = options.launch(self.arguments)
        return launch._replace(patience=COMPILING) if engine == "torch-compile-gpu" else launch

    def _first_weights(self, folder: str) -> dict[str, str]:
        files = {net: f"{folder}/{net}.npz" for net in self.effort.checked}
        for net, path in files.items():
            write_weights(NETS[net], Path(path))
        return files

    def _measure_one(self, name: str) -> None:
        print(f"section {name}", file=sys.stderr, flush=True)
        start = time.monotonic()
        found = getattr(self, f"_{name}")(partial(self._late, name))
        self.result["seconds"][name] = time.monotonic() - start
        self._keep(name, found)

    def _keep(self, name: str, found: dict[str, Any]) -> None:
        self.result["sections"][name] = found
        if name == "correctness":
            self.result["faults"] += correctness.faults(found)
        self._log()
        self.save()

    def _log(self) -> None:
        """In the log whole errors, of which the screen shows one line."""
        for member in self.members.values():
            while member.faults and self.files.log:
                print(member.faults.pop(0), file=self.files.log, flush=True)

    def _late(self, name: str) -> bool:
        """Whether a section must come to its end."""
        whole, until = sum(SECTIONS.values()), 0.0
        for section, seconds in SECTIONS.items():
            until += seconds
            if section == name:
                break
        return time.monotonic() - self.begin > 60 * self.arguments.minutes * until / whole

    def _ask(self, part: str, what: str, **settings: Any) -> Any:
        return self.members[OURS].attempt("part", name=part, what=what, **settings)

    # --- the sections ---

    def _environment(self, late: Callable[[], bool]) -> dict[str, Any]:
        """Who is there; an engine that cannot work is left out."""
        for name, member in list(self.members.items()):
            found = member.attempt("hello")
            if found:
                self.result["engines"][name] = found
            else:
                self.result["left_out"][name] = member.why()
        self.members = {n: m for n, m in self.members.items() if n == OURS or n in self.result["engines"]}
        self.result["card"] = self._ask("environment", "card_facts")
        if OURS not in self.result["engines"]:
            self.result["faults"].append(f"{OURS} does not work: {self.result['left_out'][OURS]}")
        return {}

    def _ceilings(self, late: Callable[[], bool]) -> dict[str, Any]:
        return ceilings.measure_all(partial(self._ask, "ceilings"), self.effort.regions)

    def _correctness(self, late: Callable[[], bool]) -> dict[str, Any]:
        ask, seed = partial(self._ask, "correctness"), self.result["settings"]["seed"]
        print(f"seed {seed}", file=sys.stderr, flush=True)
        return correctness.measure(ask, self.weights, seed, self.effort.cases, late)

    def _decisions(self, late: Callable[[], bool]) -> dict[str, Any]:
        kind = self.arguments.device
        return decisions.measure(self.members, kind, self.effort.regions, self.effort.nodes)

    def _kernels(self, late: Callable[[], bool]) -> dict[str, Any]:
        effort = {"most": self.effort.cases, "regions": self.effort.regions, "budget": self.effort.budget}
        effort["threads"] = self.arguments.threads
        return kernels.section(partial(self._ask, "kernels"), effort, list(self.effort.batches), late)

    def _training(self, late: Callable[[], bool]) -> dict[str, Any]:
        members = {name: self.members[name] for name in self.result["engines"]}
        keep = partial(self._keep, "training")
        return training.measure(members, self.result["engines"], self.effort.training, late, keep)

    def _accuracy(self, late: Callable[[], bool]) -> dict[str, Any]:
        if self.arguments.data is None:
            return {"skipped": "no data: --data FOLDER"}
        ask, data = partial(self._ask, "accuracy"), str(self.arguments.data.resolve())
        return accuracy.measure(ask, data, self.effort.seeds, self.effort is not FULL, late)
