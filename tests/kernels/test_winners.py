"""The way back through a pool and a convolution from the winners alone."""

import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cpu_conv import close
from test_squares import SAME, check, random, wide

from tinynet.kernels import Window, arrays, blocks, cpu
from tinynet.kernels.cpu.winners import fits_winners, framed, turned_back

conv = importlib.import_module("tinynet.kernels.cpu.conv")


def back(x, w, window, needs, seed=3):
    """Gradients behind ReLU and pool, and the same in float64 by the whole-array room."""
    y, where = cpu.conv_block(x, w, None, window, 1, True, True)
    g = random(*y.shape, seed=seed)
    got = cpu.conv_block_backward(g, x, w, None, where, window, 1, needs)
    return got, blocks.conv_block_backward(arrays, *wide(g, x, w), None, where, window, 1, needs)


@settings(max_examples=40)
@given(
    images=st.integers(1, 5),
    size=st.tuples(st.integers(5, 14), st.integers(5, 40)),
    kernel=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    padding=st.tuples(*[st.integers(0, 3)] * 4),
    channels=st.sampled_from([4, 8, 12, 16, 24]),
    filters=st.integers(1, 20),
    relu=st.booleans(),
)
def test_any_size_agrees_with_the_plain_sum(images, size, kernel, padding, channels, filters, relu):
    top, bottom, left, right = padding
    window = Window(kernel, (1, 1), ((top, bottom), (left, right)), (1, 1))
    if min(window.output_shape(size)) > 0:
        check(random(images, *size, channels), random(*kernel, channels, filters, seed=1), window, relu, True)


@pytest.mark.parametrize("height, width", [(150, 30), (40, 200), (2, 2), (3, 3)])
def test_bands_of_an_image_add_to_the_rows_between_them(height, width):
    check(random(2, height, width, 8), random(3, 3, 8, 4, seed=1), SAME, True, True)


@pytest.mark.parametrize("needs", [(True, False, False), (False, True, False), (False, False, True)])
def test_only_what_is_asked_for_is_made(needs):
    got, want = back(random(3, 10, 12, 8), random(3, 3, 8, 12, seed=1), SAME, needs)
    assert [a is not None for a in got] == list(needs)
    for a, b in zip(got, want):
        assert a is None or close(a, b, 2e-6) is None


def test_a_closed_window_gives_nothing_back_whatever_its_gradient():
    x, w = random(2, 8, 8, 8), random(3, 3, 8, 8, seed=1)
    y, where = cpu.conv_block(x, w, None, SAME, 1, True, True)
    g = random(*y.shape, seed=3)
    want = cpu.conv_block_backward(g, x, w, None, where, SAME, 1, (True,) * 3)
    assert (where == blocks.CLOSED).any()
    g[where == blocks.CLOSED] = np.nan
    for a, b in zip(cpu.conv_block_backward(g, x, w, None, where, SAME, 1, (True,) * 3), want):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_same_numbers_every_time(threads, monkeypatch):
    monkeypatch.setattr(conv, "thread_count", lambda: threads)
    given = random(9, 14, 14, 8), random(3, 3, 8, 16, seed=1), SAME, (True,) * 3
    (first, want), (second, _) = back(*given), back(*given)
    for a, b, c in zip(first, second, want):
        np.testing.assert_array_equal(a, b)
        close(a, c, 2e-6)


@pytest.mark.parametrize(
    "size, channels, filters, window, fits",
    [
        ((14, 14), 8, 16, SAME, True),
        ((14, 14), 6, 16, SAME, False),  # no whole vectors
        ((14, 14), 16, 32, SAME, True),  # where Winograd's scheme saves half as much
        ((16, 16), 16, 32, SAME, False),  # where it saves as much
        ((15, 15), 16, 32, SAME, True),  # where it is not used
        ((15, 15), 256, 256, SAME, False),  # frames larger than the second cache
        ((14, 14), 8, 16, Window((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1)), False),
        ((14, 14), 8, 16, Window((3, 3), (1, 1), ((1, 1), (1, 1)), (2, 2)), False),
    ],
)
def test_where_it_is_quicker(size, channels, filters, window, fits):
    assert fits_winners(size, channels, filters, window, 1) == fits
    assert not fits_winners(size, channels, filters, window, 2)


def test_weights_in_frames():
    w = random(3, 2, 12, 5)
    frames = framed(w)
    assert frames.ctypes.data % 64 == 0
    frames = frames.reshape(3, 5, 5, 4, 4)  # vectors of channels, filters, height and width with the frame
    np.testing.assert_array_equal(frames[1, 2, 1:-1, 1:-1], w[:, :, 4:8, 2])
    assert np.count_nonzero(frames) == w.size
    np.testing.assert_array_equal(turned_back(w.transpose(3, 0, 1, 2).copy(), w.shape), w)
