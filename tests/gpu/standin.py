"""A stand-in for ``cupy``: NumPy inside, CuPy's refusals outside, kernels by the g++ shim.

Nothing here needs a GPU. What CuPy refuses is refused in CuPy's own words: host arrays among device arrays,
silent conversion to NumPy, keywords that CuPy lacks, synchronising inside a capture, cuBLAS inside a capture.
What CuPy leaves open is made to hurt: ``empty`` holds NaN, a captured operation computes nothing until
``Graph.launch``, and a graph that works on memory which was given back is refused (:class:`FreedMemory`).

``install()`` puts it in the place of cupy; ``transfers`` counts the copies between host and device.
"""

from __future__ import annotations

import functools
import math
import sys
from types import ModuleType
from typing import Any

import numpy as np
import shim
import standin_memory as memory
from standin_array import ndarray
from standin_run import Place, call, in_place, launch, on_card, poisoned, run, take

# Functions and types of NumPy 2 that CuPy 14 does not have.
MISSING = {
    "False_", "True_", "ScalarType", "asmatrix", "block", "bmat", "bytes_", "char", "character",
    "clongdouble", "complex256", "core", "ctypeslib", "datetime64", "dtypes", "einsum_path", "emath",
    "errstate", "f2py", "flexible", "float128", "frompyfunc", "geomspace", "getbufsize", "geterr",
    "geterrcall", "histogram_bin_edges", "info", "insert", "isnat", "little_endian", "longdouble", "ma",
    "matrix", "matvec", "memmap", "nanpercentile", "nanquantile", "ndenumerate", "nditer",
    "nested_iters", "object_", "polyder", "polydiv", "polyint", "rec", "recarray", "record",
    "sctypeDict", "seterr", "seterrcall", "spacing", "str_", "strings", "test", "timedelta64",
    "typecodes", "unstack", "vecdot", "vecmat", "void",
}  # fmt: skip

order = "forward"  # in which the threads of a block run: one of shim.ORDERS


class Device:
    """The one card there is."""

    id, compute_capability = 0, "90"

    def __init__(self, device: int | None = None):
        if device not in (None, 0):
            raise memory.CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __int__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device)

    def __repr__(self) -> str:
        return "<CUDA Device 0>"

    def use(self) -> None:
        pass

    def synchronize(self) -> None:
        memory.current().synchronize()

    mem_info = property(lambda self: mem_get_info())
    attributes = property(lambda self: {"MultiProcessorCount": 4})


def mem_get_info() -> tuple[int, int]:
    """Free and total bytes of the card."""
    return memory.card.memory - memory.card.used(), memory.card.memory


# --- making arrays ---


def array(
    obj: Any, dtype: Any = None, copy: bool = True, order: str = "K", subok: bool = False, ndmin: int = 0, *,
    blocking: bool = False,
) -> ndarray:  # fmt: skip
    if isinstance(obj, ndarray):
        return obj.astype(dtype or obj.dtype, order=order, copy=copy)
    if isinstance(obj, (list, tuple)) and obj and all(isinstance(o, ndarray) for o in obj):
        y = call(np.stack, ([*obj],), {})
        return y if dtype is None else y.astype(dtype)
    values = np.array(obj, dtype, ndmin=ndmin)
    if values.dtype.kind not in "biufc":
        raise ValueError(f"Unsupported dtype {values.dtype}")
    if values.ndim == 0:  # a kernel that fills in the number: no copy from the host, good in a capture
        y = ndarray((), values.dtype)
        y[...] = values
        return y
    memory.count_to_device()
    return on_card(values)


def asarray(
    a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: bool = False
) -> ndarray:
    return array(a, dtype, copy=bool(copy), order=order or "K")


def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    return run(lambda x: np.ascontiguousarray(x, dtype), (asarray(a),), name="ascontiguousarray")


def asfortranarray(a: Any, dtype: Any = None) -> ndarray:
    return run(lambda x: np.asfortranarray(x, dtype), (asarray(a),), name="asfortranarray")


def asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True) -> Any:
    return a.get(stream, order, out) if isinstance(a, ndarray) else np.asarray(a)


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return ndarray(shape, dtype, order=order)


