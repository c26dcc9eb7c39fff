"""A layer that finds out the number of its input features from its first input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tinynet.backend import device_of, to_device
from tinynet.errors import DeviceError, DTypeError, ShapeError, by_x
from tinynet.nn.checks import missing_axis, whole
from tinynet.nn.init import Initializer, draw
from tinynet.nn.module import Module
from tinynet.nn.parameter import Parameter
from tinynet.nn.trail import calls, will_build
from tinynet.tensor import Tensor, as_tensor

Drawn = dict[str, tuple[Initializer, tuple[int, ...]]]


class Layer(Module):
    """Base of all layers with weights. A subclass names its parameters, their shapes, and what it computes.

    :meth:`shapes` gives, for a number of input features, the initialiser and the shape of each parameter;
    :meth:`run` is the forward pass once they exist.
    """

    ndim: int | None = None  # number of axes of the input, None for any
    axes: str = "(N, F)"  # how they are called in errors
    first: str = "weight"  # the parameter that the input must agree with in dtype

    _features: int | None = None

    def shapes(self, features: int) -> Drawn:
        """Name of each parameter with its initialiser and its shape."""
        raise TypeError(f"{type(self).__name__} defines no shapes(self, features)")

    def run(self, x: Tensor, *states: Any, **named: Any) -> Any:
        """The forward pass, parameters present."""
        raise TypeError(f"{type(self).__name__} defines no run(self, x)")

    def multiply_adds(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> int:
        """Multiplications with an addition for one sample; shapes come without the batch axis."""
        return 0

    def forward(self, x: Tensor, *states: Any, **named: Any) -> Any:
        if not isinstance(x, Tensor):  # nested lists; for anything else as_tensor has a sentence
            x = as_tensor(x)
        if self._features is None:
            return self._first_run(x, states, named)
        self._check_input(x)
        return self.run(x, *states, **named)

    def size(self, features: int | None, name: str = "in_features") -> None:
        """Give the parameters their sizes, if the number of input features is known already."""
        if features is not None:
            self._create(whole(features, name), "cpu")

    def _first_run(self, x: Tensor, states: tuple, named: dict[str, Any]) -> Any:
        """Create the parameters from what the data look like; taken back if the outermost call fails."""
        self._check_axes(x)
        will_build(self.forget)
        self._create(x.shape[-1], self._place or x.device)
        self._check_input(x)
        return self.run(x, *states, **named)

    def _create(self, features: int, device: str) -> None:
        for name, (init, shape) in self.shapes(features).items():
            getattr(self, name).data = to_device(draw(init, shape), device)
        self._features = features

    def forget(self) -> None:
        """Be as new: the sizes are not known."""
        self._features = None
        for parameter in self._own_parameters():
            parameter.data = None

    def _own_parameters(self) -> Iterator[Parameter]:
        return (value for value in vars(self).values() if isinstance(value, Parameter))

    def _check_axes(self, x: Tensor) -> None:
        if self.ndim is not None and x.ndim != self.ndim:
            hint = missing_axis(x.shape) if x.ndim == self.ndim - 1 else ""
            if x.ndim == self.ndim + 1 and len(x) == 1:  # a dry run
                hint = " The shape of one sample, for build() and summary(), has no batch axis."
            raise ShapeError(f"got {by_x(x.shape)}, {x.ndim} axes, but the input is {self.axes}.{hint}")
        if x.ndim == 0:
            raise ShapeError(f"got a single number, but the input is {self.axes}")
        if self.ndim is not None and not calls.steps and _looks_channels_first(x.shape):
            order = (0, *range(2, x.ndim), 1)
            raise ShapeError(
                f"got {by_x(x.shape)}: is axis 1 the channels? Features come last here: x.transpose{order}. "
                f"If there really are {x.shape[-1]} channels, say so: in_channels={x.shape[-1]}"
            )

    def _check_input(self, x: Tensor) -> None:
        array, weight = x.data, getattr(self, self.first).data
        if array.dtype is weight.dtype and type(array) is type(weight):
            return
        if x.data.dtype != weight.dtype:
            name = str(weight.dtype)
            raise DTypeError(
                f"the input is {x.dtype}, the weights {name}. Convert the input: x.astype({name!r})"
            )
        if type(x.data) is not type(weight):
            here, there = x.device, device_of(weight)
            raise DeviceError(
                f"the input is on {here}, the weights are on {there}. Move the input: x.to({there!r}) (or an "
                f"array: tn.tensor(x, device={there!r})), or the model: model.to({here!r})"
            )


def _looks_channels_first(shape: tuple[int, ...]) -> bool:
    """Grey or colour pictures or volumes with equal or large sides, (N, 1, 28, 28) or (N, 3, 20, 30)."""
    if len(shape) < 4 or shape[1] not in (1, 3):
        return False
    smallest, largest = min(shape[2:]), max(shape[2:])
    return smallest >= 16 or (smallest == largest and smallest > 4)
