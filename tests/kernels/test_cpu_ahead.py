"""What a tile asks for while it is at work because it comes next: all of it, once, and to no other effect."""

import numba
import numpy as np
import pytest

from tinynet.kernels import Window, arrays, cpu
from tinynet.kernels.cpu.bands import what_follows, what_remains
from tinynet.kernels.cpu.loops import LINE, call_again, call_loop, write_numbers
from tinynet.kernels.cpu.microkernel import ARGUMENTS, MOVING, registers, tile_address


@numba.njit
def _asked(one, other, image, band, bands, tiles):
    """First address and number of bytes for each tile."""
    ahead = what_follows(one, other, image, band, bands, tiles)
    asked = np.empty((tiles, 2), np.int64)
    for tile in range(tiles):
        asked[tile] = ahead[0][0], ahead[2]
        ahead = what_remains(ahead)
    return asked


@pytest.mark.parametrize("tiles", [7, 60])
@pytest.mark.parametrize("band", [0, 1, 2])
def test_the_next_band_of_both_is_asked_for(band, tiles):
    memory = np.zeros(4000, np.float32)
    one, other = memory[:1440].reshape(3, 1, 12, 40), memory[2000:3260].reshape(3, 1, 6, 70)
    times, wanted = np.zeros((2, memory.nbytes), int)
    for first, some in _asked(one, other, 1, band, 3, tiles):
        times[first - memory.ctypes.data :][:some] += 1
    for start, image in (0, 4 * 480), (4 * 2000, 4 * 420):
        wanted[start + image + image * (band + 1) // 3 : start + image + image * (band + 2) // 3] = 1
    assert times.max() == 1 and times[wanted == 1].sum() > (1 - 2 / tiles) * wanted.sum()
    assert times[wanted == 0].sum() <= wanted.sum() / tiles  # the last tile of one array goes on behind it


@numba.njit
def _tiles(tile, numbers, moved):
    """The same tile by both calls; ``moved`` takes the places that MOVING tells."""
    call_loop(tile, numbers)
    row = write_numbers(numbers)
    call_again(tile, row, MOVING, moved)


@pytest.mark.parametrize("some", [0, 1, 3 * LINE, 6 * LINE, 6 * LINE + 1, 1 << 20])
@pytest.mark.parametrize("segments", [2, 0])
def test_a_tile_is_the_same_whatever_it_asks_for(segments, some):
    lanes, rows, steps = registers()[0], 3, 3
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in ((rows, 2 * steps), (2 * steps, lanes)))
    start, listed = np.ones(lanes, np.float32), np.array([[0, 0], [steps, steps * lanes]])
    out = np.full((2, rows, lanes), np.nan, np.float32)
    numbers = dict.fromkeys(ARGUMENTS, 0) | {
        "a": a.ctypes.data, "a_row": 2 * steps, "a_step": 1, "b": b.ctypes.data, "b_step": lanes,
        "segments": listed.ctypes.data, "n_segments": segments, "steps": steps, "start": start.ctypes.data,
        "out": out[0].ctypes.data, "out_row": lanes, "columns": lanes, "ahead": a.ctypes.data, "some": some,
    }  # fmt: skip
    moved = numbers["a"], out[1].ctypes.data, 0, numbers["ahead"]
    _tiles(tile_address(rows, 1, lanes, False), tuple(numbers.values()), moved)
    want = 1 + (a.astype(np.float64) @ b if segments else np.zeros((rows, lanes)))
    assert np.array_equal(out[0], out[1]) and np.abs(out[0] - want).max() < 1e-5


@pytest.mark.parametrize("kernel, stride", [(1, 2), (2, 3), (3, 2)])
def test_pixels_that_no_window_sees(kernel, stride):
    """Their jobs have no segments, so their tiles no step in which to ask."""
    window = Window((kernel,) * 2, (stride,) * 2, ((0, 0),) * 2, (1, 1))
    rng = np.random.default_rng(0)
    grad, weight = (rng.standard_normal(s).astype(np.float32) for s in ((2, 4, 5, 8), (kernel, kernel, 6, 8)))
    shape = 2, 4 * stride + 1, 5 * stride + 1, 6
    if window.output_shape(shape[1:3]) != (4, 5):
        shape = 2, 3 * stride + kernel, 4 * stride + kernel, 6
    want = arrays.conv_input_grad(grad.astype(np.float64), weight, shape, window, 1)
    got = cpu.conv_input_grad(grad, weight, shape, window, 1)
    assert np.abs(got - want).max() < 1e-5 * np.abs(want).max()
