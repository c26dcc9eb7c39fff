"""Pooling over windows, and over everything."""

from __future__ import annotations

from tinynet import ops
from tinynet.errors import ShapeError, by_x
from tinynet.nn.checks import known_padding, missing_axis, window_sizes
from tinynet.nn.module import Module
from tinynet.ops.window import Padding, Size
from tinynet.tensor import Tensor


class _Pool(Module):
    rank = 2
    _right_call = "{0}, stride={1}"

    def __init__(self, size: Size = 2, *, stride: Size | None = None, padding: Padding = "valid"):
        window_sizes(self.rank, size=size, stride=size if stride is None else stride)
        self.window, self.stride, self.padding = size, stride, known_padding(padding)

    @property
    def size(self) -> Size:
        """Side of the window, or one per axis."""
        return self.window

    def forward(self, x: Tensor) -> Tensor:
        _check_rank(x, self.rank)
        return self.pool(x)

    def pool(self, x: Tensor) -> Tensor:
        """The operation, on an input of the right rank."""
        raise TypeError(f"{type(self).__name__} defines no pool(self, x)")


class _MaxPool(_Pool):
    def pool(self, x: Tensor) -> Tensor:
        return ops.max_pool(x, self.window, stride=self.stride, padding=self.padding)


class MaxPool1D(_MaxPool):
    """Largest value in each window: (N, T, C) to (N, T', C). Arguments as :class:`MaxPool2D`."""

    rank = 1


class MaxPool2D(_MaxPool):
    """Largest value in each window: (N, H, W, C) to (N, H', W', C); of equal values the first wins.

    ``size`` and ``stride`` are an integer or one per axis, ``stride`` is ``size`` when left out. What does
    not fill a window is dropped, unless ``padding="same"``; padding never wins.
    """

    rank = 2


class MaxPool3D(_MaxPool):
    """Largest value in each window: (N, D, H, W, C) to (N, D', H', W', C). See :class:`MaxPool2D`."""

    rank = 3


class _AvgPool(_Pool):
    def __init__(
        self,
        size: Size = 2,
        *,
        stride: Size | None = None,
        padding: Padding = "valid",
        count_padding: bool = False,
    ):
        super().__init__(size, stride=stride, padding=padding)
        self.count_padding = count_padding

    def pool(self, x: Tensor) -> Tensor:
        return ops.avg_pool(
            x, self.window, stride=self.stride, padding=self.padding, count_padding=self.count_padding
        )


class AvgPool1D(_AvgPool):
    """Mean of each window: (N, T, C) to (N, T', C). Arguments as :class:`AvgPool2D`."""

    rank = 1


class AvgPool2D(_AvgPool):
    """Mean of each window: (N, H, W, C) to (N, H', W', C). Arguments as :class:`MaxPool2D`.

    With ``count_padding`` the zeros of the padding count in the divisor.
    """

    rank = 2


class AvgPool3D(_AvgPool):
    """Mean of each window: (N, D, H, W, C) to (N, D', H', W', C). Arguments as :class:`AvgPool2D`."""

    rank = 3


class _GlobalAvgPool(Module):
    rank = 2

    def forward(self, x: Tensor) -> Tensor:
        _check_rank(x, self.rank)
        return ops.global_avg_pool(x)


class GlobalAvgPool1D(_GlobalAvgPool):
    """Mean over the whole sequence: (N, T, C) to (N, C)."""

    rank = 1


class GlobalAvgPool2D(_GlobalAvgPool):
    """Mean over each whole map: (N, H, W, C) to (N, C)."""

    rank = 2


class GlobalAvgPool3D(_GlobalAvgPool):
    """Mean over each whole volume: (N, D, H, W, C) to (N, C)."""

    rank = 3


class _GlobalMaxPool(Module):
    rank = 2

    def forward(self, x: Tensor) -> Tensor:
        _check_rank(x, self.rank)
        return ops.global_max_pool(x)


class GlobalMaxPool1D(_GlobalMaxPool):
    """Largest value of the whole sequence: (N, T, C) to (N, C)."""

    rank = 1


class GlobalMaxPool2D(_GlobalMaxPool):
    """Largest value of each whole map: (N, H, W, C) to (N, C)."""

    rank = 2


class GlobalMaxPool3D(_GlobalMaxPool):
    """Largest value of each whole volume: (N, D, H, W, C) to (N, C)."""

    rank = 3


def _check_rank(x: Tensor, rank: int) -> None:
    if x.ndim != rank + 2:
        hint = missing_axis(x.shape) if x.ndim == rank + 1 else ""
        raise ShapeError(f"got {by_x(x.shape)}, {x.ndim} axes, but the input has {rank + 2}.{hint}")
