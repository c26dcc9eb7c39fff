"""The weight gradient of the convolutions of squares.py: dU[k] += V[k]^T @ Z[k], with Z = A dY A^T.

V are the inputs of the squares as in the forward, and Z what their 2 x 2 output gradients are to M. The tile
maps some squares into planes in the nearest cache, and then adds up their products place by place, 8 x one
vector of sums in registers. That is 16 products in place of 36, too; dW = G^T dU G is left for the end.
"""

from __future__ import annotations

import functools

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from tinynet.kernels.cpu.halving import lanes_for
from tinynet.kernels.cpu.loops import loop_address, read_numbers, spread
from tinynet.kernels.cpu.microkernel import ARGUMENTS
from tinynet.kernels.cpu.points import matrices
from tinynet.kernels.cpu.squares import PLACES, SIDE, Planes
from tinynet.kernels.cpu.transform import STORE, Map

_I64, _FLOAT = ir.IntType(64), ir.FloatType()
_SQUARES = 14  # mapped at a time: their planes stay in the nearest cache
_SUMS = 8  # vectors of sums that are in registers at a time: enough to hide the latency of a product


class _Sums(Planes):
    """Writes the instructions of one tile."""

    def build(self) -> None:
        """All squares of the rows of pixels: two segments and two steps each."""
        b, v, two = self.b, self.v, _I64(2)
        pairs, across = (b.udiv(v[name], two) for name in ("n_segments", "steps"))
        left = cgutils.alloca_once_value(b, b.mul(pairs, across))
        filled = cgutils.alloca_once_value(b, _I64(0))
        ahead = self.ahead(b.mul(pairs, across))
        with cgutils.for_range(b, pairs, intp=_I64) as pair:
            segment = b.add(v["segments"], b.mul(pair.index, _I64(32)))
            rows = self.rows("a", segment, 0), self.rows("b", segment, 1)
            with cgutils.for_range(b, across, intp=_I64) as square:
                ahead()
                self.take(rows, square.index, b.load(filled))
                for count, step in ((filled, 1), (left, -1)):
                    b.store(b.add(b.load(count), _I64(step)), count)
                is_full = b.icmp_signed("==", b.load(filled), _I64(self.squares))
                with b.if_then(b.or_(is_full, b.icmp_signed("==", b.load(left), _I64(0)))):
                    with cgutils.for_range(b, _I64(PLACES), intp=_I64) as place:
                        self.add_products(place.index, b.load(filled))
                    b.store(_I64(0), filled)

    def take(self, rows: tuple, square: ir.Value, slot: ir.Value) -> None:
        """Map the inputs of a square, and its output gradients, into the planes."""
        maps = (matrices(2).input, SIDE), (matrices(2).output_back, 2)
        for which, (matrix, n) in enumerate(maps):
            lanes = lanes_for(self.channels[which])
            m = Map(self.b, matrix, True, STORE, lanes, {})
            for part in range(0, self.channels[which], lanes):
                pixels = self.pixels(rows[which], square, which, n, part)
                m.write(pixels, self.places(which, slot, part), _I64(part))

    def add_products(self, place: ir.Value, count: ir.Value) -> None:
        """dU += V^T @ Z at one place, over the first ``count`` squares."""
        b, (channels, filters) = self.b, self.channels
        lanes = lanes_for(filters)
        vector = ir.VectorType(_FLOAT, lanes)
        fma, v, z = self.product(vector), self.plane(0, place), self.plane(1, place)
        out = b.add(self.v["out"], b.mul(place, _I64(4 * channels * filters)))
        for part in range(0, filters, lanes):
            for first in range(0, channels, _SUMS):
                cells = [self.pointer(out, (first + i) * filters + part, vector) for i in range(_SUMS)]
                totals = [cgutils.alloca_once(b, vector) for _ in cells]
                for cell, total in zip(cells, totals):
                    b.store(b.load(cell, align=4), total)
                with cgutils.for_range(b, count, intp=_I64) as square:
                    row = self.load(b.add(z, b.mul(square.index, _I64(4 * filters))), part, vector)
                    inputs = b.add(v, b.mul(square.index, _I64(4 * channels)))
                    for i, total in enumerate(totals):
                        number = spread(b, self.load(inputs, first + i, _FLOAT), lanes)
                        b.store(b.call(fma, [number, row, b.load(total)]), total)
                for cell, total in zip(cells, totals):
                    b.store(b.load(total), cell, align=4)


@intrinsic(prefer_literal=True)
def _emit_sums(typingctx, squares, channels, filters, numbers):
    sizes = [t.literal_value for t in (squares, channels, filters)]

    def codegen(context, builder, signature, values):
        _Sums(builder, *sizes, read_numbers(builder, values[3], ARGUMENTS)).build()
        return context.get_dummy_value()

    return types.void(squares, channels, filters, numbers), codegen


@functools.cache
def sums_address(channels: int, filters: int) -> int:
    """Address of the compiled tile; of the ``ARGUMENTS``, ``out`` is dU (16, channels, filters)."""

    def tile(numbers):
        _emit_sums(_SQUARES, channels, filters, numbers)

    return loop_address(tile)
