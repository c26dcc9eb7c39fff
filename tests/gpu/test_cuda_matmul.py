"""Matrix products by our own CUDA kernels, against NumPy in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measure import relative_error

import tinynet as tn
from tinynet.kernels import arrays
from tinynet.kernels.cuda.matmul import _stretches, gemm, matmul

# (m, k, n): around the edges of tiles (64), slices (16), stretches (128) and narrow results (16).
SIZES = [
    (1, 1, 1), (64, 16, 64), (63, 15, 65), (65, 17, 63), (5, 300, 3), (1, 33, 16), (129, 40, 17),
    (3, 1100, 5), (20, 520, 70), (2, 257, 130),
]  # fmt: skip
ACTIVATIONS = {None: lambda x: x, "relu": lambda x: x.clip(0), "tanh": np.tanh}
LAYOUTS = ["plain", "transposed", "padded", "strided", "reversed"]


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def laid_out(gpu, values, layout):
    """The matrix on the card, in memory in one of several ways."""
    rows, columns = values.shape
    if layout == "transposed":
        return gpu.asarray(np.ascontiguousarray(values.T)).T
    if layout == "padded":
        wide = gpu.asarray(np.pad(values, ((0, 0), (2, 3)), constant_values=np.nan))
        return wide[:, 2 : 2 + columns]
    if layout == "strided":
        wide = np.full((rows, 2 * columns), np.nan, np.float32)
        wide[:, ::2] = values
        return gpu.asarray(wide)[:, ::2]
    if layout == "reversed":
        return gpu.asarray(values[::-1].copy())[::-1]
    return gpu.asarray(values)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sizes(gpu, size):
    m, k, n = size
    a, b = normal(m, k), normal(k, n, seed=1)
    y = matmul(gpu.asarray(a), gpu.asarray(b))
    assert y.dtype == np.float32
    assert relative_error(y, a.astype(float) @ b) < 1e-6


@pytest.mark.parametrize("right", LAYOUTS)
@pytest.mark.parametrize("left", LAYOUTS)
def test_layouts(gpu, left, right):
    a, b = normal(37, 21), normal(21, 19, seed=1)
    y = matmul(laid_out(gpu, a, left), laid_out(gpu, b, right))
    assert relative_error(y, a.astype(float) @ b) < 1e-6


@given(
    sizes=st.tuples(*[st.sampled_from([1, 2, 7, 16, 31, 66, 140])] * 3),
    layouts=st.tuples(*[st.sampled_from(LAYOUTS)] * 2),
    end=st.tuples(st.booleans(), st.booleans(), st.sampled_from([None, "relu", "tanh"])),
    rows_apart=st.booleans(),
)
@settings(max_examples=20)
def test_everything_at_once(gpu, sizes, layouts, end, rows_apart):
    (m, k, n), (add, with_bias, activation) = sizes, end
    a, b, bias, before = normal(m, k), normal(k, n, seed=1), normal(n, seed=2), normal(m, n, seed=3)
    out = laid_out(gpu, before, "padded" if rows_apart else "plain")
    left, right = laid_out(gpu, a, layouts[0]), laid_out(gpu, b, layouts[1])
    y = gemm(left, right, out, add=add, bias=gpu.asarray(bias) if with_bias else None, activation=activation)
    assert y is out
    wanted = a.astype(float) @ b + before * add + bias * with_bias
    assert (
        relative_error(
            out, {None: lambda x: x, "relu": lambda x: x.clip(0), "tanh": np.tanh}[activation](wanted)
        )
        < 2e-6
    )


def test_what_lies_between_the_rows_is_left_alone(gpu):
    wide = gpu.asarray(normal(70, 30))
    before = wide.get()
    gemm(gpu.asarray(normal(70, 5)), gpu.asarray(normal(5, 20)), wide[:, 4:24])
    after = wide.get()
    assert np.array_equal(after[:, :4], before[:, :4]) and np.array_equal(after[:, 24:], before[:, 24:])


def test_the_result_must_lie_by_rows(gpu):
    a = gpu.asarray(normal(4, 4))
    for out in (gpu.empty((4, 4), np.float32).T, gpu.empty((4, 8), np.float32)[:, ::2]):
        with pytest.raises(ValueError, match=r"the rows of out must be contiguous; its strides are \("):
            gemm(a, a, out)


@pytest.mark.parametrize("size", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (3, 0, 40), (0, 0, 0)], ids=str)
def test_empty(gpu, size):
    m, k, n = size
    y = matmul(gpu.asarray(normal(m, k)), gpu.asarray(normal(k, n)))
    assert np.array_equal(y.get(), np.zeros((m, n)))


def test_nothing_to_sum_leaves_bias_and_activation(gpu):
    y = gemm(
        gpu.empty((3, 0), np.float32),
        gpu.empty((0, 40), np.float32),
        bias=gpu.asarray(normal(40)),
        activation="relu",
    )
    assert np.array_equal(y.get(), np.tile(normal(40).clip(0), (3, 1)))


def test_nan_and_inf_go_where_they_belong(gpu):
    a, b = normal(70, 40), normal(40, 70, seed=1)
    a[3, 7], a[66, 2], b[5, 68] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        wanted = a.astype(float) @ b
    assert relative_error(matmul(gpu.asarray(a), gpu.asarray(b)), wanted) < 1e-6
    y = gemm(gpu.asarray(a), gpu.asarray(b), activation="relu").get()
    assert np.isnan(y[3]).all()


@pytest.mark.parametrize("size", [(70, 40, 70), (20, 520, 70)], ids=str)
@pytest.mark.parametrize("layout", ["plain", "transposed"])
def test_tensor_cores(gpu, size, layout):
    m, k, n = size
    a, b, bias = normal(m, k), normal(k, n, seed=1), normal(n, seed=2)
    with tn.kernels.precision("tf32"):
        y = gemm(laid_out(gpu, a, layout), laid_out(gpu, b, layout), bias=gpu.asarray(bias))
    error = relative_error(y, a.astype(float) @ b + bias)
    assert 1e-5 < error < 1e-3


def test_an_old_card_computes_in_float32(gpu, monkeypatch):
    monkeypatch.setattr(gpu.cuda.Device, "compute_capability", "75")
    a, b = normal(70, 40), normal(40, 70, seed=1)
    with tn.kernels.precision("tf32"):
        assert relative_error(matmul(gpu.asarray(a), gpu.asarray(b)), a.astype(float) @ b) < 1e-6


def test_every_run_gives_the_same_bits(gpu):
    a, b = gpu.asarray(normal(20, 520)), gpu.asarray(normal(520, 70, seed=1))
    assert np.array_equal(matmul(a, b).get(), matmul(a, b).get())


def test_other_floats_go_to_the_whole_array_room(gpu):
    a, b = normal(4, 5).astype(float), normal(5, 6).astype(float)
    for left, right in ((a, b), (a, b.astype(np.float32)), (a.astype(np.float32), b)):
        y = matmul(gpu.asarray(left), gpu.asarray(right))
        assert y.dtype == float
        assert relative_error(y, arrays.matmul(left, right)) < 1e-12


@pytest.mark.parametrize(("tiles", "k", "wanted"), [
    (1, 0, (0, 0)), (1, 255, (256, 1)), (1, 256, (128, 2)), (8, 3584, (128, 28)), (264, 9999, (10000, 1)),
    (100, 1000, (512, 2)), (1, 100_000, (384, 261)), (1000, 5, (16, 1)),
])  # fmt: skip
def test_how_k_is_cut(tiles, k, wanted):
    assert _stretches(tiles, k) == wanted
