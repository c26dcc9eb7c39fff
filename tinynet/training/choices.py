"""What names and data may be given to the trainer, and what they stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinynet import ops
from tinynet.backend import host, is_array
from tinynet.data import Loader
from tinynet.errors import ArgumentError, DataError, DTypeError
from tinynet.nn import BCEWithLogits, CrossEntropy, Dice, DiceCrossEntropy, Focal
from tinynet.optim import SGD, Optimizer
from tinynet.optim import get as optimizer_class
from tinynet.tensor import Tensor

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
    if isinstance(loss, BCEWithLogits) or loss is ops.bce_with_logits:
        return ops.sigmoid(outputs)
    if isinstance(loss, (CrossEntropy, Dice, DiceCrossEntropy, Focal)) or loss in _OF_LABELS:
        return ops.softmax(outputs) if outputs.shape[-1] > 1 else ops.sigmoid(outputs)
    return outputs


_OF_LABELS = (ops.cross_entropy, ops.dice, ops.focal)


def as_loader(
    x: Any, y: Any = None, batch_size: int = 32, *, shuffle: bool = False, seed: int = 0, name: str = "x"
) -> Loader:
    """A loader over ``(x, y)``, a Dataset, or the loader itself, which keeps its own batch size and order.

    Raises :class:`DataError` when the targets are missing, or given twice, and what :class:`Loader` raises.
    """
    if isinstance(x, (Loader, tuple)) or _is_dataset(x):
        if y is not None:
            raise DataError(f"{name} is a {type(x).__name__}, which brings its own targets: leave out y")
    elif y is None:
        raise DataError(f"y is missing: {name} is a {type(x).__name__} of inputs; give their targets as well")
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
