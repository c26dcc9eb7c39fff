"""Pooling and up-sampling over the spatial axes of (N, *spatial, C), in any number of dimensions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from tinynet import kernels
from tinynet.autograd import Op
from tinynet.backend import array_module
from tinynet.errors import ShapeError, unknown_name
from tinynet.kernels.geometry import Window
from tinynet.ops.checks import TensorLike, floats
from tinynet.ops.index import pad
from tinynet.ops.reduce import max as max_over
from tinynet.ops.reduce import mean
from tinynet.ops.window import Padding, Size, check_no_blind_window, make_window, per_axis, pool_window
from tinynet.tensor import Tensor


def _images(x: TensorLike, name: str) -> Tensor:
    x = floats(x, name)
    if x.data.ndim < 3:
        hint = " A single image without batch and channel axis? Use x[None, ..., None]" if x.ndim == 2 else ""
        raise ShapeError(f"{name} needs x of shape (N, *spatial, C), got {x.shape}.{hint}")
    return x


class MaxPool(Op):
    """Largest value in each window; the gradient goes back to the first largest."""

    def forward(self, x, *, window):
        y, self.where = kernels.max_pool(x, window)  # where: index of the winner inside each window
        self.shape, self.window = x.shape, window
        return y

    def backward(self, grad):
        return kernels.max_pool_backward(grad, self.where, self.shape, self.window)


def max_pool(
    x: TensorLike, size: Size = 2, *,
    stride: Size | None = None, padding: Padding = "valid", dilation: Size = 1, ceil: bool = False,
) -> Tensor:  # fmt: skip
    """The largest value in each window over the spatial axes of ``x`` (N, *spatial, C).

    ``stride`` None puts the windows side by side; padding never wins. ``ceil`` keeps a ragged edge: one
    window more where the last one would start inside the input or the left padding. Of equal values the first
    takes the gradient. Raises :class:`ShapeError` when the window does not fit, :class:`ArgumentError` when
    padding is so wide that a window would see nothing else.
    """
    x = _images(x, "max_pool")
    spatial = x.data.shape[1:-1]
    window = pool_window(spatial, size, stride, padding, dilation, ceil)
    check_no_blind_window(spatial, window)
    return MaxPool.apply(x, window=window)


class AvgPool(Op):
    """Mean of each window; the gradient is shared equally among its places."""

    def forward(self, x, *, window, count_padding):
        self.shape, self.settings = x.shape, (window, count_padding)
        return kernels.avg_pool(x, window, count_padding)

    def backward(self, grad):
        return kernels.avg_pool_backward(grad, self.shape, *self.settings)


def avg_pool(
    x: TensorLike, size: Size = 2, *,
    stride: Size | None = None, padding: Padding = "valid", dilation: Size = 1, count_padding: bool = False,
    ceil: bool = False,
) -> Tensor:  # fmt: skip
    """The mean over each window over the spatial axes of ``x`` (N, *spatial, C); see :func:`max_pool`.

    With ``count_padding`` the zeros of the padding count as values. The part of a window that ``ceil`` lets
    hang out beyond the padding never counts, as in PyTorch and ONNX.
    """
    x = _images(x, "avg_pool")
    spatial = x.data.shape[1:-1]
    window = pool_window(spatial, size, stride, padding, dilation, ceil)
    if count_padding and ceil:
        return _avg_pool_counting(x, window, padding)
    if not count_padding:
        check_no_blind_window(spatial, window)
    return AvgPool.apply(x, window=window, count_padding=count_padding)


def _avg_pool_counting(x: Tensor, window: Window, padding: Padding) -> Tensor:
    """Padding that counts is added as zeros; what hangs out beyond it stays padding that does not count."""
    asked = make_window(x.shape[1:-1], window.size, window.stride, padding, window.dilation).padding
    beyond = tuple((0, after - known) for (_, after), (_, known) in zip(window.padding, asked))
    x = pad(x, ((0, 0), *asked, (0, 0)))
    return AvgPool.apply(x, window=window._replace(padding=beyond), count_padding=False)


def global_avg_pool(x: TensorLike) -> Tensor:
    """The mean over all spatial axes: (N, *spatial, C) to (N, C)."""
    x = _images(x, "global_avg_pool")
    return mean(x, axis=tuple(range(1, x.ndim - 1)))


def global_max_pool(x: TensorLike) -> Tensor:
    """The largest value over all spatial axes: (N, *spatial, C) to (N, C)."""
    x = _images(x, "global_max_pool")
    return max_over(x, axis=tuple(range(1, x.ndim - 1)))


class UpsampleNearest(Op):
    """Each pixel becomes a block; the gradient of a block is summed."""

    def forward(self, x, *, scale):
        self.blocks = (len(x), *(n for pair in zip(x.shape[1:-1], scale) for n in pair), x.shape[-1])
        n, *spatial, c = x.shape
        blocks = array_module(x).broadcast_to(
            x.reshape(n, *(v for s in spatial for v in (s, 1)), c), self.blocks
        )
        return blocks.reshape(n, *(s * k for s, k in zip(spatial, scale)), c)

    def backward(self, grad):
        return grad.reshape(self.blocks).sum(axis=tuple(range(2, len(self.blocks) - 1, 2)))


class UpsampleLinear(Op):
    """Linear interpolation along one spatial axis after the other."""

    def forward(self, x, *, scale):
        self.scale = scale
        for axis, factor in enumerate(scale, start=1):
            x = _stretch(x, factor, axis)
        return x

    def backward(self, grad):
        for axis, factor in enumerate(self.scale, start=1):
            grad = _stretch_adjoint(grad, factor, axis)
        return grad


def _phases(factor: int) -> Iterator[tuple[int, int, float]]:
    """For each new pixel of an old one: number, left neighbour (-1 or 0), share of the right one."""
    for phase in range(factor):
        place = (
            phase + 0.5
        ) / factor - 0.5  # where its centre lies, in old pixels from the centre of this one
        yield phase, math.floor(place), place - math.floor(place)


def _stretch(x: Any, factor: int, axis: int) -> Any:
    """Linear interpolation along ``axis``; outside of the outermost centres their value is kept."""
    xp, x = array_module(x), x.swapaxes(0, axis)
    n, padded = len(x), xp.concatenate([x[:1], x, x[-1:]])
    y = xp.empty((n * factor, *x.shape[1:]), x.dtype)
    for phase, left, share in _phases(factor):
        y[phase::factor] = (1 - share) * padded[1 + left :][:n] + share * padded[2 + left :][:n]
    return y.swapaxes(0, axis)


def _stretch_adjoint(grad: Any, factor: int, axis: int) -> Any:
    grad = grad.swapaxes(0, axis)
    n = len(grad) // factor
    padded = array_module(grad).zeros((n + 2, *grad.shape[1:]), grad.dtype)
    for phase, left, share in _phases(factor):
        padded[1 + left :][:n] += (1 - share) * grad[phase::factor]
        padded[2 + left :][:n] += share * grad[phase::factor]
    padded[1] += padded[0]
    padded[-2] += padded[-1]
    return padded[1:-1].swapaxes(0, axis)


_UPSAMPLE = {"nearest": UpsampleNearest, "linear": UpsampleLinear}


def upsample(x: TensorLike, scale: Size, mode: str = "nearest") -> Tensor:
    """``x`` (N, *spatial, C) enlarged by a whole factor, or by one per spatial axis.

    ``mode`` "nearest" repeats pixels; "linear" interpolates between their centres (bilinear on images,
    trilinear on volumes; half-pixel centres, as in PyTorch with align_corners=False).
    """
    x = _images(x, "upsample")
    if mode not in _UPSAMPLE:
        raise unknown_name("upsample mode", mode, _UPSAMPLE)
    if 0 in x.shape[1:-1]:
        raise ShapeError(f"upsample of shape {x.shape}: there are no pixels")
    return _UPSAMPLE[mode].apply(x, scale=per_axis(scale, x.ndim - 2, "scale"))
