"""The way back through a max pool of 2 x 2 and the convolution before it, from the winners of the pool alone.

Of the four results in a window only the largest went on, so three of four output gradients are zero, and with
them three of four products of both gradients. With g the gradient of one pooled number, of filter o, and p
the pixel that won its window,

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

The loops are called like the tiles of microkernel.py, with a pair of segments for each row of windows: "a" is
the padded x or dX, "out" the gradients of the weights or the frames, and "b" has two rows of ``steps`` x
``b_step`` (filters) numbers as well: one begins with the gradients of the windows, the other with the
winners' places, in bytes (see ``open`` in halving.py). dX is added to what is there.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from tinynet.kernels.cpu.halving import CORNERS, lanes_for
from tinynet.kernels.cpu.loops import loop_address, read_numbers, spread
from tinynet.kernels.cpu.microkernel import ARGUMENTS, registers
from tinynet.kernels.cpu.winograd_plan import fits, side_for
from tinynet.kernels.geometry import Window

_I64, _BYTE, _FLOAT = ir.IntType(64), ir.IntType(8), ir.FloatType()
_LINE = 16  # floats in a line of the cache
_SECOND = 1 << 20  # bytes of the second cache, where the frames of all filters are to fit
WEIGHT, INPUT = range(2)  # the loops


@functools.lru_cache(maxsize=512)
def fits_winners(spatial: tuple[int, ...], channels: int, filters: int, window: Window, groups: int) -> bool:
    """Whether the way back is this one: for images without stride, in whole vectors of channels, as long as
    it is quicker than what is done otherwise."""
    plain = len(spatial) == 2 and window.stride == window.dilation == (1, 1) and groups == 1
    if not plain or channels % 4:
        return False
    most = _SECOND
    if fits(spatial, channels, filters, window, groups):  # Winograd's scheme saves as much, or half of it
        most = 0 if side_for(spatial, window) == 4 else _SECOND // 16
    height, width = window.size
    return 4 * (height + 2) * (width + 2) * channels * filters <= most


def vector_of(channels: int) -> int:
    """How many channels go into one vector: at most 32 bytes, as Numba aligns arrays to no more."""
    return min(lanes_for(channels), 8)


def framed(weight: np.ndarray) -> np.ndarray:
    """The weights (height, width, C, O), a frame for each vector of channels and filter, in one row that
    begins where vectors do not cross lines of the cache."""
    height, width, channels, filters = weight.shape
    lanes = vector_of(channels)
    shape = channels // lanes, filters, height + 2, width + 2, lanes
    room = np.zeros(math.prod(shape) + _LINE, np.float32)
    row = room[-(room.ctypes.data // 4) % _LINE :][: room.size - _LINE]
    inside = row.reshape(shape)[:, :, 1:-1, 1:-1]
    inside[...] = weight.reshape(height, width, -1, lanes, filters).transpose(2, 4, 0, 1, 3)
    return row


def turned_back(sums: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A weight gradient of that shape (height, width, C, O) from the loop's (O, height, width, C)."""
    height, width, channels, filters = shape
    return np.ascontiguousarray(sums.reshape(filters, height, width, channels).transpose(1, 2, 3, 0))


