"""The loops of batch norm as vector instructions.

They walk down rows of some pixels each, which are a whole number of vector registers, and keep in registers
what is known of the channels (mean, slope) and the sums of all rows. Compilers leave both in memory, which
makes the loops wait for loads and stores rather than for the numbers themselves: twice the time. Each loop
is compiled for a number of vectors, for a ReLU or none, and *ragged* for a last row that is not full.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from tinynet.kernels.cpu.loops import loop_address, read_numbers
from tinynet.kernels.cpu.microkernel import ALIGNED, lanes_below, masked, registers

_I64, _FLOAT = ir.IntType(64), ir.FloatType()

# Rows are ``step`` numbers apart, in the arrays as in the table of what is known and in that of the sums, of
# which a loop sees so many vectors; of a ragged row ``columns`` numbers are left. Addresses in bytes.
ARGUMENTS = ("rows", "columns", "step", "x", "grad_y", "out", "table", "sums")


@functools.cache
def row_sizes(channels: int) -> tuple[int, int]:
    """(numbers in a row: whole pixels in whole vectors, vectors that a loop takes of it at a time)."""
    lanes, room = registers()
    best = max(2, room // 8)  # vectors, for each has up to five values and two sums
    vectors = math.lcm(channels, lanes) // lanes
    if vectors <= best:
        return best // vectors * vectors * lanes, best // vectors * vectors
    equal_parts = (n for n in range(1, 4 * best) if vectors % n == 0)
    return vectors * lanes, min(equal_parts, key=lambda n: abs(math.log(n / best)))


class _Loop:
    """Writes the instructions of a loop. ``known`` and ``sums`` below are those of one vector's channels."""

    def __init__(self, builder: ir.IRBuilder, vectors: int, relu: bool, ragged: bool, values: dict):
        self.b, self.vectors, self.relu, self.v = builder, vectors, relu, values
        self.lanes = registers()[0]
        self.vector = ir.VectorType(_FLOAT, self.lanes)
        self.zero = ir.Constant(self.vector, None)
        left = [builder.sub(values["columns"], _I64(j * self.lanes)) for j in range(vectors)]
        self.masks = [lanes_below(builder, n, self.lanes) for n in left] if ragged else None
        self.fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(self.vector, [self.vector] * 3), f"llvm.fmuladd.v{self.lanes}f32"
        )

    def build(self, body: Callable, n_known: int, n_sums: int) -> None:
        b, every = self.b, range(self.vectors)
        known = [[b.load(self.entry("table", k, j), align=4) for k in range(n_known)] for j in every]
        places = [[self.entry("sums", k, j) for k in range(n_sums)] for j in every]
        sums = [[cgutils.alloca_once_value(b, b.load(p, align=4)) for p in places[j]] for j in every]
        with cgutils.for_range(b, self.v["rows"], intp=_I64) as row:
            for j in every:
                self.j, self.at = j, b.add(b.mul(row.index, self.v["step"]), _I64(j * self.lanes))
                body(self, known[j], sums[j])
        for j in every:
            for place, total in zip(places[j], sums[j]):
                b.store(b.load(total), place, align=4)

    def moments(self, known: list, sums: list) -> None:
        """Sums of x - near and of its square."""
        d = self.b.fsub(self.load("x", known[0]), known[0])
        self.add(sums[0], d)
        self.add_product(sums[1], d, d)

    def scale(self, known: list, sums: list) -> None:
        """(x - mean) * slope + bias, or zero if that is less and there is a ReLU."""
        mean, slope, bias = known
        y = self.scaled(self.b.fsub(self.load("x", mean), mean), slope, bias)
        if self.relu:
            y = self.b.select(self.b.fcmp_ordered("<", y, self.zero), self.zero, y)
        self.store(y)

    def grads(self, known: list, sums: list) -> None:
        """Sums of dy and of dy * (x - mean)."""
        d, g = self.passed_grad(*known)
        self.add(sums[0], g)
        self.add_product(sums[1], g, d)

    def scale_grad(self, known: list, sums: list) -> None:
        """slope * (dy - level - tilt * (x - mean))."""
        b, (mean, slope, bias, level, tilt) = self.b, known
        d, g = self.passed_grad(mean, slope, bias)
        self.store(b.fmul(slope, b.fsub(b.fsub(g, level), b.fmul(tilt, d))))

    def passed_grad(self, mean: ir.Value, slope: ir.Value, bias: ir.Value) -> tuple[ir.Value, ir.Value]:
        """x - mean, and dy; with a ReLU zero where that lets nothing through. To find its input again, by the
        same instructions and so with every bit, is quicker than to read its output."""
        d, g = self.b.fsub(self.load("x", mean), mean), self.load("grad_y", self.zero)
        if self.relu:
            is_open = self.b.fcmp_ordered(">", self.scaled(d, slope, bias), self.zero)
            g = self.b.select(is_open, g, self.zero)
        return d, g

    def scaled(self, d: ir.Value, slope: ir.Value, bias: ir.Value) -> ir.Value:
        return self.b.call(self.fma, [d, slope, bias])

    def add(self, total: ir.Value, number: ir.Value) -> None:
        self.b.store(self.b.fadd(self.b.load(total), number), total)

    def add_product(self, total: ir.Value, x: ir.Value, y: ir.Value) -> None:
        self.b.store(self.b.call(self.fma, [x, y, self.b.load(total)]), total)

    def load(self, name: str, rest: ir.Value) -> ir.Value:
        """A vector of an array; beyond the end of a ragged row ``rest``."""
        place = self.pointer(name, self.at)
        if self.masks is None:
            return self.b.load(place, align=4)
        return masked(self.b, "load", self.vector, [place, ALIGNED, self.masks[self.j], rest])

    def store(self, value: ir.Value) -> None:
        place = self.pointer("out", self.at)
        if self.masks is None:
            self.b.store(value, place, align=4)
        else:
            masked(self.b, "store", self.vector, [value, place, ALIGNED, self.masks[self.j]])

    def entry(self, name: str, k: int, j: int) -> ir.Value:
        """Address of vector j in row k of a table."""
        return self.pointer(name, self.b.add(self.b.mul(_I64(k), self.v["step"]), _I64(j * self.lanes)))

    def pointer(self, name: str, numbers: ir.Value) -> ir.Value:
        address = self.b.add(self.v[name], self.b.mul(numbers, _I64(4)))
        return self.b.inttoptr(address, self.vector.as_pointer())


_BODIES = {  # how many values are known of a channel, how many sums there are
    "moments": (_Loop.moments, 1, 2),
    "scale": (_Loop.scale, 3, 0),
    "grads": (_Loop.grads, 3, 2),
    "scale_grad": (_Loop.scale_grad, 5, 0),
}


@intrinsic(prefer_literal=True)
def _emit_loop(typingctx, name, vectors, relu, ragged, numbers):
    settings = [t.literal_value for t in (vectors, relu, ragged)]
    body = _BODIES[name.literal_value]

    def codegen(context, builder, signature, values):
        _Loop(builder, *settings, read_numbers(builder, values[4], ARGUMENTS)).build(*body)
        return context.get_dummy_value()

    return types.void(name, vectors, relu, ragged, numbers), codegen


@functools.cache
def norm_loop(name: str, vectors: int, relu: int, ragged: int) -> int:
    """Address of a compiled loop, one of ``_BODIES``; its first use compiles it or loads it from disk."""

    def loop(numbers):
        _emit_loop(name, vectors, relu, ragged, numbers)

    return loop_address(loop)
