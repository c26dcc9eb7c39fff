"""Normalisation: statistics, running averages in both conventions, errors."""

import numpy as np
import pytest

import tinynet as tn
from tinynet import ops
from tinynet.errors import ArgumentError, DTypeError, ShapeError

RNG = np.random.default_rng(5)
X = RNG.normal(3, 2, size=(4, 5, 6, 8))
ONE, ZERO = np.ones(8), np.zeros(8)


def test_batch_norm_normalises_each_feature_over_the_rest():
    y = ops.batch_norm(X, ONE * 2, ONE, None, None, training=True).data
    np.testing.assert_allclose(y.mean(axis=(0, 1, 2)), 1, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=(0, 1, 2)), 2, rtol=1e-5)


def test_running_statistics_are_updated_in_place_with_the_unbiased_variance():
    mean, var = np.full(8, 10.0), np.full(8, 10.0)
    ops.batch_norm(X, ONE, ZERO, mean, var, training=True, momentum=0.75)
    np.testing.assert_allclose(mean, 0.75 * 10 + 0.25 * X.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(var, 0.75 * 10 + 0.25 * X.var(axis=(0, 1, 2), ddof=1))


def test_running_statistics_are_used_and_left_alone_outside_of_training():
    mean, var = np.full(8, 1.0), np.full(8, 4.0)
    y = ops.batch_norm(X, ONE, ZERO, mean, var, training=False, eps=0.0)
    np.testing.assert_allclose(y.data, (X - 1) / 2)
    assert (mean == 1).all() and (var == 4).all()


def test_running_statistics_of_another_precision_do_not_change_the_dtype():
    x = tn.tensor(X.astype("float32"))
    one, zero = ONE.astype("float32"), ZERO.astype("float32")
    for training in (True, False):
        assert ops.batch_norm(x, one, zero, ZERO.copy(), ONE.copy(), training=training).dtype == "float32"


@pytest.mark.parametrize("shape", [(1, 8), (1, 1, 1, 8), (0, 8)])
def test_a_single_value_per_feature_cannot_be_normalised_in_training(shape):
    with pytest.raises(
        ShapeError, match=r"needs more than one value per feature while training.*drop_last=True"
    ):
        ops.batch_norm(np.ones(shape), ONE, ZERO, ZERO.copy(), ONE.copy(), training=True)
    if 0 not in shape:
        assert ops.batch_norm(np.ones(shape), ONE, ZERO, ZERO, ONE, training=False).shape == shape


def test_layer_norm_normalises_each_row():
    y = ops.layer_norm(X, ONE, ZERO).data
    np.testing.assert_allclose(y.mean(axis=-1), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=-1), 1, rtol=1e-4)


def test_group_norm_goes_from_layer_to_instance_norm():
    for groups in (1, 2, 8):
        y = ops.group_norm(X, groups, ONE, ZERO).data.reshape(4, 30, groups, -1)
        np.testing.assert_allclose(y.mean(axis=(1, 3)), 0, atol=1e-12)
        np.testing.assert_allclose(y.std(axis=(1, 3)), 1, rtol=1e-4)
    rows = X[:, 0, 0]
    np.testing.assert_allclose(ops.group_norm(rows, 1, ONE, ZERO).data, ops.layer_norm(rows, ONE, ZERO).data)


NORMS = {
    "batch_norm": lambda x, w, b: ops.batch_norm(x, w, b, None, None, training=True),
    "layer_norm": ops.layer_norm,
    "group_norm": lambda x, w, b: ops.group_norm(x, 2, w, b),
}


@pytest.mark.parametrize("name", NORMS)
def test_norm_errors(name):
    norm = NORMS[name]
    with pytest.raises(
        ShapeError, match=rf"{name} needs x of shape \(N, ..., features\), got \(8,\).*x\[None\]"
    ):
        norm(np.ones(8), ONE, ZERO)
    with pytest.raises(
        ShapeError, match=r"with 28 features on the last axis, .*shape \(8,\).*x\.transpose\(0, 2, 3, 1\)"
    ):
        norm(np.ones((2, 8, 28, 28)), ONE, ZERO)
    with pytest.raises(ShapeError, match=r"weight or bias of shape \(7,\)"):
        norm(X, ONE, np.zeros(7))
    with pytest.raises(DTypeError, match=f"{name} needs floating-point numbers, got int64"):
        norm(np.ones((2, 8), int), ONE, ZERO)


def test_group_norm_groups_must_divide_the_channels():
    with pytest.raises(ShapeError, match="8 channels cannot be divided among 3 groups"):
        ops.group_norm(X, 3, ONE, ZERO)
    with pytest.raises(ArgumentError, match="groups=0 must be at least 1"):
        ops.group_norm(X, 0, ONE, ZERO)


def test_batch_norm_without_statistics_needs_training():
    with pytest.raises(ArgumentError, match="without training needs running_mean and running_var"):
        ops.batch_norm(X, ONE, ZERO, None, None, training=False)
