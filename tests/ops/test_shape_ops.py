"""Reshaping, joining, cutting, padding and indexing against NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, basic_indices, integer_array_indices

import tinynet as tn
from tinynet import ops
from tinynet.errors import ArgumentError, DTypeError, ShapeError
from tinynet.gradcheck import gradcheck


def ramp(*shape, dtype="float64"):
    return np.arange(np.prod(shape, dtype=int), dtype=dtype).reshape(shape)


def scattered(x, index, grad):
    """The gradient of x[index], by a loop over what each output element came from."""
    expected = np.zeros(x.size)
    for place, g in zip(np.atleast_1d(ramp(*x.shape, dtype=int)[index]).ravel(), np.atleast_1d(grad).ravel()):
        expected[place] += g
    return expected.reshape(x.shape)


def check_index(x, index):
    leaf = tn.tensor(x, requires_grad=True)
    y = leaf[index]
    np.testing.assert_array_equal(y.data, x[index])
    grad = np.random.default_rng(0).normal(size=y.shape)
    y.backward(grad)
    np.testing.assert_allclose(leaf.grad, scattered(x, index, grad), rtol=1e-12, atol=1e-15)


@given(st.data())
@settings(max_examples=40)
def test_basic_indexing_follows_numpy(data):
    x = ramp(*data.draw(array_shapes(max_dims=3, max_side=4)))
    check_index(x, data.draw(basic_indices(x.shape, allow_newaxis=True)))


@given(st.data())
@settings(max_examples=40)
def test_index_arrays_follow_numpy_and_repeated_indices_add_up(data):
    x = ramp(*data.draw(array_shapes(max_dims=3, max_side=4)))
    check_index(x, data.draw(integer_array_indices(x.shape)))


@given(st.data())
@settings(max_examples=20)
def test_boolean_masks_follow_numpy(data):
    x = ramp(*data.draw(array_shapes(min_dims=2, max_dims=3, max_side=4)))
    axes = data.draw(st.integers(1, x.ndim))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=x.size, max_size=x.size)))
    check_index(x, mask.reshape(x.shape) if axes == x.ndim else mask[: len(x)])


@pytest.mark.parametrize(
    "index",
    [
        (slice(None), [0, 0, 1]), ([1, 1], slice(None, None, -1)), (np.array([[0, 1], [1, 1]]), 0),
        (None, [0, 1], None), (np.array([True, False]), [1]), ([True, False], slice(1, 3)), np.array(1),
        (..., [2, 2]), (1, 2),
        ([0, 1, 0], [2, 1, 2]), np.zeros((0,), int), [],
    ],
)  # fmt: skip
def test_mixed_indexing_follows_numpy(index):
    index = np.array(index, int) if isinstance(index, list) and not index else index
    check_index(ramp(2, 3), index)


def test_tensors_can_be_indices():
    x = tn.tensor(ramp(3, 2), requires_grad=True)
    assert x[tn.tensor([2, 0])].data.tolist() == [[4, 5], [0, 1]]
    assert x[tn.tensor([2, 0]), tn.tensor(1)].data.tolist() == [5, 1]
    assert x[x > 3].data.tolist() == [4, 5]
    assert [row.data.tolist() for row in x] == [[0, 1], [2, 3], [4, 5]]


def test_bad_indices_raise_index_error_as_numpy_does():
    with pytest.raises(IndexError, match="out of bounds for axis 0 with size 3"):
        tn.tensor(ramp(3))[3]
    with pytest.raises(IndexError, match="only integers, slices"):
        tn.tensor(ramp(3))["a"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradient_of_a_lookup_accumulates_like_a_loop(dtype):
    table = tn.tensor(np.zeros((5, 3), dtype), requires_grad=True)
    words = np.array([[0, 4, 4], [4, 1, 0]])
    table[words].sum().backward()
    assert table.grad.dtype == dtype and table.grad.tolist() == [[2] * 3, [1] * 3, [0] * 3, [0] * 3, [3] * 3]


def test_reshape_and_flatten():
    x = tn.tensor(ramp(2, 3, 4))
    assert ops.reshape(x, 4, 6).shape == ops.reshape(x, (4, -1)).shape == (4, 6)
    assert x.flatten().shape == (24,) and x.flatten(1).shape == (2, 12) and x.flatten(-2).shape == (2, 12)
    assert tn.tensor(np.zeros((0, 3, 4))).flatten(1).shape == (0, 12)
    assert tn.tensor(1.0).flatten().shape == (1,)
    with pytest.raises(
        ShapeError, match=r"cannot reshape \(2, 3, 4\) into \(5, 5\): .* 24 numbers, the second 25"
    ):
        x.reshape(5, 5)
    with pytest.raises(ShapeError, match="a multiple of 7"):
        x.reshape(7, -1)
    with pytest.raises(ShapeError, match="more than one size open"):
        x.reshape(-1, -1)
    with pytest.raises(ArgumentError, match=r"must be an integer, got 2\.0"):
        x.reshape(2.0, 12)


def test_transpose():
    x = ramp(2, 3, 4)
    assert (tn.tensor(x).T.data == x.T).all()
    assert (ops.transpose(x, 0, 2, 1).data == x.transpose(0, 2, 1)).all()
    assert (ops.transpose(x, (-1, 0, 1)).data == x.transpose(-1, 0, 1)).all()
    with pytest.raises(ShapeError, match=r"needs each of its 3 axes once, got \(0, 1\)"):
        ops.transpose(x, 0, 1)
    with pytest.raises(ShapeError, match="there is no axis 3"):
        ops.transpose(x, 0, 1, 3)


def test_squeeze_and_expand_dims():
    x = tn.tensor(ramp(1, 3, 1))
    assert x.squeeze().shape == (3,) and x.squeeze(0).shape == (3, 1) and x.squeeze((0, -1)).shape == (3,)
    assert tn.tensor(ramp(2, 3)).expand_dims(-1).shape == (2, 3, 1)
    assert ops.expand_dims(ramp(2, 3), 0).shape == (1, 2, 3)
    with pytest.raises(ShapeError, match=r"squeeze\(axis=1\) of shape \(1, 3, 1\): only axes of size 1"):
        x.squeeze(1)
    with pytest.raises(ShapeError, match="there is no axis 4"):
        x.expand_dims(4)


def test_concat_and_stack():
    a, b = ramp(2, 3), ramp(2, 2)
    assert (ops.concat([a, b]).data == np.concatenate([a, b], -1)).all()
    assert (ops.concat([a, a], axis=0).data == np.concatenate([a, a])).all()
    assert (ops.stack([a, a], axis=-1).data == np.stack([a, a], -1)).all()
    with pytest.raises(
        ShapeError, match=r"concat along axis 0 got \(2, 3\) and \(2, 2\) \(tensor 1\): 3 and 2 on axis 1"
    ):
        ops.concat([a, b], axis=0)
    with pytest.raises(ShapeError, match="the numbers of axes differ"):
        ops.concat([a, ramp(2)])
    with pytest.raises(ShapeError, match=r"stack got \(2, 3\) and \(2, 2\) \(tensor 1\)"):
        ops.stack([a, b])
    with pytest.raises(DTypeError, match="concat got tensors of float64, float32"):
        ops.concat([a, a.astype("float32")])
    for bad in ([], tn.tensor(a)):
        with pytest.raises(ArgumentError, match=r"a list of at least one tensor: concat\(\[a, b\]\)"):
            ops.concat(bad)


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=2), min_size=1, max_size=4), st.integers(0, 1)
)
@settings(max_examples=20)
def test_concat_and_split_are_inverse(shapes, axis):
    for s in shapes:
        s[1 - axis] = 2
    parts = [np.random.default_rng(i).normal(size=s) for i, s in enumerate(shapes)]
    back = ops.split(ops.concat(parts, axis), [s[axis] for s in shapes], axis)
    assert all((a == b.data).all() and a.shape == b.shape for a, b in zip(parts, back, strict=True))


def test_split():
    x = tn.tensor(ramp(2, 6), requires_grad=True)
    assert [p.shape for p in ops.split(x, 3)] == [(2, 2)] * 3
    first, _, last = ops.split(x, (1, 2, 3))
    assert first.data.tolist() == [[0], [6]] and last.shape == (2, 3)
    (last * 2).sum().backward()
    assert x.grad.tolist() == [[0, 0, 0, 2, 2, 2]] * 2
    with pytest.raises(ShapeError, match="axis 1 of size 6 cannot be split into 4 equal parts"):
        ops.split(x, 4)
    with pytest.raises(ShapeError, match=r"split\(\[1, 2\]\): 1 \+ 2 = 3, but axis 1 has 6"):
        ops.split(x, [1, 2])


@given(
    array_shapes(min_dims=1, max_dims=3, max_side=4),
    st.sampled_from(["constant", "edge", "reflect"]),
    st.data(),
)
@settings(max_examples=40)
def test_pad_follows_numpy_and_has_a_gradient(shape, mode, data):
    widths = data.draw(st.tuples(*[st.tuples(st.integers(0, 4), st.integers(0, 4))] * len(shape)))
    x = np.random.default_rng(0).normal(size=shape)
    np.testing.assert_array_equal(ops.pad(x, widths, mode).data, np.pad(x, widths, mode))
    assert gradcheck(lambda t: ops.pad(t, widths, mode), x)


def test_pad_value_and_errors():
    x = tn.tensor(ramp(2, 2, dtype="float32"))
    y = ops.pad(x, ((0, 0), (1, 0)), value=-np.inf)
    assert y.data[:, 0].tolist() == [-np.inf] * 2 and y.dtype == "float32"
    with pytest.raises(ArgumentError, match=r"one \(before, after\) pair per axis, got 1"):
        ops.pad(x, 1)
    with pytest.raises(ShapeError, match=r"got 1 pairs of widths for the 2 axes of shape \(2, 2\)"):
        ops.pad(x, ((1, 1),))
    with pytest.raises(ArgumentError, match="pad widths are at least 0"):
        ops.pad(x, ((0, 0), (-1, 0)))
    with pytest.raises(ArgumentError, match=r"unknown pad mode 'reflekt'. Did you mean 'reflect'\?"):
        ops.pad(x, ((0, 0), (1, 0)), mode="reflekt")
    with pytest.raises(
        ShapeError, match=r'pad\(mode="edge"\): axis 0 of shape \(0, 2\) has no element to repeat'
    ):
        ops.pad(np.zeros((0, 2)), ((1, 0), (0, 0)), mode="edge")


def test_flip_and_broadcast_to():
    x = ramp(2, 3)
    assert (ops.flip(x).data == np.flip(x)).all() and (ops.flip(x, -1).data == x[:, ::-1]).all()
    assert (tn.tensor(x).broadcast_to((4, 2, 3)).data == np.broadcast_to(x, (4, 2, 3))).all()
    with pytest.raises(ShapeError, match=r"shape \(2, 3\) cannot be broadcast to \(3, 3\)"):
        ops.broadcast_to(x, (3, 3))
