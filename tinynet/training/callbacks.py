"""What happens around the batches and epochs of ``fit``: stopping early, logs, schedules, checkpoints."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinynet.backend import is_array
from tinynet.errors import ArgumentError, unknown_name
from tinynet.files import atomic_write
from tinynet.optim import Schedule, StepLR
from tinynet.training.checkpoint import make_folder, save_checkpoint

if TYPE_CHECKING:
    from tinynet.training.trainer import Trainer

MakeSchedule = Callable[[Any, int], Schedule]  # from the optimiser and the number of batches in all epochs

MOMENTS = ("on_fit_begin", "on_epoch_begin", "on_batch_end", "on_epoch_end", "on_fit_end")


class Callback:
    """Base of all callbacks: define the methods you need; each gets the trainer.

    Worth reading there: ``epoch`` and ``epochs`` (finished, and in all), ``batch`` and ``batches`` (of this
    epoch), ``steps`` (batches since the beginning), ``batch_loss``, ``history``, ``model``, ``optimizer``.
    ``stop(reason)`` ends the training after the current epoch. What ``state_dict`` returns goes into
    checkpoints.
    """

    rank = 1  # the lowest is called first: rates, then most others, then checkpoints, then what is shown

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Before the first batch; the model is built, and a checkpoint to resume from is loaded."""

    def on_epoch_begin(self, trainer: Trainer) -> None:
        """Before the first batch of an epoch."""

    def on_batch_end(self, trainer: Trainer) -> None:
        """After each step of the optimiser."""

    def on_epoch_end(self, trainer: Trainer) -> None:
        """After the validation of an epoch; its numbers are ``trainer.history[-1]``."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """After the last epoch, or after Ctrl-C (``trainer.interrupted``); not after an error."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs: names and arrays, numbers or strings."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""


class LambdaCallback(Callback):
    """A callback from functions: ``LambdaCallback(on_epoch_end=lambda trainer: print(trainer.epoch))``."""

    def __init__(self, **functions: Callable[[Trainer], object]):
        for moment, function in functions.items():
            if moment not in MOMENTS:
                raise unknown_name("moment", moment, MOMENTS)
            setattr(self, moment, function)


class Monitor:
    """Watches one column of the history and knows whether it got better.

    ``mode`` is "min" or "max"; "auto" takes "min" for names with "loss" in them and "max" for all others.
    """

    def __init__(self, name: str, mode: str = "auto", min_delta: float = 0.0):
        if mode not in ("auto", "min", "max"):
            raise unknown_name("mode", mode, ("auto", "min", "max"))
        self.name, self.min_delta = name, abs(min_delta)
        self.sign = -1.0 if mode == "min" or (mode == "auto" and "loss" in name) else 1.0
        self.best = math.nan

    def check(self, trainer: Trainer) -> None:
        """Raise :class:`ArgumentError`, before the first epoch, for a number that cannot come."""
        of_validation = {"val_loss", *(f"val_{metric.name}" for metric in trainer.metrics)}
        if self.name in of_validation and trainer.validation is None:
            raise ArgumentError(f"there will be no {self.name!r} to monitor: fit() has no validation_data")

    def improved(self, trainer: Trainer) -> bool:
        """Whether the last epoch beat the best one so far by more than ``min_delta``; remembers it if so."""
        numbers = trainer.history[-1]
        if self.name not in numbers:
            raise unknown_name("number to monitor", self.name, numbers)
        value = numbers[self.name]
        if (
            math.isnan(value) or self.sign * (value - self.best) <= self.min_delta
        ):  # False as long as best is NaN
            return False
        self.best = value
        return True


