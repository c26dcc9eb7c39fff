"""Padded copies of images, filled band by band, and gradients on their way into them.

``head`` is the head of a plan (see plan.py): where an image (D, H, W * C) starts in its padded copy, and how
large that is. Only the inside is ever written, so the margin stays zero. An image without a margin is not
copied; its scratch is empty.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import carray
from numba.core import types
from numba.extending import intrinsic

from tinynet.kernels.cpu.jit import inner_kernel
from tinynet.kernels.cpu.loops import call_loop
from tinynet.kernels.cpu.microkernel import SLACK, address_of

f4 = np.float32


@inner_kernel
def band_of(band, bands, rows, grain):
    """First row of a band, and the first that is beyond it. An even number of rows is cut into pairs."""
    grain = max(grain, 2 - rows % 2)
    return band * (rows // grain) // bands * grain, (band + 1) * (rows // grain) // bands * grain


@inner_kernel
def needed(head, row):
    """How many padded rows the output rows below ``row`` need."""
    return min(row * head[9] + head[10], head[4])


@inner_kernel
def new_scratch(head, is_used):
    """A padded copy, all zero, with a little room behind it for the tiles; empty if none is used."""
    return np.zeros(head[3] * head[4] * head[5] + SLACK if is_used else 0, f4)


@inner_kernel
def is_padded(head, source):
    """Whether the padded copy is larger than the source (N, D, H, W * C)."""
    return head[3] != source.shape[1] or head[4] != source.shape[2] or head[5] != source.shape[3]


@inner_kernel
def is_copied(saved, head):
    """Whether an output gradient is led back through pool or ReLU, or is larger in its padded copy."""
    grad_y, y, _, row = saved
    return row != 0 or len(y) > 0 or is_padded(head, grad_y)


@inner_kernel
def seen(scratch, images, image):
    """The address of what the tiles see: the padded copy of an image, or where there is none itself."""
    return address_of(scratch) if len(scratch) else address_of(images[image])


@inner_kernel
def what_follows(one, other, image, band, bands, tiles):
    """Where the next band is in two batches of images, first and last address in each, and how many bytes of
    that so many tiles are to ask for each. The image after the last does not exist, which does not matter: it
    is only asked for."""
    first, last = next_band(one, image, band, bands)
    other_first, other_last = next_band(other, image, band, bands)
    some = (last - first + other_last - other_first) // max(tiles, 1)
    return (first, last), (other_first, other_last), some


@inner_kernel
def next_band(images, image, band, bands):
    """First and last address of the next band, in this image or the one after it."""
    size, start = 4 * images[image].size, address_of(images[image])
    return start + size * (band + 1) // bands, start + size * (band + 2) // bands


@inner_kernel
def what_remains(ahead):
    """The rest of ``what_follows``, when a tile has asked for some."""
    one, other, some = ahead
    return ((one[0] + some, one[1]), other, some) if one[0] + some < one[1] else (other, other, some)


@inner_kernel
def fill(scratch, image, head, low, high):
    """Copy the padded rows low to high of an image (D, H, W * C), if there is a copy; returns high."""
    return fill_always(scratch, image, head, low, high) if len(scratch) else high


@inner_kernel
def fill_always(scratch, image, head, low, high):
    """Copy the padded rows low to high of an image (D, H, W * C); returns high."""
    depth, height, numbers = image.shape
    for d in range(depth):
        for h in range(max(low - head[1], 0), min(high - head[1], height)):
            row, to = image[d, h], ((d + head[0]) * head[4] + h + head[1]) * head[5] + head[2]
            target = scratch[to : to + numbers]
            for i in range(numbers):
                target[i] = row[i]
    return high


@inner_kernel
def empty(scratch, image, head, low, high):
    """Move the padded rows low to high to where they belong in an image (H, W * C); zeros stay behind."""
    height, numbers = image.shape
    for h in range(max(low - head[1], 0), min(high - head[1], height)):
        row, first = image[h], (h + head[1]) * head[5] + head[2]
        source = scratch[first : first + numbers]
        for i in range(numbers):
            row[i] = source[i]
    done = scratch[low * head[5] : high * head[5]]
    for i in range(len(done)):
        done[i] = 0


@inner_kernel
def fill_grad(scratch, grad_y, y, where, row, image, head, low, high):
    """Lead the gradient of an image back through pool or ReLU into its padded copy; returns the rows done."""
    if row:
        return unpool(scratch, grad_y[image, 0], where[image, 0], row, head, low, high)
    if not len(y):
        return fill(scratch, grad_y[image], head, low, high)
    return fill_where_positive(scratch, grad_y[image], y[image], head, low, high)


@inner_kernel
def unpool(scratch, grad_y, where, row, head, low, high):
    """Rows low to high, or one more: pooled rows (H, W * C) give pairs."""
    channels, line = head[14], 4 * head[5]
    last = min((high - head[1] + 1) // 2, len(grad_y))
    for h in range(max(low - head[1], 0) // 2, last):
        above = address_of(scratch) + 4 * head[2] + (head[1] + 2 * h) * line
        call_loop(
            row,
            (above, above + line, address_of(grad_y[h]), address_of(where[h]),
             grad_y.shape[1] // channels, channels, 0),
        )  # fmt: skip
    return max(head[1] + 2 * last, high)


@inner_kernel
def fill_where_positive(scratch, grad_y, y, head, low, high):
    """The gradient (D, H, W * C) where y, the result of a ReLU, is positive."""
    depth, height, numbers = grad_y.shape
    for d in range(depth):
        for h in range(max(low - head[1], 0), min(high - head[1], height)):
            row, passed, to = (
                grad_y[d, h],
                y[d, h],
                ((d + head[0]) * head[4] + h + head[1]) * head[5] + head[2],
            )
            target = scratch[to : to + numbers]
            for i in range(numbers):
                g = row[i]
                target[i] = g if passed[i] > 0 else f4(0)
    return high


@intrinsic
def _floats(typingctx, address):
    """What stands at an address. Arrays of it compile sooner than reshaped slices."""

    def codegen(context, builder, signature, values):
        return builder.inttoptr(values[0], ir.FloatType().as_pointer())

    return types.CPointer(types.float32)(types.int64), codegen


@inner_kernel
def add_row(row_sum, grad, first):
    """Add one row of pixels of a gradient at the address ``grad``, which starts at number ``first``."""
    row = carray(_floats(grad + 4 * first), (len(row_sum),))
    for i in range(len(row_sum)):
        row_sum[i] += row[i]


@inner_kernel
def add_up(parts, total):
    """total = the sum of the rows of ``parts``, one after the other; the first row is used up."""
    first = parts[0]
    for p in range(1, len(parts)):
        part = parts[p]
        for i in range(len(total)):
            first[i] += part[i]
    for i in range(len(total)):
        total[i] = first[i]


@inner_kernel
def fold(row_sum, sums):
    """Add the pixels (W * C) to ``sums`` (C,), in float64, and leave zeros behind."""
    channels = len(sums)
    for first in range(0, len(row_sum), max(channels, 1)):
        for c in range(channels):
            sums[c] += row_sum[first + c]
            row_sum[first + c] = 0
