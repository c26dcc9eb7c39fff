"""Which convolutions are done by Winograd's scheme, in which tiles, and the sizes its kernels work by."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from tinynet.kernels.cpu.microkernel import registers
from tinynet.kernels.cpu.points import TAPS
from tinynet.kernels.cpu.tiling import BLOCK, matrix_blocks
from tinynet.kernels.cpu.transform import ADD, FINISH, STORE, map_address
from tinynet.kernels.geometry import Window

_BLOCK = 640 * 1024  # bytes of V and M in a block
_FORWARD = {"input": STORE, "filter": STORE, "output": FINISH}  # the maps of a pass, and how they end
_BACK = {"input": STORE, "filter": STORE, "output_back": STORE, "input_back": ADD, "filter_back": ADD}
_WORTH = {2: 512, 4: 256}  # channels times filters; with fewer, direct sums are as fast


class Sizes(NamedTuple):
    """What the kernels need to know of one shape."""

    side: int  # of the square of outputs that a tile makes
    places: int  # of the square of inputs that it sees: (side + 2)^2
    rows: int  # of tiles in an image
    columns: int
    channels: int
    filters: int
    per_block: int  # rows of tiles in a block
    input_map: int = 0  # addresses of the maps, 0 for those that the pass does not need
    filter_map: int = 0
    output_map: int = 0
    output_back_map: int = 0
    input_back_map: int = 0
    filter_back_map: int = 0


class Plan(NamedTuple):
    """Sizes and addresses of one shape, and the register tiles of its three products."""

    sizes: Sizes
    head: np.ndarray  # place of the input in its padded copy, as in plan_table.HEAD
    grad_head: np.ndarray  # the same for the output gradient, which has no margin
    forward: np.ndarray  # blocks of V @ U, as in tiling.BLOCK
    weights: np.ndarray  # of V^T @ dM
    back: np.ndarray  # of dM @ U^T


def fits(spatial: tuple[int, ...], channels: int, filters: int, window: Window, groups: int) -> bool:
    """Whether a convolution is done this way: 3 x 3 without stride, even outputs, full vectors, and enough
    channels that the maps cost less than the multiplications they save."""
    lanes = registers()[0]
    return (
        (window.size, window.stride, window.dilation, groups) == ((TAPS, TAPS), (1, 1), (1, 1), 1)
        and channels % lanes == filters % lanes == 0
        and all(n > 0 and n % 2 == 0 for n in window.output_shape(spatial))
        and channels * filters >= _WORTH[side_for(spatial, window)]
    )


def side_for(spatial: tuple[int, ...], window: Window) -> int:
    """4 where the outputs are whole tiles of that side, else 2."""
    return 2 if any(n % 4 for n in window.output_shape(spatial)) else 4


@functools.lru_cache(maxsize=512)
def plan_tiles(spatial: tuple[int, ...], channels: int, filters: int, window: Window, back: bool) -> Plan:
    """The plan for images of that shape, forward or on the way back: what only the other one needs
    is not compiled."""
    side = side_for(spatial, window)
    rows, columns = (n // side for n in window.output_shape(spatial))
    height, width = window.padded_shape(spatial)
    (top, _), (left, _) = window.padding
    places = (side + TAPS - 1) ** 2
    per_block = _rows_in_block(rows, _BLOCK // (4 * places * (channels + filters)) // columns)
    needed = _BACK if back else _FORWARD
    maps = {f"{kind}_map": map_address(side, kind, end) for kind, end in needed.items()}
    tiles = per_block * columns
    return Plan(
        Sizes(side, places, rows, columns, channels, filters, per_block, **maps),
        _head((top, left * channels), (height, width * channels), channels),
        _head((0, 0), (side * rows, side * columns * filters), filters),
        _blocks(0 if back else tiles, filters),
        _blocks(channels if back else 0, filters),
        _blocks(tiles if back else 0, channels),
    )


def _rows_in_block(rows: int, most: int) -> int:
    """As many rows of tiles as may be in a block such that whole images, or equal parts of one, fill it: what
    is left empty is multiplied all the same."""
    return max(n for n in range(1, max(most, 1) + 1) if n % rows == 0 or rows % n == 0)


def _head(before: tuple[int, int], padded: tuple[int, int], channels: int) -> np.ndarray:
    return np.array([0, *before, 1, *padded, *(0,) * 8, channels])


def _blocks(rows: int, columns: int) -> np.ndarray:
    """The tiles of a matrix of that size, as in tiling.BLOCK; none if it has no rows."""
    blocks = matrix_blocks(rows, columns, rows) if rows else []
    return np.array(blocks, np.int64).reshape(-1, len(BLOCK))
