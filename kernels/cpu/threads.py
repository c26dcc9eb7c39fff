"""How many threads there are, and sharing the work of a kernel among them.

``share(tasks, body, arguments)`` stands in a kernel where a loop over tasks would. Every thread takes the
next task that is left until there is none: which thread does what is a matter of chance, what comes out is
not, as long as each task writes to places of its own. It calls the loop of Numba's OpenMP layer directly:
the same 1 to 2 us a call as Numba's own parallel loops, but compiled as quickly as a plain call, in place of
0.5 s and more for each loop. With one thread or one task OpenMP is not touched at all; with one thread, that
saves a process that was forked from one with running threads, and machines without OpenMP.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.binding
import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic


def _load_openmp() -> Any:
    """Numba's OpenMP layer, or None if libgomp is missing, which is said.

    Its regions cost 1 to 2 us; Numba's own work queue costs 80, and ends a process that enters it twice.
    """
    try:
        with _short_spin():
            from numba.np.ufunc import omppool
    except ImportError:
        missing = "tinynet: libgomp is missing, so the CPU kernels have one thread (apt install libgomp1)"
        print(missing, file=sys.stderr, flush=True)
        return None
    return omppool


@contextmanager
def _short_spin() -> Iterator[None]:
    """Have libgomp's idle threads spin for some 30 us before they sleep; it reads this when it is loaded.

    By default they spin for milliseconds. On a machine that other programs use too, that burns the time slice
    the thread needs for its next region: net (a) was seen to take 62 ms a step in place of 6.
    """
    chosen = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys()
    if not chosen:
        os.environ["GOMP_SPINCOUNT"] = "2000"
    try:
        yield
    finally:
        if not chosen:
            del os.environ["GOMP_SPINCOUNT"]


openmp = _load_openmp()
_count = ctypes.c_int32(numba.config.NUMBA_NUM_THREADS if openmp else 1)
_forked = False


def most_threads() -> tuple[int, str]:
    """How many threads there can be, and why not more."""
    if not openmp:
        return 1, "without the OpenMP library libgomp there is only one (apt install libgomp1)"
    if _forked:
        return 1, "a process that was forked has only one, because OpenMP does not survive a fork"
    return numba.config.NUMBA_NUM_THREADS, "one for each processor core, or as NUMBA_NUM_THREADS says"


def thread_count() -> int:
    """How many threads the kernels use."""
    return _count.value


def set_thread_count(n: int) -> None:
    """Have the kernels use ``n`` threads, 1 to ``most_threads()[0]``, whichever Python thread calls them."""
    _count.value = n


def shares_for(images: int, sums: int = 0) -> int:
    """Into how many shares to cut so many images for the threads; each share has so many sums of its own.

    Four for each thread, so that one which is held up is helped by the others, as long as the sums, which
    are added up in the end, stay within a megabyte. The number depends on sizes and threads alone, so the
    order of summation and with it every bit of the result is always the same.
    """
    threads = thread_count()
    if threads == 1:
        return 1
    return max(1, min(images, max(threads, min(4 * threads, (1 << 18) // max(sums, 1)))))


def tasks_for(rows: int, numbers: int) -> int:
    """Into how many tasks to cut so many rows of so many numbers in all, whatever the number of threads.

    A task has some thousand numbers, few enough for the nearest cache. Below some ten thousand in all, waking
    the other threads costs more than they save: that is one task.
    """
    return min(rows, numbers >> 12) if numbers >= 1 << 15 else 1


def _after_fork() -> None:
    """GNU OpenMP does not survive a fork: a child that entered it would hang or be ended."""
    global _forked
    _forked, _count.value = True, 1


if openmp and hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

# What compiled code finds by name, so that it can be kept on disk: addresses differ from process to process.
llvmlite.binding.add_symbol("tinynet_threads", ctypes.addressof(_count))
_never_called = ctypes.addressof(_count)
llvmlite.binding.add_symbol("tinynet_loop", openmp.parallel_for if openmp else _never_called)

_VOID, _BYTE, _I32, _I64 = ir.VoidType(), ir.IntType(8).as_pointer(), ir.IntType(32), ir.IntType(64)
_TASK = ir.FunctionType(_VOID, [_BYTE.as_pointer(), _I64.as_pointer(), _I64.as_pointer(), _BYTE])
_LOOP = ir.FunctionType(
    _VOID, [_BYTE, _BYTE.as_pointer(), _I64.as_pointer(), _I64.as_pointer(), _BYTE, _I64, _I64, _I32]
)


@intrinsic
def share(typingctx: Any, tasks: Any, body: Any, arguments: Any) -> Any:
    """Call ``body(task, *arguments)`` for every task of 0 ... tasks - 1, in threads; ``body`` is a kernel."""
    given = (types.int64, *map(types.unliteral, arguments))
    called = typingctx.resolve_function_type(body, given, {})

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        compiled = body.dispatcher.overloads[called.args]
        context.add_linking_libs([compiled.library])
        worker = _worker(context, builder.module, compiled.fndesc, values[2].type)
        failed = _run(context, builder, worker, values[0], values[2])
        with cgutils.if_unlikely(builder, failed):
            context.call_conv.return_user_exc(builder, MemoryError, ("a CPU kernel found no memory",))
        return context.get_dummy_value()

    return types.void(types.int64, body, arguments), codegen


def _worker(context: Any, module: ir.Module, body: Any, arguments: ir.Type) -> ir.Function:
    """What each thread runs: the next task that no thread has taken yet, until there is none.

    A thread that wakes late, or that the system interrupts, leaves its tasks to the others. The loop's own
    arguments but the last one, the _environment, are not looked at.
    """
    function = ir.Function(module, _TASK, module.get_unique_name("worker"))
    function.linkage = "internal"
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    place = builder.bitcast(function.args[3], _environment(arguments).as_pointer())
    failed, taken, tasks, own = (cgutils.gep_inbounds(builder, place, 0, i) for i in range(4))
    count, values = builder.load(tasks), cgutils.unpack_tuple(builder, builder.load(own))
    callee = context.declare_function(module, body)
    take, work, done = (builder.append_basic_block(name) for name in ("take", "work", "done"))
    builder.branch(take)
    builder.position_at_end(take)
    task = builder.atomic_rmw("add", taken, _I64(1), "monotonic")
    builder.cbranch(builder.icmp_signed("<", task, count), work, done)
    builder.position_at_end(work)
    status, _ = context.call_conv.call_function(builder, callee, body.restype, body.argtypes, [task, *values])
    with builder.if_then(status.is_error):
        builder.store(_I32(1), failed)
    builder.branch(take)
    builder.position_at_end(done)
    builder.ret_void()
    return function


def _environment(arguments: ir.Type) -> ir.Type:
    """What all threads see: whether a task failed, how many are taken, how many there are, the arguments."""
    return ir.LiteralStructType([_I32, _I64, _I64, arguments])


def _run(context: Any, builder: Any, worker: ir.Function, tasks: ir.Value, arguments: ir.Value) -> ir.Value:
    """All tasks, in threads if there are several of both; whether one failed."""
    place = cgutils.alloca_once(builder, _environment(arguments.type))
    for i, value in enumerate((_I32(0), _I64(0), tasks, arguments)):
        builder.store(value, cgutils.gep_inbounds(builder, place, 0, i))
    data = builder.bitcast(place, _BYTE)
    first, n, step = (cgutils.alloca_once(builder, kind) for kind in (_BYTE, _I64, _I64))
    builder.store(_BYTE(None), first)
    builder.store(_I64(0), step)
    threads = builder.load(_external(builder.module))
    many = builder.and_(builder.icmp_signed(">", threads, _I32(1)), builder.icmp_signed(">", tasks, _I64(1)))
    with builder.if_else(many) as (parallel, serial):
        with parallel:
            builder.store(builder.zext(threads, _I64), n)  # a loop with one round for each thread
            loop = cgutils.get_or_insert_function(builder.module, _LOOP, "tinynet_loop")
            entry = builder.bitcast(worker, _BYTE)
            builder.call(loop, [entry, first, n, step, data, _I64(0), _I64(1), threads])
        with serial:
            builder.call(worker, [first, n, step, data])
    return builder.icmp_signed("!=", builder.load(cgutils.gep_inbounds(builder, place, 0, 0)), _I32(0))


def _external(module: ir.Module) -> ir.GlobalVariable:
    """The number of threads, which lives outside of all compiled code."""
    known = module.globals.get("tinynet_threads")
    return known or ir.GlobalVariable(module, _I32, "tinynet_threads")
