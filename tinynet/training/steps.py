"""How ``fit`` gets through an epoch, one batch after the other, as it looks at each of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from tinynet.errors import NotFiniteError, TinynetError
from tinynet.optim import clip_grad_norm
from tinynet.training.guard import LastGood, gradients_finite
from tinynet.training.memory import in_memory

if TYPE_CHECKING:
    from tinynet.training.trainer import Trainer


class Steps:
    """The batches of an epoch, and the training step for each.

    A loss or a gradient that is not finite ends the training.
    """

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self.good = LastGood(trainer.model, trainer.optimizer)

    def batches(self) -> Iterator[Any]:
        """What :meth:`train` takes; a resumed epoch goes on where it stopped."""
        return islice(self.trainer.loader, self.trainer.batch, None)

    def train(self, batch: Any) -> None:
        """One step; when it is too large for the GPU, the error names a batch size that would fit."""
        trainer, optimizer = self.trainer, self.trainer.optimizer

        def trial(n: int) -> None:
            x, y = trainer.loader.take(trainer.indices()[:n])
            trainer.forward(x, y, trainer.indices)[2].backward()

        def undo() -> None:
            optimizer.zero_grad()
            self.good.undo_forward()

        count = batch if isinstance(batch, int) else len(batch[0])
        reserve = 0 if trainer.steps else _first_arrays(optimizer)
        in_memory(lambda: self._train(*self.fetch(batch)), trial, undo, count, reserve)

    def fetch(self, batch: Any) -> Any:
        """The inputs and targets of a batch of :meth:`batches`."""
        return batch

    def settle(self) -> None:
        """All that was trained so far is looked at."""

    def _train(self, x: Any, y: Any) -> None:
        trainer = self.trainer
        self.good.before_batch()
        try:
            outputs, y_there, loss = trainer.forward(x, y, trainer.indices)
        except TinynetError:
            self.good.undo_forward()
            raise
        trainer.batch_loss = float(loss.item())
        trainer.optimizer.zero_grad()
        loss.backward()
        if not (math.isfinite(trainer.batch_loss) and gradients_finite(trainer.optimizer.params)):
            self._stop_not_finite(x, y)
        if trainer.steps % LastGood.KEEP_EVERY == 0:
            self.good.keep()
        self.update()
        for metric in trainer.metrics:
            metric.update(outputs.data, y_there)
        trainer.loss_sum += trainer.batch_loss * len(x)
        self.count(len(x))

    def update(self) -> None:
        """Gradients into weights."""
        if self.trainer.clip_norm is not None:
            clip_grad_norm(self.trainer.optimizer.params, self.trainer.clip_norm)
        self.trainer.optimizer.step()

    def count(self, samples: int) -> None:
        """One batch more is done."""
        trainer = self.trainer
        trainer.batch, trainer.steps = trainer.batch + 1, trainer.steps + 1
        trainer.samples += samples

    def _stop_not_finite(self, x: Any, y: Any) -> None:
        trainer = self.trainer
        where = f"epoch {trainer.epoch + 1}, batch {trainer.batch + 1} of {trainer.batches}"
        what = self.good.recover(x, y, trainer.indices(), trainer.batch_loss)
        raise NotFiniteError(f"{where}: the loss is {trainer.batch_loss:g}. {what}")


def _first_arrays(optimizer: Any) -> int:
    """Bytes that the first step takes for good: the optimiser's arrays, and a copy of all there is."""
    return sum(p.data.nbytes for p in optimizer.params) * (1 + 2 * len(optimizer.slots))
