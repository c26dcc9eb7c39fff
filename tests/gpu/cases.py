"""One small call of every kernel, with sizes that end in the middle of a tile.

A case is written once against the contract of :mod:`tinynet.kernels`. With arrays of the stand-in for cupy it
runs the CUDA kernels; with float64 NumPy arrays the same call gives what is right. test_sanitizer.py and
test_mutants.py use the cases; the tests of a family have many more.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from tinynet import kernels
from tinynet.kernels import Window


class Draw:
    """Random arrays, the same ones whoever asks; ``convert`` brings them where they are wanted."""

    def __init__(self, case: str, convert: Callable[[np.ndarray], Any]):
        self._random, self._convert = np.random.default_rng(zlib.crc32(case.encode())), convert

    def __call__(self, *shape: int) -> Any:
        return self._convert(np.asarray(self._random.standard_normal(shape), np.float32))

    def several(self, *shapes: tuple[int, ...]) -> list[Any]:
        return [self(*shape) for shape in shapes]

    def positive(self, *shapes: tuple[int, ...]) -> list[Any]:
        return [abs(self(*shape)) + 1 for shape in shapes]

    def double(self) -> Any:
        return self._convert(np.array(self._random.standard_normal()))

    def labels(self, rows: int, classes: int) -> Any:
        return self._convert(self._random.integers(0, classes, rows))

    def bytes(self, *shape: int) -> Any:
        return self._convert(self._random.integers(0, 256, shape).astype(np.uint8))

    def order(self, count: int) -> Any:
        return self._convert(self._random.permutation(count).astype(np.int32))


def window(*size: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Window:
    rank = len(size)
    return Window(size, (stride,) * rank, ((padding, padding),) * rank, (dilation,) * rank)


# --- convolution ---


def conv(x_shape: tuple, weight_shape: tuple, w: Window, groups: int = 1) -> Callable:
    def case(draw: Draw) -> Any:
        x, weight, bias = draw.several(x_shape, weight_shape, weight_shape[-1:])
        y = kernels.conv(x, weight, bias, w, groups)
        grad_y = draw(*y.shape)
        grad_x = kernels.conv_input_grad(grad_y, weight, x.shape, w, groups)
        return y, grad_x, kernels.conv_weight_grad(x, grad_y, w, groups), kernels.bias_grad(grad_y)

    return case


def conv_block(x_shape: tuple, weight_shape: tuple, w: Window, relu: bool, pool: bool) -> Callable:
    def case(draw: Draw) -> Any:
        x, weight, bias = draw.several(x_shape, weight_shape, weight_shape[-1:])
        y, where = kernels.conv_block(x, weight, bias, w, 1, relu, pool)
        grad_y, needs = draw(*y.shape), (True, True, True)
        seen = y if relu and not pool else None
        return y, where, kernels.conv_block_backward(grad_y, x, weight, seen, where, w, 1, needs)

    return case


def by_im2col(x_shape: tuple, weight_shape: tuple, w: Window, groups: int) -> Callable:
    """The kernels of im2col.cu, which are no part of the contract, on the card; the usual ones elsewhere."""

    def case(draw: Draw) -> Any:
        x, weight, bias = draw.several(x_shape, weight_shape, weight_shape[-1:])
        grad_y = draw(len(x), *w.output_shape(x.shape[1:-1]), weight_shape[-1])
        ours = importlib.import_module("tinynet.kernels.cuda.im2col")
        names = ("conv", "conv_input_grad", "conv_weight_grad")
        on_host = isinstance(x, np.ndarray)
        forward, input_grad, weight_grad = (
            getattr(kernels, name) if on_host else getattr(ours, f"{name}_im2col") for name in names
        )
        grad_x = input_grad(grad_y, weight, x.shape, w, groups)
        return forward(x, weight, bias, w, groups), grad_x, weight_grad(x, grad_y, w, groups)

    return case


def in_tf32(case: Callable) -> Callable:
    def rounded(draw: Draw) -> Any:
        with kernels.precision("tf32"):
            return case(draw)

    return rounded


# --- products ---


def matmul(rows: int, inner: int, columns: int, transposed: str = "") -> Callable:
    def case(draw: Draw) -> Any:
        a = draw(inner, rows).T if "a" in transposed else draw(rows, inner)
        b = draw(columns, inner).T if "b" in transposed else draw(inner, columns)
        return kernels.matmul(a, b)

    return case


def dense(rows: int, features: int, units: int, relu: bool) -> Callable:
    def case(draw: Draw) -> Any:
        x, weight, bias = draw.several((rows, features), (features, units), (units,))
        y = kernels.dense(x, weight, bias, relu)
        grad_y, needs = draw(*y.shape), (True, True, True)
        return y, kernels.dense_backward(grad_y, x, weight, y if relu else None, needs)

    return case


# --- recurrent layers, with N sequences of T steps, F features and U units ---


def rnn(n: int, t: int, f: int, u: int, activation: str) -> Callable:
    def case(draw: Draw) -> Any:
        x, w_ih, w_hh, bias, h0, grad = draw.several((n, t, f), (f, u), (u, u), (u,), (n, u), (n, t, u))
        w_hh = w_hh / u**0.5
        hs = kernels.rnn(x, w_ih, w_hh, bias, h0, activation)
        return hs, kernels.rnn_backward(grad, x, w_ih, w_hh, h0, hs, activation, (True,) * 5)

    return case


def lstm(n: int, t: int, f: int, u: int) -> Callable:
    def case(draw: Draw) -> Any:
        x, w_ih, w_hh, bias = draw.several((n, t, f), (f, 4 * u), (u, 4 * u), (4 * u,))
        w_hh = w_hh / u**0.5
        h0, c0, grad_hs, grad_cs = draw.several((n, u), (n, u), (n, t, u), (n, t, u))
        found = kernels.lstm(x, w_ih, w_hh, bias, h0, c0)
        return found, kernels.lstm_backward(grad_hs, grad_cs, x, w_ih, w_hh, h0, c0, *found, (True,) * 6)

    return case


def gru(n: int, t: int, f: int, u: int) -> Callable:
    def case(draw: Draw) -> Any:
        x, w_ih, w_hh, bias_ih, bias_hh = draw.several((n, t, f), (f, 3 * u), (u, 3 * u), (3 * u,), (3 * u,))
        w_hh = w_hh / u**0.5
        h0, grad = draw.several((n, u), (n, t, u))
        found = kernels.gru(x, w_ih, w_hh, bias_ih, bias_hh, h0)
        return found, kernels.gru_backward(grad, x, w_ih, w_hh, h0, *found, (True,) * 6)

    return case


# --- everything else ---


def max_pool(x_shape: tuple, w: Window) -> Callable:
    def case(draw: Draw) -> Any:
        y, where = kernels.max_pool(draw(*x_shape), w)
        return y, where, kernels.max_pool_backward(draw(*y.shape), where, x_shape, w)

    return case


def avg_pool(x_shape: tuple, w: Window, count_padding: bool) -> Callable:
    def case(draw: Draw) -> Any:
        y = kernels.avg_pool(draw(*x_shape), w, count_padding)
        return y, kernels.avg_pool_backward(draw(*y.shape), x_shape, w, count_padding)

    return case


def norm_block(x_shape: tuple, relu: bool) -> Callable:
    def case(draw: Draw) -> Any:
        x, weight, bias, grad_y = draw.several(x_shape, x_shape[-1:], x_shape[-1:], x_shape)
        y, mean, var = kernels.norm_block(x, weight, bias, 1e-3, relu)
        grads = kernels.norm_block_backward(grad_y, x, weight, bias, mean, var, 1e-3, y if relu else None)
        return y, mean, var, grads, kernels.scale_shift(x, weight, bias, relu)

    return case


def layer_norm(rows: int, features: int) -> Callable:
    def case(draw: Draw) -> Any:
        x, weight, bias, grad_y = draw.several((rows, features), (features,), (features,), (rows, features))
        y, mean, var = kernels.layer_norm(x, weight, bias, 1e-3)
        return y, mean, var, kernels.layer_norm_backward(grad_y, x, weight, mean, var, 1e-3)

    return case


def cross_entropy(rows: int, classes: int) -> Callable:
    def case(draw: Draw) -> Any:
        logits, labels, one, each = draw(rows, classes), draw.labels(rows, classes), draw(), draw(rows)
        losses, p = kernels.softmax_cross_entropy(logits, labels)
        grads = [kernels.softmax_cross_entropy_grad(p, labels, grad, 7.0) for grad in (one, each)]
        mean, total = kernels.scaled_sum(losses, 7.0), draw.double()
        kernels.add_scaled(total, mean, 3.0)
        return losses, p, grads, mean, total

    return case


def dropout(count: int) -> Callable:
    return lambda draw: kernels.dropout(draw(count), 0.25, 12345678901)


def erf(count: int) -> Callable:
    return lambda draw: kernels.erf(draw(count))


def gather(images: int, count: int) -> Callable:
    def case(draw: Draw) -> Any:
        pixels, order, amounts = draw.bytes(images, 5, 7, 1), draw.order(images), (20.0, 0.1, 0.1, 2.0)
        batch = kernels.gather(pixels, order, images - count, count, True)
        warped = kernels.gather_warped(pixels, order, images - count, count, 99, amounts, 0.5)
        return batch, warped, kernels.gather(draw.labels(images, 9), order, 1, count, False)

    return case


def clip(*sizes: int) -> Callable:
    def case(draw: Draw) -> Any:
        arrays = draw.several(*((n,) for n in sizes))
        norm = kernels.total_norm(arrays)
        kernels.limit_norm(arrays, norm, 3.0)
        return norm, arrays

    return case


def sgd_step(*sizes: int) -> Callable:
    def case(draw: Draw) -> Any:
        params, grads, velocities = (draw.several(*((n,) for n in sizes)) for _ in range(3))
        kernels.sgd_step(params, grads, velocities, 0.1, 0.9, True, 0.01)
        return params, velocities

    return case


def adam_step(*sizes: int) -> Callable:
    def case(draw: Draw) -> Any:
        shapes = [(n,) for n in sizes]
        params, grads, means, squares = *(draw.several(*shapes) for _ in range(3)), draw.positive(*shapes)
        steps = range(1, len(sizes) + 1)
        kernels.adam_step(params, grads, means, squares, 0.1, 0.9, 0.999, 1e-8, 0.01, True, steps)
        return params, means, squares

    return case


FAMILIES = {
    "convolution": {
        "conv of an image": conv((2, 9, 10, 3), (3, 3, 3, 5), window(3, 3, padding=1)),
        "conv of a volume": conv(
            (1, 4, 5, 9, 8), (2, 2, 3, 4, 8), window(2, 2, 3, stride=2, padding=1), groups=2
        ),
        "conv, many channels": conv((2, 6, 7, 33), (3, 3, 33, 65), window(3, 3, dilation=2, padding=1)),
        "im2col": by_im2col((2, 5, 4, 9, 6), (2, 2, 3, 3, 8), window(2, 2, 3, stride=3, padding=1), groups=2),
        "conv, ReLU, pool": conv_block((3, 11, 12, 4), (3, 3, 4, 20), window(3, 3), True, True),
        "conv, ReLU, TF32": in_tf32(conv_block((2, 9, 7, 8), (3, 3, 8, 16), window(3, 3), True, False)),
    },
    "products": {
        "matmul": matmul(70, 37, 67),
        "matmul, transposed": matmul(33, 129, 5, "a"),
        "matmul, both transposed": matmul(65, 18, 130, "ab"),
        "matmul, long": matmul(5, 700, 37),
        "matmul, TF32": in_tf32(matmul(70, 37, 67)),
        "dense": dense(19, 70, 10, False),
        "dense, ReLU": dense(33, 17, 65, True),
        "dense, many rows": dense(2100, 2, 3, True),
    },
    "recurrent": {
        "rnn": rnn(3, 4, 5, 7, "tanh"),
        "rnn, ReLU": rnn(2, 3, 4, 33, "relu"),
        "lstm": lstm(3, 4, 5, 37),
        "gru": gru(3, 4, 5, 37),
        "rnn, wide": rnn(2, 2, 4, 161, "tanh"),  # whose weight is too large for one block
        "lstm, wide": lstm(2, 3, 4, 90),
        "gru, wide": gru(2, 3, 4, 98),
    },
    "pooling": {
        "max_pool": max_pool((2, 9, 7, 3), window(3, 2, stride=2, padding=1)),
        "max_pool, four channels": max_pool((3, 6, 6, 8), window(2, 2, stride=2)),
        "max_pool, wide": max_pool((1, 20, 18, 1), window(17, 16)),
        "avg_pool": avg_pool((2, 9, 7, 3), window(3, 2, stride=2, padding=1), False),
        "avg_pool of a volume": avg_pool((2, 5, 4, 6, 4), window(2, 2, 3), True),
    },
    "normalisation": {
        "batch norm": norm_block((40, 3, 5), False),
        "batch norm, ReLU": norm_block((700, 35), True),
        "batch norm, wide": norm_block((9, 701), False),
        "layer norm": layer_norm(9, 50),
        "layer norm, long rows": layer_norm(3, 1100),
    },
    "the rest": {
        "cross-entropy": cross_entropy(7, 10),
        "cross-entropy, many classes": cross_entropy(3, 70),
        "cross-entropy, many rows": cross_entropy(300, 2),
        "dropout": dropout(1301),
        "erf": erf(1301),
        "gather": gather(5, 3),
        "clipping": clip(5001, 1, 300),
        "sgd": sgd_step(1301, 1, 300),
        "adam": adam_step(1301, 1, 300),
    },
}
CASES = {name: case for family in FAMILIES.values() for name, case in family.items()}


def bar(case: str) -> float:
    """How far the numbers of a case may be off, relative to their norm."""
    return 1e-3 if "TF32" in case else 1e-5


def on_card(case: str, cupy: Any) -> list[np.ndarray]:
    """What the CUDA kernels give, as one flat list of NumPy arrays."""
    return [array.get() for array in _flat(CASES[case](Draw(case, cupy.asarray)))]


def truth(case: str) -> list[np.ndarray]:
    """What is right: whole-array NumPy in float64."""
    with kernels.use("numpy"):
        return list(_flat(CASES[case](Draw(case, _double))))


def _double(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _flat(found: Any) -> Any:
    if isinstance(found, (tuple, list)):
        for item in found:
            yield from _flat(item)
    elif found is not None:
        yield found
