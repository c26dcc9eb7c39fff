"""The shim itself: does g++ play a CUDA card well enough to find what it is there to find?"""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import shim
from shim import Pointer, ShimError

CODE = Path(__file__).with_suffix(".cu").read_text()
NAN = np.float32(np.nan)

pytestmark = pytest.mark.skipif(not shim.available(), reason="g++ is not installed")


@pytest.fixture(params=shim.ORDERS)
def order(request):
    return request.param


def library(barrier=1):
    return shim.build(CODE, ("-DTHREADS=64", f"-DWITH_BARRIER={barrier}"))


def run(name, grid, block, *args, order="forward", shared=0, barrier=1):
    """Launch a kernel; int and float become C's, arrays pointers. Returns the last array."""
    convert = {int: np.int32, float: np.float32, np.ndarray: lambda array: Pointer(array.ctypes.data)}
    arguments = [convert.get(type(value), lambda same: same)(value) for value in args]
    library(barrier).launch(name, grid, block, arguments, shared, order)
    return next((value for value in reversed(args) if isinstance(value, np.ndarray)), None)


def by_value(array):
    """Hide an array from ``run``, which would make a pointer of it."""
    return array.view(type("ByValue", (np.ndarray,), {}))


def ints(count):
    return np.full(count, -1, np.int32)


def floats(count):
    return np.full(count, NAN, np.float32)


# --- launches ---


def test_every_thread_of_every_block_knows_its_place(order):
    y = run("indexes", (3, 2, 2), (4, 3, 2), ints(12 * 24), order=order)
    np.testing.assert_array_equal(y.reshape(12, 24), 1000 * np.arange(12)[:, None] + np.arange(24))


def test_the_three_orders_are_three_orders():
    last = [run("last_one_wins", (7,), (40,), ints(1), order=order)[0] for order in shim.ORDERS]
    assert last[0] == 6039
    assert last[1] == 0
    assert len(set(last)) == 3


def test_arguments_of_all_kinds(order):
    sizes = np.array([(3, 5, 2.0)], dtype=[("rows", "i4"), ("columns", "i4"), ("factor", "f4")])
    x, y = np.arange(20, dtype=np.float32), floats(20)
    run(
        "scale",
        (1,),
        (20,),
        x,
        y,
        by_value(sizes),
        np.float64(0.5),
        np.bool_(True),
        np.int64(14),
        order=order,
    )
    np.testing.assert_array_equal(y[:14], 2 * x[:14] + 0.5)
    assert np.isnan(y[14:]).all()


@pytest.mark.parametrize(
    ("name", "grid", "block", "args", "shared", "text"),
    [
        ("no_such", (1,), (1,), (), 0, "there is no kernel no_such"),
        ("in_a_comment", (1,), (1,), (), 0, "there is no kernel in_a_comment"),
        ("for_an_old_card", (1,), (1,), (), 0, "there is no kernel for_an_old_card"),
        ("wild", (1,), (1,), (), 0, "kernel wild takes p8, not "),
        ("wild", (1,), (1,), (np.int32(1),), 0, "kernel wild takes p8, not i4"),
        ("two_barriers", (1,), (1,), (np.int64(1),), 0, "kernel two_barriers takes i4, not i8"),
        ("two_barriers", (1,), (1,), (np.float32(1),), 0, "kernel two_barriers takes i4, not f4"),
        ("two_barriers", (1,), (1,), (3,), 0, "a kernel cannot take int"),
        (
            "wild",
            (1,),
            (1025,),
            (Pointer(0),),
            0,
            r"kernel wild: grid \(1,\), block \(1025,\) is not possible",
        ),
        ("wild", (1,), (1, 1, 65), (Pointer(0),), 0, "is not possible"),
        ("wild", (1, 65536), (1,), (Pointer(0),), 0, "is not possible"),
        ("reverse", (1,), (65,), (Pointer(0), Pointer(0)), 0, r"most threads: 64"),
        ("wild", (1,), (1,), (Pointer(0),), 49153, "49153 bytes of shared memory, a block has 49152"),
    ],
)
def test_what_a_card_would_refuse(name, grid, block, args, shared, text):
    with pytest.raises(ShimError, match=text):
        library().launch(name, grid, block, args, shared)


