"""Convolution kernels: the reference against outside truth, the other rooms against the reference."""

import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from kernel_cases import (
    DTYPES,
    ROOMS,
    TESTED,
    Geometry,
    assert_same,
    expected,
    geometries,
    normal,
    relative_error,
    run,
    wave,
)

from tinynet.kernels import Window
from tinynet.kernels.arrays import col2im, im2col

CONV_MODULE = importlib.import_module(
    "tinynet.kernels.arrays.conv"
)  # the package's own `conv` is the function


def valid(*size):
    """A plain window of that size."""
    rank = len(size)
    return Window(size, (1,) * rank, ((0, 0),) * rank, (1,) * rank)


@pytest.mark.parametrize("room", ROOMS)
def test_one_channel_is_numpys_correlation(room):
    x, w = normal(11), normal(4)
    (y,) = run(room, "conv", x.reshape(1, 11, 1), w.reshape(4, 1, 1), None, valid(4), 1)
    np.testing.assert_allclose(y.ravel(), np.correlate(x, w, "valid"), rtol=1e-12)


@pytest.mark.parametrize("room", ROOMS)
def test_stride_padding_and_dilation_in_terms_of_the_plain_correlation(room):
    x, w = normal(11), normal(3)
    window = Window((3,), (2,), ((1, 3),), (2,))
    (y,) = run(room, "conv", x.reshape(1, 11, 1), w.reshape(3, 1, 1), None, window, 1)
    spread = np.array([w[0], 0, w[1], 0, w[2]])
    plain = np.correlate(np.pad(x, (1, 3)), spread, "valid")
    np.testing.assert_allclose(y.ravel(), plain[::2], rtol=1e-12)


@pytest.mark.parametrize("room", ROOMS)
def test_groups_are_separate_convolutions(room):
    window = valid(2, 2)
    x, weight, bias, _ = Geometry((2, 4, 3, 6), window, 4, 2).arrays(np.float64)
    (y,) = run(room, "conv", x, weight, bias, window, 2)
    for c, o in ((slice(0, 3), slice(0, 2)), (slice(3, 6), slice(2, 4))):
        (part,) = run(room, "conv", x[..., c], weight[..., o], bias[o], window, 1)
        np.testing.assert_allclose(y[..., o], part, rtol=1e-12)


@pytest.mark.parametrize("room", ROOMS)
def test_an_image_that_can_be_checked_by_eye(room):
    x = np.arange(16.0).reshape(1, 4, 4, 1)
    diagonal = np.array([[1.0, 0.0], [0.0, -1.0]]).reshape(2, 2, 1, 1)
    (y,) = run(room, "conv", x, diagonal, np.array([7.0]), valid(2, 2), 1)
    np.testing.assert_array_equal(y, np.full((1, 3, 3, 1), 7 - 5))


@pytest.mark.parametrize("room", ROOMS)
def test_values_from_pytorch(room):
    x, weight = wave(1, 4, 5, 2, phase=0), wave(2, 2, 1, 4, phase=1)
    (y,) = run(room, "conv", x, weight, None, Window((2, 2), (1, 2), ((1, 1), (0, 0)), (2, 1)), 2)
    assert y.shape == (1, 4, 2, 4)
    first = [-0.303050355, -0.3584919207, 0.1473808962, -0.2183777868, -0.3795245569, -0.2447998078]
    last = [-0.099437171, 0.4884660641, 0.2499148427, 0.0011597944, 0.0270308858, 0.4894160591]
    np.testing.assert_allclose(y.ravel()[:6], first, atol=1e-9)
    np.testing.assert_allclose(y.ravel()[-6:], last, atol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", TESTED)
@given(case=geometries())
@settings(max_examples=40)
def test_geometry(room, dtype, case):
    x, weight, bias, grad_y = case.arrays(dtype)
    _, window, _, groups = case
    for name, args in (
        ("conv", (x, weight, bias, window, groups)),
        ("conv_input_grad", (grad_y, weight, x.shape, window, groups)),
        ("conv_weight_grad", (x, grad_y, window, groups)),
        ("bias_grad", (grad_y,)),
    ):
        assert_same(run(room, name, *args), expected(name, *args), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", ROOMS)
@given(case=geometries())
@settings(max_examples=20)
def test_gradients_are_the_adjoints(room, dtype, case):
    """<conv(x), y> = <x, conv_input_grad(y)> = <w, conv_weight_grad(x, y)>."""
    x, weight, _, y = case.arrays(dtype)
    _, window, _, groups = case
    (conv_x,) = run(room, "conv", x, weight, None, window, groups)
    (grad_x,) = run(room, "conv_input_grad", y, weight, x.shape, window, groups)
    (grad_w,) = run(room, "conv_weight_grad", x, y, window, groups)
    scale = np.linalg.norm(conv_x) * np.linalg.norm(y) + 1
    tolerance = scale * (1e-5 if dtype == np.float32 else 1e-12)
    assert abs(np.vdot(conv_x, y) - np.vdot(x, grad_x)) < tolerance
    assert abs(np.vdot(conv_x, y) - np.vdot(weight, grad_w)) < tolerance


LARGE = {
    "first layer": Geometry((2, 28, 28, 1), Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)), 32, 1),
    "middle layer": Geometry((3, 13, 14, 24), Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)), 40, 1),
    "odd channels": Geometry((2, 9, 11, 19), Window((3, 5), (2, 1), ((1, 2), (2, 2)), (1, 1)), 67, 1),
    "1x1": Geometry((2, 8, 9, 33), valid(1, 1), 17, 1),
    "strided 1x1": Geometry((2, 8, 9, 16), Window((1, 1), (2, 2), ((0, 0), (0, 0)), (1, 1)), 32, 1),
    "depthwise": Geometry((2, 12, 10, 24), Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)), 24, 24),
    "grouped": Geometry((2, 10, 10, 32), Window((3, 3), (1, 1), ((0, 0), (0, 0)), (2, 2)), 48, 4),
    "long sequence": Geometry((2, 301, 5), Window((7,), (3,), ((6, 0),), (1,)), 20, 1),
    "volume": Geometry((1, 6, 7, 8, 9), Window((3, 3, 3), (1, 1, 1), ((1, 1),) * 3, (1, 1, 1)), 18, 1),
    "one huge window": Geometry((5, 16, 16, 3), valid(16, 16), 10, 1),
}


