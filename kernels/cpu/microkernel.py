"""The one inner loop behind convolution, its gradients and matrix products: a tile kept in registers.

A tile is ``rows`` x ``vectors`` vector registers. All the time it computes

    tile[p, :] += a[p * a_row + k * a_step] * b[k * b_step + (0 ... columns)]        for k in 0 ... steps - 1

for each segment (an offset into a, an offset into b) in a list, and clips it at zero on the way out if it is
told to. One number of a is spread over a register
and multiplied into ``vectors`` registers of b; rows x vectors such products are under way at once, which is
what keeps the multipliers of the processor busy. Nothing is gathered into columns first: in a features-last
image the pixels under one kernel row are neighbours in memory, so the *segments* walk over the kernel rows
and the *steps* along each of them (implicit im2col).

The loop is written as LLVM vector instructions, because compilers do not find this form by themselves.
Strides and addresses are run-time numbers; only (rows, vectors, lanes, ragged, run, pooled, paired) make a
different tile. Rows come in runs when a kernel window of few channels is laid out whole: row p then starts at
a + (p // run) * a_run + (p % run) * a_row. So two rows of pixels can be one tile; it may be *pooled*, then of
each window of 2 x 2 pixels only the largest value leaves the registers, and where it stood. A *paired* tile,
of whole vectors, multiplies column by column, as convolutions do whose channels do not mix:
tile[p, j] += a[... + j] * b[... + j].
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic

from tinynet.kernels.cpu.largest import largest
from tinynet.kernels.cpu.loops import Ahead, loop_address, prefetch, read_numbers, spread, strided

_FLOAT = ir.FloatType()
_I64 = ir.IntType(64)
ALIGNED = ir.IntType(32)(4)  # floats stand at multiples of 4 bytes, vectors anywhere

# What a tile is called with: addresses in bytes, strides and offsets in floats, relu 1 to clip at zero. Those
# left out at the end are 0. A pooled tile writes the places of the largest to "where", in bytes. How far runs
# of rows are from each other is "a_run" and, for tiles that need it, "out_run". Of what comes next, at the
# address "ahead", a tile asks for "some" bytes, evenly over its steps. Tiles of any number of pixels in any
# number of rows are told "pixels" and "lines".
ARGUMENTS = (
    "a", "a_row", "a_step", "b", "b_step", "segments", "n_segments", "steps",
    "start", "start_row", "out", "out_row", "columns", "relu", "a_run", "out_run", "where",
    "ahead", "some", "pixels", "lines",
)  # fmt: skip
MOVING = tuple(map(ARGUMENTS.index, ("a", "out", "where", "ahead")))  # all that changes from tile to tile
_LONG = 16  # steps during which the places of the results can come from memory
SLACK = 16  # a ragged tile reads up to this many floats beyond the last column of b


@functools.cache
def registers() -> tuple[int, int]:
    """(floats per vector register, number of them) of the processor that Numba compiles for."""
    features = _features()
    if "avx512f" in features:
        return 16, 32
    if {"avx2", "fma"} <= features:
        return 8, 16
    return (4, 32) if "neon" in features else (4, 15)  # without a fused product one register is in between


def most_rows(vectors: int) -> int:
    """How many rows a tile may have, when a row of b and a spread number need registers beside it."""
    return (registers()[1] - vectors - 1) // vectors


def _features() -> set[str]:
    """This processor's instruction sets, or what NUMBA_CPU_NAME and NUMBA_CPU_FEATURES leave of them."""
    if config.CPU_NAME or config.CPU_FEATURES:
        return {name[1:] for name in (config.CPU_FEATURES or "").split(",") if name.startswith("+")}
    return {name for name, present in llvmlite.binding.get_host_cpu_features().items() if present}


def lanes_below(builder: ir.IRBuilder, count: ir.Value, lanes: int) -> ir.Value:
    """The mask of the first ``count`` (int64) lanes of a vector that is partly beyond an array."""
    numbers = ir.Constant(ir.VectorType(_I64, lanes), list(range(lanes)))
    return builder.icmp_signed("<", numbers, spread(builder, count, lanes))