def test_a_crash_names_the_thread(order):
    with pytest.raises(ShimError, match=r"kernel wild, block \(0, 0, 0\): thread \(3, 0, 0\): Segmentation"):
        run("wild", (1,), (8,), floats(8), order=order)
    with pytest.raises(ShimError, match=r"kernel divide, block \(0, 0, 0\): thread \(2, 0, 0\): Floating"):
        run("divide", (1,), (4,), np.array([1, 2, 0, 3], np.int32), order=order)
    assert run("divide", (1,), (4,), np.array([1, 2, 6, 3], np.int32), order=order).tolist() == [6, 3, 1, 2]


# --- compiling ---


def test_code_that_does_not_compile():
    with pytest.raises(ShimError, match=r"kernels.cu:1:.*nonsense") as error:
        shim.build('extern "C" __global__ void f(float* y) { y[0] = nonsense; }')
    assert "g++ refuses the code" in str(error.value)


def test_an_option_that_gpp_does_not_know():
    with pytest.raises(ShimError, match="does not know the option --use_fast_math"):
        shim.build("", ("--use_fast_math",))


def test_a_large_local_array_is_refused():
    with pytest.raises(ShimError, match="frame size"):
        shim.build(
            'extern "C" __global__ void f(int* y) { volatile int a[9999]; a[y[1]] = 2; y[0] = a[y[2]]; }'
        )


def test_built_once_and_kept_on_disk():
    first = library()
    assert library() is first
    built = first.path.stat().st_mtime_ns
    shim.build.cache_clear()
    again = library()
    assert again.path == first.path != library(barrier=0).path
    assert again.path.stat().st_mtime_ns == built
    assert not list(first.path.parent.glob(f"{first.path.stem}.{os.getpid()}.*"))


# --- barriers and memory ---


@pytest.mark.parametrize("blocks", [1, 3])
def test_a_barrier(order, blocks):
    x = np.arange(64 * blocks, dtype=np.float32)
    y = run("reverse", (blocks,), (64,), x, floats(x.size), order=order)
    np.testing.assert_array_equal(y, x.reshape(-1, 64)[:, ::-1].ravel())


def test_a_forgotten_barrier_gives_nan(order):
    x = np.arange(128, dtype=np.float32)
    y = run("reverse", (2,), (64,), x, floats(128), order=order, barrier=0)
    assert 0 < np.isnan(y.reshape(2, 64)).sum(1).min() < 64


def test_sums_of_all_warps(order):
    y = run("sums_of_warps", (1,), (64,), np.ones(64, np.float32), floats(128), order=order)
    np.testing.assert_array_equal(y, np.repeat([64, 640], 64))


@pytest.mark.parametrize(("order", "late"), [("forward", slice(32, 64)), ("reverse", slice(0, 32))])
def test_without_a_barrier_one_warp_overtakes_the_other(order, late):
    y = run("sums_of_warps", (1,), (64,), np.ones(64, np.float32), floats(128), order=order, barrier=0)
    assert (y[late] == 320 + 32).all()


def test_threads_that_have_returned_are_not_waited_for(order):
    y = run("some_return_early", (1,), (96,), floats(96), order=order)
    np.testing.assert_array_equal(np.isnan(y), np.arange(96) % 3 == 0)
    assert (y[1::3] == 64).all()


def test_a_barrier_that_a_thread_never_reaches(order):
    line = CODE[: CODE.index("threadIdx.x == odd_one")].count("\n") + 1
    text = f"barrier in line {line + 3} not reached by thread (17, 0, 0), which waits in line {line + 1}"
    text = re.escape(f"kernel two_barriers, block (0, 0, 0): {text}")
    with pytest.raises(ShimError, match=text):
        run("two_barriers", (1,), (64,), 17, order=order)
    run("two_barriers", (2,), (64,), 64, order=order)  # the fibers that were given up start anew


def test_a_warp_barrier_without_oneself(order):
    with pytest.raises(ShimError, match="lanes that never come"):
        run("wrong_mask", (1,), (1,), order=order)


def test_shared_memory_is_spoilt_before_every_block(order):
    assert np.isnan(run("spoilt", (3,), (1,), np.zeros(9, np.float32), 5, order=order, shared=20)).all()


