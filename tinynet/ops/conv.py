"""Convolution and its adjoint, the transposed convolution, in 1, 2 or 3 dimensions."""

from __future__ import annotations

from typing import Any

from tinynet import kernels
from tinynet.autograd import Op, is_recording
from tinynet.errors import ArgumentError, ShapeError
from tinynet.kernels.geometry import Window
from tinynet.ops.checks import TensorLike, channels_hint, check_parameter, floats
from tinynet.ops.window import Padding, Size, axis_names, make_window, padding_pairs, per_axis, remembered
from tinynet.tensor import Tensor


class Conv(Op):
    """Slide the weight over x, with ReLU and pooling if asked; both gradients are convolutions again."""

    def forward(self, x, weight, bias, *, window, groups, relu, pool):
        recorded = is_recording() and any(self.needs)
        y, self.where = kernels.conv_block(x, weight, bias, window, groups, relu, pool, recorded)
        self.x, self.weight, self.window, self.groups = x, weight, window, groups
        self.y = y if relu and not pool else None  # a pool knows where its ReLU was closed
        return y

    def backward(self, grad):
        return kernels.conv_block_backward(
            grad, self.x, self.weight, self.y, self.where, self.window, self.groups, self.needs
        )


def conv(
    x: TensorLike, weight: TensorLike, bias: TensorLike | None = None, *,
    stride: Size = 1, padding: Padding = "valid", dilation: Size = 1, groups: int = 1,
    relu: bool = False, pool: bool = False,
) -> Tensor:  # fmt: skip
    """Convolution (cross-correlation, as in all deep learning) of ``x`` with ``weight``.

    x (N, *spatial, C), weight (*kernel, C / groups, O), bias (O,); the result is (N, *out, O) with out =
    (padded input - (kernel - 1) * dilation - 1) // stride + 1 along each of 1, 2 or 3 axes. ``padding`` is
    "valid" (none), "same" (out = input / stride rounded up; an odd pixel goes to the right and the bottom),
    an integer, one per axis, or a (before, after) pair per axis.

    ``relu`` and ``pool`` put a :func:`relu` and, of images, a :func:`max_pool` of 2 behind it, with the same
    results, but in one pass over memory and as one node of the graph.

    Raises :class:`ShapeError` when rank, channels or size do not fit, in this order, and
    :class:`ArgumentError` for a stride, dilation or padding that makes no sense.
    """
    x, weight, bias = _float_inputs("conv", x, weight, bias)
    shape, kernel = x.data.shape, weight.data.shape
    window = _checked_window(shape, kernel, stride, padding, dilation, groups, pool)
    if bias is not None:
        check_parameter(bias, kernel[-1:], "the bias of conv", "a weight of shape {}", kernel)
    return Conv.apply(x, weight, bias, window=window, groups=groups, relu=relu, pool=pool)


@remembered
def _checked_window(
    shape: tuple[int, ...], kernel: tuple[int, ...], stride: Size, padding: Padding, dilation: Size,
    groups: int, pool: bool,
) -> Window:  # fmt: skip
    """The window of a convolution of x of this shape, after all checks of rank, channels and sizes."""
    _check_ranks("conv", shape, kernel, kernel[-2] * groups if len(kernel) > 1 else 0)
    _check_groups(kernel[-1], groups, "filters")
    if shape[-1] != kernel[-2] * groups:
        raise _channel_error("conv", shape, kernel, kernel[-2], groups)
    window = make_window(shape[1:-1], kernel[:-2], stride, padding, dilation)
    if pool:
        _check_pool(shape[1:-1], window)
    return window


def _check_pool(spatial: tuple[int, ...], window: Window) -> None:
    if window.rank != 2:
        raise ArgumentError(f"pool=True is for images, 2 spatial axes, not {window.rank}. Use ops.max_pool")
    make_window(window.output_shape(spatial), 2, 2)  # raises when it does not fit


def _float_inputs(name: str, x: TensorLike, weight: TensorLike, bias: TensorLike | None) -> Any:
    return floats(x, name), floats(weight, name), None if bias is None else floats(bias, name)


def _check_ranks(name: str, x: tuple[int, ...], weight: tuple[int, ...], channels: int) -> None:
    if not 3 <= len(weight) <= 5:
        raise ShapeError(
            f"{name} needs a weight with 1 to 3 kernel axes and two of channels, got shape {weight}"
        )
    if len(x) == len(weight):
        return
    layout = ", ".join(("N", *axis_names(len(weight) - 2), "channels"))
    message = (
        f"{name} with a weight of shape {weight} needs x of {len(weight)} axes ({layout}), got shape {x}."
    )
    if len(x) == len(weight) - 1:
        lacks_channels = channels == 1 and x[-1] != 1
        message += (
            " One image without its channel axis, or a batch of them? Use x[..., None]"
            if lacks_channels
            else " A single sample without the batch axis? Use x[None]"
        )
    raise ShapeError(message)


