"""The stand-in for CuPy: it refuses what CuPy refuses, in its words, and computes what NumPy computes.

The words are those of CuPy 14.2: cupy/_core/{core,_routines_indexing}.pyx, cupy/cuda/{memory,stream}.pyx,
cupy_backends/cuda/libs/cublas.pyx.
"""

import gc
import importlib
import operator
import re
import sys

import numpy as np
import pytest
import shim
import standin
import standin_memory

ADD = """
extern "C" __global__ void add(float* y, const float* x, float value, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] + value;
}
struct Pair { float a, b; };
extern "C" __global__ void first(float* y, Pair pair) { y[0] = pair.a - pair.b; }
"""


@pytest.fixture
def cp(standin_gpu):
    standin_gpu.transfers.reset()
    return standin_gpu


@pytest.fixture
def x(cp):
    return cp.asarray(np.arange(12, dtype=np.float32).reshape(3, 4))


# --- refusals ---


@pytest.mark.parametrize(
    "convert", [np.asarray, np.array, np.ascontiguousarray, lambda x: np.zeros(3) + list(x)]
)
def test_silent_conversion_to_numpy_is_refused(x, convert):
    with pytest.raises(TypeError, match="Implicit conversion to a NumPy array is not allowed"):
        convert(x)
    with pytest.raises(TypeError) as caught:
        x.__array__()
    assert str(caught.value) == (
        "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array "
        "explicitly."
    )
    assert not hasattr(x, "__array_interface__")


@pytest.mark.parametrize(
    "mix",
    [
        lambda cp, x, h: x + h,
        lambda cp, x, h: h + x,
        lambda cp, x, h: x @ h.T,
        lambda cp, x, h: operator.iadd(x, h),
        lambda cp, x, h: operator.iadd(h, x),
        lambda cp, x, h: x == h,
        lambda cp, x, h: cp.maximum(x, h),
        lambda cp, x, h: cp.where(h > 0, x, x),
        lambda cp, x, h: cp.concatenate([x, h]),
        lambda cp, x, h: cp.exp(h),
        lambda cp, x, h: cp.sum(h),
        lambda cp, x, h: cp.zeros_like(h),
        lambda cp, x, h: np.add(x, h),
        lambda cp, x, h: np.float32(1) * x + h[0, 0].reshape(()) * np.ones(4),
    ],
)
def test_host_arrays_among_device_arrays_are_refused(cp, x, mix):
    with pytest.raises(TypeError, match=r"Unsupported type <class 'numpy.ndarray'>"):
        mix(cp, x, np.ones((3, 4), np.float32))


def test_lists_are_no_operands(x):
    with pytest.raises(TypeError, match="Unsupported type <class 'list'>"):
        x[0] + [1, 2, 3, 4]


def test_host_values_cannot_be_written_into_slices(x):
    with pytest.raises(ValueError, match=r"^non-scalar numpy\.ndarray cannot be used for fill$"):
        x[0] = np.ones(4)
    x[0] = np.array(2.0)  # a single number can
    assert x.get()[0].tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize("keyword", ["where", "initial"])
def test_keywords_that_cupy_lacks(cp, x, keyword):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{keyword}'"):
        cp.sum(x, **{keyword: 1})


@pytest.mark.parametrize("name", ["errstate", "nditer", "block", "insert", "vecdot", "no_such_name"])
def test_names_that_cupy_lacks(cp, name):
    with pytest.raises(AttributeError, match=f"module 'cupy' has no attribute '{name}'"):
        getattr(cp, name)


def test_arrays_have_no_hash_and_no_index(cp):
    with pytest.raises(TypeError, match="unhashable"):
        hash(cp.zeros(2))
    with pytest.raises(TypeError):
        [1, 2, 3][cp.asarray(1)]
    with pytest.raises(TypeError, match="len\\(\\) of unsized object"):
        len(cp.zeros(()))


def test_set_and_fill_check_what_they_get(cp, x):
    with pytest.raises(TypeError, match=r"Only numpy\.ndarray can be set to cupy\.ndarray"):
        x.set(x)
    with pytest.raises(TypeError, match="float64 array cannot be set to float32 array"):
        x.set(np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"Shape mismatch. Old shape: \(3, 4\), new shape: \(2,\)"):
        x.set(np.zeros(2, np.float32))
    with pytest.raises(IndexError, match="arrays used as indices must be of integer or boolean type"):
        x[x]


