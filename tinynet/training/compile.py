"""``tn.compile``: a training step as a single call to the GPU, instead of one call for each kernel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tinynet.backend import device as device_name
from tinynet.data import DeviceLoader
from tinynet.errors import ArgumentError
from tinynet.training.feed import Feed, FromLoader, Given, common_device, detached, in_groups
from tinynet.training.recording import Recordings, Step, each_step


def compile(step: Step, device: str | None = None) -> CompiledStep:
    """``step(*inputs)`` as a function that is recorded on a GPU, and from then on repeated with one call::

        @tn.compile
        def step(x, y):
            loss = ops.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

    The results are those of ``step`` itself, bit for bit. Learning rates, step counts and the random numbers
    of dropout go on as they would; after each call gradients, running statistics and counters are those of
    that call. On the CPU ``step`` simply runs.

    ``device`` is where the step computes: without it, where its inputs are. Inputs (arrays, tensors, and
    settings, which are numbers, strings or None) are copied there. On a GPU the first calls run as they are;
    then the step is recorded, once for each combination of shapes, dtypes and settings, and anew when arrays
    of parameters or of the optimiser, modes or settings of layers have changed.

    What it returns (tensors, arrays, or tuples, lists and dicts of them) lies on the GPU and comes without
    a graph; **the next call writes over it**: take numbers out, or copy, before that.

    Python code of the step runs only while it is recorded. So it must not look at values (``float(loss)``,
    ``print``, ``if loss > 1``) nor count by itself: where that can be seen, it raises
    :class:`~tinynet.errors.CaptureError`, with model and optimiser as they were. A step that adds to
    gradients from before it (without ``zero_grad``) is not recorded, but run as it is.
    """
    return CompiledStep(step, device)


class CompiledStep:
    """What :func:`compile` returns; see there."""

    def __init__(self, step: Step, device: str | None = None):
        if not callable(step):
            raise ArgumentError(f"tn.compile takes a function, got {step!r}. Hand it over without calling it")
        self._step = step
        self._device = None if device is None else device_name(device)
        self._recordings = Recordings(step)

    def __call__(self, *inputs: Any) -> Any:
        """One step."""
        return self._given([inputs])[0]

    def run(self, batches: Iterable[tuple], steps: int = 1) -> Iterator[Any]:
        """A step for each batch, a tuple of inputs; yields what each returns.

        On a GPU ``steps`` of them (of equal shapes) are recorded together and launched with one call. The
        batches of a :class:`tinynet.data.DeviceLoader` are made inside of the recording, which then can hold
        a whole epoch.
        """
        if steps < 1:
            raise ArgumentError(f"steps={steps!r}: give a number of at least 1")
        if isinstance(batches, DeviceLoader) and batches.device != "cpu":
            yield from self._run_loader(batches, steps)
            return
        for group in in_groups(batches, steps):
            yield from self._given(group)

    def _run_loader(self, loader: DeviceLoader, steps: int) -> Iterator[Any]:
        epoch = loader.epoch
        loader.start(epoch)
        sizes = list(loader.sizes())
        while sizes:
            count = min(steps, sizes.count(sizes[0]))
            yield from self._do(FromLoader(loader, sizes[0], count))
            del sizes[:count]
        loader.epoch = epoch + 1

    def _given(self, group: list[tuple]) -> list[Any]:
        device = self._device or common_device(group[0])
        if device == "cpu":
            return [detached(self._step(*inputs)) for inputs in group]
        return self._do(Given(group, device))

    def _do(self, feed: Feed) -> list[Any]:
        """The results of the steps that ``feed`` has inputs for."""
        results = self._recordings.replay(feed)
        if results is None:
            with self._recordings.watching(feed) as witness:
                results = each_step(self._step, feed, witness)
        return results
