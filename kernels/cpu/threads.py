"""How many threads there are, and sharing the work of a kernel among them.

``share(tasks, body, arguments)`` stands in a kernel where a loop over tasks would. Every thread has a block
of neighbouring tasks and takes one after the other; when it has done its own it takes what the others have
left. So a thread finds the samples, which it worked on in the layer before, in the caches of its own core.
Which thread does what is still a matter of chance, what comes out is not, as long as each task writes to
places of its own. The threads are those of team.py; with one thread or one task no other is called. The loop
is compiled as quickly as a plain call, where each of Numba's own parallel loops takes 0.5 s and more.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

import llvmlite.binding
import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

import tinynet.kernels.cpu.team as team
from tinynet.kernels.cpu.jit import optimise_in_caller

_count = ctypes.c_int32(numba.config.NUMBA_NUM_THREADS)


def most_threads() -> tuple[int, str]:
    """How many threads there can be, and why not more."""
    return numba.config.NUMBA_NUM_THREADS, "one for each processor core, or as NUMBA_NUM_THREADS says"


def thread_count() -> int:
    """How many threads the kernels use."""
    return _count.value


def set_thread_count(n: int) -> None:
    """Have the kernels use ``n`` threads, 1 to ``most_threads()[0]``, whichever Python thread calls them."""
    _count.value = n
    team.start(n - 1)


def shares_for(images: int, sums: int = 0) -> int:
    """Into how many shares to cut so many images for the threads; each share has so many sums of its own.

    Up to four for each thread, so that one which is held up is helped by the others, as long as the sums,
    which are added up in the end, stay within a megabyte. The number depends on sizes and threads alone, so
    the order of summation and with it every bit of the result is always the same.
    """
    threads = thread_count()
    if threads == 1:
        return 1
    each = max(1, min(4, (1 << 18) // max(sums, 1) // threads))
    return max(1, min(images, each * threads))


def tasks_for(rows: int, numbers: int) -> int:
    """Into how many tasks to cut so many rows of so many numbers in all, whatever the number of threads.

    A task has some thousand numbers, few enough for the nearest cache. Below some ten thousand in all, waking
    the other threads costs more than they save: that is one task.
    """
    return min(rows, numbers >> 12) if numbers >= 1 << 15 else 1


def _after_fork() -> None:
    """A child has one thread until it asks for more: it is rarely the only one."""
    _count.value = 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

# What compiled code finds by name, so that it can be kept on disk: addresses differ from process to process.
llvmlite.binding.add_symbol("tinynet_threads", ctypes.addressof(_count))
for _name, _address in team.addresses().items():
    llvmlite.binding.add_symbol(_name, _address)

_VOID, _I32, _I64 = ir.VoidType(), ir.IntType(32), ir.IntType(64)
_LOOP = ir.FunctionType(_VOID, [_I64, _I64])
_LEAD = ir.FunctionType(_VOID, [_I64, _I64])
_TAKE = ir.FunctionType(_I64, [_I64, _I64])


@intrinsic
def share(typingctx: Any, tasks: Any, body: Any, arguments: Any) -> Any:
    """Call ``body(task, *arguments)`` for every task of 0 ... tasks - 1, in threads; ``body`` is a kernel."""
    given = (types.int64, *map(types.unliteral, arguments))
    optimise_in_caller(body.dispatcher)
    called = typingctx.resolve_function_type(body, given, {})

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        compiled = body.dispatcher.overloads[called.args]
        context.add_linking_libs([compiled.library])
        loop = _loop(context, builder.module, compiled.fndesc, values[2].type)
        failed = _run(context, builder, loop, values[0], values[2])
        with cgutils.if_unlikely(builder, failed):
            context.call_conv.return_user_exc(builder, MemoryError, ("a CPU kernel found no memory",))
        return context.get_dummy_value()

    return types.void(types.int64, body, arguments), codegen


def _loop(context: Any, module: ir.Module, body: Any, arguments: ir.Type) -> ir.Function:
    """What each thread runs: the next task for it, until there is none."""
    function = ir.Function(module, _LOOP, module.get_unique_name("loop"))
    function.linkage = "internal"
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    board, thread = function.args
    place = builder.inttoptr(board, _environment(arguments).as_pointer())
    words, own = (cgutils.gep_inbounds(builder, place, 0, i) for i in range(2))
    values = cgutils.unpack_tuple(builder, builder.load(own))
    callee = context.declare_function(module, body)
    take, work, done = (builder.append_basic_block(name) for name in ("take", "work", "done"))
    builder.branch(take)
    builder.position_at_end(take)
    task = builder.call(cgutils.get_or_insert_function(module, _TAKE, "tinynet_take"), [board, thread])
    builder.cbranch(builder.icmp_signed(">=", task, _I64(0)), work, done)
    builder.position_at_end(work)
    status, _ = context.call_conv.call_function(builder, callee, body.restype, body.argtypes, [task, *values])
    with builder.if_then(status.is_error):
        builder.store(_I64(1), cgutils.gep_inbounds(builder, words, 0, team.FAILED))
    builder.branch(take)
    builder.position_at_end(done)
    builder.ret_void()
    return function


def _environment(arguments: ir.Type) -> ir.Type:
    """What all threads see: the board on which the tasks are dealt out (see team.py), and the arguments."""
    return ir.LiteralStructType([ir.ArrayType(_I64, team.BOARD), arguments])


def _run(context: Any, builder: Any, loop: ir.Function, tasks: ir.Value, arguments: ir.Value) -> ir.Value:
    """All tasks, in threads if there are several of both; whether one failed."""
    place = cgutils.alloca_once(builder, _environment(arguments.type))
    words, own = (cgutils.gep_inbounds(builder, place, 0, i) for i in range(2))
    failed, left, threads = (
        cgutils.gep_inbounds(builder, words, 0, i) for i in (team.FAILED, team.TASKS, team.THREADS)
    )
    count = builder.zext(builder.load(_external(builder.module)), _I64)
    for value, pointer in ((_I64(0), failed), (tasks, left), (count, threads), (arguments, own)):
        builder.store(value, pointer)
    lead = cgutils.get_or_insert_function(builder.module, _LEAD, "tinynet_lead")
    builder.call(lead, [builder.ptrtoint(pointer, _I64) for pointer in (loop, place)])
    return builder.icmp_signed("!=", builder.load(failed), _I64(0))


def _external(module: ir.Module) -> ir.GlobalVariable:
    """The number of threads, which lives outside of all compiled code."""
    known = module.globals.get("tinynet_threads")
    return known or ir.GlobalVariable(module, _I32, "tinynet_threads")
