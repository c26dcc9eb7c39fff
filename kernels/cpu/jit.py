"""Compilation of the CPU kernels: lazily, once per machine, and said aloud when it happens.

Numba compiles a function at its first call with new argument types and keeps the machine code in a cache on
disk.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numba.core.ccallback
import numpy as np
from numba.core.caching import IndexDataCacheFile
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
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


class _Files(IndexDataCacheFile):
    """Compiled code on disk, in files that are named by what they were compiled for.

    Numba numbers them, and an index tells which is which. When two processes compile at a time, both may give
    the same number, one to this tile and the other to that, and read the wrong one back.
    """

    def save(self, key: Any, data: Any) -> None:
        self._save_data(self._name(key), (self._source_stamp, key, data))

    def load(self, key: Any) -> Any:
        try:
            *made_for, data = self._load_data(self._name(key))
        except OSError:  # it is not there
            return None
        return data if made_for == [self._source_stamp, key] else None

    def _name(self, key: Any) -> str:
        digest = hashlib.sha256(repr((numba.__version__, key)).encode()).hexdigest()
        return self._data_name_pattern.format(number=int(digest[:15], 16))


class _Cache:
    """Numba's disk cache with two courtesies: a cold machine is told, a read-only folder is no error."""

    def __init__(self, cache: Any):
        self._cache = cache
        cache._cache_file.__class__ = _Files
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
    options |= {"nogil": True, "error_model": "numpy", "fastmath": fastmath, "no_cfunc_wrapper": True}
    dispatcher = numba.njit(**options)(function)
    dispatcher.__class__ = _Kernel
    _ignore_literals(dispatcher)
    try:
        dispatcher.enable_caching()
        dispatcher._cache = _Cache(dispatcher._cache)
    except (RuntimeError, OSError) as error:  # Numba found no folder it can write to
        _warn_no_cache(error)
    return dispatcher


class _Kernel(CPUDispatcher):
    def compile(self, signature: Any) -> Any:
        with _without_collection():
            return super().compile(signature)


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """The compiler makes objects by the million; to search them for cycles took a tenth of its time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


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
    """For what only other kernels call, quicker to compile still: it has no way in from Python.

    A call from Python raises :class:`TypeError`.
    """
    return _inner(function)


def exact_kernel(function: Callable) -> Any:
    """For formulas that lean on rounding: terms keep the order written. Becomes part of its caller."""
    return _inner(function, fastmath={"contract"}, forceinline=True)


def optimise_in_caller(body: Any) -> None:
    """Leave it to the only caller of an inner kernel to optimise it, so that this is done once."""
    _bodies.add(body.py_func)


_bodies: set[Callable] = set()


def _inner(function: Callable, **options: Any) -> Any:
    dispatcher = _compiled(function, no_cpython_wrapper=True, pipeline_class=_InnerCompiler, **options)
    dispatcher.__class__ = _Inner
    return dispatcher


class _Inner(_Kernel):
    def __call__(self, *args: Any, **named: Any) -> Any:
        name = self.py_func.__name__
        raise TypeError(
            f"{name} is an inner kernel: other kernels can call it, Python cannot. Make it a kernel"
        )


class _InnerCompiler(Compiler):
    """Numba's compiler, up to LLVM's instructions: what calls them makes machine code of them."""

    def define_pipelines(self) -> Any:
        state, function = self.state, self.state.func_id
        state.library = _Instructions(state.targetctx.codegen(), function.func_qualname)
        state.library.are_final = function.func not in _bodies
        return super().define_pipelines()


class _Instructions(JITCodeLibrary):
    """A function's instructions, to be linked into its callers."""

    are_final: bool

    @property
    def codegen(self) -> Any:
        return self

    def set_env(self, name: str, env: Any) -> None:
        """Numba would write to machine code here."""

    def _optimize_final_module(self) -> None:
        if self.are_final:
            super()._optimize_final_module()

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def serialize_using_object_code(self) -> Any:
        return self.serialize_using_bitcode()


def compiled_callback(function: Callable, signature: Any) -> Any:
    """Compile ``function`` at once for C callers; ``.address`` is where it can be called."""
    callback = numba.core.ccallback.CFunc(function, (signature.args, signature.return_type), {}, {})
    try:
        callback.enable_caching()
        callback._cache = _Cache(callback._cache)
    except (RuntimeError, OSError) as error:
        _warn_no_cache(error)
    with _without_collection():
        callback.compile()
    return callback


def contiguous(array: Any) -> Any:
    """The array in C order and writable, copied if it is not: kernels are compiled for this one type."""
    if array.flags.carray:  # nearly always
        return array
    array = np.ascontiguousarray(array)
    return array if array.flags.writeable else array.copy()
