"""cuBLAS through ctypes: what it is told, checked by a library that computes with NumPy."""

import ctypes
import functools
import importlib
import sys
from types import ModuleType

import numpy as np
import pytest
from measure import relative_error

import tinynet as tn
from tinynet.kernels.cuda import cublas
from tinynet.kernels.cuda.graph import Graph
from tinynet.kernels.cuda.matmul import SMALL, gemm, in_line

FLOAT32, IN_FLOAT32, IN_TF32, SUCCESS, NOT_INITIALIZED, INVALID = 0, 68, 77, 0, 1, 7
WORDS = {NOT_INITIALIZED: b"the library was not initialized", INVALID: b"an unsupported value was passed"}


class FakeLibrary:
    """libcublas on the host. A call is refused when NVIDIA's manual says that it is wrong."""

    def __init__(self, created=SUCCESS):
        self.created, self.calls = created, []
        self.stream = self.workspace = None

    def cublasCreate_v2(self, handle):
        handle._obj.value = 4711
        return self.created

    def cublasGetStatusString(self, status):
        return WORDS[status]

    def cublasSetStream_v2(self, handle, stream):
        self.stream, self.workspace = stream, None  # "unconditionally resets the workspace"
        return self._called("stream", handle)

    def cublasSetWorkspace_v2(self, handle, address, size):
        self.workspace = ctypes.string_at(address, size)  # is this memory really there?
        return self._called("workspace", handle)

    def cublasGemmEx(
        self, handle, operation_a, operation_b, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c,
        c_type, ldc, compute, algorithm,
    ):  # fmt: skip
        assert self.workspace is not None, "without a workspace cuBLAS may allocate"
        assert (a_type, b_type, c_type) == (FLOAT32,) * 3
        assert compute in (IN_FLOAT32, IN_TF32) and algorithm == -1
        a_rows, a_columns = (k, m) if operation_a else (m, k)
        b_rows, b_columns = (n, k) if operation_b else (k, n)
        if min(m, n, k) < 0 or lda < max(1, a_rows) or ldb < max(1, b_rows) or ldc < max(1, m):
            return INVALID
        left = columns(a, a_rows, a_columns, lda)
        right = columns(b, b_rows, b_columns, ldb)
        out = columns(c, m, n, ldc)
        product = (left.T if operation_a else left) @ (right.T if operation_b else right)
        alpha, beta = alpha._obj.value, beta._obj.value
        out[...] = alpha * product + (beta * out if beta else 0)  # with beta 0, c may hold NaN
        self.compute = compute
        return self._called("gemm", handle)

    def _called(self, name, handle):
        assert handle.value == 4711
        self.calls.append(name)
        return SUCCESS


def columns(address, rows, count, distance):
    """A matrix in column-major order as NumPy sees it; not one number more than it owns."""
    size = (count - 1) * distance + rows
    flat = np.ctypeslib.as_array((ctypes.c_float * size).from_address(address))
    return np.lib.stride_tricks.as_strided(flat, (rows, count), (4, 4 * distance))


@pytest.fixture
def fake(standin_gpu, monkeypatch):
    library = FakeLibrary()
    monkeypatch.setattr(cublas, "library", lambda: library)
    monkeypatch.setattr(cublas, "WORKSPACE", 4096)  # 32 MiB for every test take their time
    return library


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def on_card(gpu, values, layout):
    """By rows, by columns, or a part of a wider matrix of NaN by rows or columns."""
    if "wide" in layout:
        wide = np.full([2 * size + 1 for size in values.shape], np.nan, np.float32)
        wide[: len(values), : values.shape[1]] = values
        wide = gpu.asarray(wide.T.copy()).T if "columns" in layout else gpu.asarray(wide)
        return wide[: len(values), : values.shape[1]]
    return gpu.asarray(values.T.copy()).T if "columns" in layout else gpu.asarray(values)


