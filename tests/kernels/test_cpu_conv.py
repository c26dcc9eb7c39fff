"""What is special to the register tiles of convolution and matrix products: edges, threads, memory bounds."""

import ctypes
import mmap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinynet as tn
from tinynet.kernels import Window, arrays, cpu
from tinynet.kernels.cpu.microkernel import registers
from tinynet.kernels.cpu.plan import merge
from tinynet.kernels.cpu.tiling import column_blocks, tile_form


def close(got, want, tolerance=1e-5):
    """Norm-wise relative error of a float32 result against a float64 one."""
    assert got.shape == want.shape and got.dtype == np.float32
    assert np.linalg.norm(got - want) <= tolerance * max(np.linalg.norm(want), 1e-6)


def check_all_three(shape, kernel, filters, stride=1, padding=0, dilation=1, groups=1, seed=0):
    """Forward, input and weight gradient of one geometry against the float64 whole-array room."""
    rng, rank = np.random.default_rng(seed), len(kernel)
    window = Window(kernel, (stride,) * rank, ((padding, padding),) * rank, (dilation,) * rank)
    x = rng.standard_normal(shape).astype(np.float32)
    w = rng.standard_normal((*kernel, shape[-1] // groups, filters)).astype(np.float32)
    b = rng.standard_normal(filters).astype(np.float32)
    x64, w64 = x.astype(np.float64), w.astype(np.float64)
    y = arrays.conv(x64, w64, b.astype(np.float64), window, groups)
    g = rng.standard_normal(y.shape).astype(np.float32)
    g64 = g.astype(np.float64)
    close(cpu.conv(x, w, b, window, groups), y)
    close(
        cpu.conv_input_grad(g, w, x.shape, window, groups),
        arrays.conv_input_grad(g64, w64, x.shape, window, groups),
    )
    close(cpu.conv_weight_grad(x, g, window, groups), arrays.conv_weight_grad(x64, g64, window, groups))


@pytest.mark.parametrize(
    "channels, filters", [(1, 1), (3, 7), (8, 8), (9, 15), (16, 17), (31, 33), (64, 65), (130, 48)]
)
def test_channels_beside_the_register_widths(channels, filters):
    check_all_three((2, 5, 6, channels), (3, 3), filters, padding=1)


@pytest.mark.parametrize("width", [1, 2, 13, 14, 15, 27, 28, 29, 57])
def test_rows_beside_the_tile_heights(width):
    check_all_three((1, 3, width, 4), (3, 1), 16, padding=1)


@pytest.mark.parametrize("channels", [4, 8, 12, 16, 24, 48, 64, 80])  # of whole vectors or not
@pytest.mark.parametrize("stride, padding, dilation", [(1, 1, 1), (2, 0, 1), (1, 2, 2), (3, 1, 2)])
@pytest.mark.parametrize(
    "shape, kernel",
    [((3, 9, 11), (3, 3)), ((2, 7, 33), (5, 2)), ((3, 40), (5,)), ((2, 5, 6, 7), (3, 2, 3)),
     ((1, 13, 33), (7, 7)), ((2, 71), (33,))],
)  # fmt: skip
def test_channels_that_do_not_mix(shape, kernel, stride, padding, dilation, channels):
    if all(n + 2 * padding > (k - 1) * dilation for n, k in zip(shape[1:], kernel, strict=True)):
        check_all_three((*shape, channels), kernel, channels, stride, padding, dilation, groups=channels)


@settings(max_examples=15)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.integers(1, 4),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 3),
    channels=st.integers(1, 5),
    groups=st.integers(1, 3),
)
def test_any_geometry(size, kernel, stride, padding, dilation, channels, groups):
    extent = [(k - 1) * dilation + 1 for k in kernel]
    if any(s + 2 * padding < e for s, e in zip(size, extent)):
        return
    check_all_three((2, *size, channels * groups), kernel, 3 * groups, stride, padding, dilation, groups)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("rest", [0, 1])  # a last column of y that belongs to no window
