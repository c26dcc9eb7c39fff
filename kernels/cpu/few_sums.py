"""The weight and bias gradients of the convolutions of few.py, from the gradient behind their pool.

Of each window of 2 x 2 pixels one gets the gradient, and the pooled images know which. Led back to the
pixels, the gradient would be four times as large, mostly zeros, written to memory and read again. This tile
does it in registers: it makes four copies of a vector of gradients, each zero but for the filters whose
largest pixel is that one, and multiplies them with the numbers under the windows of the four pixels. The sums
stay in registers for all rows of a band. They are made pixel by pixel and row by row, as those of other
tiles, so they are the same to the last bit as without a pool in the same layer.
"""

from __future__ import annotations

import functools

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from tinynet.kernels.blocks import CLOSED
from tinynet.kernels.cpu.few import Vectors, fits_few
from tinynet.kernels.cpu.halving import lanes_for
from tinynet.kernels.cpu.largest import place
from tinynet.kernels.cpu.loops import loop_address, read_numbers
from tinynet.kernels.cpu.microkernel import ARGUMENTS, registers
from tinynet.kernels.geometry import Window

_I64, _BYTE = ir.IntType(64), ir.IntType(8)
_BESIDE = 5  # registers beside the sums of the weights

# What the tile is called with, most of it by the names of other tiles. Steps are the windows of a row, whose
# first numbers in a and in b the segments tell; "a_row" is the distance of the two rows of pixels in a,
# "a_run" that of the rows of the kernel. There is no second row of results, but at "bias" a sum for every
# pixel of a row.
_ARGUMENTS = tuple("bias" if name == "out_run" else name for name in ARGUMENTS)


def fits_few_sums(channels: int, filters: int, window: Window, groups: int) -> bool:
    """Whether this tile makes the gradients of an image's convolution (three-dimensional, as in plan.py)."""
    _, height, width = window.size
    room = registers()[1] - _BESIDE
    fits = window.dilation[2] == 1 and height * width * channels <= room
    return fits and fits_few(channels, filters, window, groups)


def few_sums_blocks(channels: int, filters: int, window: Window) -> list[tuple[int, ...]]:
    """A block as in tiling.BLOCK for each vector of filters."""
    lanes, (_, height, width) = lanes_for(filters), window.size
    address = few_sums_address(window.stride[2] * channels, height, width * channels, filters)
    return [(column, lanes, height * width * channels, address, 0) for column in range(0, filters, lanes)]


class _Sums(Vectors):
    """Writes the instructions of one tile."""

    def build(self, stride: int, height: int, steps: int) -> None:
        b, v, self.stride, self.height, self.steps = self.b, self.v, stride, height, steps
        cells = [self.pointer(v["out"], k * self.filters, self.vector) for k in range(height * steps)]
        self.sums = [cgutils.alloca_once_value(b, b.load(cell, align=4)) for cell in cells]
        with cgutils.for_range(b, v["n_segments"], intp=_I64) as line:
            entry = b.add(v["segments"], b.mul(line.index, _I64(16)))  # two 8-byte offsets
            first, done = (self.load(entry, 2 * i, _I64) for i in range(2))
            above = self.moved(v["a"], first)
            for upper, pixels in ((True, above), (False, self.moved(above, v["a_row"]))):
                self.take_pixels(pixels, done, upper)
        for cell, total in zip(cells, self.sums):
            b.store(b.load(total), cell, align=4)

    def take_pixels(self, pixels: ir.Value, done: ir.Value, upper: bool) -> None:
        """One of the two rows of pixels of some windows, whose gradients start at number ``done`` of b."""
        b, v = self.b, self.v
        rows = [self.moved(pixels, v["a_run"], _I64(i)) for i in range(self.height)]
        with cgutils.for_range(b, v["steps"], intp=_I64) as window:
            number = b.mul(window.index, _I64(self.filters))
            at = b.add(done, number)
            grad, where = self.load(self.moved(v["b"], at), 0, self.vector), self.winners(at)
            pair = [self.where_equal(where, corner, grad) for corner in ((0, 1) if upper else (2, 3))]
            for i, row in enumerate(rows):
                address = self.moved(row, window.index, _I64(2 * self.stride))
                self.take_row(pair, address, self.sums[i * self.steps : (i + 1) * self.steps])
            if upper:
                self.add_to_bias(self.moved(v["bias"], number, _I64(2)), where, grad)

    def where_equal(self, where: ir.Value, value: int, grad: ir.Value) -> ir.Value:
        """The gradients of those whose largest pixel is that one, and else zero."""
        flags = self.b.icmp_unsigned("==", where, place(value, self.lanes))
        return self.b.select(flags, grad, ir.Constant(self.vector, [0.0] * self.lanes))

    def add_to_bias(self, to: ir.Value, where: ir.Value, grad: ir.Value) -> None:
        """Two neighbours, of whichever row: ``CLOSED`` has one bit, which no place has, and the lowest tells
        left from right."""
        b, closed = self.b, place(CLOSED | 1, self.lanes)
        for right in (0, 1):
            pointer = self.pointer(to, right * self.filters, self.vector)
            total = b.load(pointer, align=4)
            b.store(b.fadd(total, self.where_equal(b.and_(where, closed), right, grad)), pointer, align=4)

    def take_row(self, pair: list, address: ir.Value, sums: list) -> None:
        """Two neighbours and the row that they see, number by number, so none is kept in a register."""
        for column in range(self.stride + self.steps):
            for step, grad in zip((column, column - self.stride), pair):
                if 0 <= step < self.steps:
                    total = self.add_product(address, column, grad, self.b.load(sums[step]))
                    self.b.store(total, sums[step])

    def winners(self, at: ir.Value) -> ir.Value:
        """The places of the largest, as wide as the gradients."""
        kind = ir.VectorType(_BYTE, self.lanes).as_pointer()
        places = self.b.load(self.b.inttoptr(self.b.add(self.v["where"], at), kind), align=1)
        return self.b.zext(places, place(0, self.lanes).type)


@intrinsic(prefer_literal=True)
def _emit_sums(typingctx, stride, height, steps, filters, numbers):
    *sizes, n_filters = [t.literal_value for t in (stride, height, steps, filters)]

    def codegen(context, builder, signature, values):
        _Sums(builder, n_filters, read_numbers(builder, values[4], _ARGUMENTS)).build(*sizes)
        return context.get_dummy_value()

    return types.void(stride, height, steps, filters, numbers), codegen


@functools.cache
def few_sums_address(stride: int, height: int, steps: int, filters: int) -> int:
    """Address of the compiled tile, for pixels ``stride`` numbers apart; its sums are (height * steps,
    filters)."""

    def tile(numbers):
        _emit_sums(stride, height, steps, filters, numbers)

    return loop_address(tile)
