"""The fused operations once more, composed of small ones: to read, and to check the fused ones against.

Each ``*_simple`` takes the arguments of its twin and gives the same result and, through the tape, the same
gradient; it is slower, keeps more in memory, and checks nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinynet import ops
from tinynet.kernels.geometry import Window
from tinynet.ops.checks import TensorLike, inverse_order
from tinynet.ops.conv import transposed_window
from tinynet.ops.window import Padding, Size, make_window, pool_window
from tinynet.tensor import Tensor, as_tensor

# --- element by element ---


def sigmoid_simple(x: TensorLike) -> Tensor:
    """1 / (1 + exp(-x)); overflows for large negative numbers, which its twin does not."""
    return 1 / (1 + ops.exp(-as_tensor(x)))


def softplus_simple(x: TensorLike) -> Tensor:
    """log(1 + exp(x)); overflows for large numbers, which its twin does not."""
    return ops.log(1 + ops.exp(x))


def leaky_relu_simple(x: TensorLike, slope: float = 0.01) -> Tensor:
    """relu(x) - slope * relu(-x)."""
    return ops.relu(x) - slope * ops.relu(-as_tensor(x))


def prelu_simple(x: TensorLike, slope: TensorLike) -> Tensor:
    """relu(x) - slope * relu(-x), with a slope that learns."""
    return ops.relu(x) - as_tensor(slope) * ops.relu(-as_tensor(x))


def elu_simple(x: TensorLike, alpha: float = 1.0) -> Tensor:
    """relu(x) + alpha * (exp(-relu(-x)) - 1)."""
    return ops.relu(x) + alpha * (ops.exp(-ops.relu(-as_tensor(x))) - 1)


def gelu_tanh_simple(x: TensorLike) -> Tensor:
    """The approximate form of gelu."""
    x = as_tensor(x)
    return 0.5 * x * (1 + ops.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


# --- along axes ---


def var_simple(x: TensorLike, axis: Any = None, keepdims: bool = False) -> Tensor:
    """mean((x - mean(x))^2)."""
    x = as_tensor(x)
    return ops.mean((x - ops.mean(x, axis, keepdims=True)) ** 2, axis, keepdims)


def logsumexp_simple(x: TensorLike, axis: Any = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))), with the largest number taken out and put back."""
    x = as_tensor(x)
    top = ops.max(x.detach(), axis, keepdims=True)
    return ops.log(ops.sum(ops.exp(x - top), axis, keepdims)) + (
        top if keepdims else ops.max(x.detach(), axis)
    )