def empty_like(prototype: ndarray, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None):
    if not isinstance(prototype, ndarray):
        raise TypeError(f"Unsupported type {type(prototype)}")
    y = ndarray(prototype.shape if shape is None else shape, dtype or prototype.dtype)
    if shape is None and order == "K" and not prototype.flags.c_contiguous:
        y._array = np.empty_like(prototype._array, dtype)
        poisoned(y._array)
    return y


def get_array_module(*args: Any) -> Any:
    return sys.modules["cupy"] if any(isinstance(a, ndarray) for a in args) else np


def may_share_memory(a: ndarray, b: ndarray) -> bool:
    return np.may_share_memory(a._array, b._array)


shares_memory = may_share_memory


# --- kernels ---


class RawModule:
    """A ``.cu`` text, compiled by g++ when a kernel of it is first wanted."""

    def __init__(self, *, code: str, options: tuple[str, ...] = (), backend: str = "nvrtc", **settings: Any):
        if type(options) is not tuple:
            raise TypeError(
                f"Argument 'options' has incorrect type (expected tuple, got {type(options).__name__})"
            )
        self.code, self.options = code, options

    def get_function(self, name: str) -> Kernel:
        return Kernel(self, name)

    def compile(self, log_stream: Any = None) -> None:
        shim.build(self.code, self.options)


class Kernel:
    """One kernel of a module."""

    def __init__(self, module: RawModule, name: str):
        self.module, self.name = module, name

    def __call__(
        self, grid: tuple, block: tuple, args: tuple, *, shared_mem: int = 0, **settings: Any
    ) -> None:
        """Launch it, or note the launch down. Arguments passed by value are read now, as on a card."""
        values = [_argument(self.name, i, value) for i, value in enumerate(args)]
        arrays = [value for value in args if isinstance(value, ndarray)]
        raw = [value._array for value in arrays]  # the addresses stay good as long as the closure lives

        def work(raw: list[np.ndarray] = raw) -> None:
            library = shim.build(self.module.code, self.module.options)
            library.launch(self.name, grid, block, values, shared_mem, order)

        launch(self.name, work, arrays)


def _argument(kernel: str, place: int, value: Any) -> Any:
    if isinstance(value, ndarray):
        if not _in_one_piece(value._array):
            raise AssertionError(
                f"argument {place} of kernel {kernel} has shape {value.shape} and strides {value.strides}: "
                "the kernel only gets an address, so make it contiguous first"
            )
        return shim.Pointer(value._array.ctypes.data)
    if value is None:
        return shim.Pointer(0)
    if isinstance(value, np.ndarray):
        return value.copy()
    for kind, dtype in ((bool, np.bool_), (int, np.int64), (float, np.float64)):
        if type(value) is kind:
            return dtype(value)
    if isinstance(value, np.generic):
        return value
    raise TypeError(f"Unsupported type {type(value)}")


def _in_one_piece(array: np.ndarray) -> bool:
    """In C order, or a matrix with one axis side by side, whose kernel is told the distance of its rows."""
    if array.flags.c_contiguous or array.size <= 1:
        return True
    return array.ndim == 2 and min(array.strides) > 0 and array.itemsize in array.strides


class _NoElementwise:
    def __init__(self, *args: Any, **kwargs: Any):
        raise NotImplementedError("the stand-in has no ElementwiseKernel: write it as a .cu file")


# --- the module ---


class _Ufunc:
    """A function of NumPy's, callable with device arrays; ``at`` adds with indices."""

    def __init__(self, function: Any):
        self._function, self.__name__ = function, function.__name__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return call(self._function, args, kwargs)

    def at(self, a: ndarray, indices: Any, values: Any = None) -> None:
        place = Place(a, indices)
        at, add = place.bound(), self._function.at
        in_place(f"{self.__name__}.at", a, lambda x, v: add(x, at(), v), values, place.arrays)


class _Module(ModuleType):
    """A module that finds in NumPy what was not written for it."""

    def __init__(self, name: str, numpy: Any = None, **names: Any):
        super().__init__(name)
        self.__dict__.update(names)
        self._numpy, self.__path__ = numpy, []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or self._numpy is None or name in MISSING:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        try:
            found = getattr(self._numpy, name)
        except AttributeError:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}") from None
        if isinstance(found, ModuleType):
            found = _Module(f"{self.__name__}.{name}", found)
        elif callable(found) and not isinstance(found, type):
            found = _Ufunc(found)
        setattr(self, name, found)
        return found


