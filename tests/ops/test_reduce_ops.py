"""Reductions against NumPy over axes; ties, extremes, empty axes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

import tinynet as tn
from tinynet import ops
from tinynet.errors import ArgumentError, ShapeError
from tinynet.gradcheck import gradcheck

NUMPY = {ops.sum: np.sum, ops.mean: np.mean, ops.var: np.var, ops.max: np.max, ops.min: np.min}


@st.composite
def shapes_and_axes(draw):
    shape = draw(array_shapes(max_dims=3, max_side=3))
    some = st.lists(st.integers(-len(shape), len(shape) - 1), min_size=1, unique_by=lambda a: a % len(shape))
    axis = draw(st.one_of(st.none(), st.integers(-len(shape), len(shape) - 1), some.map(tuple)))
    return shape, axis


@given(st.sampled_from(list(NUMPY)), shapes_and_axes(), st.booleans())
@settings(max_examples=40)
def test_reductions_follow_numpy_and_have_a_gradient(op, shape_and_axis, keepdims):
    shape, axis = shape_and_axis
    x = np.random.default_rng(0).normal(size=shape)
    y = op(tn.tensor(x), axis, keepdims)
    np.testing.assert_allclose(y.data, NUMPY[op](x, axis=axis, keepdims=keepdims), rtol=1e-12, atol=1e-15)
    assert y.shape == NUMPY[op](x, axis=axis, keepdims=keepdims).shape
    assert gradcheck(lambda t: op(t, axis, keepdims), x)


@given(shapes_and_axes(), st.booleans())
@settings(max_examples=20)
def test_logsumexp_over_axes(shape_and_axis, keepdims):
    shape, axis = shape_and_axis
    x = np.random.default_rng(0).normal(size=shape)
    expected = np.log(np.exp(x).sum(axis=axis, keepdims=keepdims))
    np.testing.assert_allclose(ops.logsumexp(x, axis, keepdims).data, expected, rtol=1e-12, atol=1e-14)
    assert gradcheck(lambda t: ops.logsumexp(t, axis, keepdims), x)


@pytest.mark.parametrize("op", [ops.max, ops.min])
def test_ties_give_the_gradient_to_the_first(op):
    x = tn.tensor(np.ones((2, 3)), requires_grad=True)
    op(x, axis=1).sum().backward()
    assert x.grad.tolist() == [[1, 0, 0], [1, 0, 0]]
    x.grad = None
    op(x).backward()
    assert x.grad.tolist() == [[1, 0, 0], [0, 0, 0]]
    x.grad = None
    op(x, axis=(1, 0)).backward()
    assert x.grad.sum() == 1


def test_nan_counts_as_the_extreme():
    x = tn.tensor([1.0, np.nan, 3.0], requires_grad=True)
    y = x.max()
    y.backward()
    assert np.isnan(y.item()) and x.grad.tolist() == [0.0, 1.0, 0.0]


def test_logsumexp_does_not_overflow_and_lets_infinities_pass():
    assert ops.logsumexp(np.array([1000.0, 1000.0])).item() == pytest.approx(1000 + np.log(2))
    assert ops.logsumexp(np.array([-1000.0, -1000.0])).item() == pytest.approx(-1000 + np.log(2))
    assert ops.logsumexp(np.array([np.inf, 1000.0])).item() == np.inf
    x = tn.tensor(np.array([[-np.inf, -np.inf], [0.0, -np.inf]]), requires_grad=True)
    y = ops.logsumexp(x, axis=1)
    assert y.data.tolist() == [-np.inf, 0.0]
    y.sum().backward()
    assert x.grad.tolist() == [[0.0, 0.0], [1.0, 0.0]]


def test_sum_of_nothing_is_zero_and_other_reductions_of_nothing_are_errors():
    empty = tn.tensor(np.zeros((0, 3)))
    assert empty.sum().item() == 0 and empty.sum(axis=0).data.tolist() == [0, 0, 0]
    assert empty.mean(axis=1).shape == (0,)  # nothing to average, and nothing asked for
    for op in (ops.mean, ops.var, ops.max, ops.min, ops.logsumexp):
        with pytest.raises(
            ShapeError, match=rf"{op.__name__}\(\) of no elements: shape \(0, 3\) is empty along axis=0"
        ):
            op(empty, axis=0)


def test_axis_errors():
    x = tn.tensor(np.ones((2, 3)))
    with pytest.raises(ShapeError, match=r"sum: there is no axis 2 in shape \(2, 3\); its axes are -2 to 1"):
        x.sum(axis=2)
    with pytest.raises(ShapeError, match=r"mean: axis=\(0, -2\) names the same axis of shape \(2, 3\) twice"):
        x.mean(axis=(0, -2))
    with pytest.raises(ShapeError, match="a single number has no axes"):
        tn.tensor(1.0).sum(axis=0)
    with pytest.raises(ArgumentError, match=r"axis must be an integer, got 0\.5"):
        x.sum(axis=0.5)


def test_numbers_of_any_kind_can_be_summed():
    assert tn.tensor([True, True, False]).sum().item() == 2
    assert tn.tensor([1, 5, 3]).max().item() == 5
    assert tn.tensor(np.ones(3, "float32")).mean().dtype == "float32"


def test_variance_does_not_lose_its_digits_beside_a_large_mean():
    x = np.array([1e8, 1e8 + 1, 1e8 + 2])
    assert ops.var(x).item() == pytest.approx(2 / 3, rel=1e-6)
