"""Convolution, with bias, ReLU and pooling, and all its gradients in float32, by register tiles.

The images, or parts of them when there are fewer than threads, are cut into shares; a thread goes down an
image in bands of a few rows, small enough for the nearest cache. Forward, for every band:

    copy the input rows into a padded scratch -> tiles (convolution, bias, ReLU, pool) -> write

Backward, the gradient of a band is led back through pool and ReLU into a padded scratch first, and the
gradients of weights, bias and input are then made from it while it is near; behind a pool they may come from
its winners alone (winners.py). Weight gradients are summed per share and added up at the end in a fixed
order, so results are equal bit for bit for a given number of threads. What the tiles are, and which numbers
they meet, is in microkernel.py and plan.py. Other dtypes go to the whole-array room.
"""

from __future__ import annotations

import functools

import numpy as np

import tinynet.kernels.cpu.winograd as winograd
from tinynet.kernels import arrays, blocks
from tinynet.kernels.cpu.bands import (
    add_row,
    add_up,
    band_of,
    empty,
    fill,
    fill_grad,
    fold,
    is_copied,
    is_padded,
    needed,
    new_scratch,
    seen,
    what_follows,
    what_remains,
)
from tinynet.kernels.cpu.halving import LARGEST, OPEN, POOL, UNPOOL, row_address
from tinynet.kernels.cpu.jit import inner_kernel, kernel
from tinynet.kernels.cpu.loops import call_again, call_loop, write_numbers
from tinynet.kernels.cpu.microkernel import MOVING, SLACK, address_of
from tinynet.kernels.cpu.operands import (
    NOTHING,
    in_one_row,
    in_rows,
    places_in_rows,
    start_from,
    turned_weight,
)
from tinynet.kernels.cpu.plan import (
    Plan,
    plan_conv,
    plan_input_grad,
    plan_no_input_grad,
    plan_weight_grad,
)
from tinynet.kernels.cpu.plan_table import unpack
from tinynet.kernels.cpu.squares import PLACES, mapped_back
from tinynet.kernels.cpu.threads import share, shares_for, thread_count
from tinynet.kernels.cpu.winners import fits_winners, framed, turned_back
from tinynet.kernels.cpu.winograd_plan import fits, plan_tiles
from tinynet.kernels.geometry import Window

f4 = np.float32
_EMPTY = np.zeros(0, f4)


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
        given = in_rows(x), weight, start, in_rows(y), places_in_rows(where)
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
    sizes = x.shape[1:-1], x.shape[-1], filters, window
    by_winners = where is not None and parts == 1 and fits_winners(*sizes, groups)
    row = 0 if where is None else row_address(OPEN if by_winners else UNPOOL, filters)
    given = in_rows(grad_y), NOTHING if y is None else in_rows(y), places_in_rows(where), row, in_rows(x)
    to = NOTHING if grad_x is None else in_rows(grad_x)
    if parts == 1 and not by_winners and fits(*sizes, groups):
        sums = np.zeros((shares, filters if needs[2] else 0), np.float64)
        plan = plan_tiles(*sizes, back=True)
        grad_weight = winograd.convolve_back(*given, weight, to, sums, bool(needs[1]), plan)
        grad_bias = sums.sum(axis=0).astype(f4)
    else:
        work = shares, parts, by_winners
        grad_weight, grad_bias = _run_back(given, weight, to, needs, work, sizes, groups)
    return grad_x, grad_weight if needs[1] else None, grad_bias if needs[2] else None


def _run_back(given, weight, grad_x, needs, work, sizes, groups: int):
    """Fill ``grad_x``, and return the gradients of weight and bias, empty where they are not needed."""
    shares, parts, by_winners = work
    filters = weight.shape[-1]
    is_pooled = len(given[2]) > 0 and not by_winners
    back = plan_weight_grad(*sizes, groups, needs[0] and not by_winners, is_pooled, by_winners)
    turned, down = _input_grad(weight, needs[0], by_winners, sizes, groups)
    shape = (PLACES, *weight.shape[-2:]) if back.squares else weight.shape
    grad_weight = np.empty(shape, f4) if needs[1] or back.by_windows else _EMPTY
    grad_bias = np.empty(filters, f4) if needs[2] else _EMPTY
    to = grad_x, grad_weight.reshape(-1), grad_bias
    _convolve_back(*given, turned, back.table, down.table, *to, shares, parts)
    if needs[1] and back.squares:
        grad_weight = mapped_back(grad_weight).reshape(weight.shape)
    elif needs[1] and by_winners:
        grad_weight = turned_back(grad_weight, weight.shape)
    return grad_weight, grad_bias


def _input_grad(weight, is_needed: bool, by_winners: bool, sizes, groups: int):
    """The numbers and the plan that an input gradient is made with."""
    spatial, channels, filters, window = sizes
    if not is_needed:
        return _EMPTY, plan_no_input_grad(spatial, filters, window, channels if by_winners else None)
    if by_winners:
        return framed(weight), plan_no_input_grad(spatial, filters, window, channels)
    down = plan_input_grad(*sizes, groups)
    return in_one_row(turned_weight(weight), down), down


def _no_gradients(grad_x, weight, needs):
    if grad_x is not None:
        grad_x[...] = 0
    return (
        grad_x,
        np.zeros(weight.shape, f4) if needs[1] else None,
        np.zeros(weight.shape[-1], f4) if needs[2] else None,
    )


