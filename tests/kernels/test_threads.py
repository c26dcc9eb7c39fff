"""Threads of the CPU kernels: how many, fork, other Python threads, the end, and what is kept on disk."""

import ctypes
import multiprocessing
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import tinynet as tn
from tinynet import models, nn, optim
from tinynet.errors import ArgumentError
from tinynet.kernels.cpu import team
from tinynet.kernels.cpu import threads as pool
from tinynet.kernels.cpu.atomic import load, pause, store
from tinynet.kernels.cpu.jit import inner_kernel, kernel
from tinynet.kernels.cpu.microkernel import address_of
from tinynet.kernels.cpu.threads import share

MOST = pool.most_threads()[0]
several = pytest.mark.skipif(MOST < 2, reason="this machine has one thread")


@pytest.fixture(autouse=True)
def same_number_afterwards():
    before = tn.threads()
    yield
    tn.threads(before)


def prepared(batch=33):
    """A step of training on random data with a fresh net, always the same one."""
    tn.seed(0)
    model, loss, rng = models.small_cnn(), nn.CrossEntropy(), np.random.default_rng(0)
    model.build((28, 28, 1))
    optimizer = optim.Adam(model.parameters())
    x, y = rng.random((batch, 28, 28, 1), dtype=np.float32), rng.integers(0, 10, batch)

    def step():
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()

    return model, step


def trained(steps=3):
    """All weights after some steps, as bytes."""
    model, step = prepared()
    for _ in range(steps):
        step()
    return weights(model)


def weights(model):
    return b"".join(p.data.tobytes() for p in model.parameters())


def run(code, timeout=300, **environment):
    """Run code in a fresh interpreter; what it prints and says."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr.strip()


# --- how many ---


def test_the_number_can_be_asked_and_set():
    for n in range(1, MOST + 1):
        assert tn.threads(n) == n == tn.threads()
    assert tn.threads(np.int64(1)) == 1


@pytest.mark.parametrize("n", [0, -1, MOST + 1, True, 1.0, "2"])
def test_numbers_that_cannot_be_had(n):
    before = tn.threads()
    with pytest.raises(ArgumentError) as error:
        tn.threads(n)
    assert str(error.value).startswith(f"threads({n!r}): give a whole number from 1 to {MOST}: one for each")
    assert tn.threads() == before


def test_numba_is_loaded_by_the_call_alone():
    code = (
        "import sys, tinynet; a = 'numba' in sys.modules; tinynet.threads(); print(a, 'numba' in sys.modules)"
    )
    assert run(code)[0] == "False True"


def test_the_environment_sets_the_limit():
    code = """
import tinynet
print(tinynet.threads())
try:
    tinynet.threads(4)
except tinynet.errors.ArgumentError as error:
    print(error)
