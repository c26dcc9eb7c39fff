"""The loader: goes over a dataset in batches, in an order that depends on seed and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tinynet.data.dataset import Batch, Dataset, as_dataset
from tinynet.data.seeding import check_seed
from tinynet.errors import ArgumentError, DataError, TinynetError


class Loader:
    """Batches (x, y) of NumPy arrays from a dataset, or from a pair of arrays.

    ``for x, y in Loader((images, labels), batch_size=64, shuffle=True): ...``

    The last batch may be smaller, unless ``drop_last``. ``loader.epoch`` counts the finished passes; it can
    be set, to go on where another run stopped: pass e always has the same order and the same random choices.
    Raises :class:`ArgumentError` for a batch size below 1, :class:`DataError` when there is no batch, and for
    an error inside the dataset, naming the samples.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 32,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
    ):
        if not isinstance(batch_size, int | np.integer) or isinstance(batch_size, bool) or batch_size < 1:
            raise ArgumentError(f"batch_size={batch_size!r}: a batch has at least 1 sample")
        self.dataset: Dataset = as_dataset(dataset)
        self.batch_size, self.shuffle, self.drop_last = int(batch_size), shuffle, drop_last
        self.seed, self.epoch = check_seed(seed), 0
        if len(self) == 0:
            raise DataError(self._why_empty())

    def __len__(self) -> int:
        """Number of batches in a pass."""
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def order(self, epoch: int) -> np.ndarray:
        """Numbers of the samples in the order of pass ``epoch``: (n,) int64."""
        if not self.shuffle:
            return np.arange(len(self.dataset))
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.dataset))

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.epoch
        self.dataset.start_epoch(epoch)
        order = self.order(epoch)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield self.take(order[start : start + self.batch_size])
        self.epoch = epoch + 1

    def take(self, indices: np.ndarray) -> Batch:
        """The samples with these numbers as one batch; whatever goes wrong, the error names them."""
        try:
            return self.dataset.batch(indices)
        except TinynetError:
            raise
        except Exception as error:
            some = ", ".join(map(str, indices[:4])) + (", ..." if len(indices) > 4 else "")
            raise DataError(
                f"the dataset failed on the batch of samples {some} in epoch {self.epoch}: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _why_empty(self) -> str:
        count = len(self.dataset)
        if count == 0:
            return "the dataset is empty: it has no samples"
        return f"drop_last leaves no batch: {count} samples, fewer than batch_size={self.batch_size}"

    def __repr__(self) -> str:
        return f"Loader({self.dataset!r}, {len(self)} batches of {self.batch_size})"