def test_a_local_that_nobody_has_set_is_huge():
    assert abs(run("unset_local", (1,), (1,), np.zeros(4, np.float32))[3]) > 1e30


# --- warps ---


@pytest.mark.parametrize("width", [32, 16, 4])
@pytest.mark.parametrize("by", [0, 1, 3, 16, 31])
def test_shuffles(order, by, width):
    threads = 64
    y = run("shuffles", (1,), (threads,), ints(4 * threads), by, width, order=order).reshape(4, threads)
    i = np.arange(threads)
    first = i // width * width
    exchanged = i // 32 * 32 + (i % 32 ^ by)
    np.testing.assert_array_equal(y[0], first + by % width)
    np.testing.assert_array_equal(y[1], np.where(i - by < first, i, i - by))
    np.testing.assert_array_equal(y[2], np.where(i + by >= first + width, i, i + by))
    np.testing.assert_array_equal(y[3], np.where(exchanged >= first + width, i, exchanged))


def test_a_shuffle_of_eight_bytes(order):
    y = run("wide_shuffle", (1,), (32,), np.zeros(32), order=order)
    np.testing.assert_array_equal(y, 1e-9 + (np.arange(32) ^ 1))


def test_two_halves_of_a_warp_go_their_own_ways(order):
    y = run("halves", (1,), (32,), ints(32), order=order)
    pairs = 2 * (np.arange(32) // 2 * 2) + 1
    np.testing.assert_array_equal(y, np.where(np.arange(32) < 16, pairs, 4 * pairs))


def test_a_lane_that_is_gone_gives_nan(order):
    y = run("shuffle_from_the_gone", (1,), (20,), np.zeros(20, np.float32), order=order)
    assert np.isnan(np.delete(y, 5)).all()


@pytest.mark.parametrize("below", [0, 1, 20, 32])
@pytest.mark.parametrize("threads", [32, 20])
def test_votes(order, below, threads):
    y = run("votes", (1,), (threads,), np.zeros(3, np.uint32), below, order=order)
    assert y.tolist() == [(1 << min(below, threads)) - 1, below > 0, below >= threads]


def test_atomics(order):
    y = run("atomics", (3,), (50,), np.array([0, 0, 99, 0, 7], np.uint32), order=order)
    first = {"forward": 0, "reverse": 149}
    assert y[:4].tolist() == [150, 149, 0, 2**32 - 1]
    assert y[4] == first.get(order, y[4]) != 7


# --- arithmetic ---


def product_of_tensor_cores(a, b, start, order):
    return run("tensor_core", (1,), (32,), a, b, start.copy(), order=order)


def test_tensor_cores_are_exact_where_tf32_is(order):
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-1024, 1024, shape).astype(np.float32) for shape in ((16, 8), (8, 8)))
    start = rng.integers(-9, 9, (16, 8)).astype(np.float32)
    np.testing.assert_array_equal(product_of_tensor_cores(a, b, start, order), a @ b + start)


def test_tensor_cores_round_to_tf32():
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((16, 8), (8, 8)))
    truth = a.astype(float) @ b.astype(float)
    got = product_of_tensor_cores(a, b, np.zeros((16, 8), np.float32), "forward")
    assert 5e-5 < np.linalg.norm(got - truth) / np.linalg.norm(truth) < 1e-3


def test_rounding_to_tf32():
    step = 2.0**-10
    x = np.array(
        [1, 1 + step, 1 + step / 2, -1 - step / 2, 1 + step * 0.499, 2 - step / 4, np.inf, -np.inf, NAN]
    )
    y = run("round_to_tf32", (1,), (9,), x.astype(np.float32), np.zeros(9, np.uint32)).view(np.float32)
    np.testing.assert_array_equal(y, [1, 1 + step, 1 + step, -1 - step, 1, 2, np.inf, -np.inf, NAN])


def test_small_functions():
    y = run("small_functions", (1,), (1,), np.array([4, 3, 2, 0.5], np.float32), floats(16))
    wanted = [0.5, 1.5, np.exp(0.5), 14, 4, -2, 4, 1, 3, 0.25, 3, 4, 2, 2, 5, np.log(0.5)]
    np.testing.assert_allclose(y, wanted, rtol=1e-6)