# --- numbers and shapes ---


def test_results_are_device_arrays_and_reductions_have_no_axes(cp, x):
    for y in (
        x.sum(),
        x[1, 2],
        x.max(),
        cp.mean(x),
        np.exp(x),
        np.float32(2) * x,
        x.astype("f8"),
        cp.vdot(x, x),
    ):
        assert type(y) is cp.ndarray
    assert x.sum().shape == x[1, 2].shape == ()
    assert x.sum().get() == 66
    assert cp.array_equal(x, x).shape == ()


def test_single_elements_are_views(x):
    x[1, 2][...] = 50
    assert float(x[1, 2]) == 50


def test_views_share_memory_and_name_their_base(cp, x):
    for view in (
        x.T,
        x[1:],
        x.reshape(4, 3),
        x.ravel(),
        x[:, None],
        cp.split(x, 2, axis=1)[0],
        cp.moveaxis(x, 0, 1),
    ):
        assert view.base is x
        assert cp.may_share_memory(view, x)
    for copy in (x.copy(), x + 0, x[[0, 1]], x.flatten(), cp.ascontiguousarray(x.T)):
        assert copy.base is None
    assert cp.ascontiguousarray(x) is x
    assert cp.asarray(x) is x
    assert x.astype("float32", copy=False) is x
    x.T[...] = 7
    assert (x.get() == 7).all()


def test_numpy_2_promotion(cp, x):
    assert (x * 2.0).dtype == np.float32
    assert (x * np.float64(2)).dtype == np.float64
    assert (x + cp.asarray(1.0)).dtype == np.float64
    assert cp.arange(3).dtype == np.int64


def test_new_memory_is_poisoned(cp, x):
    assert np.isnan(cp.empty((2, 3), np.float32).get()).all()
    assert np.isnan(cp.empty_like(x.T).get()).all()
    assert cp.empty_like(x.T).strides == x.T.strides
    assert (cp.empty(3, np.int32).get() == -1).all()
    assert np.isnan(cp.ndarray((2,), np.float64).get()).all()


def test_indices_out_of_range_wrap_as_in_cupy(cp, x):
    np.testing.assert_array_equal(x[cp.asarray([3, -1, 4])].get(), x.get()[[0, 2, 1]])
    np.testing.assert_array_equal(x[cp.asarray([3, 0]), cp.asarray([0, 4])].get(), [0, 0])
    np.testing.assert_array_equal(x[..., cp.asarray([5])].get(), x.get()[..., [1]])
    np.testing.assert_array_equal(x.take(cp.asarray([5]), 1).get(), x.get()[:, [1]])
    x[cp.asarray([3])] = -1.0
    assert (x.get()[0] == -1).all()


def test_no_warnings_come_from_a_card(cp):
    assert np.isinf(float(cp.log(cp.zeros(()))))


def test_pickling_and_copying(x):
    import copy
    import pickle

    assert (pickle.loads(pickle.dumps(x)).get() == x.get()).all()
    assert copy.deepcopy(x).base is None


# --- transfers are counted ---


@pytest.mark.parametrize(
    "read",
    [
        lambda cp, x: x.get(), lambda cp, x: float(x[0, 0]), lambda cp, x: bool(x[0, 0]),
        lambda cp, x: x.tolist(), lambda cp, x: x[0, 0].item(), lambda cp, x: str(x),
        lambda cp, x: cp.asnumpy(x), lambda cp, x: x[x > 3],
        lambda cp, x: cp.nonzero(x), lambda cp, x: cp.where(x > 3), lambda cp, x: f"{x[0, 0]:.2f}",
    ],
)  # fmt: skip
def test_reading_values_is_counted(cp, x, read):
    before = cp.transfers.to_host
    read(cp, x)
    assert cp.transfers.to_host == before + 1


@pytest.mark.parametrize(
    "write",
    [
        lambda cp, x: cp.asarray([1, 2]), lambda cp, x: cp.asarray(np.ones(3)), lambda cp, x: x[[0, 1]],
        lambda cp, x: x[np.array([0, 1])], lambda cp, x: x.set(np.ones((3, 4), np.float32)),
        lambda cp, x: x.take([0, 1], 0),
    ],
)  # fmt: skip
def test_writing_values_is_counted(cp, x, write):
    before = cp.transfers.to_device
    write(cp, x)
    assert cp.transfers.to_device == before + 1


