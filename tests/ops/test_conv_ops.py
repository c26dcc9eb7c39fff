"""Convolutions: values, the adjoint identity, padding rules, and errors."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from waves import wave

import tinynet as tn
from tinynet import ops
from tinynet.errors import ArgumentError, DTypeError, ShapeError


def ones(*shape):
    return tn.tensor(np.ones(shape))


def conv_by_loops(x, weight, stride, padding, dilation):
    """A 2-D convolution of one image with one filter as the textbook writes it."""
    (top, bottom), (left, right) = padding
    x = np.pad(x, ((top, bottom), (left, right)))
    kh, kw = weight.shape
    rows = range(0, x.shape[0] - (kh - 1) * dilation, stride)
    columns = range(0, x.shape[1] - (kw - 1) * dilation, stride)
    y = [[sum(x[r + i * dilation, c + j * dilation] * weight[i, j] for i in range(kh) for j in range(kw))
          for c in columns] for r in rows]  # fmt: skip
    return np.array(y)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((1, 0), (2, 1))])
def test_conv_is_what_the_textbook_writes(stride, dilation, padding):
    x, weight = wave(6, 7), wave(3, 2)
    y = ops.conv(
        x[None, ..., None], weight[..., None, None], stride=stride, padding=padding, dilation=dilation
    )
    np.testing.assert_allclose(
        y.data[0, ..., 0], conv_by_loops(x, weight, stride, padding, dilation), rtol=1e-12
    )


@given(
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(1, 2),
    st.integers(0, 2),
)
@settings(max_examples=30)
def test_conv_transpose_is_the_adjoint_of_conv(rank, groups, stride, padding, dilation, extra):
    """<conv(x), y> = <x, conv_transpose(y)>, with the weight's two channel axes swapped."""
    rng, how = (
        np.random.default_rng(0),
        {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups},
    )
    x = rng.normal(size=(2, *(5, 6, 4)[:rank], 2 * groups))
    weight = rng.normal(size=(*(3, 2, 2)[:rank], 2, 3 * groups))
    size, kernel = x.shape[1:-1], weight.shape[:-2]
    extents = [(k - 1) * dilation + 1 for k in kernel]
    lost = [(s + 2 * padding - e) % stride for s, e in zip(size, extents)]
    assume(all(s + 2 * padding >= e for s, e in zip(size, extents)))
    y = ops.conv(x, weight, **how)
    v = rng.normal(size=y.shape)
    back = ops.conv_transpose(v, weight.swapaxes(-1, -2), **how, output_padding=lost)
    assert back.shape == x.shape
    assert (y.data * v).sum() == pytest.approx((x * back.data).sum())


def test_conv_transpose_values_from_pytorch():
    x = tn.tensor(wave(1, 2, 3, 2), requires_grad=True)
    weight = tn.tensor(wave(3, 2, 2, 1, k=0.3), requires_grad=True)
    y = ops.conv_transpose(x, weight, np.array([0.25]), stride=2, padding=1, output_padding=1)
    expected = [
        [0.57311689, 0.82099442, 0.47800111, -0.82970945, 0.00438851],
        [-2.53223434, 1.13695864, 0.81688976, 2.39561131, 3.2249396],
        [-0.06149288, 1.0108427, 0.38972438, 1.4466612, 0.60898999],
        [1.26113375, -0.28020368, -0.76491634, -0.35408676, -1.10613862],
    ]
    np.testing.assert_allclose(y.data[0, ..., 0], expected, rtol=1e-6)
    (y * wave(*y.shape, k=0.9)).sum().backward()
    np.testing.assert_allclose(
        x.grad[0, 0],
        [[0.81583749, 0.68138093], [0.20390161, -0.26062977], [-1.24313509, -1.1491906]],
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        weight.grad[1, ..., 0], [[0.78506994, -0.20094813], [2.65691832, 2.00294459]], rtol=1e-6
    )