"""
    number, error = run(code, NUMBA_NUM_THREADS="3")[0].splitlines()
    assert number == "3" and error.endswith("from 1 to 3: one for each processor core, or as "
                                            "NUMBA_NUM_THREADS says")  # fmt: skip


@pytest.mark.parametrize("n", range(1, min(MOST, 4) + 1))
def test_training_repeats_bit_for_bit(n):
    tn.threads(n)
    assert trained() == trained()


# --- sharing ---


@inner_kernel
def add_one(task, counts, number):
    counts[task] += number


@kernel
def add_to_all(tasks, counts, number):
    share(tasks, add_one, (counts, number))


@pytest.mark.parametrize("rows, numbers, tasks", [(9, (1 << 15) - 1, 1), (9, 1 << 15, 8), (3, 1 << 20, 3)])
def test_into_how_many_tasks_work_is_cut(rows, numbers, tasks):
    assert pool.tasks_for(rows, numbers) == tasks


@inner_kernel
def ask_too_much(task, counts):
    counts[task] = np.empty(1 << 60, np.float32)[0]


@kernel
def ask_all_too_much(tasks, counts):
    share(tasks, ask_too_much, (counts,))


@pytest.mark.parametrize("n", range(1, MOST + 1))
@pytest.mark.parametrize("tasks", [0, 1, 2, 3, 64, 1001])
def test_every_task_is_done_once(n, tasks):
    tn.threads(n)
    counts = np.zeros(tasks + 1)
    add_to_all(tasks, counts, 2.5)
    np.testing.assert_array_equal(counts, [2.5] * tasks + [0])


@pytest.mark.parametrize("n", range(1, MOST + 1))
def test_an_error_in_a_thread_is_raised_by_the_caller(n):
    tn.threads(n)
    with pytest.raises(MemoryError, match="a CPU kernel found no memory"):
        ask_all_too_much(4, np.zeros(4))


@kernel
def deal(board):
    return team.deal(board)


TAKE = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(team.addresses()["tinynet_take"])


@pytest.mark.parametrize(
    "tasks, threads, blocks",
    [
        (10, 3, [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]),
        (2, 4, [[0], [1]]),
        (7, 1, [[0, 1, 2, 3, 4, 5, 6]]),
        (0, 5, [[]]),
    ],
)
def test_a_thread_does_its_own_block_and_then_what_is_left(tasks, threads, blocks):
    board = np.full(team.BOARD, 99)
    board[team.TASKS], board[team.THREADS] = tasks, threads
    assert deal(board.ctypes.data) == len(blocks)
    for thread in reversed(range(len(blocks))):  # each stops before its last task, which the first then finds
        assert [TAKE(board.ctypes.data, thread) for _ in blocks[thread][1:]] == blocks[thread][:-1]
    left = [block[-1] for block in blocks if block]
    assert [TAKE(board.ctypes.data, 0) for _ in left] == left
    assert [TAKE(board.ctypes.data, thread) for thread in range(len(blocks))] == [-1] * len(blocks)


@inner_kernel
def twice(x):
    return 2 * x


@kernel
def four_times(x):
    return twice(twice(x))


@kernel
def sixteen():
    return twice(8)


def test_an_inner_kernel_can_be_called_by_kernels_only():
    assert four_times(3) == 12
    with pytest.raises(TypeError, match="twice is an inner kernel"):
        twice(3)


def test_a_written_number_compiles_nothing_anew():
    assert (four_times(3), sixteen()) == (12, 16)
    assert [str(signature.args[0]) for signature in twice.nopython_signatures] == ["int64"]


def at_once(functions):
    """Call functions in Python threads that start together; what they return."""
    results, gate = [None] * len(functions), threading.Barrier(len(functions))

    def call(i):
        gate.wait()
        results[i] = functions[i]()

    started = [threading.Thread(target=call, args=(i,)) for i in range(len(functions))]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join(120)
    return results


def test_python_threads_share_at_the_same_time():
    counts = np.zeros((3, 50))

    def work(i):
        for _ in range(2000):
            add_to_all(50, counts[i], 1.0)

    at_once([lambda i=i: work(i) for i in range(3)])
    np.testing.assert_array_equal(counts, 2000)


@several
def test_python_threads_train_at_the_same_time():
    tn.threads(2)
    alone = trained(8)
    nets = [prepared() for _ in range(2)]
    at_once([lambda step=step: [step() for _ in range(8)] for _, step in nets])
    assert [weights(model) for model, _ in nets] == [alone] * 2


# --- fork ---


def answer(queue, function):
    try:
        queue.put(function())
    except Exception as error:
        queue.put(f"{type(error).__name__}: {error}")


def in_a_fork(function):
    """What the function returns in a forked child; a child that hangs or dies fails the test."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=answer, args=(queue, function))
    child.start()
    child.join(120)
    hangs = child.is_alive()
    child.kill()
    assert not hangs and child.exitcode == 0, f"exit code {child.exitcode}"
    return queue.get()


forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@forking
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@several
def test_a_forked_process_trains_with_one_thread():
    tn.threads(1)
    alone = trained()
    tn.threads(2)
    trained()  # the threads are running now
    assert in_a_fork(lambda: (tn.threads(), weights_close(trained(), alone))) == (1, True)
    assert in_a_fork(lambda: in_a_fork(tn.threads)) == 1
    assert tn.threads() == 2  # here nothing has changed
    assert trained() == trained()


def weights_close(a, b):
    """Sums per thread are put together in another order in the last bits, for loops planned for two."""
    return np.allclose(np.frombuffer(a, np.float32), np.frombuffer(b, np.float32), rtol=1e-3, atol=1e-5)


@forking
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@several
def test_a_forked_process_can_have_more_threads():
    tn.threads(2)
    here = trained()
    assert in_a_fork(lambda: (tn.threads(2), trained() == here, helpers())) == (2, True, 1)


