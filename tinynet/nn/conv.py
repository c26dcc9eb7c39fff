"""Convolution, transposed convolution and up-sampling, each for 1, 2 and 3 spatial axes."""

from __future__ import annotations

import math
from typing import Any

from tinynet import ops
from tinynet.errors import ArgumentError, unknown_name
from tinynet.nn.activation import Activation
from tinynet.nn.activation import get as get_activation
from tinynet.nn.checks import known_padding, whole, window_sizes
from tinynet.nn.init import Initializer, zeros
from tinynet.nn.init import get as get_init
from tinynet.nn.layer import Drawn, Layer
from tinynet.nn.module import Module
from tinynet.nn.norm import BatchNorm
from tinynet.nn.parameter import Parameter
from tinynet.ops.window import Padding, Size, output_shape, per_axis
from tinynet.tensor import Tensor

_AXES = {1: "(N, T, C)", 2: "(N, H, W, C)", 3: "(N, D, H, W, C)"}


class _Conv(Layer):
    """What all convolutions share; ``rank`` spatial axes, features last."""

    rank = 2
    _right_call = "{1}, {2}, in_channels={0}"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.ndim, cls.axes = cls.rank + 2, _AXES[cls.rank]

    def __init__(
        self,
        filters: int,
        kernel_size: Size,
        *,
        stride: Size = 1,
        padding: Padding = "valid",
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        activation: Activation = None,
        in_channels: int | None = None,
        init: str | Initializer = "glorot_uniform",
    ):
        window_sizes(self.rank, kernel_size=kernel_size, stride=stride, dilation=dilation)
        self.filters, self.kernel_size = whole(filters, "filters"), kernel_size
        self.stride, self.padding, self.dilation = stride, known_padding(padding), dilation
        self.groups = whole(groups, "groups")
        self.init, self.activation = get_init(init), get_activation(activation)
        if self.filters % self.groups:
            raise ArgumentError(f"filters={filters} cannot be divided into groups={groups}")
        self.weight = Parameter()
        self.bias = Parameter() if bias else None
        self.size(in_channels, "in_channels")

    @property
    def in_channels(self) -> int | None:
        """Number of input features; None as long as no data were seen."""
        return self._features

    def _kernel(self) -> tuple[int, ...]:
        return per_axis(self.kernel_size, self.rank, "kernel_size")

    def _with_bias(self, weight: tuple[int, ...]) -> Drawn:
        drawn: Drawn = {"weight": (self.init, weight)}
        return drawn if self.bias is None else {**drawn, "bias": (zeros, (self.filters,))}

    def _activate(self, y: Tensor) -> Tensor:
        return y if self.activation is None else self.activation(y)