def _check_groups(channels: int, groups: int, what: str) -> None:
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise ArgumentError(f"groups={groups!r} must be an integer of at least 1")
    if channels % groups:
        raise ShapeError(f"{channels} {what} cannot be divided among {groups} groups")


def _channel_error(
    name: str, x: tuple[int, ...], weight: tuple[int, ...], per_group: int, groups: int
) -> ShapeError:
    expected = per_group * groups
    product = f"{per_group} x {groups} groups = {expected}" if groups > 1 else str(expected)
    return ShapeError(
        f"{name} got x of shape {x} with {x[-1]} channels on the last axis, but the weight of shape {weight} "
        f"takes {product}.{channels_hint(x, expected)}"
    )


class ConvTranspose(Op):
    """The adjoint of a convolution: what spreads in its backward spreads here in the forward."""

    def forward(self, x, weight, bias, *, spatial, window, groups):
        self.x, self.window, self.groups = x, window, groups
        self.weight = weight.swapaxes(-1, -2)  # (*kernel, out / groups, in): that of the convolution
        y_shape = (len(x), *spatial, weight.shape[-1] * groups)
        return kernels.conv_transpose(x, self.weight, bias, y_shape, window, groups)

    def backward(self, grad):
        geometry = (self.window, self.groups)
        grad_weight = kernels.conv_weight_grad(grad, self.x, *geometry) if self.needs[1] else None
        return (
            kernels.conv(grad, self.weight, None, *geometry) if self.needs[0] else None,
            None if grad_weight is None else grad_weight.swapaxes(-1, -2),
            kernels.bias_grad(grad) if self.needs[2] else None,
        )


def conv_transpose(
    x: TensorLike, weight: TensorLike, bias: TensorLike | None = None, *,
    stride: Size = 1, padding: Padding = "valid", dilation: Size = 1, groups: int = 1,
    output_padding: Size = 0,
) -> Tensor:  # fmt: skip
    """Transposed convolution, the adjoint of :func:`conv` in its input; it makes images larger.

    x (N, *spatial, in), weight (*kernel, in, out / groups), bias (out,); the result is (N, *larger, out) with
    larger = (spatial - 1) * stride + (kernel - 1) * dilation + 1 - padding + output_padding. ``padding`` is
    that of the convolution whose adjoint this is, so it cuts; "same" gives larger = spatial * stride. Since a
    strided convolution rounds down, ``output_padding`` (0 to stride - 1) chooses among the sizes it comes
    from.

    Raises :class:`ShapeError` and :class:`ArgumentError` as :func:`conv` does.
    """
    x, weight, bias = _float_inputs("conv_transpose", x, weight, bias)
    shape, kernel = x.data.shape, weight.data.shape
    _check_ranks("conv_transpose", shape, kernel, kernel[-2] if len(kernel) > 1 else 0)
    _check_groups(kernel[-2], groups, "input channels")
    if shape[-1] != kernel[-2]:
        raise _channel_error("conv_transpose", shape, kernel, kernel[-2], 1)
    if bias is not None:
        out = (kernel[-1] * groups,)
        check_parameter(
            bias, out, "the bias of conv_transpose", "a weight of shape {} in {} group(s)", kernel, groups
        )
    spatial, window = transposed_window(shape[1:-1], kernel[:-2], stride, padding, dilation, output_padding)
    return ConvTranspose.apply(x, weight, bias, spatial=spatial, window=window, groups=groups)


def transposed_window(
    spatial: tuple[int, ...], size: tuple[int, ...], stride: Size, padding: Padding, dilation: Size,
    output_padding: Size,
) -> tuple[tuple[int, ...], Window]:  # fmt: skip
    """The output's spatial shape, and the window of the convolution that leads back from it."""
    rank = len(spatial)
    strides = per_axis(stride, rank, "stride")
    extra = per_axis(output_padding, rank, "output_padding", least=0)
    if any(e >= s for e, s in zip(extra, strides)):
        raise ArgumentError(f"output_padding={output_padding!r} must be smaller than stride={stride!r}")
    if isinstance(padding, str) and padding == "same":
        if any(extra):
            raise ArgumentError('padding="same" fixes the output size; leave output_padding out')
        larger = tuple(n * s for n, s in zip(spatial, strides))
        return larger, make_window(larger, size, stride, "same", dilation)
    window = Window(size, strides, padding_pairs(padding, rank), per_axis(dilation, rank, "dilation"))
    larger = _transposed_shape(spatial, window, extra)
    return larger, window


def _transposed_shape(spatial: tuple[int, ...], window: Window, extra: tuple[int, ...]) -> tuple[int, ...]:
    sizes = []
    for name, n, step, extent, (before, after), e in zip(
        axis_names(len(spatial)), spatial, window.stride, window.extent, window.padding, extra
    ):
        size = (n - 1) * step + extent - before - after + e
        if n < 1 or size < 1:
            raise ShapeError(
                f"conv_transpose leaves no {name}: ({n} - 1) * stride {step} + extent {extent} - padding "
                f"{before} - {after} + output_padding {e} = {size}"
            )
        sizes.append(size)
    return tuple(sizes)
