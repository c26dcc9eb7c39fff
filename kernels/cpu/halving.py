"""Max pooling of 2 x 2 with stride 2, alone or after a ReLU, as vector instructions.

Channels are few (8 or 16 in small nets), and loops over few numbers are what compilers vectorise badly; so
these loops are written out for vectors of 16, 8, 4 or 1 channels, whichever divides their number. Each
makes one row of pixels. Besides the largest value the forward leaves its place in the window, 0 to 3 row by
row, or 4 (``CLOSED``) where a ReLU let nothing through; the backward needs nothing else. Where there will be
no backward, the values alone take a third of the instructions.
"""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from tinynet.kernels.blocks import CLOSED
from tinynet.kernels.cpu.largest import largest, largest_alone, place
from tinynet.kernels.cpu.loops import loop_address, read_numbers
from tinynet.kernels.cpu.microkernel import registers

_I64, _FLOAT, _BYTE = ir.IntType(64), ir.FloatType(), ir.IntType(8)
# The loops: backward, forward, forward without the places, and half of the backward (see winners.py).
UNPOOL, POOL, LARGEST, OPEN = range(4)
CORNERS = (0, 0), (0, 1), (1, 0), (1, 1)  # row and column of the places in a window

# Addresses of two rows of pixels, of half a row of values and of their places; pixels in the half row.
ARGUMENTS = ("above", "below", "values", "places", "pixels", "channels", "relu")


def lanes_for(channels: int) -> int:
    """How many channels go into one vector register: they must come out even."""
    return next(n for n in (16, 8, 4, 1) if n <= registers()[0] and channels % n == 0)


class _Row:
    """Writes the instructions for one row of windows."""

    def __init__(self, builder: ir.IRBuilder, lanes: int, values: dict[str, Any]):
        self.b, self.lanes, self.v = builder, lanes, values
        self.floats, self.bytes = ir.VectorType(_FLOAT, lanes), ir.VectorType(_BYTE, lanes)

    def each_window(self, visit) -> None:
        """Call ``visit`` with the addresses of four numbers, of a value and of its place."""
        b, v = self.b, self.v
        size = b.mul(v["channels"], _I64(4))
        parts = b.udiv(v["channels"], _I64(self.lanes))
        with (
            cgutils.for_range(b, parts, intp=_I64) as part,
            cgutils.for_range(b, v["pixels"], intp=_I64) as pixel,
        ):
            c = b.mul(part.index, _I64(self.lanes))
            left = b.add(b.mul(b.mul(pixel.index, _I64(2)), size), b.mul(c, _I64(4)))
            corners = [b.add(v[row], b.add(left, x)) for row in ("above", "below") for x in (_I64(0), size)]
            o = b.add(b.mul(pixel.index, v["channels"]), c)
            visit(corners, b.add(v["values"], b.mul(o, _I64(4))), b.add(v["places"], o))

    def pool(self, corners, value, where) -> None:
        """The largest, and its place."""
        best, at = largest(self.b, [self.load(corner, self.floats) for corner in corners], self.v["relu"])
        self.store(best, value)
        self.store(at, where)

    def largest(self, corners, value, where) -> None:
        """The largest alone."""
        numbers = [self.load(corner, self.floats) for corner in corners]
        self.store(largest_alone(self.b, numbers, self.v["relu"]), value)

    def unpool(self, corners, value, where) -> None:
        """The winner gets the gradient, the others zero."""
        b, zero = self.b, ir.Constant(self.floats, [0.0] * self.lanes)
        grad = self.load(value, self.floats)
        at = b.zext(self.load(where, self.bytes), place(0, self.lanes).type)
        for k in range(4):
            here = b.icmp_unsigned("==", at, place(k, self.lanes))
            self.store(b.select(here, grad, zero), corners[k])

    def open(self, corners, value, where) -> None:
        """One row gets the gradients, zero where nothing was let through, and the other the places, in bytes.
        Both lie as close as in what they come from."""
        b, v = self.b, self.v
        at = self.load(where, self.bytes)
        closed = b.icmp_unsigned("==", at, ir.Constant(self.bytes, [CLOSED] * self.lanes))
        zeros = [ir.Constant(kind, [0] * self.lanes) for kind in (self.floats, self.bytes)]
        grad = b.select(closed, zeros[0], self.load(value, self.floats))
        self.store(grad, b.add(v["above"], b.sub(value, v["values"])))
        self.store(b.select(closed, zeros[1], at), b.add(v["below"], b.sub(where, v["places"])))

    def load(self, address: ir.Value, kind: ir.Type) -> ir.Value:
        return self.b.load(self.b.inttoptr(address, kind.as_pointer()), align=1 if kind is self.bytes else 4)

    def store(self, value: ir.Value, address: ir.Value) -> None:
        pointer = self.b.inttoptr(address, value.type.as_pointer())
        self.b.store(value, pointer, align=1 if value.type == self.bytes else 4)


@intrinsic(prefer_literal=True)
def _emit_row(typingctx, kind, lanes, numbers):
    which, n_lanes = kind.literal_value, lanes.literal_value

    def codegen(context, builder, signature, values):
        row = _Row(builder, n_lanes, read_numbers(builder, values[2], ARGUMENTS))
        row.each_window((row.unpool, row.pool, row.largest, row.open)[which])
        return context.get_dummy_value()

    return types.void(kind, lanes, numbers), codegen


@functools.cache
def row_address(kind: int, channels: int) -> int:
    """Address of the compiled loop over one row, UNPOOL, POOL, LARGEST or OPEN, for that many channels."""
    return _row_address(kind, lanes_for(channels))


@functools.cache
def _row_address(kind: int, lanes: int) -> int:
    def row(numbers):
        _emit_row(kind, lanes, numbers)

    return loop_address(row)
