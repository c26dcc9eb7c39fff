"""Arithmetic against NumPy: broadcasting, special values, ties, and errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

import tinynet as tn
from tinynet import ops
from tinynet.errors import ArgumentError, DTypeError, ShapeError
from tinynet.gradcheck import gradcheck

NUMPY = {
    ops.add: np.add, ops.sub: np.subtract, ops.mul: np.multiply, ops.div: np.divide, ops.pow: np.power,
    ops.maximum: np.maximum, ops.minimum: np.minimum,
}  # fmt: skip


def grads(f, *values, dtype="float64"):
    leaves = [tn.tensor(np.asarray(v, dtype), requires_grad=True) for v in values]
    f(*leaves).sum().backward()
    return [x.grad.tolist() for x in leaves]


@given(st.sampled_from(list(NUMPY)), mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3))
@settings(max_examples=40)
def test_broadcasting_follows_numpy_and_has_a_gradient(op, shapes):
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(0.5, 2, s) for s in shapes.input_shapes)
    y = op(tn.tensor(a), tn.tensor(b))
    np.testing.assert_array_equal(y.data, NUMPY[op](a, b))
    assert y.shape == shapes.result_shape
    assert gradcheck(op, a, b)


@given(mutually_broadcastable_shapes(num_shapes=2, max_dims=2, max_side=3), st.data())
@settings(max_examples=40)
def test_matmul_follows_numpy_over_ranks_and_batches(shapes, data):
    rng, k = np.random.default_rng(0), data.draw(st.integers(1, 3))
    left = data.draw(st.sampled_from([(k,), (*shapes.input_shapes[0], 2, k)]))
    right = data.draw(st.sampled_from([(k,), (*shapes.input_shapes[1], k, 3)]))
    a, b = rng.normal(size=left), rng.normal(size=right)
    np.testing.assert_allclose(ops.matmul(a, b).data, a @ b, rtol=1e-12)
    assert gradcheck(ops.matmul, a, b)


def test_matmul_of_transposed_views_and_of_integers_in_the_operator():
    a, b = np.arange(6.0).reshape(2, 3), np.arange(8.0).reshape(4, 2)
    assert ((tn.tensor(a).T @ tn.tensor(b).T).data == a.T @ b.T).all()
    assert (a.T @ tn.tensor(b).T).shape == (3, 4)


def test_matmul_errors():
    with pytest.raises(
        ShapeError, match=r"\(2, 3\) and \(4, 5\): each row of the first holds 3 numbers, each col.* 4"
    ):
        ops.matmul(np.ones((2, 3)), np.ones((4, 5)))
    with pytest.raises(ShapeError, match=r"matmul got shapes \(\) and \(3,\): a single number has no rows"):
        ops.matmul(2.0, np.ones(3, "float32"))


def test_matmul_batches_that_do_not_broadcast():
    with pytest.raises(ShapeError, match=r"before the matrix axes, got shapes \(2,\) and \(3,\)"):
        ops.matmul(np.ones((2, 4, 3)), np.ones((3, 3, 4)))


@pytest.mark.parametrize("op", list(NUMPY))
def test_shapes_that_do_not_broadcast(op):
    with pytest.raises(ShapeError, match=r"got shapes \(2, 3\) and \(4,\)\. Counted from the last axis"):
        op(tn.tensor(np.ones((2, 3))), tn.tensor(np.ones(4)))


def test_dtypes_never_mix_silently():
    x32, x64, whole = (tn.tensor(np.ones(2, d)) for d in ("float32", "float64", "int64"))
    with pytest.raises(DTypeError, match=r"Add got float32 and float64.*astype\('float32'\)"):
        x32 + x64
    with pytest.raises(
        DTypeError, match=r"Mul got float64 and int64. Convert the integers: .astype\('float64'\)"
    ):
        x64 * whole
    with pytest.raises(DTypeError, match=r"Add got int64 and float32.*astype\('float32'\)"):
        whole + 0.5
    with pytest.raises(DTypeError, match="div needs floating-point numbers, got int64"):
        whole / whole


def test_whole_numbers_and_booleans_behave_as_in_numpy():
    whole, flag = tn.tensor([1, 2]), tn.tensor([True, False])
    assert (whole + 1).dtype == "int64" and (whole * whole).data.tolist() == [1, 4]
    assert (flag * tn.tensor([1.5, 2.5])).data.tolist() == [1.5, 0.0]  # a mask keeps the dtype
    assert (flag + 2).data.tolist() == [3, 2]
    assert tn.tensor(np.array([1], "uint8")).__add__(1).dtype == "uint8"
    assert (whole**2).data.tolist() == [1, 4]
    with pytest.raises(DTypeError, match="pow with exponent -1 needs floating-point"):
        whole**-1
    with pytest.raises(OverflowError):
        tn.tensor(np.array([1], "int8")) + 300


def test_pow_at_zero_and_below():
    assert grads(lambda x: x**2, [0.0, -3.0]) == [[0.0, -6.0]]
    assert grads(lambda x: x**0, [0.0, 2.0]) == [[0.0, 0.0]]
    assert grads(lambda x: x**1, [0.0]) == [[1.0]]
    assert grads(lambda x: x**0.5, [0.0]) == [[np.inf]]
    assert grads(ops.pow, [0.0, 0.0, 0.0, 2.0], [0.0, 1.0, 2.0, 3.0]) == [
        [0.0, 1.0, 0.0, 12.0],
        [0.0, 0.0, 0.0, 8 * np.log(2)],
    ]
    assert grads(ops.pow, [-2.0], [3.0])[0] == [12.0]
    with pytest.warns(RuntimeWarning, match="invalid value"):
        assert np.isnan((tn.tensor([-2.0]) ** 0.5).item())
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        assert (tn.tensor([0.0]) ** -1).item() == np.inf


def test_square_takes_numpys_fast_path():
    x = np.array([0.1, 0.2, 0.3], "float32")
    assert ((tn.tensor(x) ** 2).data == x * x).all()


def test_infinite_slopes_come_without_a_warning():
    assert grads(ops.sqrt, [0.0, 4.0]) == [[np.inf, 0.25]]
    assert grads(ops.abs, [-2.0, 0.0, 2.0]) == [[-1.0, 0.0, 1.0]]
    with pytest.warns(RuntimeWarning, match="divide by zero encountered in log"):
        y = ops.log(tn.tensor([0.0], requires_grad=True))
    y.backward()


def test_infinities_pass_as_in_numpy():
    x = tn.tensor([np.inf, -np.inf, 1.0])
    assert ops.exp(x).data[:2].tolist() == [np.inf, 0.0]
    assert (x * 2).data.tolist() == [np.inf, -np.inf, 2.0]
    assert (1 / x).data.tolist() == [0.0, 0.0, 1.0]
    assert np.isnan(ops.maximum(x, np.nan).data).all() and np.isnan(ops.minimum(np.nan, x).data).all()


@pytest.mark.parametrize("op", [ops.maximum, ops.minimum])
def test_ties_give_the_gradient_to_the_first(op):
    assert grads(op, [1.0, 1.0], [1.0, 1.0]) == [[1.0, 1.0], [0.0, 0.0]]
    assert grads(lambda a, b: op(a, b) * 3, [2.0], 2.0) == [[3.0], 0.0]


def test_clip():
    x = [-2.0, -1.0, 0.0, 1.0, 2.0]
    assert grads(lambda t: ops.clip(t, -1, 1), x) == [[0.0, 1.0, 1.0, 1.0, 0.0]]
    assert grads(lambda t: ops.clip(t, low=0), x) == [[0.0, 0.0, 1.0, 1.0, 1.0]]
    assert ops.clip(tn.tensor(x), high=0.5).dtype == "float32"
    assert ops.clip(tn.tensor([1, 5, 9]), 2, 6).data.tolist() == [2, 5, 6]
    assert ops.clip(tn.tensor(x), 3, 1).data.tolist() == [1.0] * 5
    assert np.isnan(ops.clip(tn.tensor([np.nan]), 0, 1).item())
    with pytest.raises(ArgumentError, match=r"clip\(\) needs low, high, or both"):
        ops.clip(tn.tensor(x))


def test_where_keeps_infinite_gradients_out():
    x = tn.tensor([0.0, 4.0], requires_grad=True)
    ops.where(x > 0, ops.sqrt(ops.where(x > 0, x, 1.0)), 0.0).sum().backward()
    assert x.grad.tolist() == [0.0, 0.25]


def test_where_errors():
    with pytest.raises(
        DTypeError, match=r"where\(\) needs a boolean condition, got float32. For instance: x > 0"
    ):
        ops.where(tn.tensor([1.0]), 1.0, 2.0)
    with pytest.raises(ShapeError, match=r"where got shapes \(2,\) and \(3,\) and \(\)"):
        ops.where(tn.tensor([True, False]), tn.tensor([1.0, 2.0, 3.0]), 0.0)


def test_astype():
    x = tn.tensor([1.5, 2.5], requires_grad=True)
    y = (x.astype("float64") * 3).sum()
    y.backward()
    assert y.dtype == "float64" and x.grad.dtype == "float32" and x.grad.tolist() == [3.0, 3.0]
    assert x.astype("float32") is x
    assert x.astype(int).data.tolist() == [1, 2] and not x.astype("int64").requires_grad
    assert tn.tensor([0, 2]).astype(bool).data.tolist() == [False, True]
    with pytest.raises(DTypeError, match=r"'float31' is no dtype\. For instance: 'float32'"):
        x.astype("float31")
    with pytest.raises(DTypeError, match="real numbers or booleans, not complex"):
        x.astype("complex64")


def test_to_device_is_the_tensor_itself_when_it_is_there():
    x = tn.tensor([1.0], requires_grad=True)
    assert x.to("cpu") is x
    with pytest.raises(ArgumentError, match="unknown device 'tpu'"):
        x.to("tpu")
