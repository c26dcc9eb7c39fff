"""The Tensor itself: making one, reading it, its operators and what it refuses."""

import numpy as np
import pytest

import tinynet as tn
from tinynet.errors import DTypeError, GraphError
from tinynet.tensor import as_tensor


def test_python_numbers_become_float32_and_arrays_keep_their_dtype():
    assert tn.tensor([1.0, 2.0]).dtype == "float32"
    assert tn.tensor(1.5).shape == () and tn.tensor(1.5).dtype == "float32"
    assert tn.tensor([1, 2]).dtype == "int64" and tn.tensor([True]).dtype == "bool"
    for dtype in ("float64", "float32", "int8", "uint8"):
        assert tn.tensor(np.ones(2, dtype)).dtype == dtype
    assert tn.tensor(np.float64(1)).dtype == "float64"
    assert tn.tensor([1, 2], dtype="float64").dtype == "float64"


def test_a_new_tensor_shares_no_memory():
    a = np.ones(3)
    t = tn.tensor(a)
    a[0] = 5
    assert t.data.tolist() == [1, 1, 1]
    assert not np.shares_memory(tn.tensor(t).data, t.data)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ([[1, 2], [3]], "the nested lists do not form a rectangle of numbers"),
        ("abc", "a tensor holds numbers or booleans, got <U3 from str"),
        (None, "got object from NoneType"),
        (np.array([None, 1.0]), "got object from ndarray"),
        ([1 + 2j], "got complex128 from list"),
    ],
)
def test_what_is_no_rectangle_of_numbers(data, text):
    with pytest.raises(DTypeError, match=text):
        tn.tensor(data)


def test_only_floats_can_require_a_gradient():
    with pytest.raises(
        DTypeError, match=r"only floating-point tensors can require a gradient, got int64.*astype"
    ):
        tn.tensor([1, 2], requires_grad=True)


def test_attributes():
    t = tn.tensor(np.zeros((2, 3)))
    assert (t.shape, t.ndim, t.size, t.device, len(t), t.T.shape) == ((2, 3), 2, 6, "cpu", 2, (3, 2))


def test_reading_values():
    t = tn.tensor([1.5], requires_grad=True)
    assert t.item() == 1.5 and float(t) == 1.5 and int(t) == 1 and bool(t)
    assert t.numpy() is t.data
    assert np.asarray(t.detach()).tolist() == [1.5]
    with pytest.raises(GraphError, match=r"use \.detach\(\)\.numpy\(\)"):
        np.asarray(t)


def test_repr_names_what_made_it():
    x = tn.tensor([1.0], requires_grad=True)
    assert "requires_grad=True" in repr(x) and "dtype=float32" in repr(x)
    assert "made by Relu" in repr(x.relu())


def test_operators_in_both_directions():
    x, a = tn.tensor([1.0, 2.0]), np.array([4.0, 8.0], "float32")
    for y, expected in [
        (x + a, [5, 10]), (a + x, [5, 10]), (x - 1, [0, 1]), (1 - x, [0, -1]), (x * a, [4, 16]),
        (a * x, [4, 16]), (x / 2, [0.5, 1]), (a / x, [4, 4]), (x**2, [1, 4]), (2**x, [2, 4]), (-x, [-1, -2]),
        (abs(-x), [1, 2]),
        (x @ a, 20), (a @ x, 20), (x[1], 2),
    ]:  # fmt: skip
        assert isinstance(y, tn.Tensor) and y.dtype == "float32" and y.data.tolist() == expected


def test_comparisons_give_boolean_tensors():
    x = tn.tensor([1.0, 2.0])
    results = [x == 1, x != 1, x < 2, x <= 1, x > 1, x >= 2, x == x]
    assert [r.data.tolist() for r in results] == [
        [True, False], [False, True], [True, False], [True, False], [False, True], [False, True],
        [True, True],
    ]  # fmt: skip
    assert isinstance((tn.tensor(1.0) == 1).data, np.ndarray)
    assert x in {x}  # hashable, by identity


def test_methods_hand_over_to_ops():
    x = tn.tensor([[4.0, 9.0]])
    assert x.sum().item() == 13 and x.mean().item() == 6.5 and x.max().item() == 9 and x.min().item() == 4
    assert x.var().item() == 6.25 and x.sqrt().data.tolist() == [[2, 3]] and x.abs().shape == (1, 2)
    assert x.exp().log().data == pytest.approx(x.data) and x.clip(5, 8).data.tolist() == [[5, 8]]
    assert x.relu().shape == x.sigmoid().shape == x.tanh().shape == x.softmax().shape == x.log_softmax().shape
    assert x.reshape(2).shape == (2,) and x.flatten().shape == (2,) and x.transpose(1, 0).shape == (2, 1)
    assert x.squeeze().shape == (2,) and x.expand_dims(0).shape == (1, 1, 2)
    assert x.broadcast_to((3, 2)).shape == (3, 2) and x.logsumexp().item() == pytest.approx(9.0067, rel=1e-4)
    assert x.argmax().item() == 1 and x.argmin(axis=1).data.tolist() == [0]


def test_writing_in_place():
    x = tn.tensor([1.0, 2.0])
    x[tn.tensor([1])] = tn.tensor([5.0])
    assert x.data.tolist() == [1, 5]
    with pytest.raises(GraphError, match=r"cannot be written to in place.*ops\.where\(mask, new, x\)"):
        tn.tensor([1.0], requires_grad=True)[0] = 2.0


def test_as_tensor_copies_nothing_and_follows_its_neighbour():
    a = np.ones(2)
    assert as_tensor(a).data is a
    x32, x64, whole = (tn.tensor(np.ones(2, d)) for d in ("float32", "float64", "int16"))
    assert as_tensor(x32, x64) is x32
    for value in (1, 0.5, True, [1, 2], [0.5, 1.5], np.float32(1), np.int64(2)):
        assert as_tensor(value, x64).dtype == "float64"
    assert as_tensor(2, whole).dtype == "int16" and as_tensor(0.5, whole).dtype == "float32"
    assert as_tensor(2, tn.tensor([True])).dtype == "int64"


def test_iteration_walks_the_first_axis():
    assert [r.data.tolist() for r in tn.tensor([[1, 2], [3, 4]])] == [[1, 2], [3, 4]]
