"""Every kernel in every room: same signature, same results, whatever the layout of the inputs."""

import importlib
import inspect
import subprocess
import sys
import warnings

import numpy as np
import pytest
from kernel_cases import (
    BLOCKS,
    DTYPES,
    EVERY,
    IN_PLACE,
    NAMES,
    ROOMS,
    TESTED,
    all_calls,
    assert_same,
    expected,
    run,
)

import tinynet as tn
from tinynet import kernels
from tinynet.errors import DeviceError
from tinynet.kernels.recurrent import takes_last_alone


def test_the_table_of_calls_holds_every_kernel():
    assert sorted(all_calls(np.float64)) == EVERY


@pytest.mark.parametrize("folder", ["reference", "arrays", "cpu", "cuda"])
def test_signatures_are_those_of_the_contract(folder):
    room = importlib.import_module(f"tinynet.kernels.{folder}")
    own = [name for name in BLOCKS if callable(getattr(room, name, None))]
    for name in NAMES + own:
        wanted = list(inspect.signature(getattr(kernels, name)).parameters)
        if not takes_last_alone(room):
            wanted = [parameter for parameter in wanted if parameter != "last"]
        assert list(inspect.signature(getattr(room, name)).parameters) == wanted, name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("room", TESTED)
def test_agrees_with_the_reference(room, name, dtype):
    args = all_calls(dtype)[name]
    wanted = expected(name, *args)
    assert_same(run(room, name, *args), wanted, dtype)


@pytest.mark.parametrize("name", EVERY)
def test_reference_keeps_the_dtype(name):
    args = all_calls(np.float32)[name]
    wanted = expected(name, *args)
    assert_same(run("reference", name, *args), wanted, np.float32)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("room", ROOMS)
def test_empty_batch(room, name):
    args = all_calls(np.float32, n=0)[name]
    wanted = expected(name, *args)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert_same(run(room, name, *args), wanted, np.float32)


def fortran(a):
    return np.asfortranarray(a)


def every_second(a):
    return np.repeat(a, 2, axis=-1)[..., ::2]


def reversed_rows(a):
    return np.ascontiguousarray(a[::-1])[::-1]


def in_a_larger_array(a):
    return np.pad(a, 1)[(slice(1, -1),) * a.ndim]


LAYOUTS = [fortran, every_second, reversed_rows, in_a_larger_array]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("room", ROOMS)
def test_any_memory_layout(room, name, layout):
    args = all_calls(np.float32)[name]
    wanted = expected(name, *args)
    args = [layout(a) if isinstance(a, np.ndarray) else a for a in args]
    assert_same(run(room, name, *args), wanted, np.float32)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("room", ROOMS)
def test_read_only_repeated_inputs(room, name):
    """Gradients of a sum arrive as one number that is repeated with stride 0, and may not be written to."""
    args = list(all_calls(np.float32)[name])
    for i, a in enumerate(args):
        if isinstance(a, np.ndarray) and i not in IN_PLACE.get(name, ()):
            args[i] = np.broadcast_to(a[:1], a.shape)
    if name == "norm_block_backward":  # its y must remain the result of what stands before it
        _, x, weight, bias, mean, var, eps, _ = args
        args[-1] = ((x - mean) / np.sqrt(var + eps) * weight + bias).clip(0)
    wanted = expected(name, *[a.copy() if isinstance(a, np.ndarray) else a for a in args])
    assert_same(run(room, name, *args), wanted, np.float32)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("room", ROOMS)
def test_inputs_are_left_alone_and_results_are_new(room, name):
    args = all_calls(np.float32)[name]
    before = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    results = run(room, name, *args)
    for i, (a, b) in enumerate(zip(args, before)):
        if isinstance(a, np.ndarray) and i not in IN_PLACE.get(name, ()):
            np.testing.assert_array_equal(a, b)
            assert not any(np.shares_memory(a, r) for r in results)


@pytest.mark.gpu
def test_gpu_arrays_agree_with_the_reference():
    try:
        tn.device("cuda")
    except DeviceError as error:
        pytest.skip(f"needs a GPU: {error}")
    import cupy

    for name, args in all_calls(np.float32).items():
        wanted = expected(name, *args)
        args = [cupy.asarray(a) if isinstance(a, np.ndarray) else a for a in args]
        results = run("fast", name, *args)
        assert all(isinstance(r, cupy.ndarray) for r in results), name
        assert_same([r.get() for r in results], wanted, np.float32)


# --- choosing the room ---


def test_use_lasts_until_the_block_ends():
    before = kernels.room()
    with kernels.use("reference"):
        assert kernels.room() == "reference"
        with kernels.use("numpy"):
            assert kernels.room() == "numpy"
        assert kernels.room() == "reference"
    assert kernels.room() == before


def test_use_is_undone_by_an_error():
    before = kernels.room()
    with pytest.raises(ZeroDivisionError), kernels.use("reference"):
        raise ZeroDivisionError
    assert kernels.room() == before


def test_use_without_a_block_stays():
    before = kernels.room()
    kernels.use("numpy")
    assert kernels.room() == "numpy"
    kernels.use(before)


def test_use_sends_the_call_to_that_room(monkeypatch):
    reference = importlib.import_module("tinynet.kernels.reference")
    monkeypatch.setattr(reference, "erf", lambda x: "from the reference")
    with kernels.use("reference"):
        assert kernels.erf(np.zeros(1)) == "from the reference"


def test_unknown_room():
    before = kernels.room()
    message = "unknown room 'speedy' for kernels; known: reference, numpy, fast"
    with pytest.raises(ValueError, match=message):
        kernels.use("speedy")
    assert kernels.room() == before


def python(code):
    """Run code in a fresh interpreter and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_without_numba_the_fast_room_falls_back_to_numpy_and_says_so_once():
    code = """
import sys, warnings
sys.modules["numba"] = None  # import numba now raises ImportError
import numpy as np
from tinynet import kernels
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        y = kernels.matmul(np.ones((2, 3), np.float32), np.ones((3, 4), np.float32))
print(len(caught), str(caught[0].message), caught[0].filename, y.sum())
"""
    printed = python(code)
    assert printed.startswith("1 Numba cannot be imported (")
    assert printed.endswith("going on with NumPy kernels, slower <string> 24.0")


@pytest.mark.parametrize("room", ["reference", "numpy"])
def test_readable_rooms_need_neither_numba_nor_cupy(room):
    code = f"""
import sys
import numpy as np
from tinynet import kernels
kernels.use({room!r})
kernels.erf(np.zeros(3))
print(*(name for name in ("numba", "cupy") if name in sys.modules))
"""
    assert python(code) == ""


def test_arrays_that_are_not_numpys_go_to_the_cuda_room():
    from tinynet.kernels import cuda, rooms

    assert rooms.room_of(object()) is cuda
    assert all(callable(getattr(cuda, name)) for name in NAMES)
