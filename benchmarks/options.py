"""What the commands take in common, and the engines that take part."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks import report
from benchmarks.children import Child, EngineError, Launch
from benchmarks.engines import ENGINES, KNOWN
from benchmarks.race import summary


def names(text: str) -> list[str]:
    """``a,b,c`` as a list."""
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise argparse.ArgumentTypeError(f"no name in {text!r}")
    return found


def numbers(text: str) -> list[int]:
    """``32,64`` as a list of numbers from 1 up."""
    return [count(word) for word in text.split(",")]


def count(text: str) -> int:
    """A number from 1 up."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 up")
    return int(text)


def interpreter(text: str) -> tuple[str, str]:
    """``jax=FILE``: an engine, and the Python that has its package."""
    name, _, path = text.partition("=")
    if name not in KNOWN or not path:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FILE with a name of {', '.join(KNOWN)}")
    return name, path


def add_engine_options(parser: argparse.ArgumentParser, default: str) -> None:
    """Which engines, in which Pythons, with how many threads, and the files of the results."""
    add_process_options(parser, default, ENGINES)
    parser.add_argument("--threads", type=count, default=2, help="of every engine; default: 2")
    parser.add_argument("--quick", action="store_true", help="short and few rounds: a trial, no measurement")
    report.add_file_options(parser)


def add_process_options(parser: argparse.ArgumentParser, default: str, known: Mapping[str, Any]) -> None:
    """Which of the ``known`` engines, in which Pythons, and how long to wait for them."""
    parser.add_argument(
        "--engines", type=names, metavar="NAME,NAME", help=f"of {','.join(known)}; default: {default}"
    )
    parser.add_argument(
        "--python", type=interpreter, action="append", default=[], metavar="NAME=FILE",
        help="run this engine with another Python, which has its package; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", type=count, default=600, metavar="S",
        help="seconds after which an engine that does not answer is taken out; default: 600",
    )  # fmt: skip


def launch(arguments: argparse.Namespace) -> Launch:
    """How the options want processes to be started."""
    words = (arguments.device,) if "device" in arguments else ()
    return Launch(arguments.threads, dict(arguments.python), float(arguments.timeout), words)


def choose(arguments: argparse.Namespace, default: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The engines that work, with what they say about themselves, and those left out, with the reason.

    Ends with code 2 when an engine was asked for by name that is unknown or not installed.
    """
    start = launch(arguments)
    asked, left_out = asked_for(arguments, default, ENGINES)
    there = {}
    for name in asked:
        try:
            if name not in left_out:
                there[name] = _greeting(name, start)
        except EngineError as error:
            left_out[name] = summary(error)
    for name, reason in left_out.items():
        print(f"without {name}: {reason}", file=sys.stderr, flush=True)
    return there, left_out


def asked_for(
    arguments: argparse.Namespace, default: list[str], known: Mapping[str, Any]
) -> tuple[list[str], dict[str, str]]:
    """The engines that are asked for, and why some of them are not there; code 2 if those were named."""
    check_names(arguments, arguments.engines or [], known)
    start = launch(arguments)
    asked = [name for name in known if name in (arguments.engines or default)]
    left_out = {name: reason for name in asked if (reason := start.lacks(name))}
    if arguments.engines and left_out:
        arguments.fail("; ".join(left_out.values()))
    return asked, left_out


def _greeting(name: str, start: Launch) -> dict[str, Any]:
    with Child(name, start) as child:
        return child.ask("hello")


def check_names(arguments: argparse.Namespace, given: list[str], known: Any) -> None:
    """End with code 2 when a name is not known."""
    for name in given:
        if name not in known:
            arguments.fail(f"unknown name {name!r}; known: {', '.join(known)}")
