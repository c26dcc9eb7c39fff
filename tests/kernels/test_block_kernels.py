"""Blocks: every room computes in one go what the layers compute one after the other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import (
    DTYPES,
    EPS,
    ROOMS,
    TESTED,
    Geometry,
    assert_same,
    astype,
    expected,
    geometries,
    normal,
    run,
)
from numeric import assert_gradients

from tinynet import kernels
from tinynet.kernels import Window, blocks
from tinynet.kernels.cpu.halving import LARGEST, row_address
from tinynet.kernels.cpu.pool import _max_pool_halving

ALL = (True, True, True)
NONE = ((0, 0), (0, 0))
SAME = ((1, 1), (1, 1))
THREE = Window((3, 3), (1, 1), NONE, (1, 1))


def conv_arguments(geometry, relu, pool, with_bias, dtype):
    """Arguments of conv_block and of its backward; what the backward takes over is from the reference."""
    x, weight, bias, _ = geometry.arrays(dtype)
    shared = geometry.window, geometry.groups
    forward = x, weight, bias if with_bias else None, *shared, relu, pool
    y, *where = expected("conv_block", *forward)
    saved = (astype(y, dtype) if relu and not pool else None, *(where or [None]))
    return forward, (normal(*y.shape, dtype=dtype, seed=9), x, weight, *saved, *shared, ALL)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", TESTED)
@given(geometry=geometries(), relu=st.booleans(), pool=st.booleans(), with_bias=st.booleans())
@settings(max_examples=40)
def test_conv_block_agrees_with_the_reference(room, dtype, geometry, relu, pool, with_bias):
    pool = pool and geometry.window.rank == 2 and min(geometry.y_shape[1:3]) >= 2
    forward, backward = conv_arguments(geometry, relu, pool, with_bias, dtype)
    assert_same(run(room, "conv_block", *forward), expected("conv_block", *forward), dtype)
    wanted = expected("conv_block_backward", *backward)
    assert_same(run(room, "conv_block_backward", *backward), wanted, dtype)


# Images and filters that straddle what a fused kernel may compute at a time, with rests in every direction.
SIZES = [
    ((2, 28, 28, 1), 8), ((1, 27, 27, 3), 16), ((3, 5, 7, 16), 17), ((1, 26, 26, 8), 64), ((2, 4, 5, 33), 1),
    ((5, 14, 14, 8), 16), ((1, 4, 70, 2), 130), ((1, 70, 4, 5), 24), ((2, 6, 36, 16), 8),
]  # fmt: skip
WIDE = {(2, 18, 22, 16): 32, (1, 16, 16, 32): 16}  # of many channels: by Winograd's scheme


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", ROOMS[1:])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("padding", [NONE, SAME, ((2, 0), (0, 1))])
@pytest.mark.parametrize("shape, filters", SIZES)
def test_conv_block_of_many_sizes_is_its_layers_one_by_one(room, dtype, relu, padding, shape, filters):
    window = THREE._replace(padding=padding)
    x, weight, bias, _ = Geometry(shape, window, filters, 1).arrays(dtype)
    y, where = run(room, "conv_block", x, weight, bias, window, 1, relu, True)
    grad_y = normal(*y.shape, dtype=dtype, seed=9)
    grads = run(room, "conv_block_backward", grad_y, x, weight, None, where, window, 1, ALL)
    images = run(room, "conv", x, weight, bias, window, 1)[0]
    images = np.maximum(images, 0) if relu else images
    wanted, winners = run(room, "max_pool", images, blocks.HALVING)
    np.testing.assert_array_equal(y, wanted)
    np.testing.assert_array_equal(where, np.where(relu & (wanted <= 0), blocks.CLOSED, winners))
    (back,) = run(room, "max_pool_backward", grad_y, winners, images.shape, blocks.HALVING)
    back = back * (images > 0) if relu else back
    (grad_x,) = run(room, "conv_input_grad", back, weight, x.shape, window, 1)
    (grad_weight,) = run(room, "conv_weight_grad", x, back, window, 1)
    assert_same(grads, [grad_x, grad_weight, back.sum(axis=(0, 1, 2), dtype=dtype)], dtype)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("channels", [4, 8, 12, 16, 24, 48, 64, 80])  # of whole vectors or not
@pytest.mark.parametrize("height, width", [(2, 2), (5, 4), (6, 15), (9, 26), (4, 61)])
def test_channels_that_do_not_mix_are_pooled_alike(height, width, channels, relu):
    window = THREE._replace(padding=SAME)
    geometry = Geometry((2, height, width, channels), window, channels, channels)
    x, weight, bias, _ = geometry.arrays(np.float32)
    y, where = kernels.conv_block(x, weight, bias, window, channels, relu, True)
    images = kernels.conv(x, weight, bias, window, channels)
    wanted, winners = kernels.max_pool(np.maximum(images, 0) if relu else images, blocks.HALVING)
    np.testing.assert_array_equal(y, wanted)
    np.testing.assert_array_equal(where, np.where(relu & (wanted <= 0), blocks.CLOSED, winners))


@pytest.mark.parametrize("room", ROOMS)
def test_conv_block_by_eye(room):
    x = np.array(
        [[1, 5, -2, -1], [3, 4, -8, -1], [0, 0, 7, 7], [0, 0, 7, 7]], np.float32
    ).reshape(1, 4, 4, 1)  # fmt: skip
    weight, bias = np.ones((1, 1, 1, 1), np.float32), np.zeros(1, np.float32)
    window = Window((1, 1), (1, 1), NONE, (1, 1))
    y, where = run(room, "conv_block", x, weight, bias, window, 1, True, True)
    assert y.ravel().tolist() == [5, 0, 0, 7] and where.dtype == np.uint8
    assert where.ravel().tolist() == [1, 4, 4, 0]  # of four sevens the first wins; 4: nothing came through
    y, where = run(room, "conv_block", x, weight, bias, window, 1, False, True)
    assert y.ravel().tolist() == [5, -1, 0, 7] and where.ravel().tolist() == [1, 1, 0, 0]
    grad_y = np.array([1, 2, 3, 4], np.float32).reshape(1, 2, 2, 1)
    closed = np.array([1, 4, 4, 0], np.uint8).reshape(grad_y.shape)
    grads = run(room, "conv_block_backward", grad_y, x, weight, None, closed, window, 1, ALL)
    assert grads[0][0, :, :, 0].tolist() == [[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 4, 0], [0, 0, 0, 0]]
    assert (grads[1].item(), grads[2].item()) == (5 * 1 + 7 * 4, 1 + 4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", ROOMS)
def test_nan_and_infinities_pass_as_in_numpy(room, dtype):
    x = normal(1, 6, 8, 1, dtype=dtype)
    x[0, 0, 0], x[0, 2, 3], x[0, 4, 5] = np.nan, np.inf, -np.inf
    weight, bias = np.ones((1, 1, 1, 17), dtype), np.zeros(17, dtype)
    window = Window((1, 1), (1, 1), NONE, (1, 1))
    pools = x.reshape(1, 3, 2, 4, 2, 1).max(axis=(2, 4)).repeat(17, axis=-1)
    for relu in (True, False):
        y, where = run(room, "conv_block", x, weight, bias, window, 1, relu, True)
        np.testing.assert_array_equal(y, np.maximum(pools, 0) if relu else pools)
        assert (where[0, 0, 0] == (blocks.CLOSED if relu else 0)).all()  # NaN wins, and closes the ReLU
        assert (where[0, 1, 1] == 1).all()
    (y,) = run(room, "conv_block", x, weight, bias, window, 1, True, False)
    np.testing.assert_array_equal(y, np.maximum(x, 0).repeat(17, axis=-1))
    wanted = np.maximum(x, 0).reshape(-1, 1)
    (y,) = run(room, "dense", x.reshape(-1, 1), weight[0, 0], bias, True)
    np.testing.assert_array_equal(y, wanted.repeat(17, axis=-1))
    (y,) = run(room, "scale_shift", x, weight[0, 0, 0, :1], bias[:1], True)
    np.testing.assert_array_equal(y.reshape(-1, 1), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("shape, filters", [*SIZES, *WIDE.items()])
def test_a_pool_without_places_has_the_same_values(room, dtype, relu, shape, filters):
    x, weight, bias, _ = Geometry(shape, THREE, filters, 1).arrays(dtype)
    x[:, ::3], bias[::2] = 0, -0.0  # some windows with nothing but zeros, of both signs
    wanted, _ = run(room, "conv_block", x, weight, bias, THREE, 1, relu, True)
    with kernels.use(room):
        y, where = kernels.conv_block(x, weight, bias, THREE, 1, relu, True, places=False)
    assert (where is None) == (room == "fast" and dtype == np.float32)
    np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize("corner", range(4))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.0])
def test_a_pool_without_places_lets_no_nan_or_infinity_get_lost(value, corner):
    x = np.full((4, 6, 16), -1, np.float32)
    x[corner // 2, corner % 2] = x[2, 2] = x[3, 5] = value
    wanted, _ = kernels.max_pool(x[None], blocks.HALVING)
    y, where = np.zeros((2, 3 * 16), np.float32), np.zeros((2, 3 * 16), np.uint8)
    rows = x.reshape(4, 6 * 16), y, where
    _max_pool_halving(*rows, 4, 2, 16, row_address(LARGEST, 16), 1)
    np.testing.assert_array_equal(y.reshape(wanted.shape), wanted)
    assert not where.any()


@pytest.mark.parametrize("room", ROOMS)
def test_what_no_relu_lets_through_has_no_gradient(room):
    geometry = Geometry((2, 5, 6, 3), THREE, 8, 1)
    x, weight, bias, _ = geometry.arrays(np.float32)
    y, where = run(room, "conv_block", x, weight, bias - 1000, THREE, 1, True, True)
    assert not y.any() and (where == blocks.CLOSED).all()
    grads = run(room, "conv_block_backward", np.ones_like(y), x, weight, None, where, THREE, 1, ALL)
    assert not any(grad.any() for grad in grads)


@pytest.mark.parametrize("needs", [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)])
@pytest.mark.parametrize("room", ROOMS)
def test_only_the_gradients_that_are_needed(room, needs):
    needs = tuple(map(bool, needs))
    x, weight, bias, _ = Geometry((2, 5, 6, 3), THREE, 8, 1).arrays(np.float32)
    rows, matrix = normal(5, 3, dtype=np.float32), normal(3, 8, dtype=np.float32)
    with kernels.use(room):
        y, where = kernels.conv_block(x, weight, bias, THREE, 1, True, True)
        calls = [
            (kernels.conv_block_backward, (np.ones_like(y), x, weight, None, where, THREE, 1)),
            (kernels.dense_backward, (normal(5, 8, dtype=np.float32), rows, matrix, None)),
        ]
        for function, args in calls:
            for grad, every, needed in zip(function(*args, needs), function(*args, ALL), needs, strict=True):
                assert (grad is not None) == needed
                if needed:
                    np.testing.assert_array_equal(grad, every)


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("room", ROOMS)
def test_conv_block_backward_is_the_numeric_derivative(room, pool):
    x, weight, bias, _ = Geometry((2, 4, 5, 2), THREE._replace(padding=SAME), 3, 1).arrays(np.float64)
    shared = THREE._replace(padding=SAME), 1
    y, *where = run(room, "conv_block", x, weight, bias, *shared, True, pool)
    grad_y, saved = normal(*y.shape, seed=5), (None, *where) if pool else (y, None)
    grads = run(room, "conv_block_backward", grad_y, x, weight, *saved, *shared, ALL)

    def forward(*inputs):
        return run(room, "conv_block", *inputs, *shared, True, pool)[:1]

    assert_gradients(forward, [x, weight, bias], [grad_y], grads)


# --- dense, normalisation ---


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", TESTED)
@given(
    rows=st.sampled_from([1, 5, 33]), features=st.sampled_from([1, 7, 64]),
    units=st.sampled_from([1, 10, 33]), relu=st.booleans(), with_bias=st.booleans(),
)  # fmt: skip
@settings(max_examples=30)
def test_dense_agrees_with_the_reference(room, dtype, rows, features, units, relu, with_bias):
    x, weight, bias = (normal(*s, dtype=dtype) for s in [(rows, features), (features, units), (units,)])
    forward = x, weight, bias if with_bias else None, relu
    wanted = expected("dense", *forward)
    assert_same(run(room, "dense", *forward), wanted, dtype)
    saved = astype(wanted[0], dtype) if relu else None
    backward = normal(rows, units, dtype=dtype, seed=3), x, weight, saved, ALL
    assert_same(run(room, "dense_backward", *backward), expected("dense_backward", *backward), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", TESTED)
@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=3), features=st.sampled_from([1, 7, 16, 33]),
    relu=st.booleans(),
)  # fmt: skip
@settings(max_examples=30)
def test_normalisation_agrees_with_the_reference(room, dtype, shape, features, relu):
    x = normal(*shape, features, dtype=dtype) * 2 + 3
    weight, bias = normal(features, dtype=dtype, seed=1), normal(features, dtype=dtype, seed=2)
    wanted = expected("norm_block", x, weight, bias, EPS, relu)
    assert_same(run(room, "norm_block", x, weight, bias, EPS, relu), wanted, dtype)
    y, mean, var = (astype(a, dtype) for a in wanted)
    backward = normal(*x.shape, dtype=dtype, seed=3), x, weight, bias, mean, var, EPS, y if relu else None
    assert_same(
        run(room, "norm_block_backward", *backward), expected("norm_block_backward", *backward), dtype
    )
    fixed = x, weight, bias, relu
    assert_same(run(room, "scale_shift", *fixed), expected("scale_shift", *fixed), dtype)


@pytest.mark.parametrize("room", ROOMS)
def test_dense_and_norm_backward_are_the_numeric_derivatives(room):
    x, weight, bias, grad_y = normal(6, 4), normal(4, 3), normal(3), normal(6, 3, seed=3)
    (y,) = run(room, "dense", x, weight, bias, True)
    grads = run(room, "dense_backward", grad_y, x, weight, y, ALL)
    assert_gradients(lambda *inputs: run(room, "dense", *inputs, True), [x, weight, bias], [grad_y], grads)
    weight, bias, grad_y = normal(4, seed=1), normal(4, seed=2), normal(6, 4, seed=3)
    y, mean, var = run(room, "norm_block", x, weight, bias, EPS, True)
    grads = run(room, "norm_block_backward", grad_y, x, weight, bias, mean, var, EPS, y)
    assert_gradients(
        lambda *inputs: run(room, "norm_block", *inputs, EPS, True)[:1], [x, weight, bias], [grad_y], grads
    )


def test_a_file_of_a_room_is_not_taken_for_a_block():
    with kernels.use("numpy"):  # where dense.py holds the matrix product
        assert kernels.dense(np.ones((2, 3)), np.ones((3, 1)), None, True).tolist() == [[3], [3]]


# --- pieces ---


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("axis", [0, 1, 3])
@pytest.mark.parametrize("sizes", [(16, 16), (1, 15, 17), (33,), (0, 40, 3), (2, 2, 2, 2, 12)])
@pytest.mark.parametrize("width", [3, 61])
def test_joining_and_cutting_are_numpys_own(room, dtype, axis, sizes, width):
    """Runs of numbers of all lengths beside that of a vector, in arrays small and large."""
    shape = [2, 33, width, 20]
    parts = [normal(*shape[:axis], n, *shape[axis + 1 :], dtype=dtype, seed=i) for i, n in enumerate(sizes)]
    whole = np.concatenate(parts, axis)
    (joined,) = run(room, "join", axis, *parts)
    np.testing.assert_array_equal(joined, whole)
    for layout in (whole, np.asfortranarray(whole)):
        pieces = run(room, "cut", layout, sizes, axis)
        for piece, part in zip(pieces, parts, strict=True):
            assert piece.flags.c_contiguous and piece.dtype == dtype
            np.testing.assert_array_equal(piece, part)
