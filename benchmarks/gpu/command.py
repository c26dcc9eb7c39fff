"""The verb ``gpu``: its options, its files, and what it says where there is no GPU."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from benchmarks import machine, options, report
from benchmarks.engines import GPU_ENGINES
from benchmarks.gpu.bench import SECTIONS, Bench
from benchmarks.gpu.tables import heading, tables_of
from tinynet import backend
from tinynet.errors import DeviceError


def add_arguments(verbs: Any) -> None:
    """The verb ``gpu`` and its options."""
    parser = verbs.add_parser(
        "gpu",
        help="CPU against GPU, and training on a GPU beside the peers that are installed",
        description="Check all kernels on the GPU, time them beside those of the CPU, and compare training "
        "with the installed peers, in 8 minutes. Without a GPU it says so and ends with code 0. Exit code 1: "
        "something is wrong, so that no time counts.",
        epilog="example: python -m benchmarks gpu --out results --data FOLDER",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR",
        help="the folder for gpu.json, gpu.md and gpu.log; default: a new one in benchmarks/results/gpu",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="the real MNIST, for the section accuracy"
    )
    parser.add_argument("--only", type=options.names, metavar="NAME,NAME", help=f"of {','.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="little of everything: a trial, no measurement")
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a rehearsal, where there is no GPU"
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="in all; default: 8")
    parser.add_argument("--seed", type=int, help="for what kernels are checked on; default: from the clock")
    parser.add_argument(
        "--threads", type=options.count, default=machine.cores(), help="of the CPU; default: one per core"
    )
    options.add_process_options(parser, "all that work here", GPU_ENGINES)
    parser.set_defaults(run=run, fail=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Measure, keep and show; 1 when something is wrong, 0 otherwise, also without a GPU."""
    options.check_names(arguments, arguments.only or [], SECTIONS)
    engines = options.asked_for(arguments, list(GPU_ENGINES), GPU_ENGINES)
    reason = no_device(arguments.device)
    if arguments.out is None and not reason and arguments.device == "cuda":
        arguments.out = _default_folder()
    with _files(arguments) as files:
        bench = Bench(arguments, files, *engines)
        if reason:
            bench.give_up(reason)
            print(f"no CUDA device: {reason}")
            return 0
        bench.measure()
    report.show(heading(bench.result), tables_of(bench.result))
    return 1 if bench.result["faults"] else 0


def no_device(kind: str) -> str:
    """Why there is no GPU to measure; empty if there is one, or none is asked for."""
    try:
        if kind == "cuda":
            backend.require_cuda()
    except DeviceError as error:
        return str(error)
    return ""


def _default_folder() -> Path:
    today, commit = datetime.date.today().isoformat(), machine.commit() or "unknown"
    return machine.ROOT / "benchmarks" / "results" / "gpu" / f"{today}-{commit.rstrip('+')}"


class Files(NamedTuple):
    """Where results go; None: nowhere."""

    json: Path | None = None
    markdown: Path | None = None
    log: TextIO | None = None


@contextlib.contextmanager
def _files(arguments: argparse.Namespace) -> Iterator[Files]:
    """The files in the folder; what is told on the way goes to the screen and into gpu.log."""
    if arguments.out is None:
        yield Files()
        return
    try:
        result, tables, log = (report.writable(f"{arguments.out}/gpu.{end}") for end in ("json", "md", "log"))
    except argparse.ArgumentTypeError as error:
        arguments.fail(str(error))
    with log.open("w") as told, contextlib.redirect_stderr(_Both(sys.stderr, told)):
        yield Files(result, tables, told)


class _Both:
    """Writes to two streams."""

    def __init__(self, *streams: TextIO):
        self._streams = streams

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()
