"""For every differentiable operation, a function and inputs on which to check its gradient.

``tinynet.gradcheck.check_op(name)`` and the tests use this table. Inputs are small, so that each element is
checked, and drawn from a fixed seed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinynet.random
from tinynet import ops

Case = tuple[Callable[..., Any], tuple[Any, ...]]

NOT_DIFFERENTIABLE: tuple[str, ...] = ()  # public operations without a gradient: none today


def _draw(*shapes: tuple[int, ...], low: float | None = None) -> tuple[np.ndarray, ...]:
    """Normal numbers in each shape, or numbers between ``low`` and low + 2."""
    rng = np.random.default_rng(1)
    if low is None:
        return tuple(rng.normal(size=s) for s in shapes)
    return tuple(rng.uniform(low, low + 2, s) for s in shapes)


def _case(f: Callable[..., Any], *shapes: tuple[int, ...], low: float | None = None) -> Callable[[], Case]:
    return lambda: (f, _draw(*shapes, low=low))


def _pow() -> Case:
    def f(x, exponent):
        return ops.pow(x, exponent), ops.pow(x, 3), ops.pow(x, -0.5), ops.pow(2.0, exponent)

    return f, (*_draw((2, 3), low=0.5), *_draw((3,)))


def _matmul() -> Case:
    def f(a, b, v, batch):
        return ops.matmul(a, b), ops.matmul(v, b), ops.matmul(a, v), ops.matmul(v, v), ops.matmul(batch, b)

    return f, _draw((2, 3), (3, 4), (3,), (2, 1, 2, 3))


def _where() -> Case:
    condition = np.array([[True, False, True], [False, False, True]])
    return lambda a, b: ops.where(condition, a, b), _draw((2, 3), (3,))


def _getitem() -> Case:
    def f(x):
        mask = np.array([True, False, True, True])
        return x[1:, ::-1, None], x[mask], x[[0, 2, 2, 0]], x[[1, 1], [2, 2], ..., -1]

    return f, _draw((4, 3, 2))


def _pad() -> Case:
    def f(x):
        widths = ((1, 2), (0, 1))
        return tuple(ops.pad(x, widths, mode) for mode in ("constant", "edge", "reflect"))

    return f, _draw((3, 2))


def _conv() -> Case:
    def f(x, weight, bias):
        strided = ops.conv(
            x, weight, bias, stride=(2, 1), padding=((0, 1), (2, 0)), dilation=(1, 2), groups=2
        )
        same = ops.conv(x, weight, padding="same", groups=2)
        with_relu = ops.conv(x, weight, bias, padding="same", groups=2, relu=True)
        with_pool = ops.conv(x, weight, padding="same", groups=2, pool=True)
        with_both = ops.conv(x, weight, bias, padding="same", groups=2, relu=True, pool=True)
        return strided, same, with_relu, with_pool, with_both

    return f, _draw((2, 4, 5, 4), (2, 3, 2, 6), (6,))


def _dense() -> Case:
    def f(x, weight, bias):
        return ops.dense(x, weight, bias), ops.dense(x, weight, bias, relu=True)

    return f, _draw((2, 3, 4), (4, 2), (2,))


def _conv_transpose() -> Case:
    def f(x, weight, bias):
        strided = ops.conv_transpose(
            x, weight, bias, stride=(3, 2), padding=(0, 1), dilation=(1, 2), groups=2, output_padding=(2, 1)
        )
        return strided, ops.conv_transpose(x, weight, stride=2, padding="same", groups=2)

    return f, _draw((2, 3, 2, 4), (2, 3, 4, 3), (6,))


def _max_pool() -> Case:
    def f(x):
        return ops.max_pool(x, 2), ops.max_pool(x, (3, 2), stride=2, padding=1, ceil=True)

    return f, _draw((2, 5, 4, 3))


def _avg_pool() -> Case:
    def f(x):
        counted = ops.avg_pool(x, 3, stride=2, padding=1, count_padding=True, ceil=True)
        return ops.avg_pool(x, 2), counted, ops.avg_pool(x, (2, 1), stride=1, padding="same", dilation=2)

    return f, _draw((2, 5, 4, 2))


def _upsample() -> Case:
    def f(x):
        return ops.upsample(x, 2), ops.upsample(x, (3, 2), mode="linear")

    return f, _draw((2, 3, 2, 2))


def _batch_norm() -> Case:
    mean, var = _draw((4,), (4,), low=0.5)

    def f(x, weight, bias):
        fixed = ops.batch_norm(x, weight, bias, mean, var, training=False)
        fixed_relu = ops.batch_norm(x, weight, bias, mean, var, training=False, relu=True)
        with_relu = ops.batch_norm(x, weight, bias, None, None, training=True, relu=True)
        return ops.batch_norm(x, weight, bias, None, None, training=True), with_relu, fixed, fixed_relu

    return f, _draw((3, 2, 4), (4,), (4,))


def _rnn() -> Case:
    def f(x, w, u, b, h):
        return ops.rnn(x, w, u, b, h), ops.rnn(x, w, u, b, activation="relu")

    return f, _draw((2, 3, 2), (2, 3), (3, 3), (3,), (2, 3))


def _mse() -> Case:
    def f(pred, target):
        return ops.mse(pred, target), ops.mse(pred, target, "sum"), ops.mse(pred, target, "none")

    return f, _draw((2, 3), (2, 3))


def _cross_entropy() -> Case:
    labels, weights = np.array([2, 0, 255, 3]), np.array([1.0, 0.5, 2.0, 3.0])
    shares = np.full((4, 4), 0.25)

    def f(logits):
        return (
            ops.cross_entropy(logits, labels, ignore_index=255),
            ops.cross_entropy(logits, labels, ignore_index=255, class_weight=weights, reduction="sum"),
            ops.cross_entropy(
                logits, labels % 4, class_weight=weights, label_smoothing=0.1, reduction="none"
            ),
            ops.cross_entropy(logits, shares, class_weight=weights),
        )

    return f, _draw((4, 4))


def _bce_with_logits() -> Case:
    target, weight = np.array([[0.0, 1.0, 0.3], [1.0, 0.0, 1.0]]), np.array([1.0, 2.0, 0.5])
    return lambda x: ops.bce_with_logits(x, target, pos_weight=weight, reduction="none"), _draw((2, 3))


def _segmentation(loss: Callable[..., Any]) -> Callable[[], Case]:
    """A loss on two classes with labels and on one class with a mask."""
    labels = np.array([[[0, 1], [1, 1]], [[0, 0], [1, 0]]])
    return lambda: (
        lambda two, one: (loss(two, labels), loss(one, labels)),
        _draw((2, 2, 2, 2), (2, 2, 2, 1)),
    )


def _dropout() -> Case:
    def f(x):
        before = tinynet.random.get_state()
        y = ops.dropout(x, 0.4)
        tinynet.random.set_state(before)  # the same mask at the next call
        return y

    return f, _draw((4, 5))


def _softmax(op: Callable[..., Any]) -> Callable[[], Case]:
    return _case(lambda x: (op(x), op(x, axis=1)), (2, 3, 4))


def _reduction(op: Callable[..., Any]) -> Callable[[], Case]:
    return _case(lambda x: (op(x), op(x, axis=-1), op(x, axis=(0, 2), keepdims=True)), (2, 3, 4))


gradcheck_cases: dict[str, Callable[[], Case]] = {
    # arithmetic
    "add": _case(ops.add, (2, 3), (3,)),
    "sub": _case(ops.sub, (2, 1), (3,)),
    "mul": _case(ops.mul, (2, 3), (2, 1)),
    "div": _case(ops.div, (2, 3), (3,), low=0.5),
    "pow": _pow,
    "neg": _case(ops.neg, (2, 3)),
    "matmul": _matmul,
    "exp": _case(ops.exp, (2, 3)),
    "log": _case(ops.log, (2, 3), low=0.5),
    "sqrt": _case(ops.sqrt, (2, 3), low=0.5),
    "abs": _case(ops.abs, (2, 3)),
    "clip": _case(lambda x: (ops.clip(x, -0.5, 0.5), ops.clip(x, high=0.1)), (3, 4)),
    "maximum": _case(ops.maximum, (2, 3), (3,)),
    "minimum": _case(ops.minimum, (2, 3), (3,)),
    "where": _where,
    "astype": _case(lambda x: ops.astype(x * x, "float64"), (2, 3)),
    "to_device": _case(lambda x: ops.to_device(x * x, "cpu"), (2, 3)),
    # reductions
    "sum": _reduction(ops.sum),
    "mean": _reduction(ops.mean),
    "var": _reduction(ops.var),
    "max": _reduction(ops.max),
    "min": _reduction(ops.min),
    "logsumexp": _reduction(ops.logsumexp),
    # shapes
    "reshape": _case(lambda x: ops.reshape(x, 3, -1), (2, 3)),
    "transpose": _case(lambda x: (ops.transpose(x), ops.transpose(x, 1, 2, 0)), (2, 3, 4)),
    "flatten": _case(lambda x: ops.flatten(x, 1), (2, 3, 2)),
    "squeeze": _case(lambda x: (ops.squeeze(x), ops.squeeze(x, 0)), (1, 3, 1)),
    "expand_dims": _case(lambda x: ops.expand_dims(x, 1), (2, 3)),
    "concat": _case(lambda a, b: (ops.concat([a, b, a]), ops.concat([a, a], axis=0)), (2, 3), (2, 1)),
    "stack": _case(lambda a, b: ops.stack([a, b, a], axis=1), (2, 3), (2, 3)),
    "split": _case(lambda x: (ops.split(x, 2)[1], *ops.split(x, (1, 2), axis=0)), (3, 4)),
    "pad": _pad,
    "getitem": _getitem,
    "flip": _case(lambda x: (ops.flip(x), ops.flip(x, 1)), (2, 3)),
    "broadcast_to": _case(lambda x: ops.broadcast_to(x, (2, 3, 4)), (3, 1)),
    # activations
    "relu": _case(ops.relu, (3, 4)),
    "leaky_relu": _case(ops.leaky_relu, (3, 4)),
    "prelu": _case(ops.prelu, (3, 4), (4,)),
    "elu": _case(ops.elu, (3, 4)),
    "gelu": _case(lambda x: (ops.gelu(x), ops.gelu(x, approximate=True)), (3, 4)),
    "sigmoid": _case(ops.sigmoid, (3, 4)),
    "tanh": _case(ops.tanh, (3, 4)),
    "softplus": _case(ops.softplus, (3, 4)),
    "softmax": _softmax(ops.softmax),
    "log_softmax": _softmax(ops.log_softmax),
    "dropout": _dropout,
    # layers
    "dense": _dense,
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "global_avg_pool": _case(ops.global_avg_pool, (2, 3, 2, 4)),
    "global_max_pool": _case(ops.global_max_pool, (2, 3, 2, 4)),
    "upsample": _upsample,
    "batch_norm": _batch_norm,
    "layer_norm": _case(ops.layer_norm, (2, 3, 4), (4,), (4,)),
    "group_norm": _case(lambda x, w, b: ops.group_norm(x, 2, w, b), (2, 3, 4), (4,), (4,)),
    "rnn": _rnn,
    "lstm": _case(ops.lstm, (2, 3, 2), (2, 12), (3, 12), (12,), (2, 3), (2, 3)),
    "gru": _case(ops.gru, (2, 3, 2), (2, 9), (3, 9), (9,), (9,), (2, 3)),
    # losses
    "mse": _mse,
    "cross_entropy": _cross_entropy,
    "bce_with_logits": _bce_with_logits,
    "dice": _segmentation(ops.dice),
    "focal": _segmentation(ops.focal),
}
