"""Datasets: samples by number, handed out in batches that are ready for a net."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from tinynet.backend import host, is_array
from tinynet.data.seeding import check_seed, sample_keys
from tinynet.errors import DataError, DTypeError, NotFiniteError, ShapeError, TinynetError

Batch = tuple[np.ndarray, np.ndarray]
Indices = Sequence[int] | np.ndarray


class Dataset:
    """Inputs and targets in memory, or the base of a dataset of your own.

    ``Dataset(x, y)`` takes two arrays of equal length: x (n, ...) numbers, y (n, ...) labels or targets.
    Integer pictures stay as they are in memory; :meth:`batch` turns them into float32, 8-bit numbers
    divided by 255. ``transform`` is a :class:`tinynet.data.transforms.Transform`, or any function of a
    batch x; ``seed`` seeds its random choices, which for sample i of epoch e depend on (seed, e, i) alone.

    A subclass defines ``__len__``, and either ``__getitem__(i)`` returning one pair (x, y), or ``batch``.

    Raises :class:`ShapeError` for lengths that differ, :class:`DataError` for no samples,
    :class:`DTypeError` for objects and text, :class:`NotFiniteError` for NaN and infinities; the last two
    name the sample.
    """

    transform: Any = None
    seed: int = 0
    epoch: int = 0

    def __init__(self, x: Any, y: Any, transform: Callable | None = None, seed: int = 0):
        self.x, self.y = _checked_inputs(x), _checked_targets(y)
        if len(self.x) != len(self.y):
            raise ShapeError(f"x has {len(self.x)} samples and y has {len(self.y)}; need one target for each")
        self.transform, self.seed = transform, check_seed(seed)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Any) -> Batch:
        """One pair (x, y) for a number, a batch for a slice or an array of numbers."""
        if isinstance(index, int | np.integer):
            x, y = self.batch([_in_range(int(index), len(self))])
            return x[0], y[0]
        return self.batch(np.arange(len(self))[index])

    def batch(self, indices: Indices) -> Batch:
        """The samples with these numbers: x (n, ...) in float32, transformed, and y (n, ...)."""
        x, y = self.gather(np.asarray(indices))
        return self.transformed(x, y, np.asarray(indices))

    def gather(self, indices: np.ndarray) -> Batch:
        """As :meth:`batch`, before the transform."""
        if type(self).__getitem__ is not Dataset.__getitem__:  # a subclass that gives single samples
            return gather_items(self, indices)
        return as_input(self.x[indices]), self.y[indices]

    def transformed(self, x: np.ndarray, y: np.ndarray, indices: np.ndarray) -> Batch:
        """Apply the transform, if there is one, with the random numbers of this epoch and these samples."""
        if self.transform is None:
            return x, y
        if not hasattr(self.transform, "apply"):
            return _same_samples(self.transform(x), x), y
        keys = sample_keys(self.seed, self.epoch, indices % len(self))
        if not is_mask(x, y):
            return self.transform.apply(x, None, keys)[0], y
        return self.transform.apply(x, y, keys)

    def start_epoch(self, epoch: int) -> None:
        """Called before each pass over the data: random choices are made anew, a function of ``epoch``."""
        self.epoch = int(epoch)

    def with_transform(self, transform: Callable | None, seed: int = 0) -> Dataset:
        """The same samples seen through ``transform``; nothing is copied, and this dataset stays as it is."""
        other = copy.copy(self)
        other.transform, other.seed = transform, check_seed(seed)
        return other

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} samples)"


def _same_samples(new: Any, old: np.ndarray) -> np.ndarray:
    """What a transform made of the batch ``old``, if it is a batch of as many."""
    if not isinstance(new, np.ndarray) or new.shape[:1] != old.shape[:1]:
        what = f"shape {new.shape}" if isinstance(new, np.ndarray) else _kind(new)
        raise ShapeError(
            f"the transform got a batch of shape {old.shape} and returned {what}; it must return an array "
            "with as many samples"
        )
    return new


class Subset(Dataset):
    """Some samples of another dataset, by their numbers; :func:`tinynet.data.split` makes them."""

    def __init__(self, dataset: Dataset, indices: Indices):
        self.dataset, self.indices = dataset, np.asarray(indices, np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def gather(self, indices: np.ndarray) -> Batch:
        """The samples of the whole dataset, as it hands them out."""
        return self.dataset.batch(self.indices[indices])

    def start_epoch(self, epoch: int) -> None:
        """Pass the epoch on."""
        super().start_epoch(epoch)
        self.dataset.start_epoch(epoch)


def as_dataset(data: Any) -> Dataset:
    """A dataset from a dataset (anything with ``batch`` and a length) or from a pair of arrays (x, y)."""
    if hasattr(data, "batch") and hasattr(data, "__len__"):
        return data
    if isinstance(data, tuple) and len(data) == 2:
        return Dataset(*data)
    raise DTypeError(
        f"need a Dataset or a pair of arrays (x, y), got {_kind(data)}. "
        "For data of your own: class MyData(tn.data.Dataset) with __len__ and __getitem__"
    )


def is_mask(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether the targets y are pictures of the same size as x (n, H, W, C), to be warped along with it."""
    return x.ndim == 4 and y.ndim in (3, 4) and y.shape[:3] == x.shape[:3]


