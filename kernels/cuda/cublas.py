"""NVIDIA's matrix product, called through ctypes with a handle and a workspace of our own.

CuPy's products cannot be part of a recorded step: CuPy refuses to call cuBLAS there. cuBLAS itself can be
recorded, provided that it need not allocate memory; so it is given a workspace once for all. There is one
for each device: products on several streams of one device at the same time are not supported.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from typing import Any

from tinynet.kernels.arrays._library import xp_of

Array = Any

WORKSPACE = 32 << 20  # bytes; what NVIDIA advises for Hopper
_PLAIN, _TRANSPOSED = 0, 1  # cublasOperation_t
_FLOAT32 = 0  # cudaDataType
_IN_FLOAT32, _IN_TF32 = 68, 77  # cublasComputeType_t
_ANY_ALGORITHM = -1  # cublasGemmAlgo_t: the library chooses
_ZERO, _ONE = ctypes.c_float(0), ctypes.c_float(1)

_int, _pointer, _size = ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t
_MATRIX = (_pointer, _int, _int)  # address, type, distance
_ARGUMENTS = {
    "cublasCreate_v2": (_pointer,),
    "cublasSetStream_v2": (_pointer, _pointer),
    "cublasSetWorkspace_v2": (_pointer, _pointer, _size),
    # handle; operations of a and b, m, n, k; alpha; a; b; beta; c; compute type, algorithm
    "cublasGemmEx": (_pointer, *[_int] * 5, _pointer, *_MATRIX, *_MATRIX, _pointer, *_MATRIX, _int, _int),
}


@functools.cache
def library() -> Any:
    """The cuBLAS library, found where CuPy finds it too; None if there is none."""
    return _search()


def _search() -> Any:
    try:
        finder = importlib.import_module("cuda.pathfinder")
        found = ctypes.CDLL(finder.load_nvidia_dynamic_lib("cublas").abs_path)
    except (ImportError, OSError, RuntimeError):
        return None
    for name, arguments in _ARGUMENTS.items():
        getattr(found, name).argtypes = arguments
    found.cublasGetStatusString.restype = ctypes.c_char_p
    return found


def gemm(a: Array, b: Array, out: Array, add: bool, tf32: bool) -> None:
    """out (M, N) = a (M, K) @ b (K, N), or += if ``add``, on the current stream.

    All float32 and not empty, and such that :func:`steps` has an answer; for ``out``, by rows. May be part of
    a recorded step once it has been called before on this device. Raises RuntimeError, with the library's
    words, when the library refuses.
    """
    cuda = xp_of(out).cuda
    cublas = _handle(library(), xp_of(out), cuda.Device().id)
    cublas.follow(cuda.get_current_stream().ptr)
    # cuBLAS counts down columns. So read, every matrix is its own transpose, and out.T = b.T @ a.T.
    (operation_b, *right), (operation_a, *left), (_, *result) = map(_operand, (b, a, out))
    alpha, beta = ctypes.byref(_ONE), ctypes.byref(_ONE if add else _ZERO)
    sizes = *out.shape[::-1], a.shape[1]
    compute = _IN_TF32 if tf32 else _IN_FLOAT32, _ANY_ALGORITHM
    cublas.call(
        "cublasGemmEx", operation_b, operation_a, *sizes, alpha, *right, *left, beta, *result, *compute
    )


def steps(matrix: Array) -> tuple[int, int] | None:
    """Distances of neighbouring rows and columns of a matrix, in numbers; one of them is 1.

    None of a matrix that must be copied before it can be a factor.
    """
    (rows, columns), (row, column) = matrix.shape, (s // matrix.itemsize for s in matrix.strides)
    if matrix.size <= 1 or (column == 1 and (row >= columns or rows == 1)):
        return max(row, columns), 1
    if row == 1 and (column >= rows or columns == 1):
        return 1, max(column, rows)
    return None


def _operand(matrix: Array) -> tuple[int, int, int, int]:
    """Operation, address, type and distance."""
    row, column = steps(matrix)
    return _PLAIN if column == 1 else _TRANSPOSED, matrix.data.ptr, _FLOAT32, max(row, column)


class _Handle:
    """cuBLAS on one device: what its calls have in common."""

    def __init__(self, library: Any, xp: Any):
        self._library, self._handle, self._stream = library, ctypes.c_void_p(), None
        self._check("cublasCreate_v2", library.cublasCreate_v2(ctypes.byref(self._handle)))
        self._workspace = xp.empty(WORKSPACE, "uint8")

    def follow(self, stream: int) -> None:
        """Work on this stream from now on. Setting it takes the workspace away, so that is given again."""
        if stream != self._stream:
            self.call("cublasSetStream_v2", stream)
            self.call("cublasSetWorkspace_v2", self._workspace.data.ptr, WORKSPACE)
            self._stream = stream

    def call(self, name: str, *args: Any) -> None:
        """Call a function of the library; a status that is not 0 becomes an error."""
        self._check(name, getattr(self._library, name)(self._handle, *args))

    def _check(self, name: str, status: int) -> None:
        if status != 0:
            words = self._library.cublasGetStatusString(status).decode()
            raise RuntimeError(f"{name} failed: {words} (cuBLAS status {status})")


@functools.cache
def _handle(library: Any, xp: Any, device: int) -> _Handle:
    return _Handle(library, xp)
