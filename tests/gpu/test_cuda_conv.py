"""Convolution by CUDA kernels, against the plain rooms in float64."""

import importlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measure import relative_error

import tinynet as tn
from tinynet.kernels import Window, arrays, blocks, reference
from tinynet.kernels.cuda import conv_plan, im2col
from tinynet.kernels.cuda.conv import (
    conv,
    conv_block,
    conv_block_backward,
    conv_input_grad,
    conv_weight_grad,
)
from tinynet.kernels.cuda.graph import Graph

ALL = (True, True, True)
ENDS = [(False, False), (True, False), (False, True), (True, True)]  # relu, pool


def window(size, stride=1, padding=((0, 0),), dilation=1):
    """A number stands for as many as there are axes, and so does one pair of paddings."""
    rank = len(size)
    stride, dilation = (n if isinstance(n, tuple) else (n,) * rank for n in (stride, dilation))
    return Window(size, stride, tuple(padding) * (rank // len(padding)), dilation)


SAME = window((3, 3), padding=((1, 1),))
VALID = window((3, 3))


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def problem(x_shape, filters, w, groups=1):
    """x, weight, bias and a gradient of y."""
    y_shape = (x_shape[0], *w.output_shape(x_shape[1:-1]), filters)
    weight_shape = (*w.size, x_shape[-1] // groups, filters)
    return [normal(*s, seed=i) for i, s in enumerate((x_shape, weight_shape, (filters,), y_shape))]


def wide(*values):
    return [v.astype(np.float64) if v is not None and v.dtype == np.float32 else v for v in values]


def on_card(gpu, *values):
    return [None if v is None else gpu.asarray(v) for v in values]


def single(gpu, x_shape, filters, w, groups=1, room=arrays):
    """Convolution and both gradients, each with what is right."""
    x, weight, bias, grad_y = problem(x_shape, filters, w, groups)
    rest = w, groups
    xg, weight_g, bias_g, grad_g = on_card(gpu, x, weight, bias, grad_y)
    got = (
        conv(xg, weight_g, bias_g, *rest),
        conv_input_grad(grad_g, weight_g, x.shape, *rest),
        conv_weight_grad(xg, grad_g, *rest),
    )
    x, weight, bias, grad_y = wide(x, weight, bias, grad_y)
    truth = (
        room.conv(x, weight, bias, *rest),
        room.conv_input_grad(grad_y, weight, x.shape, *rest),
        room.conv_weight_grad(x, grad_y, *rest),
    )
    return list(zip(got, truth))


def fused(gpu, x_shape, filters, w, relu, pool):
    """The block and its gradients, each with what is right."""
    x, weight, bias, _ = problem(x_shape, filters, w)
    forward = blocks.conv_block(arrays, *wide(x, weight, bias), w, 1, relu, pool)
    grad_y = normal(*forward[0].shape, seed=9)
    y = forward[0].astype(np.float32) if relu and not pool else None
    saved = grad_y, x, weight, y, forward[1]
    back = blocks.conv_block_backward(arrays, *wide(*saved), w, 1, ALL)
    got = conv_block(*on_card(gpu, x, weight, bias), w, 1, relu, pool)
    got += conv_block_backward(*on_card(gpu, *saved), w, 1, ALL)
    return [pair for pair in zip(got, forward + back) if pair[1] is not None]


@pytest.fixture
def launched(monkeypatch):
    """What the source is compiled with, for each launch from now on."""
    module, seen = importlib.import_module("tinynet.kernels.cuda.conv"), []
    launch = module.launch

    def noted(*args, **defines):
        seen.append(defines)
        launch(*args, **defines)

    monkeypatch.setattr(module, "launch", noted)
    return seen


def worst(pairs):
    return max(relative_error(got, truth) for got, truth in pairs)


# --- sizes ---

# Channels, filters and positions that end inside of tiles (8 to 64 columns, 32 to 256 rows) and of reads (4).
CASES = [
    ((3, 9, 11, 1), 8, SAME),
    ((2, 7, 6, 3), 5, window((3, 3), 2, ((1, 0), (2, 1)))),
    ((1, 6, 7, 17), 33, VALID),
    ((1, 5, 7, 64), 65, window((1, 1))),
    ((2, 23, 5), 16, window((4,), dilation=3)),
    ((1, 4, 5, 6, 8), 8, window((2, 3, 2), (1, 2, 1), ((0, 1),))),
    ((2, 6, 7, 6), 9, window((3, 2), padding=((2, 1),), dilation=2), 3),
    ((1, 7, 5, 8), 8, SAME, 8),
    ((2, 5, 4, 16), 8, window((2, 2), 2)),
    ((1, 9, 8, 4), 3, window((2, 4), 3, ((1, 1), (0, 3)), (1, 2))),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} to {case[1]}")
def test_sizes(gpu, case):
    assert worst(single(gpu, *case)) <= 1e-6


@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("channels", [8, 16, 32, 64])
def test_the_largest_tiles(gpu, channels, tf32, monkeypatch, launched):
    """A card takes them for large batches; here they are asked for."""
    monkeypatch.setattr(conv_plan, "ENOUGH", 1)
    w = window((2, 1), padding=((0, 1),))
    with tn.kernels.precision("tf32" if tf32 else "fp32"):
        assert worst(single(gpu, (3, 10, 10, channels), channels, w)) <= (1e-3 if tf32 else 1e-6)
    assert [defines["TILE_M"] for defines in launched[:2]] == [256 if channels == 8 else 128] * 2


@pytest.mark.parametrize("channels", [1, 8])
@pytest.mark.parametrize("filters", [8, 16, 32, 64])
def test_gradients_with_few_rows(gpu, filters, channels):
    """And many positions, whose sum is cut in stretches and slices."""
    w = VALID if channels == 1 else window((1, 1))
    x, _, _, grad_y = problem((4, 21, 19, channels), filters, w)
    grad = conv_weight_grad(*on_card(gpu, x, grad_y), w, 1)
    assert relative_error(grad, arrays.conv_weight_grad(*wide(x, grad_y), w, 1)) <= 1e-6


@st.composite
def geometries(draw):
    """Any geometry of 1 to 3 axes, with one or four channels in a group."""
    rank = draw(st.integers(1, 3))
    upto = [5, 3, 2][rank - 1]
    axes = [draw(axes_of(upto)) for _ in range(rank)]
    spatial, *settings_of = zip(*axes)
    groups, (channels, filters) = draw(st.integers(1, 3)), draw(st.sampled_from([(1, 3), (4, 4)]))
    x_shape = (draw(st.integers(1, 3)), *spatial, groups * channels)
    return x_shape, groups * filters, Window(*settings_of), groups


@st.composite
def axes_of(draw, upto):
    size, stride, dilation = draw(st.integers(1, upto)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    extent = (size - 1) * dilation + 1
    before, after = (draw(st.integers(0, min(2, extent - 1))) for _ in range(2))
    length = max(1, extent - before - after) + draw(st.integers(0, upto + 2))
    return length, size, stride, (before, after), dilation


@given(case=geometries())
@settings(max_examples=20)
def test_any_geometry(gpu, case):
    pairs = single(gpu, *case)
    assert worst(pairs) <= 1e-5
    x, weight, _, grad_y = wide(*problem(*case))
    y = arrays.conv(x, weight, None, *case[2:])
    size = 1 + np.linalg.norm(y) * np.linalg.norm(grad_y)
    for (grad, _), given_to in zip(pairs[1:], (x, weight)):  # adjoints: <conv x, g> = <x, conv^T g>
        assert abs(np.vdot(grad.get(), given_to) - np.vdot(y, grad_y)) <= 1e-5 * size


# --- bias, ReLU and pool at the end of the product, and undone at the start of those of the gradients ---

BLOCKS = [
    ((2, 9, 7, 1), 8, SAME),
    ((1, 7, 8, 8), 16, VALID),
    ((2, 7, 5, 5), 7, window((2, 3), padding=((1, 0),))),
]


@pytest.mark.parametrize(("relu", "pool"), ENDS)
@pytest.mark.parametrize("case", BLOCKS, ids=str)
def test_blocks(gpu, case, relu, pool):
    pairs = fused(gpu, *case, relu, pool)
    assert worst(pairs) <= 1e-6
    if pool:
        np.testing.assert_array_equal(pairs[1][0].get(), pairs[1][1])


@pytest.mark.parametrize("filters", [8, 16, 32, 64])
def test_pools_of_the_largest_tiles(gpu, filters, monkeypatch):
    monkeypatch.setattr(conv_plan, "ENOUGH", 1)
    pairs = fused(gpu, (3, 11, 13, 4), filters, window((1, 2)), True, True)
    assert worst(pairs[:2]) <= 1e-6


@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_of_equals_the_first_wins_and_nan_before_all(gpu, relu, tf32):
    x = np.random.default_rng(0).integers(-1, 2, (2, 8, 8, 8)).astype(np.float32)  # many equals
    x[0, 3, 2, 0] = x[0, 0, :2, 3] = np.nan
    weight, bias = np.eye(8, 16, dtype=np.float32)[None, None], np.zeros(16, np.float32)
    w = window((1, 1))
    with tn.kernels.precision("tf32" if tf32 else "fp32"):
        y, where = conv_block(*on_card(gpu, x, weight, bias), w, 1, relu, True)
    truth, place = blocks.conv_block(reference, *wide(x, weight, bias), w, 1, relu, True)
    np.testing.assert_array_equal(y.get(), truth)
    np.testing.assert_array_equal(where.get(), place)
    assert where.dtype == np.uint8 and np.isnan(truth).sum() == 32


@pytest.mark.parametrize(
    "needs", [(True, False, False), (False, True, False), (False, False, True), (False, False, False)]
)
def test_only_what_is_needed(gpu, needs):
    x, weight, _, grad_y = on_card(gpu, *problem((2, 9, 7, 1), 8, SAME))
    every = conv_block_backward(grad_y, x, weight, None, None, SAME, 1, ALL)
    some = conv_block_backward(grad_y, x, weight, None, None, SAME, 1, needs)
    for needed, one, whole in zip(needs, some, every):
        assert (one is not None) == needed
        assert one is None or relative_error(one, whole) <= 1e-6


# --- tensor cores ---

TF32_CASES = [((2, 7, 8, 8), 16, SAME), ((1, 6, 9, 9), 33, VALID), ((1, 9, 8, 32), 40, window((3, 2), 2))]


@pytest.mark.parametrize("case", TF32_CASES, ids=str)
def test_tensor_cores(gpu, case):
    with tn.kernels.precision("tf32"):
        pairs = single(gpu, *case)
    assert worst(pairs) <= 5e-4  # 3e-4; with factors that are cut off instead of rounded it would be 7e-4
    assert relative_error(*pairs[0]) > 1e-5, "these are no products in TF32"


@pytest.mark.parametrize(("relu", "pool"), [(True, False), (True, True)])
def test_blocks_on_tensor_cores(gpu, relu, pool):
    with tn.kernels.precision("tf32"):
        pairs = fused(gpu, *TF32_CASES[0], relu, pool)
    del pairs[1 : 1 + pool]  # of two nearly equal values either may win
    assert worst(pairs) <= 1e-3


def test_an_older_card_computes_in_float32(gpu, monkeypatch):
    monkeypatch.setattr(conv_plan, "tensor_cores", lambda library: False)
    with tn.kernels.precision("tf32"):
        assert worst(single(gpu, *TF32_CASES[0])) <= 1e-6


# --- the same bits ---

bits = {}  # of each case, in the first order of threads that came


@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("case", [*BLOCKS, ((1, 9, 10, 32), 40, SAME)], ids=str)
def test_every_run_gives_the_same_bits(gpu, case, tf32, request):
    with tn.kernels.precision("tf32" if tf32 else "fp32"):
        once, again = ([got.get() for got, _ in fused(gpu, *case, True, True)] for _ in range(2))
    for a, b in zip(once, again):
        np.testing.assert_array_equal(a, b)
    if hasattr(gpu, "transfers"):  # the stand-in: one processor, whatever the order of the threads
        for a, b in zip(bits.setdefault((case, tf32), once), once):
            np.testing.assert_array_equal(a, b)


def test_a_graph_gives_the_same_bits(gpu):
    x, weight, bias = on_card(gpu, *problem((2, 9, 7, 1), 8, SAME)[:3])

    def step():
        y, where = conv_block(x, weight, bias, SAME, 1, True, True)
        return y, *conv_block_backward(y, x, weight, None, where, SAME, 1, ALL)

    eager, graph = step(), Graph(step)
    graph.replay()
    for a, b in zip(eager, graph.result):
        np.testing.assert_array_equal(a.get(), b.get())


# --- what else may come ---


def test_arrays_that_do_not_lie_in_order(gpu):
    x, weight, bias, grad_y = problem((2, 7, 6, 8), 16, SAME)
    turned = gpu.asarray(np.ascontiguousarray(x.transpose(0, 2, 1, 3))).transpose(0, 2, 1, 3)
    backwards = gpu.asarray(np.ascontiguousarray(weight[..., ::-1]))[..., ::-1]
    y = conv(turned, backwards, gpu.asarray(bias), SAME, 1)
    assert relative_error(y, arrays.conv(*wide(x, weight, bias), SAME, 1)) <= 1e-6
    grad = conv_weight_grad(turned, gpu.asarray(grad_y), SAME, 1)
    assert relative_error(grad, arrays.conv_weight_grad(*wide(x, grad_y), SAME, 1)) <= 1e-6


def test_arrays_that_begin_in_the_middle_of_16_bytes(gpu, launched):
    """A card refuses to read 16 bytes at once from there."""
    x, weight, bias, _ = problem((2, 7, 6, 8), 16, SAME)
    shifted = [
        gpu.asarray(np.concatenate([[0], a.ravel()]).astype(np.float32))[1:].reshape(a.shape)
        for a in (x, weight)
    ]
    y = conv(*shifted, gpu.asarray(bias), SAME, 1)
    assert relative_error(y, arrays.conv(*wide(x, weight, bias), SAME, 1)) <= 1e-6
    assert [(defines["WIDTH"], defines["WIDTH_B"]) for defines in launched] == [(1, 1)]
    conv(*on_card(gpu, x, weight, bias), SAME, 1)
    assert launched[-1]["WIDTH"] == launched[-1]["WIDTH_B"] == 4


@pytest.mark.parametrize("x_shape", [(0, 5, 5, 8), (2, 0, 5, 8), (2, 2, 2, 8)], ids=str)
def test_nothing_to_compute(gpu, x_shape):
    """No images, no rows, or images smaller than the window, padding included."""
    w = window((3, 3), padding=((0, 0), (1, 1))) if x_shape[1] == 2 else SAME
    x, weight, _, grad_y = problem(x_shape, 16, w)
    for got, truth in single(gpu, x_shape, 16, w, room=reference):
        assert got.shape == truth.shape
        assert relative_error(got, truth) <= 1e-6
    xg, weight_g, grad_g = on_card(gpu, x, weight, grad_y)
    *_, grad_bias = conv_block_backward(grad_g, xg, weight_g, None, None, w, 1, ALL)
    assert relative_error(grad_bias, grad_y.sum(axis=(0, 1, 2))) <= 1e-6


def test_other_dtypes_go_to_the_whole_array_room(gpu):
    x, weight, bias, grad_y = (a.astype(np.float64) for a in problem((2, 5, 6, 3), 4, SAME))
    y, where = conv_block(*on_card(gpu, x, weight, bias), SAME, 1, True, True)
    truth = blocks.conv_block(arrays, x, weight, bias, SAME, 1, True, True)
    assert y.dtype == np.float64 and relative_error(y, truth[0]) <= 1e-14
    np.testing.assert_array_equal(where.get(), truth[1])
    mixed = conv(gpu.asarray(x), gpu.asarray(weight.astype(np.float32)), None, SAME, 1)
    assert relative_error(mixed, arrays.conv(x, weight, None, SAME, 1)) <= 1e-6
    assert conv_weight_grad(*on_card(gpu, x, grad_y), SAME, 1).dtype == np.float64


def test_more_places_than_a_kernel_can_count(gpu):
    geometry = importlib.import_module("tinynet.kernels.cuda.conv").geometry
    assert geometry((2**19, 64, 63, 1), (3, 3, 1, 8), SAME, 1)[0] == 2**19
    with pytest.raises(ValueError, match=r"^2,147,483,648 places in one convolution.* use fewer images$"):
        geometry((2**19, 64, 64, 1), (3, 3, 1, 8), SAME, 1)


# --- with all steps in sight ---


@pytest.mark.parametrize("case", [CASES[1], CASES[5], CASES[6]], ids=lambda case: f"{case[0]} to {case[1]}")
def test_im2col(gpu, case):
    x_shape, _, w, *groups = case
    groups = groups[0] if groups else 1
    x, weight, bias, grad_y = problem(*case)
    xg, weight_g, bias_g, grad_g = on_card(gpu, x, weight, bias, grad_y)
    columns = im2col.im2col(xg, weight.shape, w, groups)
    np.testing.assert_array_equal(columns.get(), arrays_columns(x, w, groups))
    got = (
        im2col.conv_im2col(xg, weight_g, bias_g, w, groups),
        im2col.conv_input_grad_im2col(grad_g, weight_g, x_shape, w, groups),
        im2col.conv_weight_grad_im2col(xg, grad_g, w, groups),
    )
    for y, (fast, truth) in zip(got, single(gpu, *case)):
        assert relative_error(y, truth) <= 1e-6
        assert relative_error(fast, truth) <= 1e-6


def arrays_columns(x, w, groups):
    """(groups, positions, taps * channels) of the whole-array room's (N, *out, *kernel, C)."""
    windows = arrays.im2col(x, w)
    shape = (math.prod(windows.shape[: 1 + w.rank]), math.prod(w.size), groups, x.shape[-1] // groups)
    return windows.reshape(shape).transpose(2, 0, 1, 3).reshape(groups, shape[0], -1)


# --- the tables of tiles ---


def all_tiles():
    plain = [
        t for table in (conv_plan.TILES, conv_plan.TF32_TILES) for tiles in table.values() for t in tiles
    ]
    return plain, [*conv_plan.FEW.values(), *conv_plan.MANY.values()]


def test_tiles_suit_the_kernels():
    products, weights = all_tiles()
    for tile in products + weights:
        assert tile.threads % 32 == 0 and tile.threads <= 256
        assert {tile.m, tile.n} <= {8, 16, 32, 64, 128, 256}  # powers of two: swizzle() of tile.cuh
        assert 8 * tile.k * (tile.m + tile.n + 16) + tile.slices // 2 * tile.m * tile.n * 4 <= 48 * 1024
    for tile in [t for t in products if t.tf32] + [t for t in conv_plan.MANY.values() if t.n > 8]:
        assert tile.m % (8 * tile.rows) == tile.n % (4 * tile.columns) == tile.k // tile.slices % 8 == 0
    for tile in weights:
        assert tile.k * tile.m % (4 * tile.threads) == 0 and tile.threads % tile.m == 0
