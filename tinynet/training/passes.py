"""Going over data with a model: modes, places, and which samples a batch holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinynet.autograd import no_grad
from tinynet.backend import gpu_memory
from tinynet.data import DeviceLoader, Loader
from tinynet.data.device import stored, why_not
from tinynet.errors import TinynetError
from tinynet.nn import Module


def is_built(model: Module) -> bool:
    """Whether all parameters have their sizes."""
    return all(parameter.data is not None for parameter in model.parameters())


def model_device(model: Module) -> str:
    """Where the weights are: "cpu" or "cuda:0" and so on."""
    parameter = next((p for _, p in model.named_parameters() if p.data is not None), None)
    return "cpu" if parameter is None else parameter.device


def on_its_device(loader: Loader, device: str) -> Loader:
    """The loader, or one with the same data on the GPU ``device`` where they can lie there as a whole.

    They may take a quarter of the memory that is free.
    """
    if type(loader) is not Loader or device == "cpu" or why_not(loader.dataset):
        return loader
    bytes_of = sum(a.nbytes for a in stored(loader.dataset))
    return loader if 4 * bytes_of > gpu_memory()[0] else DeviceLoader.like(loader, device)


@contextmanager
def kept_modes(model: Module) -> Iterator[None]:
    """After this block every module is in training or evaluation mode as it was before."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Evaluation mode, and nothing is recorded for gradients."""
    with kept_modes(model), no_grad():
        model.eval()
        yield


@contextmanager
def about(what: str) -> Iterator[None]:
    """Errors of this block say in front what they are about, such as "validation_data"."""
    try:
        yield
    except TinynetError as error:
        error.args = (f"{what}: {error.args[0]}", *error.args[1:])
        raise


def one_pass(loader: Loader) -> Iterator[tuple[Any, Any]]:
    """All batches, without counting the pass: the next one has the same data in the same order."""
    epoch = loader.epoch
    yield from loader
    loader.epoch = epoch


def batch_indices(loader: Loader, epoch: int, batch: int) -> np.ndarray:
    """Data-set numbers of the samples in one batch of one pass."""
    return loader.order(epoch)[batch * loader.batch_size :][: loader.batch_size]
