"""Functions of single numbers on the GPU."""

from __future__ import annotations

import math

import numpy as np
import pytest
from measure import relative_error

from tinynet.kernels.cuda.elementwise import erf


@pytest.mark.parametrize("count", [1, 255, 1023, 1024, 1025, 2100])
def test_erf(gpu, count):
    x = np.linspace(-5, 5, count, dtype=np.float32)
    y = erf(gpu.asarray(x))
    truth = [math.erf(v) for v in x.tolist()]
    assert y.dtype == np.float32
    assert relative_error(y, truth) < 1e-6
    np.testing.assert_allclose(y.get(), truth, rtol=1e-6)


def test_erf_of_extremes(gpu):
    x = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1e-30, 100], np.float32)
    y = erf(gpu.asarray(x)).get()
    np.testing.assert_allclose(y, [np.nan, 1, -1, 0, 0, 1e-30 * 2 / math.sqrt(math.pi), 1], rtol=1e-6)
    assert np.signbit(y[4])


def test_shapes_and_views(gpu):
    x = np.linspace(-2, 2, 30, dtype=np.float32).reshape(5, 6)
    np.testing.assert_array_equal(erf(gpu.asarray(x).T).get(), erf(gpu.asarray(x)).get().T)
    assert erf(gpu.zeros((0, 3), np.float32)).shape == (0, 3)
    assert erf(gpu.zeros((), np.float32)).shape == ()


def test_float64_stays_float64(gpu):
    y = erf(gpu.asarray(np.array([0.5])))
    assert y.dtype == np.float64
    np.testing.assert_allclose(y.get(), math.erf(0.5), rtol=1e-15)
