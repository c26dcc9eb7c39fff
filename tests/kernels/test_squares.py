"""Tiles of 2 x 2 squares for few channels, and the bias gradient behind a pool."""

import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cpu_conv import close

from tinynet.kernels import Window, arrays, blocks, cpu
from tinynet.kernels.cpu.plan import in_3d, plan_conv, plan_weight_grad
from tinynet.kernels.cpu.squares import fits_squares

ALL = (True, True, True)
SAME = Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def wide(*operands):
    return [None if a is None else a.astype(np.float64) if a.dtype == np.float32 else a for a in operands]


def check(x, w, window, relu=False, pool=False, bias=True):
    """A convolution and its gradients against the whole-array room in float64."""
    b = random(w.shape[-1], seed=2) if bias else None
    y, where = cpu.conv_block(x, w, b, window, 1, relu, pool)
    want, places = blocks.conv_block(arrays, *wide(x, w, b), window, 1, relu, pool)
    close(y, want, 1e-6)
    assert where is None or np.sum(where != places) <= 0.01 * where.size  # equal but for rounding
    g, saved = random(*y.shape, seed=3), (y if relu and not pool else None, where)
    got = cpu.conv_block_backward(g, x, w, *saved, window, 1, ALL)
    for a, b in zip(got, blocks.conv_block_backward(arrays, *wide(g, x, w), *saved, window, 1, ALL)):
        close(a, b, 2e-6)


@settings(max_examples=30)
@given(
    images=st.integers(1, 5),
    size=st.tuples(st.integers(3, 12), st.integers(3, 40)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    channels=st.sampled_from([8, 16]),
    filters=st.sampled_from([8, 16]),
    flags=st.tuples(*[st.booleans()] * 3),
)
def test_any_size_agrees_with_the_plain_sum(images, size, padding, channels, filters, flags):
    top, bottom, left, right = padding
    window = Window((3, 3), (1, 1), ((top, bottom), (left, right)), (1, 1))
    check(random(images, *size, channels), random(3, 3, channels, filters, seed=1), window, *flags)


@pytest.mark.parametrize(
    "size, channels, fits",
    [((6, 6), 8, True), ((7, 6), 8, False), ((6, 7), 8, False), ((6, 6), 12, False), ((6, 6), 24, False)],
)
def test_whole_squares_and_few_channels_go_this_way(size, channels, fits):
    space, window = in_3d(size, SAME)
    assert fits_squares(space, channels, 8, window, 1) == fits
    assert plan_conv(size, channels, 8, SAME, 1).squares == fits
    assert plan_weight_grad(size, channels, 8, SAME, 1, True).squares == fits


@pytest.fixture(params=[1, 3])
def threads(request, monkeypatch):
    """Work is cut as for that many threads."""
    monkeypatch.setattr(
        importlib.import_module("tinynet.kernels.cpu.conv"), "thread_count", lambda: request.param
    )


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("height, width", [(2, 2), (6, 17), (6, 18), (10, 16), (64, 40)])
def test_parts_of_one_image_are_whole_pairs_of_rows(height, width):
    for pool in (False, True):
        check(random(1, height, width, 16), random(3, 3, 16, 8, seed=1), SAME, True, pool)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("height, filters", [(5, 8), (9, 5), (28, 16), (150, 4)])
def test_each_gradient_behind_a_pool_counts_once_for_the_bias(height, filters):
    check(random(2, height, 33, 1), random(3, 3, 1, filters, seed=1), SAME, True, True)


def test_a_volume_is_convolved_slice_by_slice():
    window = Window((1, 3, 3), (1, 1, 1), ((0, 0), (1, 1), (1, 1)), (1, 1, 1))
    x, w = random(2, 3, 6, 10, 8), random(1, 3, 3, 8, 16, seed=1)
    close(cpu.conv(x, w, None, window, 1), arrays.conv(*wide(x, w), None, window, 1), 1e-6)
    g = random(2, 3, 6, 10, 16, seed=2)
    want = arrays.conv_input_grad(*wide(g, w), x.shape, window, 1)
    close(cpu.conv_input_grad(g, w, x.shape, window, 1), want, 1e-6)
    close(cpu.conv_weight_grad(x, g, window, 1), arrays.conv_weight_grad(*wide(x, g), window, 1), 2e-6)


@pytest.mark.parametrize("height, width", [(2, 26), (2, 28), (2, 30), (14, 14), (4, 2)])
@pytest.mark.parametrize("channels, filters", [(8, 8), (8, 16), (16, 8), (16, 16)])
def test_weight_gradients_of_squares_beside_the_number_that_is_mapped_at_a_time(
    height, width, channels, filters
):
    x, g = random(3, height, width, channels), random(3, height, width, filters, seed=1)
    got = cpu.conv_weight_grad(x, g, SAME, 1)
    close(got, arrays.conv_weight_grad(*wide(x, g), SAME, 1), 1e-6)
