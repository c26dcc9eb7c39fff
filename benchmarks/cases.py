"""Which arguments each kernel is measured on: one tiny case, which plain loops can do too, then real ones.

The real shapes are those of networks (a) to (d) at batch 128 (c: 32), and a few that show other sides.
Floating-point operations are counted as the definition of the kernel has them, an exponential or a root as
one; None where hardly any are done (comparing, hashing).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinynet.kernels import Window, arrays

Arguments = tuple[Any, ...]


class Case(NamedTuple):
    """One kernel on one shape."""

    kernel: str
    label: str
    arguments: Callable[[np.random.Generator], Arguments]
    flops: int | None
    changed: tuple[int, ...] = ()  # positions of the arguments that the kernel changes in place
    tiny: bool = False


def all_cases() -> list[Case]:
    """Every case; those of one kernel stand together, the tiny one first."""
    return [
        *_convolutions(),
        *_products(),
        *_pools(),
        *_norms(),
        *_recurrent(),
        *_elementwise(),
        *_optimizers(),
    ]


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, np.float32)


def _square(rank: int, size: int, stride: int = 1, padding: int = 0) -> Window:
    return Window((size,) * rank, (stride,) * rank, ((padding, padding),) * rank, (1,) * rank)


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


# --- convolution ---


class _Conv(NamedTuple):
    name: str
    x: tuple[int, ...]
    filters: int
    size: int = 3
    stride: int = 1
    padding: int = 0
    groups: int = 1


_CONV_SHAPES = [
    _Conv("tiny", (2, 6, 5, 3), 4, padding=1),
    _Conv("a1", (128, 28, 28, 1), 8, padding=1),
    _Conv("a2", (128, 14, 14, 8), 16, padding=1),
    _Conv("b1", (128, 28, 28, 1), 32),
    _Conv("b2", (128, 26, 26, 32), 64),
    _Conv("c, first level", (32, 64, 64, 16), 16, padding=1),
    _Conv("c, deepest", (32, 8, 8, 128), 128, padding=1),
    _Conv("c, last level", (32, 64, 64, 48), 16, padding=1),
    _Conv("stride 2", (32, 56, 56, 32), 64, stride=2, padding=1),
    _Conv("1x1", (32, 28, 28, 64), 128, size=1),
    _Conv("depthwise", (32, 28, 28, 64), 64, padding=1, groups=64),
    _Conv("1-D", (64, 512, 16), 32, size=5, padding=2),
    _Conv("3-D", (2, 24, 24, 24, 16), 16, padding=1),
]


def _convolutions() -> list[Case]:
    makers = {"conv": _conv_forward, "conv_input_grad": _conv_input, "conv_weight_grad": _conv_weight}
    return [
        _conv_case(kernel, make, shape)
        for kernel, make in makers.items()
        for shape in _CONV_SHAPES
        if kernel != "conv_input_grad"
        or shape.name not in ("a1", "b1")  # nobody asks for the image's gradient
    ]


def _conv_case(kernel: str, make: Callable[..., Arguments], shape: _Conv) -> Case:
    window = _square(len(shape.x) - 2, shape.size, shape.stride, shape.padding)
    inputs = shape.x[-1] // shape.groups
    y = (shape.x[0], *window.output_shape(shape.x[1:-1]), shape.filters)
    weight = (*window.size, inputs, shape.filters)
    return Case(
        kernel,
        f"{shape.name}: {_times(shape.x)} to {shape.filters}",
        lambda rng: make(rng, shape, y, weight, window),
        2 * math.prod(y) * math.prod(window.size) * inputs,
        tiny=shape.name == "tiny",
    )


def _conv_forward(
    rng: np.random.Generator, shape: _Conv, y: tuple, weight: tuple, window: Window
) -> Arguments:
    return _normal(rng, *shape.x), _normal(rng, *weight), _normal(rng, shape.filters), window, shape.groups


def _conv_input(rng: np.random.Generator, shape: _Conv, y: tuple, weight: tuple, window: Window) -> Arguments:
    return _normal(rng, *y), _normal(rng, *weight), shape.x, window, shape.groups


def _conv_weight(
    rng: np.random.Generator, shape: _Conv, y: tuple, weight: tuple, window: Window
) -> Arguments:
    return _normal(rng, *shape.x), _normal(rng, *y), window, shape.groups


# --- products and sums ---

_MATRICES = [
    ("tiny", 7, 11, 5, ""),
    ("a, Dense 128", 128, 784, 128, ""),
    ("a, Dense 128, dW", 784, 128, 128, "first"),
    ("a, Dense 128, dX", 128, 128, 784, "second"),
    ("b, Dense 128", 128, 9216, 128, ""),
    ("b, Dense 128, dW", 9216, 128, 128, "first"),
    ("Dense 10", 128, 128, 10, ""),
    ("square", 1024, 1024, 1024, ""),
]


def _products() -> list[Case]:
    matrices = [_matmul_case(*row) for row in _MATRICES]
    shapes = [
        ("tiny", (3, 4, 5)),
        ("a1", (128, 28, 28, 8)),
        ("b2", (128, 24, 24, 64)),
        ("Dense 128", (128, 128)),
    ]
    return matrices + [
        Case(
            "bias_grad",
            f"{name}: {_times(shape)}",
            lambda rng, shape=shape: (_normal(rng, *shape),),
            math.prod(shape),
            tiny=name == "tiny",
        )
        for name, shape in shapes
    ]


def _matmul_case(name: str, m: int, k: int, n: int, turned: str) -> Case:
    """``turned`` names the operand that is a transposed view, as in the gradients of a Dense layer."""

    def arguments(rng: np.random.Generator) -> Arguments:
        a = _normal(rng, k, m).T if turned == "first" else _normal(rng, m, k)
        return a, _normal(rng, n, k).T if turned == "second" else _normal(rng, k, n)

    return Case("matmul", f"{name}: {m}x{k} @ {k}x{n}", arguments, 2 * m * k * n, tiny=name == "tiny")


# --- pooling ---

_POOL_SHAPES = [
    ("tiny", (2, 5, 6, 3), 2, 2),
    ("a, first", (128, 28, 28, 8), 2, 2),
    ("a, second", (128, 14, 14, 16), 2, 2),
    ("b", (128, 24, 24, 64), 2, 2),
    ("3x3 stride 2", (32, 55, 55, 64), 3, 2),
]


def _pools() -> list[Case]:
    makers = {
        "max_pool": lambda rng, x, y, window: (_normal(rng, *x), window),
        "max_pool_backward": _max_pool_backward,
        "avg_pool": lambda rng, x, y, window: (_normal(rng, *x), window, False),
        "avg_pool_backward": lambda rng, x, y, window: (_normal(rng, *y), x, window, False),
    }
    return [_pool_case(kernel, make, *shape) for kernel, make in makers.items() for shape in _POOL_SHAPES]


def _pool_case(
    kernel: str, make: Callable[..., Arguments], name: str, x: tuple, size: int, stride: int
) -> Case:
    window = _square(2, size, stride)
    y = (x[0], *window.output_shape(x[1:-1]), x[-1])
    return Case(
        kernel,
        f"{name}: {_times(x)}",
        lambda rng: make(rng, x, y, window),
        None if kernel.startswith("max") else size**2 * math.prod(y),
        tiny=name == "tiny",
    )


def _max_pool_backward(rng: np.random.Generator, x: tuple, y: tuple, window: Window) -> Arguments:
    return _normal(rng, *y), arrays.max_pool(_normal(rng, *x), window)[1], x, window


# --- normalisation ---


def _norms() -> list[Case]:
    images = [("tiny", (2, 3, 4, 5)), ("c, first level", (32, 64, 64, 16)), ("c, deepest", (32, 8, 8, 128))]
    rows = [("tiny", (6, 5)), ("rows", (4096, 256))]
    # forward: sum; subtract, square, add; subtract, scale, scale, shift. Backward: two sums, then five more.
    table = [("batch_norm", images, 8, False), ("batch_norm_backward", images, 10, True),
             ("layer_norm", rows, 8, False), ("layer_norm_backward", rows, 10, True)]  # fmt: skip
    return [
        Case(
            kernel,
            f"{name}: {_times(shape)}",
            lambda rng, kernel=kernel, shape=shape, backward=backward: _norm(rng, kernel, shape, backward),
            per_element * math.prod(shape),
            tiny=name == "tiny",
        )
        for kernel, shapes, per_element, backward in table
        for name, shape in shapes
    ]


def _norm(rng: np.random.Generator, kernel: str, shape: tuple, backward: bool) -> Arguments:
    x, weight, bias, eps = _normal(rng, *shape) + 1, _normal(rng, shape[-1]), _normal(rng, shape[-1]), 1e-5
    if not backward:
        return x, weight, bias, eps
    _, mean, var = getattr(arrays, kernel.removesuffix("_backward"))(x, weight, bias, eps)
    return _normal(rng, *shape), x, weight, mean, var, eps


# --- recurrent layers ---

_SEQUENCES = [("tiny", 2, 3, 4, 5), ("d", 128, 28, 28, 128), ("long", 32, 100, 64, 64)]  # N, T, F, U
_GATES = {"rnn": 1, "lstm": 4, "gru": 3}


def _recurrent() -> list[Case]:
    return [
        _recurrent_case(cell, gates, backward, *shape)
        for cell, gates in _GATES.items()
        for backward in (False, True)
        for shape in _SEQUENCES
    ]


def _recurrent_case(cell: str, gates: int, backward: bool, name: str, n: int, t: int, f: int, u: int) -> Case:
    make = _cell_backward if backward else _cell_forward
    products = (
        2 * n * t * (f + u) * gates * u
    )  # the backward does them twice: for the states, for the weights
    return Case(
        cell + "_backward" * backward,
        f"{name}: {n}x{t}x{f} to {u}",
        lambda rng: make(rng, cell, n, t, f, u),
        products * (1 + backward),
        tiny=name == "tiny",
    )


def _cell_forward(rng: np.random.Generator, cell: str, n: int, t: int, f: int, u: int) -> Arguments:
    wide = _GATES[cell] * u
    weights = _normal(rng, f, wide) / f**0.5, _normal(rng, u, wide) / u**0.5
    biases = [_normal(rng, wide) for _ in range(2 if cell == "gru" else 1)]
    states = [_normal(rng, n, u) for _ in range(2 if cell == "lstm" else 1)]
    return _normal(rng, n, t, f), *weights, *biases, *states, *(["tanh"] if cell == "rnn" else [])


def _cell_backward(rng: np.random.Generator, cell: str, n: int, t: int, f: int, u: int) -> Arguments:
    forward = _cell_forward(rng, cell, n, t, f, u)
    x, w_ih, w_hh, grad_hs = *forward[:3], _normal(rng, n, t, u)
    if cell == "rnn":
        return grad_hs, x, w_ih, w_hh, forward[4], arrays.rnn(*forward), "tanh"
    if cell == "gru":
        return grad_hs, x, w_ih, w_hh, forward[5], *arrays.gru(*forward)
    return grad_hs, _normal(rng, n, t, u), x, w_ih, w_hh, *forward[4:], *arrays.lstm(*forward)


# --- element by element ---


def _elementwise() -> list[Case]:
    logits = [("tiny", 6, 5), ("ten digits", 128, 10), ("c, every pixel", 32 * 64 * 64, 2)]
    losses = [
        Case(
            "softmax_cross_entropy",
            f"{name}: {n}x{k}",
            lambda rng, n=n, k=k: (_normal(rng, n, k), rng.integers(0, k, n)),
            5 * n * k,
            tiny=name == "tiny",
        )
        for name, n, k in logits
    ]
    plain = [("tiny", (3, 7)), ("b, second", (128, 128)), ("b, first", (128, 12, 12, 64))]
    dropouts = [_plain("dropout", name, shape, (0.25, 12345678901)) for name, shape in plain]
    return losses + dropouts + [_plain("erf", name, shape, ()) for name, shape in plain]


def _plain(kernel: str, name: str, shape: tuple, more: Arguments) -> Case:
    label = f"{name}: {_times(shape)}"
    return Case(kernel, label, lambda rng: (_normal(rng, *shape), *more), None, tiny=name == "tiny")


def _optimizers() -> list[Case]:
    sizes = [("tiny", 7), ("parameters of a", 103_018), ("parameters of b", 1_199_882)]
    return [_optimizer_case(kernel, *size) for kernel in ("sgd_step", "adam_step") for size in sizes]


def _optimizer_case(kernel: str, name: str, size: int) -> Case:
    is_adam = kernel == "adam_step"

    def arguments(rng: np.random.Generator) -> Arguments:
        param, grad, mean, square = (_normal(rng, size) for _ in range(4))
        if not is_adam:
            return param, grad, mean, 1e-3, 0.9, False, 1e-4
        return param, grad, mean, square**2, 1e-3, 0.9, 0.999, 1e-8, 1e-4, False, 3

    changed = (0, 2, 3) if is_adam else (0, 2)
    return Case(kernel, f"{name}: {size}", arguments, (14 if is_adam else 6) * size, changed, name == "tiny")
