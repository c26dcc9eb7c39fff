"""The fully connected layer on the GPU, against the plain loops in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measure import relative_error

import tinynet as tn
from tinynet.kernels import arrays, blocks, reference
from tinynet.kernels.cuda.dense import bias_grad, dense, dense_backward

ALL = (True, True, True)


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def on_card(gpu, *values):
    return [None if v is None else gpu.asarray(v) for v in values]


def wide(*values):
    return [None if v is None else v.astype(float) for v in values]


def check(gpu, rows, features, units, with_bias, relu, needs):
    """Forward and backward, as the composed layer of the reference room gives them."""
    x, weight, grad_y = normal(rows, features), normal(features, units, seed=1), normal(rows, units, seed=2)
    bias = normal(units, seed=3) if with_bias else None
    y = dense(*on_card(gpu, x, weight, bias), relu)
    assert relative_error(y, blocks.dense(reference, *wide(x, weight, bias), relu)) < 2e-6
    seen = y.get() if relu else None  # so that both sides agree which sums are above zero
    got = dense_backward(*on_card(gpu, grad_y, x, weight, seen), needs)
    wanted = blocks.dense_backward(reference, *wide(grad_y, x, weight, seen), needs)
    assert [g is None for g in got] == [not need for need in needs]
    for g, w in zip(got, wanted):
        assert g is None or (g.dtype == np.float32 and relative_error(g, w) < 2e-6)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(
    "sizes", [(1, 1, 1), (7, 5, 3), (70, 20, 65), (9, 300, 10), (0, 4, 3), (300, 2, 2)], ids=str
)
def test_sizes(gpu, sizes, relu):
    check(gpu, *sizes, with_bias=True, relu=relu, needs=ALL)


@given(
    sizes=st.tuples(*[st.sampled_from([1, 2, 10, 17, 66])] * 3),
    with_bias=st.booleans(),
    relu=st.booleans(),
    needs=st.tuples(*[st.booleans()] * 3),
)
@settings(max_examples=12)
def test_any(gpu, sizes, with_bias, relu, needs):
    check(gpu, *sizes, with_bias, relu, needs)


def test_transposed_and_sliced_operands(gpu):
    x, weight, grad = normal(30, 21), normal(21, 18, seed=1), normal(18, 30, seed=2)
    on_x = gpu.asarray(np.pad(x, ((0, 0), (1, 2))))[:, 1:22]
    on_weight, on_grad = gpu.asarray(weight.T.copy()).T, gpu.asarray(grad).T
    assert relative_error(dense(on_x, on_weight, None, False), wide(x)[0] @ weight) < 1e-6
    y = normal(18, 30, seed=3)
    got = dense_backward(on_grad, on_x, on_weight, gpu.asarray(y).T, ALL)
    for g, w in zip(got, blocks.dense_backward(arrays, *wide(grad.T, x, weight, y.T), ALL)):
        assert relative_error(g, w) < 1e-6


def test_the_gradient_stops_at_zero_but_nan_passes(gpu):
    """As in the composed layer: the gradient is multiplied by 0 or 1, and NaN times 0 is NaN."""
    y = gpu.asarray(np.array([[0, 1, np.nan, -0.0, 2]], np.float32))
    grad = gpu.asarray(np.array([[3, 4, 5, np.nan, np.inf]], np.float32))
    x, weight = gpu.asarray(np.ones((1, 1), np.float32)), gpu.asarray(np.ones((1, 5), np.float32))
    _, _, grad_bias = dense_backward(grad, x, weight, y, (False, False, True))
    assert np.array_equal(grad_bias.get(), [0, 4, 0, np.nan, np.inf], equal_nan=True)


def test_relu_lets_nan_through(gpu):
    x = gpu.asarray(np.array([[np.nan], [-1.0]], np.float32))
    for units in (3, 40):
        y = dense(x, gpu.asarray(np.ones((1, units), np.float32)), None, True).get()
        assert np.isnan(y[0]).all() and (y[1] == 0).all()


def test_tensor_cores(gpu):
    x, weight, bias = normal(70, 40), normal(40, 70, seed=1), normal(70, seed=2)
    with tn.kernels.precision("tf32"):
        y = dense(*on_card(gpu, x, weight, bias), True)
    assert 1e-5 < relative_error(y, (x.astype(float) @ weight + bias).clip(0)) < 1e-3


# --- bias gradient ---


SHAPES = [
    (1,), (5,), (3, 1), (1000, 1), (9000, 1), (257, 3), (33, 32), (2100, 33), (4, 5, 6, 7), (700, 70),
    (0, 4), (3, 0),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bias_grad(gpu, shape):
    grad = normal(*shape) + 1
    sums = bias_grad(gpu.asarray(grad))
    assert sums.dtype == np.float32
    assert (
        relative_error(
            sums, grad.astype(float).reshape(-1, shape[-1]).sum(0) if grad.size else np.zeros(shape[-1])
        )
        < 1e-7
    )


def test_bias_grad_of_a_view(gpu):
    grad = normal(6, 40, 5)
    view = gpu.asarray(grad)[:, ::2].swapaxes(0, 1)
    assert relative_error(bias_grad(view), grad[:, ::2].astype(float).sum((0, 1))) < 1e-7


def test_many_rows_lose_no_digits(gpu):
    """A float32 accumulator would be wrong in the fourth digit of these."""
    grad = np.full((60_000, 2), 0.1, np.float32)
    grad[0] = 1e5
    assert relative_error(bias_grad(gpu.asarray(grad)), grad.astype(float).sum(0)) < 1e-7


def test_other_floats_go_to_the_whole_array_room(gpu):
    x, weight, bias = wide(normal(4, 5), normal(5, 3), normal(3))
    y = dense(*on_card(gpu, x, weight, bias), True)
    assert y.dtype == float
    assert relative_error(y, (x @ weight + bias).clip(0)) < 1e-15
    assert bias_grad(gpu.asarray(x)).dtype == float
    got = dense_backward(*on_card(gpu, y.get(), x, weight, None), ALL)
    assert all(g.dtype == float for g in got)
