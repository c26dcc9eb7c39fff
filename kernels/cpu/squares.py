"""A tile of two rows of pixels by Winograd's scheme, for the few channels of small nets.

It is called like the tiles of microkernel.py, and does for up to eight squares of 2 x 2 outputs what
winograd.py does for a large block: V = B^T X B, M[k] = V[k] @ U[k], Y = A^T M A. All sizes but the distance
of the rows are written into its instructions, the sums of all squares stay in registers, and V and M in the
nearest cache. So with 8 or 16 channels, too, 16 products in place of 36 are worth their maps, in a
convolution and in its input gradient, which is one as well. A square is a window of 2 x 2, so a pool behind
the convolution takes its largest number before it is written. The weight gradient is in square_sums.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from tinynet.kernels.cpu.halving import lanes_for
from tinynet.kernels.cpu.largest import largest
from tinynet.kernels.cpu.loops import LINE, Ahead, loop_address, read_numbers, spread
from tinynet.kernels.cpu.microkernel import ARGUMENTS
from tinynet.kernels.cpu.points import TAPS, matrices
from tinynet.kernels.cpu.transform import FINISH, STORE, Map
from tinynet.kernels.geometry import Window

_I64, _FLOAT = ir.IntType(64), ir.FloatType()
_MOST = 16  # pixels of a row in a tile, and channels and filters
SIDE = 2 + TAPS - 1
PLACES = SIDE * SIDE


def fits_squares(out: tuple[int, ...], channels: int, filters: int, window: Window, groups: int) -> bool:
    """Whether a convolution (three-dimensional, as in plan.py) is done by these tiles.

    The squares are then the windows of a pool, so the numbers are the same with and without one.
    """
    return (
        (window.size, window.stride, window.dilation, groups) == ((1, 3, 3), (1, 1, 1), (1, 1, 1), 1)
        and all(n % 8 == 0 and n <= _MOST for n in (channels, filters))
        and out[1] % 2 == out[2] % 2 == 0
    )


def square_blocks(width: int, channels: int, filters: int, pooled: bool) -> list[tuple[int, ...]]:
    """The one tile for rows of that many pixels, as in tiling.BLOCK."""
    pixels = -(-width // -(-width // _MOST))
    pixels += pixels % 2
    return [(0, filters, pixels, square_address(pixels // 2, channels, filters, pooled), 1)]


def mapped(weight: np.ndarray) -> np.ndarray:
    """U = G W G^T of a weight (9, C, O), one matrix (C, O) after the other, as these tiles take it."""
    return (_filter_map() @ weight.reshape(TAPS * TAPS, -1)).reshape(-1)


def mapped_back(sums: np.ndarray) -> np.ndarray:
    """G^T dU G, the gradient (9, C * O) of a weight, from dU (16, C, O)."""
    return _filter_map().T @ sums.reshape(PLACES, -1)


@functools.cache
def _filter_map() -> np.ndarray:
    g = np.array(matrices(2).filter, np.float32)
    return np.kron(g, g)


class _PooledMap(Map):
    """Of the 2 x 2 outputs of a square, the map stores only the largest, and its place."""

    def write(self, source: list, target: tuple[ir.Value, ir.Value], channel: ir.Value) -> None:
        """The target is where the value goes, and where its place."""
        b, self.corners = self.b, []
        super().write(source, [[None, None], [None, None]], channel)
        for value, address in zip(largest(b, self.corners, self.v["relu"]), target):
            b.store(value, b.inttoptr(address, value.type.as_pointer()), align=1)

    def put(self, value: ir.Value, address: None) -> None:
        self.corners.append(self.b.fadd(value, self.bias))


class Planes:
    """For each of the 16 places a matrix (squares, channels) and another (squares, filters)."""

    def __init__(self, builder: ir.IRBuilder, squares: int, channels: int, filters: int, values: dict):
        self.b, self.v, self.squares, self.channels = builder, values, squares, (channels, filters)
        self.planes = [self.room(n) for n in self.channels]

    def room(self, channels: int) -> ir.Value:
        """The address of a matrix (squares, channels) for each of the 16 places."""
        kind = ir.ArrayType(_FLOAT, PLACES * self.squares * channels)
        with self.b.goto_entry_block():
            room = self.b.alloca(kind)
        room.align = 64
        return self.b.ptrtoint(room, _I64)

    def rows(self, base: str, segment: ir.Value, column: int) -> tuple[ir.Value, ir.Value]:
        """Two rows of pixels from a segment on: the address of the first, and how many bytes on the next is.
        ``column`` is 0 for those of a, 1 for b."""
        b = self.b
        first, second = (self.load(segment, 2 * (2 * i + column), _I64) for i in (0, 1))
        return b.add(self.v[base], b.mul(first, _I64(4))), b.mul(b.sub(second, first), _I64(4))

    def pixels(self, rows: tuple[ir.Value, ir.Value], square: ir.Value, which: int, n: int, part: int):
        """The addresses of the n x n pixels of a square, from the channel ``part`` on.

        ``which`` is 0 for pixels of channels, 1 for those of filters, as in ``planes``.
        """
        size = 4 * self.channels[which]
        start = self.b.add(rows[0], self.b.mul(square, _I64(2 * size)))
        return self.grid(start, rows[1], _I64(size), n, part)

    def places(self, which: int, square: ir.Value, part: int) -> list[list]:
        """The addresses of a square in the 16 planes."""
        size = 4 * self.channels[which]
        start, plane = self.b.add(self.planes[which], self.b.mul(square, _I64(size))), size * self.squares
        return self.grid(start, _I64(SIDE * plane), _I64(plane), SIDE, part)

    def plane(self, which: int, place: ir.Value) -> ir.Value:
        """The address of one plane."""
        return self.b.add(
            self.planes[which], self.b.mul(place, _I64(4 * self.squares * self.channels[which]))
        )

    def ahead(self, squares: ir.Value) -> Callable[[], None]:
        """What, done for each of so many squares, asks for what comes next: as many lines as a square has."""
        lines = -(-4 * 4 * sum(self.channels) // LINE)
        ahead = Ahead(self.b, self.v, self.b.mul(squares, _I64(lines)))
        return lambda: [ahead.ask() for _ in range(lines)]

    def product(self, vector: ir.Type):
        """LLVM's a * b + c for such vectors."""
        kind = ir.FunctionType(vector, [vector] * 3)
        return cgutils.get_or_insert_function(self.b.module, kind, f"llvm.fmuladd.v{vector.count}f32")

    def grid(self, corner: ir.Value, i_step: ir.Value, j_step: ir.Value, n: int, part: int) -> list[list]:
        """The addresses of n x n vectors of channels from ``part`` on."""
        b = self.b
        corner = b.add(corner, _I64(4 * part))
        rows = [b.add(corner, b.mul(_I64(i), i_step)) for i in range(n)]
        return [[b.add(row, b.mul(_I64(j), j_step)) for j in range(n)] for row in rows]

    def load(self, address: ir.Value, floats: int, kind: ir.Type) -> ir.Value:
        return self.b.load(self.pointer(address, floats, kind), align=4)

    def pointer(self, address: ir.Value, floats: int, kind: ir.Type) -> ir.Value:
        return self.b.inttoptr(self.b.add(address, _I64(4 * floats)), kind.as_pointer())


