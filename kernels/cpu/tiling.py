"""Cutting a matrix into register tiles: which sizes fill the registers and leave the least idle work."""

from __future__ import annotations

from tinynet.kernels.cpu.microkernel import most_rows, registers, tile_address

# Columns of the table of blocks: a range of output columns (of rows as well in a weight gradient), and the
# tile that does it; in a convolution the last is how many more rows of pixels the tile makes.
BLOCK = ("column", "columns", "rows", "address", "row")


def tile_form(rows: int, columns: int, whole: bool = False, step: int = 1) -> tuple[int, int, int]:
    """(rows, vectors, lanes) of the tile that covers ``rows`` x ``columns`` with the least idle work.

    ``whole``: all rows must go into one tile. ``step``: the tile has a multiple of so many rows.
    """
    lanes = registers()[0]
    if columns <= lanes // 2 and lanes > 4:
        lanes //= 2
    vectors = -(-columns // lanes)
    best = None
    for v in range(1, min(vectors, 4) + 1):
        for r in range(rows if whole else step, min(rows, most_rows(v)) + 1, step):
            tiles = -(-rows // r) * -(-vectors // v)
            # a product needs about 8 others under way to hide its latency; loads cost a little beside it
            cost = tiles * (max(r * v, 8) + 0.3 * (r + v))
            if best is None or cost < best[0]:
                best = cost, r, v
    return best[1], best[2], lanes


def paired_columns(channels: int, most: int) -> int:
    """How many columns a paired tile has, at most so many vectors; 0 where channels are no whole vectors."""
    lanes = _paired_lanes(channels)
    return lanes * max((v for v in range(1, most + 1) if channels % (v * lanes) == 0), default=0)


def _paired_lanes(channels: int) -> int:
    lanes = registers()[0]
    return lanes if channels % lanes == 0 else max(lanes // 2, 4)


def paired_block(pixels: int, columns: int, pooled: bool = False) -> tuple[int, ...]:
    """The one block of whole vectors for tiles that do not mix their columns, as in ``BLOCK``."""
    lanes, high = _paired_lanes(columns), 2 if pooled else 1
    vectors, step = columns // lanes, high * high
    tiles = -(-high * pixels // max(most_rows(vectors) // step * step, step))
    r = -(-high * pixels // (tiles * step)) * step
    kind = (r // high, True) if pooled else (None, False)
    return 0, columns, r // high, tile_address(r, vectors, lanes, False, *kind, True), high - 1


def column_blocks(pixels: int, columns: int, pooled: bool = False) -> list[tuple[int, ...]]:
    """Cut the columns into blocks as wide as a tile, for rows of so many pixels; each entry as in ``BLOCK``.

    A pooled tile makes two rows of pixels, an even number in each.
    """
    blocks, column, high = [], 0, 2 if pooled else 1
    while column < columns:
        r, v, lanes = tile_form(high * pixels, columns - column, step=high * high)
        width = min(v * lanes, columns - column)
        kind = (r // high, True) if pooled else ()
        blocks.append(
            (column, width, r // high, tile_address(r, v, lanes, width < v * lanes, *kind), high - 1)
        )
        column += width
    return blocks


def matrix_blocks(rows: int, columns: int, run: int, paired: bool = False) -> list[tuple[int, ...]]:
    """Cut a matrix into tiles without overlap, as in ``BLOCK``; rows in runs go into one tile whole."""
    blocks, column = [], 0
    while column < columns:
        r, v, lanes = tile_form(rows, columns - column, whole=run < rows)
        width = min(v * lanes, columns - column)
        for row in range(0, rows, r):
            n = min(r, rows - row)
            address = tile_address(n, v, lanes, width < v * lanes, run if run < rows else None, False, paired)
            blocks.append((column, width, n, address, row))
        column += width
    return blocks