@pytest.mark.parametrize(("size", "stride"), [(5, 1), (5, 2), (6, 2), (6, 3), (4, 5)])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
def test_same_padding_sizes(size, stride, kernel):
    x, weight = ones(1, size, 1), ones(kernel, 1, 1)
    assert ops.conv(x, weight, stride=stride, padding="same").shape == (1, -(-size // stride), 1)
    assert ops.conv_transpose(x, weight, stride=stride, padding="same").shape == (1, size * stride, 1)


def test_same_padding_puts_the_odd_pixel_right_and_at_the_bottom():
    """5x5, kernel 2, stride 1: nothing above or left, one row of zeros below, one column to the right."""
    y = ops.conv(ones(1, 5, 5, 1), ones(2, 2, 1, 1), padding="same").data[0, ..., 0]
    assert y.tolist() == [[4, 4, 4, 4, 2]] * 4 + [[2, 2, 2, 2, 1]]
    strided = ops.conv(ones(1, 5, 5, 1), ones(3, 3, 1, 1), stride=2, padding="same").data[0, ..., 0]
    assert strided.tolist() == [[4, 6, 4], [6, 9, 6], [4, 6, 4]]  # 5 to 3 takes 1 + 1: one on each side


def test_padding_forms_agree():
    x, weight = wave(1, 5, 6, 2), wave(3, 3, 2, 2)
    results = [
        ops.conv(x, weight, padding=p).data
        for p in (1, (1, 1), [1, 1], ((1, 1), (1, 1)), [[1, 1], [1, 1]], np.int64(1))
    ]
    assert all((r == results[0]).all() for r in results)
    assert (ops.conv(x, weight, padding="valid").data == ops.conv(x, weight, padding=0).data).all()


def test_gradients_nobody_asked_for_are_not_computed(monkeypatch):
    from tinynet import kernels

    def never(*args):
        raise AssertionError("not needed")

    monkeypatch.setattr(kernels, "conv_input_grad", never)
    weight = tn.tensor(wave(3, 3, 2, 2), requires_grad=True)
    ops.conv(wave(1, 5, 6, 2), weight).sum().backward()
    assert weight.grad is not None


def test_rank_is_checked_first():
    text = r"needs x of 4 axes \(N, height, width, channels\), got shape \(28, 28, 3\).*Use x\[None\]"
    with pytest.raises(ShapeError, match=text):
        ops.conv(ones(28, 28, 3), ones(3, 3, 3, 8))
    with pytest.raises(ShapeError, match=r"got shape \(32, 28, 28\).*channel axis.*x\[\.\.\., None\]"):
        ops.conv(ones(32, 28, 28), ones(3, 3, 1, 8))
    with pytest.raises(
        ShapeError, match=r"needs x of 3 axes \(N, length, channels\), got shape \(2, 5, 5, 1\)\.$"
    ):
        ops.conv(ones(2, 5, 5, 1), ones(3, 1, 8))
    with pytest.raises(
        ShapeError, match=r"weight with 1 to 3 kernel axes and two of channels, got shape \(3, 8\)"
    ):
        ops.conv(ones(2, 5), ones(3, 8))
    with pytest.raises(ShapeError, match=r"conv_transpose with a weight .* Use x\[None\]"):
        ops.conv_transpose(ones(4, 4, 3), ones(2, 2, 3, 8))


def test_channels_are_checked_second_and_channels_first_is_recognised():
    text = r"with 28 channels on the last axis.*takes 3\. Axis 1 has 3: a channels-first batch\? Features"
    with pytest.raises(ShapeError, match=text + r" come last here: x\.transpose\(0, 2, 3, 1\)"):
        ops.conv(ones(2, 3, 2, 28), ones(3, 3, 3, 8))  # the kernel is too high as well: channels come first
    with pytest.raises(ShapeError, match=r"x\.transpose\(0, 2, 1\)"):
        ops.conv(ones(2, 3, 9), ones(3, 3, 8))
    with pytest.raises(ShapeError, match=r"x\.transpose\(0, 2, 3, 4, 1\)"):
        ops.conv_transpose(ones(2, 3, 4, 4, 9), ones(2, 2, 2, 3, 8))
    with pytest.raises(ShapeError, match=r"with 4 channels .* takes 2 x 3 groups = 6\.$"):
        ops.conv(ones(2, 5, 5, 4), ones(3, 3, 2, 9), groups=3)


def test_size_is_checked_third():
    with pytest.raises(ShapeError, match="a window of height 5 does not fit into an input of height 4"):
        ops.conv(ones(1, 4, 9, 1), ones(5, 5, 1, 1))
    with pytest.raises(
        ShapeError, match=r"width 3 \(dilation 4 spreads it over 9\) .* width 6 \+ 1 \+ 1 of padding"
    ):
        ops.conv(ones(1, 9, 6, 1), ones(3, 3, 1, 1), dilation=4, padding=1)
    with pytest.raises(
        ShapeError, match=r"leaves no length: \(1 - 1\) \* stride 1 \+ extent 2 - padding 1 - 1 .* = 0"
    ):
        ops.conv_transpose(ones(1, 1, 1), ones(2, 1, 1), padding=1)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"stride": 0}, r"stride=0: each entry must be an integer of at least 1"),
        ({"stride": 1.5}, r"stride=1\.5: each entry must be an integer"),
        ({"stride": (1, 2, 3)}, r"stride=\(1, 2, 3\) has 3 entries for 2 spatial axes"),
        ({"dilation": -1}, r"dilation=-1: each entry"),
        ({"padding": "sane"}, r"unknown padding 'sane'. Did you mean 'same'\?"),
        ({"padding": -1}, r"padding=-1 for 2 spatial axes: give \"valid\""),
        ({"padding": (1, 2, 3)}, r"padding=\(1, 2, 3\) for 2 spatial axes"),
        ({"groups": 0}, r"groups=0 must be an integer of at least 1"),
    ],
)
def test_settings_that_make_no_sense(how, text):
    for op in (ops.conv, ops.conv_transpose):
        with pytest.raises(ArgumentError, match=text):
            op(ones(1, 5, 5, 2), ones(3, 3, 2, 4), **how)


