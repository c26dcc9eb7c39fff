"""Activations at the extremes, against formulas in higher precision, and dropout."""

import math
import warnings

import numpy as np
import pytest

import tinynet as tn
from tinynet import ops
from tinynet.errors import ArgumentError, DTypeError, ShapeError

EXTREMES = [-np.inf, -1e30, -1000.0, -30.0, -0.0, 0.0, 30.0, 1000.0, 1e30, np.inf]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "sigmoid", "tanh", "softplus"])
def test_no_warnings_and_right_limits_at_the_extremes(name, dtype):
    x = tn.tensor(np.array(EXTREMES, dtype), requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = getattr(ops, name)(x)
        y.backward(np.ones(len(EXTREMES)))
    left = {"relu": 0, "leaky_relu": -np.inf, "elu": -1, "sigmoid": 0, "tanh": -1, "softplus": 0}[name]
    right = {"sigmoid": 1, "tanh": 1}.get(name, np.inf)
    assert (y.data[0], y.data[-1]) == (left, right)
    assert not np.isnan(y.data).any()
    assert np.isfinite(x.grad).all()


@pytest.mark.parametrize(
    "name", ["relu", "leaky_relu", "elu", "gelu", "sigmoid", "tanh", "softplus", "softmax"]
)
def test_nan_stays_nan(name):
    assert np.isnan(getattr(ops, name)(tn.tensor([np.nan, 1.0])).data[0])


@pytest.mark.parametrize("x", [-80.0, -20.0, -1.0, 0.3, 20.0])
def test_values_are_accurate_to_float32_in_relative_terms(x):
    t = tn.tensor([x])
    close = {"rel": 3e-7}
    assert ops.sigmoid(t).item() == pytest.approx(math.exp(x) / (1 + math.exp(x)), **close)
    assert ops.softplus(t).item() == pytest.approx(math.log1p(math.exp(x)), **close)
    assert ops.elu(t).item() == pytest.approx(x if x > 0 else math.expm1(x), **close)


def test_slopes_at_the_kink():
    x = tn.tensor(np.zeros(1), requires_grad=True)
    for op, slope in ((ops.relu, 0.0), (ops.leaky_relu, 0.01), (ops.elu, 1.0)):
        x.grad = None
        op(x).backward()
        assert x.grad.tolist() == [slope]


def test_gelu_values_from_pytorch():
    x = tn.tensor(3 * np.sin(0.7 * np.arange(4) + 1))
    np.testing.assert_allclose(ops.gelu(x).data, [2.50978503, 2.97063616, 1.98310091, 0.0685627], rtol=1e-7)
    np.testing.assert_allclose(ops.gelu(x, approximate=True).data, ops.gelu(x).data, atol=1e-3)


def test_prelu_slopes_must_fit():
    x = tn.tensor(np.ones((2, 5, 3)))
    for shape in ((), (1,), (3,), (5, 1), (1, 1, 3)):
        assert ops.prelu(x, np.ones(shape)).shape == x.shape
    with pytest.raises(ShapeError, match=r"slopes of shape \(5,\) do not fit x of shape \(2, 5, 3\)"):
        ops.prelu(x, np.ones(5))
    with pytest.raises(ShapeError, match="prelu"):
        ops.prelu(tn.tensor(np.ones(3)), np.ones((2, 3)))


@pytest.mark.parametrize("op", [ops.softmax, ops.log_softmax])
def test_softmax_of_large_numbers_and_of_masked_classes(op):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = tn.tensor([[1000.0, 1001.0, -np.inf], [-1000.0, -1000.0, -1e30]], requires_grad=True)
        y = op(x)
        ops.where(y > -1e9, y, 0.0)[:, 0].sum().backward()
    p = y.data if op is ops.softmax else np.exp(y.data)
    np.testing.assert_allclose(p, [[0.26894142, 0.73105858, 0], [0.5, 0.5, 0]], rtol=1e-6)
    assert np.isfinite(x.grad).all()


def test_softmax_axes():
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    np.testing.assert_allclose(ops.softmax(x, axis=1).data.sum(axis=1), 1)
    np.testing.assert_allclose(ops.softmax(x, axis=-2).data, ops.softmax(x, axis=1).data)
    with pytest.raises(ShapeError, match="softmax: there is no axis 3"):
        ops.softmax(x, axis=3)
    with pytest.raises(ShapeError, match="there are no classes"):
        ops.softmax(np.zeros((2, 0)))


def test_integers_are_refused():
    with pytest.raises(
        DTypeError,
        match=r"relu needs floating-point numbers, got int64. Convert first: \.astype\('float32'\)",
    ):
        ops.relu(tn.tensor([1, 2]))


def test_dropout_masks_forward_and_backward_alike():
    x = tn.tensor(np.ones((100, 100), "float32"), requires_grad=True)
    y = ops.dropout(x, 0.25)
    y.sum().backward()
    assert (x.grad == y.data).all()
    assert set(np.unique(y.data)) == {np.float32(0), np.float32(1 / 0.75)}
    assert (y.data == 0).mean() == pytest.approx(0.25, abs=0.02)


def test_dropout_follows_the_seed_and_rests_in_evaluation():
    x = tn.tensor(np.ones(1000, "float32"))
    masks = []
    for seed in (1, 1, 2):
        tn.seed(seed)
        masks.append(ops.dropout(x, 0.5).data)
    assert (masks[0] == masks[1]).all() and (masks[0] != masks[2]).any()
    assert (ops.dropout(x, 0.5).data != masks[2]).any()  # every call draws anew
    assert ops.dropout(x, 0.5, training=False) is x and ops.dropout(x, 0.0) is x


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_dropout_rates_out_of_range(rate):
    with pytest.raises(ArgumentError, match=rf"dropout rate={rate}: the share of elements to zero"):
        ops.dropout(tn.tensor([1.0]), rate)
