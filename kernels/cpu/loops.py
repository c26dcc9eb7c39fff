"""Loops written as LLVM instructions: compiled once, and called by their address with a row of numbers.

The numbers are addresses, strides and counts, all int64. They are passed in memory: as arguments one by one,
Numba's way in for C callers would copy them in pieces of 32 bytes, which the processor cannot read before
those of 8 bytes that were just written are in the cache; it waited for that at the start of every tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from tinynet.kernels.cpu.jit import compiled_callback

_I64 = ir.IntType(64)
_MOST = 21  # numbers that a loop is called with
LINE = 64  # bytes that come from memory together
SIGNATURE = types.void(types.int64)
_alive: list[Any] = []  # compiled code goes with its object


def loop_address(loop: Callable) -> int:
    """Address of the loop, a function of the address of its numbers, compiled for :func:`call_loop`."""
    _alive.append(compiled_callback(loop, SIGNATURE))
    return _alive[-1].address


@intrinsic
def call_loop(typingctx, address, numbers):
    """Call the loop at ``address`` with a tuple of int64; those that are left out at the end are 0."""

    def codegen(context, builder, signature, values):
        _call(builder, values[0], _write(builder, values[1]))
        return context.get_dummy_value()

    return types.void(address, numbers), codegen


def _write(builder: ir.IRBuilder, numbers: ir.Value) -> ir.Value:
    """The address of a row with these numbers."""
    given = cgutils.unpack_tuple(builder, numbers)
    row = cgutils.alloca_once(builder, ir.ArrayType(_I64, _MOST))
    for i, number in enumerate([*given, *[_I64(0)] * (_MOST - len(given))]):
        builder.store(number, cgutils.gep_inbounds(builder, row, 0, i))
    return builder.ptrtoint(row, _I64)


def _call(builder: ir.IRBuilder, address: ir.Value, row: ir.Value) -> None:
    kind = ir.FunctionType(ir.VoidType(), [_I64])
    builder.call(builder.inttoptr(address, kind.as_pointer()), [row])


@intrinsic
def write_numbers(typingctx, numbers):
    """Write a tuple of int64 for :func:`call_again`; returns its address, which is good until this is called
    again from the same place."""

    def codegen(context, builder, signature, values):
        return _write(builder, values[0])

    return types.int64(numbers), codegen


@intrinsic(prefer_literal=True)
def call_again(typingctx, address, row, places, numbers):
    """Call the loop at ``address`` with a row of :func:`write_numbers`, of which ``numbers`` take the
    ``places``. So few stores are made: behind the results of a short loop, more would have to queue."""
    where = [place.literal_value for place in places]

    def codegen(context, builder, signature, values):
        row = builder.inttoptr(values[1], _I64.as_pointer())
        for place, number in zip(where, cgutils.unpack_tuple(builder, values[3])):
            builder.store(number, builder.gep(row, [_I64(place)]))
        _call(builder, values[0], values[1])
        return context.get_dummy_value()

    return types.void(address, row, places, numbers), codegen


def read_numbers(builder: ir.IRBuilder, address: ir.Value, names: Sequence[str]) -> dict[str, ir.Value]:
    """What a loop is called with, by name."""
    row = builder.inttoptr(address, _I64.as_pointer())
    return {name: builder.load(builder.gep(row, [_I64(i)])) for i, name in enumerate(names)}


def spread(builder: ir.IRBuilder, number: ir.Value, lanes: int) -> ir.Value:
    """A vector with the number in all lanes."""
    none = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
    one = builder.insert_element(none, number, ir.IntType(32)(0))
    return builder.shuffle_vector(one, none, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))


def strided(builder: ir.IRBuilder, address: ir.Value, stride: ir.Value, count: int) -> Iterator[ir.Value]:
    """The addresses of ``count`` places, ``stride`` bytes from each other.

    An address is the one of four places before and up to three strides, which a load adds by itself. Left
    alone, the compiler makes each from the one before, which a processor of two products a cycle waits for,
    or keeps and advances as many pointers as there are places, in memory.
    """
    for i in range(count):
        if i % 4 == 0:
            address = opaque(builder, builder.add(address, builder.mul(stride, _I64(4 if i else 0))))
        yield builder.add(address, builder.mul(stride, _I64(i % 4)))


def opaque(builder: ir.IRBuilder, number: ir.Value) -> ir.Value:
    """The same number, but the compiler does not know how it came about."""
    return builder.asm(ir.FunctionType(_I64, [_I64]), "", "=r,0", [number], side_effect=False)


def prefetch(builder: ir.IRBuilder, address: ir.Value, writes: bool) -> None:
    """Ask for the line of memory at an address (bytes), and go on: what is to be written for the nearest
    cache, what is to be read later for the one behind it. There may be nothing at the address."""
    byte, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    near, data = i32(3 if writes else 2), i32(1)
    builder.call(function, [builder.inttoptr(address, byte), i32(int(writes)), near, data])


class Ahead:
    """What comes next: "some" bytes from the address "ahead" on. Each of so many asks brings a part near.

    All at once, they would be more than a core can have under way, and the loads of this loop would wait
    behind them. If they are more than a line for each ask, they are left to the processor's own guesses, and
    the asks go to a line that is near already, as they do without an address.
    """

    def __init__(self, builder: ir.IRBuilder, values: dict[str, ir.Value], asks: ir.Value):
        b, some, zero = builder, values["some"], _I64(0)
        none = b.icmp_signed("==", values["ahead"], zero)
        self.b, self.pace = b, cgutils.alloca_once_value(b, zero)
        self.place = cgutils.alloca_once_value(b, b.select(none, values["a"], values["ahead"]))
        most = b.mul(asks, _I64(LINE))
        with b.if_then(b.and_(b.icmp_signed(">", some, zero), b.icmp_signed("<=", some, most))):
            b.store(b.udiv(some, asks), self.pace)

    def ask(self) -> None:
        """Have the next part brought near."""
        place = self.b.load(self.place)
        prefetch(self.b, place, writes=False)
        self.b.store(self.b.add(place, self.b.load(self.pace)), self.place)
