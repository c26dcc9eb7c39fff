"""Data that live on a GPU: batches are picked, scaled and moved there, and the host copies nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tinynet import kernels
from tinynet.backend import Array, to_device
from tinynet.backend import device as device_name
from tinynet.data.dataset import Dataset, Subset, is_mask
from tinynet.data.loader import Loader
from tinynet.data.seeding import epoch_key
from tinynet.data.transforms import RandomAffine
from tinynet.errors import ArgumentError
from tinynet.kernels.live import live


class DeviceLoader(Loader):
    """A :class:`Loader` that keeps its data on ``device``, and makes its batches there: CuPy arrays (x, y).

    The same samples in the same order as a Loader with this seed. The data are those of a
    :class:`tinynet.data.Dataset` with arrays, or a pair of arrays; 8-bit pictures stay 8-bit numbers on the
    card. Of the transforms there is :class:`~tinynet.data.transforms.RandomAffine`, with the same random
    numbers (the last bits of the new pixels may differ). On "cpu" the batches are NumPy arrays.

    A step that is recorded (:func:`tinynet.compile`) takes its batches by itself: see ``run`` there.

    Raises :class:`ArgumentError` for data that are not in memory and for other transforms.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 32,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        device: str = "cuda",
    ):
        super().__init__(dataset, batch_size, shuffle, drop_last, seed)
        if reason := why_not(self.dataset):
            raise ArgumentError(f"DeviceLoader: {reason}")
        self._lay_out(device)

    @classmethod
    def like(cls, loader: Loader, name: str) -> DeviceLoader:
        """The data of ``loader`` on device ``name``, with its order and its place."""
        settings = loader.batch_size, loader.shuffle, loader.drop_last, loader.seed
        other = cls(loader.dataset, *settings, device=name)
        other.epoch = loader.epoch
        return other

    def _lay_out(self, name: str) -> None:
        x, y = stored(self.dataset)
        self.device = device_name(name)
        self._x, self._y = (to_device(np.ascontiguousarray(a), self.device) for a in (x, y))
        self._order = to_device(np.arange(len(x), dtype=np.int32), self.device)
        self._place = self._key = 0

    def start(self, epoch: int, batch: int = 0) -> None:
        """Have :meth:`next_batch` begin with this batch of pass ``epoch``."""
        self.dataset.start_epoch(epoch)
        self._order[...] = to_device(self.order(epoch).astype(np.int32), self.device)
        self._place = batch * self.batch_size
        self._key = epoch_key(self.dataset.seed, epoch)

    def sizes(self, batch: int = 0) -> Iterator[int]:
        """Number of samples in each batch of a pass, from this batch on."""
        end = len(self.dataset)
        for i in range(batch, len(self)):
            yield min(self.batch_size, end - i * self.batch_size)

    def next_batch(self, count: int) -> tuple[Array, Array]:
        """The next ``count`` samples of the pass; in a recorded step, those next at each replay."""
        return self._gather(self._order, live(lambda: self._advance(count)), count)

    def _advance(self, count: int) -> int:
        before, self._place = self._place, self._place + count
        return before

    def _gather(self, order: Array, place: Any, count: int) -> tuple[Array, Array]:
        y = kernels.gather(self._y, order, place, count, False)
        move = self.dataset.transform
        if move is None or move.is_identity():
            return kernels.gather(self._x, order, place, count, True), y
        key = live(lambda: self._key)
        amounts = move.rotation, move.shear, move.scale, move.shift
        return kernels.gather_warped(self._x, order, place, count, key, amounts, move.fill), y

    def __iter__(self) -> Iterator[Any]:
        epoch = self.epoch
        self.start(epoch)
        for count in self.sizes():
            yield self.next_batch(count)
        self.epoch = epoch + 1

    def take(self, indices: np.ndarray) -> tuple[Array, Array]:
        """The samples with these numbers as one batch."""
        order = to_device(np.asarray(indices, np.int32), self.device)
        return self._gather(order, 0, len(indices))

    def nbytes(self) -> int:
        """What the data take of the device's memory."""
        return self._x.nbytes + self._y.nbytes + self._order.nbytes


def why_not(dataset: Dataset) -> str:
    """Why a data set cannot lie on a device as a whole; "" when it can."""
    inner = dataset
    while type(inner) is Subset:
        inner = inner.dataset
        if inner.transform is not None:
            return "a transform under a Subset cannot be done there; give it to the Subset"
    if type(inner) is not Dataset:
        return f"the data must be arrays in memory; a {type(inner).__name__} makes its samples one by one"
    if dataset.transform is None or (type(dataset.transform) is RandomAffine and _are_pictures(inner)):
        return ""
    return "of the transforms only RandomAffine of pictures can be done there, and not that of masks"


def _are_pictures(dataset: Dataset) -> bool:
    return dataset.x.ndim == 4 and not is_mask(dataset.x[:1], dataset.y[:1])


def stored(dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    """All samples as they are in memory: 8-bit inputs, or float32."""
    if type(dataset) is Subset:
        x, y = stored(dataset.dataset)
        return x[dataset.indices], y[dataset.indices]
    x, y = dataset.x, dataset.y
    return x if x.dtype == np.uint8 else x.astype(np.float32, copy=False), y