@pytest.mark.parametrize("case", LARGE.values(), ids=LARGE.keys())
def test_large_shapes_in_float32_against_the_whole_array_room_in_float64(case):
    """These are too large for the reference; the whole-array room agrees with it above."""
    wide = case.arrays(np.float64)
    for name, picked, rest in (
        ("conv", (0, 1, 2), (case.window, case.groups)),
        ("conv_input_grad", (3, 1), (case.x_shape, case.window, case.groups)),
        ("conv_weight_grad", (0, 3), (case.window, case.groups)),
        ("bias_grad", (3,), ()),
    ):
        wanted = run("numpy", name, *(wide[i] for i in picked), *rest)
        got = run("fast", name, *(wide[i].astype(np.float32) for i in picked), *rest)
        assert_same(got, wanted, np.float32)


@pytest.mark.parametrize("limit", [1, 5000])
def test_few_images_at_a_time_give_the_same(monkeypatch, limit):
    case = Geometry((5, 6, 6, 2), valid(3, 3), 4, 1)
    x, weight, bias, grad_y = case.arrays(np.float64)
    calls = {
        "conv": (x, weight, bias, case.window, 1),
        "conv_input_grad": (grad_y, weight, x.shape, case.window, 1),
        "conv_weight_grad": (x, grad_y, case.window, 1),
    }
    whole = {name: run("numpy", name, *args) for name, args in calls.items()}
    monkeypatch.setattr(CONV_MODULE, "COLUMN_BYTES", limit)
    for name, args in calls.items():
        assert_same(run("numpy", name, *args), whole[name], np.float64)


def test_columns_of_a_large_batch_stay_below_the_limit():
    x_shape, window = (512, 64, 64, 8), Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    chunks = list(CONV_MODULE._image_chunks(x_shape, 4, window))
    sizes = [len(range(512)[part]) for part in chunks]
    assert sum(sizes) == 512 and len(sizes) > 1
    assert max(sizes) * 64 * 64 * 9 * 8 * 4 <= 64 * 2**20


def test_im2col_lays_windows_side_by_side():
    x = np.arange(12.0).reshape(1, 3, 4, 1)
    columns = im2col(x, valid(2, 2))
    assert columns.shape == (1, 2, 3, 2, 2, 1)
    assert np.shares_memory(columns, x)
    np.testing.assert_array_equal(columns[0, 1, 2, :, :, 0], [[6, 7], [10, 11]])


@given(case=geometries())
@settings(max_examples=40)
def test_col2im_is_the_adjoint_of_im2col(case):
    x = normal(*case.x_shape)
    columns = im2col(x, case.window)
    y = normal(*columns.shape, seed=1)
    assert np.vdot(columns, y) == pytest.approx(np.vdot(x, col2im(y, x.shape, case.window)), abs=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 2), (17, 33, 9), (64, 100, 31), (0, 4, 3), (4, 0, 3)])
@pytest.mark.parametrize("room", ROOMS)
def test_matmul_of_matrices_and_of_transposed_views(room, shape, dtype):
    m, k, n = shape
    a, b = normal(m, k, dtype=dtype), normal(k, n, dtype=dtype, seed=1)
    wanted = [a.astype(float) @ b.astype(float)]
    for left in (a, a.T.copy().T):
        for right in (b, b.T.copy().T):
            assert_same(run(room, "matmul", left, right), wanted, dtype)


@pytest.mark.parametrize("room", TESTED)
def test_bias_gradient_over_many_rows_keeps_its_digits(room):
    grad = (normal(300_000, 2) + 1).astype(np.float32)
    assert relative_error(run(room, "bias_grad", grad)[0], grad.astype(float).sum(0)) < 1e-5
