"""Batch norm and layer norm on the GPU, against the whole-array kernels in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from measure import relative_error

from tinynet.kernels import arrays, blocks, reference
from tinynet.kernels.cuda import norm as cuda

FEW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
EPS = 1e-5

# Rows and channels: one channel, few, as many as a block has threads and one more or less, tiles of channels.
SHAPES = [
    (2, 1), (700, 1), (5, 3), (1000, 3), (33, 16), (530, 17), (40, 64), (3, 511), (3, 512), (9, 513),
    (4, 1300),
]  # fmt: skip
SHAPE = pytest.mark.parametrize("shape", SHAPES, ids=str)


def numbers(*shape: int, seed: int = 0, mean: float = 0.5) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=shape) + mean).astype(np.float32)


def doubled(*values: np.ndarray) -> list[np.ndarray]:
    return [value.astype(np.float64) for value in values]


def on(gpu, *values: np.ndarray) -> list:
    return [gpu.asarray(value) for value in values]


def all_close(got, truth, limit: float = 1e-5) -> None:
    errors = [relative_error(g, t) for g, t in zip(got, truth, strict=True)]
    assert max(errors) < limit, errors


def grads_close(got, truth, slopes: np.ndarray) -> None:
    """The gradient in x may be the small rest of large terms: what counts is its error beside those."""
    all_close(got[1:], truth[1:])
    assert np.linalg.norm(got[0].get() - truth[0]) < 1e-5 * np.linalg.norm(slopes)


def check_batch(gpu, x: np.ndarray, relu: bool = False) -> None:
    channels = x.shape[-1]
    weight, bias = numbers(channels, seed=1), numbers(channels, seed=2, mean=0)
    got = cuda.norm_block(*on(gpu, x, weight, bias), EPS, relu)
    all_close(got, blocks.norm_block(arrays, *doubled(x, weight, bias), EPS, relu))
    y, mean, var = (value.get() for value in got)
    grad_y, seen = numbers(*x.shape, seed=3), y if relu else None
    known = grad_y, x, weight, bias, mean, var
    got = cuda.norm_block_backward(*on(gpu, *known), EPS, gpu.asarray(y) if relu else None)
    truth = blocks.norm_block_backward(arrays, *doubled(*known), EPS, seen)
    grads_close(got, truth, grad_y * weight / np.sqrt(var + EPS))


def check_layer(gpu, x: np.ndarray) -> None:
    features = x.shape[-1]
    weight, bias = numbers(features, seed=1), numbers(features, seed=2, mean=0)
    got = cuda.layer_norm(*on(gpu, x, weight, bias), EPS)
    all_close(got, arrays.layer_norm(*doubled(x, weight, bias), EPS))
    _, mean, var = (value.get() for value in got)
    known = numbers(*x.shape, seed=3), x, weight, mean, var
    got = cuda.layer_norm_backward(*on(gpu, *known), EPS)
    truth = arrays.layer_norm_backward(*doubled(*known), EPS)
    grads_close(got, truth, known[0] * weight / np.sqrt(var + EPS)[:, None])


@SHAPE
@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
def test_batch_norm(gpu, shape, relu):
    check_batch(gpu, numbers(*shape), relu)


@pytest.mark.parametrize("rows", [63, 64, 65, 66, 128, 129, 200])
def test_threads_that_visit_many_rows(gpu, monkeypatch, rows):
    """Chunks of 32 rows for each of two threads, and one more or less."""
    monkeypatch.setattr(cuda, "_THREADS", 6)
    monkeypatch.setattr(cuda, "_MOST_SUMMING", 1)
    monkeypatch.setattr(cuda, "_MOST", 1)
    check_batch(gpu, numbers(rows, 3), relu=True)
    check_layer(gpu, numbers(rows, 3))


def test_batch_norm_of_images(gpu):
    check_batch(gpu, numbers(3, 5, 4, 6), relu=True)


@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (3, 31), (8, 32), (9, 33), (5, 200), (3, 1023), (3, 1024),
                                   (2, 1500), (600, 5)], ids=str)  # fmt: skip
def test_layer_norm(gpu, shape):
    check_layer(gpu, numbers(*shape))


@FEW
@given(st.integers(1, 90), st.integers(1, 40), st.booleans())
def test_any_shape(gpu, rows, channels, relu):
    check_batch(gpu, numbers(rows + 1, channels, seed=rows), relu)
    check_layer(gpu, numbers(rows, channels + 1, seed=rows))


def test_against_the_plain_loops(gpu):
    """The whole-array kernels are the truth of all other tests here; the loops are theirs."""
    x, weight, bias = numbers(20, 3), numbers(3, seed=1), numbers(3, seed=2)
    for name in ("batch_norm", "layer_norm"):
        got = getattr(cuda, name)(*on(gpu, x, weight, bias), EPS)
        all_close(got, getattr(reference, name)(*doubled(x, weight, bias), EPS))
        known = numbers(20, 3, seed=3), x, weight, got[1].get(), got[2].get()
        got = getattr(cuda, f"{name}_backward")(*on(gpu, *known), EPS)
        all_close(got, getattr(reference, f"{name}_backward")(*doubled(*known), EPS))


@pytest.mark.parametrize("mean", [100.0, -1e4])
def test_numbers_far_from_zero_keep_their_digits(gpu, mean):
    """In float32 the sum of squares would have lost all of the variance, and the mean some of its own."""
    x, one, zero = numbers(1500, 3, mean=mean), np.ones(3, np.float32), np.zeros(3, np.float32)
    all_close(cuda.batch_norm(*on(gpu, x, one, zero), EPS), arrays.batch_norm(*doubled(x, one, zero), EPS))
    x, one, zero = numbers(3, 1500, mean=mean), np.ones(1500, np.float32), np.zeros(1500, np.float32)
    all_close(cuda.layer_norm(*on(gpu, x, one, zero), EPS), arrays.layer_norm(*doubled(x, one, zero), EPS))


@pytest.mark.parametrize("place", [0, 7])
def test_one_number_far_from_the_others(gpu, place):
    """Even when it is the one that the others are taken relative to."""
    x, one, zero = numbers(900, 2), np.ones(2, np.float32), np.zeros(2, np.float32)
    x[place] = 1e5
    all_close(cuda.batch_norm(*on(gpu, x, one, zero), EPS), arrays.batch_norm(*doubled(x, one, zero), EPS))


def test_many_equal_numbers(gpu):
    """The variance is 0, not a small negative number, whose root would be NaN."""
    x, one, zero = np.full((500, 2), 1 / 3, np.float32), np.ones(2, np.float32), np.zeros(2, np.float32)
    y, mean, var = cuda.batch_norm(*on(gpu, x, one, zero), 0.001)
    np.testing.assert_array_equal(var.get(), 0)
    np.testing.assert_array_equal(mean.get(), x[0])
    np.testing.assert_allclose(y.get(), 0, atol=1e-6)


def test_long_sums_are_not_taken_in_float32(gpu, monkeypatch):
    """One thread adds 4,000 numbers near 1,000: in float32 alone it would be wrong by more than 1e-6."""
    monkeypatch.setattr(cuda, "_MOST_SUMMING", 1)
    monkeypatch.setattr(cuda, "_THREADS", 4)
    grad, x = numbers(16000, 1, mean=1000), numbers(16000, 1, seed=1)
    mean, var, weight = np.zeros(1, np.float32), np.ones(1, np.float32), np.ones(1, np.float32)
    known = grad, x, weight, mean, var
    got = cuda.batch_norm_backward(*on(gpu, *known), EPS)[1:]
    all_close(got, arrays.batch_norm_backward(*doubled(*known), EPS)[1:], limit=5e-7)


def test_scale_shift(gpu):
    for shape in SHAPES:
        x, scale, shift = numbers(*shape), numbers(shape[1], seed=1), numbers(shape[1], seed=2)
        for relu in (False, True):
            y = cuda.scale_shift(*on(gpu, x, scale, shift), relu)
            assert relative_error(y, blocks.scale_shift(arrays, *doubled(x, scale, shift), relu)) < 1e-6


def test_relu_lets_nan_through(gpu):
    x = np.array([[1, np.nan], [2, -3]], np.float32)
    y = cuda.scale_shift(*on(gpu, x, np.ones(2, np.float32), np.zeros(2, np.float32)), True)
    np.testing.assert_array_equal(y.get(), [[1, np.nan], [2, 0]])
    y, mean, _ = cuda.norm_block(*on(gpu, x, np.ones(2, np.float32), np.zeros(2, np.float32)), EPS, True)
    assert np.isfinite(y.get()[:, 0]).all() and np.isnan(y.get()[:, 1]).all() and np.isnan(mean.get()[1])


def test_an_empty_batch(gpu):
    one = np.ones(3, np.float32)
    y, mean, var = cuda.batch_norm(*on(gpu, np.empty((0, 3), np.float32), one, one), EPS)
    assert y.shape == (0, 3)
    np.testing.assert_array_equal(mean.get(), 0)
    np.testing.assert_array_equal(var.get(), 0)
    grad, empty = on(gpu, np.empty((0, 3), np.float32), np.empty((0, 3), np.float32))
    grad_x, grad_weight, _ = cuda.batch_norm_backward(grad, empty, *on(gpu, one, one, one), EPS)
    assert grad_x.shape == (0, 3)
    np.testing.assert_array_equal(grad_weight.get(), 0)
    assert cuda.layer_norm(*on(gpu, np.empty((0, 3), np.float32), one, one), EPS)[0].shape == (0, 3)
    assert cuda.scale_shift(*on(gpu, np.empty((0, 3), np.float32), one, one), True).shape == (0, 3)


def test_views_that_are_not_in_order(gpu):
    x, weight, bias = numbers(6, 40), numbers(12), numbers(12, seed=1)
    on_card = [gpu.asarray(x).T, gpu.asarray(weight)[::2], gpu.asarray(bias)[::2]]
    truth = arrays.batch_norm(*doubled(x.T, weight[::2], bias[::2]), EPS)
    all_close(cuda.batch_norm(*on_card, EPS), truth)


def test_other_dtypes_go_to_the_whole_array_room(gpu, monkeypatch):
    monkeypatch.setattr(cuda, "launch", None)
    x, weight, bias = doubled(numbers(9, 3), numbers(3), numbers(3))
    y, mean, var = cuda.norm_block(*on(gpu, x, weight, bias), EPS, True)
    assert y.dtype == mean.dtype == var.dtype == np.float64
    all_close((y, mean, var), blocks.norm_block(arrays, x, weight, bias, EPS, True), limit=1e-12)
    known = x, x, weight, bias, mean.get(), var.get()
    got = cuda.norm_block_backward(*on(gpu, *known), EPS, y)
    all_close(got, blocks.norm_block_backward(arrays, *known, EPS, y.get()), limit=1e-12)


def test_the_same_bits_every_time(gpu):
    x, weight, bias = on(gpu, numbers(3000, 5), numbers(5), numbers(5))
    first, second = (cuda.batch_norm(x, weight, bias, EPS) for _ in range(2))
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a.get(), b.get())
