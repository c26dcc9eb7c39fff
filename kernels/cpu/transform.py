"""The small linear maps of Winograd's convolution, Y = M X M^T for every channel, as vector instructions.

X is a square of vectors: its corner lies at ``source``, the vector in row i and column j of it
i * source_i + j * source_j further, and the next tile ``source_tile`` further; likewise Y. The matrices are
those of points.py, whose rows or columns come in pairs: what two share is computed once. A square of 6 x 6
vectors does not fit the registers, so the rows of M X are made in groups that do, and each group is
multiplied by M^T and stored before the next.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from tinynet.kernels.cpu.loops import loop_address, opaque, read_numbers
from tinynet.kernels.cpu.microkernel import registers
from tinynet.kernels.cpu.points import TALL, Matrices, Matrix, matrices

_I64, _FLOAT = ir.IntType(64), ir.FloatType()

# Addresses in bytes, strides in floats. The target is stored, or added to, or is given a bias and a ReLU.
ARGUMENTS = (
    "source", "source_i", "source_j", "source_tile", "target", "target_i", "target_j", "target_tile", "tiles",
    "channels", "start", "relu",
)  # fmt: skip
STORE, ADD, FINISH = range(3)


class Map:
    """Writes the instructions of one map."""

    def __init__(
        self,
        builder: ir.IRBuilder,
        matrix: Matrix,
        tall: bool,
        end: int,
        lanes: int,
        values: dict[str, Any],
    ):
        self.b, self.matrix, self.tall, self.end, self.lanes = builder, matrix, tall, end, lanes
        self.v = values
        self.vector = ir.VectorType(_FLOAT, self.lanes)
        self.fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(self.vector, [self.vector] * 3), f"llvm.fmuladd.v{self.lanes}f32"
        )

    def build(self) -> None:
        b, v = self.b, self.v
        parts = b.udiv(v["channels"], _I64(self.lanes))
        with (
            cgutils.for_range(b, v["tiles"], intp=_I64) as tile,
            cgutils.for_range(b, parts, intp=_I64) as part,
        ):
            channel = b.mul(part.index, _I64(self.lanes))
            n, m = len(self.matrix[0]), len(self.matrix)
            source = self.addresses("source", tile.index, channel, n)
            target = self.addresses("target", tile.index, channel, m)
            self.write(source, target, channel)

    def write(self, source: list, target: list, channel: ir.Value) -> None:
        """One square, from and to these addresses, of the vector of channels that begins with ``channel``."""
        if self.end == FINISH:
            self.prepare(channel)
        for rows in self.groups():
            self.map_rows(rows, source, target)

    def groups(self) -> list[Sequence[int]]:
        """Rows of M that are made together: a pair shares its even and its odd part; of a wide matrix, every
        second row meets the same sums, or differences, of pairs of columns."""
        n = len(self.matrix)
        if self.tall:
            return [(0,), *((i, i + 1) for i in range(1, n - 1, 2)), (n - 1,)]
        return [range(0, n, 2), range(1, n, 2)]

    def map_rows(self, rows: Sequence[int], source: list, target: list) -> None:
        """These rows of Y. What is not used of a column is dropped by the compiler."""
        columns = [self.times(rows, [self.load(a) for a in column]) for column in zip(*source)]
        for row, line in zip(rows, zip(*columns)):
            for value, place in zip(self.times(range(len(self.matrix)), line), target[row]):
                self.put(value, place)

    def addresses(self, name: str, tile: ir.Value, channel: ir.Value, n: int) -> list[list[ir.Value]]:
        """The addresses of the n x n vectors of the source or of the target."""
        b, v = self.b, self.v
        i_step, j_step = (b.mul(v[f"{name}_{axis}"], _I64(4)) for axis in "ij")
        corner = b.add(channel, b.mul(tile, v[f"{name}_tile"]))
        row = opaque(b, b.add(v[name], b.mul(corner, _I64(4))))
        cells = []
        for _ in range(n):
            cells.append([b.add(row, b.mul(_I64(j), j_step)) for j in range(n)])
            row = b.add(row, i_step)
        return cells

    def times(self, rows: Sequence[int], x: Sequence[ir.Value]) -> list[ir.Value]:
        """These rows of M x."""
        return self.times_tall(rows, x) if self.tall else self.times_wide(rows, x)

    def times_tall(self, rows: Sequence[int], x: Sequence[ir.Value]) -> list[ir.Value]:
        """Rows 2k - 1 and 2k are e + o and e - o, with an even part e and an odd part o."""
        done: dict[int, ir.Value] = {}
        for i in rows:
            if i in (0, len(self.matrix) - 1):
                done[i] = self.sum(list(zip(self.matrix[i], x)))
            elif i not in done:
                first, second = self.matrix[i], self.matrix[i + 1]
                even = self.sum([((p + q) / 2, v) for p, q, v in zip(first, second, x)])
                odd = [((p - q) / 2, v) for p, q, v in zip(first, second, x)]
                scale = [c for c, _ in odd if c][-1]
                rest = self.sum([(c / scale, v) for c, v in odd])
                done[i], done[i + 1] = (self.add(even, s * scale, rest) for s in (1, -1))
        return [done[i] for i in rows]

    def times_wide(self, rows: Sequence[int], x: Sequence[ir.Value]) -> list[ir.Value]:
        """Columns 2k - 1 and 2k meet the sum of their two numbers, or the difference."""
        b, last = self.b, len(x) - 1
        pairs = [(j, b.fadd(x[j], x[j + 1]), b.fsub(x[j], x[j + 1])) for j in range(1, last, 2)]
        found = []
        for row in (self.matrix[i] for i in rows):
            terms = [(row[0], x[0]), (row[last], x[last])]
            for j, plus, minus in pairs:
                terms += [((row[j] + row[j + 1]) / 2, plus), ((row[j] - row[j + 1]) / 2, minus)]
            found.append(self.sum(terms))
        return found

    def sum(self, terms: Sequence[tuple[Fraction, ir.Value]]) -> ir.Value:
        """All coefficients times their vectors; those with 1 first, which need no product."""
        total = None
        for c, x in sorted((t for t in terms if t[0]), key=lambda t: t[0] != 1):
            total = self.add(total, c, x) if total else x if c == 1 else self.b.fmul(self.constant(c), x)
        return total

    def add(self, total: ir.Value, c: Fraction, x: ir.Value) -> ir.Value:
        """total + c * x."""
        if abs(c) == 1:
            return self.b.fadd(total, x) if c == 1 else self.b.fsub(total, x)
        return self.b.call(self.fma, [self.constant(c), x, total])

    def constant(self, c: float | Fraction) -> ir.Constant:
        return ir.Constant(self.vector, [float(c)] * self.lanes)

    def prepare(self, channel: ir.Value) -> None:
        """The bias of these channels, and what the ReLU clips at."""
        b = self.b
        self.bias = self.load(b.add(self.v["start"], b.mul(channel, _I64(4))))
        clips = b.icmp_signed("!=", self.v["relu"], _I64(0))
        self.floor = b.select(clips, self.constant(0.0), self.constant(float("-inf")))

    def put(self, value: ir.Value, address: ir.Value) -> None:
        """Store a vector, or add it, or finish it, as ``end`` says."""
        b = self.b
        if self.end == ADD:
            value = b.fadd(self.load(address), value)
        elif self.end == FINISH:
            value = b.fadd(value, self.bias)
            value = b.select(b.fcmp_ordered("<", value, self.floor), self.floor, value)
        b.store(value, b.inttoptr(address, self.vector.as_pointer()), align=4)

    def load(self, address: ir.Value) -> ir.Value:
        return self.b.load(self.b.inttoptr(address, self.vector.as_pointer()), align=4)


@intrinsic(prefer_literal=True)
def _emit_map(typingctx, side, kind, end, numbers):
    name = Matrices._fields[kind.literal_value]
    matrix = getattr(matrices(side.literal_value), name)
    tall, ending = name in TALL, end.literal_value

    def codegen(context, builder, signature, values):
        numbers = read_numbers(builder, values[3], ARGUMENTS)
        Map(builder, matrix, tall, ending, registers()[0], numbers).build()
        return context.get_dummy_value()

    return types.void(side, kind, end, numbers), codegen


@functools.cache
def map_address(side: int, kind: str, end: int) -> int:
    """Address of the compiled map of that kind, a field of ``Matrices``; ``end`` is STORE, ADD or FINISH."""
    index = Matrices._fields.index(kind)

    def linear_map(numbers):
        _emit_map(side, index, end, numbers)

    return loop_address(linear_map)
