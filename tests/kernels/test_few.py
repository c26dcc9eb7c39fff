"""Tiles for windows of few numbers, and the gradients that they take behind a pool."""

import importlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cpu_conv import close
from test_squares import random, wide

from tinynet.kernels import Window, arrays, blocks, cpu
from tinynet.kernels.cpu.few import fits_few
from tinynet.kernels.cpu.few_sums import fits_few_sums
from tinynet.kernels.cpu.microkernel import registers
from tinynet.kernels.cpu.plan import in_3d, plan_weight_grad

SAME = Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
MANY = [(False, True, True), (False, True, False), (False, False, True), (True, True, True)]


def check(x, w, window, relu=True, pool=True):
    """A convolution and its gradients against the whole-array room in float64."""
    b = random(w.shape[-1], seed=2)
    y, where = cpu.conv_block(x, w, b, window, 1, relu, pool)
    want, places = blocks.conv_block(arrays, *wide(x, w, b), window, 1, relu, pool)
    close(y, want, 1e-6)
    assert where is None or np.sum(where != places) <= 0.01 * where.size  # equal but for rounding
    np.testing.assert_array_equal(cpu.conv_block(x, w, b, window, 1, relu, pool, places=False)[0], y)
    g, saved = random(*y.shape, seed=3), (y if relu and not pool else None, where)
    for needs in MANY:
        got = cpu.conv_block_backward(g, x, w, *saved, window, 1, needs)
        wanted = blocks.conv_block_backward(arrays, *wide(g, x, w), *saved, window, 1, needs)
        for a, b in zip(got, wanted, strict=True):
            assert (a is None) == (b is None)
            a is None or close(a, b, 2e-6)


@settings(max_examples=40)
@given(
    images=st.integers(1, 4),
    size=st.tuples(st.integers(1, 12), st.integers(1, 40)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    dilation=st.sampled_from([(1, 1), (2, 1), (1, 2)]),
    channels=st.integers(1, 3),
    filters=st.sampled_from([4, 8, 12, 16, 24, 32]),
    flags=st.tuples(*[st.booleans()] * 2),
)
def test_any_geometry_agrees_with_the_plain_sum(
    images, size, kernel, stride, padding, dilation, channels, filters, flags
):
    top, bottom, left, right = padding
    window = Window(kernel, stride, ((top, bottom), (left, right)), dilation)
    if all(n >= e for n, e in zip(in_3d(size, window)[1].padded_shape((1, *size)), (1, *window.extent))):
        check(random(images, *size, channels), random(*kernel, channels, filters, seed=1), window, *flags)


@pytest.mark.parametrize(
    "kernel, channels, filters, groups, fits",
    [((3, 3), 1, 8, 1, True), ((3, 3), 3, 32, 1, True), ((5, 5), 1, 8, 1, True), ((2, 7), 2, 8, 1, False),
     ((3, 3), 1, 12, 1, False), ((3, 3), 1, 1, 1, False), ((3, 3), 2, 8, 2, False)],
)  # fmt: skip
def test_few_numbers_and_whole_vectors_of_filters_go_this_way(kernel, channels, filters, groups, fits):
    _, window = in_3d((9, 9), SAME._replace(size=kernel))
    assert fits_few(channels, filters, window, groups) == (fits or (registers()[0] == 4 and filters == 12))


def test_the_gradient_behind_a_pool_is_not_led_back_to_the_pixels():
    sizes = (28, 28), 1, 8, SAME, 1
    assert fits_few_sums(1, 8, in_3d((28, 28), SAME)[1], 1)
    pooled, led_back = (plan_weight_grad(*sizes, False, pooled).table for pooled in (True, False))
    assert (pooled[13], led_back[13]) == (14, 28)  # rows of windows, rows of pixels


@pytest.fixture(params=[1, 3])
def threads(request, monkeypatch):
    """Work is cut as for that many threads."""
    monkeypatch.setattr(
        importlib.import_module("tinynet.kernels.cpu.conv"), "thread_count", lambda: request.param
    )


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("height, width", [(1, 9), (2, 1), (2, 2), (3, 31), (7, 17), (64, 130), (401, 33)])
@pytest.mark.parametrize("pool", [True, False])
def test_parts_and_bands_of_one_image(height, width, pool):
    check(random(1, height, width, 1), random(3, 3, 1, 16, seed=1), SAME, True, pool)


def test_sequences_and_volumes():
    for shape, kernel in [((2, 37, 1), (5,)), ((2, 4, 5, 6, 1), (2, 3, 3))]:
        rank = len(kernel)
        window = Window(kernel, (1,) * rank, ((1, 1),) * rank, (1,) * rank)
        x, w, b = random(*shape), random(*kernel, 1, 8, seed=1), random(8, seed=2)
        close(cpu.conv(x, w, b, window, 1), arrays.conv(*wide(x, w, b), window, 1), 1e-6)


@pytest.mark.parametrize("relu", [True, False])
def test_ties_and_numbers_that_are_none_fare_as_in_the_definition(relu):
    numbers = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 2.0]
    windows = np.array(list(itertools.product(numbers, repeat=4)), np.float32)
    x = windows.reshape(64, 64, 2, 2).swapaxes(1, 2).reshape(1, 128, 128, 1)
    window = Window((1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1))
    given = x, np.ones((1, 1, 1, 8), np.float32), np.full(8, -0.0, np.float32), window, 1, relu, True
    y, where = cpu.conv_block(*given)
    want, places = blocks.conv_block(arrays, *given)
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(where, places)
    np.testing.assert_array_equal(cpu.conv_block(*given, places=False)[0], want)