LAYOUTS = ["rows", "columns", "wide rows", "wide columns"]
SIZES = [(5, 3, 7), (1, 4, 6), (6, 4, 1), (4, 1, 5), (1, 1, 9), (9, 1, 1), (1, 9, 1)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("left", LAYOUTS)
@pytest.mark.parametrize("right", LAYOUTS)
def test_every_layout(standin_gpu, fake, left, right, size):
    m, k, n = size
    a, b = normal(m, k), normal(k, n, seed=1)
    for out_layout, add in (("rows", False), ("wide rows", True)):
        before = normal(m, n, seed=2) if add else np.full((m, n), np.nan, np.float32)
        out = on_card(standin_gpu, before, out_layout)
        on_left, on_right = on_card(standin_gpu, a, left), on_card(standin_gpu, b, right)
        cublas.gemm(in_line(on_left), in_line(on_right), out, add, False)
        assert relative_error(out, a.astype(float) @ b + (before if add else 0)) < 1e-6
        assert fake.compute == IN_FLOAT32


def test_a_layout_that_blas_cannot_take_is_copied(standin_gpu):
    values = normal(6, 8)
    for array in (standin_gpu.asarray(values)[:, ::2], standin_gpu.asarray(values)[::-1],
                  standin_gpu.broadcast_to(standin_gpu.asarray(values[:1]), (6, 8))):  # fmt: skip
        assert cublas.steps(array) is None
        assert np.array_equal(in_line(array).get(), array.get())
        assert cublas.steps(in_line(array)) == (array.shape[1], 1)


def test_tf32_is_asked_for(standin_gpu, fake):
    a = standin_gpu.asarray(normal(3, 3))
    cublas.gemm(a, a, standin_gpu.empty((3, 3), np.float32), False, True)
    assert fake.compute == IN_TF32


def test_the_workspace_is_set_after_the_stream_and_only_once(standin_gpu, fake):
    a, out = standin_gpu.asarray(normal(3, 3)), standin_gpu.empty((3, 3), np.float32)
    cublas.gemm(a, a, out, False, False)
    cublas.gemm(a, a, out, False, False)
    assert fake.calls == ["stream", "workspace", "gemm", "gemm"]
    assert len(fake.workspace) == cublas.WORKSPACE
    with standin_gpu.cuda.Stream(non_blocking=True) as stream:
        cublas.gemm(a, a, out, False, False)
        assert fake.stream == stream.ptr
    assert fake.calls[4:] == ["stream", "workspace", "gemm"]


def test_it_can_be_part_of_a_recorded_step(standin_gpu, fake):
    """No transfer, no waiting and no new memory: the stand-in would refuse the first two."""
    a, out = standin_gpu.asarray(normal(3, 3)), standin_gpu.empty((3, 3), np.float32)
    cublas.gemm(a, a, out, False, False)
    pool = standin_gpu.get_default_memory_pool()
    with standin_gpu.cuda.Stream(non_blocking=True) as stream:
        stream.begin_capture()
        before = pool.used_bytes()
        cublas.gemm(a, a, out, False, False)
        assert pool.used_bytes() == before
        stream.end_capture()


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_large_products_go_to_the_library(standin_gpu, fake, precision):
    """With add, bias and ReLU the end is done by a kernel of ours."""
    m, k, n = 65, 1100, 70
    assert m * n * k > SMALL
    a, b, bias, before = normal(m, k), normal(k, n, seed=1), normal(n, seed=2), normal(m, n, seed=3)
    x, weight, out = map(standin_gpu.asarray, (a, b, before))
    with tn.kernels.precision(precision):
        gemm(x, weight, out, add=True, bias=standin_gpu.asarray(bias), activation="relu")
    assert fake.calls[-1] == "gemm" and fake.compute == (IN_TF32 if precision == "tf32" else IN_FLOAT32)
    assert relative_error(out, (a.astype(float) @ b + before + bias).clip(0)) < 1e-6


def test_small_and_narrow_products_do_not(standin_gpu, fake):
    gemm(standin_gpu.asarray(normal(70, 40)), standin_gpu.asarray(normal(40, 70)))
    gemm(standin_gpu.asarray(normal(600, 1000)), standin_gpu.asarray(normal(1000, 10)))
    assert fake.calls == []


# --- failures ---


def test_a_library_that_cannot_start_says_so(standin_gpu, monkeypatch):
    monkeypatch.setattr(cublas, "library", functools.cache(lambda: FakeLibrary(NOT_INITIALIZED)))
    a = standin_gpu.asarray(normal(3, 3))
    text = r"cublasCreate_v2 failed: the library was not initialized \(cuBLAS status 1\)"
    with pytest.raises(RuntimeError, match=text):
        cublas.gemm(a, a, standin_gpu.empty((3, 3), np.float32), False, False)


def test_a_refused_product_says_so(standin_gpu, fake):
    a, out = standin_gpu.asarray(normal(3, 3)), standin_gpu.empty((3, 3), np.float32)
    fake.cublasGemmEx = lambda *args: INVALID
    with pytest.raises(
        RuntimeError, match=r"cublasGemmEx failed: an unsupported value was passed \(cuBLAS status 7\)"
    ):
        cublas.gemm(a, a, out, False, False)


def library_where(monkeypatch, **pathfinder):
    """What the search gives when ``cuda.pathfinder`` is this."""
    module = ModuleType("cuda.pathfinder")
    module.__dict__.update(pathfinder)
    monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", module if pathfinder else None)
    return cublas._search()


def test_without_a_library_there_is_none(monkeypatch):
    def nowhere(name):
        raise RuntimeError(f"Failure finding {name}")

    assert library_where(monkeypatch) is None
    assert library_where(monkeypatch, load_nvidia_dynamic_lib=nowhere) is None


def test_the_real_library_has_what_is_called():
    """Where NVIDIA's library is installed; it needs no card for this."""
    try:
        importlib.import_module("cuda.pathfinder")
    except ImportError:
        pytest.skip("needs cuda-pathfinder, which comes with CuPy")
    library = cublas._search()
    if library is None:
        pytest.skip("needs the cuBLAS library")
    assert all(hasattr(library, name) for name in cublas._ARGUMENTS)
    assert library.cublasGetStatusString(NOT_INITIALIZED) == WORDS[NOT_INITIALIZED]


def test_on_a_card(gpu):
    """The real library, in and out of a recorded step. (The stand-in has none: there our kernels do it.)"""
    a, b = normal(400, 150).T, normal(400, 300, seed=1)
    x, weight, out = gpu.asarray(a), gpu.asarray(b), gpu.empty((150, 300), np.float32)
    bias = gpu.asarray(b[0])
    gemm(x, weight, out)
    assert relative_error(out, a.astype(float) @ b) < 1e-6
    graph = Graph(lambda: gemm(x, weight, out, bias=bias, activation="relu"))
    for _ in range(2):
        out[...] = np.nan
        graph.replay()
        assert relative_error(out, (a.astype(float) @ b + b[0]).clip(0)) < 1e-6