def softmax_simple(x: TensorLike, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)), with the largest number taken out."""
    x = as_tensor(x)
    e = ops.exp(x - ops.max(x.detach(), axis, keepdims=True))
    return e / ops.sum(e, axis, keepdims=True)


def log_softmax_simple(x: TensorLike, axis: int = -1) -> Tensor:
    """x - logsumexp(x)."""
    return as_tensor(x) - logsumexp_simple(x, axis, keepdims=True)


def dense_simple(x: TensorLike, weight: TensorLike, bias: TensorLike | None = None) -> Tensor:
    """x @ weight + bias."""
    y = ops.matmul(x, weight)
    return y if bias is None else y + as_tensor(bias)


# --- sliding windows: one shifted view of the padded input per tap of the window ---


def _taps(x: Tensor, window: Window, value: float = 0.0) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """For each tap, its index and what all windows see through it: (N, *out, C)."""
    out = window.output_shape(x.shape[1:-1])
    padded = ops.pad(x, ((0, 0), *window.padding, (0, 0)), value=value)
    for tap in itertools.product(*map(range, window.size)):
        places = [
            slice(t * d, t * d + (o - 1) * step + 1, step)
            for t, d, o, step in zip(tap, window.dilation, out, window.stride)
        ]
        yield tap, padded[(slice(None), *places)]


def conv_simple(
    x: TensorLike, weight: TensorLike, bias: TensorLike | None = None, *,
    stride: Size = 1, padding: Padding = "valid", dilation: Size = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """The sum over all taps of (what the windows see through it) @ (the weight of the tap), per group."""
    x, weight = as_tensor(x), as_tensor(weight)
    window = make_window(x.shape[1:-1], weight.shape[:-2], stride, padding, dilation)
    results = []
    for part, filters in zip(ops.split(x, groups), ops.split(weight, groups)):
        results.append(sum(ops.matmul(seen, filters[tap]) for tap, seen in _taps(part, window)))
    y = ops.concat(results)
    return y if bias is None else y + as_tensor(bias)


def conv_transpose_simple(
    x: TensorLike, weight: TensorLike, bias: TensorLike | None = None, *,
    stride: Size = 1, padding: Padding = "valid", dilation: Size = 1, groups: int = 1,
    output_padding: Size = 0,
) -> Tensor:  # fmt: skip
    """Each input pixel stamps the weight, times its value, on the output; overlapping stamps add up."""
    x, weight = as_tensor(x), as_tensor(weight)
    spatial, window = transposed_window(
        x.shape[1:-1], weight.shape[:-2], stride, padding, dilation, output_padding
    )
    canvas = [s + before + after for s, (before, after) in zip(spatial, window.padding)]
    results = []
    for part, filters in zip(ops.split(x, groups), ops.split(weight, groups, axis=-2)):
        taps = itertools.product(*map(range, window.size))
        results.append(sum(_stamp(ops.matmul(part, filters[tap]), tap, window, canvas) for tap in taps))
    cut = [slice(before, before + s) for s, (before, _) in zip(spatial, window.padding)]
    y = ops.concat(results)[(slice(None), *cut)]
    return y if bias is None else y + as_tensor(bias)


def _stamp(values: Tensor, tap: tuple[int, ...], window: Window, canvas: list[int]) -> Tensor:
    """The pixels of (N, *spatial, C) laid out on the canvas, ``stride`` apart, moved by the tap."""
    for i, (t, d, step, size) in enumerate(zip(tap, window.dilation, window.stride, canvas)):
        axis, shape = i + 1, values.shape
        gaps = [(0, 0)] * (len(shape) + 1)
        gaps[axis + 1] = (0, step - 1)  # zeros after each pixel
        spread = ops.pad(ops.expand_dims(values, axis + 1), gaps)
        values = spread.reshape(*shape[:axis], shape[axis] * step, *shape[axis + 1 :])
        values = values[(slice(None),) * axis + (slice(0, size - t * d),)]
        room = [(0, 0)] * len(shape)
        room[axis] = (t * d, size - t * d - values.shape[axis])
        values = ops.pad(values, room)
    return values


def max_pool_simple(
    x: TensorLike, size: Size = 2, *,
    stride: Size | None = None, padding: Padding = "valid", dilation: Size = 1, ceil: bool = False,
) -> Tensor:  # fmt: skip
    """The largest over all taps, with -inf as padding."""
    x = as_tensor(x)
    window = pool_window(x.shape[1:-1], size, stride, padding, dilation, ceil)
    return ops.max(ops.stack([seen for _, seen in _taps(x, window, -np.inf)]), axis=0)


def avg_pool_simple(
    x: TensorLike, size: Size = 2, *,
    stride: Size | None = None, padding: Padding = "valid", dilation: Size = 1, count_padding: bool = False,
    ceil: bool = False,
) -> Tensor:  # fmt: skip
    """The sum over all taps, divided by the number of taps that count."""
    x = as_tensor(x)
    spatial = x.shape[1:-1]
    window = pool_window(spatial, size, stride, padding, dilation, ceil)
    counted = Tensor(np.ones((1, *spatial, 1), x.dtype))
    if count_padding:
        known = make_window(spatial, size, size if stride is None else stride, padding, dilation).padding
        counted = ops.pad(counted, ((0, 0), *known, (0, 0)), value=1.0)
        beyond = tuple((0, after - k) for (_, after), (_, k) in zip(window.padding, known))
        count = sum(seen for _, seen in _taps(counted, window._replace(padding=beyond)))
    else:
        count = sum(seen for _, seen in _taps(counted, window))
    return as_tensor(sum(seen for _, seen in _taps(x, window))) / count


def upsample_simple(x: TensorLike, scale: int, mode: str = "nearest") -> Tensor:
    """A matrix product along each spatial axis: row o of the matrix says which pixels make up new pixel o."""
    x = as_tensor(x)
    for axis in range(1, x.ndim - 1):
        matrix = as_tensor(_upsampling_matrix(x.shape[axis], scale, mode).astype(x.dtype))
        order = [*(a for a in range(x.ndim) if a != axis), axis]
        x = ops.matmul(x.transpose(order), matrix.T).transpose(inverse_order(order))
    return x


def _upsampling_matrix(size: int, scale: int, mode: str) -> np.ndarray:
    places = ((np.arange(size * scale) + 0.5) / scale - 0.5).clip(
        0, size - 1
    )  # in old pixels, centre to centre
    if mode == "nearest":
        return np.eye(size)[np.round(places).astype(int)]
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(size)))


# --- normalisation ---


def _normalise(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    return (x - ops.mean(x, axes, keepdims=True)) / ops.sqrt(ops.var(x, axes, keepdims=True) + eps)


def batch_norm_simple(x: TensorLike, weight: TensorLike, bias: TensorLike, eps: float = 1e-5) -> Tensor:
    """Normalised over all axes but the last, then scaled and shifted; the training form of batch_norm."""
    x = as_tensor(x)
    return _normalise(x, tuple(range(x.ndim - 1)), eps) * as_tensor(weight) + as_tensor(bias)


def layer_norm_simple(x: TensorLike, weight: TensorLike, bias: TensorLike, eps: float = 1e-5) -> Tensor:
    """Normalised over the last axis, then scaled and shifted."""
    return _normalise(as_tensor(x), (-1,), eps) * as_tensor(weight) + as_tensor(bias)


def group_norm_simple(
    x: TensorLike, groups: int, weight: TensorLike, bias: TensorLike, eps: float = 1e-5
) -> Tensor:
    """Normalised over all positions and the channels of a group, then scaled and shifted."""
    x = as_tensor(x)
    grouped = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    axes = (*range(1, x.ndim - 1), x.ndim)
    return _normalise(grouped, axes, eps).reshape(x.shape) * as_tensor(weight) + as_tensor(bias)


# --- recurrent layers, unrolled on the tape ---


def _steps(x: Tensor) -> Iterator[Tensor]:
    return (x[:, t] for t in range(x.shape[1]))


def rnn_simple(
    x: TensorLike, weight_ih: TensorLike, weight_hh: TensorLike, bias: TensorLike, h0: TensorLike,
    *, activation: str = "tanh",
) -> Tensor:  # fmt: skip
    """h = act(x_t @ weight_ih + h @ weight_hh + bias), step by step."""
    h, hs, act = as_tensor(h0), [], ops.tanh if activation == "tanh" else ops.relu
    for x_t in _steps(as_tensor(x)):
        h = act(ops.matmul(x_t, weight_ih) + ops.matmul(h, weight_hh) + as_tensor(bias))
        hs.append(h)
    return ops.stack(hs, axis=1)


def lstm_simple(
    x: TensorLike, weight_ih: TensorLike, weight_hh: TensorLike, bias: TensorLike, h0: TensorLike,
    c0: TensorLike,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """c = f * c + i * g and h = o * tanh(c), step by step."""
    h, c, hs, cs = as_tensor(h0), as_tensor(c0), [], []
    for x_t in _steps(as_tensor(x)):
        gates = ops.matmul(x_t, weight_ih) + ops.matmul(h, weight_hh) + as_tensor(bias)
        i, f, g, o = ops.split(gates, 4)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        h = ops.sigmoid(o) * ops.tanh(c)
        hs.append(h)
        cs.append(c)
    return ops.stack(hs, axis=1), ops.stack(cs, axis=1)


def gru_simple(
    x: TensorLike, weight_ih: TensorLike, weight_hh: TensorLike, bias_ih: TensorLike, bias_hh: TensorLike,
    h0: TensorLike,
) -> Tensor:  # fmt: skip
    """h = (1 - z) * n + z * h, step by step; the reset gate acts on the finished product."""
    h, hs = as_tensor(h0), []
    for x_t in _steps(as_tensor(x)):
        from_x = ops.split(ops.matmul(x_t, weight_ih) + as_tensor(bias_ih), 3)
        from_h = ops.split(ops.matmul(h, weight_hh) + as_tensor(bias_hh), 3)
        r, z = (ops.sigmoid(a + b) for a, b in zip(from_x[:2], from_h[:2]))
        h = (1 - z) * ops.tanh(from_x[2] + r * from_h[2]) + z * h
        hs.append(h)
    return ops.stack(hs, axis=1)


# --- losses ---


def mse_simple(pred: TensorLike, target: TensorLike) -> Tensor:
    """mean((pred - target)^2)."""
    return ops.mean((as_tensor(pred) - as_tensor(target)) ** 2)


def cross_entropy_simple(
    logits: TensorLike, target: TensorLike, *,
    class_weight: TensorLike | None = None, ignore_index: int | None = None, label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """The weighted mean of -log softmax(logits)[label], mixed with that over all classes; logits (R, K)."""
    logs, labels = ops.log_softmax(logits), as_tensor(target).data
    classes = logs.shape[-1]
    weights = np.ones(classes) if class_weight is None else np.asarray(class_weight)
    weights = weights.astype(logs.dtype)
    kept = np.flatnonzero(labels != ignore_index)
    logs, labels = logs[kept], labels[kept]
    at_label = -ops.sum(logs[np.arange(len(labels)), labels] * weights[labels])
    everywhere = -ops.sum(logs * weights) / classes
    total = float(weights[labels].sum())
    return ((1 - label_smoothing) * at_label + label_smoothing * everywhere) / total


def bce_with_logits_simple(
    logits: TensorLike, target: TensorLike, *, pos_weight: TensorLike | None = None
) -> Tensor:
    """mean(-w t log p - (1 - t) log(1 - p)) with p = sigmoid(logits)."""
    p, t = ops.sigmoid(logits), as_tensor(target)
    w = 1.0 if pos_weight is None else as_tensor(pos_weight)
    return -ops.mean(w * t * ops.log(p) + (1 - t) * ops.log(1 - p))
