"""Transposed convolution, which is the input gradient of a convolution, in float32, by register tiles.

How a plan leads from the output gradient back to the input is told in plan.py; what winograd.py can do is
done there. Windows that stand side by side, a kernel as wide as its stride, as in most networks that make
images larger, are wider tiles here: the k pixels that a window sees in a row lie side by side in memory and
are written as one pixel of k * C channels.
"""

from __future__ import annotations

import numpy as np

from tinynet.kernels import arrays, blocks
from tinynet.kernels.cpu.conv import conv_block_backward, run_plan
from tinynet.kernels.cpu.operands import start_from, turned_weight
from tinynet.kernels.cpu.plan import plan_input_grad
from tinynet.kernels.cpu.winograd_plan import fits
from tinynet.kernels.geometry import Window

f4 = np.float32


def conv_input_grad(grad_y, weight, x_shape, window: Window, groups: int):
    """grad_y (N, *out, O) back to x_shape: a convolution again, with the kernel turned by 180 degrees."""
    if not grad_y.dtype == weight.dtype == f4:
        return arrays.conv_input_grad(grad_y, weight, x_shape, window, groups)
    return conv_transpose(grad_y, weight, None, x_shape, window, groups)


def conv_transpose(x, weight, bias, y_shape, window: Window, groups: int):
    """y (N, *larger, C) of ``y_shape`` from x (N, *out, O) and weight (*kernel, C / groups, O); bias (C,)."""
    if not x.dtype == weight.dtype == f4:
        return blocks.conv_transpose(arrays, x, weight, bias, y_shape, window, groups)
    if fits(tuple(y_shape[1:-1]), y_shape[-1], x.shape[-1], window, groups):
        y = _by_winograd(x, weight, y_shape, window)
        return y if bias is None else np.add(y, bias, out=y)
    y = np.empty(y_shape, f4)
    if _stand_side_by_side(x.shape, y_shape, window, groups):
        weight, bias, y_shape, window = _joined(weight, bias, y_shape, window)
    plan = plan_input_grad(tuple(y_shape[1:-1]), y_shape[-1], x.shape[-1], window, groups)
    start = start_from(bias, y_shape[-1], plan.ragged)
    run_plan(x, turned_weight(weight), start, y.reshape(y_shape), False, plan)
    return y


def _by_winograd(x, weight, y_shape, window: Window):
    """The backward of the convolution that leads from y to x, which asks for one of its gradients alone."""
    image = np.empty(y_shape, f4)  # only its shape counts
    return conv_block_backward(x, image, weight, None, None, window, 1, (True, False, False))[0]


def _stand_side_by_side(x_shape, y_shape, window: Window, groups: int) -> bool:
    """Whether along the last axis each pixel of y belongs to one window alone, and to one channel group."""
    tight = (window.padding[-1], window.dilation[-1], groups) == ((0, 0), 1, 1)
    return tight and window.stride[-1] == window.size[-1] and y_shape[-2] == x_shape[-2] * window.size[-1]


def _joined(weight, bias, y_shape, window: Window):
    """The same with the pixels that a window sees in a row as one: weight, bias, shape of y, window."""
    *kernel, k, channels, inputs = weight.shape
    *shape, width, _ = y_shape
    size, stride = (*window.size[:-1], 1), (*window.stride[:-1], 1)
    return (
        weight.reshape(*kernel, 1, k * channels, inputs),
        None if bias is None else np.tile(bias, k),
        (*shape, width // k, k * channels),
        window._replace(size=size, stride=stride),
    )
