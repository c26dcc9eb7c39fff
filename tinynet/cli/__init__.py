"""The command line: ``python -m tinynet VERB``, or ``tinynet VERB``.

Exit codes: 0 all went well, 1 a check failed, 2 wrong use, 130 after Ctrl-C. A user's mistake ends with one
line that says what was wrong, and with a traceback only under ``--debug``.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tinynet.errors import NotFiniteError, TinynetError

TRAININGS = {"mnist": "train_mnist", "rnn": "train_rnn"}  # name on the command line: file in examples/


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb, and return the exit code; ``arguments`` are those of the process unless given."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if not given:
        _parser().print_help()
        return 2
    return program(_run_verb, _parser(), given)


def program(
    body: Callable[[argparse.Namespace], int],
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None = None,
) -> int:
    """Run ``body(parsed arguments)``; an error that is meant for people becomes one line and an exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return body(parser.parse_args(given))
    except KeyboardInterrupt as error:
        print(str(error) or "interrupted", file=sys.stderr)
        return 130
    except (TinynetError, OSError) as error:
        if "--debug" in given:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, NotFiniteError) else 2


def options(description: str | None, **settings: Any) -> argparse.ArgumentParser:
    """A parser that keeps the lines of its description, and knows ``--json FILE`` and ``--debug``."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=layout, **settings)
    _common(parser)
    return parser


def emit(target: str | None, facts: Any, text: str) -> None:
    """Print the text and write the facts as JSON to the file ``target``; for "-" print the JSON instead."""
    from tinynet.runs import as_json, write_json

    print(as_json(facts) if target == "-" else text)
    if target is not None and target != "-":
        write_json(target, facts)


def count(text: str) -> int:
    """An option that counts something: a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def _result_file(text: str) -> str:
    """Where results go: a file in a folder that exists, seen to before the work begins; or "-"."""
    if text != "-" and not Path(text).resolve().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r}: the folder does not exist")
    return text


def _common(parser: argparse.ArgumentParser) -> None:
    where = 'write the results to FILE as JSON; "-" prints them'
    parser.add_argument("--json", metavar="FILE", type=_result_file, help=where)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _run_verb(args: argparse.Namespace) -> int:
    module, _, function = args.run.partition(":")
    return getattr(importlib.import_module(f"tinynet.cli.{module}"), function)(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tinynet", description="A small deep-learning framework to look inside."
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    _add_doctor(verbs)
    _add_train(verbs)
    _add_evaluate(verbs)
    _add_predict(verbs)
    _add_summary(verbs)
    _add_gradcheck(verbs)
    _add_bench(verbs)
    return parser


def _verb(verbs: Any, name: str, run: str, what: str, example: str) -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    verb = verbs.add_parser(
        name, help=what, description=what, epilog=f"example:\n  {example}", formatter_class=layout
    )
    verb.set_defaults(run=run)
    return verb


def _add_doctor(verbs: Any) -> None:
    what = "Look at everything tinynet needs on this machine: ok, missing, and what to do."
    verb = _verb(verbs, "doctor", "doctor:run", what, "tinynet doctor")
    verb.add_argument(
        "--precompile", action="store_true", help="compile the CPU kernels now, for all later runs"
    )
    _common(verb)


def _add_train(verbs: Any) -> None:
    what = "Train a net; the same program as examples/train_mnist.py or examples/train_rnn.py."
    example = "tinynet train mnist --epochs 2\n  tinynet train mnist --help     # all its options"
    verb = _verb(verbs, "train", "work:train", what, example)
    verb.add_argument("what", choices=TRAININGS, help="digits with a convolutional net, or row by row")
    verb.add_argument("options", nargs=argparse.REMAINDER, help="options of the training, see above")


def _add_evaluate(verbs: Any) -> None:
    what = "Accuracy, loss and confusion matrix of a trained net on held-out digits."
    verb = _verb(verbs, "evaluate", "work:evaluate", what, "tinynet evaluate runs/mnist --data digits")
    verb.add_argument("folder", metavar="RUN", help="the folder that the training wrote")
    verb.add_argument(
        "--data", help='"digits" (drawn), "mnist", or a folder of its files (default: as trained)'
    )
    verb.add_argument("--samples", type=count, metavar="N", help="use the first N digits only")
    _common(verb)


def _add_predict(verbs: Any) -> None:
    what = "Read pictures of single digits: any file Pillow opens, made like MNIST's first."
    verb = _verb(verbs, "predict", "work:predict", what, "tinynet predict runs/mnist photo.jpg scan.png")
    verb.add_argument("folder", metavar="RUN", help="the folder that the training wrote")
    verb.add_argument("images", metavar="IMAGE", nargs="+", help="picture files")
    _common(verb)


def _add_summary(verbs: Any) -> None:
    what = "The layers of a trained net: shapes, parameters, multiply-adds."
    verb = _verb(verbs, "summary", "work:summary", what, "tinynet summary runs/mnist")
    verb.add_argument("folder", metavar="RUN", help="the folder that the training wrote")
    _common(verb)


def _add_gradcheck(verbs: Any) -> None:
    what = "Compare the gradients of the operations with finite differences, in float64."
    verb = _verb(verbs, "gradcheck", "work:check_gradients", what, "tinynet gradcheck conv")
    verb.add_argument(
        "operation", metavar="OP", nargs="?", default="all", help='one operation, or "all" (default)'
    )
    _common(verb)


def _add_bench(verbs: Any) -> None:
    what = "Measure kernels and training; the same as python -m benchmarks in the repository."
    verb = _verb(verbs, "bench", "work:bench", what, "tinynet bench train --help")
    verb.add_argument("options", nargs=argparse.REMAINDER, help="arguments of python -m benchmarks")
