"""What names and data may be given to the trainer, and what they stand for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tinynet import ops
from tinynet.backend import host, is_array
from tinynet.data import Loader
from tinynet.errors import ArgumentError, DataError, DTypeError, ShapeError
from tinynet.metrics import Accuracy, Metric
from tinynet.nn import BCEWithLogits, CrossEntropy, Dice, DiceCrossEntropy, Focal, Module
from tinynet.optim import SGD, Optimizer
from tinynet.optim import get as optimizer_class
from tinynet.tensor import Tensor
from tinynet.training.callbacks import Callback

MakeOptimizer = Callable[[list[Any]], Optimizer]

SGD_LR = 0.01  # for "sgd" without lr=; the other optimisers have rates of their own


def optimizer_maker(optimizer: Any, lr: float | None) -> MakeOptimizer:
    """A function from parameters to an optimiser, out of a name, a class, a function, or a ready optimiser.

    Raises :class:`ArgumentError` for a wrong name, and for ``lr`` together with a ready optimiser.
    """
    if isinstance(optimizer, Optimizer):
        if lr is not None:
            raise ArgumentError(
                f"lr={lr} goes with an optimiser given by name; this one has its own, {optimizer.lr}"
            )
        return lambda params: optimizer
    make = optimizer if callable(optimizer) else optimizer_class(optimizer)
    if lr is None and make is SGD:
        lr = SGD_LR
    settings = {} if lr is None else {"lr": lr}
    return lambda params: make(params, **settings)


def probabilities(loss: Any, outputs: Tensor) -> Tensor:
    """Model outputs (..., K) as the probabilities which ``loss`` sees in them, or as they are.

    Softmax over the last axis for the losses of class labels, sigmoid for yes or no (and for a single logit).
    """
    if _is_binary(loss):
        return ops.sigmoid(outputs)
    if _is_of_labels(loss):
        return ops.softmax(outputs) if outputs.shape[-1] > 1 else ops.sigmoid(outputs)
    return outputs


def default_metrics(loss: Any) -> list[Metric]:
    """What is measured when nothing was asked for: the accuracy, where there are classes."""
    return [Accuracy()] if _is_binary(loss) or _is_of_labels(loss) else []


def _is_binary(loss: Any) -> bool:
    return isinstance(loss, BCEWithLogits) or loss is ops.bce_with_logits


def _is_of_labels(loss: Any) -> bool:
    functions = (ops.cross_entropy, ops.dice, ops.focal)
    return isinstance(loss, (CrossEntropy, Dice, DiceCrossEntropy, Focal)) or loss in functions


def check_built(model: Module) -> None:
    """Raise :class:`ArgumentError` for layers that ``forward`` did not come through, and have no size."""
    unused = [name for name, p in model.named_parameters() if p.data is None]
    if unused:
        raise ArgumentError(
            f"{', '.join(unused)} found no size: forward() does not use the layer. Take it out, or give the "
            "number of its input features (in_features= or in_channels=)"
        )


def check_optimizer(optimizer: Optimizer, model: Module) -> None:
    """Raise :class:`ArgumentError` for the optimiser of another model, or of what the model was before.

    One that holds a part of the model only is fine, and so is one with parameters of the loss.
    """
    held, named = {id(p) for p in optimizer.params}, list(model.named_parameters())
    lacking = [name for name, p in named if p.requires_grad and id(p) not in held]
    if lacking and held - {id(p) for _, p in named}:
        raise ArgumentError(
            f"the optimiser has parameters that are not in the model, and lacks {', '.join(lacking[:3])}"
            f"{', ...' if len(lacking) > 3 else ''}: was a layer replaced? Make it anew: "
            f"optim.{type(optimizer).__name__}(model.parameters())"
        )


def sample_shape(loader: Loader) -> tuple[int, ...]:
    """The shape of one input; :class:`ShapeError` when that is a single number."""
    shape = loader.take(np.arange(1))[0].shape[1:]
    if not shape:
        raise ShapeError(
            f"x has shape ({len(loader.dataset)},), one number per sample. Nets take rows of them: x[:, None]"
        )
    return shape


def checked_callbacks(callbacks: Iterable[Callback]) -> list[Callback]:
    """A list of callback objects; :class:`ArgumentError` for anything else."""
    callbacks = [callbacks] if isinstance(callbacks, Callback) else list(callbacks)
    for callback in callbacks:
        if not isinstance(callback, Callback):
            name = getattr(callback, "__name__", type(callback).__name__)
            raise ArgumentError(
                f"{name} is no Callback object. A class is called first: {name}(...); a function is wrapped: "
                f"LambdaCallback(on_epoch_end={name})"
            )
    return callbacks


def check_epochs(epochs: Any) -> None:
    """Raise :class:`ArgumentError` unless ``epochs`` is a whole number of at least 0."""
    if isinstance(epochs, bool) or not isinstance(epochs, (int, np.integer)) or epochs < 0:
        raise ArgumentError(f"epochs={epochs!r}: give a whole number of at least 0")


def check_loss(loss: Any) -> None:
    """Raise :class:`ArgumentError` unless ``loss`` is a tensor that holds a single number."""
    if not isinstance(loss, Tensor):
        raise ArgumentError(f"the loss returned {loss!r}, not a tensor: compute it with tensors throughout")
    if loss.size != 1:
        raise ArgumentError(f"the loss has shape {loss.shape}, not a single number: use reduction='mean'")


def as_loader(x: Any, y: Any = None, batch_size: int = 32, *, shuffle: bool = False, seed: int = 0) -> Loader:
    """A loader over ``(x, y)``, a Dataset, or the loader itself, which keeps its own batch size and order.

    Raises :class:`DataError` when the targets are missing, or given twice, and what :class:`Loader` raises.
    """
    if isinstance(x, (Loader, tuple)) or _is_dataset(x):
        if y is not None:
            raise DataError(
                f"x is a {type(x).__name__}, which brings its own targets: leave out y. (A model of several "
                "inputs needs a loop of its own.)"
            )
    elif y is None:
        raise DataError(
            f"y is missing: got inputs alone ({type(x).__name__}). Give both: x, y, or a pair (x, y). "
            "A dataset of your own is a subclass of tn.data.Dataset"
        )
    else:
        x = (x, y)
    if isinstance(x, Loader):
        return x
    data = tuple(map(_host, x)) if isinstance(x, tuple) else x
    return Loader(data, batch_size, shuffle=shuffle, seed=seed)


def input_loader(x: Any, batch_size: int) -> Loader:
    """A loader for inputs alone (arrays, lists, tensors), or for data that happen to have targets as well."""
    if isinstance(x, Loader) and x.shuffle:
        raise ArgumentError("predict answers in the order of the data: give a Loader with shuffle=False")
    if isinstance(x, (Loader, tuple)) or _is_dataset(x):
        return as_loader(x, None, batch_size)
    array = np.asarray(_host(x))
    if array.ndim == 0:
        raise DTypeError(
            f"predict needs an array with one entry per sample, got a value of type {type(x).__name__}"
        )
    return Loader((array, np.zeros(len(array))), batch_size)


def _is_dataset(x: Any) -> bool:
    return hasattr(x, "batch") and hasattr(x, "__len__")


def _host(array: Any) -> Any:
    """Tensors and GPU arrays as NumPy arrays; the rest is for the dataset to look at."""
    if isinstance(array, Tensor):
        return array.numpy()
    return host(array) if is_array(array) else array
