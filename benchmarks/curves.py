"""``python -m benchmarks curves``: cost by threads, batch and image size, and what the tape costs."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from benchmarks import ceiling, conv_cases, machine, options, report, tape, timing
from benchmarks.children import Child
from benchmarks.curve_tables import tables_of
from benchmarks.kernels import set_threads
from benchmarks.nets import NETS, Net
from benchmarks.pace import of_this_machine
from benchmarks.race import Effort, Figures, Task, agree, race, ratios

CONV_BATCH, CONV_CHANNELS, SIDE_BATCH, TAPE_BATCH = 8, 32, 32, 32


class Extent(NamedTuple):
    """How much is measured: rounds, batches, sides in pixels, and the nets of the first two sections."""

    effort: Effort
    batches: tuple[int, ...]
    sides: tuple[int, ...]
    threaded: str
    batched: str


FULL = Extent(Effort(5, 0.3, 0.5, 4), tuple(4**k for k in range(6)), (28, 56, 112, 224), "abcd", "ab")
QUICK = Extent(Effort(2, 0.02, 0.02, 1), (1, 8), (28, 42), "a", "a")


def add_arguments(verbs: Any) -> None:
    """The verb ``curves`` and its options."""
    parser = verbs.add_parser(
        "curves",
        help="cost by threads, batch and image size, and of the tape",
        description="Measure one thread against several, batches from 1 to 1,024, images from 28 to 224 "
        "pixels a side, and the overhead of the tape. Exit code 1: an engine failed.",
        epilog="example: python -m benchmarks curves --only batch --json c.json --pictures pictures",
    )
    parser.add_argument(
        "--only", type=options.names, default=list(SECTIONS), metavar="NAME,NAME",
        help=f"of {','.join(SECTIONS)}; default: all",
    )  # fmt: skip
    parser.add_argument("--pictures", metavar="FOLDER", help="draw a picture per curve (needs matplotlib)")
    options.add_engine_options(parser, "tinynet, and torch if it works here")
    parser.set_defaults(run=run, fail=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Measure section by section, show, keep and draw; 1 when an engine failed."""
    options.check_names(arguments, arguments.only, SECTIONS)
    extent = QUICK if arguments.quick else FULL
    there, left_out = options.choose(arguments, ["tinynet", "torch"])
    result: dict[str, Any] = {
        "benchmark": "curves",
        "format": 1,
        "machine": machine.facts(arguments.threads),
        "settings": extent.effort._asdict() | {"quick": arguments.quick},
        "engines": there,
        "left_out": left_out,
        "finished": False,
        "faults": [],
        "sections": {},
    }
    _measure_all(arguments, extent, result)
    report.show(_heading(result), tables_of(result))
    if arguments.pictures:
        _draw(arguments.pictures, result)
    return 1 if result["faults"] or "tinynet" in left_out else 0


def _heading(result: dict[str, Any]) -> str:
    return f"# Curves\n\n{machine.summary(result['machine'])}"


def _measure_all(arguments: argparse.Namespace, extent: Extent, result: dict[str, Any]) -> None:
    """Every section; the files are written after each point, so that nothing measured is lost."""
    for name in arguments.only:
        rows = result["sections"][name] = []
        for row in SECTIONS[name](arguments, extent, result):
            rows.append(row)
            report.keep(arguments, result, _heading(result), tables_of(result))
    result["finished"] = True
    report.keep(arguments, result, _heading(result), tables_of(result))


def _draw(folder: str, result: dict[str, Any]) -> None:
    try:
        from benchmarks.curve_pictures import draw
    except ImportError as error:
        print(f"no pictures ({error}): pip install matplotlib", file=sys.stderr)
        return
    for path in draw(folder, result["sections"]):
        print(path, file=sys.stderr)


# --- sections: each yields its rows, fit for JSON ---


