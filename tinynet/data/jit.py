"""Compilation of the data kernels with Numba, imported only when digits are drawn or pictures warped.

The kernels of this room stand in modules of their own (``pen``, ``sampling``), so that importing
``tinynet.data`` loads no compiler; :func:`kernels` brings such a module in.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tinynet.errors import MissingPackageError

_warned: set[str] = set()


def warn_once(key: str, text: str) -> None:
    """A warning that is shown the first time and then never again in this process."""
    if key not in _warned:
        _warned.add(key)
        warnings.warn(text, stacklevel=3)


def kernels(module: str) -> Any:
    """The compiled module ``tinynet.data.<module>``; :class:`MissingPackageError` where Numba is absent."""
    try:
        return importlib.import_module(f"tinynet.data.{module}")
    except ImportError as error:
        raise MissingPackageError(
            f"drawing and warping pictures needs Numba, which cannot be imported ({error}): pip install numba"
        ) from error


def compiled(function: Callable) -> Any:
    """Compile at the first call, for one thread, without Python's lock; keep the code on disk if possible."""
    import numba

    dispatcher = numba.njit(nogil=True, error_model="numpy")(function)
    try:
        dispatcher.enable_caching()
        dispatcher._cache = _Cache(dispatcher._cache)  # type: ignore[attr-defined]
    except (RuntimeError, OSError) as error:  # Numba found no folder it can write to
        _warn_no_cache(error)
    return dispatcher


def inner(function: Callable) -> Any:
    """Compile a function that only compiled functions call: cheaper, it needs no door for Python."""
    import numba

    options: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return numba.njit(nogil=True, error_model="numpy", **options)(function)


class _Cache:
    """Numba's disk cache: a cold machine is told so, and a full or read-only disk is no error."""

    def __init__(self, cache: Any):
        self._cache = cache

    def load_overload(self, signature: Any, target: Any) -> Any:
        found = self._cache.load_overload(signature, target)
        if found is None and "compiling" not in _warned:
            _warned.add("compiling")
            print(
                "tinynet: compiling the drawing of pictures (once; about 4 s) ...",
                file=sys.stderr,
                flush=True,
            )
        return found

    def save_overload(self, signature: Any, data: Any) -> None:
        try:
            self._cache.save_overload(signature, data)
        except OSError as error:
            _warn_no_cache(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)


def _warn_no_cache(error: Exception) -> None:
    warn_once("numba", f"compiled data kernels cannot be kept on disk ({error}); going on without")


def in_chunks(work: Callable[[slice], object], count: int, size: int, threads: int | None = None) -> None:
    """Call ``work`` on slices of ``size`` that cover 0..count, in as many threads as Numba may use."""
    parts = [slice(start, min(start + size, count)) for start in range(0, count, size)]
    threads = min(threads or _threads(), len(parts))
    if threads <= 1:
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, parts))


def _threads() -> int:
    from numba.core import config

    return config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
