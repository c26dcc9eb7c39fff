"""Pooling on the GPU, against the plain loops in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from measure import relative_error

from tinynet.kernels import arrays, reference
from tinynet.kernels.cuda import pool as cuda
from tinynet.kernels.geometry import Window

FEW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def window(*axes: tuple[int, int, int, int, int]) -> Window:
    """From size, stride, padding before, padding after, dilation of each axis."""
    size, stride, before, after, dilation = zip(*axes)
    return Window(size, stride, tuple(zip(before, after)), dilation)


HALVING = window((2, 2, 0, 0, 1), (2, 2, 0, 0, 1))
CASES = {
    "halving": ((2, 6, 8, 4), HALVING),
    "one channel": ((3, 7, 5, 1), HALVING),
    "odd channels": ((2, 5, 6, 7), window((3, 2, 1, 1, 1), (2, 1, 0, 1, 2))),
    "overlapping": ((2, 7, 6, 8), window((3, 1, 1, 1, 1), (3, 2, 1, 0, 1))),
    "gaps": ((2, 9, 8, 4), window((2, 3, 0, 0, 1), (1, 2, 0, 0, 1))),
    "sequence": ((3, 10, 5), window((3, 2, 1, 2, 2))),
    "volume": ((2, 4, 3, 5, 4), window((2, 1, 1, 0, 1), (2, 2, 0, 1, 1), (3, 2, 1, 1, 2))),
    "many small samples": ((70, 2, 2, 3), HALVING),
    "more than a block": ((1, 24, 24, 3), HALVING),
    "a wide window": ((1, 17, 17, 2), window((17, 1, 0, 0, 1), (17, 1, 0, 0, 1))),
    "no output": ((2, 1, 5, 4), HALVING),
    "no samples": ((0, 6, 6, 4), HALVING),
}
CASE = pytest.mark.parametrize(("shape", "window"), CASES.values(), ids=CASES)


def numbers(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Few different values, so that there are equals in a window."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)


def check_max(gpu, x: np.ndarray, window: Window) -> None:
    y, where = cuda.max_pool(gpu.asarray(x), window)
    true_y, true_where = reference.max_pool(x, window)
    np.testing.assert_array_equal(y.get(), true_y)
    assert where.dtype == true_where.dtype
    np.testing.assert_array_equal(where.get()[true_y > -np.inf], true_where[true_y > -np.inf])


def check_max_backward(gpu, x: np.ndarray, window: Window) -> None:
    y, where = reference.max_pool(x, window)
    grad_y = np.random.default_rng(1).normal(size=y.shape).astype(np.float32)
    grad_x = cuda.max_pool_backward(gpu.asarray(grad_y), gpu.asarray(where), x.shape, window)
    truth = reference.max_pool_backward(grad_y.astype(np.float64), where, x.shape, window)
    assert relative_error(grad_x, truth) < 1e-6


def check_avg(gpu, x: np.ndarray, window: Window, count_padding: bool) -> None:
    y = cuda.avg_pool(gpu.asarray(x), window, count_padding)
    truth = reference.avg_pool(x.astype(np.float64), window, count_padding)
    assert relative_error(y, truth) < 1e-6
    grad_y = np.random.default_rng(1).normal(size=truth.shape).astype(np.float32)
    grad_x = cuda.avg_pool_backward(gpu.asarray(grad_y), x.shape, window, count_padding)
    truth = reference.avg_pool_backward(grad_y.astype(np.float64), x.shape, window, count_padding)
    assert relative_error(grad_x, truth) < 1e-6


@CASE
def test_max_pool(gpu, shape, window):
    check_max(gpu, numbers(shape), window)


@CASE
def test_max_pool_backward(gpu, shape, window):
    check_max_backward(gpu, numbers(shape), window)


@CASE
@pytest.mark.parametrize("count_padding", [False, True])
def test_avg_pool_and_its_backward(gpu, shape, window, count_padding):
    check_avg(gpu, numbers(shape), window, count_padding)


AXIS = st.tuples(*(st.integers(*limits) for limits in ((1, 3), (1, 3), (0, 2), (0, 2), (1, 2))))


@st.composite
def pools(draw):
    """A shape (N, *spatial, C) and a window that fits on it."""
    axes = draw(st.lists(AXIS, min_size=1, max_size=3))
    spatial = [draw(st.integers(max(1, (k - 1) * d + 1 - p - q), 6)) for k, _, p, q, d in axes]
    return (draw(st.integers(1, 3)), *spatial, draw(st.sampled_from([1, 3, 4, 8]))), window(*axes)


@FEW
@given(pools(), st.booleans())
def test_any_geometry(gpu, pool, count_padding):
    shape, window = pool
    x = numbers(shape, seed=math.prod(shape))
    check_max(gpu, x, window)
    check_max_backward(gpu, x, window)
    check_avg(gpu, x, window, count_padding)


def test_nan_wins_and_the_first_of_them(gpu):
    x = np.array([[5, np.nan, 7, np.nan, -np.inf, -np.inf, np.inf, 1]], np.float32).reshape(1, 8, 1)
    y, where = cuda.max_pool(gpu.asarray(x), window((4, 2, 0, 0, 1)))
    np.testing.assert_array_equal(y.get().ravel(), [np.nan, np.nan, np.inf])
    np.testing.assert_array_equal(where.get().ravel(), [1, 1, 2])


@pytest.mark.parametrize("channels", [1, 4])
def test_the_first_of_equals_wins_also_among_infinities(gpu, channels):
    x = np.full((1, 4, 4, channels), -np.inf, np.float32)
    x[:, 2:] = 3
    _, where = cuda.max_pool(gpu.asarray(x), window((3, 1, 1, 0, 1), (2, 2, 0, 0, 1)))
    np.testing.assert_array_equal(where.get()[0, :, 0, 0], [2, 4, 2])


def test_a_window_that_sees_padding_alone(gpu):
    x = gpu.asarray(np.ones((1, 2, 4), np.float32))
    wide = window((2, 2, 4, 0, 1))
    y, _ = cuda.max_pool(x, wide)
    np.testing.assert_array_equal(y.get()[0, :, 0], [-np.inf, -np.inf, 1])
    np.testing.assert_array_equal(cuda.avg_pool(x, wide, False).get()[0, :, 0], [0, 0, 1])
    grad = cuda.avg_pool_backward(gpu.asarray(np.ones((1, 3, 4), np.float32)), (1, 2, 4), wide, False)
    np.testing.assert_array_equal(grad.get()[0, :, 0], [0.5, 0.5])


def test_a_closed_place_gives_no_gradient(gpu):
    """The index 4 of a pooled block says that its ReLU let nothing through."""
    where = gpu.asarray(np.array([[0, 4], [3, 4]], np.uint8).reshape(1, 2, 2, 1))
    grad = gpu.asarray(np.ones((1, 2, 2, 1), np.float32))
    grad_x = cuda.max_pool_backward(grad, where, (1, 4, 4, 1), HALVING).get()[0, :, :, 0]
    np.testing.assert_array_equal(grad_x, [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]])


def test_arrays_that_are_not_in_order_or_lie_askew(gpu):
    """A transposed view is copied; a view that begins inside 16 bytes is read number by number."""
    x = numbers((6, 2, 4, 4))
    y, _ = cuda.max_pool(gpu.asarray(x).transpose(1, 0, 2, 3), HALVING)
    np.testing.assert_array_equal(y.get(), reference.max_pool(x.transpose(1, 0, 2, 3), HALVING)[0])
    flat = numbers((1 + 4 * 4 * 4,))
    y, _ = cuda.max_pool(gpu.asarray(flat)[1:].reshape(1, 4, 4, 4), HALVING)
    np.testing.assert_array_equal(y.get(), reference.max_pool(flat[1:].reshape(1, 4, 4, 4), HALVING)[0])


def test_more_samples_than_blocks(gpu, monkeypatch):
    monkeypatch.setattr(cuda, "_MOST_SAMPLES", 2)
    check_max(gpu, numbers((21, 4, 4, 3)), HALVING)
    check_max_backward(gpu, numbers((21, 4, 4, 3)), HALVING)
    check_avg(gpu, numbers((21, 4, 4, 3)), HALVING, False)


def test_other_dtypes_go_to_the_whole_array_room(gpu, monkeypatch):
    monkeypatch.setattr(cuda, "launch", None)
    x = numbers((2, 4, 4, 4)).astype(np.float64)
    y, _ = cuda.max_pool(gpu.asarray(x), HALVING)
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y.get(), arrays.max_pool(x, HALVING)[0])


def test_the_same_bits_every_time(gpu):
    x = gpu.asarray(np.random.default_rng(0).normal(size=(2, 7, 7, 4)).astype(np.float32))
    overlapping = window((3, 1, 1, 1, 1), (3, 1, 1, 1, 1))
    first, second = (cuda.avg_pool_backward(x, (2, 7, 7, 4), overlapping, False).get() for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_four_channels_at_a_time_where_that_is_possible(gpu, monkeypatch):
    packs = []
    monkeypatch.setattr(cuda, "launch", lambda *args, PACK, WIDE, **more: packs.append(PACK))
    for channels in (1, 4, 6, 8):
        cuda.max_pool(gpu.zeros((1, 2, 2, channels), np.float32), HALVING)
    assert packs == [1, 4, 1, 4]
