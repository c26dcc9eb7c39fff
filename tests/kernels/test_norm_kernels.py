"""Normalisation kernels: finite differences, PyTorch's values, and rooms against the reference."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import DTYPES, EPS, ROOMS, TESTED, assert_same, expected, normal, run, wave
from numeric import assert_gradients

import tinynet as tn
from tinynet.kernels.cpu.microkernel import registers
from tinynet.kernels.cpu.norm_loops import row_sizes

SHAPES = st.lists(st.integers(1, 5), min_size=0, max_size=3)
FEATURES = st.sampled_from([1, 4, 7, 16, 19])
AXES = st.lists(st.integers(1, 6), min_size=0, max_size=4)  # before the features: 1 to 5 axes in all


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", TESTED)
@given(rows=st.sampled_from([1, 5, 16, 33]), axes=SHAPES, features=FEATURES)
@settings(max_examples=25)
def test_batch_norm(room, dtype, rows, axes, features):
    x = normal(rows, *axes, features, dtype=dtype) * 2 + 3
    check_forward_and_backward(room, "batch_norm", x, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", TESTED)
@given(rows=st.integers(1, 40), features=FEATURES)
@settings(max_examples=25)
def test_layer_norm(room, dtype, rows, features):
    x = normal(rows, features, dtype=dtype) * 2 + 3
    check_forward_and_backward(room, "layer_norm", x, dtype)


def check_forward_and_backward(room, name, x, dtype):
    features = x.shape[-1]
    weight, bias = normal(features, dtype=dtype, seed=1), normal(features, dtype=dtype, seed=2)
    wanted = expected(name, x, weight, bias, EPS)
    assert_same(run(room, name, x, weight, bias, EPS), wanted, dtype)
    grad_y, (mean, var) = normal(*x.shape, dtype=dtype, seed=3), (v.astype(dtype) for v in wanted[1:])
    args = (grad_y, x, weight, mean, var, EPS)
    assert_same(run(room, name + "_backward", *args), expected(name + "_backward", *args), dtype)


@pytest.mark.parametrize("name", ["batch_norm", "layer_norm"])
@pytest.mark.parametrize("room", ROOMS)
def test_backward_is_the_numeric_derivative(room, name):
    x, weight, bias, grad_y = normal(6, 4), normal(4, seed=1), normal(4, seed=2), normal(6, 4, seed=3)
    _, mean, var = run(room, name, x, weight, bias, EPS)
    grads = run(room, name + "_backward", grad_y, x, weight, mean, var, EPS)
    assert_gradients(lambda *inputs: run(room, name, *inputs, EPS)[:1], [x, weight, bias], [grad_y], grads)


@pytest.mark.parametrize("room", ROOMS)
def test_values_from_pytorch(room):
    x, weight, bias = wave(4, 2, phase=1), np.array([1.5, -0.5]), np.array([0.1, 0.2])
    y, mean, var = run(room, "batch_norm", x, weight, bias, EPS)
    wanted_y = [
        1.4725745294, -0.3865151833, -1.3754162427, 0.7933927736,
        1.7220571878, 0.586247895, -1.4192154685, -0.1931254734,
    ]  # fmt: skip
    wanted_grad = [
        0.359873141, 1.142338491, -0.3610283146, -1.2454416454,
        -0.3262358224, 1.859905999, 0.327390996, -1.7568028446,
    ]  # fmt: skip
    grad, *_ = run(room, "batch_norm_backward", wave(4, 2, phase=2), x, weight, mean, var, EPS)
    np.testing.assert_allclose(y.ravel(), wanted_y, atol=1e-9)
    np.testing.assert_allclose(grad.ravel(), wanted_grad, atol=1e-9)
    np.testing.assert_allclose(var, x.var(0), rtol=1e-12)  # the population's: divided by 4, not by 3


@pytest.mark.parametrize("name", ["batch_norm", "layer_norm"])
@pytest.mark.parametrize("room", ROOMS)
def test_variance_of_numbers_far_from_zero_keeps_its_digits(room, name):
    """In float32, E[x^2] - E[x]^2 would be off by about 1 here."""
    x = (1000 + normal(200, 200, dtype=np.float32)).astype(np.float32)
    weight, bias = np.ones(200, np.float32), np.zeros(200, np.float32)
    _, mean, var = run(room, name, x, weight, bias, EPS)
    axis = 0 if name == "batch_norm" else 1
    np.testing.assert_allclose(mean, x.astype(float).mean(axis), rtol=1e-6)
    np.testing.assert_allclose(var, x.astype(float).var(axis), rtol=1e-3)


@pytest.mark.parametrize("room", TESTED)
def test_statistics_of_many_rows_keep_their_digits(room):
    x = (normal(300_000, 3) + np.array([0, 5, -20])).astype(np.float32)
    _, mean, var = run(room, "batch_norm", x, np.ones(3, np.float32), np.zeros(3, np.float32), EPS)
    np.testing.assert_allclose(mean, x.astype(float).mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(var, x.astype(float).var(0), rtol=1e-5)


@pytest.mark.parametrize("name", ["batch_norm", "layer_norm"])
@pytest.mark.parametrize("room", ROOMS)
def test_constant_input_gives_the_bias(room, name):
    x, weight, bias = np.full((4, 3), 2, np.float32), normal(3, dtype=np.float32), normal(3, dtype=np.float32)
    y, _, var = run(room, name, x, weight, bias, EPS)
    np.testing.assert_allclose(y, np.broadcast_to(bias, (4, 3)), atol=1e-6)
    assert (var == 0).all()


# --- with ReLU, and with statistics that are given ---


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", TESTED)
@given(axes=AXES, features=FEATURES, relu=st.booleans())
@settings(max_examples=40)
def test_norm_block(room, dtype, axes, features, relu):
    x = normal(*axes, features, dtype=dtype) * 2 + 3
    weight, bias = normal(features, dtype=dtype, seed=1), normal(features, dtype=dtype, seed=2)
    y, mean, var = wanted = expected("norm_block", x, weight, bias, EPS, relu)
    got = run(room, "norm_block", x, weight, bias, EPS, relu)
    assert_same(got, wanted, dtype)
    # a y within rounding of 0 may be open here and closed there: both get the mask of the reference
    args = normal(*x.shape, dtype=dtype, seed=3), x, weight, bias, mean.astype(dtype), var.astype(dtype), EPS
    args += (y.astype(dtype) if relu else None,)
    assert_same(run(room, "norm_block_backward", *args), expected("norm_block_backward", *args), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", TESTED)
@given(axes=AXES, features=FEATURES, relu=st.booleans())
@settings(max_examples=40)
def test_scale_shift(room, dtype, axes, features, relu):
    args = normal(*axes, features), normal(features, seed=1), normal(features, seed=2)
    args = (*(a.astype(dtype) for a in args), relu)
    assert_same(run(room, "scale_shift", *args), expected("scale_shift", *args), dtype)


@pytest.mark.parametrize("room", ROOMS)
def test_backward_with_relu_is_the_numeric_derivative(room):
    x, weight, bias, grad_y = normal(6, 4), normal(4, seed=1), normal(4, seed=2), normal(6, 4, seed=3)
    y, mean, var = run(room, "norm_block", x, weight, bias, EPS, True)
    assert 0.2 < (y > 0).mean() < 0.8
    grads = run(room, "norm_block_backward", grad_y, x, weight, bias, mean, var, EPS, y)

    def forward(*inputs):
        return run(room, "norm_block", *inputs, EPS, True)[:1]

    assert_gradients(forward, [x, weight, bias], [grad_y], grads)


@pytest.mark.parametrize("room", ROOMS)
def test_relu_lets_nan_through_and_no_gradient_at_zero(room):
    """Channel 0 holds a NaN; channel 1 has weight 0 and bias 0, so that y is 0 everywhere."""
    x, grad_y = normal(50, 3, dtype=np.float32), np.ones((50, 3), np.float32)
    x[7, 0] = np.nan
    weight, bias = np.array([1, 0, 1], np.float32), np.zeros(3, np.float32)
    y, mean, var = run(room, "norm_block", x, weight, bias, EPS, True)
    assert np.isnan(y[:, 0]).all() and (y[:, 1] == 0).all() and 0 < (y[:, 2] > 0).mean() < 1
    grad_x, _, grad_bias = run(room, "norm_block_backward", grad_y, x, weight, bias, mean, var, EPS, y)
    assert np.isnan(grad_x[:, 0]).all() and grad_bias[1] == 0 and grad_bias[2] == (y[:, 2] > 0).sum()
    (y,) = run(room, "scale_shift", x, weight, bias, True)
    assert np.isnan(y[7, 0]) and (y >= 0).sum() == y.size - 1


# --- the fast room: many numbers, threads, layouts ---

LARGE = [(1000, 3), (63, 9, 31), (5, 40, 41, 16), (2, 5, 20, 21, 32), (3, 700, 64), (700, 128), (70, 600)]
RAGGED = [(33_001, 1), (2501, 13), (4099, 10), (999, 17), (30, 601), (257, 100), (1, 5000), (5, 16), (3, 8)]


def arrays_of(shape, offset=0.0):
    """x, grad_y, weight and bias in float32."""
    x, grad_y = (normal(*shape, dtype=np.float32, seed=i) for i in range(2))
    weight, bias = (normal(shape[-1], dtype=np.float32, seed=i) for i in range(2, 4))
    return x + np.float32(offset), grad_y, weight, bias


def forward_and_backward(room, x, grad_y, weight, bias, relu):
    y, mean, var = run(room, "norm_block", x, weight, bias, 1e-3, relu)
    mask = y if relu else None
    return [y, mean, var, *run(room, "norm_block_backward", grad_y, x, weight, bias, mean, var, 1e-3, mask)]


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", LARGE + RAGGED)
def test_norm_block_of_several_blocks_against_float64(shape, relu):
    operands = arrays_of(shape, offset=-1)
    got = forward_and_backward("fast", *operands, relu)
    wanted = forward_and_backward("numpy", *(a.astype(float) for a in operands), relu)
    assert_same(got, wanted, np.float32)


@pytest.mark.parametrize("shape", LARGE + RAGGED)
def test_the_backward_finds_the_mask_of_the_forward_to_the_last_bit(shape):
    """A few values of x, and biases that put one of them at zero but for rounding."""
    x = normal(*shape, dtype=np.float32).round()
    weight = normal(shape[-1], dtype=np.float32, seed=1)
    _, mean, var = run("fast", "norm_block", x, weight, weight, EPS, False)
    bias = ((mean - 1) * weight / np.sqrt(var + EPS)).astype(np.float32)
    y, mean, var = run("fast", "norm_block", x, weight, bias, EPS, True)
    grads = run("fast", "norm_block_backward", np.ones_like(x), x, weight, bias, mean, var, EPS, y)
    np.testing.assert_array_equal(grads[2], (y > 0).reshape(-1, shape[-1]).sum(axis=0))


@pytest.mark.parametrize("channels", [1, 2, 3, 8, 10, 13, 16, 17, 24, 31, 32, 48, 64, 96, 100, 128, 601])
def test_rows_of_batch_norm_are_whole_pixels_in_whole_vectors(channels):
    row, vectors = row_sizes(channels)
    assert row % channels == 0 and row % (vectors * registers()[0]) == 0


@pytest.mark.parametrize("shape", [(200_000, 1), (9, 64, 64, 16), (4000, 130)])
def test_norm_block_beside_a_large_mean_keeps_its_digits(shape):
    """The first pixels, a border, are far from all others: the mean of the sample must not rest on them."""
    x, _, weight, bias = arrays_of(shape, offset=5000)
    x.reshape(-1, shape[-1])[:3] = 0
    _, mean, var = run("fast", "norm_block", x, weight, bias, EPS, True)
    pixels = x.reshape(-1, shape[-1]).astype(float)
    np.testing.assert_allclose(mean, pixels.mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(var, pixels.var(axis=0), rtol=2e-5)
    x.reshape(-1, shape[-1])[:3] = 5000
    _, mean, var = run("fast", "norm_block", x, weight, bias, EPS, True)
    np.testing.assert_allclose(var, x.reshape(-1, shape[-1]).astype(float).var(axis=0), rtol=1e-5)


@pytest.fixture
def one_thread():
    before = tn.threads()
    tn.threads(1)
    yield
    tn.threads(before)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="this machine has one thread")
@pytest.mark.parametrize("shape", LARGE)
def test_the_number_of_threads_changes_no_bit_of_norm_block(shape, one_thread):
    operands = arrays_of(shape)
    fixed = (operands[0], *operands[2:], True)
    alone = forward_and_backward("fast", *operands, True) + run("fast", "scale_shift", *fixed)
    tn.threads(2)
    both = forward_and_backward("fast", *operands, True) + run("fast", "scale_shift", *fixed)
    for a, b in zip(both, alone):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda a: np.repeat(a, 2, axis=-1)[..., ::2]])
def test_norm_block_of_any_layout(layout):
    operands = arrays_of((40, 30, 20))
    wanted = forward_and_backward("fast", *operands, True)
    for a, b in zip(forward_and_backward("fast", *map(layout, operands), True), wanted):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("room", ROOMS)
def test_blocks_of_nothing(room):
    x, weight = np.zeros((0, 3), np.float32), np.ones(3, np.float32)
    y, mean, var = run(room, "norm_block", x, weight, weight, EPS, True)
    assert y.shape == (0, 3) and (mean == 0).all() and (var == 0).all()
    grads = run(room, "norm_block_backward", x, x, weight, weight, mean, var, EPS, y)
    assert [g.shape for g in grads] == [(0, 3), (3,), (3,)]
    assert run(room, "scale_shift", x, weight, weight, True)[0].shape == (0, 3)
