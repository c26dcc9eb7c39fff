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
_MOST = 19  # numbers that a loop is called with
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
        given = cgutils.unpack_tuple(builder, values[1])
        row = cgutils.alloca_once(builder, ir.ArrayType(_I64, _MOST))
        for i, number in enumerate([*given, *[_I64(0)] * (_MOST - len(given))]):
            builder.store(number, cgutils.gep_inbounds(builder, row, 0, i))
        loop = builder.inttoptr(values[0], ir.FunctionType(ir.VoidType(), [_I64]).as_pointer())
        builder.call(loop, [builder.ptrtoint(row, _I64)])
        return context.get_dummy_value()

    return types.void(address, numbers), codegen


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


@intrinsic
def ask_for(typingctx, address):
    """Have the line of memory at an address brought near, and go on."""

    def codegen(context, builder, signature, values):
        prefetch(builder, values[0], writes=False)
        return context.get_dummy_value()

    return types.void(types.int64), codegen
