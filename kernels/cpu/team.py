"""The threads that help with a loop. Whoever starts one never waits for a helper to wake up.

A thread that has work to share, the *leader*, opens the gate and begins with the tasks at once. A helper
that sees the open gate enters and takes tasks as well. When none are left the leader closes the gate and
waits for those alone who are inside, for the task that each has in hand. So a helper that sleeps, or that
the system has stopped in favour of another program, costs nothing but its help. With OpenMP, where a loop
ends when every thread has been there, a step of net (a) at batch 32 took half as long again: it has ten
short loops.

A helper looks for work for about as long as Python needs between two kernels, and then goes to sleep. Only
one leader at a time has the team; another Python thread that shares work meanwhile does it alone.
"""

from __future__ import annotations

import _thread
import atexit
import ctypes
import functools
import os
import time
from typing import Any

from numba.core import types

from tinynet.kernels.cpu.atomic import (
    Words,
    add,
    call,
    exchange,
    load,
    new_lock,
    pause,
    replace,
    rouse,
    sleep,
    store,
    wake,
    word,
)
from tinynet.kernels.cpu.jit import compiled_callback, inner_kernel

MOST = 255  # helpers, each with a word that says whether it sleeps, and one with its lock
SPIN = 4000  # looks at the gate before a helper sleeps: some 100 us
LEADER_SPIN = 1000

# The gate counts who is inside. Above that are a bit that says whether it is open, and the number of the
# region, so that nobody enters the same one twice.
OPEN = 1 << 32
REGION_BIT = 33
INSIDE = OPEN - 1

# The words. BUSY: some leader has the team. HELPERS: how many may enter. RUNNING: how many threads there are.
GATE, BUSY, LOOP, BOARD_OF_LOOP, HELPERS, LEADER_SLEEPS, LEADER_LOCK, QUIT, RUNNING, SLEEPS = range(10)
LOCKS = SLEEPS + MOST

words = Words(LOCKS + MOST)

# Every shared loop has a board of its own: whether a task failed, how many tasks and threads there are, and
# for each thread the next task of its block.
FAILED, TASKS, THREADS, NEXT = range(4)
BOARD = NEXT + MOST + 1


def start(helpers: int) -> None:
    """Have at least that many helpers."""
    if not words[LEADER_LOCK]:
        words[LEADER_LOCK] = new_lock()
    while words[RUNNING] < min(helpers, MOST):
        index = words[RUNNING]
        words[LOCKS + index], words[RUNNING] = new_lock(), index + 1
        _thread.start_new_thread(_entry(), (index,))


@functools.cache
def _entry() -> Any:
    """What a helper's thread runs; the interpreter lock is free meanwhile."""
    return ctypes.CFUNCTYPE(None, ctypes.c_int64)(_compiled(help_leaders, types.void(types.int64)).address)


@functools.cache
def _compiled(function: Any, signature: Any) -> Any:
    return compiled_callback(function, signature)


def addresses() -> dict[str, int]:
    """What shared loops call, by the names that they know it by."""
    return {
        "tinynet_lead": _compiled(lead, types.void(types.int64, types.int64)).address,
        "tinynet_take": _compiled(take, types.int64(types.int64, types.int64)).address,
    }


def forget() -> None:
    """In a forked process the helpers are gone, and so is the leader whom they might have been helping."""
    for i in range(SLEEPS + MOST):
        words[i] = 0


def stop() -> None:
    """Have all helpers end before the compiled code, in which they look for work, is gone."""
    words[QUIT] = 1
    for i in range(words[RUNNING]):
        if words[SLEEPS + i]:
            words[SLEEPS + i] = 0
            rouse(words[LOCKS + i])
    patience = time.monotonic() + 1
    while words[RUNNING] and time.monotonic() < patience:
        time.sleep(0.0001)


atexit.register(stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget)


# --- the leader ---


def lead(loop, board):
    """Call ``loop(board, 0)`` here and, as far as they come in time, ``loop(board, i)`` in helper i."""
    threads = deal(board)
    if threads == 1 or exchange(word(BUSY), 1):
        call(loop, board, 0)
        return
    store(word(LOOP), loop)
    store(word(BOARD_OF_LOOP), board)
    store(word(HELPERS), threads - 1)
    store(word(GATE), load(word(GATE)) + ((1 << REGION_BIT) + OPEN))
    wake_helpers(threads - 1)
    call(loop, board, 0)
    add(word(GATE), -OPEN)
    await_helpers()
    store(word(BUSY), 0)


@inner_kernel
def deal(board):
    """Give each thread a block of neighbouring tasks; returns how many threads there are for them."""
    tasks = load(board + 8 * TASKS)
    threads = max(1, min(load(board + 8 * THREADS), min(tasks, MOST + 1)))
    store(board + 8 * THREADS, threads)
    for i in range(threads):
        store(board + 8 * (NEXT + i), i * tasks // threads)
    return threads


def take(board, thread):
    """The next task for a thread: of its own block, then of those that follow; -1 when all are taken."""
    tasks, threads = load(board + 8 * TASKS), load(board + 8 * THREADS)
    for i in range(thread, thread + threads):
        block = i % threads
        task = add(board + 8 * (NEXT + block), 1)
        if task < (block + 1) * tasks // threads:
            return task
    return -1


@inner_kernel
def wake_helpers(helpers):
    """Call those of the first helpers who sleep."""
    for i in range(min(helpers, load(word(RUNNING)))):
        if load(word(SLEEPS + i)) and exchange(word(SLEEPS + i), 0):
            wake(load(word(LOCKS + i)))


@inner_kernel
def await_helpers():
    """Until nobody is inside: awake for a while, and then asleep, in case a helper waits for this core."""
    looks = 0
    while load(word(GATE)) & INSIDE:
        looks += 1
        if looks < LEADER_SPIN:
            pause()
            continue
        store(word(LEADER_SLEEPS), 1)
        # a helper that has left meanwhile may have seen that the leader sleeps, and wake it
        if load(word(GATE)) & INSIDE or not exchange(word(LEADER_SLEEPS), 0):
            sleep(load(word(LEADER_LOCK)))


# --- a helper ---


def help_leaders(index):
    """The life of helper ``index``."""
    last, looks = 0, 0
    while not load(word(QUIT)):
        gate = load(word(GATE))
        if is_for(gate, index, last):
            if replace(word(GATE), gate, gate + 1):
                last, looks = gate >> REGION_BIT, 0
                call(load(word(LOOP)), load(word(BOARD_OF_LOOP)), index + 1)
                leave()
        elif looks < SPIN:
            looks += 1
            pause()
        else:
            doze(index, last)
            looks = 0
    add(word(RUNNING), -1)


@inner_kernel
def is_for(gate, index, last):
    """Whether the gate is open to helper ``index``, who was inside in region ``last``."""
    return gate & OPEN and (gate >> REGION_BIT) != last and index < load(word(HELPERS))


@inner_kernel
def leave():
    """The last one out wakes the leader, if it went to sleep over the waiting."""
    gate = add(word(GATE), -1) - 1
    if not gate & (OPEN | INSIDE) and load(word(LEADER_SLEEPS)) and exchange(word(LEADER_SLEEPS), 0):
        wake(load(word(LEADER_LOCK)))


@inner_kernel
def doze(index, last):
    """Sleep until a leader calls; not if one did after the last look at the gate."""
    store(word(SLEEPS + index), 1)
    called = is_for(load(word(GATE)), index, last) or load(word(QUIT))
    if not called or not exchange(word(SLEEPS + index), 0):
        sleep(load(word(LOCKS + index)))