def test_groups_must_divide_the_channels():
    with pytest.raises(ShapeError, match="5 filters cannot be divided among 2 groups"):
        ops.conv(ones(1, 5, 5, 4), ones(3, 3, 2, 5), groups=2)
    with pytest.raises(ShapeError, match="3 input channels cannot be divided among 2 groups"):
        ops.conv_transpose(ones(1, 5, 5, 3), ones(3, 3, 3, 5), groups=2)


def test_output_padding_must_stay_below_the_stride():
    with pytest.raises(ArgumentError, match="output_padding=2 must be smaller than stride=2"):
        ops.conv_transpose(ones(1, 4, 1), ones(3, 1, 1), stride=2, output_padding=2)
    with pytest.raises(ArgumentError, match='padding="same" fixes the output size; leave output_padding out'):
        ops.conv_transpose(ones(1, 4, 1), ones(3, 1, 1), stride=2, padding="same", output_padding=1)


def test_bias_and_dtypes_must_fit():
    with pytest.raises(ShapeError, match=r"the bias of conv has shape \(3,\), but a weight .* needs \(4,\)"):
        ops.conv(ones(1, 5, 5, 1), ones(3, 3, 1, 4), np.ones(3))
    with pytest.raises(
        ShapeError, match=r"the bias of conv_transpose has shape \(4,\).* in 2 group\(s\) needs \(8,\)"
    ):
        ops.conv_transpose(ones(1, 5, 5, 2), ones(3, 3, 2, 4), np.ones(4), groups=2)
    with pytest.raises(DTypeError, match="Conv got float64 and float32"):
        ops.conv(ones(1, 5, 5, 1), np.ones((3, 3, 1, 1), "float32"))
    with pytest.raises(
        DTypeError, match=r"conv needs floating-point numbers, got uint8.*astype\('float32'\)"
    ):
        ops.conv(np.ones((1, 5, 5, 1), "uint8"), ones(3, 3, 1, 1))


def test_dense_errors():
    with pytest.raises(
        ShapeError, match=r"x of shape \(2, 5\): 5 features on the last axis, but the weight \(4, 3\) takes 4"
    ):
        ops.dense(ones(2, 5), ones(4, 3))
    with pytest.raises(ShapeError, match=r"needs a weight of shape \(in, out\), got \(4,\)"):
        ops.dense(ones(2, 4), ones(4))
    with pytest.raises(
        ShapeError, match=r"the bias has shape \(4,\), but a weight of shape \(4, 3\) needs \(3,\)"
    ):
        ops.dense(ones(2, 4), ones(4, 3), ones(4))