class _ConvForward(_Conv):
    def shapes(self, features: int) -> Drawn:
        if features % self.groups:
            raise ArgumentError(f"{features} input channels cannot be divided into groups={self.groups}")
        return self._with_bias((*self._kernel(), features // self.groups, self.filters))

    def run(
        self, x: Tensor, *, relu: bool = False, pool: bool = False, norm: BatchNorm | None = None
    ) -> Tensor:
        """The convolution; nn.fusion asks for a ReLU, a pool of 2 or a batch norm in the same pass."""
        own_relu = self.activation is ops.relu
        weight, bias = (self.weight, self.bias) if norm is None else norm.folded(self.weight, self.bias)
        y = ops.conv(
            x,
            weight,
            bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            relu=relu or own_relu,
            pool=pool,
        )
        return y if own_relu else self._activate(y)

    def out_shape(self, in_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the convolution of an input of ``in_shape``, batch axes included."""
        geometry = self.kernel_size, self.stride, self.padding, self.dilation
        return in_shape[0], *output_shape(in_shape[1:-1], *geometry), self.filters

    def multiply_adds(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> int:
        return math.prod(out_shape[:-1]) * self.weight.size


class Conv1D(_ConvForward):
    """Convolution along a sequence: (N, T, C) to (N, T', filters).

    ``weight`` (K, C / groups, filters), ``bias`` (filters,). Arguments as :class:`Conv2D`.
    """

    rank = 1


class Conv2D(_ConvForward):
    """Convolution (cross-correlation) of images: (N, H, W, C) to (N, H', W', filters).

    ``weight`` (KH, KW, C / groups, filters), ``bias`` (filters,). ``kernel_size``, ``stride`` and
    ``dilation`` are an integer or one per axis; ``padding`` is "valid" (none), "same" (output = input /
    stride, rounded up; an odd pixel goes to the right and the bottom), an integer, or (before, after) pairs.
    ``in_channels`` is found from the data when left out. H' = (H + padding - dilation * (KH - 1) - 1) //
    stride + 1.
    """

    rank = 2


class Conv3D(_ConvForward):
    """Convolution of volumes: (N, D, H, W, C) to (N, D', H', W', filters).

    ``weight`` (KD, KH, KW, C / groups, filters), ``bias`` (filters,). Arguments as :class:`Conv2D`.
    """

    rank = 3


class _ConvTranspose(_Conv):
    def __init__(self, filters: int, kernel_size: Size, *, output_padding: Size = 0, **settings: Any):
        self.output_padding = output_padding
        window_sizes(self.rank, 0, output_padding=output_padding)
        super().__init__(filters, kernel_size, **settings)

    def shapes(self, features: int) -> Drawn:
        if features % self.groups:
            raise ArgumentError(f"{features} input channels cannot be divided into groups={self.groups}")
        return self._with_bias((*self._kernel(), features, self.filters // self.groups))

    def run(self, x: Tensor) -> Tensor:
        return self._activate(
            ops.conv_transpose(
                x,
                self.weight,
                self.bias,
                stride=self.stride,
                padding=self.padding,
                dilation=self.dilation,
                groups=self.groups,
                output_padding=self.output_padding,
            )
        )

    def multiply_adds(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> int:
        return math.prod(in_shape[:-1]) * self.weight.size


class ConvTranspose1D(_ConvTranspose):
    """The adjoint of :class:`Conv1D`: (N, T, C) to (N, T', filters). See :class:`ConvTranspose2D`."""

    rank = 1


class ConvTranspose2D(_ConvTranspose):
    """The adjoint of a convolution, for up-sampling that is learned: (N, H, W, C) to (N, H', W', filters).

    ``weight`` (KH, KW, C, filters / groups), ``bias`` (filters,). Arguments as :class:`Conv2D`; ``padding``
    is the one of the convolution whose adjoint it is, so it makes the output smaller ("same": H' = H *
    stride), and ``output_padding`` adds rows at the end. H' = (H - 1) * stride + dilation * (KH - 1) + 1 -
    padding + output_padding.
    """

    rank = 2


class ConvTranspose3D(_ConvTranspose):
    """The adjoint of :class:`Conv3D`: (N, D, H, W, C) to (N, D', H', W', filters)."""

    rank = 3


class _Upsample(Module):
    rank = 2
    modes = ("nearest", "linear")

    def __init__(self, scale: Size = 2, *, mode: str = "nearest"):
        window_sizes(self.rank, scale=scale)
        if mode not in self.modes:
            raise unknown_name("mode", mode, self.modes)
        self.scale, self.mode = scale, mode

    def forward(self, x: Tensor) -> Tensor:
        return ops.upsample(x, self.scale, mode=self.mode)


class Upsample1D(_Upsample):
    """Each step of a sequence ``scale`` times: (N, T, C) to (N, T * scale, C); mode "nearest" or "linear"."""

    rank = 1


class Upsample2D(_Upsample):
    """Images ``scale`` times as large: (N, H, W, C) to (N, H * scale, W * scale, C).

    ``mode`` "nearest" repeats pixels, "linear" is bilinear with half-pixel centres.
    """

    rank = 2


class Upsample3D(_Upsample):
    """Volumes ``scale`` times as large: (N, D, H, W, C); mode "nearest", or "linear" (trilinear)."""

    rank = 3