def test_what_stays_on_the_card_is_not_counted(cp, x):
    cp.transfers.reset()
    y = cp.asarray(3.0) * x + cp.float32(2) - x.max()  # a single number travels as the argument of a kernel
    y[cp.zeros(2, np.int64)] = 1
    y += cp.arange(4, dtype=np.float32)
    assert (cp.transfers.to_host, cp.transfers.to_device) == (0, 0)


# --- kernels ---


@pytest.mark.parametrize("order", shim.ORDERS)
def test_kernels_run_in_the_chosen_order(cp, x, order, monkeypatch):
    monkeypatch.setattr(standin, "order", order)
    kernel = cp.RawModule(code=ADD, options=("-std=c++17",)).get_function("add")
    y = cp.empty_like(x)
    kernel((2,), (8,), (y, x, np.float32(0.5), np.int32(12)))
    np.testing.assert_array_equal(y.get(), x.get() + 0.5)


def test_numpy_arrays_go_to_kernels_by_value(cp):
    y = cp.empty(1, np.float32)
    cp.RawModule(code=ADD).get_function("first")((1,), (1,), (y, np.array([5, 3], np.float32)))
    assert float(y[0]) == 2


@pytest.mark.parametrize(
    "make",
    [lambda x: x[:, :, None].swapaxes(0, 2), lambda x: x[::-1], lambda x: x[:, ::-1], lambda x: x[::2, ::2]],
)
def test_a_kernel_gets_no_array_with_gaps(cp, x, make):
    kernel = cp.RawModule(code=ADD).get_function("add")
    with pytest.raises(AssertionError, match=r"argument 1 of kernel add has .* make it contiguous first"):
        kernel((2,), (8,), (cp.empty(12, np.float32), make(x), np.float32(0.5), np.int32(12)))


def test_a_kernel_takes_no_list(cp):
    with pytest.raises(TypeError, match="Unsupported type <class 'list'>"):
        cp.RawModule(code=ADD).get_function("add")((1,), (1,), ([1, 2],))
    with pytest.raises(TypeError, match="expected tuple, got list"):
        cp.RawModule(code=ADD, options=["-std=c++17"])


# --- installing ---


def test_nothing_is_left_when_it_is_not_in_use():
    assert sys.modules.get("cupy") is not standin.modules()["cupy"]


def test_memory_is_counted_and_limited(cp):
    pool = cp.get_default_memory_pool()
    gc.collect()
    before = pool.used_bytes()
    y = cp.zeros(1000, np.float32)
    view = y[10:]
    del y
    assert pool.used_bytes() == before + 4096  # CuPy rounds up to 512
    del view
    assert pool.used_bytes() == before
    pool.set_limit(size=before + 1000)
    words = (
        "Out of memory allocating 80,384 bytes (allocated so far: {0:,} bytes, limit set to: {1:,} bytes)."
    )
    with pytest.raises(cp.cuda.memory.OutOfMemoryError, match=re.escape(words.format(before, before + 1000))):
        cp.zeros(10_000)
    pool.set_limit(size=0)
    free, _ = cp.cuda.runtime.memGetInfo()
    with pytest.raises(MemoryError, match="Out of memory allocating"):
        cp.ndarray((free,), np.float64)


def test_names_agree_with_the_real_package():
    """Where CuPy is installed, with or without a card: everything the stand-in offers exists there."""
    try:
        real = importlib.import_module("cupy")
    except ImportError:
        pytest.skip("CuPy is not installed; no GPU is needed for this")
    own = [name for name in vars(standin.ndarray) if not name.startswith("_")]
    assert set(own) <= set(dir(real.ndarray))
    assert not standin.MISSING & set(dir(real))
    played = {n: m for n, m in standin.modules().items() if not n.startswith("cupy_backends")}
    there = {name: importlib.import_module(name) for name in played}
    for name, module in played.items():
        public = {attribute for attribute in vars(module) if not attribute.startswith("_")}
        assert public - {"card", "transfers"} <= set(dir(there[name])), name
    for kind in ("Stream", "Event", "Graph", "MemoryPool"):
        public = {n for n in vars(getattr(standin_memory, kind)) if not n.startswith("_")}
        assert public - {"note", "nodes"} <= set(dir(getattr(real.cuda, kind))) | {"done", "ptr"}
