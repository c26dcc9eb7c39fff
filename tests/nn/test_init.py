"""Initialisers: their moments, the seed, and strings or objects."""

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn

SHAPE = (5, 5, 40, 80)  # (*kernel, in, out): fan_in 1000, fan_out 2000


@pytest.mark.parametrize(
    "name, variance",
    [
        ("glorot_uniform", 2 / 3000),
        ("glorot_normal", 2 / 3000),
        ("he_uniform", 2 / 1000),
        ("he_normal", 2 / 1000),
        ("lecun_normal", 1 / 1000),
        ("normal", 0.05**2),
        ("uniform", 0.1**2 / 12),
    ],
)
def test_mean_and_variance(name, variance):
    array = nn.init.get(name)(SHAPE)
    assert array.shape == SHAPE
    assert array.dtype == np.float32
    assert abs(array.mean()) < 5 * np.sqrt(variance / array.size)
    assert np.isclose(array.var(), variance, rtol=0.02)


def test_uniform_numbers_stay_within_their_limit():
    limit = np.sqrt(6 / 3000)
    array = nn.init.glorot_uniform(SHAPE)
    assert 0.999 * limit < array.max() <= limit * (1 + 1e-6)


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (3, 3, 2, 5)])
def test_orthogonal(shape):
    matrix = nn.init.Orthogonal(gain=2.0)(shape).reshape(-1, shape[-1])
    small = matrix @ matrix.T if matrix.shape[0] < matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-5)


def test_orthogonal_matrices_have_no_favourite_direction():
    corners = np.array([nn.init.orthogonal((3, 3))[0, 0] for _ in range(300)])
    assert 0.4 < (corners > 0).mean() < 0.6


def test_constants():
    assert not nn.init.zeros((2, 3)).any()
    assert (nn.init.ones((2, 3)) == 1).all()
    assert (nn.Dense(2, init=nn.init.Constant(0.5), in_features=3).weight.data == 0.5).all()


def test_fans():
    assert nn.init.fans((5, 5, 40, 80)) == (1000, 2000)
    assert nn.init.fans((3, 4)) == (3, 4)
    assert nn.init.fans((7,)) == (7, 7)


def test_the_seed_repeats_the_weights():
    tn.seed(5)
    first = nn.Dense(4, in_features=3).weight.data
    second = nn.Dense(4, in_features=3).weight.data
    tn.seed(5)
    assert np.array_equal(nn.Dense(4, in_features=3).weight.data, first)
    assert not np.array_equal(first, second)


def test_any_function_of_a_shape_will_do():
    layer = nn.Conv2D(4, 3, init=lambda shape: np.full(shape, 2, np.float32), in_channels=1)
    assert (layer.weight.data == 2).all()


def test_layers_use_glorot_by_default():
    weight = nn.Dense(300, in_features=200).weight.data
    assert np.isclose(weight.var(), 2 / 500, rtol=0.05)
