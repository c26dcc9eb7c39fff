"""Pooling and up-sampling: ties, ceil, counting of padding, errors."""

import numpy as np
import pytest

import tinynet as tn
from tinynet import ops
from tinynet.errors import ArgumentError, DTypeError, ShapeError


def line(*values):
    """A sequence with one channel: (1, length, 1)."""
    return tn.tensor(np.array(values, "float64").reshape(1, -1, 1), requires_grad=True)


def flat(y):
    return y.data.ravel().tolist()


def test_max_pool_gives_the_gradient_to_the_first_of_equals():
    x = line(1, 1, 0, 2, 2, 2)
    y = ops.max_pool(x)
    (y * np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1)).sum().backward()
    assert flat(y) == [1, 2, 2] and x.grad.ravel().tolist() == [1, 0, 0, 2, 3, 0]


def test_overlapping_windows_add_their_gradients():
    x = line(0, 5, 1)
    ops.max_pool(x, 2, stride=1).sum().backward()
    assert x.grad.ravel().tolist() == [0, 2, 0]


def test_padding_never_wins_and_nan_does():
    assert flat(ops.max_pool(line(-5, -3, -4), 3, stride=1, padding="same")) == [-3, -3, -3]
    y = flat(ops.max_pool(line(np.nan, 1, 2, 3), 2))
    assert np.isnan(y[0]) and y[1] == 3


def test_stride_defaults_to_the_size():
    assert ops.max_pool(np.ones((1, 9, 8, 1)), (3, 2)).shape == (1, 3, 4, 1)
    assert ops.avg_pool(np.ones((1, 9, 8, 1)), (3, 2), stride=1).shape == (1, 7, 7, 1)


def test_ceil_keeps_the_ragged_edge():
    assert flat(ops.max_pool(line(1, 2, 3, 4, 5), 2)) == [2, 4]
    assert flat(ops.max_pool(line(1, 2, 3, 4, 5), 2, ceil=True)) == [2, 4, 5]
    assert flat(ops.avg_pool(line(1, 2, 3, 4, 5), 2, ceil=True)) == [1.5, 3.5, 5]
    # a third window would start at 4, in the padding on the right: it is left out
    assert flat(ops.max_pool(line(1, 2, 3, 4), 2, padding=((0, 1),), ceil=True)) == [2, 4]


def test_what_counts_in_an_average():
    x = line(3, 6, 9)
    assert flat(ops.avg_pool(x, 2, stride=2, padding=1)) == [3, 7.5]
    assert flat(ops.avg_pool(x, 2, stride=2, padding=1, count_padding=True)) == [1.5, 7.5]
    # with ceil: windows at -1, 1 and 3 would not fit; the one at 3 starts in the padding on the right
    assert flat(ops.avg_pool(x, 3, stride=2, padding=1, count_padding=True, ceil=True)) == [3, 5]
    # the part beyond the padding never counts: the last window holds 9, one counted zero, and nothing
    assert flat(ops.avg_pool(line(3, 6, 6, 9), 3, stride=2, padding=1, count_padding=True, ceil=True)) == [
        3,
        7,
        4.5,
    ]


def test_global_pools():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    np.testing.assert_allclose(ops.global_avg_pool(x).data, x.mean(axis=(1, 2)))
    assert (ops.global_max_pool(x).data == x.max(axis=(1, 2))).all()
    assert ops.global_avg_pool(x[:, :, 0]).shape == (2, 5)


def test_upsample():
    x = tn.tensor(np.array([[1.0, 2.0], [4.0, 8.0]]).reshape(1, 2, 2, 1))
    assert ops.upsample(x, (1, 2)).data[0, ..., 0].tolist() == [[1, 1, 2, 2], [4, 4, 8, 8]]
    expected = [[1, 1.25, 1.75, 2], [1.75, 2.1875, 3.0625, 3.5], [3.25, 4.0625, 5.6875, 6.5], [4, 5, 7, 8]]
    assert ops.upsample(x, 2, mode="linear").data[0, ..., 0].tolist() == expected  # from PyTorch
    assert ops.upsample(np.ones((1, 2, 3, 4, 2)), 2).shape == (1, 4, 6, 8, 2)


def test_upsample_errors():
    x = np.ones((1, 2, 2, 1))
    with pytest.raises(ArgumentError, match=r"unknown upsample mode 'linaer'. Did you mean 'linear'\?"):
        ops.upsample(x, 2, mode="linaer")
    for scale, text in ((0, "scale=0"), (1.5, r"scale=1\.5"), ((2, 2, 2), "3 entries for 2 spatial axes")):
        with pytest.raises(ArgumentError, match=text):
            ops.upsample(x, scale)
    with pytest.raises(ShapeError, match="there are no pixels"):
        ops.upsample(np.ones((1, 0, 2, 1)), 2)


@pytest.mark.parametrize("op", [ops.max_pool, ops.avg_pool])
def test_pool_errors(op):
    with pytest.raises(
        ShapeError, match=r"needs x of shape \(N, \*spatial, C\), got \(8, 8\).*x\[None, \.\.\., None\]"
    ):
        op(np.ones((8, 8)))
    with pytest.raises(ShapeError, match="a window of height 3 does not fit into an input of height 2"):
        op(np.ones((1, 2, 8, 1)), 3)
    with pytest.raises(ArgumentError, match="kernel size=0"):
        op(np.ones((1, 8, 8, 1)), 0)
    with pytest.raises(ArgumentError, match="stride=0"):
        op(np.ones((1, 8, 8, 1)), 2, stride=0)
    with pytest.raises(
        ArgumentError,
        match=r"with padding 2 \+ 2 along the length of 4, a pooling window of length 2 lies on",
    ):
        op(np.ones((1, 4, 1)), 2, padding=2)
    with pytest.raises(DTypeError, match="needs floating-point numbers, got uint8"):
        op(np.ones((1, 4, 1), "uint8"))


def test_a_window_of_counted_zeros_is_fine():
    assert flat(ops.avg_pool(line(4, 4), 2, padding=2, count_padding=True)) == [0, 4, 0]
