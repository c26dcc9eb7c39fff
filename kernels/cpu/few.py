"""A tile for windows of few numbers, such as the 3 x 3 pixels of one channel that begin most small nets.

It is called like the tiles of microkernel.py and makes the same sums, but those of all pixels of a band.
Where a pixel is the sum of nine products, a tile that begins and ends anew for every row does little else.
Here the loops over the window are written out, its weights stay in registers, and the loops over rows and
pixels are inside. The processor, which looks some hundred instructions ahead, is at the products of the next
pixels while it still compares these for the pool. So eight sums at a time keep the multipliers busy.

The weight gradient behind a pool is in few_sums.py.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from tinynet.kernels.cpu.halving import lanes_for
from tinynet.kernels.cpu.largest import largest, largest_alone
from tinynet.kernels.cpu.loops import loop_address, read_numbers, spread
from tinynet.kernels.cpu.microkernel import ARGUMENTS, registers
from tinynet.kernels.geometry import Window

_I64, _FLOAT = ir.IntType(64), ir.FloatType()
_MOST = 27  # numbers under a window; with more, the tiles of microkernel.py are as fast
_SUMS = 8  # that are made at a time
PLAIN, PLACES, LARGEST = range(3)  # all pixels; of 2 x 2 the largest, and where it stood; the largest alone


def fits_few(channels: int, filters: int, window: Window, groups: int) -> bool:
    """Whether a convolution is done by this tile. The filters must be whole vectors, or halves of 16."""
    numbers = channels * math.prod(window.size)
    return groups == 1 and numbers <= _MOST and lanes_for(filters) >= min(8, registers()[0])


def few_blocks(
    size: tuple[int, int], stride: int, filters: int, window: tuple[int, int], kind: int
) -> list[tuple[int, ...]]:
    """A block as in tiling.BLOCK for each vector of filters, for an image of the size (height, width).

    Its pixels are ``stride`` numbers apart, and meet a window of so many segments of so many steps; ``kind``
    is ``PLAIN`` or one of the others.
    """
    (height, pixels), lanes = size, lanes_for(filters)
    high = _high(kind)
    groups = -(-high * pixels // _SUMS)
    together = -(-pixels // (groups * high)) * high
    address = few_address(together, stride, filters, *window, kind)
    return [(column, lanes, pixels, address, height - 1) for column in range(0, filters, lanes)]


def _high(kind: int) -> int:
    """How many rows of pixels are made together, and of how many columns they come."""
    return 1 if kind == PLAIN else 2


class Vectors:
    """What these tiles are written with: vectors of some of the ``filters``, and numbers beside them."""

    def __init__(self, builder: ir.IRBuilder, filters: int, values: dict[str, Any]):
        self.b, self.v, self.filters, self.lanes = builder, values, filters, lanes_for(filters)
        self.vector = ir.VectorType(_FLOAT, self.lanes)
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        self.fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{self.lanes}f32")

    def add_product(self, address: ir.Value, floats: int, vector: ir.Value, total: ir.Value) -> ir.Value:
        """The total, and a number in memory times a vector."""
        number = self.load(address, floats, _FLOAT)
        return self.b.call(self.fma, [spread(self.b, number, self.lanes), vector, total])

    def load(self, address: ir.Value, floats: int, kind: ir.Type) -> ir.Value:
        return self.b.load(self.pointer(address, floats, kind), align=4)

    def pointer(self, address: ir.Value, floats: int, kind: ir.Type) -> ir.Value:
        return self.b.inttoptr(self.b.add(address, _I64(4 * floats)), kind.as_pointer())

    def moved(self, address: ir.Value, *floats: ir.Value) -> ir.Value:
        """The address so many floats further on, which is the product of these."""
        return self.b.add(address, functools.reduce(self.b.mul, floats, _I64(4)))


class _Tile(Vectors):
    """Writes the instructions of one tile."""

    def build(self, together: int, stride: int, segments: int, steps: int, kind: int) -> None:
        b, v, high = self.b, self.v, _high(kind)
        self.together, self.stride, self.steps, self.kind = together, stride, steps, kind
        self.weights = [self.load(v["b"], k * self.filters, self.vector) for k in range(segments * steps)]
        self.bias = self.load(v["start"], 0, self.vector)
        offsets = [self.load(v["segments"], 4 * s, _I64) for s in range(segments)]  # each of them is a pair
        with cgutils.for_range(b, b.udiv(v["lines"], _I64(high)), intp=_I64) as line:
            first = self.moved(v["a"], line.index, v["a_run"], _I64(high))
            lines = [self.moved(first, v["a_run"], _I64(r)) for r in range(high)]
            rows = [[self.moved(pixels, offset) for offset in offsets] for pixels in lines]
            self.row(rows, b.mul(line.index, v["out_run"]))

    def row(self, rows: list[list], done: ir.Value) -> None:
        """One row of results from number ``done`` on; the last of its pixels may overlap those before."""
        b, high, together = self.b, len(rows), _I64(self.together)
        last = b.sub(self.v["pixels"], together)
        groups = b.udiv(b.add(self.v["pixels"], _I64(self.together - 1)), together)
        with cgutils.for_range(b, groups, intp=_I64) as group:
            pixel = b.mul(group.index, together)
            pixel = b.select(b.icmp_signed("<", pixel, last), pixel, last)
            inputs = [[self.moved(a, pixel, _I64(self.stride)) for a in row] for row in rows]
            at = b.add(done, b.mul(b.udiv(pixel, _I64(high)), _I64(self.filters)))
            (self.store if high == 1 else self.store_largest)(at, *self.multiply(inputs))

    def multiply(self, rows: list[list]) -> list[list]:
        """The sums of some pixels in each of the rows, given as addresses of their segments."""
        sums = [[self.bias] * self.together for _ in rows]
        for k, weight in enumerate(self.weights):
            segment, step = divmod(k, self.steps)
            for row, totals in zip(rows, sums):
                for p, total in enumerate(totals):
                    totals[p] = self.add_product(row[segment], p * self.stride + step, weight, total)
        return sums

    def store(self, at: ir.Value, sums: list) -> None:
        """The pixels, clipped at zero if that is told, from number ``at`` of the results on."""
        b, out = self.b, self.moved(self.v["out"], at)
        relu = b.icmp_signed("!=", self.v["relu"], _I64(0))
        floor = spread(b, b.select(relu, _FLOAT(0.0), _FLOAT(float("-inf"))), self.lanes)
        for p, value in enumerate(sums):
            value = b.select(b.fcmp_ordered("<", value, floor), floor, value)
            b.store(value, self.pointer(out, p * self.filters, self.vector), align=4)

    def store_largest(self, at: ir.Value, above: list, below: list) -> None:
        """Of each 2 x 2 pixels the largest, and its place if that is wanted."""
        b, v = self.b, self.v
        for w in range(0, self.together, 2):
            corners = [*above[w : w + 2], *below[w : w + 2]]
            number = b.add(at, _I64(w // 2 * self.filters))
            if self.kind == PLACES:
                best, place = largest(b, corners, v["relu"])
                b.store(place, b.inttoptr(b.add(v["where"], number), place.type.as_pointer()), align=1)
            else:
                best = largest_alone(b, corners, v["relu"])
            b.store(best, self.pointer(self.moved(v["out"], number), 0, self.vector), align=4)


@intrinsic(prefer_literal=True)
def _emit_few(typingctx, together, stride, filters, segments, steps, kind, numbers):
    sizes = [t.literal_value for t in (together, stride, segments, steps, kind)]
    n_filters = filters.literal_value

    def codegen(context, builder, signature, values):
        _Tile(builder, n_filters, read_numbers(builder, values[6], ARGUMENTS)).build(*sizes)
        return context.get_dummy_value()

    return types.void(together, stride, filters, segments, steps, kind, numbers), codegen


@functools.cache
def few_address(together: int, stride: int, filters: int, segments: int, steps: int, kind: int) -> int:
    """Address of the compiled tile, which makes so many pixels of a row together; rows have no fewer."""

    def tile(numbers):
        _emit_few(together, stride, filters, segments, steps, kind, numbers)

    return loop_address(tile)
