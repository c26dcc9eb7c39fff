"""Which arguments each kernel is measured on: one tiny case, which plain loops can do too, then real ones.

The real shapes are those of networks (a) to (d) at batch 128 (c: 32), and a few that show other sides.
Floating-point operations are counted as the definition of the kernel has them, an exponential or a root as
one; None where hardly any are done (comparing, hashing).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from benchmarks.case import Arguments, Case, normal, square, times
from benchmarks.conv_cases import conv_blocks, conv_transposes, convolutions
from benchmarks.data_cases import data_cases, norms_of_all, pieces
from tinynet.kernels import Window, arrays, blocks


def all_cases() -> list[Case]:
    """Every case; those of one kernel stand together, the tiny one first."""
    return [
        *convolutions(),
        *conv_transposes(),
        *conv_blocks(),
        *_products(),
        *_dense(),
        *_pools(),
        *_norms(),
        *_norm_blocks(),
        *pieces(),
        *_recurrent(),
        *_elementwise(),
        *_optimizers(),
        *data_cases(),
    ]


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
            f"{name}: {times(shape)}",
            lambda rng, shape=shape: (normal(rng, *shape),),
            math.prod(shape),
            tiny=name == "tiny",
        )
        for name, shape in shapes
    ]


def _matmul_case(name: str, m: int, k: int, n: int, turned: str) -> Case:
    """``turned`` names the operand that is a transposed view, as in the gradients of a Dense layer."""

    def arguments(rng: np.random.Generator) -> Arguments:
        a = normal(rng, k, m).T if turned == "first" else normal(rng, m, k)
        return a, normal(rng, n, k).T if turned == "second" else normal(rng, k, n)

    return Case("matmul", f"{name}: {m}x{k} @ {k}x{n}", arguments, 2 * m * k * n, tiny=name == "tiny")


_DENSE = [("tiny", 7, 11, 5), ("a", 128, 784, 128), ("b", 128, 9216, 128)]


def _dense() -> list[Case]:
    return [_dense_case(backward, *shape) for backward in (False, True) for shape in _DENSE]


def _dense_case(backward: bool, name: str, rows: int, inputs: int, units: int) -> Case:
    """A layer with a ReLU; whole numbers, as in conv_cases.py."""

    def arguments(rng: np.random.Generator) -> Arguments:
        x, weight, bias = (np.rint(2 * normal(rng, *s)) for s in ((rows, inputs), (inputs, units), (units,)))
        if not backward:
            return x, weight, bias, True
        y = blocks.dense(arrays, x, weight, bias, True)
        return normal(rng, *y.shape), x, weight, y, (True, True, True)

    flops = 2 * rows * inputs * units * (1 + backward)
    kernel = "dense_backward" if backward else "dense"
    return Case(kernel, f"{name}, ReLU: {rows}x{inputs} to {units}", arguments, flops, tiny=name == "tiny")


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
        "max_pool": lambda rng, x, y, window: (normal(rng, *x), window),
        "max_pool_backward": _max_pool_backward,
        "avg_pool": lambda rng, x, y, window: (normal(rng, *x), window, False),
        "avg_pool_backward": lambda rng, x, y, window: (normal(rng, *y), x, window, False),
    }
    return [_pool_case(kernel, make, *shape) for kernel, make in makers.items() for shape in _POOL_SHAPES]


def _pool_case(
    kernel: str, make: Callable[..., Arguments], name: str, x: tuple, size: int, stride: int
) -> Case:
    window = square(2, size, stride)
    y = (x[0], *window.output_shape(x[1:-1]), x[-1])
    return Case(
        kernel,
        f"{name}: {times(x)}",
        lambda rng: make(rng, x, y, window),
        None if kernel.startswith("max") else size**2 * math.prod(y),
        tiny=name == "tiny",
    )


def _max_pool_backward(rng: np.random.Generator, x: tuple, y: tuple, window: Window) -> Arguments:
    return normal(rng, *y), arrays.max_pool(normal(rng, *x), window)[1], x, window


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
            f"{name}: {times(shape)}",
            lambda rng, kernel=kernel, shape=shape, backward=backward: _norm(rng, kernel, shape, backward),
            per_element * math.prod(shape),
            tiny=name == "tiny",
        )
        for kernel, shapes, per_element, backward in table
        for name, shape in shapes
    ]


def _norm(rng: np.random.Generator, kernel: str, shape: tuple, backward: bool) -> Arguments:
    x, weight, bias, eps = normal(rng, *shape) + 1, normal(rng, shape[-1]), normal(rng, shape[-1]), 1e-5
    if not backward:
        return x, weight, bias, eps
    _, mean, var = getattr(arrays, kernel.removesuffix("_backward"))(x, weight, bias, eps)
    return normal(rng, *shape), x, weight, mean, var, eps


_BLOCK_SHAPES = [
    ("tiny", (2, 3, 4, 5)),
    ("c, first level", (32, 64, 64, 16)),
    ("c, deepest", (32, 8, 8, 128)),
]


def _norm_blocks() -> list[Case]:
    """Batch normalisation with a ReLU, and what stands for it when a trained network is used."""
    table = [("norm_block", _norm_block, 9), ("norm_block_backward", _norm_block_backward, 11),
             ("scale_shift", _scale_shift, 3)]  # fmt: skip
    return [
        Case(
            kernel,
            f"{name}, ReLU: {times(shape)}",
            lambda rng, make=make, shape=shape: make(rng, shape),
            per_element * math.prod(shape),
            tiny=name == "tiny",
        )
        for kernel, make, per_element in table
        for name, shape in _BLOCK_SHAPES
    ]


def _norm_block(rng: np.random.Generator, shape: tuple) -> Arguments:
    return *_norm(rng, "batch_norm", shape, False), True


def _norm_block_backward(rng: np.random.Generator, shape: tuple) -> Arguments:
    x, weight, bias, eps, relu = _norm_block(rng, shape)
    y, mean, var = blocks.norm_block(arrays, x, weight, bias, eps, relu)
    return normal(rng, *shape), x, weight, bias, mean, var, eps, y


def _scale_shift(rng: np.random.Generator, shape: tuple) -> Arguments:
    return normal(rng, *shape), normal(rng, shape[-1]), normal(rng, shape[-1]), True


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
    weights = normal(rng, f, wide) / f**0.5, normal(rng, u, wide) / u**0.5
    biases = [normal(rng, wide) for _ in range(2 if cell == "gru" else 1)]
    states = [normal(rng, n, u) for _ in range(2 if cell == "lstm" else 1)]
    return normal(rng, n, t, f), *weights, *biases, *states, *(["tanh"] if cell == "rnn" else [])


def _cell_backward(rng: np.random.Generator, cell: str, n: int, t: int, f: int, u: int) -> Arguments:
    forward = _cell_forward(rng, cell, n, t, f, u)
    x, w_ih, w_hh, grad_hs = *forward[:3], normal(rng, n, t, u)
    needs = (True,) * 6
    if cell == "rnn":
        return grad_hs, x, w_ih, w_hh, forward[4], arrays.rnn(*forward), "tanh", needs
    if cell == "gru":
        return grad_hs, x, w_ih, w_hh, forward[5], *arrays.gru(*forward), needs
    return grad_hs, normal(rng, n, t, u), x, w_ih, w_hh, *forward[4:], *arrays.lstm(*forward), needs


# --- element by element ---


_LOGITS = [("tiny", 6, 5), ("ten digits", 128, 10), ("c, every pixel", 32 * 64 * 64, 2)]


def _elementwise() -> list[Case]:
    plain = [("tiny", (3, 7)), ("b, second", (128, 128)), ("b, first", (128, 12, 12, 64))]
    dropouts = [_plain("dropout", name, shape, (0.25, 12345678901)) for name, shape in plain]
    return _losses() + dropouts + [_plain("erf", name, shape, ()) for name, shape in plain]


def _losses() -> list[Case]:
    table = [
        ("softmax_cross_entropy", _logits_and_labels, 5),
        ("softmax_cross_entropy_grad", _probabilities, 3),
    ]
    losses = [
        Case(
            kernel,
            f"{name}: {n}x{k}",
            lambda rng, make=make, n=n, k=k: make(rng, n, k),
            per_logit * n * k,
            tiny=name == "tiny",
        )
        for kernel, make, per_logit in table
        for name, n, k in _LOGITS
    ]
    losses += [
        Case("add_scaled", f"{name}: 1", _one_number, 2, (0,), name == "tiny", True)
        for name in ("tiny", "loss of a batch")
    ]
    return losses + [
        Case(
            "scaled_sum",
            f"{name}: {n}",
            lambda rng, n=n: (normal(rng, n) + 1, float(n)),
            n,
            (),
            name == "tiny",
        )
        for name, n, _ in _LOGITS
    ]


def _sum(rng: np.random.Generator, n: int) -> Arguments:
    return normal(rng, n) + 1, float(n)


def _one_number(rng: np.random.Generator) -> Arguments:
    return np.array(rng.standard_normal()), np.array(rng.standard_normal(), np.float32), 128.0


def _logits_and_labels(rng: np.random.Generator, n: int, k: int) -> Arguments:
    return normal(rng, n, k), rng.integers(0, k, n)


def _probabilities(rng: np.random.Generator, n: int, k: int) -> Arguments:
    logits, labels = _logits_and_labels(rng, n, k)
    return arrays.softmax_cross_entropy(logits, labels)[1], labels, normal(rng, n), float(n)


def _plain(kernel: str, name: str, shape: tuple, more: Arguments) -> Case:
    label = f"{name}: {times(shape)}"
    return Case(kernel, label, lambda rng: (normal(rng, *shape), *more), None, tiny=name == "tiny")


_SIZES = [("tiny", 7), ("parameters of a", 103_018), ("parameters of b", 1_199_882)]


def _optimizers() -> list[Case]:
    steps = [_optimizer_case(kernel, *size) for kernel in ("sgd_step", "adam_step") for size in _SIZES]
    return steps + norms_of_all(_SIZES)


def _optimizer_case(kernel: str, name: str, size: int) -> Case:
    is_adam = kernel == "adam_step"

    def arguments(rng: np.random.Generator) -> Arguments:
        param, grad, mean, square = (normal(rng, size) for _ in range(4))
        if not is_adam:
            return param, grad, mean, 1e-3, 0.9, False, 1e-4
        return param, grad, mean, square**2, 1e-3, 0.9, 0.999, 1e-8, 1e-4, False, 3

    changed = (0, 2, 3) if is_adam else (0, 2)
    return Case(kernel, f"{name}: {size}", arguments, (14 if is_adam else 6) * size, changed, name == "tiny")
