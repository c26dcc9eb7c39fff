"""The hot loops of tinynet: one function per kernel, in several rooms.

=============  ==========================================================================
``reference``  plain Python loops: slow, short, the definition of what is right
``numpy``      whole-array operations (im2col and matrix products), any floating dtype
``fast``       Numba loops for NumPy arrays in float32, the room above for the rest
cuda           CUDA kernels, chosen by themselves for CuPy arrays
=============  ==========================================================================

``kernels.use("reference")`` switches the room for NumPy arrays. Arrays have their features last:
images (N, H, W, C), volumes (N, D, H, W, C), sequences (N, T, F). This package imports nothing from
the rest of tinynet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinynet.kernels.batches import gather, gather_warped
from tinynet.kernels.geometry import Window
from tinynet.kernels.products import precision
from tinynet.kernels.recurrent import gru, gru_backward, lstm, lstm_backward, rnn, rnn_backward
from tinynet.kernels.rooms import block_of, room, room_of, use

Array = Any
Arrays = Sequence[Any]  # one array for each parameter

__all__ = [
    "Window", "adam_step", "add_scaled", "avg_pool", "avg_pool_backward", "batch_norm",
    "batch_norm_backward", "bias_grad", "conv", "conv_block", "conv_block_backward", "conv_input_grad",
    "conv_transpose", "conv_weight_grad", "cut", "dense", "dense_backward", "dropout", "erf", "gather",
    "gather_warped", "gru", "gru_backward", "join", "layer_norm", "layer_norm_backward", "limit_norm",
    "lstm", "lstm_backward", "matmul", "max_pool", "max_pool_backward", "norm_block",
    "norm_block_backward", "precision", "rnn", "rnn_backward", "room", "scale_shift", "scaled_sum",
    "sgd_step", "softmax_cross_entropy", "softmax_cross_entropy_grad", "total_norm", "use",
]  # fmt: skip


# --- convolution: x (N, *spatial, C), weight (*kernel, C / groups, O), y (N, *out, O) ---


def conv(x: Array, weight: Array, bias: Array | None, window: Window, groups: int) -> Array:
    """Slide ``weight`` over ``x`` (cross-correlation) and add ``bias`` (O,): y (N, *out, O)."""
    return room_of(x).conv(x, weight, bias, window, groups)


def conv_input_grad(grad_y: Array, weight: Array, x_shape: tuple, window: Window, groups: int) -> Array:
    """The adjoint of :func:`conv` in x: grad_y (N, *out, O) back to (N, *spatial, C).

    It is also the forward of the transposed convolution.
    """
    return room_of(grad_y).conv_input_grad(grad_y, weight, x_shape, window, groups)


def conv_weight_grad(x: Array, grad_y: Array, window: Window, groups: int) -> Array:
    """The adjoint of :func:`conv` in the weight: (*kernel, C / groups, O)."""
    return room_of(x).conv_weight_grad(x, grad_y, window, groups)


def bias_grad(grad_y: Array) -> Array:
    """Sum over all axes but the last: (..., O) to (O,)."""
    return room_of(grad_y).bias_grad(grad_y)


def matmul(a: Array, b: Array) -> Array:
    """Matrix product of 2-D arrays, either of which may be a transposed view: (M, K) @ (K, N)."""
    return room_of(a).matmul(a, b)


# --- blocks: what usually stands together, in one pass over memory where a room can do that ---


def conv_block(
    x: Array, weight: Array, bias: Array | None, window: Window, groups: int, relu: bool, pool: bool,
    places: bool = True,
) -> tuple[Array, Array | None]:  # fmt: skip
    """:func:`conv`, then ReLU if ``relu``, then max pooling of 2 x 2 with stride 2 if ``pool`` (images only).

    Returns y and, of a pooled block, where each value stood in its window (uint8, 0 to 3 row by row, 4 where
    the ReLU let nothing through); None of others. Without ``places``, when no backward will ask for them, a
    room may return None for them, too.
    """
    return block_of(x, "conv_block")(x, weight, bias, window, groups, relu, pool, places)


def conv_block_backward(
    grad_y: Array, x: Array, weight: Array, y: Array | None, where: Array | None, window: Window,
    groups: int, needs: tuple[bool, bool, bool],
) -> tuple[Array | None, Array | None, Array | None]:  # fmt: skip
    """Gradients of :func:`conv_block` in x, weight and bias, those that ``needs`` asks for.

    ``where`` is that of the forward. ``y`` is its result if there was a ReLU and no pool, otherwise None.
    """
    return block_of(x, "conv_block_backward")(grad_y, x, weight, y, where, window, groups, needs)


def conv_transpose(
    x: Array, weight: Array, bias: Array | None, y_shape: tuple, window: Window, groups: int
) -> Array:
    """:func:`conv_input_grad` of x (N, *out, O) to y_shape (N, *larger, C), plus bias (C,)."""
    return block_of(x, "conv_transpose")(x, weight, bias, y_shape, window, groups)


def dense(x: Array, weight: Array, bias: Array | None, relu: bool) -> Array:
    """x (R, F) @ weight (F, U) + bias (U,), then ReLU if ``relu``."""
    return block_of(x, "dense")(x, weight, bias, relu)


def dense_backward(
    grad_y: Array, x: Array, weight: Array, y: Array | None, needs: tuple[bool, bool, bool]
) -> tuple[Array | None, Array | None, Array | None]:
    """Gradients of :func:`dense` in x, weight and bias; ``y`` is its result if there was a ReLU."""
    return block_of(x, "dense_backward")(grad_y, x, weight, y, needs)


def norm_block(x: Array, weight: Array, bias: Array, eps: float, relu: bool) -> tuple[Array, Array, Array]:
    """:func:`batch_norm`, then ReLU if ``relu``; returns y, mean and population variance."""
    return block_of(x, "norm_block")(x, weight, bias, eps, relu)


def norm_block_backward(
    grad_y: Array, x: Array, weight: Array, bias: Array, mean: Array, var: Array, eps: float, y: Array | None
) -> tuple[Array, Array, Array]:
    """Gradients of :func:`norm_block` in x, weight and bias.

    ``y`` is its result if there was a ReLU. Where that was open, a room may read from y or find again from x.
    """
    return block_of(x, "norm_block_backward")(grad_y, x, weight, bias, mean, var, eps, y)


def scale_shift(x: Array, scale: Array, shift: Array, relu: bool) -> Array:
    """x (..., C) * scale (C,) + shift (C,), then ReLU if ``relu``."""
    return block_of(x, "scale_shift")(x, scale, shift, relu)


def join(axis: int, *parts: Array) -> Array:
    """Arrays one after the other along an axis, counted from 0; all other axes are alike."""
    return block_of(parts[0], "join")(axis, *parts)


def cut(x: Array, sizes: tuple[int, ...], axis: int) -> tuple[Array, ...]:
    """The pieces of these sizes along an axis, each in memory by itself: :func:`join` undone."""
    return block_of(x, "cut")(x, sizes, axis)


# --- pooling: x (N, *spatial, C), y (N, *out, C) ---


def max_pool(x: Array, window: Window) -> tuple[Array, Array]:
    """Largest value in each window, and where it stood: its index inside the window, row by row.

    Padding never wins. Of equal values the first wins; a NaN wins over every number. A window that lies
    wholly in the padding gives -inf. The index is uint8, or int32 where a window has more than 256 places.
    """
    return room_of(x).max_pool(x, window)


def max_pool_backward(grad_y: Array, where: Array, x_shape: tuple, window: Window) -> Array:
    """Give each gradient back to the place that won."""
    return room_of(grad_y).max_pool_backward(grad_y, where, x_shape, window)


def avg_pool(x: Array, window: Window, count_padding: bool) -> Array:
    """Mean over each window; zeros of the padding are counted in the divisor or not.

    A window that lies wholly in the padding gives 0.
    """
    return room_of(x).avg_pool(x, window, count_padding)


def avg_pool_backward(grad_y: Array, x_shape: tuple, window: Window, count_padding: bool) -> Array:
    """Share each gradient equally among the places of its window."""
    return room_of(grad_y).avg_pool_backward(grad_y, x_shape, window, count_padding)


# --- normalisation ---


def batch_norm(x: Array, weight: Array, bias: Array, eps: float) -> tuple[Array, Array, Array]:
    """Normalise each feature over all other axes with the batch's own statistics, then scale and shift.

    x (..., C), weight and bias (C,); returns y, mean (C,), population variance (C,). Of an empty batch mean
    and variance are 0.
    """
    return room_of(x).batch_norm(x, weight, bias, eps)


def batch_norm_backward(
    grad_y: Array, x: Array, weight: Array, mean: Array, var: Array, eps: float
) -> tuple[Array, Array, Array]:
    """Gradients of :func:`batch_norm` in x, weight and bias."""
    return room_of(x).batch_norm_backward(grad_y, x, weight, mean, var, eps)


def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> tuple[Array, Array, Array]:
    """Normalise each row of x (R, F), then scale and shift by weight and bias (F,).

    Returns y (R, F), and mean (R,) and population variance (R,) of the rows.
    """
    return room_of(x).layer_norm(x, weight, bias, eps)


def layer_norm_backward(
    grad_y: Array, x: Array, weight: Array, mean: Array, var: Array, eps: float
) -> tuple[Array, Array, Array]:
    """Gradients of :func:`layer_norm` in x, weight and bias."""
    return room_of(x).layer_norm_backward(grad_y, x, weight, mean, var, eps)


# --- loss, element by element, optimiser steps ---


def softmax_cross_entropy(logits: Array, labels: Array) -> tuple[Array, Array]:
    """-log softmax(logits)[label] for each row of logits (R, K), labels integer (R,) within 0..K-1.

    Returns the losses (R,) and the probabilities (R, K), from which the gradient is p - onehot. A row that
    holds +inf or NaN gives NaN.
    """
    return room_of(logits).softmax_cross_entropy(logits, labels)


def dropout(x: Array, rate: float, key: int) -> Array:
    """Zero each element with probability ``rate`` (0 <= rate < 1) and scale the rest by 1 / (1 - rate).

    Element i (in C order) is kept when hash(key, i) is high enough, so the same key gives the same mask
    on every device, and the backward is this same function applied to the gradient. The hash, in unsigned
    32-bit arithmetic, with a key below 2^62::

        h = mix(i * 0x9E3779B1 + (key & 0xFFFFFFFF));  h = mix(h ^ (key >> 32))
        keep if h >= min(round(rate * 2**32), 2**32 - 1)

        mix(h):  h ^= h >> 16;  h *= 0x7FEB352D;  h ^= h >> 15;  h *= 0x846CA68B;  h ^= h >> 16

    ``mix`` is lowbias32 (Wellons 2018, "Prospecting for hash functions"). At rate 0 everything is kept.
    """
    return room_of(x).dropout(x, rate, key)


def erf(x: Array) -> Array:
    """The Gauss error function of each element: 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x."""
    return room_of(x).erf(x)


def softmax_cross_entropy_grad(probabilities: Array, labels: Array, grad: Array, divisor: float) -> Array:
    """Gradient of :func:`softmax_cross_entropy` in the logits: (probabilities - onehot) * grad / divisor.

    ``probabilities`` (R, K) are those of the forward; ``grad`` is a number for each row (R,), or for all ().
    """
    return room_of(probabilities).softmax_cross_entropy_grad(probabilities, labels, grad, divisor)


def scaled_sum(values: Array, divisor: float) -> Array:
    """Sum of ``values`` (R,) over ``divisor``: an array without axes, or NumPy's scalar."""
    return room_of(values).scaled_sum(values, divisor)


