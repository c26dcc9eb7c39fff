"""Winograd's convolution: its matrices, and that it computes what the direct sum computes."""

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cpu_conv import at_a_guard_page, close

import tinynet as tn
from tinynet.kernels import Window, arrays, blocks, cpu
from tinynet.kernels.cpu.microkernel import registers
from tinynet.kernels.cpu.points import Matrices, matrices
from tinynet.kernels.cpu.transform import ADD, FINISH, STORE, map_address
from tinynet.kernels.cpu.winograd_plan import fits, side_for

ALL = (True, True, True)


def window(top=1, bottom=1, left=1, right=1):
    return Window((3, 3), (1, 1), ((top, bottom), (left, right)), (1, 1))


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def wide(*operands):
    return [None if a is None else a.astype(np.float64) if a.dtype == np.float32 else a for a in operands]


@pytest.mark.parametrize("side", [2, 4])
def test_fewer_products_make_the_sums_of_three(side):
    """A^T [(G w) * (B^T x)], in fractions, is the correlation of any x with any w."""
    of = {name: np.array(m, object) for name, m in matrices(side)._asdict().items()}
    for i in range(side + 2):
        for k in range(3):
            x, w = np.eye(side + 2, dtype=int)[i], np.eye(3, dtype=int)[k]
            y = of["output"] @ ((of["filter"] @ w) * (of["input"] @ x))
            assert list(y) == [x[j : j + 3] @ w for j in range(side)]
    for name in ("input", "filter", "output"):
        assert np.array_equal(of[name].T, of[f"{name}_back"])
    assert all(c == float(np.float32(c)) for name in ("input", "output") for c in of[name].flat)


@pytest.mark.parametrize("end", [STORE, ADD, FINISH])
@pytest.mark.parametrize("kind", Matrices._fields)
@pytest.mark.parametrize("side", [2, 4])
def test_maps_multiply_by_their_matrix(side, kind, end):
    m = np.array(getattr(matrices(side), kind), float)
    tiles, channels = 3, 2 * registers()[0]
    x, bias = random(tiles, m.shape[1], m.shape[1], channels), random(channels, seed=1)
    y = random(tiles, len(m), len(m), channels, seed=2)
    want = np.einsum("ip,tpqc,jq->tijc", m, x.astype(float), m)
    want = {STORE: want, ADD: y + want, FINISH: np.maximum(want + bias, 0)}[end]
    strides = [[a.strides[i] // 4 for i in (1, 2, 0)] for a in (x, y)]
    numbers = np.array(
        [x.ctypes.data, *strides[0], y.ctypes.data, *strides[1], tiles, channels, bias.ctypes.data, 1]
    )
    ctypes.CFUNCTYPE(None, ctypes.c_int64)(map_address(side, kind, end))(numbers.ctypes.data)
    close(y, want, 1e-6)


@settings(max_examples=15)
@given(
    side=st.sampled_from([2, 4]),
    tiles=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    images=st.integers(1, 5),
    sizes=st.sampled_from([(16, 32), (32, 16), (48, 32), (16, 16)]),
    relu=st.booleans(),
    pool=st.booleans(),
    with_bias=st.booleans(),
)
def test_any_size_agrees_with_the_direct_sum(side, tiles, padding, images, sizes, relu, pool, with_bias):
    top, bottom, left, right = padding
    spatial = max(1, side * tiles[0] + 2 - top - bottom), max(1, side * tiles[1] + 2 - left - right)
    geometry, (channels, filters) = window(*padding), sizes
    if min(geometry.output_shape(spatial)) < 1 or not fits(spatial, *sizes, geometry, 1):
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


@pytest.mark.parametrize("side", [2, 4])
@pytest.mark.parametrize("channels", [32, 192])
def test_rounding_stays_small_beside_the_sum_of_absolute_products(side, channels):
    size = 12 if side == 4 else 10
    assert side_for((size, size), window()) == side
    x, w = random(2, size, size, channels), random(3, 3, channels, 32, seed=1)
    g = random(2, size, size, 32, seed=2)
    largest = [arrays.conv(*wide(abs(x), abs(w)), None, window(), 1)]
    largest += blocks.conv_block_backward(
        arrays, *wide(abs(g), abs(x), abs(w)), None, None, window(), 1, ALL
    )[:2]
    want = [arrays.conv(*wide(x, w), None, window(), 1)]
    want += blocks.conv_block_backward(arrays, *wide(g, x, w), None, None, window(), 1, ALL)[:2]
    got = [cpu.conv(x, w, None, window(), 1)]
    got += cpu.conv_block_backward(g, x, w, None, None, window(), 1, ALL)[:2]
    for a, b, most in zip(got, want, largest, strict=True):
        assert (abs(a - b) <= {2: 5e-7, 4: 1.5e-6}[side] * most).all()


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


@pytest.mark.parametrize("height, width", [(6, 4), (8, 4)])
def test_nothing_is_read_beyond_an_array(height, width):
    none = window(0, 0, 0, 0)
    x, w = at_a_guard_page(random(2, height + 2, width + 2, 32)), at_a_guard_page(random(3, 3, 32, 16))
    b, g = at_a_guard_page(random(16)), at_a_guard_page(random(2, height, width, 16))
    close(cpu.conv(x, w, b, none, 1), arrays.conv(*wide(x, w, b), none, 1), 2e-6)
    cpu.conv_block_backward(g, x, w, None, None, none, 1, ALL)


@pytest.mark.parametrize("size, beyond", [(10, 6), (12, 8)])
@pytest.mark.parametrize("strange", [np.nan, np.inf])
def test_what_is_no_number_reaches_all_outputs_that_see_it(size, beyond, strange):
    x = random(1, size, size, 32)
    x[0, 3, 3, 5] = strange
    relu = bool(np.isnan(strange))  # which turns minus infinity into a zero
    y, _ = cpu.conv_block(x, random(3, 3, 32, 16), None, window(), 1, relu, False)
    assert not np.isfinite(y[0, 2:5, 2:5]).any() and np.isfinite(y[0, beyond:]).all()


def test_which_convolutions_are_done_this_way():
    assert fits((26, 26), 32, 64, window(0, 0, 0, 0), 1)
    assert not fits((27, 26), 32, 64, window(0, 0, 0, 0), 1)  # odd outputs
    assert not fits((26, 26), 32, 62, window(), 1)  # no full vectors
    assert not fits((26, 26), 16, 16, window(), 1)  # too few channels to be worth it, in tiles of 2 x 2
    assert fits((24, 24), 16, 16, window(), 1)
    assert [side_for(s, window()) for s in ((24, 24), (24, 26), (26, 24))] == [4, 2, 2]
    assert not fits((26, 26), 32, 64, window(), 2)
    for change in ({"stride": (2, 2)}, {"dilation": (2, 2)}, {"size": (5, 3)}):
        assert not fits((26, 26), 32, 64, window()._replace(**change), 1)


@pytest.mark.parametrize("side", [6, 8])
@pytest.mark.parametrize("with_bias", [False, True])
def test_a_transposed_convolution_is_done_backwards(side, with_bias):
    x, w, b = random(3, side, side, 32), random(3, 3, 48, 32, seed=1), random(48, seed=2)
    assert fits((side, side), 48, 32, window(), 1)
    got = cpu.conv_transpose(x, w, b if with_bias else None, (3, side, side, 48), window(), 1)
    want = arrays.conv_input_grad(*wide(x, w), (3, side, side, 48), window(), 1) + with_bias * b
    close(got, want, 2e-6)
