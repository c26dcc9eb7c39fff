"""Settings of the whole process that the fast kernels need, made once when they are first used."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np

from tinynet.kernels.cpu.threads import set_thread_count, thread_count


def settle() -> None:
    """Start the threads, give NumPy's BLAS one of its own, and let the memory allocator keep what it has."""
    set_thread_count(thread_count())
    set_blas_threads(1)
    keep_memory()


def blas_library() -> ctypes.CDLL | None:
    """The OpenBLAS that NumPy's wheel brings along, or None for any other build of NumPy."""
    folder = Path(np.__file__).parent
    for place in (folder.parent / "numpy.libs", folder / ".dylibs"):
        for path in place.glob("*openblas*"):
            return ctypes.CDLL(str(path))
    return None


def set_blas_threads(n: int) -> None:
    """Its threads and ours would take the cores from each other: a product of 8 us was seen to take 4 ms."""
    library = blas_library()
    for name in (
        "scipy_openblas_set_num_threads64_",
        "openblas_set_num_threads64_",
        "openblas_set_num_threads",
    ):
        function = getattr(library, name, None)
        if function is not None:
            return function(n)


def keep_memory() -> None:
    """Tell glibc's malloc to keep freed memory: fresh pages made small nets up to 4 times slower."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    if not mallopt(mmap_threshold, 1 << 30):
        mallopt(mmap_threshold, 32 << 20)  # the most that older versions take
    mallopt(trim_threshold, (1 << 31) - 1)
    mallopt(top_pad, 64 << 20)