def _shares(images: int, sums: int = 0) -> tuple[int, int]:
    """Into how many shares the work is cut, and into how many parts each image is for that."""
    threads = thread_count()
    return max(shares_for(images, sums), threads), -(-threads // images)


def run_plan(source, b, start, out, relu: bool, plan: Plan, where=None) -> None:
    """Fill ``out`` and, if the plan pools, the places ``where``, by the jobs of the plan, from ``source``
    (N, *spatial, C) and the numbers ``b``."""
    if out.size:
        given = in_rows(source), in_one_row(b, plan), start, in_rows(out), places_in_rows(where)
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
            ahead = what_follows(source, out, image, band, bands, head[16] // bands)
            run_jobs(a, b, start, to, head, jobs, tiles, segments, relu, band, bands, ahead)


@inner_kernel
def run_jobs(a, b, start, out, head, jobs, tiles, segments, relu, band, bands, ahead):
    """All jobs of one image; of each, only this band of its rows. ``a`` is an address, ``out`` has those of
    values and places. What comes next, at the addresses ``ahead``, is asked for tile by tile."""
    steps, b_step, pooled = head[6], head[7], head[15]
    for j in range(len(jobs)):
        job = jobs[j]
        low, high = band_of(band, bands, job[9], pooled)  # bands of an even number of rows, if pooled
        listed = address_of(segments) + 16 * job[11]
        for i in range(job[13], job[13] + job[14]):
            column, columns, rows, tile = tiles[i, 0], tiles[i, 1], tiles[i, 2], tiles[i, 3]
            numbers = write_numbers(
                (0, job[3], 1, address_of(b) + 4 * column, b_step, listed, job[12], steps,
                 address_of(start) + 4 * (job[15] + column), 0, 0, job[7], columns, relu, job[2], job[6], 0,
                 0, ahead[2], rows, high - low)
            )  # fmt: skip
            for d in range(job[8]):
                for h in range(low, high, 1 + tiles[i, 4]):
                    from_row = a + 4 * (job[0] + d * job[1] + h * job[2])
                    to_row = job[4] + d * job[5] + h // pooled * job[6] + column
                    w = 0
                    while True:
                        to = to_row + w // pooled * job[7]
                        moved = from_row + 4 * w * job[3], out[0] + 4 * to, out[1] + to, ahead[0][0]
                        call_again(tile, numbers, MOVING, moved)
                        ahead = what_remains(ahead)
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
    led_back = new_scratch(head, len(grad_x) > 0 and len(down_jobs) == 0)
    total = partial[t]
    each = 2 * head[6] * down_head[14] if by_windows else head[6] // down_head[15] * sums.shape[1]
    row_sum = np.zeros(each, f4)
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
                    down_segments, 0, band, bands,
                    what_follows(grad_x, y, image, band, bands, down_head[16] // bands),
                )  # fmt: skip
            elif len(led_back):
                add_winners(
                    down_tiles[0, 3], led_back, grad, turned, down_head[14], grad_x[image, 0], head, segments,
                    low, high,
                )  # fmt: skip
            if len(total):
                run_weight_jobs(
                    a, address_of(grad_y[image]) if by_windows else grad,
                    (address_of(total), address_of(row_sum), address_of(where[image])),
                    head, jobs, tiles, segments, down_head[14], low, high,
                    what_follows(x, grad_y, image, band, bands, len(jobs) * len(tiles)),
                )  # fmt: skip
            for r in range(low, 0 if by_windows else high, down_head[15]):
                add_row(row_sum, grad, segments[r, 1])
        fold(row_sum, sums[t])


@inner_kernel
def add_winners(loop, padded, grad, frames, filters, grad_x, head, segments, low, high):
    """Add to a padded input gradient what the output rows low to high give, by the loop of winners.py, and
    put in place the rows (H, W * C) that no others add to."""
    listed = address_of(segments) + 16 * low
    given = address_of(padded), 0, 0, grad, filters, listed, high - low, head[6], 0, 0, address_of(frames)
    call_loop(loop, given)
    empty(padded, grad_x, head, low, high if high < len(segments) else head[4])


@inner_kernel
def run_weight_jobs(a, b, out, head, jobs, tiles, segments, filters, low, high, ahead):
    """Add to the weight gradient what the output rows low to high give. ``a`` and ``b`` are addresses, and
    ``out`` has those of the sums for weights and bias and of a pool's places. What comes next, at the
    addresses ``ahead``, is asked for tile by tile."""
    listed = address_of(segments) + 16 * low
    for j in range(len(jobs)):
        for i in range(len(tiles)):
            column, columns, tile, row = tiles[i, 0], tiles[i, 1], tiles[i, 3], tiles[i, 4]
            target, a_row = out[0] + 4 * (jobs[j, 2] + row * filters + column), jobs[j, 4]
            call_loop(
                tile,
                (a + 4 * (jobs[j, 0] + row * a_row), a_row, head[7], b + 4 * (jobs[j, 1] + column), filters,
                 listed, high - low, head[6], target, filters, target, filters, columns, 0, jobs[j, 3],
                 out[1] + 4 * column, out[2] + column, ahead[0][0], ahead[2]),
            )  # fmt: skip
            ahead = what_remains(ahead)
