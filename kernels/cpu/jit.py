"""Compilation of the CPU kernels: lazily, once per machine, and said aloud when it happens.

Numba compiles a function at its first call with new argument types and keeps the machine code in a cache on
disk.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numba.core.ccallback
import numpy as np
from numba.core.registry import CPUDispatcher

_said: set[str] = set()

# NaN and infinities must pass through as in NumPy, so only these liberties with floating point are taken.
_FASTMATH = {"contract", "reassoc", "nsz", "arcp"}


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


def cache_folder() -> Path | None:
    """Where compiled kernels are kept: the place that Numba found, or None if none can be written."""
    place = kernel(contiguous).stats.cache_path
    return None if place is None else Path(place)


def _compiled(function: Callable, fastmath: set[str] = _FASTMATH, **options: Any) -> Any:
    dispatcher = numba.njit(nogil=True, error_model="numpy", fastmath=fastmath, **options)(function)
    _ignore_literals(dispatcher)
    try:
        dispatcher.enable_caching()
        dispatcher._cache = _Cache(dispatcher._cache)
    except (RuntimeError, OSError) as error:  # Numba found no folder it can write to
        _warn_no_cache(error)
    return dispatcher


def _ignore_literals(dispatcher: Any) -> None:
    """Have callers with a written number, such as 0, use what is compiled for int64.

    Numba would compile the whole function once more for that number, and everything that it passes it on to.
    """
    resolve, plain = dispatcher.get_call_template, numba.types.unliteral
    dispatcher.get_call_template = lambda args, named: resolve(
        tuple(map(plain, args)), {name: plain(kind) for name, kind in named.items()}
    )


def kernel(function: Callable) -> Any:
    """Compile for one thread: 0.1 us a call, quick to compile, callable from other kernels."""
    return _compiled(function)


def inner_kernel(function: Callable) -> Any:
    """For what only other kernels call: without the way in from Python it compiles in two thirds of the time.

    A call from Python raises :class:`TypeError`.
    """
    dispatcher = _compiled(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)
    dispatcher.__class__ = _Inner
    return dispatcher


class _Inner(CPUDispatcher):
    def __call__(self, *args: Any, **named: Any) -> Any:
        name = self.py_func.__name__
        raise TypeError(
            f"{name} is an inner kernel: other kernels can call it, Python cannot. Make it a kernel"
        )


def exact_kernel(function: Callable) -> Any:
    """For formulas that lean on rounding: terms keep the order written. Becomes part of its caller."""
    return _compiled(function, fastmath={"contract"}, forceinline=True)


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
