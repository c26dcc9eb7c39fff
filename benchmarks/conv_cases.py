"""Convolutions, alone and as blocks with ReLU and pooling: shapes of networks (a) to (c), and some others."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.case import Arguments, Case, normal, square, times
from tinynet.kernels import Window, arrays, blocks


class _Conv(NamedTuple):
    name: str
    x: tuple[int, ...]
    filters: int
    size: int = 3
    stride: int = 1
    padding: int = 0
    groups: int = 1


_UNET = [  # network (c), without its first layer, of one channel, and its last, of two
    *(_Conv("c", (32, side, side, c), o, padding=1)
      for side, c, o in [(64, 16, 16), (32, 16, 32), (32, 32, 32), (16, 32, 64), (16, 64, 64), (8, 64, 128),
                         (8, 128, 128), (16, 128, 64), (32, 64, 32), (64, 32, 16)]),
    *(_Conv("c, way up", (32, side, side, c), 2 * c, size=2, stride=2)  # adjoint: it is used backwards
      for side, c in [(16, 64), (32, 32), (64, 16)]),
]  # fmt: skip
_CONV_SHAPES = [
    _Conv("tiny", (2, 6, 5, 3), 4, padding=1),
    _Conv("a1", (128, 28, 28, 1), 8, padding=1),
    _Conv("a2", (128, 14, 14, 8), 16, padding=1),
    _Conv("b1", (128, 28, 28, 1), 32),
    _Conv("b2", (128, 26, 26, 32), 64),
    *_UNET,
    _Conv("stride 2", (32, 56, 56, 32), 64, stride=2, padding=1),
    _Conv("1x1", (32, 28, 28, 64), 128, size=1),
    _Conv("depthwise", (32, 28, 28, 64), 64, padding=1, groups=64),
    _Conv("1-D", (64, 512, 16), 32, size=5, padding=2),
    _Conv("3-D", (2, 24, 24, 24, 16), 16, padding=1),
]


def convolutions() -> list[Case]:
    """Cases of the convolution and of its two gradients."""
    return [
        _conv_case(kernel, make, shape)
        for kernel, make in _MAKERS.items()
        for shape in _CONV_SHAPES
        if kernel != "conv_input_grad"
        or shape.name not in ("a1", "b1")  # nobody asks for the image's gradient
    ]


def same_padding(x: tuple[int, ...], filters: int) -> list[Case]:
    """A convolution of 3 x 3 that keeps the size of ``x`` (N, H, W, C), and its two gradients."""
    return [_conv_case(kernel, make, _Conv("", x, filters, padding=1)) for kernel, make in _MAKERS.items()]


def _conv_case(kernel: str, make: Callable[..., Arguments], shape: _Conv) -> Case:
    return Case(
        kernel,
        f"{shape.name}: {times(shape.x)} to {shape.filters}",
        lambda rng: make(rng, shape),
        _flops(shape),
        tiny=shape.name == "tiny",
    )


def _window(shape: _Conv) -> Window:
    return square(len(shape.x) - 2, shape.size, shape.stride, shape.padding)


def _weight(shape: _Conv) -> tuple[int, ...]:
    return (*_window(shape).size, shape.x[-1] // shape.groups, shape.filters)


def _output(shape: _Conv) -> tuple[int, ...]:
    return (shape.x[0], *_window(shape).output_shape(shape.x[1:-1]), shape.filters)


def _flops(shape: _Conv) -> int:
    return 2 * math.prod(_output(shape)) * math.prod(_weight(shape)[:-1])


def _conv_forward(rng: np.random.Generator, shape: _Conv) -> Arguments:
    x, weight, bias = (normal(rng, *s) for s in (shape.x, _weight(shape), (shape.filters,)))
    return x, weight, bias, _window(shape), shape.groups


def _conv_input(rng: np.random.Generator, shape: _Conv) -> Arguments:
    grad_y, weight = normal(rng, *_output(shape)), normal(rng, *_weight(shape))
    return grad_y, weight, shape.x, _window(shape), shape.groups


def _conv_weight(rng: np.random.Generator, shape: _Conv) -> Arguments:
    return normal(rng, *shape.x), normal(rng, *_output(shape)), _window(shape), shape.groups


_MAKERS = {"conv": _conv_forward, "conv_input_grad": _conv_input, "conv_weight_grad": _conv_weight}


# --- blocks: a transposed convolution with its bias; convolution, ReLU and pooling in one go ---


def conv_transposes() -> list[Case]:
    """Cases of the transposed convolution: the tiny shape, and those that stand in network (c)."""
    shapes = [s for s in _CONV_SHAPES if s.name in ("tiny", "c, way up")]
    return [_conv_case("conv_transpose", _conv_transpose, shape) for shape in shapes]


def _conv_transpose(rng: np.random.Generator, shape: _Conv) -> Arguments:
    x, weight, *rest = _conv_input(rng, shape)
    return x, weight, normal(rng, shape.x[-1]), *rest


_CONV_BLOCKS = [  # shape, with pooling; all have a ReLU
    (_Conv("tiny", (2, 6, 5, 3), 4, padding=1), True),
    (_Conv("a1", (128, 28, 28, 1), 8, padding=1), True),
    (_Conv("a2", (128, 14, 14, 8), 16, padding=1), True),
    (_Conv("b1", (128, 28, 28, 1), 32), False),
    (_Conv("b2", (128, 26, 26, 32), 64), True),
    (_Conv("c", (32, 64, 64, 16), 16, padding=1), False),
    (_Conv("c", (32, 64, 64, 16), 16, padding=1), True),
    (_Conv("c", (32, 8, 8, 128), 128, padding=1), False),
]


def conv_blocks() -> list[Case]:
    """Cases of ``conv_block`` and of its backward."""
    return [_block_case(backward, *block) for backward in (False, True) for block in _CONV_BLOCKS]


def _block_case(backward: bool, shape: _Conv, pool: bool) -> Case:
    make = _block_backward if backward else _block_forward
    wants_input_grad = shape.x[-1] > 1  # nobody asks for the image's gradient
    what = "ReLU, pool" if pool else "ReLU"
    return Case(
        "conv_block_backward" if backward else "conv_block",
        f"{shape.name}, {what}: {times(shape.x)} to {shape.filters}",
        lambda rng: make(rng, shape, pool, wants_input_grad),
        _flops(shape) * (1 + (backward and wants_input_grad)),
        tiny=shape.name == "tiny",
        **({"judged": _winning_numbers} if pool and not backward else {}),
    )


def _block_forward(rng: np.random.Generator, shape: _Conv, pool: bool, *_: object) -> Arguments:
    x, weight, bias = (normal(rng, *s) for s in (shape.x, _weight(shape), (shape.filters,)))
    return x, weight, bias, _window(shape), shape.groups, True, pool


def _winning_numbers(given: Arguments, results: list[np.ndarray]) -> list[np.ndarray]:
    """The pool's result, and the number at each winner's place: of two near ones rounding decides."""
    (pooled, where), (x, weight, bias, window, groups, *_) = results, given
    x, weight, bias = (array.astype(np.float64) for array in (x, weight, bias))
    y = arrays.conv(x, weight, bias, window, groups).clip(0, None)
    rows, columns = (2 * (side // 2) for side in y.shape[1:3])
    corners = [y[:, i:rows:2, j:columns:2] for i in (0, 1) for j in (0, 1)]
    return [pooled, np.choose(where, [*corners, 0.0])]  # a window that the ReLU closed gives 0


def _block_backward(rng: np.random.Generator, shape: _Conv, pool: bool, wants_input_grad: bool) -> Arguments:
    forward = _block_forward(rng, shape, pool)
    y, where = blocks.conv_block(arrays, *forward)
    x, weight, _, window, groups, _, _ = forward
    needs = wants_input_grad, True, True
    return normal(rng, *y.shape), x, weight, None if pool else y, where, window, groups, needs
