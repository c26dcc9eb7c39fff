"""Each fused operation against its twin composed of small operations: forward and gradient."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tinynet as tn
from tinynet import kernels, ops
from tinynet.errors import ArgumentError, ShapeError
from tinynet.ops import simple


def normal(*shape):
    return np.random.default_rng([3, *shape]).normal(size=shape)


def assert_same(fused, twin, arrays, dtype="float64"):
    """Both give the same outputs, and the same gradients for random gradients of the outputs."""
    results = []
    for f in (fused, twin):
        leaves = [tn.tensor(np.asarray(a, dtype), requires_grad=True) for a in arrays]
        result = f(*leaves)
        outputs = result if isinstance(result, tuple) else (result,)
        rng = np.random.default_rng(0)
        weights = [tn.tensor(rng.normal(size=y.shape).astype(dtype)) for y in outputs]
        sum((y * w).sum() for y, w in zip(outputs, weights)).backward()
        results.append([*(y.data for y in outputs), *(x.grad for x in leaves)])
    tolerance = {"float64": 1e-10, "float32": 2e-4}[dtype]
    for a, b in zip(*results, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def lstm_shapes(n, t, f, u, gates=4, biases=1, states=2):
    return (n, t, f), (f, gates * u), (u, gates * u), *[(gates * u,)] * biases, *[(n, u)] * states


LABELS = np.array([2, 0, 255, 3, 1])
WEIGHTS = np.array([1.0, 0.0, 2.0, 3.0])
TARGET = (normal(5, 4) > 0) * 1.0

PAIRS = {
    "sigmoid": (ops.sigmoid, simple.sigmoid_simple, [(3, 4)]),
    "softplus": (ops.softplus, simple.softplus_simple, [(3, 4)]),
    "leaky_relu": (ops.leaky_relu, simple.leaky_relu_simple, [(3, 4)]),
    "prelu": (ops.prelu, simple.prelu_simple, [(3, 4), (4,)]),
    "elu": (ops.elu, simple.elu_simple, [(3, 4)]),
    "gelu, approximate": (lambda x: ops.gelu(x, approximate=True), simple.gelu_tanh_simple, [(3, 4)]),
    "var": (ops.var, simple.var_simple, [(3, 4)]),
    "var, axes": (lambda x: ops.var(x, (0, 2)), lambda x: simple.var_simple(x, (0, 2)), [(2, 3, 4)]),
    "logsumexp": (lambda x: ops.logsumexp(x, 1), lambda x: simple.logsumexp_simple(x, 1), [(2, 3, 4)]),
    "softmax": (ops.softmax, simple.softmax_simple, [(2, 3, 4)]),
    "log_softmax": (lambda x: ops.log_softmax(x, 0), lambda x: simple.log_softmax_simple(x, 0), [(3, 4)]),
    "dense": (ops.dense, simple.dense_simple, [(2, 3, 4), (4, 5), (5,)]),
    "dense without bias": (ops.dense, simple.dense_simple, [(3, 4), (4, 5)]),
    "upsample": (lambda x: ops.upsample(x, 3), lambda x: simple.upsample_simple(x, 3), [(2, 3, 4, 2)]),
    "batch_norm": (
        lambda x, w, b: ops.batch_norm(x, w, b, None, None, training=True),
        simple.batch_norm_simple,
        [(3, 2, 4), (4,), (4,)],
    ),
    "layer_norm": (ops.layer_norm, simple.layer_norm_simple, [(3, 2, 4), (4,), (4,)]),
    "group_norm": (
        lambda x, w, b: ops.group_norm(x, 3, w, b),
        lambda x, w, b: simple.group_norm_simple(x, 3, w, b),
        [(2, 4, 3, 6), (6,), (6,)],
    ),
    "rnn": (ops.rnn, simple.rnn_simple, lstm_shapes(3, 5, 2, 4, gates=1, states=1)),
    "rnn, relu": (
        lambda *a: ops.rnn(*a, activation="relu"),
        lambda *a: simple.rnn_simple(*a, activation="relu"),
        lstm_shapes(3, 5, 2, 4, gates=1, states=1),
    ),
    "lstm": (ops.lstm, simple.lstm_simple, lstm_shapes(3, 5, 2, 4)),
    "lstm, cells only": (
        lambda *a: ops.lstm(*a)[1], lambda *a: simple.lstm_simple(*a)[1], lstm_shapes(2, 3, 2, 3),
    ),
    "gru": (ops.gru, simple.gru_simple, lstm_shapes(3, 5, 2, 4, gates=3, biases=2, states=1)),
    "mse": (ops.mse, simple.mse_simple, [(3, 4), (3, 4)]),
    "bce_with_logits": (
        lambda x: ops.bce_with_logits(x, TARGET, pos_weight=WEIGHTS),
        lambda x: simple.bce_with_logits_simple(
            x, TARGET.astype(x.dtype), pos_weight=WEIGHTS.astype(x.dtype)
        ),
        [(5, 4)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(("room", "dtype"), [("numpy", "float64"), ("fast", "float32")])
def test_twins_agree(name, room, dtype):
    fused, twin, shapes = PAIRS[name]
    with kernels.use(room):
        assert_same(fused, twin, [normal(*s) for s in shapes], dtype)


@pytest.mark.parametrize("class_weight", [None, WEIGHTS])
@pytest.mark.parametrize("ignore_index", [None, 255])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_cross_entropy_twins_agree(class_weight, ignore_index, label_smoothing):
    labels = LABELS % 4 if ignore_index is None else LABELS
    how = {"class_weight": class_weight, "ignore_index": ignore_index, "label_smoothing": label_smoothing}
    assert_same(
        lambda x: ops.cross_entropy(x, labels, **how),
        lambda x: simple.cross_entropy_simple(x, labels, **how),
        [normal(5, 4)],
    )


paddings = st.one_of(st.just("valid"), st.just("same"), st.integers(0, 2))


@st.composite
def windows(draw, most=3):
    """Input shape without channels, and the settings of a window that fits into it."""
    rank = draw(st.integers(1, 3))
    per_axis = lambda low, high: draw(st.tuples(*[st.integers(low, high)] * rank))  # noqa: E731
    padding = draw(st.one_of(paddings, st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * rank)))
    shape = (draw(st.integers(1, 2)), *per_axis(1, 5))
    return (
        shape,
        per_axis(1, most),
        {"stride": per_axis(1, 3), "padding": padding, "dilation": per_axis(1, 2)},
    )


def same_or_same_error(fused, twin, arrays):
    """A geometry that does not fit is refused by the fused operation; no further claim about it."""
    try:
        with tn.no_grad():
            fused(*map(tn.tensor, arrays))
    except (ShapeError, ArgumentError):
        assume(False)
    assert_same(fused, twin, arrays)


@given(windows(), st.integers(1, 2), st.integers(1, 2), st.integers(1, 2))
@settings(max_examples=40)
def test_conv_twins_agree_over_geometry(window, groups, per_group, filters):
    shape, size, how = window
    how["groups"] = groups
    arrays = (
        normal(*shape, groups * per_group),
        normal(*size, per_group, groups * filters),
        normal(groups * filters),
    )
    same_or_same_error(lambda *a: ops.conv(*a, **how), lambda *a: simple.conv_simple(*a, **how), arrays)


@given(windows(), st.integers(1, 2), st.integers(1, 2), st.integers(0, 1))
@settings(max_examples=40)
def test_conv_transpose_twins_agree_over_geometry(window, groups, filters, extra):
    shape, size, how = window
    how["groups"] = groups
    how["output_padding"] = 0 if how["padding"] == "same" else min(extra, min(how["stride"]) - 1)
    arrays = normal(*shape, 2 * groups), normal(*size, 2 * groups, filters), normal(groups * filters)
    same_or_same_error(
        lambda *a: ops.conv_transpose(*a, **how), lambda *a: simple.conv_transpose_simple(*a, **how), arrays
    )


@given(windows(), st.booleans())
@settings(max_examples=40)
def test_max_pool_twins_agree_over_geometry(window, ceil):
    shape, size, how = window
    same_or_same_error(
        lambda x: ops.max_pool(x, size, ceil=ceil, **how),
        lambda x: simple.max_pool_simple(x, size, ceil=ceil, **how),
        [np.round(normal(*shape, 2))],  # whole numbers: full of ties
    )


@given(windows(), st.booleans(), st.booleans())
@settings(max_examples=40)
def test_avg_pool_twins_agree_over_geometry(window, ceil, count_padding):
    shape, size, how = window
    how |= {"ceil": ceil, "count_padding": count_padding}
    same_or_same_error(
        lambda x: ops.avg_pool(x, size, **how),
        lambda x: simple.avg_pool_simple(x, size, **how),
        [normal(*shape, 2)],
    )


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 4))
@settings(max_examples=15)
def test_linear_upsampling_is_a_matrix_product_along_each_axis(spatial, scale):
    assert_same(
        lambda x: ops.upsample(x, scale, mode="linear"),
        lambda x: simple.upsample_simple(x, scale, mode="linear"),
        [normal(2, *spatial, 3)],
    )


def test_every_twin_is_compared():
    named = {name.split(",")[0].split(" ")[0] for name in PAIRS} | {
        "cross_entropy", "conv", "conv_transpose", "max_pool", "avg_pool", "gelu_tanh",
    }  # fmt: skip
    twins = {name.removesuffix("_simple") for name in dir(simple) if name.endswith("_simple")}
    assert twins <= named
