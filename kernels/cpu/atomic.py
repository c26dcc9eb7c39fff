"""What threads speak to each other with: words of memory that change in one step, and locks to sleep on.

Every word has a cache line of its own, so that writing one does not disturb who reads another. All operations
are sequentially consistent: every thread sees them in one and the same order.
"""

from __future__ import annotations

import ctypes
import platform

import llvmlite.binding
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

_VOID, _I32, _I64 = ir.VoidType(), ir.IntType(32), ir.IntType(64)
_LINE = 64  # bytes of a cache line
_NAME = "tinynet_words"
_ORDER = "seq_cst"

# Python's own locks, which sleep in the way of the system at hand; neither function needs the interpreter.
_python = ctypes.pythonapi
for _name in ("PyThread_acquire_lock", "PyThread_release_lock"):
    llvmlite.binding.add_symbol(_name, ctypes.cast(getattr(_python, _name), ctypes.c_void_p).value)
_python.PyThread_allocate_lock.restype = ctypes.c_void_p
_python.PyThread_acquire_lock.argtypes = ctypes.c_void_p, ctypes.c_int
_python.PyThread_release_lock.argtypes = (ctypes.c_void_p,)


class Words:
    """The words, all zero; compiled code finds them by name."""

    def __init__(self, count: int):
        self._memory = (ctypes.c_char * (_LINE * (count + 1)))()
        start = ctypes.addressof(self._memory)
        self._start = start + -start % _LINE
        llvmlite.binding.add_symbol(_NAME, self._start)

    def __setitem__(self, i: int, value: int) -> None:
        ctypes.c_int64.from_address(self._start + _LINE * i).value = value

    def __getitem__(self, i: int) -> int:
        return ctypes.c_int64.from_address(self._start + _LINE * i).value


def new_lock() -> int:
    """A lock on which nobody sleeps yet: the first who waits does, until somebody wakes him."""
    lock = _python.PyThread_allocate_lock()
    _python.PyThread_acquire_lock(lock, 0)
    return lock


def rouse(lock: int) -> None:
    """Wake the one who sleeps on a lock, from Python."""
    _python.PyThread_release_lock(lock)


def _pointer(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    return builder.inttoptr(address, _I64.as_pointer())


@intrinsic
def word(typingctx, i):
    """Address of word i."""

    def codegen(context, builder, signature, values):
        words = builder.module.globals.get(_NAME) or ir.GlobalVariable(builder.module, _I64, _NAME)
        return builder.add(builder.ptrtoint(words, _I64), builder.mul(values[0], _I64(_LINE)))

    return types.int64(types.int64), codegen


@intrinsic
def load(typingctx, address):
    """The value of a word."""

    def codegen(context, builder, signature, values):
        return builder.load_atomic(_pointer(builder, values[0]), _ORDER, 8)

    return types.int64(types.int64), codegen


@intrinsic
def store(typingctx, address, value):
    """Write a word."""

    def codegen(context, builder, signature, values):
        builder.store_atomic(values[1], _pointer(builder, values[0]), _ORDER, 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def add(typingctx, address, value):
    """Add to a word; returns what it was before."""

    def codegen(context, builder, signature, values):
        return builder.atomic_rmw("add", _pointer(builder, values[0]), values[1], _ORDER)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def exchange(typingctx, address, value):
    """Write a word; returns what it was before."""

    def codegen(context, builder, signature, values):
        return builder.atomic_rmw("xchg", _pointer(builder, values[0]), values[1], _ORDER)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def replace(typingctx, address, old, new):
    """Write ``new`` if the word is ``old``; whether it was."""

    def codegen(context, builder, signature, values):
        pair = builder.cmpxchg(_pointer(builder, values[0]), values[1], values[2], _ORDER, _ORDER)
        return builder.extract_value(pair, 1)

    return types.boolean(types.int64, types.int64, types.int64), codegen


@intrinsic
def pause(typingctx):
    """Tell the processor that this thread only waits."""

    def codegen(context, builder, signature, values):
        processor = platform.machine()
        if processor in ("x86_64", "AMD64"):
            builder.call(_declared(builder.module, ir.FunctionType(_VOID, []), "llvm.x86.sse2.pause"), [])
        elif processor in ("aarch64", "arm64"):
            hint = _declared(builder.module, ir.FunctionType(_VOID, [_I32]), "llvm.aarch64.hint")
            builder.call(hint, [_I32(1)])  # its name is "yield"
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def sleep(typingctx, lock):
    """Sleep on a lock until :func:`wake`, or not at all if that came before."""

    def codegen(context, builder, signature, values):
        kind = ir.FunctionType(_I32, [_I64, _I32])
        builder.call(_declared(builder.module, kind, "PyThread_acquire_lock"), [values[0], _I32(1)])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def wake(typingctx, lock):
    """Wake the one who sleeps on a lock."""

    def codegen(context, builder, signature, values):
        kind = ir.FunctionType(_VOID, [_I64])
        builder.call(_declared(builder.module, kind, "PyThread_release_lock"), [values[0]])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def call(typingctx, function, argument, number):
    """Call the function at an address with two arguments, an address and a number."""

    def codegen(context, builder, signature, values):
        kind = ir.FunctionType(_VOID, [_I64, _I64])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), values[1:])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


def _declared(module: ir.Module, kind: ir.FunctionType, name: str) -> ir.Function:
    return module.globals.get(name) or ir.Function(module, kind, name)
