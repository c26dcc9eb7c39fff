"""What the verbs do; their options are described in :mod:`tinynet.cli`."""

from __future__ import annotations

import importlib
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

import tinynet
from tinynet.cli import TRAININGS, emit
from tinynet.errors import ArgumentError, DataError


def train(args: Namespace) -> int:
    """Hand over to an example, which is installed with the package."""
    example = importlib.import_module(f"tinynet.examples.{TRAININGS[args.what]}")
    parser = example.options()
    parser.prog = f"tinynet train {args.what}"
    return example.main(parser.parse_args(args.options))


def evaluate(args: Namespace) -> int:
    """Accuracy, loss, n and confusion matrix on the held-out digits."""
    from tinynet import runs

    run = runs.load_run(args.folder)
    name = args.data or run.facts.get("data", "digits")
    report = runs.evaluate(run.model, runs.open_data(name, "test", args.samples))
    facts = {"run": str(run.folder), "data": name, **runs.results(report)}
    emit(args.json, facts, f"{run.folder} on {name}{runs.report_text(report)}")
    return 0


def predict(args: Namespace) -> int:
    """Ten probabilities for each picture."""
    from tinynet import data, runs

    run = runs.load_run(args.folder)
    pictures = np.stack([_as_digit(data, path) for path in args.images])
    chances = runs.predict(run.model, pictures)
    facts = [_answer(path, row) for path, row in zip(args.images, chances)]
    emit(args.json, facts, _answers_text(facts))
    return 0


def _as_digit(data: Any, path: str) -> np.ndarray:
    try:
        return data.as_mnist(data.read_image(path))
    except DataError as error:
        raise DataError(str(error) if path in str(error) else f"{path}: {error}") from error


def _answer(path: str, chances: np.ndarray) -> dict[str, Any]:
    return {
        "image": path,
        "digit": int(chances.argmax()),
        "probabilities": [round(float(p), 6) for p in chances],
    }


def _answers_text(facts: list[dict[str, Any]]) -> str:
    width = max(len("image"), *(len(f["image"]) for f in facts))
    head = f"{'image':{width}}  digit  " + "".join(f"{k:>6}" for k in range(len(facts[0]["probabilities"])))
    return "\n".join([f"{head}  (probabilities, %)", *(_answer_line(f, width) for f in facts)])


def _answer_line(fact: dict[str, Any], width: int) -> str:
    return f"{fact['image']:{width}}  {fact['digit']:5}  " + "".join(
        f"{100 * p:6.1f}" for p in fact["probabilities"]
    )


def summary(args: Namespace) -> int:
    """The table of the layers."""
    from tinynet import runs

    run = runs.load_run(args.folder)
    table = run.model.summary()
    emit(args.json, table.to_dict(), f"{run.facts['model']}\n{table}")
    return 0


def check_gradients(args: Namespace) -> int:
    """One line per operation, and the whole table for one that was named or that differs."""
    from tinynet.gradcheck import check_op
    from tinynet.ops.cases import gradcheck_cases

    names = list(gradcheck_cases) if args.operation == "all" else [args.operation]
    reports = {name: check_op(name) for name in names}
    facts = {name: {"ok": report.ok, "max_error": report.max_error} for name, report in reports.items()}
    lines = [_check_line(name, report, whole=len(names) == 1) for name, report in reports.items()]
    wrong = sum(not report.ok for report in reports.values())
    emit(args.json, facts, "\n".join([*lines, f"{len(names) - wrong} of {len(names)} gradients agree"]))
    return 1 if wrong else 0


def _check_line(name: str, report: Any, whole: bool) -> str:
    line = f"{'ok' if report.ok else 'DIFFERS':8} {name:20} largest error {report.max_error:.1e}"
    return f"{line}\n{report}" if whole or not report.ok else line


def bench(args: Namespace) -> int:
    """Hand over to ``python -m benchmarks``, which stands in the repository and is not installed."""
    root = Path(tinynet.__file__).resolve().parents[1]
    if not (root / "benchmarks" / "__main__.py").is_file():
        raise ArgumentError(
            "the benchmarks are no part of the installed package: run python -m benchmarks in a clone of the "
            "repository"
        )
    return subprocess.run([sys.executable, "-m", "benchmarks", *args.options], cwd=root).returncode