class _Random(ModuleType):
    """cuRAND: not in a capture, and no stream of numbers that a test could rely on."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def draw(*args: Any, **kwargs: Any) -> Any:
            memory.refuse_cublas_in_capture()
            return on_card(np.asarray(getattr(np.random.default_rng(), name)(*args, **kwargs)))

        return draw


def erf(x: ndarray) -> ndarray:
    return run(lambda a: np.vectorize(math.erf, otypes=[a.dtype])(a), (x,), name="erf")


def scatter_add(a: ndarray, indices: Any, values: Any) -> None:
    _Ufunc(np.add).at(a, indices, values)


def properties(device: int) -> dict[str, Any]:
    return {
        "name": b"stand-in", "major": 9, "minor": 0, "multiProcessorCount": 4, "warpSize": 32,
        "totalGlobalMem": memory.card.memory, "sharedMemPerBlock": 49152, "sharedMemPerBlockOptin": 232448,
        "l2CacheSize": 2**20,
    }  # fmt: skip


@functools.cache
def modules() -> dict[str, ModuleType]:
    """The modules by name, as they go into sys.modules."""
    runtime = _Module(
        "cupy.cuda.runtime", driverGetVersion=lambda: 13000, runtimeGetVersion=lambda: 13000,
        getDeviceCount=lambda: 1, getDevice=lambda: 0, memGetInfo=mem_get_info,
        getDeviceProperties=properties, deviceSynchronize=lambda: memory.current().synchronize(),
        streamCaptureModeRelaxed=2, CUDARuntimeError=memory.CUDARuntimeError, is_hip=False,
    )  # fmt: skip
    cuda_memory = _Module(
        "cupy.cuda.memory", OutOfMemoryError=memory.OutOfMemoryError, MemoryPool=memory.MemoryPool,
        set_allocator=memory.set_allocator,
    )  # fmt: skip
    stream = _Module("cupy.cuda.stream", get_current_stream=memory.current, Stream=memory.Stream)
    cuda = _Module(
        "cupy.cuda", is_available=lambda: True, Device=Device, runtime=runtime, memory=cuda_memory,
        stream=stream, Stream=memory.Stream, Event=memory.Event, Graph=memory.Graph,
        MemoryPool=memory.MemoryPool, using_allocator=memory.using_allocator,
        set_allocator=memory.set_allocator, get_allocator=memory.get_allocator,
        get_current_stream=lambda device=-1: memory.current(),
        get_elapsed_time=lambda start, end: 0.0, alloc_pinned_memory=bytearray,
    )  # fmt: skip
    own = "array asarray ascontiguousarray asfortranarray asnumpy empty empty_like get_array_module"
    cupy = _Module(
        "cupy", np, **{name: globals()[name] for name in own.split()}, ndarray=ndarray, take=take, cuda=cuda,
        RawModule=RawModule, ElementwiseKernel=_NoElementwise, ReductionKernel=_NoElementwise,
        may_share_memory=may_share_memory, shares_memory=shares_memory, random=_Random("cupy.random"),
        is_available=lambda: True, __version__="14.2.0", transfers=memory.transfers, card=memory.card,
        get_default_memory_pool=lambda: memory.default_pool, newaxis=None,
    )  # fmt: skip
    special = _Module("cupyx.scipy.special", erf=erf)
    scipy = _Module("cupyx.scipy", special=special)
    found: list[Any] = [
        cupy, cuda, runtime, cuda_memory, stream, cupy.lib, cupy.lib.stride_tricks, cupy.linalg, cupy.random,
        _Module("cupyx", scipy=scipy, scatter_add=scatter_add), scipy, special,
    ]  # fmt: skip
    version = _Module("cupy_backends.cuda.libs.nvrtc", getVersion=lambda: (13, 0))
    libraries = _Module(
        "cupy_backends.cuda.libs", nvrtc=version, cublas=_Module("cupy_backends.cuda.libs.cublas")
    )
    backends = (_Module("cupy_backends"), _Module("cupy_backends.cuda"), libraries, version, libraries.cublas)
    return {module.__name__: module for module in (*found, *backends)}


def install(thread_order: str = "forward") -> Any:
    """Put the stand-in in the place of cupy and return it."""
    global order
    order = thread_order
    sys.modules.update(modules())
    return sys.modules["cupy"]
