"""Matrix products and the fully connected layer of the Numba room, against NumPy in float64."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import normal, run

from tinynet import kernels
from tinynet.kernels import arrays, blocks

# around the sides of squares, tiles, panels and parts, and the block of the depth (256)
SIZES = st.sampled_from([1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 48, 50, 64, 65, 127, 128, 130, 257])
DEPTHS = st.sampled_from([1, 2, 9, 16, 17, 100, 255, 256, 511, 512, 513, 1025])


def plain(a):
    return a


def transposed(a):
    return np.ascontiguousarray(a.T).T


def every_second(a):
    return np.repeat(a, 2, axis=1)[:, ::2]


def in_a_larger_array(a):
    return np.pad(a, 3, constant_values=np.nan)[3:-3, 3:-3]


LAYOUTS = st.sampled_from([plain, transposed, every_second, in_a_larger_array])


def assert_close(got, wanted, depth):
    """Within what ``depth`` roundings of a sum of normal numbers leave."""
    assert got.shape == wanted.shape and got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-6 * max(depth, 4) ** 0.75)


@given(m=SIZES, n=SIZES, depth=DEPTHS, layouts=st.tuples(LAYOUTS, LAYOUTS))
@settings(max_examples=40)
def test_products(m, n, depth, layouts):
    a, b = normal(m, depth, dtype=np.float32), normal(depth, n, dtype=np.float32, seed=1)
    (got,) = run("fast", "matmul", *(layout(x) for layout, x in zip(layouts, (a, b))))
    assert_close(got, a.astype(float) @ b, depth)


@pytest.mark.parametrize("layout", [plain, transposed])
@pytest.mark.parametrize(
    "shape",
    [(2500, 40, 33), (40, 40, 2500), (33, 2500, 33), (1, 3000, 65), (65, 3000, 1), (130, 1024, 64),
     (1, 4097, 128), (35, 5000, 130), (200, 4100, 10)],
)  # fmt: skip
def test_long_sides(shape, layout):
    m, depth, n = shape
    a, b = normal(m, depth, dtype=np.float32), normal(depth, n, dtype=np.float32, seed=1)
    assert_close(run("fast", "matmul", layout(a), layout(b))[0], a.astype(float) @ b, depth)


@pytest.mark.parametrize("shape", list(itertools.product([0, 5], repeat=3)))
def test_sides_of_no_length(shape):
    m, depth, n = shape
    x, weight, bias = np.ones((m, depth), np.float32), np.ones((depth, n), np.float32), np.ones(n, np.float32)
    np.testing.assert_array_equal(run("fast", "matmul", x, weight)[0], np.full((m, n), depth))
    np.testing.assert_array_equal(run("fast", "dense", x, weight, bias, True)[0], np.full((m, n), depth + 1))
    grads = run("fast", "dense_backward", np.ones((m, n), np.float32), x, weight, None, (True,) * 3)
    assert [g.shape for g in grads] == [x.shape, weight.shape, bias.shape]
    np.testing.assert_array_equal(grads[1], np.full((depth, n), m))


@given(rows=SIZES, features=DEPTHS, units=SIZES, layout=LAYOUTS, has_bias=st.booleans(), relu=st.booleans())
@settings(max_examples=30)
def test_dense(rows, features, units, layout, has_bias, relu):
    x, weight = normal(rows, features, dtype=np.float32), normal(features, units, dtype=np.float32, seed=1)
    bias = 3 * normal(units, dtype=np.float32, seed=2) if has_bias else None
    wanted = blocks.dense(arrays, x.astype(float), weight.astype(float), bias, relu)
    (y,) = run("fast", "dense", layout(x), layout(weight), bias, relu)
    assert_close(y, wanted, features)


@given(rows=SIZES, features=SIZES, units=SIZES, layout=LAYOUTS, relu=st.booleans())
@settings(max_examples=30)
def test_dense_backward(rows, features, units, layout, relu):
    grad_y, x, weight, y = (
        normal(*shape, dtype=np.float32, seed=i)
        for i, shape in enumerate([(rows, units), (rows, features), (features, units), (rows, units)])
    )
    y = np.maximum(y, 0) if relu else None
    wide = [None if a is None else a.astype(float) for a in (grad_y, x, weight, y)]
    wanted = blocks.dense_backward(arrays, *wide, (True,) * 3)
    args = [None if a is None else layout(a) for a in (grad_y, x, weight, y)]
    got = run("fast", "dense_backward", *args, (True,) * 3)
    for a, b, depth in zip(got, wanted, (units, rows, rows)):
        assert_close(a, b, depth)


@pytest.mark.parametrize("needs", list(itertools.product([False, True], repeat=3)))
def test_only_the_gradients_that_are_needed(needs):
    grad_y, x, weight = (normal(*s, dtype=np.float32) for s in ((40, 50), (40, 60), (60, 50)))
    got = kernels.dense_backward(grad_y, x, weight, None, needs)
    assert [g is not None for g in got] == list(needs)


def test_nan_and_infinity_go_through_and_stay_in_their_row():
    x, weight = normal(40, 600, dtype=np.float32), normal(600, 40, dtype=np.float32, seed=1)
    x[3, 500], x[7, 2] = np.nan, np.inf
    (y,) = run("fast", "dense", x, weight, None, True)
    assert np.isnan(y[3]).all() and np.isfinite(np.delete(y, [3, 7], axis=0)).all()
    np.testing.assert_array_equal(y[7], np.where(weight[2] > 0, np.inf, 0))
    weight[4, 5] = np.nan
    (y,) = run("fast", "dense", x, weight, None, True)
    assert np.isnan(y[:, 5]).all() and np.isfinite(np.delete(np.delete(y, [3, 7], 0), 5, 1)).all()


def test_the_relu_is_after_the_last_block_of_the_depth():
    x = np.ones((32, 1024), np.float32)
    x[:, :512] = -1  # the sum of the first block is -512, of both 0 + the bias
    (y,) = run("fast", "dense", x, np.ones((1024, 32), np.float32), np.full(32, 2, np.float32), True)
    np.testing.assert_array_equal(y, 2)


@pytest.mark.parametrize("shape", [(128, 784, 128), (33, 50, 700), (64, 3000, 10)])
def test_repeated_products_agree_bit_for_bit(shape):
    m, depth, n = shape
    a, b = normal(m, depth, dtype=np.float32), normal(depth, n, dtype=np.float32, seed=1)
    (first,), (second,) = (run("fast", "matmul", a, b) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("depth", [300, 700, 4200])
def test_the_same_numbers_in_any_layout_give_the_same_bits(depth):
    a, b = normal(100, depth, dtype=np.float32), normal(depth, 70, dtype=np.float32, seed=1)
    (wanted,) = run("fast", "matmul", a, b)
    for first, second in itertools.product([plain, transposed, every_second], repeat=2):
        np.testing.assert_array_equal(run("fast", "matmul", first(a), second(b))[0], wanted)
