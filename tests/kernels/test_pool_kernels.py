"""Pooling kernels: the reference against small cases, the other rooms against the reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from kernel_cases import DTYPES, ROOMS, TESTED, assert_same, expected, geometries, normal, run

from tinynet.kernels import Window

NONE = ((0, 0), (0, 0))
QUARTERS = Window((2, 2), (2, 2), NONE, (1, 1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", TESTED)
@given(case=geometries())
@settings(max_examples=40)
def test_max_pool_geometry(room, dtype, case):
    x, window = normal(*case.x_shape, dtype=dtype), case.window
    (y, where), (wanted, wanted_where) = run(room, "max_pool", x, window), expected("max_pool", x, window)
    hit = np.isfinite(
        wanted
    )  # windows that lie wholly in the padding give -inf, and their index means nothing
    np.testing.assert_array_equal(y, wanted.astype(dtype))
    np.testing.assert_array_equal(where[hit], wanted_where[hit])
    assert where.dtype == wanted_where.dtype
    grad_y = normal(*y.shape, dtype=dtype, seed=1)
    args = (grad_y, wanted_where, x.shape, window)
    assert_same(run(room, "max_pool_backward", *args), expected("max_pool_backward", *args), dtype)


@pytest.mark.parametrize("count_padding", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", TESTED)
@given(case=geometries())
@settings(max_examples=40)
def test_avg_pool_geometry(room, dtype, count_padding, case):
    x, window = normal(*case.x_shape, dtype=dtype), case.window
    wanted = expected("avg_pool", x, window, count_padding)
    assert_same(run(room, "avg_pool", x, window, count_padding), wanted, dtype)
    args = (normal(*wanted[0].shape, dtype=dtype, seed=1), x.shape, window, count_padding)
    assert_same(run(room, "avg_pool_backward", *args), expected("avg_pool_backward", *args), dtype)


@pytest.mark.parametrize("count_padding", [True, False])
@pytest.mark.parametrize("room", ROOMS)
@given(case=geometries())
@settings(max_examples=20)
def test_avg_pool_backward_is_the_adjoint(room, count_padding, case):
    x = normal(*case.x_shape)
    (pooled,) = run(room, "avg_pool", x, case.window, count_padding)
    y = normal(*pooled.shape, seed=1)
    (back,) = run(room, "avg_pool_backward", y, x.shape, case.window, count_padding)
    assert np.vdot(pooled, y) == pytest.approx(np.vdot(x, back), abs=1e-9)


@pytest.mark.parametrize("room", ROOMS)
def test_max_pool_by_eye(room):
    x = np.array([[1, 5, 2, 0], [3, 4, 8, 1], [0, 0, 7, 7], [9, 0, 7, 7]], np.float32).reshape(1, 4, 4, 1)
    y, where = run(room, "max_pool", x, QUARTERS)
    np.testing.assert_array_equal(y.reshape(2, 2), [[5, 8], [9, 7]])
    np.testing.assert_array_equal(where.reshape(2, 2), [[1, 2], [2, 0]])


@pytest.mark.parametrize("room", ROOMS)
def test_avg_pool_by_eye(room):
    x = np.arange(1, 10, dtype=np.float32).reshape(1, 3, 3, 1)
    corners = Window((2, 2), (2, 2), ((1, 0), (1, 0)), (1, 1))  # the first window sees the number 1 alone
    (y,) = run(room, "avg_pool", x, corners, False)
    np.testing.assert_allclose(y.reshape(2, 2), [[1, 2.5], [5.5, 7]])
    (y,) = run(room, "avg_pool", x, corners, True)
    np.testing.assert_allclose(y.reshape(2, 2), [[0.25, 1.25], [2.75, 7]])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3, 16, 21])
@pytest.mark.parametrize("room", ROOMS)
def test_of_equals_the_first_wins(room, channels, dtype):
    x = np.ones((2, 5, 7, channels), dtype)
    window = Window((3, 2), (1, 2), ((1, 1), (1, 0)), (1, 1))
    y, where = run(room, "max_pool", x, window)
    assert (y == 1).all()
    first_row = np.array([1, 0, 0, 0, 0])[:, None] * 2  # the window of the first row begins in the padding
    first_column = np.array([1, 0, 0, 0])
    np.testing.assert_array_equal(where[1, :, :, -1], first_row + first_column)
    (grad,) = run(room, "max_pool_backward", np.ones_like(y), where, x.shape, window)
    assert grad.sum() == y.size


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3, 16, 21])
@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("room", ROOMS)
def test_nan_wins_wherever_it_stands(room, place, channels, dtype):
    x = normal(1, 2, 2, channels, dtype=dtype)
    x.reshape(4, channels)[place] = np.nan
    y, where = run(room, "max_pool", x, QUARTERS)
    assert np.isnan(y).all()
    assert (where == place).all()


@pytest.mark.parametrize("room", ROOMS)
def test_the_first_of_two_nans_wins(room):
    x = np.array([1, np.nan, np.inf, np.nan], np.float32).reshape(1, 2, 2, 1)
    y, where = run(room, "max_pool", x, QUARTERS)
    assert np.isnan(y).all() and where.item() == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", ROOMS)
def test_padding_never_wins_not_even_against_minus_infinity(room, dtype):
    x = np.full((1, 2, 2, 3), -np.inf, dtype)
    window = Window((2, 2), (1, 1), ((1, 1), (1, 1)), (1, 1))
    y, where = run(room, "max_pool", x, window)
    (grad,) = run(room, "max_pool_backward", np.ones_like(y), where, x.shape, window)
    assert grad.sum() == y.size  # nothing was given to the padding


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", ROOMS)
def test_negative_numbers_beside_padding(room, dtype):
    x = -1 - np.abs(normal(2, 3, 3, 4, dtype=dtype))
    y, _ = run(room, "max_pool", x, Window((2, 2), (2, 2), ((1, 0), (1, 0)), (1, 1)))
    assert (y < 0).all()
    np.testing.assert_array_equal(y[:, 0, 0], x[:, 0, 0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", ROOMS)
def test_windows_that_lie_wholly_in_the_padding(room, dtype):
    x, window = np.ones((1, 1, 2), dtype), Window((2,), (1,), ((1, 1),), (2,))
    y, where = run(room, "max_pool", x, window)
    assert (y == -np.inf).all()
    (grad,) = run(room, "max_pool_backward", np.ones_like(y), where, x.shape, window)
    assert (grad == 0).all()
    for count_padding in (True, False):
        (mean,) = run(room, "avg_pool", x, window, count_padding)
        (grad,) = run(room, "avg_pool_backward", np.ones_like(mean), x.shape, window, count_padding)
        assert (mean == 0).all() and (grad == 0).all()


@pytest.mark.parametrize("room", ROOMS)
def test_index_of_large_windows_needs_more_than_a_byte(room):
    x = np.zeros((1, 17, 17, 1), np.float32)
    x[0, 16, 16] = 1
    _, where = run(room, "max_pool", x, Window((17, 17), (1, 1), NONE, (1, 1)))
    assert where.dtype == np.int32 and where.item() == 17 * 17 - 1
    _, where = run(room, "max_pool", x[:, 1:, 1:], Window((16, 16), (1, 1), NONE, (1, 1)))
    assert where.dtype == np.uint8 and where.item() == 255


LARGE = {
    "halves": ((3, 28, 28, 32), QUARTERS),
    "ragged": ((2, 13, 15, 21), QUARTERS),
    "overlapping": ((2, 14, 14, 19), Window((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1))),
    "gaps between windows": ((2, 14, 14, 8), Window((2, 2), (3, 3), NONE, (1, 1))),
    "volume": ((2, 6, 8, 10, 5), Window((2, 2, 2), (2, 2, 2), ((0, 0),) * 3, (1, 1, 1))),
    "sequence": ((2, 101, 9), Window((4,), (2,), ((1, 2),), (1,))),
}


@pytest.mark.parametrize(("shape", "window"), LARGE.values(), ids=LARGE.keys())
def test_large_shapes_in_float32_against_the_whole_array_room(shape, window):
    x = normal(*shape, dtype=np.float32)
    y, where = run("numpy", "max_pool", x, window)
    grad_y = normal(*y.shape, dtype=np.float32, seed=1)
    for name, args in (
        ("max_pool", (x, window)),
        ("max_pool_backward", (grad_y, where, x.shape, window)),
        ("avg_pool", (x, window, False)),
        ("avg_pool_backward", (grad_y, x.shape, window, False)),
    ):
        assert_same(run("fast", name, *args), run("numpy", name, *args), np.float32)
