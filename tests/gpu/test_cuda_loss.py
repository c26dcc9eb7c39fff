"""Softmax and cross-entropy on the GPU, against the plain loops in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from measure import relative_error

from tinynet.kernels import arrays, reference
from tinynet.kernels.cuda import loss as cuda

FEW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def problem(rows: int, classes: int, scale: float = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, classes)).astype(np.float32) * np.float32(scale), rng.integers(
        0, classes, rows
    )


def check(gpu, logits: np.ndarray, labels: np.ndarray) -> None:
    losses, probabilities = cuda.softmax_cross_entropy(gpu.asarray(logits), gpu.asarray(labels))
    true_losses, true_probabilities = reference.softmax_cross_entropy(logits.astype(np.float64), labels)
    assert losses.dtype == probabilities.dtype == np.float32
    assert relative_error(losses, true_losses) < 1e-5
    assert relative_error(probabilities, true_probabilities) < 1e-6


@pytest.mark.parametrize("classes", [1, 2, 10, 31, 32, 33, 64, 100, 1000])
@pytest.mark.parametrize("rows", [1, 7, 8, 9])
def test_edges_of_warps_and_blocks(gpu, rows, classes):
    check(gpu, *problem(rows, classes))


@FEW
@given(st.integers(1, 40), st.integers(1, 70), st.sampled_from([0.01, 1.0, 30.0]))
def test_any_shape(gpu, rows, classes, scale):
    check(gpu, *problem(rows, classes, scale, seed=rows))


def test_large_logits_do_not_overflow_and_keep_the_small_logarithm(gpu):
    logits = np.array([[1000, 999, -1000], [-1e30, 0, 1e30], [5e4, 5e4 - 1, 0]], np.float32)
    check(gpu, logits, np.array([1, 2, 0]))


def test_a_row_with_nan_or_infinity_gives_nan(gpu):
    logits = problem(5, 40)[0]
    logits[0, 35], logits[1, 0], logits[3, 2] = np.nan, np.inf, -np.inf
    losses, probabilities = cuda.softmax_cross_entropy(gpu.asarray(logits), gpu.asarray(np.full(5, 2)))
    np.testing.assert_array_equal(np.isnan(losses.get()), [True, True, False, False, False])
    np.testing.assert_array_equal(losses.get()[3], np.inf)
    np.testing.assert_array_equal(np.isnan(probabilities.get()), np.outer([1, 1, 0, 0, 0], np.ones(40)))
    assert probabilities.get()[3, 2] == 0


def test_a_label_out_of_range_spoils_its_row_and_no_other(gpu):
    logits, labels = problem(5, 4)
    labels[1:4] = -1, 4, 2**40
    losses, probabilities = cuda.softmax_cross_entropy(gpu.asarray(logits), gpu.asarray(labels))
    np.testing.assert_array_equal(np.isnan(losses.get()), [False, True, True, True, False])
    np.testing.assert_array_equal(np.isnan(probabilities.get()).all(axis=1), [False, True, True, True, False])
    true_losses, _ = reference.softmax_cross_entropy(logits[::4].astype(np.float64), labels[::4])
    np.testing.assert_allclose(losses.get()[::4], true_losses, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int64])
def test_labels_of_any_integer_type(gpu, dtype):
    logits, labels = problem(9, 12)
    check(gpu, logits, labels.astype(dtype))


def test_views_that_are_not_in_order(gpu):
    logits, labels = problem(6, 9)
    losses, _ = cuda.softmax_cross_entropy(
        gpu.asarray(logits).T, gpu.asarray(np.repeat(labels, 4))[::2][:9] % 6
    )
    truth, _ = reference.softmax_cross_entropy(logits.T.astype(np.float64), np.repeat(labels, 4)[::2][:9] % 6)
    assert relative_error(losses, truth) < 1e-5


def test_no_rows(gpu):
    losses, probabilities = cuda.softmax_cross_entropy(gpu.zeros((0, 3), np.float32), gpu.zeros(0, np.int64))
    assert losses.shape == (0,) and probabilities.shape == (0, 3)


def test_other_dtypes_go_to_the_whole_array_room(gpu, monkeypatch):
    monkeypatch.setattr(cuda, "launch", None)
    logits, labels = problem(5, 4)
    logits = logits.astype(np.float64)
    losses, _ = cuda.softmax_cross_entropy(gpu.asarray(logits), gpu.asarray(labels))
    assert losses.dtype == np.float64
    np.testing.assert_allclose(losses.get(), arrays.softmax_cross_entropy(logits, labels)[0])


@pytest.mark.parametrize("shape", [(1, 3), (7, 10), (40, 33)])
@pytest.mark.parametrize("each", [False, True], ids=["one gradient", "one for each row"])
def test_the_gradient(gpu, shape, each):
    logits, labels = problem(*shape)
    _, probabilities = reference.softmax_cross_entropy(logits, labels)
    grad = np.random.default_rng(1).normal(size=shape[0] if each else ()).astype(np.float32)
    on_card = (gpu.asarray(a) for a in (probabilities, labels, np.asarray(grad)))
    got = cuda.softmax_cross_entropy_grad(*on_card, 7)
    known = probabilities.astype(np.float64), labels, np.asarray(grad, np.float64)
    assert relative_error(got, arrays.softmax_cross_entropy_grad(*known, 7)) < 1e-6


@pytest.mark.parametrize("count", [1, 255, 256, 257, 1000, 2**14, 2**14 + 1])
def test_sums_of_losses(gpu, count):
    values = np.random.default_rng(0).normal(size=count).astype(np.float32) + np.float32(100)
    got = cuda.scaled_sum(gpu.asarray(values), count)
    assert got.shape == ()
    np.testing.assert_allclose(got.get(), values.astype(np.float64).mean(), rtol=3e-7)


def test_a_sum_that_goes_on(gpu):
    total = gpu.asarray(np.array(0.5))
    for value in (0.1, 1e-9):
        cuda.add_scaled(total, gpu.asarray(np.array(value, np.float32)), 4)
    np.testing.assert_allclose(total.get(), 0.5 + 4 * (0.1 + 1e-9), rtol=1e-8)