def add_scaled(total: Array, value: Array, factor: float) -> None:
    """Add value * factor to ``total``, in place: arrays of a single number, ``total`` in float64."""
    room_of(value).add_scaled(total, value, factor)


def total_norm(arrays: Arrays) -> Array:
    """The Euclidean norm of all arrays together, as of one long vector: float64, an array without axes.

    The sum runs in float64. Of float32 numbers it is finite if, and only if, all of them are.
    """
    return room_of(arrays[0]).total_norm(arrays)


def limit_norm(arrays: Arrays, norm: Array, limit: float) -> None:
    """Multiply all arrays, in place, by limit / max(norm, limit), rounded to their dtype."""
    room_of(arrays[0]).limit_norm(arrays, norm, limit)


def sgd_step(
    params: Arrays, grads: Arrays, velocities: Arrays | None, lr: float, momentum: float, nesterov: bool,
    weight_decay: float,
) -> None:  # fmt: skip
    """One step of gradient descent, in place: g += weight_decay * p; v = momentum * v + g; p -= lr * v.

    With nesterov, p -= lr * (g + momentum * v). The lists hold one array for each parameter; ``velocities``
    is None when momentum is 0.
    """
    if params:
        room_of(params[0]).sgd_step(params, grads, velocities, lr, momentum, nesterov, weight_decay)


def adam_step(
    params: Arrays, grads: Arrays, means: Arrays, squares: Arrays, lr: float, beta1: float, beta2: float,
    eps: float, weight_decay: float, decoupled: bool, steps: Sequence[int],
) -> None:  # fmt: skip
    """One step of Adam, in place (Kingma and Ba 2015).

    m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
    p -= lr * (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps). Weight decay is added to g, or when
    ``decoupled`` (AdamW, Loshchilov and Hutter 2019) p is first multiplied by 1 - lr * weight_decay. The
    lists hold one array, and the number of the step, from 1, for each parameter.
    """
    if params:
        room_of(params[0]).adam_step(
            params, grads, means, squares, lr, beta1, beta2, eps, weight_decay, decoupled, steps
        )