# --- helpers ---


def helpers():
    return team.words[team.RUNNING]


@several
def test_helpers_stay_and_are_never_more_than_needed():
    tn.threads(2)
    before = helpers()
    for n in (1, 2, 1, 2):
        tn.threads(n)
    assert helpers() == before >= 1


def test_more_helpers_than_cores_do_every_task_once():
    """Whoever is stopped by the system inside a task is waited for; whoever comes late is not."""
    code = """
import numpy as np, tinynet as tn
from tinynet.kernels.cpu.atomic import load, pause, store
from tinynet.kernels.cpu.jit import inner_kernel, kernel
from tinynet.kernels.cpu.microkernel import address_of
from tinynet.kernels.cpu.threads import share
@inner_kernel
def body(task, counts):
    for i in range(2000):
        counts[task] += i % 2
@kernel
def loop(tasks, counts):
    share(tasks, body, (counts,))
counts = np.zeros(40)
for n in range(3000):
    tn.threads(1 + n % 7)
    loop(40, counts)
print((counts == 3000 * 1000).all())
"""
    assert run(code, NUMBA_NUM_THREADS="7")[0] == "True"


@pytest.mark.parametrize("moment", ["at work", "asleep"])
def test_the_process_ends_while_helpers_are(moment):
    pause = "" if moment == "at work" else "time.sleep(0.1)"
    code = f"""
import time, numpy as np, tinynet as tn
from tinynet.kernels.cpu import matmul
tn.threads(3)
a = np.ones((300, 300), "f")
matmul(a, a)
{pause}
print(tn.threads())
"""
    assert run(code, NUMBA_NUM_THREADS="3")[0] == "3"


@several
def test_a_leader_that_sleeps_over_a_long_task_is_woken():
    """The leader has the first task, a short one; the helper has the second far longer than anyone spins."""
    code = """
import numpy as np, tinynet as tn
from tinynet.kernels.cpu.atomic import load, pause, store
from tinynet.kernels.cpu.jit import inner_kernel, kernel
from tinynet.kernels.cpu.microkernel import address_of
from tinynet.kernels.cpu.threads import share
@inner_kernel
def body(task, counts):
    for i in range(5_000_000 if task else 200_000):
        counts[task] = 0.999 * counts[task] + 1
@kernel
def loop(counts):
    share(2, body, (counts,))
tn.threads(2)
for _ in range(20):
    counts = np.zeros(2)
    loop(counts)
    assert np.allclose(counts, 1000)
print("done")
"""
    assert run(code, timeout=60)[0] == "done"


@inner_kernel
def meet(task, here):
    """Say that this task has begun, and look for the other one, for seconds at the most."""
    own, other = address_of(here) + 8 * task, address_of(here) + 8 * (1 - task)
    store(own, 1)
    looks = 0
    while not load(other) and looks < 100_000_000:
        looks += 1
        pause()
    here[2 + task] = load(other)


@kernel
def let_meet(here):
    share(2, meet, (here,))


@several
@pytest.mark.parametrize("rest", [0, 0.05])
def test_a_helper_comes_awake_or_asleep(rest):
    tn.threads(2)
    let_meet(np.zeros(4, np.int64))
    time.sleep(rest)  # after the longer one it sleeps
    here = np.zeros(4, np.int64)
    let_meet(here)
    assert here.tolist() == [1, 1, 1, 1]


# --- the cache ---


@pytest.mark.slow
def test_what_was_precompiled_needs_no_compiler_in_another_process(tmp_path):
    places = {"NUMBA_CACHE_DIR": str(tmp_path / "numba"), "XDG_CACHE_HOME": str(tmp_path / "other")}
    step = "from tinynet.cli import doctor; from tinynet import models; doctor._use(models.small_cnn())"
    assert "compiling CPU kernels" in run(step, **places)[1]
    code = """
import numpy as np
from tinynet import data, models
x, y = np.random.rand(256, 28, 28, 1).astype("f"), np.arange(256) % 10
for batch in (32, 128):
    model = models.small_cnn()
    model.compile("adam", "cross_entropy")
    model.fit(x, y, batch_size=batch, verbose=0)
    model.evaluate(x, y)
    model.predict(x)
"""
    assert run(code, **places) == ("", "")
