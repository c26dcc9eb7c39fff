"""The small linear maps of Winograd's convolution, Y = M X M^T for every channel, as vector instructions.

X is a square of vectors: its corner lies at ``source``, the vector in row i and column j of it
i * source_i + j * source_j further, and the next tile ``source_tile`` further; likewise Y. The entries of M
are 0, 1 and -1, so each map is a handful of additions, with all of a tile in registers.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from tinynet.kernels.cpu.jit import compiled_callback
from tinynet.kernels.cpu.microkernel import keep_alive, registers

# The four maps of winograd.py: the input's, the output's, and their adjoints on the way back.
INPUT, OUTPUT, OUTPUT_BACK, INPUT_BACK = range(4)
_B = ((1, 0, 0, 0), (0, 1, -1, 1), (-1, 1, 1, 0), (0, 0, 0, -1))
_A = ((1, 0), (1, 1), (1, -1), (0, -1))
MATRICES = (tuple(zip(*_B)), tuple(zip(*_A)), _A, _B)

_I64, _FLOAT = ir.IntType(64), ir.FloatType()

# Addresses in bytes, strides in floats. The target is stored, or added to, or is given a bias and a ReLU.
ARGUMENTS = (
    "source", "source_i", "source_j", "source_tile", "target", "target_i", "target_j", "target_tile", "tiles",
    "channels", "bias", "relu",
)  # fmt: skip
STORE, ADD, FINISH = range(3)


class _Map:
    """Writes the instructions of one map."""

    def __init__(
        self, builder: ir.IRBuilder, matrix: Sequence[Sequence[int]], end: int, values: dict[str, Any]
    ):
        self.b, self.matrix, self.end, self.v = builder, matrix, end, values
        self.lanes = registers()[0]
        self.vector = ir.VectorType(_FLOAT, self.lanes)

    def build(self) -> None:
        b, v = self.b, self.v
        parts = b.udiv(v["channels"], _I64(self.lanes))
        with (
            cgutils.for_range(b, v["tiles"], intp=_I64) as tile,
            cgutils.for_range(b, parts, intp=_I64) as part,
        ):
            channel = b.mul(part.index, _I64(self.lanes))
            n, m = len(self.matrix[0]), len(self.matrix)
            x = [[self.load(a) for a in row] for row in self.addresses("source", tile.index, channel, n)]
            y = self.times(zip(*self.times(zip(*x))))
            places = self.addresses("target", tile.index, channel, m)
            if self.end == FINISH:
                self.prepare(channel)
            for values, row in zip(y, places):
                for value, place in zip(values, row):
                    self.put(value, place)

    def addresses(self, name: str, tile: ir.Value, channel: ir.Value, n: int) -> list[list[ir.Value]]:
        b, v = self.b, self.v
        corner = b.add(channel, b.mul(tile, v[f"{name}_tile"]))
        rows = [b.add(corner, b.mul(_I64(i), v[f"{name}_i"])) for i in range(n)]
        cells = [[b.add(row, b.mul(_I64(j), v[f"{name}_j"])) for j in range(n)] for row in rows]
        return [[b.add(v[name], b.mul(cell, _I64(4))) for cell in row] for row in cells]

    def times(self, columns: Any) -> list[list[ir.Value]]:
        """M times each column of a square (or, transposed, each row times M^T)."""
        return [[self.combine(row, column) for row in self.matrix] for column in columns]

    def combine(self, signs: Sequence[int], vectors: Sequence[ir.Value]) -> ir.Value:
        """The vectors with sign 1 added up, less those with sign -1."""
        plus = [x for s, x in zip(signs, vectors) if s > 0]
        minus = [x for s, x in zip(signs, vectors) if s < 0]
        total = plus[0] if plus else self.b.fneg(minus.pop(0))
        for x in plus[1:]:
            total = self.b.fadd(total, x)
        for x in minus:
            total = self.b.fsub(total, x)
        return total

    def prepare(self, channel: ir.Value) -> None:
        """The bias of these channels, and what the ReLU clips at."""
        b = self.b
        self.bias = self.load(b.add(self.v["bias"], b.mul(channel, _I64(4))))
        zero, lowest = (ir.Constant(self.vector, [x] * self.lanes) for x in (0.0, float("-inf")))
        self.floor = b.select(b.icmp_signed("!=", self.v["relu"], _I64(0)), zero, lowest)

    def put(self, value: ir.Value, address: ir.Value) -> None:
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
def _emit_map(typingctx, number, end, arguments):
    matrix, ending = MATRICES[number.literal_value], end.literal_value

    def codegen(context, builder, signature, values):
        numbers = cgutils.unpack_tuple(builder, values[2], len(ARGUMENTS))
        _Map(builder, matrix, ending, dict(zip(ARGUMENTS, numbers))).build()
        return context.get_dummy_value()

    return types.void(number, end, arguments), codegen


@functools.cache
def map_address(number: int, end: int) -> int:
    """Address of the compiled map ``MATRICES[number]``; ``end`` is STORE, ADD or FINISH."""

    def linear_map(
        source, source_i, source_j, source_tile, target, target_i, target_j, target_tile, tiles, channels,
        bias, relu,
    ):  # fmt: skip
        _emit_map(
            number, end,
            (source, source_i, source_j, source_tile, target, target_i, target_j, target_tile, tiles,
             channels, bias, relu),
        )  # fmt: skip

    return keep_alive(compiled_callback(linear_map, types.void(*[types.int64] * len(ARGUMENTS))))


@intrinsic
def call_map(typingctx, address, arguments):
    """Call the map at ``address`` with a tuple of int64 in the order of ``ARGUMENTS``; missing ones are 0."""

    def codegen(context, builder, signature, values):
        given = cgutils.unpack_tuple(builder, values[1])
        numbers = [*given, *[_I64(0)] * (len(ARGUMENTS) - len(given))]
        kind = ir.FunctionType(ir.VoidType(), [_I64] * len(ARGUMENTS))
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), numbers)
        return context.get_dummy_value()

    return types.void(address, arguments), codegen