@pytest.mark.parametrize(
    "spatial, kernel, inputs, filters",
    [((5,), (2,), 3, 4), ((3, 7), (2, 2), 17, 5), ((4, 33), (3, 2), 5, 16), ((2, 13), (1, 3), 16, 33),
     ((2, 3, 5), (2, 2, 2), 4, 3), ((6, 1), (2, 4), 7, 24), ((3, 4), (3, 1), 2, 9)],
)  # fmt: skip
def test_windows_side_by_side(spatial, kernel, inputs, filters, rest, with_bias):
    rng, rank = np.random.default_rng(0), len(kernel)
    window = Window(kernel, kernel, ((0, 0),) * rank, (1,) * rank)
    larger = [n * k for n, k in zip(spatial, kernel)]
    larger[-1] += rest if kernel[-1] > 1 else 0
    x = rng.standard_normal((2, *spatial, inputs)).astype(np.float32)
    w = rng.standard_normal((*kernel, inputs, filters)).astype(np.float32).swapaxes(-1, -2)
    b = rng.standard_normal(filters).astype(np.float32)
    y_shape = (2, *larger, filters)
    y = cpu.conv_transpose(x, w, b if with_bias else None, y_shape, window, 1)
    want = arrays.conv_input_grad(x.astype(np.float64), w.astype(np.float64), y_shape, window, 1)
    close(y, want + b if with_bias else want)


@pytest.mark.parametrize("needs_input", [True, False])
@pytest.mark.parametrize("kernel, stride", [(1, 1), (2, 2), (3, 1)])
@pytest.mark.parametrize("filters", [16, 17, 32])
def test_gradients_seen_where_they_lie_or_in_a_copy(filters, kernel, stride, needs_input):
    """Images of several bands; the sums for the bias are taken from the same rows as the weights'."""
    rng, window = np.random.default_rng(0), Window((kernel,) * 2, (stride,) * 2, ((0, 0),) * 2, (1, 1))
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((3, 40, 26, 9), (kernel, kernel, 9, filters)))
    g = rng.standard_normal((3, *window.output_shape((40, 26)), filters)).astype(np.float32)
    kept = g.copy()
    back = cpu.conv_block_backward(g, x, w, None, None, window, 1, (needs_input, True, True))
    x, w, g64 = (a.astype(np.float64) for a in (x, w, g))
    assert np.array_equal(g, kept) and (back[0] is not None) == needs_input
    if needs_input:
        close(back[0], arrays.conv_input_grad(g64, w, x.shape, window, 1))
    close(back[1], arrays.conv_weight_grad(x, g64, window, 1))
    close(back[2], g64.sum(axis=(0, 1, 2)))


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_fewer_images_than_threads_are_cut_into_bands(n):
    check_all_three((n, 12, 10, 3), (3, 3), 8, stride=2, padding=1)


@pytest.mark.parametrize(
    "m, k, n", [(1, 40000, 1), (37, 300, 5), (14, 100, 32), (15, 128, 33), (300, 17, 130)]
)
def test_products_at_the_edges_of_tiles(m, k, n):
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in ((m, k), (k, n)))
    want = a.astype(np.float64) @ b
    for left in (a, np.asfortranarray(a), np.repeat(a, 2, axis=1)[:, ::2]):
        for right in (b, np.asfortranarray(b), np.repeat(b, 2, axis=1)[:, ::2]):
            close(cpu.matmul(left, right), want)


@pytest.mark.parametrize("features", [1, 3, 8, 10, 64, 130])
@pytest.mark.parametrize("rows", [1, 7, 257, 1024])
def test_bias_gradient_folds_any_number_of_rows(rows, features):
    g = np.random.default_rng(0).standard_normal((rows, features)).astype(np.float32)
    close(cpu.bias_grad(g), g.astype(np.float64).sum(axis=0))