def threads_section(
    arguments: argparse.Namespace, extent: Extent, result: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Training with one thread against more, tinynet alone: samples/s, and their ratio round by round."""
    counts = sorted({1, arguments.threads})
    for net in (NETS[name] for name in extent.threaded):
        starts = {str(n): ("tinynet", options.launch(arguments)._replace(threads=n)) for n in counts}
        batch = 16 if arguments.quick else net.batches[-2]
        figures = _raced(net, batch, ("adam",), starts, extent.effort, result)
        alone = figures.get("1", {})
        speed_up = {n: ratios(figures[n], alone).get("adam") for n in figures if n != "1"}
        yield {"net": net.name, "batch": batch, "threads": figures, "times_one_thread": speed_up}


def batch_section(
    arguments: argparse.Namespace, extent: Extent, result: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Training and inference over the size of the batch."""
    for net in (NETS[name] for name in extent.batched):
        for batch in extent.batches:
            figures = _raced(net, batch, ("adam", "infer"), _starts(arguments, result), extent.effort, result)
            yield {"net": net.name, "batch": batch, "engines": figures}


def side_section(
    arguments: argparse.Namespace, extent: Extent, result: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Training and inference of net (a) over the side of the image."""
    for side in extent.sides:
        net = NETS["a"]._replace(sample=(side, side, 1))
        figures = _raced(
            net, SIDE_BATCH, ("adam", "infer"), _starts(arguments, result), extent.effort, result
        )
        yield {"net": "a", "batch": SIDE_BATCH, "side": side, "engines": figures}


def conv_section(
    arguments: argparse.Namespace, extent: Extent, result: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """One convolution layer over the side of the image: forward and both gradients."""
    threads, effort = set_threads(arguments), extent.effort
    top = ceiling.measure(threads, effort.seconds / 10, effort.attempts)
    for side in extent.sides:
        print(f"convolution, side {side}", file=sys.stderr, flush=True)
        x = (CONV_BATCH, side, side, CONV_CHANNELS)
        cases = conv_cases.same_padding(x, CONV_CHANNELS)
        yield {
            "batch": CONV_BATCH,
            "side": side,
            "channels": CONV_CHANNELS,
            "ceiling_gflops": top.gflops,
            "kernels": {case.kernel: _kernel_rate(case, effort) for case in cases},
        }


def _kernel_rate(case: Any, effort: Effort) -> dict[str, Any]:
    from tinynet import kernels

    given = case.arguments(np.random.default_rng(0))
    call: Callable = getattr(kernels, case.kernel)
    samples, disturbed = timing.undisturbed(
        lambda: timing.sample(lambda: call(*given), effort.seconds), effort.attempts, of_this_machine()
    )
    rates = [case.flops / seconds / 1e9 for seconds in samples]
    return {"gflops": timing.Spread.of(rates)._asdict(), "best": max(rates), "disturbed": disturbed}


def tape_section(
    arguments: argparse.Namespace, extent: Extent, result: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """What the tape costs, per step of net (a) and per operation."""
    set_threads(arguments)
    print("tape", file=sys.stderr, flush=True)
    for batch in (1, TAPE_BATCH):
        yield tape.step_overhead(batch, extent.effort)
    yield from tape.op_overheads(extent.effort)


def _starts(arguments: argparse.Namespace, result: dict[str, Any]) -> dict[str, tuple[str, Any]]:
    return {name: (name, options.launch(arguments)) for name in result["engines"]}


def _raced(
    net: Net, batch: int, modes: tuple[str, ...], starts: dict[str, tuple[str, Any]], effort: Effort,
    result: dict[str, Any],
) -> Figures:  # fmt: skip
    """Samples per second of each start that agrees with the first; faults are noted in ``result``."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        task = Task.make(net, batch, folder, modes)
        children = {key: stack.enter_context(Child(*start)) for key, start in starts.items()}
        faults: list[str] = []
        agree(children, task, faults)
        figures = race(children, task, effort, faults)
        result["faults"] += [f"net {net.name}, batch {batch}: {fault}" for fault in faults]
    return figures


SECTIONS = {
    "threads": threads_section,
    "batch": batch_section,
    "side": side_section,
    "conv": conv_section,
    "tape": tape_section,
}
