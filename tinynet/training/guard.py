"""What ``fit`` does about NaN and infinity: notice them, find their source, go back to good weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from tinynet import random
from tinynet.autograd import no_grad
from tinynet.backend import array_module, host, to_device
from tinynet.errors import DataError
from tinynet.nn.module import Module
from tinynet.optim import Optimizer
from tinynet.tensor import Tensor
from tinynet.training.passes import model_device

State = dict[str, Any]  # names and arrays or numbers, as state_dict() returns them


class LastGood:
    """The last state that is known to be good, at next to no cost.

    Weights with a finite loss and finite gradients are copied every ``KEEP_EVERY`` batches. What a forward
    pass changes (running statistics, the random stream) is copied before every batch; it is small.
    """

    KEEP_EVERY = 50

    def __init__(self, model: Module, optimizer: Optimizer):
        self._model, self._optimizer = model, optimizer
        self._weights: tuple[State, State] | None = None
        self._buffers = [(array, array.copy()) for _, array in model.named_buffers()]
        self._random = random.get_state()

    def before_batch(self) -> None:
        """Note what the forward pass is about to change."""
        for live, kept in self._buffers:
            kept[...] = live
        self._random = random.get_state()

    def keep(self) -> None:
        """Copy weights and optimiser state; the loss and gradients they give were finite."""
        self._weights = self._model.state_dict(), self._optimizer.state_dict()  # copies

    def take(self, weights: tuple[State, State]) -> None:
        """Copies of weights and optimiser state that were found to be good."""
        self._weights = weights

    def undo_forward(self) -> None:
        """Take back what the forward pass of the current batch changed."""
        for live, kept in self._buffers:
            live[...] = kept
        random.set_state(self._random)

    def recover(self, x: Any, y: Any, indices: Any, loss: float) -> str:
        """Undo the batch (x, y), whose loss or gradients are not finite, and tell where that came from.

        Weights that gave an infinite loss on sound data are not good: the copied ones come back. Without
        any yet they are the very first ones, and stay. ``indices`` are the data-set numbers of the samples.
        """
        self.undo_forward()
        if what := bad_data(x, y, indices):
            return what
        if math.isfinite(loss):
            return f"The gradient of {bad_gradients(self._model)} is NaN or infinite; the step was not taken."
        layer = first_bad_layer(self._model, to_device(x, model_device(self._model)))
        self.undo_forward()
        if self._weights is not None:
            self._model.load_state_dict(self._weights[0])
            self._optimizer.load_state_dict(self._weights[1])
            return f"{_source(layer)} {_diverged(self._optimizer.lr)}"
        return f"{_source(layer)} It is the first batch, so no step of this fit was taken; look there."


def _source(layer: str) -> str:
    source = f"first came out of {layer}" if layer else "came from the loss itself: the outputs are finite"
    return f"The data of the batch are sound; NaN or infinity {source}."


def _diverged(lr: float) -> str:
    return (
        f"The last good weights were put back. Is the learning rate ({lr:g}) too high? A lower one or "
        "clip_norm=1.0 helps."
    )


def all_finite(array: Any) -> bool:
    """Whether an array holds neither NaN nor infinity; integers never do."""
    if array.dtype.kind != "f":
        return True
    return bool(array_module(array).isfinite(array).all())


def gradients_finite(parameters: Iterable[Tensor]) -> bool:
    """Whether all gradients are finite: one pass of multiply and add over them, nothing is allocated."""
    grads = [p.grad for p in parameters if p.grad is not None]
    squares = sum(array_module(g).vdot(g, g) for g in grads)
    return math.isfinite(float(squares)) or all(map(all_finite, grads))  # finite squares may overflow


def bad_rows(array: Any) -> np.ndarray:
    """Positions along the first axis at which an array holds NaN or infinity."""
    array = host(array)
    if array.dtype.kind != "f":
        return np.empty(0, np.intp)
    return np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))


def bad_data(x: Any, y: Any, indices: Any) -> str:
    """A sentence that names the samples of a batch that are not finite, by data-set index; "" if all are."""
    for what, array in (("input", x), ("target", y)):
        rows = bad_rows(array)
        if len(rows):
            return f"The {what} of {name_samples(rows, indices)} holds NaN or infinity; repair or drop it."
    return ""


def name_samples(rows: np.ndarray, indices: Any) -> str:
    """``sample 17``, or ``samples 17, 99 and 3 more``: rows of a batch in the data set's own counting."""
    numbers = [int(r) if indices is None else int(indices[r]) for r in rows]
    if len(numbers) == 1:
        return f"sample {numbers[0]}"
    more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
    return f"samples {', '.join(map(str, numbers[:5]))}{more}"


def first_bad_layer(model: Module, x: Any) -> str:
    """Path and kind of the first layer whose output is not finite, by another forward pass; "" if none."""
    found: list[str] = []

    def watch(path: str) -> Any:
        def look(module: Module, inputs: tuple, output: Any) -> None:
            if not found and not _output_finite(output):
                found.append(f"{path or 'the model'} ({type(module).__name__})")

        return look

    handles = [module.register_forward_hook(watch(path)) for path, module in model.named_modules()]
    try:
        with no_grad(), np.errstate(all="ignore"):
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else ""


def _output_finite(output: Any) -> bool:
    tensors = output if isinstance(output, (tuple, list)) else (output,)
    return all(all_finite(t.data) for t in tensors if isinstance(t, Tensor))


def bad_gradients(model: Module) -> str:
    """Paths of the parameters whose gradients are not finite; backward met the last of them first."""
    paths = [path for path, p in model.named_parameters() if p.grad is not None and not all_finite(p.grad)]
    return paths[-1] if paths else ""


def blame_sample(error: DataError, loss: Any, outputs: Tensor, y: Any, indices: Any) -> None:
    """Put the number of the first sample that fails by itself in front of the text of ``error``."""
    for row in range(len(outputs)):
        try:
            with no_grad():
                loss(outputs.detach()[row : row + 1], y[row : row + 1])
        except DataError:
            error.args = (
                f"sample {int(indices[row])} of the data, in place {row} of its batch: {error.args[0]}",
            )
            return
