"""A square of numbers turned over in registers: what packs a transposed matrix at the speed of the cache."""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from tinynet.kernels.cpu.microkernel import registers

LANES = registers()[0]  # side of the square


@intrinsic
def transpose_square(typingctx, source, source_row, target, target_row):
    """Write LANES x LANES floats transposed: addresses in bytes, distances of rows in floats.

    Seen as 2 x 2 blocks, a transpose swaps the two blocks off the diagonal and then transposes each block:
    so log2(LANES) times, pairs of rows exchange half of their numbers.
    """

    def codegen(context, builder, signature, values):
        source, source_row, target, target_row = values
        rows = [builder.load(_row(builder, source, source_row, i), align=4) for i in range(LANES)]
        half = LANES // 2
        while half:
            for i in range(LANES):
                if not i & half:
                    rows[i], rows[i + half] = _exchange(builder, rows[i], rows[i + half], half)
            half //= 2
        for i, row in enumerate(rows):
            builder.store(row, _row(builder, target, target_row, i), align=4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


def _row(builder, base, distance, i):
    i64 = ir.IntType(64)
    address = builder.add(base, builder.mul(distance, i64(4 * i)))
    return builder.inttoptr(address, ir.VectorType(ir.FloatType(), LANES).as_pointer())


def _exchange(builder, a, b, half):
    """Swap the lanes of a whose number has the bit ``half`` with those of b that lack it."""
    number = ir.VectorType(ir.IntType(32), LANES)
    low = [k if not k & half else LANES + k - half for k in range(LANES)]
    high = [k + half if not k & half else LANES + k for k in range(LANES)]
    return tuple(builder.shuffle_vector(a, b, ir.Constant(number, lanes)) for lanes in (low, high))
