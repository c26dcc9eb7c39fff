"""How ``fit`` gets through an epoch on a GPU: the step is recorded, and the host does not wait for it."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tinynet import kernels, random
from tinynet.backend import array_module, is_array
from tinynet.data import DeviceLoader
from tinynet.errors import CaptureError
from tinynet.metrics.metric import Sums
from tinynet.optim import SGD, Adam, AdamW
from tinynet.training.feed import Feed, FromLoader, Given
from tinynet.training.guard import LastGood, all_finite
from tinynet.training.passes import model_device, on_its_device
from tinynet.training.recording import Recordings
from tinynet.training.steps import Steps

if TYPE_CHECKING:
    from tinynet.training.trainer import Trainer


def steps_of(trainer: Trainer) -> Steps:
    """Recorded steps where that can be done: with a model in float32 on a GPU and an optimiser of ours."""
    arrays = [p.data for p in trainer.model.parameters()]
    fits = all(array.dtype == np.float32 for array in arrays) and arrays
    hooks = any(module._hooks for module in trainer.model.modules())
    known = type(trainer.optimizer) in (SGD, Adam, AdamW)
    recordable = model_device(trainer.model) != "cpu" and fits and known and not hooks
    return CapturedSteps(trainer) if recordable else Steps(trainer)


class CapturedSteps(Steps):
    """The same steps with the same results, recorded as a CUDA graph.

    Losses and metrics are counted on the GPU. Whether all is finite is looked at every so many batches, and
    at the end of an epoch. If it is not, the training goes back to where it was looked at last, and comes
    the same way again, batch by batch, up to the one where it happened.
    """

    LOOK_EVERY = LastGood.KEEP_EVERY

    def __init__(self, trainer: Trainer):
        super().__init__(trainer)
        self._recordings = Recordings(self._step)
        self._data: Any = on_its_device(trainer.loader, model_device(trainer.model))
        self._loss_sum = array_module(trainer.model.parameters()[0].data).zeros((), np.float64)
        self._sums: dict[tuple[int, int], Any] = {}  # of metrics: number of the metric and of the sum
        self._mark: _Mark | None = None

    # --- batches ---

    def batches(self) -> Iterator[Any]:
        """Batches, or the mere numbers of their samples where the data are on the GPU."""
        trainer, data = self.trainer, self._data
        if not isinstance(data, DeviceLoader):
            yield from super().batches()
            return
        epoch = trainer.loader.epoch
        data.seed = trainer.loader.seed
        data.start(epoch, trainer.batch)
        yield from data.sizes(trainer.batch)
        trainer.loader.epoch = epoch + 1

    def _feed(self, batch: Any) -> Feed:
        if isinstance(batch, int):
            return FromLoader(self._data, batch)
        return Given([batch], model_device(self.trainer.model))

    # --- one step ---

    def train(self, batch: Any) -> None:
        """One step, replayed if there is a recording that fits."""
        if self.trainer.steps % self.LOOK_EVERY == 0:
            self.settle()
        feed = self._feed(batch)
        if (results := self._replayed(feed)) is None:
            self.settle()
            with self._recordings.watching(feed):
                super().train(batch)
            return
        samples, self.trainer.batch_loss, (outputs, y), seen = results[0]
        self._count_metrics(seen, outputs, y)
        self.count(samples)

    def fetch(self, batch: Any) -> Any:
        """The inputs and targets of a batch, on the GPU."""
        return next(self._feed(batch).inputs())

    def _replayed(self, feed: Feed) -> list[Any] | None:
        if self._recordings.closed:
            return None
        self._prepare_sums()
        try:
            return self._recordings.replay(feed, self._before_replay)
        except (CaptureError, MemoryError) as error:
            self._recordings.closed = True
            warnings.warn(f"fit goes on without a recorded step, slower: {error}", stacklevel=2)
            return None

    def _before_replay(self) -> None:
        """Note what is needed to come this way again."""
        if self._mark is None:
            self._mark = _Mark(self.trainer)
        self._mark.rates.append(self.trainer.optimizer.lr)

    def _step(self, x: Any, y: Any) -> tuple[Any, ...]:
        """What is recorded: number of samples, loss, what other metrics are to see, and the sums of these."""
        trainer = self.trainer
        outputs, y, loss = trainer.forward(x, y, trainer.indices)
        trainer.optimizer.zero_grad()
        loss.backward()
        self.update()
        kernels.add_scaled(self._loss_sum, loss.data, len(x))
        seen = [self._add(i, metric, outputs.data, y) for i, metric in enumerate(trainer.metrics)]
        return len(x), loss.data, (outputs.data, y), seen

    # --- sums ---

    def _prepare_sums(self) -> None:
        """The sums so far, at the places on the GPU where a recorded step goes on with them."""
        trainer = self.trainer
        if trainer._loss_sum is not self._loss_sum:
            self._loss_sum[...] = trainer.loss_sum
            trainer.loss_sum = self._loss_sum
        for i, metric in enumerate(trainer.metrics):
            if isinstance(metric, Sums):
                metric.sums = [self._at_its_place((i, k), value) for k, value in enumerate(metric.sums)]

    def _at_its_place(self, key: tuple[int, int], value: Any) -> Any:
        """Sums that live on the GPU get a place there when they are first seen."""
        if key not in self._sums:
            if not is_array(value) or array_module(value) is np:
                return value
            self._sums[key] = array_module(value).zeros_like(value)
        place = self._sums[key]
        if value is not place:
            place[...] = value
        return place

    def _add(self, i: int, metric: Any, pred: Any, target: Any) -> list[Any] | None:
        """In the recorded step: add what is on the GPU; what is a number is added by the host each time."""
        if not isinstance(metric, Sums):
            return None
        terms = list(metric.terms(pred, target))
        for k, term in enumerate(terms):
            if is_array(term):
                self._sums[i, k] += term
                terms[k] = 0
        return terms

    def _count_metrics(self, seen: list[list[Any] | None], outputs: Any, y: Any) -> None:
        for metric, numbers in zip(self.trainer.metrics, seen):
            if numbers is None:  # it looks at values, or keeps them: the next replay writes over these
                metric.update(outputs.copy(), y.copy())
            elif isinstance(metric, Sums):
                metric.sums = [a + n if n else a for a, n in zip(metric.sums, numbers)]

    # --- looking ---

    def settle(self) -> None:
        """See whether all was finite since the last time; if not, find the batch where that ended."""
        mark, self._mark = self._mark, None
        if mark is None:
            return
        weights = (p.data for p in self.trainer.optimizer.params if p.grad is not None)
        if math.isfinite(self.trainer.loss_sum) and all(map(all_finite, weights)):
            self.good.take(mark.weights)
            return
        self._again(mark)

    def _again(self, mark: _Mark) -> None:
        """From the mark on, one batch after the other, each looked at."""
        trainer, lr = self.trainer, self.trainer.optimizer.lr
        mark.go_back(trainer)
        for rate in mark.rates:
            trainer.optimizer.lr = rate
            super().train(self._data.take(trainer.indices()))
        trainer.optimizer.lr = lr


class _Mark:
    """A place of the training to which it can go back, and the learning rates of the steps since."""

    COUNTERS = ("batch", "steps", "samples", "loss_sum")

    def __init__(self, trainer: Trainer):
        self.rates: list[float] = []
        self.weights = trainer.model.state_dict(), trainer.optimizer.state_dict()
        self._random = random.get_state()
        self._counters = {name: getattr(trainer, name) for name in self.COUNTERS}
        self._metrics = copy.deepcopy([vars(metric) for metric in trainer.metrics])

    def go_back(self, trainer: Trainer) -> None:
        """Make everything as it was."""
        trainer.model.load_state_dict(self.weights[0])
        trainer.optimizer.load_state_dict(self.weights[1])
        random.set_state(self._random)
        for name, value in self._counters.items():
            setattr(trainer, name, value)
        for metric, state in zip(trainer.metrics, self._metrics):
            vars(metric).update(state)
