"""Layers that hold or rearrange, without parameters of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tinynet import ops
from tinynet.errors import ArgumentError
from tinynet.nn.fusion import through
from tinynet.nn.module import Module
from tinynet.tensor import Tensor


class Sequential(Module):
    """Layers one after the other; functions from tensor to tensor may stand among them.

    ``model[0]`` is the first layer, ``model[-1] = nn.Dense(5)`` replaces the last one. Parameters are named
    "0.weight", "0.bias", "1.weight" and so on.

    A convolution with the ReLU and the pooling that follow it, and some other neighbours, are computed in one
    go (see ``nn/fusion.py``); nothing but the time tells.
    """

    def __init__(self, *layers: Callable[[Any], Any]):
        for i, layer in enumerate(layers):
            _check_layer(layer, i)
        self.layers = list(layers)

    def _attributes(self) -> Iterable[tuple[str, Any]]:
        return ((str(i), layer) for i, layer in enumerate(self.layers))

    def _shown(self) -> Iterator[tuple[str, Any]]:
        return iter(self._attributes())

    def forward(self, x: Any) -> Any:
        return through(self.layers, x)

    def append(self, layer: Callable[[Any], Any]) -> Sequential:
        """Add a layer at the end."""
        _check_layer(layer, len(self.layers))
        self.layers.append(layer)
        return self

    def __getitem__(self, index: int | slice) -> Any:
        return Sequential(*self.layers[index]) if isinstance(index, slice) else self.layers[index]

    def __setitem__(self, index: int, layer: Callable[[Any], Any]) -> None:
        _check_layer(layer, index)
        self.layers[index] = layer

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Callable[[Any], Any]]:
        return iter(self.layers)


def _check_layer(layer: Any, i: int) -> None:
    if isinstance(layer, (list, tuple)):
        raise ArgumentError(f"Sequential got a {type(layer).__name__}; write Sequential(*layers) with a star")
    if isinstance(layer, type):
        raise ArgumentError(
            f"layer {i} is the class {layer.__name__}; write {layer.__name__}() with brackets"
        )
    if not callable(layer):
        raise ArgumentError(f"layer {i} is {layer!r}, not a layer or a function")


class Flatten(Module):
    """All axes of a sample as one: (N, ...) to (N, F), row by row, features last."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.flatten(x, 1)