@pytest.mark.parametrize("side, channels", [(12, (5, 20)), (12, (32, 32)), (6, (32, 32))])
def test_results_repeat_bit_for_bit_and_hold_for_one_and_two_threads(side, channels):
    """By direct sums, and by Winograd's in tiles of 4 x 4 and of 2 x 2."""
    rng, window = np.random.default_rng(0), Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    x, g = (rng.standard_normal((9, side, side, c)).astype(np.float32) for c in channels)
    before = tn.threads()
    try:
        for threads in sorted({1, before}):
            tn.threads(threads)
            first = cpu.conv_weight_grad(x, g, window, 1)
            assert all(np.array_equal(first, cpu.conv_weight_grad(x, g, window, 1)) for _ in range(5))
            close(first, arrays.conv_weight_grad(x.astype(np.float64), g.astype(np.float64), window, 1))
    finally:
        tn.threads(before)


def at_a_guard_page(array):
    """A copy of the array that ends where readable memory ends: one element further is a crash."""
    page = mmap.PAGESIZE
    pages = -(-array.nbytes // page)
    region = mmap.mmap(-1, (pages + 1) * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(region))
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + pages * page), page, 0) == 0
    copy = np.frombuffer(region, array.dtype, array.size, pages * page - array.nbytes).reshape(array.shape)
    copy[...] = array
    return copy


@pytest.mark.parametrize(
    "channels, filters, groups",
    [(1, 3, 1), (3, 10, 1), (8, 24, 1), (16, 16, 1), (17, 33, 1), (24, 24, 24), (32, 32, 32), (32, 32, 2)],
)
def test_nothing_is_read_beyond_an_array(channels, filters, groups):
    rng, window = np.random.default_rng(0), Window((3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1))
    x = at_a_guard_page(rng.standard_normal((2, 6, 7, channels)).astype(np.float32))
    w = at_a_guard_page(rng.standard_normal((3, 3, channels // groups, filters)).astype(np.float32))
    g = at_a_guard_page(rng.standard_normal((2, 4, 5, filters)).astype(np.float32))
    a, b = at_a_guard_page(rng.standard_normal((200, 130)).astype(np.float32)), at_a_guard_page(
        rng.standard_normal((130, filters)).astype(np.float32)
    )  # fmt: skip
    close(
        cpu.conv(x, w, None, window, groups),
        arrays.conv(x.astype(np.float64), w.astype(np.float64), None, window, groups),
    )
    cpu.conv_input_grad(g, w, x.shape, window, groups)
    cpu.conv_weight_grad(x, g, window, groups)
    close(cpu.matmul(a, b), a.astype(np.float64) @ b)
    cpu.bias_grad(g)


def test_values_that_are_not_finite_pass_through():
    window = Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    x = np.zeros((1, 6, 6, 2), np.float32)
    x[0, 0, 0, 0], x[0, 5, 5, 1] = np.nan, np.inf
    w = np.ones((3, 3, 2, 4), np.float32)
    with np.errstate(invalid="ignore"):
        got, want = cpu.conv(x, w, None, window, 1), arrays.conv(x, w, None, window, 1)
    assert np.array_equal(got, want, equal_nan=True) and np.isnan(got).any() and np.isinf(got).any()


def test_a_tile_never_holds_more_than_the_registers_allow():
    for rows in (1, 2, 7, 13, 14, 26, 28, 64, 500):
        for columns in (1, 8, 10, 16, 24, 32, 48, 64, 130):
            r, v, _ = tile_form(rows, columns)
            assert r <= rows and r * v + v + 1 <= registers()[1]
            assert sum(width for _, width, *_ in column_blocks(rows, columns)) == columns


def test_segments_are_joined_only_when_all_can_be():
    assert merge([(0, 0), (4, 40), (8, 80)], 4, 10) == ([(0, 0)], 12)
    assert merge([(0, 0), (4, 40), (100, 80), (104, 120)], 4, 10) == ([(0, 0), (100, 80)], 8)
    assert merge([(0, 0), (4, 40), (100, 80)], 4, 10) == ([(0, 0), (4, 40), (100, 80)], 4)
