"""Normalisation kernels: finite differences, PyTorch's values, and rooms against the reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import DTYPES, EPS, ROOMS, TESTED, assert_same, expected, normal, run, wave
from numeric import assert_gradients

SHAPES = st.lists(st.integers(1, 5), min_size=0, max_size=3)
FEATURES = st.sampled_from([1, 4, 7, 16, 19])


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
