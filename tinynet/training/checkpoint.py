"""Everything that a training run is, in one safetensors file: stop, load it, go on, bit for bit.

Arrays are named by part: ``model/conv1.weight``, ``optimizer/...``, ``callbacks/EarlyStopping/...``. Numbers
(counters, history, random state, the loader's place, optimiser and schedule numbers) are JSON in the
metadata.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinynet import random
from tinynet.backend import is_array
from tinynet.errors import CheckpointError
from tinynet.files import read_arrays, write_arrays
from tinynet.training.history import History, from_json, to_json

if TYPE_CHECKING:
    from tinynet.training.callbacks import Callback
    from tinynet.training.trainer import Trainer

FORMAT = "tinynet checkpoint"
VERSION = 1
COUNTERS = ("epoch", "batch", "steps", "samples", "loss_sum", "numbers")

State = dict[str, Any]


def save_checkpoint(path: str | os.PathLike, trainer: Trainer) -> None:
    """Write the state of ``trainer`` to ``path``, whole or not at all.

    Raises :class:`CheckpointError` for a full disk, a missing or a read-only folder; an older checkpoint at
    ``path`` and the state of the trainer are untouched by that.
    """
    if trainer.optimizer is None:
        raise CheckpointError("nothing to save yet: the model is built, and the optimiser made, by fit()")
    arrays: State = {}
    numbers: dict[str, State] = {}
    for part, state in _parts(trainer):
        arrays |= {f"{part}/{name}": value for name, value in state.items() if is_array(value)}
        numbers[part] = {name: value for name, value in state.items() if not is_array(value)}
    text = json.dumps(_facts(trainer) | {"numbers": numbers})
    metadata = {"format": FORMAT, "version": str(VERSION), "state": text, "state_crc32": _crc(text)}
    write_arrays(path, arrays, metadata)


def load_checkpoint(path: str | os.PathLike, trainer: Trainer) -> None:
    """Put ``trainer``, its model, optimiser and callbacks, and the random stream, back to what was saved.

    The model must be built. Raises :class:`CheckpointError` when the file is missing, truncated, damaged, no
    checkpoint, of another version, or was saved with another architecture or optimiser; then nothing is
    changed.
    """
    if not os.path.exists(path):
        raise CheckpointError(f"there is no file {path} to go on from. Without resume training begins anew")
    arrays, metadata = read_arrays(path)
    facts = _read_facts(path, metadata)
    if trainer.optimizer is None:
        raise CheckpointError(
            f"{path} cannot be loaded yet: build the model first, with model.build((28, 28, 1)) or the "
            "shape of a sample of your data, or hand the path to fit(resume=...)"
        )
    _check_place(path, trainer, facts["place"])
    parts = _split(arrays, facts["numbers"])
    _load_model_and_optimizer(path, trainer, facts["optimizer"], parts)
    _load_callbacks(trainer.running_callbacks, parts)
    _go_to(trainer, facts["place"])
    trainer.history = History(from_json(facts["history"]))
    random.set_state(facts["random"])


def make_folder(folder: Path) -> None:
    """Create a folder and those above it; :class:`CheckpointError` when nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"cannot create the folder {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise CheckpointError(f"nothing can be written into the folder {folder}: it is read-only")


def _facts(trainer: Trainer) -> State:
    return {
        "optimizer": type(trainer.optimizer).__name__,
        "random": random.get_state(),
        "history": to_json(trainer.history.epochs),
        "place": _place(trainer),
    }


def _parts(trainer: Trainer) -> Iterable[tuple[str, State]]:
    """Everything that has a ``state_dict``, with its name in the file."""
    yield "model", trainer.model.state_dict()
    yield "optimizer", trainer.optimizer.state_dict()  # type: ignore[union-attr]
    for name, callback in _named(trainer.running_callbacks):
        yield name, callback.state_dict()


def _named(callbacks: Iterable[Callback]) -> Iterable[tuple[str, Callback]]:
    """``callbacks/EarlyStopping``, ``callbacks/EarlyStopping.2``: names that stay when others are added."""
    count: dict[str, int] = {}
    for callback in callbacks:
        kind = type(callback).__name__
        count[kind] = count.get(kind, 0) + 1
        yield f"callbacks/{kind}" + (f".{count[kind]}" if count[kind] > 1 else ""), callback


def _read_facts(path: str | os.PathLike, metadata: dict[str, str]) -> State:
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is no checkpoint of a training run. If it holds weights alone: model.load_weights(path)"
        )
    if metadata.get("version") != str(VERSION):
        raise CheckpointError(
            f"{path} is a checkpoint of version {metadata.get('version')}; "
            f"this tinynet reads version {VERSION}"
        )
    text = metadata.get("state", "")
    if metadata.get("state_crc32") != _crc(text):
        raise CheckpointError(f"{path} is damaged: its checksum does not fit the numbers in it")
    return json.loads(text)


def _crc(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _split(arrays: State, numbers: dict[str, State]) -> dict[str, State]:
    """Arrays and numbers together again, by part."""
    return {
        part: state | {n.removeprefix(f"{part}/"): a for n, a in arrays.items() if n.startswith(f"{part}/")}
        for part, state in numbers.items()
    }


def _load_model_and_optimizer(
    path: str | os.PathLike, trainer: Trainer, saved: str, parts: dict[str, State]
) -> None:
    """Both or neither."""
    own = type(trainer.optimizer).__name__
    if saved != own:
        raise CheckpointError(f"{path} was saved with the optimiser {saved}, but this training uses {own}")
    before = trainer.model.state_dict()
    try:
        trainer.model.load_state_dict(parts["model"])
        trainer.optimizer.load_state_dict(parts["optimizer"])  # type: ignore[union-attr]
    except CheckpointError as error:
        trainer.model.load_state_dict(before)
        raise CheckpointError(f"{path} does not fit: {error}") from error


def _load_callbacks(callbacks: Iterable[Callback], parts: dict[str, State]) -> None:
    for name, callback in _named(callbacks):
        if name in parts:
            callback.load_state_dict(parts[name])


def _place(trainer: Trainer) -> State:
    """Where the training stands: counters, and the loader's seed and pass."""
    counters = {name: getattr(trainer, name) for name in COUNTERS}
    seed = None if trainer.loader is None else trainer.loader.seed
    return {**counters, "batches": trainer.batches, "seed": seed, "pass": trainer.first_pass + trainer.epoch}


def _check_place(path: str | os.PathLike, trainer: Trainer, place: State) -> None:
    """The middle of an epoch must exist in these data."""
    if place["batch"] and trainer.loader is not None and place["batches"] != trainer.batches:
        raise CheckpointError(
            f"{path} stopped at batch {place['batch']} of {place['batches']}, but an epoch has "
            f"{trainer.batches} batches now: resume with the same data and batch size"
        )


def _go_to(trainer: Trainer, place: State) -> None:
    """The order of the data becomes that of the saved training."""
    for name in COUNTERS:
        setattr(trainer, name, place[name])
    trainer.passes, trainer.first_pass = place["pass"], place["pass"] - place["epoch"]
    if trainer.loader is not None and place["seed"] is not None:
        trainer.loader.seed = place["seed"]
