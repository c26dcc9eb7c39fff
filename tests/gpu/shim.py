"""CUDA C++ on the CPU: g++ compiles a ``.cu`` file behind shim.h, and its kernels run with real numbers.

``build(code)`` gives a :class:`Library`; ``library.launch("add", (2,), (64,), args)`` runs a kernel.
The threads of a block are fibers that run one at a time, "forward", in "reverse" or "shuffled": a kernel
that forgets a barrier gives other numbers in one of these orders. Shared memory starts as NaN in every block.
Inside a process that runs under AddressSanitizer, everything is built for it.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FOLDER = Path(__file__).parent
ORDERS = ("forward", "reverse", "shuffled")
MOST_SHARED = 48 * 1024  # bytes that a block gets without asking the driver for more

_FLAGS = ["-std=c++17", "-O1", "-g1", "-shared", "-fPIC", "-U_FORTIFY_SOURCE", "-fno-strict-aliasing"]
_FLAGS += ["-ffp-contract=off", "-DTINYNET_SHIM", "-D__CUDA_ARCH__=900"]
# A local variable that nobody has set holds -1.7e38, which no test overlooks. The stacks are small.
_STRICT = ["-ftrivial-auto-var-init=pattern", "-Werror=frame-larger-than=16384"]
_SANITIZE = [
    "-O0",
    "-fsanitize=address,undefined",
    "-fsanitize-sections=shared_memory",
    "-fno-sanitize-recover=all",
]
# So that the bounds stand between two signs that C++ does not have, whatever brackets they contain.
_MARK_BOUNDS = "-D__launch_bounds__(threads, ...)=@threads@"
_KERNEL = re.compile(r"__global__\s+(?:void\s+)?(?:@(?P<bounds>.*?)@\s*)?(?:void\s+)?(?P<name>\w+)\s*\(")


class ShimError(RuntimeError):
    """The code does not compile, a launch is not allowed, or a kernel went wrong; the text says where."""


class Pointer(NamedTuple):
    """The address of an array, for a parameter that is a pointer."""

    address: int


class _Launch(ctypes.Structure):
    """``shim::Launch`` of launch.h."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_size_t),
        ("order", ctypes.c_int),
    )


@functools.cache
def build(code: str, options: tuple[str, ...] = ()) -> Library:
    """Compile CUDA C++ for this processor. ``options`` may be ``-std=...``, ``-DNAME=VALUE`` and ``-UNAME``.

    The result is kept in a temporary folder under a name made from everything that went in. Raises ShimError
    with g++'s words where the code does not compile.
    """
    bad = [option for option in options if not option.startswith(("-std=", "-D", "-U"))]
    if bad:
        raise ShimError(f"the shim does not know the option {bad[0]}")
    flags = [*_flags(), "-I", str(FOLDER), *options]
    path = _folder() / f"{_digest(code, flags)}.so"
    if not path.exists():
        _compile(code, flags, path)
    return Library(path)


def available() -> bool:
    """Is there a compiler?"""
    return shutil.which("g++") is not None


def sanitized() -> bool:
    """Does this process run under AddressSanitizer (preloaded)?"""
    return hasattr(ctypes.CDLL(None), "__asan_init")


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"tinynet-shim-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise ShimError(f"{folder} belongs to somebody else: remove it")
    return folder


def _digest(code: str, flags: list[str]) -> str:
    headers = "".join((FOLDER / name).read_text() for name in ("fibers.h", "launch.h", "shim.h"))
    text = "\0".join((_version(), headers, code, *flags))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@functools.cache
def _version() -> str:
    if not available():
        raise ShimError("g++ is not installed: apt install g++")
    return subprocess.run(["g++", "-dumpversion"], capture_output=True, text=True, check=True).stdout


def _flags() -> list[str]:
    if sanitized():
        return _FLAGS + _SANITIZE
    return _FLAGS + (_STRICT if int(_version().split(".")[0]) >= 12 else [])


def _compile(code: str, flags: list[str], path: Path) -> None:
    """Build under another name and rename, so that two processes may do it at the same time."""
    source = path.with_suffix(f".{os.getpid()}.cpp")
    built = path.with_suffix(f".{os.getpid()}.so")
    source.write_text(_wrap(code, flags))
    try:
        _gpp([*flags, str(source), "-o", str(built)])
        os.replace(built, path)
    finally:
        source.unlink()


