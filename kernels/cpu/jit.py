"""Compilation of the CPU kernels: lazily, once per machine, and said aloud when it happens.

Numba compiles a function at its first call with new argument types and keeps the machine code in a cache on
disk. Importing this module must happen before the first parallel call of the process, because it chooses
the threading layer.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
import numba.core.ccallback
import numpy as np
from numba.core import config

_said: set[str] = set()

# NaN and infinities must pass through as in NumPy, so only these liberties with floating point are taken.
_FASTMATH = {"contract", "reassoc", "nsz", "arcp"}


def _choose_threading_layer() -> None:
    """OpenMP regions cost 1 to 2 us; Numba's own work queue costs 80 and cannot be entered by two threads."""
    try:
        with _short_spin():
            from numba.np.ufunc import omppool  # noqa: F401
    except ImportError:
        _say(
            "no-openmp",
            "tinynet: libgomp is missing, so parallel CPU kernels are slower (apt install libgomp1)",
        )
    else:
        config.THREADING_LAYER = "omp"


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


def _say(key: str, line: str) -> None:
    if key not in _said:
        _said.add(key)
        print(line, file=sys.stderr, flush=True)


@functools.cache
def _sources() -> str:
    """A digest of all source files beside this one."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()


class _Cache:
    """Numba's disk cache with two courtesies: a cold machine is told, a read-only folder is no error."""

    def __init__(self, cache: Any):
        self._cache = cache
        # Numba would look at the function's own file only and miss changes in the helpers compiled into it
        cache._cache_file._source_stamp = _sources()

    def load_overload(self, signature: Any, target: Any) -> Any:
        found = self._cache.load_overload(signature, target)
        if found is None:
            _say("compiling", "tinynet: compiling CPU kernels for this machine (once; up to 15 s in all) ...")
        return found

    def save_overload(self, signature: Any, data: Any) -> None:
        try:
            self._cache.save_overload(signature, data)
        except OSError as error:
            _warn_no_cache(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)


def _warn_no_cache(error: Exception) -> None:
    if "no-cache" not in _said:
        _said.add("no-cache")
        warnings.warn(
            f"compiled kernels cannot be kept on disk ({error}); they will be compiled in every process. "
            "Set NUMBA_CACHE_DIR to a folder that can be written",
            stacklevel=3,
        )


def _compiled(function: Callable, fastmath: set[str] = _FASTMATH, **options: Any) -> Any:
    dispatcher = numba.njit(nogil=True, error_model="numpy", fastmath=fastmath, **options)(function)
    try:
        dispatcher.enable_caching()
        dispatcher._cache = _Cache(dispatcher._cache)
    except (RuntimeError, OSError) as error:  # Numba found no folder it can write to
        _warn_no_cache(error)
    return dispatcher


def kernel(function: Callable) -> Any:
    """Compile for one thread: 0.1 us a call, quick to compile, callable from other kernels."""
    return _compiled(function)


def exact_kernel(function: Callable) -> Any:
    """For formulas that lean on rounding: terms keep the order written. Becomes part of its caller."""
    return _compiled(function, fastmath={"contract"}, forceinline=True)


def parallel_kernel(function: Callable) -> Any:
    """Compile with ``numba.prange`` over all threads: 2 us a call, and 2 to 4 times dearer to compile."""
    return _compiled(function, parallel=True)


def compiled_callback(function: Callable, signature: Any) -> Any:
    """Compile ``function`` at once for C callers; ``.address`` is where it can be called."""
    callback = numba.core.ccallback.CFunc(function, (signature.args, signature.return_type), {}, {})
    try:
        callback.enable_caching()
        callback._cache = _Cache(callback._cache)
    except (RuntimeError, OSError) as error:
        _warn_no_cache(error)
    callback.compile()
    return callback


def contiguous(array: Any) -> Any:
    """The array in C order and writable, copied if it is not: kernels are compiled for this one type."""
    array = np.ascontiguousarray(array)
    return array if array.flags.writeable else array.copy()


_choose_threading_layer()
