"""Engines against each other: first whether they compute the same, then how fast, in turns.

Each engine has its own process (threads of two engines in one process get in each other's way), and only
one of them computes at a time. All take turns in many short rounds, so that whatever slows the machine down
for a while slows all of them; a turn during which other processes used the machine, or the host took a core
away, is repeated. An engine that fails or hangs is taken out, and the others go on.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import timing
from benchmarks.children import Child, EngineError
from benchmarks.engines import MODES
from benchmarks.nets import Net, write_weights
from benchmarks.pace import of_this_machine

CHECKED_STEPS = 4
LIMIT = 1e-3  # relative: Adam divides by the root of small squares and so magnifies differences in rounding
REST = 0.1  # seconds between two turns, in which the threads of the engine before go to sleep

Children = dict[str, Child]
Figures = dict[str, dict[str, Any]]


class Effort(NamedTuple):
    """Rounds; seconds for each engine and mode in a round, and before the first; tries when disturbed."""

    rounds: int
    seconds: float
    warm_up: float
    attempts: int


class Task(NamedTuple):
    """A network, a batch, and the file of the weights that all engines start from."""

    net: Net
    batch: int
    weights: str
    parameters: int
    modes: Sequence[str] = MODES

    @classmethod
    def make(cls, net: Net, batch: int, folder: str, modes: Sequence[str] = MODES) -> Task:
        """A task with fresh weights, stored in ``folder``."""
        weights = f"{folder}/weights.npz"
        return cls(net, batch, weights, write_weights(net, Path(weights)), modes)

    def order(self, dropout: bool) -> dict[str, Any]:
        """What a worker is told to prepare."""
        return {
            "net": self.net.name, "sample": self.net.sample, "batch": self.batch, "weights": self.weights,
            "dropout": dropout, "modes": list(self.modes),
        }  # fmt: skip

    def tell(self, what: str) -> None:
        """One line of progress."""
        print(f"net {self.net.name}, batch {self.batch}: {what}", file=sys.stderr, flush=True)


def agree(children: Children, task: Task, faults: list[str]) -> Figures:
    """Logits and losses of each engine; one that fails or differs from the first is taken out of children."""
    computed: Figures = {}
    for name in list(children):
        task.tell(f"checking {name}")
        got = trying(children, name, faults, lambda child: _compute(child, task))
        if got is None:
            continue
        fault = difference(got, next(iter(computed.values()), got))
        if fault:
            faults.append(f"{name}: {fault}")
            del children[name]
        else:
            computed[name] = got
    return computed


def _compute(child: Child, task: Task) -> dict[str, Any]:
    child.ask("prepare", **task.order(dropout=False))
    return child.ask("compute", steps=CHECKED_STEPS)


def trying(children: Children, name: str, faults: list[str], what: Callable[[Child], Any]) -> Any:
    """``what(child)``; if that fails, the fault is noted, the engine taken out, and None returned."""
    try:
        return what(children[name])
    except EngineError as error:
        faults.append(str(error))
        print(summary(error), file=sys.stderr, flush=True)
        del children[name]
        return None


def summary(error: EngineError | str) -> str:
    """What an engine failed to do and the error it ended with, without the traceback between them."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    errors = [line for line in lines[1:] if re.match(r"[\w.]+(Error|Exception)\b", line)]
    return " ".join(dict.fromkeys([lines[0], (errors or lines)[-1]]))


def difference(got: dict[str, Any], truth: dict[str, Any]) -> str:
    """In words, how an engine's logits and losses differ from another's; empty when they agree."""
    pairs = [("logits", got["logits"], truth["logits"])]
    pairs += [(f"losses ({mode})", got["losses"][mode], right) for mode, right in truth["losses"].items()]
    for what, some, others in pairs:
        a, b = np.array(some), np.array(others)
        error = (
            np.abs(a - b).max(initial=0.0) / np.abs(b).max(initial=1e-30) if a.shape == b.shape else np.inf
        )
        if not error <= LIMIT:
            return f"its {what} differ by {error:.1e} of the largest: {a[:8]} instead of {b[:8]}"
    return ""


def race(children: Children, task: Task, effort: Effort, faults: list[str]) -> Figures:
    """Alternating rounds of all engines, each begun by another one: their samples per second.

    Of an engine that fails on the way, the rounds before stay.
    """
    figures = {name: {mode: {"rounds": [], "disturbed": 0} for mode in task.modes} for name in children}
    for name in list(children):
        task.tell(f"warming up {name}")
        trying(children, name, faults, lambda child: _warm_up(child, task, effort))
    for i in range(effort.rounds):
        task.tell(f"round {i + 1} of {effort.rounds}")
        order = list(children)
        for name in order[i % max(len(order), 1) :] + order[: i % max(len(order), 1)]:
            kept = figures[name]
            trying(children, name, faults, lambda child, kept=kept: _turns(child, task, effort, kept))
    return {name: _measured(modes) for name, modes in figures.items() if _measured(modes)}


def _warm_up(child: Child, task: Task, effort: Effort) -> None:
    """The first steps compile; they belong to no round."""
    child.ask("prepare", **task.order(dropout=True))
    for mode in task.modes:
        child.ask("run", mode=mode, seconds=effort.warm_up)


def _turns(child: Child, task: Task, effort: Effort, figures: dict[str, Any]) -> None:
    for mode in task.modes:
        best = _turn(child, mode, effort)
        figures[mode]["rounds"].append(task.batch * best["steps"] / best["seconds"])
        figures[mode]["disturbed"] += best["disturbed"]


def _turn(child: Child, mode: str, effort: Effort) -> dict[str, Any]:
    """One engine's turn; repeated while others disturb it, and then the quietest is taken."""
    turns = []
    pace = of_this_machine()
    for _ in range(effort.attempts):
        time.sleep(REST)
        there = pace.settle()
        turns.append(child.ask("run", mode=mode, seconds=effort.seconds))
        turns[-1]["disturbed"] |= not (there and pace.full())
        if not turns[-1]["disturbed"]:
            break
    return min(turns, key=lambda turn: (turn["disturbed"], turn["others"]))


def _measured(modes: dict[str, Any]) -> dict[str, Any]:
    """The modes of which there is a round, with median and quartiles."""
    return {
        mode: one | {"samples_per_second": timing.Spread.of(one["rounds"])._asdict()}
        for mode, one in modes.items()
        if one["rounds"]
    }


def ratios(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Samples per second over those of another, by mode, round by round: their median and quartiles."""
    return {
        mode: timing.Spread.of(
            [a / b for a, b in zip(ours[mode]["rounds"], theirs[mode]["rounds"])]
        )._asdict()
        for mode in ours
        if mode in theirs
    }
