"""How a window slides over the spatial axes: the numbers that convolution and pooling share."""

from __future__ import annotations

import functools
from typing import NamedTuple


class Window(NamedTuple):
    """Size, stride, (before, after) padding and dilation, one entry per spatial axis."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]

    @property
    def rank(self) -> int:
        return len(self.size)

    @property
    def extent(self) -> tuple[int, ...]:
        """How many input positions the window spans, gaps of the dilation included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.size, self.dilation))

    def output_shape(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        """Number of window positions: (padded - extent) // stride + 1 along each axis."""
        return _output_shape(self, tuple(spatial))

    def padded_shape(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(s + before + after for s, (before, after) in zip(spatial, self.padding))


@functools.lru_cache(maxsize=512)  # every call of a layer asks, and the same few windows come back
def _output_shape(window: Window, spatial: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(
        (s + before + after - e) // step + 1
        for s, (before, after), e, step in zip(spatial, window.padding, window.extent, window.stride)
    )