class _Loop:
    """Writes the instructions of one loop, for so many channels and taps (height, width)."""

    def __init__(self, builder: ir.IRBuilder, channels: int, taps: tuple[int, int], values: dict):
        self.b, self.v, self.taps = builder, values, taps
        self.pixel, lanes = 4 * channels, vector_of(channels)  # bytes of a pixel
        self.vector, self.bytes = ir.VectorType(_FLOAT, lanes), 4 * lanes
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        self.fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{lanes}f32")
        first, second = (self.segment(_I64(i))[0] for i in range(2))
        self.row = builder.sub(second, first)  # bytes of a row of the image

    def weight(self) -> None:
        """dW (O, height, width, C): filter by filter over all windows."""
        b, v, (height, width) = self.b, self.v, self.taps
        steps = self.table(b.add(b.mul(self.row, _I64(i)), _I64(j * self.pixel)) for i, j in CORNERS)
        line = _I64(width * self.pixel)
        for channel, low, high in self.parts(height, width):
            with cgutils.for_range(b, v["b_step"], intp=_I64) as filters:
                own = b.add(v["out"], b.mul(filters.index, _I64(height * width * self.pixel)))
                cells = self.grid(b.add(own, channel), line, self.pixel, low, high, width)
                with self.in_registers(cells) as totals, self.each_window() as (pixel, window):
                    g, step = self.winner(window, filters.index, steps)
                    start = b.add(b.add(pixel, channel), step)
                    self.add_products(g, self.grid(start, self.row, self.pixel, low, high, width), totals)

    def input(self) -> None:
        """dX: window by window over all filters."""
        b, v, (height, width) = self.b, self.v, (n + 1 for n in self.taps)
        line, frame = (width + 1) * self.bytes, (height + 1) * (width + 1) * self.bytes
        steps = self.table(_I64((1 - i) * line + (1 - j) * self.bytes) for i, j in CORNERS)
        for channel, low, high in self.parts(height, width):
            before = b.mul(b.mul(v["b_step"], b.udiv(channel, _I64(self.bytes))), _I64(frame))
            frames = b.add(v["out"], before)
            with self.each_window() as (pixel, window):
                cells = self.grid(b.add(pixel, channel), self.row, self.pixel, low, high, width)
                loop = cgutils.for_range(b, v["b_step"], intp=_I64)
                with self.in_registers(cells) as totals, loop as filters:
                    g, step = self.winner(window, filters.index, steps)
                    start = b.add(b.add(frames, b.mul(filters.index, _I64(frame))), step)
                    self.add_products(g, self.grid(start, _I64(line), self.bytes, low, high, width), totals)

    def parts(self, height: int, width: int) -> Iterator[tuple[ir.Value, int, int]]:
        """The sums that are in registers together, in turn: the bytes before their vector of channels, their
        first row of pixels or taps, and the row beyond."""
        times = -(-height * width // (registers()[1] - 2))
        rows = -(-height // times)
        with cgutils.for_range(self.b, _I64(self.pixel // self.bytes), intp=_I64) as part:
            channel = self.b.mul(part.index, _I64(self.bytes))
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
            self.b.store(self.load(cell, self.vector), total)
        yield totals
        for total, cell in zip(totals, cells):
            self.b.store(self.b.load(total), self.pointer(cell, self.vector), align=4)

    @contextlib.contextmanager
    def each_window(self) -> Iterator[tuple[ir.Value, tuple[ir.Value, ir.Value]]]:
        """The addresses of its first pixel, and of its gradients and places."""
        b, v = self.b, self.v
        line = b.mul(b.mul(v["steps"], v["b_step"]), _I64(4))
        with cgutils.for_range(b, b.udiv(v["n_segments"], _I64(2)), intp=_I64) as pair:
            image, grad = self.segment(b.mul(pair.index, _I64(2)))
            with cgutils.for_range(b, b.udiv(v["steps"], _I64(2)), intp=_I64) as window:
                pixel = b.add(image, b.mul(window.index, _I64(2 * self.pixel)))
                number = b.mul(window.index, v["b_step"])
                yield pixel, (b.add(grad, b.mul(number, _I64(4))), b.add(b.add(grad, line), number))

    def segment(self, number: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Where a row begins in the image, and in the gradients."""
        b, v = self.b, self.v
        entry = b.add(v["segments"], b.mul(number, _I64(16)))  # two 8-byte offsets
        offsets = (self.load(b.add(entry, _I64(8 * i)), _I64) for i in range(2))
        image, grad = (b.add(v[name], b.mul(offset, _I64(4))) for name, offset in zip("ab", offsets))
        return image, grad

    def table(self, steps: Iterator[ir.Value]) -> ir.Value:
        """Bytes from where a window begins to what belongs to its winner, by the places 0 to 3."""
        table = cgutils.alloca_once(self.b, ir.ArrayType(_I64, len(CORNERS)))
        for i, step in enumerate(steps):
            self.b.store(step, cgutils.gep_inbounds(self.b, table, 0, i))
        return table

    def winner(self, window: tuple[ir.Value, ir.Value], o: ir.Value, steps: ir.Value):
        """The gradient of filter o in all lanes, and the step to its winner."""
        b, (grads, places) = self.b, window
        place = b.zext(self.load(b.add(places, o), _BYTE, align=1), _I64)
        g = self.load(b.add(grads, b.mul(o, _I64(4))), _FLOAT)
        return spread(b, g, self.vector.count), b.load(cgutils.gep_inbounds(b, steps, 0, place))

    def add_products(self, g: ir.Value, met: list[ir.Value], totals: list[ir.Value]) -> None:
        for address, total in zip(met, totals):
            product = self.b.call(self.fma, [g, self.load(address, self.vector), self.b.load(total)])
            self.b.store(product, total)

    def load(self, address: ir.Value, kind: ir.Type, align: int = 4) -> ir.Value:
        return self.b.load(self.pointer(address, kind), align=align)

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
