"""``python -m benchmarks train``: samples per second and memory of the networks, in tinynet and its peers.

Each engine has its own process (threads of two engines in one process get in each other's way), and only
one of them computes at a time. All take turns in many short rounds, so that whatever slows the machine down
for a while slows all of them; a turn during which other processes used the machine is repeated. Before any
ratio is formed, all engines must compute the same logits and losses from the same weights and samples.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import engines, machine, report, timing
from benchmarks.children import Child, EngineError
from benchmarks.nets import NETS, Net, write_weights
from benchmarks.train_tables import tables_of

MODES = ("train", "infer")
CHECKED_STEPS = 4
LIMIT = 1e-3  # relative: Adam divides by the root of small squares and so magnifies differences in rounding
REST = 0.1  # seconds between two turns, in which the threads of the engine before go to sleep


class Effort(NamedTuple):
    """Rounds; seconds for each engine and mode in a round, and before the first; tries when disturbed."""

    rounds: int
    seconds: float
    warm_up: float
    attempts: int


FULL, QUICK = Effort(9, 0.5, 1.0, 4), Effort(2, 0.05, 0.05, 1)


def add_arguments(verbs: Any) -> None:
    """The verb ``train`` and its options."""
    parser = verbs.add_parser(
        "train",
        help="samples per second and memory, beside the peers that are installed",
        description="Compare training (Adam) and inference with the installed peers. "
        "Exit code 1: an engine failed, or computes other losses than the rest.",
        epilog="example: python -m benchmarks train --nets a,b --batch 32,128 --json ab.json",
    )
    parser.add_argument("--nets", type=_names, default=list(NETS), metavar="a,b,c,d", help="default: all")
    parser.add_argument("--batch", type=_numbers, metavar="N,N", help="default: 128, and 32 for net c")
    parser.add_argument(
        "--engines",
        type=_names,
        metavar="NAME,NAME",
        help=f"of {','.join(engines.ENGINES)}; default: tinynet and every installed peer",
    )
    parser.add_argument("--rounds", type=_count, help=f"default: {FULL.rounds}")
    parser.add_argument("--threads", type=_count, default=2, help="of every engine; default: 2")
    parser.add_argument("--quick", action="store_true", help="two short rounds: a trial, not a measurement")
    report.add_file_options(parser)
    parser.set_defaults(run=run, fail=parser.error)


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError(f"no name in {text!r}")
    return names


def _numbers(text: str) -> list[int]:
    return [_count(word) for word in text.split(",")]


def _count(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 up")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Check, measure, show and keep; 1 when an engine failed or disagreed."""
    chosen = _checked(arguments)
    effort = QUICK if arguments.quick else FULL
    effort = effort._replace(rounds=arguments.rounds or effort.rounds)
    result: dict[str, Any] = {
        "benchmark": "train",
        "format": 1,
        "machine": machine.facts(arguments.threads),
        "settings": effort._asdict() | {"engines": chosen, "limit": LIMIT, "quick": arguments.quick},
        "comparisons": [],
    }
    heading = f"# Training and inference\n\n{machine.summary(result['machine'])}"
    for net, batch in _tasks(arguments):
        result["comparisons"].append(compare(net, batch, chosen, arguments.threads, effort))
        report.keep(arguments, result, heading, tables_of(result))  # at once: the next ones may take long
    report.show(heading, tables_of(result))
    return 1 if any(c["faults"] for c in result["comparisons"]) else 0


def _tasks(arguments: argparse.Namespace) -> list[tuple[Net, int]]:
    nets = [NETS[name] for name in arguments.nets]
    return [(net, batch) for net in nets for batch in arguments.batch or [net.batch]]


def _checked(arguments: argparse.Namespace) -> list[str]:
    """The engines to run, tinynet first; ends with code 2 when a name is not known or not installed."""
    for given, known in ((arguments.nets, NETS), (arguments.engines or [], engines.ENGINES)):
        for name in given:
            if name not in known:
                arguments.fail(f"unknown name {name!r}; known: {', '.join(known)}")
    there = engines.installed()
    for name in arguments.engines or []:
        if name not in there:
            arguments.fail(f"{name} is not installed: pip install {engines.ENGINES[name].package}")
    chosen = arguments.engines or there
    return [name for name in engines.ENGINES if name in chosen]