def masked(builder: ir.IRBuilder, name: str, vector: ir.VectorType, operands: list) -> ir.Value:
    """LLVM's "load" (address, align, mask, what else) or "store" (value, address, align, mask)."""
    returned = vector if name == "load" else ir.VoidType()
    kind = ir.FunctionType(returned, [operand.type for operand in operands])
    numbers = f"v{vector.count}{'f32' if vector.element == _FLOAT else 'i8'}"
    function = cgutils.get_or_insert_function(
        builder.module, kind, f"llvm.masked.{name}.{numbers}.p0{numbers}"
    )
    return builder.call(function, operands)


class _TileBuilder:
    """Writes the LLVM instructions of one tile."""

    def __init__(
        self,
        builder: ir.IRBuilder,
        rows: int,
        vectors: int,
        lanes: int,
        ragged: bool,
        run: int,
        pooled: bool,
        paired: bool,
        values: dict,
    ):
        self.builder, self.rows, self.vectors, self.lanes, self.ragged = builder, rows, vectors, lanes, ragged
        self.run, self.pooled, self.paired, self.v = run, pooled, paired, values
        self.vector = ir.VectorType(_FLOAT, lanes)
        self.tile = [cgutils.alloca_once(builder, self.vector) for _ in range(rows * vectors)]
        self.fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(self.vector, [self.vector] * 3), f"llvm.fmuladd.v{lanes}f32"
        )
        last = builder.sub(values["columns"], _I64((vectors - 1) * lanes))
        self.mask = lanes_below(builder, last, lanes) if ragged else None
        self.floor = spread(
            builder,
            builder.select(
                builder.icmp_signed("!=", values["relu"], _I64(0)), _FLOAT(0.0), _FLOAT(float("-inf"))
            ),
            lanes,
        )

    def build(self) -> None:
        b, v = self.builder, self.v
        if not self.pooled:
            with b.if_then(b.icmp_signed(">=", v["steps"], _I64(_LONG))):
                self.each_vector(v["out"], v["out_row"], self.ask_for)
        self.each_vector(v["start"], v["start_row"], self.load_into)
        ahead = Ahead(b, v, b.mul(v["n_segments"], v["steps"]))
        with cgutils.for_range(b, v["n_segments"], intp=_I64) as segment:
            entry = b.add(v["segments"], b.mul(segment.index, _I64(16)))  # two 8-byte offsets
            a = self.offset(v["a"], b.load(self.pointer(entry, _I64)))
            w = self.offset(v["b"], b.load(self.pointer(b.add(entry, _I64(8)), _I64)))
            with cgutils.for_range(b, v["steps"], intp=_I64) as step:
                ahead.ask()
                self.multiply(
                    self.offset(a, b.mul(step.index, v["a_step"])),
                    self.offset(w, b.mul(step.index, v["b_step"])),
                )
        if self.pooled:
            self.store_largest()
        else:
            self.each_vector(v["out"], v["out_row"], self.store_from)

    def multiply(self, a: ir.Value, w: ir.Value) -> None:
        """One step: a vector of b for each column block, and for each row a number of a, or as many."""
        b = self.builder
        weights = [self.load(self.offset(w, _I64(j * self.lanes))) for j in range(self.vectors)]
        for p, address in enumerate(self.places(a)):
            numbers = self.numbers(address)
            for j in range(self.vectors):
                cell = self.tile[p * self.vectors + j]
                b.store(b.call(self.fma, [numbers[j], weights[j], b.load(cell)]), cell)

    def numbers(self, address: ir.Value) -> list[ir.Value]:
        """What each vector of b is multiplied with."""
        if self.paired:
            return [self.load(self.offset(address, _I64(j * self.lanes))) for j in range(self.vectors)]
        number = self.builder.load(self.pointer(address, _FLOAT), align=4)
        return [spread(self.builder, number, self.lanes)] * self.vectors

    def places(self, a: ir.Value) -> Iterator[ir.Value]:
        """Where the numbers of one step are, row by row."""
        b = self.builder
        row, run = (b.mul(self.v[name], _I64(4)) for name in ("a_row", "a_run"))
        for first in strided(b, a, run, self.rows // self.run):
            yield from strided(b, first, row, self.run)

    def each_vector(self, base: ir.Value, row_stride: ir.Value, visit) -> None:
        stride = self.builder.mul(row_stride, _I64(4))
        for p, row in enumerate(strided(self.builder, base, stride, self.rows)):
            for j in range(self.vectors):
                address = self.offset(row, _I64(j * self.lanes))
                visit(self.tile[p * self.vectors + j], address, self.ragged and j == self.vectors - 1)

    def ask_for(self, cell: ir.Value, address: ir.Value, ragged: bool) -> None:
        """Have the place of a result brought near, which else its store would wait for: meanwhile the
        products are made."""
        prefetch(self.builder, address, writes=True)

    def load_into(self, cell: ir.Value, address: ir.Value, ragged: bool) -> None:
        if ragged:
            place, rest = self.pointer(address, self.vector), ir.Constant(self.vector, None)
            value = masked(self.builder, "load", self.vector, [place, ALIGNED, self.mask, rest])
        else:
            value = self.load(address)
        self.builder.store(value, cell)

    def store_from(self, cell: ir.Value, address: ir.Value, ragged: bool) -> None:
        value = self.builder.load(cell)
        value = self.builder.select(self.builder.fcmp_ordered("<", value, self.floor), self.floor, value)
        self.store(value, address, ragged)

    def store_largest(self) -> None:
        """Of each 2 x 2 pixels of the two rows the largest, and its place."""
        b, v, windows = self.builder, self.v, self.run // 2
        values = strided(b, v["out"], b.mul(v["out_row"], _I64(4)), windows)
        places = strided(b, v["where"], v["out_row"], windows)
        for i, (value, place) in enumerate(zip(values, places)):
            pixels = [first + 2 * i + k for first in (0, self.run) for k in (0, 1)]
            for j in range(self.vectors):
                corners = [b.load(self.tile[p * self.vectors + j]) for p in pixels]
                best, at = largest(b, corners, v["relu"])
                ragged = self.ragged and j == self.vectors - 1
                self.store(best, self.offset(value, _I64(j * self.lanes)), ragged)
                self.store(at, b.add(place, _I64(j * self.lanes)), ragged)

    def store(self, value: ir.Value, address: ir.Value, ragged: bool) -> None:
        place, align = self.pointer(address, value.type), 4 if value.type == self.vector else 1
        if ragged:
            masked(self.builder, "store", value.type, [value, place, ir.IntType(32)(align), self.mask])
        else:
            self.builder.store(value, place, align=align)

    def load(self, address: ir.Value) -> ir.Value:
        return self.builder.load(self.pointer(address, self.vector), align=4)

    def offset(self, address: ir.Value, floats: ir.Value) -> ir.Value:
        return self.builder.add(address, self.builder.mul(floats, _I64(4)))

    def pointer(self, address: ir.Value, kind: ir.Type) -> ir.Value:
        return self.builder.inttoptr(address, kind.as_pointer())


@intrinsic(prefer_literal=True)
def _emit_tile(typingctx, rows, vectors, lanes, ragged, run, pooled, paired, numbers):
    shape = [t.literal_value for t in (rows, vectors, lanes, ragged, run, pooled, paired)]

    def codegen(context, builder, signature, values):
        _TileBuilder(builder, *shape, read_numbers(builder, values[7], ARGUMENTS)).build()
        return context.get_dummy_value()

    return types.void(rows, vectors, lanes, ragged, run, pooled, paired, numbers), codegen


@functools.cache
def tile_address(
    rows: int, vectors: int, lanes: int, ragged: bool, run: int | None = None, pooled: bool = False,
    paired: bool = False,
) -> int:  # fmt: skip
    """Address of the compiled tile; its first use compiles it (about 80 ms) or loads it from disk."""
    kind = int(ragged), run or rows, int(pooled), int(paired)
    return loop_address(tile_function(rows, vectors, lanes, *kind))


def tile_function(
    rows: int, vectors: int, lanes: int, ragged: int, run: int, pooled: int = 0, paired: int = 0
) -> Callable:
    """The tile of that shape, to be called with the address of its ``ARGUMENTS``."""

    def tile(numbers):
        _emit_tile(rows, vectors, lanes, ragged, run, pooled, paired, numbers)

    return tile


@intrinsic
def address_of(typingctx, array):
    """Address of the first element of a NumPy array, as int64."""

    def codegen(context, builder, signature, values):
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        return builder.ptrtoint(data, _I64)

    return types.int64(array), codegen
