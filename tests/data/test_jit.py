"""Compilation of the data kernels: lazily, and without a cache folder if need be."""

import subprocess
import sys

import numpy as np
import pytest
from numba.core.caching import FunctionCache
from numba.core.dispatcher import Dispatcher

from tinynet.data import jit


def refuse(error):
    def fail(*_):
        raise error

    return fail


@pytest.mark.parametrize(
    ("owner", "name", "error"),
    [
        (Dispatcher, "enable_caching", RuntimeError("cannot cache function 'f': no locator available")),
        (FunctionCache, "save_overload", OSError(28, "No space left on device")),
    ],
)
def test_without_a_cache_kernels_still_run_and_it_is_said_once(monkeypatch, owner, name, error):
    monkeypatch.setattr(jit, "_warned", set())
    monkeypatch.setattr(owner, name, refuse(error))
    with pytest.warns(UserWarning, match=r"cannot be kept on disk .*going on without") as told:
        for number in (1, 2):
            kernel = jit.compiled(lambda x, number=number: x + number)
            assert kernel(2) == 2 + number
    assert len(told) == 1


def test_chunks_cover_everything_once():
    for threads in (1, 3, 50):
        seen = np.zeros(103, int)

        def work(part, seen=seen):
            seen[part] += 1

        jit.in_chunks(work, len(seen), 10, threads)
        assert (seen == 1).all()


def test_an_error_in_a_thread_comes_through():
    with pytest.raises(ZeroDivisionError):
        jit.in_chunks(lambda part: 1 // (part.start - 20), 100, 10, threads=2)


def test_importing_the_room_loads_no_compiler_and_no_pillow():
    heavy = ["numba", "PIL", "cupy", "matplotlib", "rich"]
    code = f"import sys, tinynet.data; print([m for m in {heavy} if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "[]"
