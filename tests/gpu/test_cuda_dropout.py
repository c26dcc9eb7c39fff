"""Dropout on the GPU: the mask of the plain loops, element by element."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinynet.kernels import arrays, reference
from tinynet.kernels.cuda import dropout as function
from tinynet.kernels.cuda.dropout import dropout
from tinynet.kernels.live import Table, live, record_into

FEW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
KEY = 0x2D3A_94B1_7F05_C3E9


def check(gpu, x: np.ndarray, rate: float, key: int) -> None:
    y = dropout(gpu.asarray(x), rate, key)
    assert y.dtype == np.float32
    truth = reference.dropout(x.astype(np.float64), rate, key)
    np.testing.assert_array_equal(y.get() == 0, truth == 0)
    np.testing.assert_allclose(y.get(), truth, rtol=1e-6)


@pytest.mark.parametrize("count", [1, 255, 256, 257, 1023, 1024, 1025, 2500])
def test_edges_of_blocks(gpu, count):
    check(gpu, np.ones(count, np.float32), 0.5, KEY)


@FEW
@given(st.floats(0, 0.99), st.integers(0, 2**62 - 1), st.lists(st.integers(0, 9), max_size=3))
def test_any_rate_key_and_shape(gpu, rate, key, shape):
    check(gpu, np.full(shape, 3.5, np.float32), rate, key)


def test_extreme_rates(gpu):
    check(gpu, np.ones(500, np.float32), 0.0, KEY)
    check(gpu, np.ones(500, np.float32), 1 - 2**-33, KEY)  # the threshold must not become 2^32


def test_the_key_matters_in_both_halves(gpu):
    ones = gpu.ones(500, np.float32)
    masks = [dropout(ones, 0.5, key).get() for key in (KEY, KEY + 1, KEY + 2**32)]
    assert all((a != b).sum() > 100 for a, b in zip(masks, masks[1:] + masks[:1]))


def test_a_live_key_gives_the_same_mask(gpu):
    x, keys = gpu.ones(300, np.float32), iter([KEY, KEY + 7])
    table = Table()
    with record_into(table):
        key = live(lambda: next(keys))
        for expected in (KEY, KEY + 7):
            table.refill(gpu.cuda.get_current_stream())
            np.testing.assert_array_equal(dropout(x, 0.3, key).get(), dropout_of(x, expected))


def dropout_of(x, key: int) -> np.ndarray:
    return reference.dropout(x.get(), 0.3, key)


def test_the_room_has_the_function_not_the_file(gpu):
    assert callable(function)


def test_nan_stays_and_no_elements_are_no_trouble(gpu):
    y = dropout(gpu.asarray(np.full(64, np.nan, np.float32)), 0.5, KEY).get()
    np.testing.assert_array_equal(np.isnan(y), reference.dropout(np.ones(64), 0.5, KEY) != 0)
    assert dropout(gpu.zeros((0, 3), np.float32), 0.5, KEY).shape == (0, 3)


def test_views_that_are_not_in_order(gpu):
    x = np.arange(1, 61, dtype=np.float32).reshape(6, 10)
    y = dropout(gpu.asarray(x).T, 0.5, KEY).get()
    np.testing.assert_allclose(y, reference.dropout(x.T, 0.5, KEY), rtol=1e-6)


def test_other_dtypes_go_to_the_whole_array_room(gpu):
    x = np.ones(100)
    y = dropout(gpu.asarray(x), 0.5, KEY)
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y.get(), arrays.dropout(x, 0.5, KEY))
