"""The largest number in each window of 2 x 2, for a vector of channels at once: the end of a pooling loop."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from tinynet.kernels.blocks import CLOSED
from tinynet.kernels.cpu.loops import spread

_FLOAT = ir.FloatType()


def largest(builder: ir.IRBuilder, corners: Sequence[ir.Value], relu: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The largest of four vectors, clipped at zero if ``relu`` (int64) is not 0, and its place as bytes.

    The first of the largest wins, and a NaN over every number. The place is 0 to 3, or ``CLOSED`` where the
    ReLU lets nothing through.
    """
    b, kind = builder, corners[0].type
    places = [place(k, kind.count) for k in range(4)]
    above, below = (_better(b, *corners[k : k + 2], *places[k : k + 2]) for k in (0, 2))
    best, at = _better(b, above[0], below[0], above[1], below[1])
    clips = b.icmp_signed("!=", relu, ir.IntType(64)(0))
    floor = spread(b, b.select(clips, _FLOAT(0.0), _FLOAT(float("-inf"))), kind.count)
    zero, flags = ir.Constant(kind, [0.0] * kind.count), ir.VectorType(ir.IntType(1), kind.count)
    yes, no = (ir.Constant(flags, [bit] * kind.count) for bit in (1, 0))
    closed = b.and_(b.fcmp_unordered("<=", best, zero), b.select(clips, yes, no))
    at = b.select(closed, place(CLOSED, kind.count), at)
    best = b.select(b.fcmp_ordered("<", best, floor), floor, best)
    return best, b.trunc(at, ir.VectorType(ir.IntType(8), kind.count))


def _better(b: ir.IRBuilder, first, second, first_at, second_at) -> tuple[ir.Value, ir.Value]:
    """The larger of two vectors, and its place."""
    is_number = b.fcmp_ordered("==", first, first)
    wins = b.and_(b.fcmp_unordered("<", first, second), is_number)
    return b.select(wins, second, first), b.select(wins, second_at, first_at)


def largest_alone(builder: ir.IRBuilder, corners: Sequence[ir.Value], relu: ir.Value) -> ir.Value:
    """The same without the place, in a third of the instructions.

    The processor's maximum would lose a NaN, so those are found apart.
    """
    b, kind = builder, corners[0].type
    floor = b.select(b.icmp_signed("!=", relu, ir.IntType(64)(0)), _FLOAT(0.0), _FLOAT(float("-inf")))
    best = corners[0]
    for other in (*corners[1:], spread(b, floor, kind.count)):
        best = b.select(b.fcmp_ordered(">", other, best), other, best)
    pairs = [b.fcmp_unordered("uno", *corners[k : k + 2]) for k in (0, 2)]
    return b.select(b.or_(*pairs), ir.Constant(kind, [float("nan")] * kind.count), best)


def place(k: int, lanes: int) -> ir.Constant:
    """Place ``k`` in all lanes, as wide as the numbers that it is chosen with."""
    return ir.Constant(ir.VectorType(ir.IntType(32), lanes), [k] * lanes)
