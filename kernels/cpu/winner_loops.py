"""Both gradients of a convolution before a max pool of 2 x 2, from the winners of the pool alone.

With g the gradient of one pooled number, of filter o, and p the pixel that won its window,

    dW[o, tap] += g * x[p + tap]        dX[p + tap] += g * W[o, tap]        for all taps, channel by channel.

Winners of neighbouring filters stand at different pixels, so a vector holds channels here, and g is spread
over a register. In one loop the gradients of a filter's weights stay in registers while it goes over all
windows. In the other, those of all pixels that a window can reach stay there while it goes over the filters:
the weights of each stand in a frame of zeros, and a winner at another place of the window is a step in it,

    0 0 0 0 0     four places (from the lower right): the 4 x 4 numbers from here on belong to the
    0 w w w 0     4 x 4 pixels which a kernel of 3 x 3 reaches from the 2 x 2 pixels of a window
    0 w w w 0
    0 w w w 0
    0 0 0 0 0
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from tinynet.kernels.cpu.halving import lanes_for
from tinynet.kernels.cpu.loops import loop_address, read_numbers, spread
from tinynet.kernels.cpu.microkernel import registers

_I64, _FLOAT, _BYTE = ir.IntType(64), ir.FloatType(), ir.IntType(8)
WEIGHT, INPUT = range(2)  # the loops

# Addresses: of the first window's pixel in the padded x or dX, of gradients and of places (rows, windows,
# filters), of the five steps in bytes that belong to places 0 to 4, of frames or weight gradients. Then the
# bytes of a padded row, rows of windows, windows in each, filters.
ARGUMENTS = ("image", "grad", "places", "steps", "weights", "image_row", "rows", "windows", "filters")


def vector_of(channels: int) -> int:
    """How many channels go into one vector: at most 32 bytes, as Numba aligns arrays to no more."""
    return min(lanes_for(channels), 8)


class _Loop:
    """Writes the instructions of one loop, for so many channels and taps (height, width)."""

    def __init__(self, builder: ir.IRBuilder, channels: int, taps: tuple[int, int], values: dict):
        self.b, self.v, self.channels, self.taps = builder, values, channels, taps
        self.pixel, lanes = 4 * channels, vector_of(channels)  # bytes of a pixel
        self.vector = ir.VectorType(_FLOAT, lanes)
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        self.fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{lanes}f32")

    def weight(self) -> None:
        """dW (O, height, width, C): filter by filter over all windows."""
        b, v, (height, width) = self.b, self.v, self.taps
        line = width * self.pixel
        for channel, low, high in self.parts(height, width):
            with cgutils.for_range(b, v["filters"], intp=_I64) as filters:
                own = b.add(v["weights"], b.mul(filters.index, _I64(height * line)))
                cells = self.grid(b.add(own, channel), _I64(line), self.pixel, low, high, width)
                with self.in_registers(cells) as totals, self.each_window() as (pixel, window):
                    g, step = self.winner(b.add(window, filters.index))
                    start = b.add(b.add(pixel, channel), step)
                    met = self.grid(start, v["image_row"], self.pixel, low, high, width)
                    self.add_products(g, met, totals)

    def input(self) -> None:
        """dX: window by window over all filters."""
        b, v, (height, width) = self.b, self.v, (n + 1 for n in self.taps)
        line = 4 * self.vector.count
        frame = (height + 1) * (width + 1) * line
        for channel, low, high in self.parts(height, width):
            before = b.mul(b.mul(v["filters"], b.udiv(channel, _I64(line))), _I64(frame))
            frames = b.add(v["weights"], before)
            with self.each_window() as (pixel, window):
                cells = self.grid(b.add(pixel, channel), v["image_row"], self.pixel, low, high, width)
                loop = cgutils.for_range(b, v["filters"], intp=_I64)
                with self.in_registers(cells) as totals, loop as filters:
                    g, step = self.winner(b.add(window, filters.index))
                    start = b.add(b.add(frames, b.mul(filters.index, _I64(frame))), step)
                    met = self.grid(start, _I64((width + 1) * line), line, low, high, width)
                    self.add_products(g, met, totals)

    def parts(self, height: int, width: int) -> Iterator[tuple[ir.Value, int, int]]:
        """The sums that are in registers together, in turn: the bytes before their vector of channels, their
        first row of pixels or taps, and the row beyond."""
        line = 4 * self.vector.count
        times = -(-height * width // (registers()[1] - 2))
        rows = -(-height // times)
        with cgutils.for_range(self.b, _I64(self.pixel // line), intp=_I64) as part:
            channel = self.b.mul(part.index, _I64(line))
            for low in range(0, height, rows):
                yield channel, low, min(low + rows, height)

    def grid(
        self, start: ir.Value, row: ir.Value, pixel: int, low: int, high: int, width: int
    ) -> list[ir.Value]:
        """Addresses of vectors in the rows low to high of a grid."""
        b = self.b
        rows = [b.add(start, b.mul(row, _I64(i))) for i in range(low, high)]
        return [b.add(address, _I64(j * pixel)) for address in rows for j in range(width)]

    @contextlib.contextmanager
    def in_registers(self, cells: list[ir.Value]) -> Iterator[list[ir.Value]]:
        """The sums at these addresses, kept in registers meanwhile."""
        totals = [cgutils.alloca_once(self.b, self.vector) for _ in cells]
        for total, cell in zip(totals, cells):
            self.b.store(self.load(cell), total)
        yield totals
        for total, cell in zip(totals, cells):
            self.b.store(self.b.load(total), self.pointer(cell, self.vector), align=4)

    @contextlib.contextmanager
    def each_window(self) -> Iterator[tuple[ir.Value, ir.Value]]:
        """The address of its first pixel, and the number of its first gradient."""
        b, v = self.b, self.v
        pair, across = b.mul(v["image_row"], _I64(2)), b.mul(v["windows"], v["filters"])
        with cgutils.for_range(b, v["rows"], intp=_I64) as row:
            pixels, number = b.add(v["image"], b.mul(row.index, pair)), b.mul(row.index, across)
            with cgutils.for_range(b, v["windows"], intp=_I64) as window:
                pixel = b.add(pixels, b.mul(window.index, _I64(2 * self.pixel)))
                yield pixel, b.add(number, b.mul(window.index, v["filters"]))

    def winner(self, number: ir.Value) -> tuple[ir.Value, ir.Value]:
        """A gradient in all lanes, and the step to its winner."""
        b, v = self.b, self.v
        g = b.load(self.pointer(b.add(v["grad"], b.mul(number, _I64(4))), _FLOAT))
        place = b.zext(b.load(self.pointer(b.add(v["places"], number), _BYTE)), _I64)
        step = b.load(self.pointer(b.add(v["steps"], b.mul(place, _I64(8))), _I64))
        return spread(b, g, self.vector.count), step

    def add_products(self, g: ir.Value, met: list[ir.Value], totals: list[ir.Value]) -> None:
        for address, total in zip(met, totals):
            self.b.store(self.b.call(self.fma, [g, self.load(address), self.b.load(total)]), total)

    def load(self, address: ir.Value) -> ir.Value:
        return self.b.load(self.pointer(address, self.vector), align=4)

    def pointer(self, address: ir.Value, kind: ir.Type) -> ir.Value:
        return self.b.inttoptr(address, kind.as_pointer())


@intrinsic(prefer_literal=True)
def _emit_loop(typingctx, kind, channels, height, width, numbers):
    which, n, *taps = [t.literal_value for t in (kind, channels, height, width)]

    def codegen(context, builder, signature, values):
        loop = _Loop(builder, n, tuple(taps), read_numbers(builder, values[4], ARGUMENTS))
        (loop.weight, loop.input)[which]()
        return context.get_dummy_value()

    return types.void(kind, channels, height, width, numbers), codegen


@functools.cache
def winners_address(kind: int, channels: int, height: int, width: int) -> int:
    """Address of the compiled loop, ``WEIGHT`` or ``INPUT``, for a kernel of that height and width."""

    def loop(numbers):
        _emit_loop(kind, channels, height, width, numbers)

    return loop_address(loop)
