"""Weights to and from PyTorch's layout, as plain dicts of NumPy arrays.

PyTorch stores a convolution as (out, in / groups, *kernel), a dense layer as (out, in) and an LSTM as
``weight_ih_l0`` (4 units, in) with two biases; tinynet has (*kernel, in / groups, out), (in, out) and
``weight_ih`` (in, 4 units) with one bias, the sum of the two. The path of a layer, before the last dot, is
the same on both sides. Neither function needs PyTorch::

    torch_net.load_state_dict({k: torch.from_numpy(v) for k, v in io.to_torch(net).items()})
    io.from_torch(net, {k: v.numpy() for k, v in torch_net.state_dict().items()})

A dense layer after a flattening needs its rows in another order, because PyTorch flattens (C, H, W) and
tinynet (H, W, C). That is done for every ``nn.Flatten`` of the model; where a model flattens without that
layer, say so: ``flattened={"fc1": (7, 7, 16)}``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tinynet.backend import host
from tinynet.errors import ArgumentError, CheckpointError
from tinynet.nn import Dense, Flatten, Module, Parameter
from tinynet.nn.conv import _Conv, _ConvTranspose
from tinynet.nn.recurrent import _Recurrent
from tinynet.nn.summary import dry_run

Arrays = dict[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]


def to_torch(model: Module, flattened: Shapes | None = None) -> Arrays:
    """The weights and buffers of a built model under PyTorch's names, in PyTorch's layout.

    ``flattened`` gives, for the path of a dense layer, the shape (*spatial, C) that was flattened before it.
    """
    state = {name: host(array) for name, array in model.state_dict().items()}
    converted: Arrays = {}
    for path, module, shape in _layers(model, flattened):
        own = {n: state[_join(path, n)] for n in _own_names(module) if _join(path, n) in state}
        converted |= {_join(path, name): array for name, array in _leave(module, own, shape).items()}
    return {name: np.ascontiguousarray(array) for name, array in converted.items()}


def from_torch(model: Module, state: Mapping[str, Any], flattened: Shapes | None = None) -> None:
    """Load arrays under PyTorch's names, in PyTorch's layout, into a built model of the same structure.

    Anything NumPy can read will do as an array. Raises :class:`CheckpointError` for names and shapes that do
    not fit; then nothing is changed.
    """
    arrays = {n: np.asarray(a) for n, a in state.items() if not n.endswith("num_batches_tracked")}
    converted: Arrays = {}
    for path, module, shape in _layers(model, flattened):
        prefix = _join(path, "")
        own = {n.removeprefix(prefix): arrays.pop(n) for n in list(arrays) if _is_own(n, prefix)}
        converted |= {prefix + name: array for name, array in _enter(module, own, shape).items()}
    model.load_state_dict(converted | arrays)


def _layers(model: Module, flattened: Shapes | None) -> list[tuple[str, Module, tuple[int, ...] | None]]:
    """All modules with their paths, and the shape that was flattened before them if there was one."""
    shapes = {**_find_flattened(model), **(flattened or {})}
    layers = [(path, module, shapes.pop(path, None)) for path, module in model.named_modules()]
    if shapes:
        raise ArgumentError(f"flattened names layers that the model does not have: {', '.join(shapes)}")
    return layers


def _find_flattened(model: Module) -> dict[str, tuple[int, ...]]:
    """For each dense layer behind a Flatten, perhaps with activations between, what was flattened."""
    if not any(isinstance(module, Flatten) for module in model.modules()):
        return {}
    if model.input_shape is None:
        raise CheckpointError(
            "the order of the rows behind Flatten depends on the input: model.build((28, 28, 1)) first, with "
            "the shape of one sample"
        )
    shapes: dict[int, tuple[int, ...]] = {}  # by tensor
    found: dict[int, tuple[int, ...]] = {}  # by layer
    kept: list[Any] = []  # as long as tensors live, their ids are theirs alone

    def follow(module: Module, inputs: tuple, output: Any) -> None:
        kept.append(output)
        before = shapes.get(id(inputs[0]))
        if isinstance(module, Flatten):
            shapes[id(output)] = inputs[0].shape[1:]
        elif before and isinstance(module, Dense):
            found[id(module)] = before
        elif before and not module.parameters():
            shapes[id(output)] = before

    handles = [module.register_forward_hook(follow) for module in model.modules()]
    try:
        dry_run(model, model.input_shape)
    finally:
        for handle in handles:
            handle.remove()
    return {path: found[id(module)] for path, module in model.named_modules() if id(module) in found}


def _own_names(module: Module) -> list[str]:
    return [name for name, item in module._contents() if isinstance(item, Parameter)] + [*module._buffers]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _is_own(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and "." not in name.removeprefix(prefix)


def _leave(module: Module, own: Arrays, shape: tuple[int, ...] | None) -> Arrays:
    """The arrays of one layer, from tinynet to PyTorch."""
    if isinstance(module, _Recurrent):
        return _leave_recurrent(module, own)
    return own | {"weight": _weight(module, shape)[0](own["weight"])} if "weight" in own else own


def _enter(module: Module, own: Arrays, shape: tuple[int, ...] | None) -> Arrays:
    """The arrays of one layer, from PyTorch to tinynet."""
    if isinstance(module, _Recurrent):
        return _enter_recurrent(module, own)
    return own | {"weight": _weight(module, shape)[1](own["weight"])} if "weight" in own else own


Turn = Callable[[np.ndarray], np.ndarray]


def _weight(module: Module, shape: tuple[int, ...] | None) -> tuple[Turn, Turn]:
    """How the weight of a layer is turned for PyTorch, and back."""
    if isinstance(module, _ConvTranspose):  # (*kernel, in, out / groups) and (in, out / groups, *kernel)
        return lambda w: np.moveaxis(w, (-2, -1), (0, 1)), lambda w: np.moveaxis(w, (0, 1), (-2, -1))
    if isinstance(module, _Conv):  # (*kernel, in / groups, out) and (out, in / groups, *kernel)
        return lambda w: np.moveaxis(w, (-1, -2), (0, 1)), lambda w: np.moveaxis(w, (0, 1), (-1, -2))
    if isinstance(module, Dense):
        return _dense(shape) if shape and len(shape) > 1 else (np.transpose, np.transpose)
    return lambda w: w, lambda w: w


def _dense(shape: tuple[int, ...]) -> tuple[Turn, Turn]:
    """Rows in the order (*spatial, C) on one side and (C, *spatial) on the other."""
    *spatial, channels = shape

    def leave(w: np.ndarray) -> np.ndarray:
        return np.moveaxis(w.reshape(*spatial, channels, -1), (-1, -2), (0, 1)).reshape(w.shape[::-1])

    def enter(w: np.ndarray) -> np.ndarray:
        return np.moveaxis(w.reshape(-1, channels, *spatial), (0, 1), (-1, -2)).reshape(w.shape[::-1])

    return leave, enter


def _leave_recurrent(module: _Recurrent, own: Arrays) -> Arrays:
    arrays: Arrays = {}
    for end in module._directions():
        for name in ("weight_ih", "weight_hh"):
            arrays[f"{name}_l0{end}"] = own[name + end].T
        first, *rest = (own[name + end] for name in module.biases)
        arrays[f"bias_ih_l0{end}"] = first
        arrays[f"bias_hh_l0{end}"] = rest[0] if rest else np.zeros_like(first)
    return arrays


def _enter_recurrent(module: _Recurrent, own: Arrays) -> Arrays:
    arrays: Arrays = {}
    for end in module._directions():
        parts = [own.pop(f"{n}_l0{end}", None) for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        if any(part is None for part in parts):
            raise CheckpointError(
                f"the {type(module).__name__} needs weight_ih_l0{end}, weight_hh_l0{end}, bias_ih_l0{end} "
                f"and bias_hh_l0{end}; the weights have {', '.join(own) or 'nothing else'}"
            )
        w_ih, w_hh, b_ih, b_hh = (np.asarray(part) for part in parts)
        arrays |= {f"weight_ih{end}": w_ih.T, f"weight_hh{end}": w_hh.T}
        biases = (b_ih, b_hh) if len(module.biases) == 2 else (b_ih + b_hh,)
        arrays |= {name + end: bias for name, bias in zip(module.biases, biases)}
    return arrays | own