class _Tile(Planes):
    """Writes the instructions of one tile."""

    def build(self, pooled: int) -> None:
        b, v = self.b, self.v
        rows, (lanes, filter_lanes) = self.rows("a", v["segments"], 0), map(lanes_for, self.channels)
        take, ahead = Map(b, matrices(2).input, True, STORE, lanes, {}), self.ahead(_I64(self.squares))
        with cgutils.for_range(b, _I64(self.squares), intp=_I64) as square:
            ahead()
            for part in range(0, self.channels[0], lanes):
                pixels = self.pixels(rows, square.index, 0, SIDE, part)
                take.write(pixels, self.places(0, square.index, part), _I64(part))
        with cgutils.for_range(b, _I64(PLACES), intp=_I64) as place:
            self.multiply(place.index)
        finish = (_PooledMap if pooled else Map)(b, matrices(2).output, False, FINISH, filter_lanes, v)
        with cgutils.for_range(b, _I64(self.squares), intp=_I64) as square:
            for part in range(0, self.channels[1], filter_lanes):
                to = (self.window if pooled else self.outputs)(square.index, part)
                finish.write(self.places(1, square.index, part), to, _I64(part))

    def outputs(self, square: ir.Value, part: int) -> list[list]:
        """Where the 2 x 2 outputs of a square go."""
        rows = self.v["out"], self.b.mul(self.v["out_run"], _I64(4))
        return self.pixels(rows, square, 1, 2, part)

    def window(self, square: ir.Value, part: int) -> tuple[ir.Value, ir.Value]:
        """Where the largest value of a square goes, and its place."""
        b = self.b
        number = b.add(b.mul(square, _I64(self.channels[1])), _I64(part))
        return b.add(self.v["out"], b.mul(number, _I64(4))), b.add(self.v["where"], number)

    def multiply(self, place: ir.Value) -> None:
        """M = V @ U at one place, the sums of all squares in registers."""
        b, (c, filters) = self.b, self.channels
        lanes = lanes_for(filters)
        vector = ir.VectorType(_FLOAT, lanes)
        fma, v, m = self.product(vector), self.plane(0, place), self.plane(1, place)
        u = b.add(self.v["b"], b.mul(place, _I64(4 * c * filters)))
        for part in range(0, filters, lanes):
            totals = [cgutils.alloca_once(b, vector) for _ in range(self.squares)]
            for total in totals:
                b.store(ir.Constant(vector, [0.0] * lanes), total)
            with cgutils.for_range(b, _I64(c), intp=_I64) as channel:
                row = self.load(b.add(u, b.mul(channel.index, _I64(4 * filters))), part, vector)
                one = b.add(v, b.mul(channel.index, _I64(4)))
                for s, total in enumerate(totals):
                    number = spread(b, self.load(one, s * c, _FLOAT), lanes)
                    b.store(b.call(fma, [number, row, b.load(total)]), total)
            for s, total in enumerate(totals):
                b.store(b.load(total), self.pointer(m, s * filters + part, vector), align=4)


@intrinsic(prefer_literal=True)
def _emit_squares(typingctx, squares, channels, filters, pooled, numbers):
    sizes, is_pooled = [t.literal_value for t in (squares, channels, filters)], pooled.literal_value

    def codegen(context, builder, signature, values):
        _Tile(builder, *sizes, read_numbers(builder, values[4], ARGUMENTS)).build(is_pooled)
        return context.get_dummy_value()

    return types.void(squares, channels, filters, pooled, numbers), codegen


@functools.cache
def square_address(squares: int, channels: int, filters: int, pooled: bool) -> int:
    """Address of the compiled tile for that many squares side by side; of the ``ARGUMENTS``, ``b`` is U."""
    is_pooled = int(pooled)

    def tile(numbers):
        _emit_squares(squares, channels, filters, is_pooled, numbers)

    return loop_address(tile)
