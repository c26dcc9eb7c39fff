"""Convolution, with bias, ReLU and pooling, and all its gradients in float32, by register tiles.

The images, or parts of them when there are fewer than threads, are cut into shares; a thread goes down an
image in bands of a few rows, small enough for the nearest cache. Forward, for every band:

    copy the input rows into a padded scratch -> tiles (convolution, bias, ReLU, pool) -> write

Backward, the gradient of a band is led back through pool and ReLU into a padded scratch first, and the
gradients of weights, bias and input are then made from it while it is near. Weight gradients are summed per
share and added up at the end in a fixed order, so results are equal bit for bit for a given number of
threads. What the tiles are, and which numbers they meet, is in microkernel.py and plan.py. Other dtypes go to
the whole-array room.
"""

from __future__ import annotations

import functools

import numpy as np

import tinynet.kernels.cpu.winograd as winograd
from tinynet.kernels import arrays, blocks
from tinynet.kernels.cpu.bands import (
    add_row,
    add_up,
    ask_for_some,
    band_of,
    fill,
    fill_grad,
    fold,
    is_copied,
    is_padded,
    needed,
    new_scratch,
    seen,
    what_follows,
)
from tinynet.kernels.cpu.halving import LARGEST, POOL, UNPOOL, row_address
from tinynet.kernels.cpu.jit import contiguous, inner_kernel, kernel
from tinynet.kernels.cpu.loops import call_loop
from tinynet.kernels.cpu.microkernel import SLACK, address_of
from tinynet.kernels.cpu.plan import (
    Plan,
    plan_conv,
    plan_input_grad,
    plan_no_input_grad,
    plan_weight_grad,
)
from tinynet.kernels.cpu.plan_table import unpack
from tinynet.kernels.cpu.squares import PLACES, mapped, mapped_back
from tinynet.kernels.cpu.threads import share, shares_for, thread_count
from tinynet.kernels.cpu.winograd_plan import fits, plan_tiles
from tinynet.kernels.geometry import Window

f4 = np.float32
_NOTHING = np.zeros((0, 0, 0, 0), f4)
_NO_PLACES = np.zeros((0, 0, 0, 0), np.uint8)
_EMPTY = np.zeros(0, f4)
_LEADING = (1, 1), (1,), ()  # axes of size 1 that make sequences and images three-dimensional


def conv(x, weight, bias, window: Window, groups: int):
    """y (N, *out, O) = x (N, *spatial, C) under weight (*kernel, C / groups, O), plus bias (O,)."""
    if not x.dtype == weight.dtype == f4:
        return arrays.conv(x, weight, bias, window, groups)
    return conv_block(x, weight, bias, window, groups, False, False)[0]


def conv_block(x, weight, bias, window: Window, groups: int, relu: bool, pool: bool, places: bool = True):
    """Convolution, then ReLU, then pooling: y, and with ``places`` where the largest values stood."""
    if not x.dtype == weight.dtype == f4:
        return blocks.conv_block(arrays, x, weight, bias, window, groups, relu, pool, places)
    filters = weight.shape[-1]
    out, plan = _way_forward(x.shape[1:-1], x.shape[-1], filters, window, groups, pool, places)
    shape = (len(x), *out)
    start, y = start_from(bias, filters, type(plan) is Plan and plan.ragged), np.empty(shape, f4)
    where = np.empty(shape, np.uint8) if pool else None  # most tiles leave the places in any case
    if type(plan) is Plan:
        run_plan(x, weight, start, y, relu, plan, where)
    else:
        row = row_address(POOL if places else LARGEST, filters) if pool else 0
        given = _in_rows(x), weight, start, _in_rows(y), _places(where)
        winograd.convolve(*given, row, int(relu), plan)
    return y, where if places else None


