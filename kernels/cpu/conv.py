"""Convolution and its gradients in float32, by register tiles over the padded image (see microkernel.py).

Each thread takes whole images, or bands of rows of them when there are fewer images than threads: it copies
the image into a padded scratch that stays in its cache, and walks the plan's jobs. Weight gradients are
summed per thread and added up at the end in a fixed order, so results are equal bit for bit for a given
number of threads. Other dtypes go to the whole-array room.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from tinynet.kernels import arrays
from tinynet.kernels.cpu.jit import contiguous, kernel, parallel_kernel
from tinynet.kernels.cpu.microkernel import SLACK, address_of, call_tile
from tinynet.kernels.cpu.plan import Plan, plan_conv, plan_input_grad, plan_weight_grad
from tinynet.kernels.geometry import Window


def conv(x, weight, bias, window: Window, groups: int):
    """y (N, *out, O) = x (N, *spatial, C) under weight (*kernel, C / groups, O), plus bias (O,)."""
    if not _is_float32(x, weight):
        return arrays.conv(x, weight, bias, window, groups)
    filters = weight.shape[-1]
    plan = plan_conv(x.shape[1:-1], x.shape[-1], filters, window, groups)
    y = np.empty((len(x), *window.output_shape(x.shape[1:-1]), filters), np.float32)
    start = np.zeros(filters + SLACK, np.float32)
    if bias is not None:
        start[:filters] = bias
    _run(x, _with_slack(weight, plan), start, y, plan)
    return y


def conv_input_grad(grad_y, weight, x_shape, window: Window, groups: int):
    """grad_y (N, *out, O) back to x_shape: a convolution again, with the kernel turned by 180 degrees."""
    if not _is_float32(grad_y, weight):
        return arrays.conv_input_grad(grad_y, weight, x_shape, window, groups)
    plan = plan_input_grad(tuple(x_shape[1:-1]), x_shape[-1], weight.shape[-1], window, groups)
    turned = weight[(slice(None, None, -1),) * window.rank].swapaxes(-1, -2)  # (*kernel, O, C / groups)
    grad_x = np.empty(x_shape, np.float32)
    _run(grad_y, _with_slack(turned, plan), np.zeros(x_shape[-1] + SLACK, np.float32), grad_x, plan)
    return grad_x


def conv_weight_grad(x, grad_y, window: Window, groups: int):
    """(*kernel, C / groups, O): what each weight met, input times output gradient, over all pixels."""
    if not _is_float32(x, grad_y):
        return arrays.conv_weight_grad(x, grad_y, window, groups)
    channels, filters = x.shape[-1], grad_y.shape[-1]
    plan = plan_weight_grad(x.shape[1:-1], channels, filters, window, groups)
    shape = (*window.size, channels // groups, filters)
    if grad_y.size == 0 or x.size == 0:
        return np.zeros(shape, np.float32)
    partial = np.empty((min(numba.get_num_threads(), len(x)), math.prod(shape)), np.float32)
    _weight_grad(
        _in_rows(x), plan.before, plan.padded, contiguous(grad_y).reshape(len(x), -1), partial, plan.jobs,
        plan.blocks,        plan.segments, plan.steps, plan.a_step, filters, SLACK if plan.ragged else 0,
    )  # fmt: skip
    return partial.sum(axis=0).reshape(shape)


def _is_float32(*operands) -> bool:
    return all(a.dtype == np.float32 for a in operands)


def _in_rows(x):
    """(N, *spatial, C) as (N, D, H, W * C)."""
    n, *spatial, c = x.shape
    depth, height, width = (*(1,) * (3 - len(spatial)), *spatial)
    return contiguous(x).reshape(n, depth, height, width * c)


def _with_slack(b, plan: Plan):
    """b as one contiguous row of numbers, with room behind it when the last tile reads too far."""
    if not plan.ragged:
        return contiguous(b).reshape(-1)
    row = np.zeros(b.size + SLACK, np.float32)
    row[: b.size] = b.reshape(-1)
    return row


def _run(source, b, start, out, plan: Plan) -> None:
    if out.size:
        threads = numba.get_num_threads()
        bands = -(-threads // len(out))
        _correlate(
            _in_rows(source), plan.before, plan.padded, b, start, _in_rows(out), plan.jobs, plan.blocks,
            plan.segments, plan.steps, plan.b_step, bands, threads,
        )  # fmt: skip


@parallel_kernel
def _correlate(source, before, padded, b, start, out, jobs, blocks, segments, steps, b_step, bands, threads):
    for t in numba.prange(threads):
        correlate_share(
            source,
            before,
            padded,
            b,
            start,
            out,
            jobs,
            blocks,
            segments,
            steps,
            b_step,
            bands,
            np.int64(t),
            threads,
        )


@kernel
def correlate_share(
    source, before, padded, b, start, out, jobs, blocks, segments, steps, b_step, bands, t, threads
):
    """The images, or bands of images, of thread t."""
    n, depth, height, row = source.shape
    pads = padded[0] != depth or padded[1] != height or padded[2] != row
    scratch = np.zeros((padded[0], padded[1], padded[2]), np.float32) if pads else source[0]
    for task in range(t * n * bands // threads, (t + 1) * n * bands // threads):
        image = task // bands
        if pads:
            fill(scratch, source[image], before)
        else:
            scratch = source[image]
        run_jobs(scratch, b, start, out[image], jobs, blocks, segments, steps, b_step, task % bands, bands)


@kernel
def fill(scratch, image, before):
    """Copy an image (D, H, W * C) into the middle of its padded scratch."""
    depth, height, numbers = image.shape
    for d in range(depth):
        for h in range(height):
            row, target = image[d, h], scratch[d + before[0], h + before[1]]
            for i in range(numbers):
                target[i + before[2]] = row[i]


@kernel
def run_jobs(a, b, start, out, jobs, blocks, segments, steps, b_step, band, bands):
    """All jobs of one image; of each, only this band of its rows. Columns as in plan.JOB and plan.BLOCK."""
    for j in range(len(jobs)):
        job = jobs[j]
        low, high = band * job[9] // bands, (band + 1) * job[9] // bands
        listed = address_of(segments) + 16 * job[11]
        for i in range(job[13], job[13] + job[14]):
            column, columns, rows, tile = blocks[i, 0], blocks[i, 1], blocks[i, 2], blocks[i, 3]
            weights = address_of(b) + 4 * column
            first = address_of(start) + 4 * (job[15] + column)
            for d in range(job[8]):
                for h in range(low, high):
                    from_row = address_of(a) + 4 * (job[0] + d * job[1] + h * job[2])
                    to_row = address_of(out) + 4 * (job[4] + d * job[5] + h * job[6] + column)
                    w = 0
                    while True:
                        call_tile(
                            tile,
                            (from_row + 4 * w * job[3], job[3], 1, weights, b_step, listed, job[12], steps,
                             first, 0, to_row + 4 * w * job[7], job[7], columns),
                        )  # fmt: skip
                        if w + rows >= job[10]:
                            break
                        w = min(w + rows, job[10] - rows)  # the last tile of a row overlaps the one before


@parallel_kernel
def _weight_grad(x, before, padded, grad_y, partial, jobs, blocks, segments, steps, a_step, filters, slack):
    for t in numba.prange(len(partial)):
        add_weight_grads(
            x,
            before,
            padded,
            grad_y,
            partial,
            jobs,
            blocks,
            segments,
            steps,
            a_step,
            filters,
            slack,
            np.int64(t),
        )


@kernel
def add_weight_grads(
    x, before, padded, grad_y, partial, jobs, blocks, segments, steps, a_step, filters, slack, t
):
    """The sum over the images of thread t, in partial[t]."""
    n, depth, height, row = x.shape
    threads, size = len(partial), grad_y.shape[1]
    pads = padded[0] != depth or padded[1] != height or padded[2] != row
    scratch = np.zeros((padded[0], padded[1], padded[2]), np.float32) if pads else x[0]
    copy = np.zeros(size + slack, np.float32) if slack else grad_y[0]
    total = partial[t]
    for i in range(len(total)):
        total[i] = 0
    for image in range(t * n // threads, (t + 1) * n // threads):
        if pads:
            fill(scratch, x[image], before)
        else:
            scratch = x[image]
        if slack:
            for i in range(size):
                copy[i] = grad_y[image, i]
        else:
            copy = grad_y[image]
        run_weight_jobs(scratch, copy, total, jobs, blocks, segments, steps, a_step, filters)


@kernel
def run_weight_jobs(a, b, out, jobs, blocks, segments, steps, a_step, filters):
    """Add one image's share to the weight gradient (*kernel * channels, filters)."""
    for j in range(len(jobs)):
        for i in range(len(blocks)):
            row, column, columns, tile = blocks[i, 0], blocks[i, 1], blocks[i, 2], blocks[i, 4]
            target = address_of(out) + 4 * (jobs[j, 2] + row * filters + column)
            call_tile(
                tile,
                (address_of(a) + 4 * (jobs[j, 0] + row), 1, a_step,
                 address_of(b) + 4 * (jobs[j, 1] + column), filters, address_of(segments), len(segments),
                 steps, target, filters, target, filters, columns),
            )  # fmt: skip