class EarlyStopping(Callback):
    """Stop when a number has not improved for ``patience`` epochs.

    With ``restore_best`` the model ends with its best weights, of which a copy is kept in memory, also when
    the training came to its normal end; after Ctrl-C it keeps the last ones.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 5,
        min_delta: float = 0.0,
        *,
        mode: str = "auto",
        restore_best: bool = True,
    ):
        if patience < 1:
            raise ArgumentError(f"patience={patience!r}: give the number of epochs to wait, at least 1")
        self.monitor = Monitor(monitor, mode, min_delta)
        self.patience, self.restore_best = patience, restore_best
        self.waited = 0
        self.best_weights: dict[str, Any] = {}

    def on_fit_begin(self, trainer: Trainer) -> None:
        self.monitor.check(trainer)
        if trainer.epoch == 0:  # not a resumed one
            self.waited, self.monitor.best, self.best_weights = 0, math.nan, {}

    def on_epoch_end(self, trainer: Trainer) -> None:
        if self.monitor.improved(trainer):
            self.waited = 0
            self.best_weights = trainer.model.state_dict() if self.restore_best else {}  # a copy
            return
        self.waited += 1
        if self.waited >= self.patience:
            best = f"best {self.monitor.name} {self.monitor.best:.4g}"
            trainer.stop(f"no improvement for {self.waited} epochs, {best}")

    def on_fit_end(self, trainer: Trainer) -> None:
        if self.best_weights and not trainer.interrupted:
            trainer.model.load_state_dict(self.best_weights)

    def state_dict(self) -> dict[str, Any]:
        weights = {f"best/{name}": array for name, array in self.best_weights.items()}
        return {"waited": self.waited, "best": str(self.monitor.best), **weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.waited, self.monitor.best = int(state["waited"]), float(state["best"])
        self.best_weights = {n.removeprefix("best/"): a for n, a in state.items() if is_array(a)}


class LearningRate(Callback):
    """Step a schedule of :mod:`tinynet.optim` after every "batch" or every "epoch".

    ``schedule`` is made already, or a function that makes one from the optimiser and the number of batches in
    all epochs, as the class ``optim.CosineLR`` does; the optimiser's own rate then comes back after the fit.
    Left open, ``every`` is "epoch" for StepLR and "batch" for all others. The history gets a column "lr".
    """

    rank = 0

    def __init__(self, schedule: Schedule | MakeSchedule, every: str | None = None):
        if every not in ("batch", "epoch", None):
            raise unknown_name("unit", every, ("batch", "epoch"))
        if not (isinstance(schedule, Schedule) or callable(schedule)):
            raise ArgumentError(f"schedule={schedule!r}: give a schedule, or what makes one: optim.CosineLR")
        self._given, self._every = schedule, every
        self.schedule: Any = None
        self._own_lr: float | None = None

    @property
    def every(self) -> str:
        """What is followed by a step of the schedule: "batch" or "epoch"."""
        return self._every or ("epoch" if isinstance(self.schedule, StepLR) else "batch")

    def prepare(self, optimizer: Any, steps: int) -> None:
        """Have the schedule ready for a fit of ``steps`` batches, before a checkpoint is loaded."""
        if isinstance(self._given, Schedule):
            self.schedule = self._given
        else:
            self._own_lr = optimizer.lr
            self.schedule = self._given(optimizer, max(steps, 1))
        if self.schedule.optimizer is not optimizer:
            raise ArgumentError("the schedule belongs to another optimiser than the one that trains")

    def on_batch_end(self, trainer: Trainer) -> None:
        if self.every == "batch":
            self.schedule.step()

    def on_epoch_end(self, trainer: Trainer) -> None:
        trainer.history[-1]["lr"] = float(trainer.optimizer.lr)
        if self.every == "epoch":
            self.schedule.step()

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._own_lr is not None:
            trainer.optimizer.lr = self._own_lr

    def state_dict(self) -> dict[str, Any]:
        return self.schedule.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.schedule.load_state_dict(state)


class Checkpoint(Callback):
    """Save all that a resumed training needs to ``path``: every so many epochs, at the end, after Ctrl-C.

    With ``keep_best="val_loss"`` (or another number) the best one is kept as well, beside it:
    ``run.safetensors`` and ``run.best.safetensors``. A missing folder is created.
    """

    rank = 2

    def __init__(
        self, path: str | os.PathLike, every: int = 1, *, keep_best: str | None = None, mode: str = "auto"
    ):
        if every < 1:
            raise ArgumentError(f"every={every!r}: give a number of epochs, at least 1")
        self.path, self.every = Path(path), every
        self.best_path = self.path.with_suffix(f".best{self.path.suffix}")
        self._monitor = Monitor(keep_best, mode) if keep_best else None
        self._saved_at: int | None = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        make_folder(self.path.parent)
        self._saved_at = None
        if self._monitor:
            self._monitor.check(trainer)
            if trainer.epoch == 0:
                self._monitor.best = math.nan

    def on_epoch_end(self, trainer: Trainer) -> None:
        if self._monitor and self._monitor.improved(trainer):
            save_checkpoint(self.best_path, trainer)
        if trainer.epoch % self.every == 0:
            self._save(trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._saved_at != trainer.steps:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        save_checkpoint(self.path, trainer)
        self._saved_at = trainer.steps

    def state_dict(self) -> dict[str, Any]:
        return {"best": str(self._monitor.best)} if self._monitor else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self._monitor and "best" in state:
            self._monitor.best = float(state["best"])


class JSONLogger(Callback):
    """Write the whole history to a JSON file after every epoch, atomically; read it with ``History.load``."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)

    def on_fit_begin(self, trainer: Trainer) -> None:
        make_folder(self.path.parent)

    def on_epoch_end(self, trainer: Trainer) -> None:
        trainer.history.save(self.path)


class CSVLogger(JSONLogger):
    """Write the whole history to a CSV file after every epoch, atomically: a header, then a row per epoch."""

    def on_epoch_end(self, trainer: Trainer) -> None:
        columns = trainer.history.columns
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["epoch", *columns])
        for number, epoch in enumerate(trainer.history, 1):
            table.writerow([number, *(epoch.get(name, "") for name in columns)])
        atomic_write(self.path, text.getvalue().encode())
