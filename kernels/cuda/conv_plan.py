"""How large the tiles of a convolution are: what conv.cu and conv_weight.cu are compiled with.

A large tile needs each number from memory less often; small ones leave no part of the card without work. No
tile in these tables takes more registers than a thread has: what does not fit would be kept in slow memory.
"""

from __future__ import annotations

import math
import sys
from typing import Any, NamedTuple

from tinynet.kernels.cuda.matmul import tensor_cores

ENOUGH = 264  # blocks: two for each multiprocessor of an H200
SHARES = 528  # blocks that a sum over all positions is shared out to. The same on every card: the same bits


class Tile(NamedTuple):
    """Rows, columns and depth of a tile, the sums of one thread, into how many slices its depth is cut, and
    whether tensor cores multiply it: tile.cuh explains them.
    """

    m: int
    n: int
    k: int
    rows: int
    columns: int
    slices: int = 1
    tf32: bool = False

    @property
    def threads(self) -> int:
        """Of a block."""
        return self.m // self.rows * (self.n // self.columns) * self.slices

    @property
    def defines(self) -> dict[str, int]:
        """What tile.cuh leaves open, for the compiler."""
        names = ("TILE_M", "TILE_N", "TILE_K", "ROWS", "COLUMNS", "SLICES", "TF32")
        return dict(zip(names, map(int, self)))

    def grid(self, rows: int, columns: int) -> tuple[int, int]:
        """How many tiles cover a matrix."""
        return -(-rows // self.m), -(-columns // self.n)


# Tiles of a product, from large to small, by the most columns that they are meant for.
TILES = {
    8: [Tile(256, 8, 8, 4, 4), Tile(128, 8, 8, 4, 4), Tile(64, 8, 8, 4, 4)],
    16: [Tile(128, 16, 16, 4, 4), Tile(64, 16, 16, 4, 4)],
    32: [Tile(128, 32, 16, 8, 4), Tile(64, 32, 16, 4, 4), Tile(32, 32, 16, 4, 4)],
    math.inf: [
        Tile(128, 64, 16, 8, 4),
        Tile(64, 64, 16, 8, 4),
        Tile(64, 32, 16, 4, 4),
        Tile(32, 32, 16, 4, 4),
    ],
}
# The same on tensor cores: a warp has 8 * rows x 4 * columns.
TF32_TILES = {
    16: [Tile(128, 16, 16, 4, 4, 1, True), Tile(64, 16, 16, 4, 4, 1, True)],
    32: [Tile(128, 32, 16, 4, 4, 1, True), Tile(64, 32, 16, 4, 4, 1, True), Tile(32, 32, 16, 4, 4, 1, True)],
    math.inf: [
        Tile(128, 64, 16, 4, 8, 1, True), Tile(64, 64, 16, 4, 8, 1, True), Tile(64, 32, 16, 4, 4, 1, True),
        Tile(32, 32, 16, 4, 4, 1, True),
    ],
}  # fmt: skip
# Gradients in the weight have few rows (up to 16, from one channel) or many, and positions to slice.
FEW = {8: Tile(16, 8, 64, 4, 4, 16), 16: Tile(16, 16, 32, 4, 4, 8), 32: Tile(16, 32, 32, 4, 4, 4)}
FEW[math.inf] = Tile(16, 64, 32, 4, 4, 2)
MANY = {8: Tile(32, 8, 64, 4, 4, 8), 16: Tile(32, 16, 32, 4, 4, 4), 32: Tile(64, 32, 16, 8, 4, 2)}
MANY[math.inf] = Tile(64, 64, 16, 8, 4)


def product_tile(
    rows: int, columns: int, depth: int, channels: int, others: int, width: int, strided: bool
) -> Tile:
    """The largest tile that gives every multiprocessor work in ``others`` products of this size.

    ``depth`` is the length of the sums, of which ``channels`` belong to each tap, read ``width`` at a time.
    """
    on_tensor_cores = columns > 8 and channels >= 8 and tensor_cores(sys.modules["cupy"])
    choice = _up_to(columns, TF32_TILES if on_tensor_cores else TILES)
    if strided:
        choice = [_shallow(t) if t.n <= 16 else t for t in choice if t.rows == 4 and t.m <= 128]
    tile = next((t for t in choice if math.prod(t.grid(rows, columns)) * others >= ENOUGH), choice[-1])
    if width == 1 and not on_tensor_cores:
        return tile._replace(k=9 if depth % 9 == 0 else 8)  # a thread reads all k of its rows by itself
    return tile


def weight_tile(rows: int, columns: int, channels: int, width: int) -> Tile:
    """The tile of a gradient in the weight, with columns that are read ``width`` at a time."""
    few = rows <= 16 and (width == 4 or columns <= 32)
    tile = _up_to(columns, FEW if few else MANY)
    if tile.slices == 1 and width == 1:
        tile = _shallow(tile)
    suits = not few and columns > 8 and channels >= 8
    return tile._replace(tf32=suits and tensor_cores(sys.modules["cupy"]))


def stretch_of(positions: int, tiles: int, depth: int) -> int:
    """How many positions one block sums, a multiple of ``depth``, so that about SHARES blocks have work."""
    blocks = max(1, min(SHARES // tiles, positions // (4 * depth)))
    return max(1, -(-positions // (blocks * depth))) * depth


def _shallow(tile: Tile) -> Tile:
    """The same tile with few values on their way at a time: strides and single reads take registers."""
    return tile._replace(k=8)


def _up_to(columns: int, table: dict) -> Any:
    return next(choice for most, choice in table.items() if columns <= most)
