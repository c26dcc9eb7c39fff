"""Operations that take ReLU and pooling along: the same numbers from one node, but where said to the bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinynet as tn
from tinynet import ops
from tinynet.errors import ArgumentError, ShapeError

DTYPES = ["float32", "float64"]


def draw(kind, dtype, *shape):
    """Numbers that make life hard: ordinary ones, many ties, none that a ReLU lets through, NaN and inf."""
    rng = np.random.default_rng([len(shape), *shape])
    x = rng.integers(-1, 2, shape) if kind == "ties" else rng.normal(size=shape)
    x = x.astype(dtype)
    if kind == "nan and inf" and x.size > 3:
        x.flat[rng.integers(0, x.size, 3)] = np.nan, np.inf, -np.inf
    return x


def assert_equal_bits(fused, apart, *arrays):
    """Both functions give the same results and the same gradients of all arrays."""
    results = [values_and_gradients(f, arrays) for f in (fused, apart)]
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


@np.errstate(invalid="ignore")
def values_and_gradients(f, arrays):
    leaves = [tn.tensor(a, requires_grad=True) for a in arrays]
    y = f(*leaves)
    with tn.no_grad():  # a pool then does not say where its values stood
        np.testing.assert_array_equal(f(*leaves).data, y.data)
    y.backward(draw("normal", y.dtype, *y.shape))
    return [y.data, *(leaf.grad for leaf in leaves)]


@st.composite
def convolutions(draw_from):
    """Shapes of x and weight, and settings, with at least 2 x 2 places for the window."""
    number = draw_from
    groups = number(st.integers(1, 2))
    size, stride, dilation, before, after, length = [], [], [], [], [], []
    for _ in range(2):
        size.append(number(st.integers(1, 3)))
        stride.append(number(st.integers(1, 2)))
        dilation.append(number(st.integers(1, 2)))
        extent = (size[-1] - 1) * dilation[-1] + 1
        before.append(number(st.integers(0, extent - 1)))
        after.append(number(st.integers(0, extent - 1)))
        places = number(st.integers(2, 7))
        length.append(max(1, (places - 1) * stride[-1] + extent - before[-1] - after[-1]))
    x = number(st.integers(1, 3)), *length, groups * number(st.integers(1, 3))
    weight = *size, x[-1] // groups, groups * number(st.integers(1, 9))
    padding = tuple(zip(before, after))
    return x, weight, {
        "stride": tuple(stride), "padding": padding, "dilation": tuple(dilation), "groups": groups,
    }  # fmt: skip


def check_conv(x_shape, weight_shape, kind, dtype, settings, relu, pool):
    x, weight = draw(kind, dtype, *x_shape), draw(kind.partition(" ")[0], dtype, *weight_shape)
    bias = draw("normal", dtype, weight_shape[-1]) - (100 if kind == "closed" else 0)

    def apart(*leaves):
        y = ops.conv(*leaves, **settings)
        y = ops.relu(y) if relu else y
        return ops.max_pool(y, 2) if pool else y

    fused = lambda *leaves: ops.conv(*leaves, relu=relu, pool=pool, **settings)  # noqa: E731
    assert_equal_bits(fused, apart, x, weight, bias.astype(dtype))
    assert_equal_bits(fused, apart, x, weight)


@pytest.mark.parametrize("relu, pool", [(True, True), (True, False), (False, True)])
@given(
    convolution=convolutions(),
    kind=st.sampled_from(["normal", "ties", "closed", "nan and inf"]),
    dtype=st.sampled_from(DTYPES),
)
@settings(max_examples=30)
def test_a_convolution_takes_relu_and_pool_along(relu, pool, convolution, kind, dtype):
    x, weight, geometry = convolution
    check_conv(x, weight, kind, dtype, geometry, relu, pool)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "side, channels, filters", [((27, 27), 1, 8), ((28, 28), 16, 16), ((28, 28), 10, 16), ((2, 3), 3, 33)]
)
def test_sizes_that_pooling_leaves_a_rest_of(side, channels, filters, dtype):
    check_conv(
        (2, *side, channels), (3, 3, channels, filters), "normal", dtype, {"padding": "same"}, True, True
    )


@pytest.mark.parametrize("side, channels, filters", [((5, 7), 16, 16), ((28, 28), 8, 16), ((14, 9), 4, 5)])
def test_gradients_from_the_winners_of_a_pool_alone_differ_in_their_rounding(side, channels, filters):
    """Fused, three of four products are left out, which are zero; the others come in another order."""
    x, w, b = (
        draw("normal", "float32", *shape)
        for shape in ((2, *side, channels), (3, 3, channels, filters), (filters,))
    )
    apart = lambda x, w, b: ops.max_pool(ops.relu(ops.conv(x, w, b, padding="same")), 2)  # noqa: E731
    fused = lambda x, w, b: ops.conv(x, w, b, padding="same", relu=True, pool=True)  # noqa: E731
    (value, *gradients), (want, *wanted) = (values_and_gradients(f, (x, w, b)) for f in (fused, apart))
    np.testing.assert_array_equal(value, want)
    for a, b in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * np.abs(b).max())


@pytest.mark.parametrize("rank", [1, 3])
def test_relu_in_other_ranks(rank):
    check_conv((2, *[5] * rank, 3), (*[2] * rank, 3, 4), "ties", "float32", {"stride": 2}, True, False)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["normal", "ties", "nan and inf"])
@pytest.mark.parametrize("rows", [(5,), (2, 3), (1,), (0,)])
def test_dense_takes_a_relu_along(rows, kind, dtype):
    arrays = draw(kind, dtype, *rows, 4), draw("normal", dtype, 4, 6), draw("normal", dtype, 6)
    for inputs in (arrays, arrays[:2]):
        assert_equal_bits(
            lambda *leaves: ops.dense(*leaves, relu=True),
            lambda *leaves: ops.relu(ops.dense(*leaves)),
            *inputs,
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["normal", "ties", "nan and inf"])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_takes_a_relu_along(training, kind, dtype):
    arrays = draw(kind, dtype, 3, 4, 5, 6), draw("normal", dtype, 6), draw("ties", dtype, 6)

    def norm(*leaves, **more):
        running = np.zeros(6, dtype), np.full(6, 2, dtype)
        return ops.batch_norm(*leaves, *running, training=training, **more)

    assert_equal_bits(
        lambda *leaves: norm(*leaves, relu=True), lambda *leaves: ops.relu(norm(*leaves)), *arrays
    )


def test_one_node_stands_in_the_graph():
    x, weight = (tn.tensor(np.ones(s, "float32"), requires_grad=True) for s in [(1, 4, 4, 1), (3, 3, 1, 2)])
    y = ops.conv(x, weight, relu=True, pool=True)
    assert y.shape == (1, 1, 1, 2) and y.node.name == "Conv"
    assert [origin for origin, *_ in y.node.sources[:2]] == [x, weight]


def test_only_what_the_backward_needs_is_kept():
    x, weight = (tn.tensor(np.ones(s, "float32"), requires_grad=True) for s in [(1, 4, 4, 1), (3, 3, 1, 2)])
    for relu, pool, kept in [(False, False, False), (True, False, True), (True, True, False)]:
        y = ops.conv(x, weight, relu=relu, pool=pool)
        assert (y.node.op.y is y.data) == kept and (y.node.op.where is not None) == pool
        assert y.node.op.x is x.data
    rows = ops.dense(x[:, 0, :, 0], tn.tensor(np.ones((4, 2), "float32")))
    assert rows.node.op.y is None


def test_what_cannot_be_pooled():
    with pytest.raises(ShapeError, match="a window of height 2 does not fit into an input of height 1"):
        ops.conv(np.ones((1, 3, 4, 1)), np.ones((3, 3, 1, 2)), pool=True)
    with pytest.raises(ArgumentError, match=r"pool=True is for images, 2 spatial axes, not 1"):
        ops.conv(np.ones((1, 9, 1)), np.ones((3, 1, 2)), pool=True)