def compare(net: Net, batch: int, chosen: list[str], threads: int, effort: Effort) -> dict[str, Any]:
    """All engines on one network and batch: agreement, speed, memory; fit for JSON."""
    result: dict[str, Any] = {"net": net.name, "batch": batch, "faults": []}
    result["engines"] = {name: {} for name in chosen}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        task = {"net": net.name, "batch": batch, "weights": f"{folder}/weights.npz"}
        result["parameters"] = write_weights(net, Path(task["weights"]))
        children = {name: stack.enter_context(Child(name, threads)) for name in chosen}
        _agree(children, task, result)
        try:
            for name, figures in _race(children, task, effort).items():
                result["engines"][name] |= figures | {"memory": _memory(name, task, threads)}
        except EngineError as error:
            result["faults"].append(str(error))
    result["ratios"] = _ratios(result["engines"])
    return result


def _agree(children: dict[str, Child], task: dict[str, Any], result: dict[str, Any]) -> None:
    """Compare what the engines compute with the first of them; take out those that fail or differ."""
    computed: dict[str, dict[str, Any]] = {}
    for name, child in list(children.items()):
        _tell(task, f"checking {name}")
        try:
            result["engines"][name] |= child.ask("hello")
            child.ask("prepare", **task, dropout=False)
            computed[name] = child.ask("compute", steps=CHECKED_STEPS)
            fault = _difference(computed[name], next(iter(computed.values())))
        except EngineError as error:
            fault = str(error)
        if fault:
            result["faults"].append(f"{name}: {fault}")
            del children[name]
        else:
            result["engines"][name]["losses"] = computed[name]["losses"]


def _difference(got: dict[str, Any], truth: dict[str, Any]) -> str:
    """In words, how an engine's logits and losses differ from another's; empty when they agree."""
    for what in ("logits", "losses"):
        a, b = np.array(got[what]), np.array(truth[what])
        error = np.abs(a - b).max() / np.abs(b).max() if a.shape == b.shape else np.inf
        if not error <= LIMIT:
            return f"its {what} differ by {error:.1e} of the largest: {a[:8]} instead of {b[:8]}"
    return ""


def _race(children: dict[str, Child], task: dict[str, Any], effort: Effort) -> dict[str, dict[str, Any]]:
    """Alternating rounds of all engines; every round begins with another one."""
    figures = {name: {mode: {"rounds": [], "disturbed": 0} for mode in MODES} for name in children}
    for name, child in children.items():
        _tell(task, f"warming up {name}")
        child.ask("prepare", **task, dropout=True)
        for mode in MODES:
            child.ask("run", mode=mode, seconds=effort.warm_up)
    order = list(children)
    for i in range(effort.rounds if order else 0):
        _tell(task, f"round {i + 1} of {effort.rounds}")
        for name in order[i % len(order) :] + order[: i % len(order)]:
            for mode in MODES:
                _turn(children[name], mode, task["batch"], effort, figures[name][mode])
    for one in [figures[name][mode] for name in children for mode in MODES]:
        one["samples_per_second"] = timing.Spread.of(one["rounds"])._asdict()
    return figures


def _turn(child: Child, mode: str, batch: int, effort: Effort, figures: dict[str, Any]) -> None:
    """One engine's turn; repeated while others disturb it, and then the quietest is taken."""
    turns = []
    for _ in range(effort.attempts):
        time.sleep(REST)
        turns.append(child.ask("run", mode=mode, seconds=effort.seconds))
        if not turns[-1]["disturbed"]:
            break
    best = min(turns, key=lambda turn: (turn["disturbed"], turn["others"]))
    figures["rounds"].append(batch * best["steps"] / best["seconds"])
    figures["disturbed"] += best["disturbed"]


def _memory(name: str, task: dict[str, Any], threads: int) -> dict[str, Any]:
    """Peak memory of training steps, in a process that has done nothing else."""
    _tell(task, f"memory of {name}")
    with Child(name, threads) as child:
        child.ask("prepare", **task, dropout=True)
        return child.ask("peak", steps=3)


def _ratios(figures: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Samples per second of tinynet over those of each peer, round by round: their median and quartiles."""
    ours = figures.get("tinynet", {})
    return {
        peer: {
            mode: timing.Spread.of(
                [a / b for a, b in zip(ours[mode]["rounds"], theirs[mode]["rounds"])]
            )._asdict()
            for mode in MODES
        }
        for peer, theirs in figures.items()
        if peer != "tinynet" and "train" in ours and "train" in theirs
    }


def _tell(task: dict[str, Any], what: str) -> None:
    print(f"net {task['net']}, batch {task['batch']}: {what}", file=sys.stderr, flush=True)
