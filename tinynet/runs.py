"""Run folders: what a training leaves behind, and how it is opened again.

``run.json`` says which model it is, what it was trained on and what came out; ``weights.safetensors`` holds
its parameters, ``history.json`` the numbers of each epoch, ``checkpoint.safetensors`` all that ``--resume``
needs.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinynet import data, models
from tinynet.errors import ArgumentError, CheckpointError, unknown_name
from tinynet.files import atomic_write
from tinynet.nn import Module
from tinynet.training import Callback, Report, Trainer
from tinynet.training.checkpoint import make_folder

FACTS, WEIGHTS, HISTORY, CHECKPOINT = (
    "run.json",
    "weights.safetensors",
    "history.json",
    "checkpoint.safetensors",
)
SIZES = {"train": 60_000, "test": 10_000}  # of the drawn sets, as of MNIST's

_MODELS: dict[str, Callable[[], Module]] = {
    "small_cnn": models.small_cnn,
    "wide_cnn": models.wide_cnn,
    "row_rnn": models.row_rnn,
}


@dataclass(frozen=True)
class Run:
    """A run folder that was opened: the model with its weights, and what ``run.json`` says about it."""

    folder: Path
    model: Module
    facts: dict[str, Any]


class Recorder(Callback):
    """Leaves a run folder when ``fit`` ends, also after Ctrl-C: weights, history, facts in ``run.json``.

    With ``resume`` the folder must hold the checkpoint of a run to go on from; ``recorder.resume`` is then
    its path, otherwise None.

    To the facts come "epochs", "train_seconds" and "train_samples_per_second" of the fit as a whole: drawing,
    validation, writing, and in the first run on a machine compilation included.
    """

    def __init__(
        self, folder: str | os.PathLike, model_name: str, facts: Mapping[str, Any], resume: bool = False
    ):
        self.folder, self.model_name, self.facts = Path(folder), model_name, dict(facts)
        self.checkpoint = self.folder / CHECKPOINT
        self.resume = self.checkpoint if resume else None
        if resume and not self.checkpoint.is_file():
            raise CheckpointError(f"nothing to resume: {folder} holds no {CHECKPOINT}")
        make_folder(self.folder)
        self._begin, self._seen = 0.0, 0

    def on_fit_begin(self, trainer: Trainer) -> None:
        self._begin, self._seen = time.perf_counter(), _samples_so_far(trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        seconds = time.perf_counter() - self._begin
        speed = (_samples_so_far(trainer) - self._seen) / seconds
        self.facts |= {"epochs": trainer.epoch, "train_seconds": seconds, "train_samples_per_second": speed}
        save_run(self.folder, self.model_name, trainer, self.facts)
        if trainer.interrupted:
            print(f"kept in {self.folder}; the same command with --resume goes on")

    def finish(self, report: Report) -> dict[str, Any]:
        """Add the figures on the held-out data; returns all facts, as ``run.json`` then has them."""
        self.facts |= {f"test_{name}": value for name, value in results(report).items()}
        write_json(self.folder / FACTS, _read_facts(self.folder) | self.facts)
        return self.facts


def _samples_so_far(trainer: Trainer) -> int:
    return trainer.epoch * len(trainer.loader.dataset) + trainer.samples if trainer.loader else 0


def open_data(name: str, split: str = "train", n: int | None = None, seed: int = 0) -> data.Dataset:
    """The set called ``name``: "digits" (drawn), "mnist" (in the cache folder), or a folder of MNIST's files.

    ``n`` takes the first so many of them. The held-out drawn digits (``split="test"``) are the same for every
    seed, so that runs can be compared. Raises :class:`DataError` for files that are missing or damaged.
    """
    if name == "digits":
        size = SIZES[split] if n is None else n
        return data.digits(size, seed=seed if split == "train" else 0, split=split)
    whole = data.mnist(None if name == "mnist" else name, split)
    return whole if n is None else data.Subset(whole, np.arange(min(n, len(whole))))


def make_model(name: str) -> Module:
    """A fresh model by the name that ``run.json`` keeps: "small_cnn", "wide_cnn" or "row_rnn"."""
    if name not in _MODELS:
        raise unknown_name("model", name, _MODELS)
    return _MODELS[name]()


def save_run(folder: str | os.PathLike, model_name: str, trainer: Trainer, facts: Mapping[str, Any]) -> None:
    """Write weights, history and ``run.json``, each whole or not at all; :func:`load_run` reads them."""
    place = Path(folder)
    make_folder(place)
    trainer.model.save_weights(place / WEIGHTS)
    trainer.history.save(place / HISTORY)
    shape = list(trainer.model.input_shape or ())
    write_json(place / FACTS, {"model": model_name, "input_shape": shape, **facts})


def load_run(folder: str | os.PathLike) -> Run:
    """Open a run folder: the model is built again and gets its weights.

    Raises :class:`CheckpointError` when the folder is missing, is no run folder, or is damaged.
    """
    place = Path(folder)
    facts = _read_facts(place)
    model = make_model(facts["model"]).build(facts["input_shape"])
    model.load_weights(place / WEIGHTS)
    return Run(place, model.eval(), facts)


def start_from(folder: str | os.PathLike, model: Module, out: str | os.PathLike) -> None:
    """Give ``model`` the weights of the run ``folder``; raises :class:`ArgumentError` if that is ``out``."""
    if Path(folder).resolve() == Path(out).resolve():
        raise ArgumentError(f"this would write over {folder}, which it starts from: give another --out")
    model.load_state_dict(load_run(folder).model.state_dict())


def _read_facts(folder: Path) -> dict[str, Any]:
    path = folder / FACTS
    try:
        facts = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        what = "is no run folder: it holds no run.json" if folder.is_dir() else "does not exist"
        raise CheckpointError(
            f"{folder} {what}. A training makes one: tinynet train mnist --out {folder}"
        ) from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if not isinstance(facts, dict) or not {"model", "input_shape"} <= facts.keys():
        raise CheckpointError(f"{path} does not say which model it belongs to")
    return facts


def contents(folder: str | os.PathLike) -> str:
    """The names of the files in a run folder, in one line."""
    return ", ".join(sorted(p.name for p in Path(folder).iterdir() if not p.name.startswith(".")))


def evaluate(model: Module, dataset: data.Dataset) -> Report:
    """Loss, accuracy and confusion matrix of a classifier."""
    return Trainer(model, "adam", "cross_entropy", ["accuracy", "confusion_matrix"]).evaluate(dataset)


def predict(model: Module, x: Any) -> np.ndarray:
    """Probabilities (N, classes) of a classifier for pictures x (N, H, W, C)."""
    return Trainer(model, "adam", "cross_entropy").predict(x)


def results(report: Report) -> dict[str, Any]:
    """A report of :func:`evaluate` as JSON knows it: accuracy, loss, n and the confusion matrix."""
    matrix = np.asarray(report["confusion_matrix"]).tolist()
    return {"accuracy": report["accuracy"], "loss": report.loss, "n": report.n, "confusion": matrix}


def report_text(report: Report, folder: str | os.PathLike | None = None) -> str:
    """A report for people: a line of figures, the confusion matrix, and what is in the run folder, if any."""
    accuracy = 100 * report["accuracy"]
    figures = f"held-out digits: accuracy {accuracy:.2f} %, loss {report.loss:.4f}, n = {report.n:,}"
    written = "" if folder is None else f"\n\nin {folder}: {contents(folder)}"
    return f"\n{figures}\n{confusion_table(report['confusion_matrix'])}{written}"


def confusion_table(matrix: Any) -> str:
    """Counts (K, K) as text: a row for each true class, a column for each answer; zeros are dots."""
    matrix = np.asarray(matrix)
    width = max(4, len(str(matrix.max(initial=0))) + 1)
    head = "".join(f"{k:{width}}" for k in range(len(matrix)))
    rows = (
        f"{label:>7} " + "".join(f"{n or '.':>{width}}" for n in row)
        for label, row in enumerate(matrix.tolist())
    )
    return "\n".join([f"is\\read {head}", *rows])


def as_json(facts: Any) -> str:
    """JSON text with one line per entry of a dict or list, so that a matrix inside it stays in one line."""
    if isinstance(facts, Mapping):
        lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in facts.items()]
    else:
        lines = [f" {json.dumps(value)}" for value in facts]
    left, right = "{}" if isinstance(facts, Mapping) else "[]"
    return "\n".join([left, ",\n".join(lines), right])


def write_json(path: str | os.PathLike, facts: Any) -> None:
    """Write :func:`as_json` of the facts, whole or not at all."""
    atomic_write(path, (as_json(facts) + "\n").encode())