def as_input(x: np.ndarray) -> np.ndarray:
    """Inputs as a net takes them, float32: 8-bit numbers divided by 255, all others as they are."""
    if x.dtype == np.uint8:
        x = x.astype(np.float32)
        x /= np.float32(255)
        return x
    return x.astype(np.float32, copy=False)


def gather_items(dataset: Any, indices: Iterable[int]) -> Batch:
    """Ask for the samples one by one and stack them; whatever goes wrong, the error names the sample."""
    xs, ys = zip(*[_item(dataset, int(i)) for i in indices])
    return _stack(xs, indices, "input"), _stack(ys, indices, "target")


def _item(dataset: Any, index: int) -> Batch:
    try:
        item = dataset[index]
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise DataError(f"sample {index}: __getitem__ must return a pair (x, y), got {_kind(item)}")
        x, y = (np.asarray(part)[None] for part in item)
        return as_input(_numbers(x, "its input", index))[0], _numbers(y, "its target", index)[0]
    except TinynetError:
        raise
    except Exception as error:
        raise DataError(f"sample {index} cannot be read: {type(error).__name__}: {error}") from error


def _stack(items: Sequence[np.ndarray], indices: Iterable[int], what: str) -> np.ndarray:
    for item, index in zip(items, indices):
        if item.shape != items[0].shape:
            raise ShapeError(
                f"sample {index}: its {what} has shape {item.shape}, the first one of the batch has "
                f"{items[0].shape}; samples of a batch must have one shape"
            )
    return np.stack(items)


def _checked_inputs(x: Any) -> np.ndarray:
    return _numbers(_array(x, "x"), "x")


def _checked_targets(y: Any) -> np.ndarray:
    y = _numbers(_array(y, "y"), "y")
    return y.astype(np.int64) if y.ndim == 1 and y.dtype.kind in "iu" else y


def _array(value: Any, name: str) -> np.ndarray:
    try:
        array = host(value) if is_array(value) else np.asarray(value)
    except ValueError as error:  # a ragged list
        raise ShapeError(f"{name} is no array: its samples differ in shape ({error})") from error
    if array.ndim == 0:
        raise ShapeError(f"{name} is {_kind(value)}, need an array with one entry per sample")
    if len(array) == 0:
        raise DataError(f"{name} holds no samples: its shape is {array.shape}")
    return array


def _numbers(array: np.ndarray, name: str, first: int = 0) -> np.ndarray:
    """The array itself when it holds finite numbers, else an error that names the first bad sample.

    ``first`` is the number of the array's first sample.
    """
    if array.dtype.kind not in "biuf":
        advice = _ADVICE.get(array.dtype.kind, "need numbers")
        raise DTypeError(f"{name} holds {array.dtype} ({_kind(array.flat[0])} in sample {first}): {advice}")
    if array.dtype.kind == "f" and (bad := first_not_finite(array)) is not None:
        value = array[bad][~np.isfinite(array[bad])].flat[0]
        raise NotFiniteError(
            f"{name} holds {value} in sample {first + bad}; take such samples out, or repair them"
        )
    return array


_ADVICE = {
    "O": "need numbers in an array of one shape; samples may differ in size",
    "U": "need numbers; for class names: names, y = np.unique(y, return_inverse=True)",
    "S": "need numbers; for class names: names, y = np.unique(y, return_inverse=True)",
    "c": "need real numbers",
}


def first_not_finite(array: np.ndarray, step: int = 1024) -> int | None:
    """Number of the first sample with a NaN or an infinity, or None."""
    for start in range(0, len(array), step):
        part = array[start : start + step]
        if not np.isfinite(part).all():
            fine = np.isfinite(part).reshape(len(part), -1).all(axis=1)
            return start + int(np.argmin(fine))
    return None


def _in_range(index: int, count: int) -> int:
    if not -count <= index < count:
        raise IndexError(f"sample {index} of a dataset of {count}")
    return index


def _kind(value: object) -> str:
    return f"a value of type {type(value).__name__}"
