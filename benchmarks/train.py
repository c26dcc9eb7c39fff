"""``python -m benchmarks train``: samples per second and memory of the networks, in tinynet and its peers.

How the engines take turns stands in race.py. Before any ratio is formed, all engines must compute the same
logits and losses from the same weights and samples, with each optimiser.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from benchmarks import machine, options, report
from benchmarks.children import Child, EngineError, Launch
from benchmarks.engines import ENGINES, MODES
from benchmarks.nets import NETS, Net
from benchmarks.race import LIMIT, Effort, Task, agree, race, ratios, summary
from benchmarks.train_tables import tables_of

FULL, QUICK = Effort(9, 0.5, 1.0, 4), Effort(2, 0.05, 0.05, 1)


def add_arguments(verbs: Any) -> None:
    """The verb ``train`` and its options."""
    parser = verbs.add_parser(
        "train",
        help="samples per second and memory, beside the peers that are installed",
        description="Compare training (Adam, and gradient descent with momentum) and inference with the "
        "installed peers. Exit code 1: an engine failed, or computes other losses than the rest.",
        epilog="example: python -m benchmarks train --nets a,b --batch 32,128 --json ab.json",
    )
    parser.add_argument(
        "--nets", type=options.names, default=list(NETS), metavar="a,b,c,d", help="default: all"
    )
    parser.add_argument(
        "--batch", type=options.numbers, metavar="N,N", help="default: 32,64,128,256, and 32,64 for net c"
    )
    parser.add_argument("--rounds", type=options.count, help=f"default: {FULL.rounds}")
    options.add_engine_options(parser, "tinynet and every peer that works here")
    parser.set_defaults(run=run, fail=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Check, measure, show and keep; 1 when an engine failed or disagreed."""
    options.check_names(arguments, arguments.nets, NETS)
    there, left_out = options.choose(arguments, list(ENGINES))
    effort = QUICK if arguments.quick else FULL
    effort = effort._replace(rounds=arguments.rounds or effort.rounds)
    result: dict[str, Any] = {
        "benchmark": "train",
        "format": 2,
        "machine": machine.facts(arguments.threads),
        "settings": effort._asdict() | {"limit": LIMIT, "quick": arguments.quick},
        "engines": there,
        "left_out": left_out,
        "finished": False,
        "comparisons": [],
    }
    _measure_all(arguments, result, effort)
    report.show(_heading(result), tables_of(result))
    failed = [c for c in result["comparisons"] if c["faults"]]
    return 1 if failed or "tinynet" in left_out else 0


def _heading(result: dict[str, Any]) -> str:
    return f"# Training and inference\n\n{machine.summary(result['machine'])}"


def _measure_all(arguments: argparse.Namespace, result: dict[str, Any], effort: Effort) -> None:
    """Every comparison; the files are written after each part of it, so that nothing measured is lost."""

    def save() -> None:
        report.keep(arguments, result, _heading(result), tables_of(result))

    tasks = _tasks(arguments)
    for i, (net, batch) in enumerate(tasks):
        print(f"comparison {i + 1} of {len(tasks)}", file=sys.stderr, flush=True)
        one = {"net": net.name, "batch": batch, "faults": [], "engines": {n: {} for n in result["engines"]}}
        result["comparisons"].append(one | {"ratios": {}})
        compare(net, batch, options.launch(arguments), effort, result["comparisons"][-1], save)
    result["finished"] = True
    save()


def _tasks(arguments: argparse.Namespace) -> list[tuple[Net, int]]:
    nets = [NETS[name] for name in arguments.nets]
    return [(net, batch) for net in nets for batch in arguments.batch or net.batches]


def compare(
    net: Net, batch: int, start: Launch, effort: Effort, result: dict[str, Any], save: Callable[[], None]
) -> None:
    """All engines on one network and batch: agreement, speed, memory; fills ``result``, fit for JSON."""
    with tempfile.TemporaryDirectory() as folder:
        task = Task.make(net, batch, folder)
        result["parameters"] = task.parameters
        with contextlib.ExitStack() as stack:
            children = {name: stack.enter_context(Child(name, start)) for name in result["engines"]}
            _add(result, agree(children, task, result["faults"]))
            _add(result, race(children, task, effort, result["faults"]))
        _compare_with_tinynet(result)
        save()
        for name in children:  # those that are left
            _add(result, {name: _memory(name, task, start, result["faults"])})
        save()


def _add(result: dict[str, Any], figures: dict[str, dict[str, Any]]) -> None:
    for name, some in figures.items():
        result["engines"][name] |= some


def _compare_with_tinynet(result: dict[str, Any]) -> None:
    ours = _raced(result["engines"].get("tinynet", {}))
    result["ratios"] = {
        name: found
        for name, theirs in result["engines"].items()
        if name != "tinynet" and (found := ratios(ours, _raced(theirs)))
    }


def _raced(figures: dict[str, Any]) -> dict[str, Any]:
    return {mode: figures[mode] for mode in MODES if mode in figures}


def _memory(name: str, task: Task, start: Launch, faults: list[str]) -> dict[str, Any]:
    """Peak memory of training steps, in a process that has done nothing else."""
    task.tell(f"memory of {name}")
    try:
        with Child(name, start) as child:
            child.ask("prepare", **task._replace(modes=["adam"]).order(dropout=True))
            return {"memory": child.ask("peak", steps=3)}
    except EngineError as error:
        faults.append(str(error))
        print(summary(error), file=sys.stderr, flush=True)
        return {}
