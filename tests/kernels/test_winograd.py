"""Winograd's convolution: its matrices, and that it computes what the direct sum computes."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cpu_conv import at_a_guard_page, close

import tinynet as tn
from tinynet.kernels import Window, arrays, blocks, cpu
from tinynet.kernels.cpu import winograd
from tinynet.kernels.cpu.transform import INPUT, INPUT_BACK, MATRICES, OUTPUT, OUTPUT_BACK

ALL = (True, True, True)


def window(top=1, bottom=1, left=1, right=1):
    return Window((3, 3), (1, 1), ((top, bottom), (left, right)), (1, 1))


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def wide(*operands):
    return [None if a is None else a.astype(np.float64) if a.dtype == np.float32 else a for a in operands]


def test_four_products_make_two_sums_of_three():
    """A^T [(G w) * (B^T x)], in fractions, is the correlation of any x with any w."""
    half = Fraction(1, 2)
    g = np.array([[1, 0, 0], [half, half, half], [half, -half, half], [0, 0, 1]])
    back, out = (np.array(MATRICES[i]).astype(object) for i in (INPUT, OUTPUT))
    for i in range(4):
        for k in range(3):
            x, w = np.eye(4, dtype=int)[i], np.eye(3, dtype=int)[k]
            assert list(out @ ((g @ w) * (back @ x))) == [x[j : j + 3] @ w for j in (0, 1)]
    assert np.array_equal(np.transpose(MATRICES[INPUT]), MATRICES[INPUT_BACK])
    assert np.array_equal(np.transpose(MATRICES[OUTPUT]), MATRICES[OUTPUT_BACK])


def test_filters_and_their_gradient_are_adjoint():
    w, u = random(3, 3, 5, 7), random(16, 5, 7, seed=1)
    left = (winograd.transformed(w).astype(np.float64) * u).sum()
    assert np.isclose(left, (w.astype(np.float64) * winograd.transformed_back(u)).sum(), rtol=1e-5)


@settings(max_examples=12)
@given(
    tiles=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    images=st.integers(1, 5),
    sizes=st.sampled_from([(16, 32), (32, 16), (48, 32)]),
    relu=st.booleans(),
    pool=st.booleans(),
    with_bias=st.booleans(),
)
def test_any_size_agrees_with_the_direct_sum(tiles, padding, images, sizes, relu, pool, with_bias):
    top, bottom, left, right = padding
    spatial = max(1, 2 * tiles[0] + 2 - top - bottom), max(1, 2 * tiles[1] + 2 - left - right)
    geometry, (channels, filters) = window(*padding), sizes
    if min(geometry.output_shape(spatial)) < 1 or not winograd.fits(spatial, *sizes, geometry, 1):
        return
    x, w = random(images, *spatial, channels), random(3, 3, channels, filters, seed=1)
    b = random(filters, seed=2) if with_bias else None
    y, where = cpu.conv_block(x, w, b, geometry, 1, relu, pool)
    want, places = blocks.conv_block(arrays, *wide(x, w, b), geometry, 1, relu, pool)
    close(y, want, 2e-6)
    assert where is None or (where != places).mean() < 0.01  # equal but for rounding
    g = random(*y.shape, seed=3)
    saved = y if relu and not pool else None, where
    got = cpu.conv_block_backward(g, x, w, *saved, geometry, 1, ALL)
    for a, b in zip(
        got, blocks.conv_block_backward(arrays, *wide(g, x, w), *saved, geometry, 1, ALL), strict=True
    ):
        close(a, b, 3e-6)


@pytest.mark.parametrize("needs", [(True, False, False), (False, True, False), (False, False, True)])
def test_only_what_is_asked_for_is_computed(needs):
    x, w, g = random(3, 8, 8, 32), random(3, 3, 32, 32), random(3, 8, 8, 32, seed=4)
    everything = cpu.conv_block_backward(g, x, w, None, None, window(), 1, ALL)
    some = cpu.conv_block_backward(g, x, w, None, None, window(), 1, needs)
    for wanted, one, full in zip(needs, some, everything, strict=True):
        assert np.array_equal(one, full) if wanted else one is None


def test_the_forward_is_the_same_for_any_number_of_threads_and_the_backward_repeats():
    x, w, g = random(5, 26, 26, 32), random(3, 3, 32, 64), random(5, 24, 24, 64, seed=1)
    none = window(0, 0, 0, 0)
    before = tn.threads()
    results = []
    try:
        for threads in sorted({1, before}):
            tn.threads(threads)
            results.append(cpu.conv(x, w, None, none, 1))
            first = cpu.conv_block_backward(g, x, w, None, None, none, 1, ALL)
            again = cpu.conv_block_backward(g, x, w, None, None, none, 1, ALL)
            assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    finally:
        tn.threads(before)
    assert all(np.array_equal(results[0], y) for y in results)


def test_nothing_is_read_beyond_an_array():
    none = window(0, 0, 0, 0)
    x, w = at_a_guard_page(random(2, 8, 6, 32)), at_a_guard_page(random(3, 3, 32, 16))
    b, g = at_a_guard_page(random(16)), at_a_guard_page(random(2, 6, 4, 16))
    close(cpu.conv(x, w, b, none, 1), arrays.conv(*wide(x, w, b), none, 1), 2e-6)
    cpu.conv_block_backward(g, x, w, None, None, none, 1, ALL)


def test_a_nan_reaches_all_outputs_that_see_it():
    x = random(1, 8, 8, 32)
    x[0, 3, 3, 5] = np.nan
    y, _ = cpu.conv_block(x, random(3, 3, 32, 16), None, window(), 1, True, False)
    assert np.isnan(y[0, 2:5, 2:5]).all() and np.isfinite(y[0, 6:]).all()


def test_which_convolutions_are_done_this_way():
    fits = winograd.fits
    assert fits((26, 26), 32, 64, window(0, 0, 0, 0), 1)
    assert not fits((27, 26), 32, 64, window(0, 0, 0, 0), 1)  # odd outputs
    assert not fits((26, 26), 32, 62, window(), 1)  # no full vectors
    assert not fits((26, 26), 16, 16, window(), 1)  # too few channels to be worth it
    assert not fits((26, 26), 32, 64, window(), 2)
    for change in ({"stride": (2, 2)}, {"dilation": (2, 2)}, {"size": (5, 3)}):
        assert not fits((26, 26), 32, 64, window()._replace(**change), 1)