def _wrap(code: str, flags: list[str]) -> str:
    """Kernels stand in a namespace without a name: nothing in it is seen from outside, or merged by name."""
    defines = [flag for flag in flags if flag.startswith(("-D", "-U"))]
    entries = [f"SHIM_KERNEL({name}, {bounds})" for name, bounds in kernels(code, defines).items()]
    start = ['#include "shim.h"', "namespace {", '#line 1 "kernels.cu"']
    return "\n".join([*start, code, "}", '#line 1 "entries"', *entries, ""])


def kernels(code: str, defines: Sequence[str] = ()) -> dict[str, str]:
    """Name and launch bounds of each kernel that is left when the preprocessor has been over the code."""
    plain = code.replace('#include "shim.h"', "")
    text = _gpp(["-E", "-P", "-w", "-x", "c++", _MARK_BOUNDS, *defines, "-"], plain)
    return {match["name"]: match["bounds"] or "1024" for match in _KERNEL.finditer(text)}


def _gpp(arguments: list[str], text: str = "") -> str:
    _version()
    unwatched = {
        name: value for name, value in os.environ.items() if name != "LD_PRELOAD"
    }  # not the compiler
    done = subprocess.run(["g++", *arguments], input=text, capture_output=True, text=True, env=unwatched)
    if done.returncode != 0:
        raise ShimError(f"g++ refuses the code:\n{done.stderr}")
    return done.stdout


class Library:
    """The kernels of one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))

    def signature(self, name: str) -> tuple[int, list[str]]:
        """The most threads a block may have, and the kind and size of each parameter, as "p8" or "i4"."""
        most, *parameters = self._call(f"signature_of_{name}").decode().split()
        return int(most), parameters

    def launch(
        self,
        name: str,
        grid: Sequence[int],
        block: Sequence[int],
        args: Sequence[Any],
        shared_mem: int = 0,
        order: str = "forward",
    ) -> None:
        """Run a kernel and wait for it.

        ``args`` are :class:`Pointer` for pointers, NumPy scalars for numbers and NumPy arrays for structs
        passed by value, exactly as wide as the parameters. Raises ShimError where a card would refuse the
        launch or misread an argument, where a barrier is not reached by all threads, and where one crashes.
        """
        most, parameters = self.signature(name)
        _check_sizes(name, tuple(grid), tuple(block), most, shared_mem)
        _check_arguments(name, args, parameters)
        launch = _Launch(_three(grid), _three(block), shared_mem, ORDERS.index(order))
        values = [_bytes(value) for value in args]
        table = (ctypes.c_void_p * max(1, len(values)))(*(value.ctypes.data for value in values))
        failure = self._call(f"launch_{name}", ctypes.byref(launch), table)
        if failure is not None:
            raise ShimError(failure.decode())

    def _call(self, name: str, *args: Any) -> Any:
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise ShimError(f"there is no kernel {name.split('_', 1)[1].removeprefix('of_')}") from None
        function.restype = ctypes.c_char_p
        return function(*args)


def _three(sizes: Sequence[int]) -> Any:
    return (ctypes.c_uint * 3)(*sizes, *([1] * (3 - len(sizes))))


def _bytes(value: Any) -> np.ndarray:
    if isinstance(value, Pointer):
        return np.array([value.address], np.uintp)
    return np.atleast_1d(np.ascontiguousarray(value))


def _check_sizes(name: str, grid: tuple, block: tuple, most: int, shared: int) -> None:
    limits = zip((*grid, *block), (2**31 - 1, 65535, 65535)[: len(grid)] + (1024, 1024, 64)[: len(block)])
    if any(not 0 < size <= limit for size, limit in limits) or np.prod(block) > most:
        raise ShimError(f"kernel {name}: grid {grid}, block {block} is not possible (most threads: {most})")
    if shared > MOST_SHARED:
        raise ShimError(f"kernel {name}: {shared} bytes of shared memory, a block has {MOST_SHARED}")


def _check_arguments(name: str, args: Sequence[Any], parameters: list[str]) -> None:
    given = [_kind(value) for value in args]
    if given != parameters:
        raise ShimError(f"kernel {name} takes {' '.join(parameters)}, not {' '.join(given)}")


def _kind(value: Any) -> str:
    if isinstance(value, Pointer):
        return "p8"
    if isinstance(value, np.ndarray):
        return f"s{value.nbytes}"
    if isinstance(value, np.generic):
        return f"{'f' if value.dtype.kind == 'f' else 'i'}{value.nbytes}"
    raise ShimError(f"a kernel cannot take {type(value).__name__}")