@functools.lru_cache(maxsize=512)
def _way_forward(spatial, channels: int, filters: int, window: Window, groups: int, pool: bool, places: bool):
    """The shape of a sample's result, and the plan, which tells the way: direct or Winograd's."""
    out = window.output_shape(spatial)
    sizes = spatial, channels, filters, window
    if fits(*sizes, groups):
        plan = plan_tiles(*sizes, back=False)
    else:
        plan = plan_conv(*sizes, groups, pool, places)
    return (*(n // 2 if pool else n for n in out), filters), plan


def conv_weight_grad(x, grad_y, window: Window, groups: int):
    """(*kernel, C / groups, O): what each weight met, input times output gradient, over all pixels."""
    if not x.dtype == grad_y.dtype == f4:
        return arrays.conv_weight_grad(x, grad_y, window, groups)
    weight = np.empty((*window.size, x.shape[-1] // groups, grad_y.shape[-1]), f4)  # only its shape counts
    return conv_block_backward(grad_y, x, weight, None, None, window, groups, (False, True, False))[1]


def conv_block_backward(grad_y, x, weight, y, where, window: Window, groups: int, needs):
    """Back through pool, ReLU and convolution, band by band."""
    if not grad_y.dtype == x.dtype == weight.dtype == f4:
        return blocks.conv_block_backward(arrays, grad_y, x, weight, y, where, window, groups, needs)
    grad_x = np.empty(x.shape, f4) if needs[0] else None
    if grad_y.size == 0 or x.size == 0:
        return _no_gradients(grad_x, weight, needs)
    shares, parts = _shares(len(x), weight.size)
    filters = weight.shape[-1]
    row = 0 if where is None else row_address(UNPOOL, filters)
    given = _in_rows(grad_y), _NOTHING if y is None else _in_rows(y), _places(where), row, _in_rows(x)
    to = _NOTHING if grad_x is None else _in_rows(grad_x)
    sizes = x.shape[1:-1], x.shape[-1], filters, window
    if parts == 1 and fits(*sizes, groups):
        sums = np.zeros((shares, filters if needs[2] else 0), np.float64)
        plan = plan_tiles(*sizes, back=True)
        grad_weight = winograd.convolve_back(*given, weight, to, sums, bool(needs[1]), plan)
        grad_bias = sums.sum(axis=0).astype(f4)
    else:
        grad_weight, grad_bias = _run_back(given, weight, to, needs, shares, parts, sizes, groups)
    return grad_x, grad_weight if needs[1] else None, grad_bias if needs[2] else None


def _run_back(given, weight, grad_x, needs, shares: int, parts: int, sizes, groups: int):
    """Fill ``grad_x``, and return the gradients of weight and bias, empty where they are not needed."""
    spatial, _, filters, window = sizes
    back = plan_weight_grad(*sizes, groups, needs[0], len(given[2]) > 0)
    down = plan_input_grad(*sizes, groups) if needs[0] else plan_no_input_grad(spatial, filters, window)
    turned = _weights(turned_weight(weight), down) if needs[0] else _EMPTY
    shape = (PLACES, *weight.shape[-2:]) if back.squares else weight.shape
    grad_weight = np.empty(shape, f4) if needs[1] or back.by_windows else _EMPTY
    grad_bias = np.empty(filters, f4) if needs[2] else _EMPTY
    to = grad_x, grad_weight.reshape(-1), grad_bias
    _convolve_back(*given, turned, back.table, down.table, *to, shares, parts)
    if back.squares and needs[1]:
        grad_weight = mapped_back(grad_weight).reshape(weight.shape)
    return grad_weight, grad_bias


def _no_gradients(grad_x, weight, needs):
    if grad_x is not None:
        grad_x[...] = 0
    return (
        grad_x,
        np.zeros(weight.shape, f4) if needs[1] else None,
        np.zeros(weight.shape[-1], f4) if needs[2] else None,
    )


def turned_weight(weight):
    """(*kernel, C / groups, O) turned by 180 degrees: (taps, O, C / groups)."""
    return weight.reshape(-1, *weight.shape[-2:])[::-1].swapaxes(1, 2)


def _in_rows(x):
    """(N, *spatial, C) as (N, D, H, W * C)."""
    if x.ndim == 4:  # images, nearly always
        n, height, width, channels = x.shape
        return contiguous(x).reshape(n, 1, height, width * channels)
    n, *axes, width, channels = x.shape
    return contiguous(x).reshape(n, *_LEADING[len(axes)], *axes, width * channels)


def _weights(b, plan: Plan):
    """b as one contiguous row of numbers, mapped if the tiles need it, with room behind it when the last tile
    reads too far."""
    if plan.squares:
        return mapped(contiguous(b))
    if not plan.ragged:
        return contiguous(b).reshape(-1)
    row = np.zeros(b.size + SLACK, f4)
    row[: b.size] = b.reshape(-1)
    return row


def start_from(bias, filters: int, ragged: bool):
    """What the sums of a convolution begin with: the bias, or zeros, with room behind when ``ragged``."""
    if bias is not None and bias.dtype == f4 and not ragged:
        return contiguous(bias)
    start = np.zeros(filters + SLACK, f4)
    if bias is not None:
        start[:filters] = bias
    return start


def _shares(images: int, sums: int = 0) -> tuple[int, int]:
    """Into how many shares the work is cut, and into how many parts each image is for that."""
    threads = thread_count()
    return max(shares_for(images, sums), threads), -(-threads // images)


def _places(where):
    """The places of the pool in rows, or none."""
    return _NO_PLACES if where is None else _in_rows(where)


def run_plan(source, b, start, out, relu: bool, plan: Plan, where=None) -> None:
    """Fill ``out`` and, if the plan pools, the places ``where``, by the jobs of the plan, from ``source``
    (N, *spatial, C) and the numbers ``b``."""
    if out.size:
        given = _in_rows(source), _weights(b, plan), start, _in_rows(out), _places(where)
        _convolve(*given, int(relu), plan.table, *_shares(len(out)))


# --- forward ---


@kernel
def _convolve(source, b, start, out, where, relu, plan, shares, parts):
    share(shares, convolve_share, (source, b, start, out, where, relu, plan, parts, shares))


@inner_kernel
def convolve_share(t, source, b, start, out, where, relu, plan, parts, shares):
    """The images, or parts of images, of share t."""
    head, jobs, tiles, segments = unpack(plan)
    bands, scratch = max(head[8], parts), new_scratch(head, is_padded(head, source))
    for task in range(t * len(source) * parts // shares, (t + 1) * len(source) * parts // shares):
        image, part, filled = task // parts, task % parts, 0
        for band in range(part * bands // parts, (part + 1) * bands // parts):
            high = band_of(band, bands, jobs[0, 9], head[15])[1]
            filled = fill(scratch, source[image], head, filled, needed(head, high))
            a, to = seen(scratch, source, image), (address_of(out[image]), address_of(where[image]))
            ahead = what_follows(source, image, band, bands, head[16] // bands)
            run_jobs(a, b, start, to, head, jobs, tiles, segments, relu, band, bands, ahead)


@inner_kernel
def run_jobs(a, b, start, out, head, jobs, tiles, segments, relu, band, bands, ahead):
    """All jobs of one image; of each, only this band of its rows. ``a`` is an address, ``out`` has those of
    values and places. What will be read next, at the addresses ``ahead``, is asked for tile by tile."""
    steps, b_step, pooled = head[6], head[7], head[15]
    for j in range(len(jobs)):
        job = jobs[j]
        low, high = band_of(band, bands, job[9], pooled)  # bands of an even number of rows, if pooled
        listed = address_of(segments) + 16 * job[11]
        for i in range(job[13], job[13] + job[14]):
            column, columns, rows, tile = tiles[i, 0], tiles[i, 1], tiles[i, 2], tiles[i, 3]
            weights = address_of(b) + 4 * column
            first = address_of(start) + 4 * (job[15] + column)
            for d in range(job[8]):
                for h in range(low, high, 1 + tiles[i, 4]):
                    from_row = a + 4 * (job[0] + d * job[1] + h * job[2])
                    to_row = job[4] + d * job[5] + h // pooled * job[6] + column
                    w = 0
                    while True:
                        to = to_row + w // pooled * job[7]
                        call_loop(
                            tile,
                            (from_row + 4 * w * job[3], job[3], 1, weights, b_step, listed, job[12], steps,
                             first, 0, out[0] + 4 * to, job[7], columns, relu, job[2], job[6], out[1] + to,
                             rows, high - h),
                        )  # fmt: skip
                        ahead = ask_for_some(ahead)
                        if w + rows >= job[10]:
                            break
                        w = min(w + rows, job[10] - rows)  # the last tile of a row overlaps the one before


# --- backward ---


@kernel
def _convolve_back(
    grad_y, y, where, row, x, turned, back, down, grad_x, grad_weight, grad_bias, shares, parts
):  # fmt: skip
    partial, sums = np.empty((shares, len(grad_weight)), f4), np.zeros((shares, len(grad_bias)), np.float64)
    share(
        shares, convolve_back_share,
        (grad_y, y, where, row, x, turned, back, down, grad_x, partial, sums, parts),
    )  # fmt: skip
    add_up(partial, grad_weight)
    add_up(sums, grad_bias)


@inner_kernel
def convolve_back_share(t, grad_y, y, where, row, x, turned, back, down, grad_x, partial, sums, parts):
    """The images, or parts of images, of share t: its sums go to partial[t] and sums[t]."""
    head, jobs, tiles, segments = unpack(back)
    down_head, down_jobs, down_tiles, down_segments = unpack(down)
    input_rows = down_jobs[0, 9] if len(down_jobs) else 0
    bands, tasks = max(head[8], parts), len(x) * parts
    padded, nothing = new_scratch(head, is_padded(head, x)), np.zeros(x.shape[3] + SLACK, f4)
    # the last of columns that are no whole vectors would be read beyond the end of the gradient itself
    is_used = is_copied((grad_y, y, where, row), down_head) or tiles[-1, 1] % SLACK > 0
    by_windows = head[15] > 1  # the tiles see the pooled gradient, and sum up that of the bias as well
    is_led_back = len(down_jobs) > 0 or not by_windows
    scratch = new_scratch(down_head, is_used and is_led_back)
    total = partial[t]
    row_sum = np.zeros(2 * head[6] * down_head[14] if by_windows else head[6] * sums.shape[1], f4)
    total[:] = 0
    for task in range(t * tasks // len(partial), (t + 1) * tasks // len(partial)):
        image, part, filled, filled_grad = task // parts, task % parts, 0, 0
        a, grad = seen(padded, x, image), seen(scratch, grad_y, image)
        for band in range(part * bands // parts, (part + 1) * bands // parts):
            low, high = band_of(band, bands, len(segments), 1)
            below = max(down_head[1] + high, needed(down_head, band_of(band, bands, input_rows, 1)[1]))
            if is_led_back:
                filled_grad = fill_grad(scratch, grad_y, y, where, row, image, down_head, filled_grad, below)
            filled = fill(padded, x[image], head, filled, needed(head, high))
            if len(down_jobs):
                run_jobs(
                    grad, turned, nothing, (address_of(grad_x[image]), 0), down_head, down_jobs, down_tiles,
                    down_segments, 0, band, bands, (0, 0, 0),
                )  # fmt: skip
            if len(total):
                run_weight_jobs(
                    a, address_of(grad_y[image]) if by_windows else grad,
                    (address_of(total), address_of(row_sum), address_of(where[image])),
                    head, jobs, tiles, segments, down_head[14], low, high,
                    what_follows(x, image, band, bands, len(jobs) * len(tiles)),
                    what_follows(grad_y, image, band, bands, len(jobs) * len(tiles)),
                )  # fmt: skip
            for r in range(low, 0 if by_windows else high):
                add_row(row_sum, grad, segments[r, 1])
        fold(row_sum, sums[t])


@inner_kernel
def run_weight_jobs(a, b, out, head, jobs, tiles, segments, filters, low, high, x_ahead, grad_ahead):
    """Add to the weight gradient what the output rows low to high give. ``a`` and ``b`` are addresses, and
    ``out`` has those of the sums for weights and bias and of a pool's places. What will be read next is
    asked for tile by tile."""
    listed = address_of(segments) + 16 * low
    for j in range(len(jobs)):
        for i in range(len(tiles)):
            x_ahead, grad_ahead = ask_for_some(x_ahead), ask_for_some(grad_ahead)
            column, columns, tile, row = tiles[i, 0], tiles[i, 1], tiles[i, 3], tiles[i, 4]
            target, a_row = out[0] + 4 * (jobs[j, 2] + row * filters + column), jobs[j, 4]
            call_loop(
                tile,
                (a + 4 * (jobs[j, 0] + row * a_row), a_row, head[7], b + 4 * (jobs[j, 1] + column), filters,
                 listed, high - low, head[6], target, filters, target, filters, columns, 0, jobs[j, 3],
                 out[1] + 4 * column, out[2] + column),
            )  # fmt: skip
