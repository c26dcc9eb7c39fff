"""Where the inputs of a compiled step come from, and how they get into a recording."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tinynet.backend import device_of, is_array, to_device
from tinynet.data import DeviceLoader
from tinynet.errors import ArgumentError
from tinynet.tensor import Tensor


class Given:
    """Inputs that were handed in, for one step or for several: a tuple for each."""

    def __init__(self, groups: list[tuple], device: str):
        self.groups, self.device, self.count = groups, device, len(groups)
        self.key = device, tuple(map(signature, groups))

    def inputs(self) -> Iterator[tuple]:
        """Those of each step, on the device."""
        return (tuple(_placed(value, self.device) for value in group) for group in self.groups)

    def fixed(self) -> Given:
        """A copy on the device, at places that a recording can read from each time."""
        return Given(
            [mapped(g, lambda a: to_device(a, self.device).copy()) for g in self.groups], self.device
        )

    def take_over(self, other: Given) -> None:
        """Write the inputs of ``other`` to these places."""
        for mine, others in zip(self.groups, other.groups):
            for place, value in zip(mine, others):
                if (array := _array_of(place)) is not None:
                    array[...] = to_device(_array_of(value), self.device)


class FromLoader:
    """Inputs that a loader makes on its device: its next ``count`` batches, of ``size`` samples each."""

    def __init__(self, loader: DeviceLoader, size: int, count: int = 1):
        self.loader, self.size, self.count, self.device = loader, size, count, loader.device
        self.key = id(loader), size, count

    def inputs(self) -> Iterator[tuple]:
        """The batches, each made when its turn comes."""
        return (self.loader.next_batch(self.size) for _ in range(self.count))

    def fixed(self) -> FromLoader:
        """The same: the loader keeps its data at their places."""
        return self

    def take_over(self, other: FromLoader) -> None:
        """Nothing is to be copied."""


Feed = Given | FromLoader


def in_groups(batches: Iterable[tuple], size: int) -> Iterator[list[tuple]]:
    """Up to ``size`` batches at a time, those of a group with equal shapes."""
    group: list[tuple] = []
    for batch in map(tuple, batches):
        if group and (len(group) == size or signature(batch) != signature(group[0])):
            yield group
            group = []
        group.append(batch)
    if group:
        yield group


def signature(inputs: tuple) -> tuple:
    """What a recording is made for: kinds, shapes and dtypes of arrays, and all other values themselves."""
    return tuple(map(_kind, inputs))


def _kind(value: Any) -> Any:
    array = _array_of(value)
    if array is None and not (value is None or isinstance(value, (bool, int, float, str))):
        raise ArgumentError(
            f"a compiled step got a {type(value).__name__}. Its inputs are tensors, arrays, numbers, strings "
            "or None"
        )
    if isinstance(value, Tensor) and value.requires_grad:
        raise ArgumentError(
            "a compiled step got an input that requires a gradient. Inputs are data; what is learned stands "
            "in the model. Use .detach()"
        )
    return (
        (type(value), value) if array is None else (isinstance(value, Tensor), array.shape, array.dtype.str)
    )


def common_device(inputs: tuple) -> str:
    """Where the inputs are: on a GPU, if one of them is."""
    return max((device_of(a) for a in map(_array_of, inputs) if a is not None), default="cpu")


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same tuples, lists and dicts, with ``change`` applied to all arrays in them, and to tensors'."""
    if isinstance(value, Tensor):
        return Tensor(change(value.data))
    if is_array(value):
        return change(value)
    if isinstance(value, dict):
        return {key: mapped(item, change) for key, item in value.items()}
    return type(value)(mapped(v, change) for v in value) if type(value) in (tuple, list) else value


def detached(result: Any) -> Any:
    """A result whose tensors have no graph."""
    return mapped(result, lambda array: array)


def _array_of(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.data
    return value if is_array(value) else None


def _placed(value: Any, device: str) -> Any:
    if isinstance(value, Tensor):
        return value if value.device == device else Tensor(to_device(value.data, device))
    return to_device(value, device) if is_array(value) else value
