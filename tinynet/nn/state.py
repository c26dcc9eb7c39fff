"""Weights as named arrays: collecting, comparing, loading, and the safetensors file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tinynet.backend import array_module, host
from tinynet.errors import CheckpointError
from tinynet.files import read_arrays, write_arrays

if TYPE_CHECKING:
    from tinynet.nn.module import Module


_PARTS = ("model/", "optimizer/", "callbacks/")  # how tinynet.training names the arrays of a checkpoint


@dataclass
class LoadReport:
    """What became of each name: four lists, the last one with the shapes (in the file, in the model)."""

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    shape_mismatch: dict[str, tuple[tuple, tuple]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether everything was loaded and nothing was left over."""
        return not (self.missing or self.unexpected or self.shape_mismatch)

    def __str__(self) -> str:
        return "\n".join([f"loaded {self.share}", *self.problems()])

    @property
    def share(self) -> str:
        """How many were loaded, in words: "5 of 8 arrays"."""
        wanted = len(self.loaded) + len(self.missing) + len(self.shape_mismatch)
        return f"{len(self.loaded)} of {wanted} arrays"

    def problems(self) -> list[str]:
        """A line for each way in which something did not fit."""
        lines = [f"  missing: {', '.join(self.missing)}"] if self.missing else []
        lines += [f"  unexpected: {', '.join(self.unexpected)}"] if self.unexpected else []
        lines += [
            f"  another shape: {name}: {there} in the weights, {here} in the model"
            for name, (there, here) in self.shape_mismatch.items()
        ]
        return lines


def collect(module: Module) -> dict[str, Any]:
    """Copies of all parameters and buffers by name; see :meth:`Module.state_dict`."""
    return {name: array.copy() for name, array in _arrays(module).items()}


def load(module: Module, arrays: Mapping[str, Any], strict: bool) -> LoadReport:
    """Copy ``arrays`` into the module; see :meth:`Module.load_state_dict`."""
    own = _arrays(module)
    report = _compare(own, arrays)
    if strict and not report.complete:
        problems = "\n".join(report.problems())
        raise CheckpointError(f"these weights belong to another model, {report.share} fit\n{problems}")
    for name in report.loaded:
        own[name][...] = _on_the_side_of(own[name], arrays[name])
    return report


def save_file(module: Module, path: str | os.PathLike) -> None:
    """Write the module's arrays to a safetensors file; see :meth:`Module.save_weights`."""
    write_arrays(path, _arrays(module))


def load_file(module: Module, path: str | os.PathLike, strict: bool) -> LoadReport:
    """Read a safetensors file into the module; see :meth:`Module.load_weights`."""
    arrays, _ = read_arrays(path)
    if arrays and all(name.startswith(_PARTS) for name in arrays):  # a checkpoint of fit
        arrays = {name.removeprefix("model/"): a for name, a in arrays.items() if name.startswith("model/")}
    try:
        return load(module, arrays, strict)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _arrays(module: Module) -> dict[str, Any]:
    """The module's own arrays, not copied. Raises when there are none yet."""
    arrays = {name: p.data for name, p in module.named_parameters()} | dict(module.named_buffers())
    unbuilt = [name for name, array in arrays.items() if array is None]
    if unbuilt:
        raise CheckpointError(
            f"the model has no sizes yet ({', '.join(unbuilt[:3])}{', ...' if len(unbuilt) > 3 else ''}). "
            "First: model.build((28, 28, 1)), with the shape of one sample of your data"
        )
    return arrays


def _compare(own: Mapping[str, Any], arrays: Mapping[str, Any]) -> LoadReport:
    report = LoadReport(unexpected=[name for name in arrays if name not in own])
    for name, array in own.items():
        if name not in arrays:
            report.missing.append(name)
        elif tuple(arrays[name].shape) != array.shape:
            report.shape_mismatch[name] = (tuple(arrays[name].shape), array.shape)
        else:
            report.loaded.append(name)
    return report


def _on_the_side_of(own: Any, array: Any) -> Any:
    """``array`` where ``own`` lives: NumPy and CuPy do not assign to each other."""
    return array_module(own).asarray(array if array_module(array) is array_module(own) else host(array))
