"""Neighbours in a Sequential that are computed in one go, as one node of the graph.

One by one, Conv2D, ReLU and MaxPool2D each read and write the images of a whole batch, and the memory takes
longer than the arithmetic. In one go only the pooled images are written. These runs of layers are known, the
layers in brackets being optional::

    convolution [BatchNorm] [ReLU] [MaxPool2D(2)]
    Dense [ReLU]
    BatchNorm [ReLU]

The results are those of the layers one by one, to the last bit, with two exceptions that may change the last
bits. A BatchNorm behind a convolution is folded into its weights: for inference in float32 alone, when
nothing is recorded and the running statistics are used. And behind a pool the CPU kernels may make the
gradients of a convolution in float32 from the winners of the pool alone, and add them in another order. (A
gradient that is NaN or infinite is not compared: where a ReLU is closed, it makes 0 * NaN = NaN by itself,
and 0 in a run with a pool.)

Nobody needs to know of all this. A layer with a hook is in no run, so hooks see what they always saw; the
steps in error messages and summaries name every layer; and where a run fails, its layers are called one by
one, so that the right one raises its own error. Runs are looked for at every call, which takes less than a
microsecond each and lets layers be exchanged and changed at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import numpy as np

from tinynet import ops
from tinynet.autograd import is_recording
from tinynet.errors import TinynetError
from tinynet.nn.activation import ReLU
from tinynet.nn.conv import Conv1D, Conv2D, Conv3D
from tinynet.nn.dense import Dense
from tinynet.nn.module import Module
from tinynet.nn.norm import BatchNorm
from tinynet.nn.pool import MaxPool2D
from tinynet.nn.trail import calls
from tinynet.tensor import Tensor

_CONVOLUTIONS = {Conv1D, Conv2D, Conv3D}
_FIRST = {*_CONVOLUTIONS, Dense, BatchNorm}  # exactly these: a subclass may do something else

Layers = Sequence[Any]


def through(layers: Sequence[Callable[[Any], Any]], x: Any) -> Any:
    """``x`` through all layers, one after the other, and through the known runs of layers in one go."""
    if calls.steps is None:  # somebody called forward() himself; each layer then is a call of its own
        return _one_by_one(layers, x)
    start = 0
    row: Layers = (*layers, None)  # behind the last layer comes none
    while start < len(layers):
        end, asked = _run_at(row, start, x)
        x = _in_one_go(row[start:end], x, asked, calls.steps) if asked else row[start](x)
        start = end
    return x


def _one_by_one(layers: Iterable[Callable[[Any], Any]], x: Any) -> Any:
    for layer in layers:
        x = layer(x)
    return x


def _run_at(row: Layers, start: int, x: Any) -> tuple[int, dict[str, Any]]:
    """Where the run of layers that begins at ``start`` ends, and what its first layer does for the others."""
    first, end = row[start], start + 1
    asked: dict[str, Any] = {}
    kind = type(first)
    if kind not in _FIRST or first._hooks or type(x) is not Tensor:
        return end, asked
    activation = None if kind is BatchNorm else first.activation
    if activation is None:
        if kind in _CONVOLUTIONS and _can_fold(row[end], first, x):
            asked["norm"], end = row[end], end + 1
        if _is(row[end], ReLU):
            asked["relu"], end = True, end + 1
    if kind is Conv2D and (activation is None or activation is ops.relu) and _halves(row[end]):
        asked["pool"], end = True, end + 1
    return end, asked


def _is(layer: Any, kind: type) -> bool:
    return type(layer) is kind and not cast(Module, layer)._hooks


def _halves(layer: Any) -> bool:
    return (
        _is(layer, MaxPool2D)
        and layer.window in (2, (2, 2))
        and layer.stride in (None, 2, (2, 2))
        and layer.padding in ("valid", 0)
    )


def _can_fold(norm: Any, conv: Any, x: Tensor) -> bool:
    """Whether ``norm`` is a fixed scale and shift of what ``conv`` makes, and no gradient is asked for."""
    if not _is(norm, BatchNorm) or not norm.fixed or x.data.dtype != np.float32:
        return False
    if conv.in_channels is None or norm.in_features != conv.filters:
        return False
    tensors = x, conv.weight, conv.bias, norm.weight, norm.bias
    return not (is_recording() and any(t is not None and t.requires_grad for t in tensors))


def _in_one_go(run: Layers, x: Tensor, asked: dict[str, Any], steps: list[tuple]) -> Any:
    """The run as one call of its first layer; every layer leaves its step in the trail."""
    first = run[0]
    try:
        y = first.forward(x, **asked)
    except TinynetError:
        y = None
    if y is None:  # one of the layers has a reason to fail, and says so itself
        return _one_by_one(run, x)
    begin, end = x.data.shape, y.data.shape
    inner = first.out_shape(begin) if "pool" in asked else end  # between the layers
    steps.append((first, begin, inner))
    for layer in run[1:-1]:
        steps.append((layer, inner, inner))
    steps.append((run[-1], inner, end))
    return y
