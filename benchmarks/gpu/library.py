"""NVIDIA's matrix product in all precisions, as a ceiling: called directly, without anything of tinynet's."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

WORKSPACE = 32 << 20  # bytes
_TYPES = {"fp32": 0, "tf32": 0, "bf16": 14}  # cudaDataType of the factors
_COMPUTE = {"fp32": 68, "tf32": 77, "bf16": 68}  # cublasComputeType_t
_ZERO, _ONE = ctypes.c_float(0), ctypes.c_float(1)


class Library:
    """cuBLAS with a handle of its own, and with a workspace or without."""

    def __init__(self, xp: Any, workspace: int = WORKSPACE):
        from tinynet.kernels.cuda import cublas

        self._xp, self._cublas, self._handle = xp, cublas.library(), ctypes.c_void_p()
        if self._cublas is None:
            raise RuntimeError("there is no cuBLAS library; tinynet doctor tells what to install")
        self._check(self._cublas.cublasCreate_v2(ctypes.byref(self._handle)))
        self._workspace = xp.empty(workspace, "uint8")

    def product(self, a: Any, b: Any, precision: str) -> Callable[[], Any]:
        """A call that computes a @ b of square matrices; for "bf16" their first 16 bits are the factors."""
        side, kind = len(a), _TYPES[precision]
        out = self._xp.empty((side, side), "float32")
        if precision == "bf16":
            a, b = ((m.view("uint32") >> 16).astype("uint16") for m in (a, b))
        matrix = [(m.data.ptr, k, side) for m, k in ((b, kind), (a, kind), (out, 0))]

        def call() -> Any:
            self._follow(self._xp.cuda.get_current_stream().ptr)
            status = self._cublas.cublasGemmEx(
                self._handle, 0, 0, side, side, side, ctypes.byref(_ONE), *matrix[0], *matrix[1],
                ctypes.byref(_ZERO), *matrix[2], _COMPUTE[precision], -1,
            )  # fmt: skip
            self._check(status)
            return out, a, b

        return call

    def _follow(self, stream: int) -> None:
        self._check(self._cublas.cublasSetStream_v2(self._handle, stream))
        if self._workspace.size:
            self._check(
                self._cublas.cublasSetWorkspace_v2(
                    self._handle, self._workspace.data.ptr, self._workspace.size
                )
            )

    @staticmethod
    def _check(status: int) -> None:
        if status != 0:
            raise RuntimeError(f"cuBLAS status {status}")
