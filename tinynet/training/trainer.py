"""The training loop, written once: ``Model.compile``, ``fit``, ``evaluate`` and ``predict`` all come here."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np

from tinynet import random
from tinynet.backend import host, to_device
from tinynet.data import Loader
from tinynet.errors import ArgumentError, DataError
from tinynet.metrics import get as get_metric
from tinynet.nn.losses import get as get_loss
from tinynet.nn.module import Module
from tinynet.tensor import Tensor
from tinynet.training.callbacks import Callback, Checkpoint, LearningRate
from tinynet.training.captured import steps_of
from tinynet.training.checkpoint import load_checkpoint
from tinynet.training.choices import (
    as_loader,
    check_built,
    check_epochs,
    check_loss,
    check_optimizer,
    checked_callbacks,
    default_metrics,
    input_loader,
    optimizer_maker,
    probabilities,
    sample_shape,
)
from tinynet.training.guard import blame_sample
from tinynet.training.history import History, Report
from tinynet.training.interrupt import Interrupt, TrainingInterrupted
from tinynet.training.memory import in_memory
from tinynet.training.passes import (
    about,
    batch_indices,
    evaluating,
    is_built,
    kept_modes,
    model_device,
    one_pass,
)
from tinynet.training.progress import progress

Path = str | os.PathLike


class Trainer:
    """Trains ``model``: batches in, gradients back, steps of the optimiser, numbers into a history.

    ``optimizer`` is an optimiser, a class or function that makes one from parameters, or a name ("sgd",
    "adam", "adamw"); the latter are made when the model is built. ``loss(pred, target)`` and ``metrics`` are
    objects or names. ``clip_norm`` limits the norm of all gradients together. Wrong names raise
    :class:`ArgumentError`.

    Its state, for callbacks: ``epoch`` of ``epochs`` are finished, and ``batch`` of ``batches`` of the next
    one; ``steps`` counts the batches of the whole fit, ``samples`` those of the epoch; ``batch_loss`` is the
    last one; ``history`` holds the numbers of the finished epochs.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Any,
        loss: Any,
        metrics: Iterable[Any] = (),
        callbacks: Iterable[Callback] = (),
        clip_norm: float | None = None,
    ):
        self.model, self.loss, self.clip_norm = model, get_loss(loss), clip_norm
        self.metrics = [get_metric(m) for m in ((metrics,) if isinstance(metrics, str) else metrics)]
        self.callbacks = self.running_callbacks = checked_callbacks(callbacks)
        self._make_optimizer = optimizer_maker(optimizer, None)
        self._optimizer: Any = None
        self._made_for: list[Any] = []  # the model's parameters when the optimiser was made
        self.history = History()
        self.loader: Any = None
        self.validation: Loader | None = None
        self.epoch = self.epochs = self.batch = self.batches = self.steps = self.samples = 0
        self._loss_sum: Any = 0.0  # a number, or the place on a GPU where it is counted
        self._batch_loss: Any = math.nan
        self.numbers: dict[str, float] = {}  # of an epoch whose validation is under way
        self.interrupted, self.stop_reason = False, ""
        self.passes = self.first_pass = 0  # over the data, in all fits: a second fit draws new data

    @classmethod
    def compiled(
        cls,
        model: Module,
        optimizer: Any = "adam",
        loss: Any = "cross_entropy",
        metrics: Iterable[Any] | None = None,
        lr: float | None = None,
    ) -> Trainer:
        """A trainer as ``model.compile`` makes it; ``lr`` is for an optimiser that is still to be made."""
        trainer = cls(model, optimizer_maker(optimizer, lr), loss, metrics or ())
        if metrics is None:
            trainer.metrics = default_metrics(trainer.loss)
        return trainer

    @property
    def optimizer(self) -> Any:
        """The optimiser; None as long as it waits for the model to be built."""
        if self._optimizer is None and is_built(self.model):
            self._made_for = self.model.parameters()
            self._optimizer = self._make_optimizer(self._made_for)
        return self._optimizer

    # --- training ---

    def fit(
        self,
        x: Any,
        y: Any = None,
        epochs: int = 1,
        batch_size: int = 32,
        validation_data: Any = None,
        *,
        shuffle: bool = True,
        callbacks: Iterable[Callback] = (),
        schedule: Any = None,
        verbose: str | int = "auto",
        checkpoint: Path | None = None,
        resume: Path | None = None,
        seed: int | None = None,
    ) -> History:
        """Train for ``epochs`` passes over the data, and return the numbers of each.

        ``x`` is a Dataset, a Loader, a pair (x, y), or the inputs (N, ...) with targets ``y``. A Loader keeps
        its own ``batch_size``, ``shuffle`` and ``seed`` (of the order; by default drawn from ``tn.seed``'s
        stream). ``schedule`` is a schedule of tinynet.optim, or a function that makes one from (optimizer,
        batches in all), such as ``optim.CosineLR`` itself. ``verbose``: "auto", "bar", "lines" or "silent"
        (0).

        ``checkpoint`` names a file that is saved after every epoch and after Ctrl-C; ``resume`` one to go on
        from, up to ``epochs`` in all: the same call with ``resume`` added finishes an interrupted one, bit
        for bit. (The metrics of an epoch that was interrupted in its middle count its remaining batches
        only.)

        The model comes back in the mode it was in. Ctrl-C finishes the batch, saves, and raises
        :class:`TrainingInterrupted`. A NaN or infinite loss or gradient raises :class:`NotFiniteError`, which
        names the sample or layer it came from; no such step is taken. The weights are then those before the
        step, or, where these already gave an infinite loss on sound data, those of at most 50 batches
        earlier. Either way ``trainer.history`` keeps the finished epochs.
        """
        check_epochs(epochs)
        seed = random.draw_key() if seed is None else seed
        loader = as_loader(x, y, batch_size, shuffle=shuffle, seed=seed)
        self.validation = None
        if validation_data is not None:
            with about("validation_data"):
                self.validation = as_loader(validation_data, None, loader.batch_size)
        self._start(loader, epochs, own_loader=loader is not x)
        with closing(progress(verbose)) as show, Interrupt() as interrupt, kept_modes(self.model):
            self._prepare(
                [*self.callbacks, *checked_callbacks(callbacks), *_extras(schedule, checkpoint), show], resume
            )
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # looked for after each batch
                self._run(interrupt)
        if interrupt.asked:
            raise TrainingInterrupted(self._interrupted_text(checkpoint), self.history)
        return self.history

    @property
    def loss_sum(self) -> float:
        """Sum of the losses of the epoch's samples so far; on a GPU, to ask for it is to wait for it."""
        return float(self._loss_sum)

    @loss_sum.setter
    def loss_sum(self, value: Any) -> None:
        self._loss_sum = value

    @property
    def batch_loss(self) -> float:
        """The loss of the last batch; on a GPU, to ask for it is to wait for it."""
        return float(self._batch_loss)

    @batch_loss.setter
    def batch_loss(self, value: Any) -> None:
        self._batch_loss = value

    def stop(self, reason: str) -> None:
        """End the training after the current epoch; ``reason`` is shown."""
        self.stop_reason = reason

    def running(self, metrics: int | None = None) -> dict[str, float]:
        """Loss and (the first so many) metrics of the epoch under way, as far as they are single numbers."""
        loss = self.loss_sum / max(self.samples, 1)
        return Report(loss, self.samples, {m.name: m.result() for m in self.metrics[:metrics]}).scalars

    def _start(self, loader: Loader, epochs: int, own_loader: bool) -> None:
        """Counters at zero, the model built, and an optimiser for all that it has."""
        self.loader, self.batches, self.epochs = loader, len(loader), epochs
        self.epoch = self.batch = self.steps = self.samples = 0
        self.loss_sum, self.numbers, self.history = 0.0, {}, History()
        self.interrupted, self.stop_reason = False, ""
        self.first_pass = self.passes if own_loader else loader.epoch
        if not is_built(self.model):
            self.model.build(sample_shape(loader))
            check_built(self.model)
        if [*map(id, self._made_for)] != [*map(id, self.model.parameters())]:
            self._optimizer = None  # a layer was replaced: the new one is to learn, too
        check_optimizer(self.optimizer, self.model)

    def _prepare(self, callbacks: list[Callback], resume: Path | None) -> None:
        """Everything that needs a built model, up to the loading of a checkpoint."""
        self.running_callbacks = sorted(callbacks, key=lambda callback: callback.rank)
        for callback in self.running_callbacks:
            if isinstance(callback, LearningRate):
                callback.prepare(self.optimizer, self.epochs * self.batches)
        if resume is not None:
            load_checkpoint(resume, self)
        self._steps = steps_of(self)

    def _run(self, interrupt: Interrupt) -> None:
        self.model.train()
        self._tell("on_fit_begin")
        while self.epoch < self.epochs and not self.stop_reason and not interrupt.asked:
            self._run_epoch(interrupt)
        self.interrupted = interrupt.asked
        self._tell("on_fit_end")

    def _run_epoch(self, interrupt: Interrupt) -> None:
        self._train_epoch(interrupt)
        if self.batch < self.batches:
            return
        self.numbers = self.numbers or self.running()  # there already if Ctrl-C came in the validation
        if self.validation is not None:
            with about("validation_data"):
                report = self._measure(self.validation, interrupt)
            if interrupt.asked:
                return
            self.numbers |= {f"val_{name}": value for name, value in report.scalars.items()}
        self._finish_epoch()

    def _train_epoch(self, interrupt: Interrupt) -> None:
        for metric in self.metrics:
            metric.reset()
        self._tell("on_epoch_begin")
        self.loader.epoch = self.first_pass + self.epoch
        for batch in self._steps.batches():
            self._steps.train(batch)
            self._tell("on_batch_end")
            if interrupt.asked:
                break
        self._steps.settle()

    def _finish_epoch(self) -> None:
        self.history.append(self.numbers)
        self.epoch, self.passes = self.epoch + 1, self.first_pass + self.epoch + 1
        self.batch, self.samples, self.loss_sum, self.numbers = 0, 0, 0.0, {}
        self._tell("on_epoch_end")

    def indices(self) -> np.ndarray:
        """Data-set numbers of the samples in the batch under way."""
        return batch_indices(self.loader, self.first_pass + self.epoch, self.batch)

    def _tell(self, moment: str) -> None:
        for callback in self.running_callbacks:
            getattr(callback, moment)(self)

    def forward(self, x: Any, y: Any, indices: Callable[[], np.ndarray]) -> tuple[Tensor, Any, Tensor]:
        """Outputs, targets where the model is, and the loss; an error about values names the sample."""
        device = model_device(self.model)
        y = to_device(y, device)
        outputs = self.model(to_device(x, device))
        if outputs is None:
            raise ArgumentError(f"{type(self.model).__name__}.forward() returned None: is there a return?")
        try:
            loss = self.loss(outputs, y)
        except DataError as error:
            blame_sample(error, self.loss, outputs, y, indices())
            raise
        check_loss(loss)
        return outputs, y, loss

    # --- evaluation ---

    def evaluate(self, x: Any, y: Any = None, batch_size: int = 128) -> Report:
        """Loss (mean over samples) and metrics on ``(x, y)``, a Dataset or a Loader, in evaluation mode.

        Nothing changes: neither weights, statistics, nor the model's mode. Errors about values name the
        sample.
        """
        return self._measure(as_loader(x, y, batch_size), Interrupt())

    def _measure(self, loader: Loader, interrupt: Interrupt) -> Report:
        """The report; of no use when Ctrl-C came."""
        metrics = copy.deepcopy(self.metrics)  # in the others an epoch may be under way
        for metric in metrics:
            metric.reset()
        loss_sum, n = 0.0, 0
        with evaluating(self.model):
            for i, (x, y) in enumerate(one_pass(loader)):
                if interrupt.asked:
                    break
                where = partial(batch_indices, loader, loader.epoch, i)
                outputs, y, loss = _measured(partial(self.forward, indices=where), x, y)
                for metric in metrics:
                    metric.update(outputs.data, y)
                loss_sum, n = loss_sum + float(loss.item()) * len(x), n + len(x)
        return Report(loss_sum / max(n, 1), n, {metric.name: metric.result() for metric in metrics})

    def predict(self, x: Any, batch_size: int = 128) -> np.ndarray:
        """Outputs for inputs ``x`` (N, ...), or for those of a Dataset or Loader: a NumPy array (N, ...).

        They are probabilities when the loss takes logits: softmax for class labels, sigmoid for
        BCEWithLogits; otherwise the model's own outputs.
        """
        device, loader = model_device(self.model), input_loader(x, batch_size)
        with evaluating(self.model):
            outputs = (_measured(lambda x: self.model(to_device(x, device)), x) for x, _ in one_pass(loader))
            return np.concatenate([host(probabilities(self.loss, o).data) for o in outputs])

    def _interrupted_text(self, checkpoint: Path | None) -> str:
        where = f"interrupted in epoch {self.epoch + 1} after {self.batch} of {self.batches} batches"
        if self.epoch == self.epochs:
            where = "interrupted after the last epoch"
        saved = f"; fit(..., resume={os.fspath(checkpoint)!r}) goes on" if checkpoint is not None else ""
        return f"{where}; the weights are kept{saved}"


def _measured(work: Callable[..., Any], *batch: Any) -> Any:
    """``work(*batch)`` without gradients; when the GPU is too small for it, the error says what would fit."""
    return in_memory(
        partial(work, *batch), lambda n: work(*(a[:n] for a in batch)), lambda: None, len(batch[0])
    )


def _extras(schedule: Any, checkpoint: Path | None) -> list[Callback]:
    extras: list[Callback] = []
    if schedule is not None:
        extras.append(schedule if isinstance(schedule, LearningRate) else LearningRate(schedule))
    if checkpoint is not None:
        extras.append(Checkpoint(checkpoint))
    return extras
