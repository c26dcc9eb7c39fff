"""What is special to the Numba room: thresholds, fallbacks, threads, memory layouts, exp and tanh."""

import gc
import math
import os
import re
import subprocess
import sys

import numba
import numba.core.event
import numpy as np
import pytest
from kernel_cases import IN_PLACE, NAMES, all_calls, normal, run

import tinynet as tn
from tinynet.kernels import Window, arrays, cpu

LINEAR = {"conv", "conv_input_grad", "conv_weight_grad", "bias_grad", "matmul"}  # in test_cpu_conv.py
MINE = [name for name in NAMES if name not in LINEAR and getattr(cpu, name) is not getattr(arrays, name)]
HALVING = Window((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))


@pytest.fixture(scope="module")
def calls():
    """One call of every kernel in float32, above every threshold below which NumPy does the work."""
    return all_calls(np.float32, n=103)


def copies(args):
    return [a.copy() if isinstance(a, np.ndarray) else a for a in args]


# --- which path is taken ---


@pytest.fixture
def sent_on(monkeypatch):
    """The names of the whole-array kernels that get called."""
    names = []
    for name in MINE:
        monkeypatch.setattr(arrays, name, recorder(names, name, getattr(arrays, name)))
    return names


def recorder(names, name, function):
    def call(*args, **settings):
        names.append(name)
        return function(*args, **settings)

    return call


@pytest.mark.parametrize("name", MINE)
def test_float32_stays_here(calls, sent_on, name):
    run("fast", name, *copies(calls[name]))  # may ask the other room for the geometry of a new shape
    sent_on.clear()
    run("fast", name, *copies(calls[name]))
    assert sent_on == []


@pytest.mark.parametrize("name", MINE)
def test_float64_goes_to_the_whole_array_room(calls, sent_on, name):
    args = [a.astype(float) if getattr(a, "dtype", None) == np.float32 else a for a in calls[name]]
    run("fast", name, *copies(args))
    assert sent_on == [name]


@pytest.mark.parametrize("name", sorted(set(IN_PLACE) & set(MINE)))
def test_what_cannot_be_changed_through_a_flat_view_goes_to_the_whole_array_room(calls, sent_on, name):
    args = copies(calls[name])
    wanted = run("numpy", name, *copies(args))
    args[0] = np.asfortranarray(args[0])
    sent_on.clear()
    got = run("fast", name, *args)
    assert sent_on == [name]
    for a, b in zip(got, wanted):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("name", MINE)
def test_empty_batches(calls, name):
    batch = len(calls[name][0])
    args = [a[:0] if isinstance(a, np.ndarray) and len(a) == batch else a for a in copies(calls[name])]
    args = [(0, *a[1:]) if isinstance(a, tuple) and a[:1] == (batch,) else a for a in args]
    for a, b in zip(run("fast", name, *copies(args)), run("numpy", name, *copies(args))):
        assert a.shape == b.shape and a.dtype == b.dtype


# --- memory layouts ---


def every_other(a):
    """The same numbers with gaps between them."""
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


@pytest.mark.parametrize("layout", [every_other, np.asfortranarray, read_only])
@pytest.mark.parametrize("name", MINE)
def test_any_layout_gives_the_same(calls, name, layout):
    wanted = run("fast", name, *copies(calls[name]))
    keep = IN_PLACE.get(name, ())
    args = [
        layout(a) if isinstance(a, np.ndarray) and i not in keep else a
        for i, a in enumerate(copies(calls[name]))
    ]
    for a, b in zip(run("fast", name, *args), wanted):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_the_time_major_views_that_recurrent_kernels_return_go_back_in_as_they_are(calls, kind):
    outputs = run("fast", kind, *calls[kind])
    assert all(y.swapaxes(0, 1).flags.c_contiguous for y in outputs)
    args = list(calls[f"{kind}_backward"])
    behind = 1 + (kind == "rnn")  # needs, and the activation
    saved = slice(len(args) - len(outputs) - behind, len(args) - behind)
    args[saved] = outputs
    views = run("fast", f"{kind}_backward", *args)
    args[saved] = map(np.ascontiguousarray, outputs)
    for a, b in zip(views, run("fast", f"{kind}_backward", *args)):
        np.testing.assert_array_equal(a, b)


# --- threads ---


@pytest.fixture
def one_thread():
    before = tn.threads()
    tn.threads(1)
    yield
    tn.threads(before)


SUMMED_PER_THREAD = {"rnn_backward", "lstm_backward", "gru_backward"}  # their bias gradients


@pytest.mark.parametrize("name", MINE)
def test_repeated_calls_agree_bit_for_bit(calls, name):
    first, second = (run("fast", name, *copies(calls[name])) for _ in range(2))
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a, b)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="this machine has one thread")
@pytest.mark.parametrize("name", sorted(set(MINE) - SUMMED_PER_THREAD))
def test_the_number_of_threads_changes_no_bit(calls, name, one_thread):
    alone = run("fast", name, *copies(calls[name]))
    tn.threads(2)
    for a, b in zip(run("fast", name, *copies(calls[name])), alone):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", sorted(SUMMED_PER_THREAD))
def test_one_thread(calls, name, one_thread):
    for a, b in zip(run("fast", name, *calls[name]), run("numpy", name, *calls[name])):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


# --- sizes on both sides of the thresholds ---

MANY = 1 << 15  # numbers from which on other threads are woken; by an optimiser step from the half on


@pytest.mark.parametrize("size", [1, MANY // 2, MANY // 2 + 1, MANY - 1, MANY, 3 * MANY + 7])
class TestAroundTheThresholds:
    def test_dropout(self, size):
        x = normal(size, dtype=np.float32)
        (a,), (b,) = (run(room, "dropout", x, 0.4, 0x1234567_89ABCDEF) for room in ("fast", "numpy"))
        np.testing.assert_array_equal(a, b)

    def test_erf(self, size):
        x = normal(size, dtype=np.float32)
        np.testing.assert_allclose(run("fast", "erf", x)[0], run("numpy", "erf", x)[0], rtol=3e-7)

    @pytest.mark.parametrize("momentum, nesterov", [(0.0, False), (0.9, False), (0.9, True)])
    def test_sgd(self, size, momentum, nesterov):
        param, grad, velocity = (normal(size, dtype=np.float32, seed=i) for i in range(3))
        args = (param, grad, velocity if momentum else None, 0.1, momentum, nesterov, 0.01)
        assert_steps_agree("sgd_step", args)

    @pytest.mark.parametrize("decoupled", [False, True])
    def test_adam(self, size, decoupled):
        param, grad, mean, square = (normal(size, dtype=np.float32, seed=i) for i in range(4))
        assert_steps_agree(
            "adam_step", (param, grad, mean, square**2, 0.1, 0.9, 0.99, 1e-8, 0.01, decoupled, 3)
        )


def assert_steps_agree(name, args):
    for a, b in zip(run("fast", name, *copies(args)), run("numpy", name, *copies(args))):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows, classes", [(1, 1), (3276, 10), (3277, 10), (3281, 10), (40, 1000), (7, 5000)])
def test_softmax_around_its_threshold(rows, classes):
    logits, labels = 3 * normal(rows, classes, dtype=np.float32), np.arange(rows) * 7 % classes
    got, wanted = (run(room, "softmax_cross_entropy", logits, labels) for room in ("fast", "numpy"))
    for a, b in zip(got, wanted):
        np.testing.assert_allclose(a, b, rtol=3e-6, atol=1e-6)


@pytest.mark.parametrize(
    "shape", [(1023, 4), (1024, 4), (10007, 3), (4099, 1), (5, 900), (33, 31, 7, 12), (2, 40000)]
)
def test_batch_norm_of_shapes_that_fold_well_or_not_at_all(shape):
    x, grad_y = (normal(*shape, dtype=np.float32, seed=i) for i in range(2))
    weight, bias = (normal(shape[-1], dtype=np.float32, seed=i) for i in range(2, 4))
    results = run("fast", "batch_norm", x, weight, bias, 1e-3)
    grads = run("fast", "batch_norm_backward", grad_y, x, weight, *results[1:], 1e-3)
    wide = [a.astype(float) for a in (grad_y, x, weight, bias)]
    wanted = run("numpy", "batch_norm", *wide[1:], 1e-3)
    wanted_grads = run("numpy", "batch_norm_backward", *wide[:3], *wanted[1:], 1e-3)
    for a, b in zip(results + grads, wanted + wanted_grads):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * max(1, np.abs(b).max()))


def test_variance_keeps_its_digits_beside_a_large_mean():
    x = (normal(50_000, 3) * [1, 0.1, 10] + [1e4, -1e3, 0]).astype(np.float32)
    _, mean, var = run("fast", "batch_norm", x, np.ones(3, np.float32), np.zeros(3, np.float32), 1e-5)
    np.testing.assert_allclose(mean, x.astype(float).mean(axis=0), rtol=1e-7, atol=1e-6)
    np.testing.assert_allclose(var, x.astype(float).var(axis=0), rtol=1e-5)


@pytest.mark.parametrize("rows, features", [(1, 1), (1, 40000), (63, 5), (64, 16), (200, 33)])
def test_layer_norm_of_few_and_many_rows(rows, features):
    x, grad_y = (normal(rows, features, dtype=np.float32, seed=i) for i in range(2))
    weight, bias = (normal(features, dtype=np.float32, seed=i) for i in range(2, 4))
    results = run("fast", "layer_norm", x, weight, bias, 1e-3)
    grads = run("fast", "layer_norm_backward", grad_y, x, weight, *results[1:], 1e-3)
    wide = [a.astype(float) for a in (grad_y, x, weight, bias)]
    wanted = run("numpy", "layer_norm", *wide[1:], 1e-3)
    wanted_grads = run("numpy", "layer_norm_backward", *wide[:3], *wanted[1:], 1e-3)
    for a, b in zip(results + grads, wanted + wanted_grads):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * max(1, np.abs(b).max()))


@pytest.mark.parametrize("n, units", [(1, 1), (2, 33), (5, 17), (31, 64), (40, 130)])
@pytest.mark.parametrize("kind, gates", [("rnn", 1), ("lstm", 4), ("gru", 3)])
def test_bands_of_samples_that_tiles_do_not_divide(kind, gates, n, units):
    steps, features = 3, 5
    shapes = [(n, steps, features), (features, gates * units), (units, gates * units), (gates * units,)]
    shapes += [(gates * units,)] * (kind == "gru") + [(n, units)] * (1 + (kind == "lstm"))
    args = [normal(*s, dtype=np.float32, seed=i) / math.sqrt(s[0]) for i, s in enumerate(shapes)]
    extra = ("tanh",) if kind == "rnn" else ()
    outputs = run("fast", kind, *args, *extra)
    states = args[3 + (kind == "gru") + 1 :]
    grads = [normal(n, steps, units, dtype=np.float32, seed=9 + i) for i in range(len(states))]
    back = (*grads, *args[:3], *states, *outputs, *extra, (True,) * 6)
    results = outputs + run("fast", f"{kind}_backward", *back)
    wanted = run("numpy", kind, *args, *extra) + run("numpy", f"{kind}_backward", *back)
    for a, b in zip(results, wanted):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * max(1, np.abs(b).max()))


# --- pooling ---


@pytest.mark.parametrize("channels", [1, 3, 8, 16, 37])
@pytest.mark.parametrize("height, width", [(2, 2), (5, 4), (4, 7), (3, 3)])
def test_halving_with_ties_nan_and_odd_edges(height, width, channels):
    rng = np.random.default_rng(0)
    x = rng.integers(-2, 3, (3, height, width, channels)).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = np.nan
    x[rng.random(x.shape) < 0.2] = -np.inf
    got, wanted = (run(room, "max_pool", x, HALVING) for room in ("fast", "reference"))
    for a, b in zip(got, wanted):
        np.testing.assert_array_equal(a, b)
    grad_y = normal(*got[0].shape, dtype=np.float32)
    args = (grad_y, got[1], x.shape, HALVING)
    np.testing.assert_array_equal(
        run("fast", "max_pool_backward", *args)[0], run("numpy", "max_pool_backward", *args)[0]
    )


@pytest.mark.parametrize("size, dtype", [(256, np.uint8), (257, np.int32)])
def test_where_has_room_for_every_tap(size, dtype):
    window = Window((size,), (1,), ((0, 0),), (1,))
    x = np.arange(2 * 300, dtype=np.float32).reshape(2, 300, 1)  # the last tap wins everywhere
    y, where = run("fast", "max_pool", x, window)
    assert where.dtype == dtype and (where == size - 1).all()
    (grad_x,) = run("fast", "max_pool_backward", np.ones_like(y), where, x.shape, window)
    np.testing.assert_array_equal(grad_x[0, :, 0], np.arange(300) >= size - 1)


@pytest.mark.parametrize("count_padding", [False, True])
def test_windows_that_lie_wholly_in_the_padding(count_padding):
    window = Window((2, 2), (2, 2), ((4, 4), (2, 4)), (1, 1))
    x = normal(2, 3, 4, 8, dtype=np.float32)
    for name, args in (("max_pool", (x, window)), ("avg_pool", (x, window, count_padding))):
        for a, b in zip(run("fast", name, *args), run("numpy", name, *args)):
            np.testing.assert_allclose(a, b, rtol=1e-6)


# --- the optimiser ---


def test_an_infinite_parameter_does_not_spoil_the_moments_without_weight_decay():
    param, grad, mean, square = (np.full(20, v, np.float32) for v in (np.inf, 1, 0, 0))
    run("fast", "adam_step", param, grad, mean, square, 0.1, 0.9, 0.99, 1e-8, 0.0, False, 1)
    assert np.isfinite(mean).all() and np.isfinite(square).all() and np.isinf(param).all()


# --- exp, tanh, sigmoid, erf ---

FORMULAS = {
    "exp": (np.exp, 9e-8),
    "tanh": (np.tanh, 1.7e-7),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 1.5e-7),
    "erf_of": (np.vectorize(math.erf, otypes=[float]), 2e-7),
}


@pytest.fixture(scope="module", params=FORMULAS)
def formula(request):
    """Name, loop over an array, the truth in float64, and the relative error that is promised."""
    from tinynet.kernels.cpu import elementwise

    function = getattr(elementwise, request.param)

    @numba.njit(error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"})
    def loop(x, y):
        for i in range(len(x)):
            y[i] = function(x[i])

    loop(np.zeros(1, np.float32), np.zeros(1, np.float32))
    return request.param, loop, *FORMULAS[request.param]


@pytest.mark.filterwarnings("ignore:overflow")
def test_relative_error_over_all_of_float32(formula):
    _, loop, truth, promised = formula
    bits = np.random.default_rng(0).integers(0, 1 << 32, 200_000, np.uint32).view(np.float32)  # any exponent
    x = np.concatenate([bits[~np.isnan(bits)], np.linspace(-110, 110, 300_001, dtype=np.float32)])
    y = np.empty_like(x)
    loop(x, y)
    wanted = truth(x.astype(float))
    finite = np.abs(wanted) < np.finfo(np.float32).max
    normal_size = finite & (np.abs(wanted) > 1.2e-38)
    assert np.max(np.abs(y[normal_size] / wanted[normal_size] - 1)) < promised
    assert np.max(np.abs(y[finite & ~normal_size] - wanted[finite & ~normal_size])) < 4e-39
    assert np.isinf(y[~finite]).all()


def test_limits(formula):
    name, loop, _, _ = formula
    x = np.array([-np.inf, np.inf, np.nan, 0], np.float32)
    y = np.empty_like(x)
    loop(x, y)
    low, at_zero = {"exp": (0, 1), "sigmoid": (0, 0.5)}.get(name, (-1, 0))
    np.testing.assert_array_equal(y, [low, np.inf if name == "exp" else 1, np.nan, at_zero])


def test_the_loop_is_made_of_vector_instructions(formula):
    _, loop, _, _ = formula
    (code,) = loop.inspect_asm().values()
    assert re.search(r"v?mulps|vfn?madd\w*ps|fml[as]\s+v|fmul\s+v", code)


# --- the cache on disk ---


def test_machine_code_is_kept_for_these_sources_only():
    """A change in elementwise.py must not leave the old formulas in the compiled loops of other files."""
    from tinynet.kernels.cpu import jit, loss

    for compiled in (loss._softmax, loss._softmax_rows):
        assert compiled._cache._cache_file._source_stamp == jit._sources()


def test_two_processes_that_compile_at_a_time_do_not_read_what_the_other_wrote(tmp_path):
    """While one is about to write, the other writes, and asks for what the first has made."""
    from tinynet.kernels.cpu.jit import _Files

    one, other = (_Files(str(tmp_path), "tile", "stamp") for _ in range(2))
    seen, write_index, write = [], one._save_index, one._save_data
    one._save_index = lambda index: (other.save("wide", "wide tile"), write_index(index))
    one._save_data = lambda *file: (
        other.save("wide", "wide tile"),
        seen.append(other.load("high")),
        write(*file),
    )
    one.save("high", "high tile")
    assert seen == [None]
    assert [(f.load("high"), f.load("wide")) for f in (one, other)] == [("high tile", "wide tile")] * 2
    assert _Files(str(tmp_path), "tile", "another stamp").load("high") is None


TWO_CALLERS = """
import sys
from tinynet.kernels.cpu.jit import inner_kernel, kernel

@inner_kernel
def twice(x):
    return 2 * x

@kernel
def four_times(x):
    return twice(twice(x))

@kernel
def eight_times(x):
    return twice(four_times(x))

print(globals()[sys.argv[1]](3), sum(twice.stats.cache_hits.values()))
"""


def test_instructions_of_an_inner_kernel_are_kept_for_callers_to_come(tmp_path):
    script = tmp_path / "callers.py"
    script.write_text(TWO_CALLERS)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def printed(name):
        command = [sys.executable, str(script), name]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    assert printed("four_times") == "12 0\n"
    assert printed("eight_times") == "24 1\n"
    assert printed("eight_times") == "24 0\n"  # its machine code has all it needs


def test_the_garbage_collector_rests_only_while_a_kernel_is_compiled():
    from tinynet.kernels.cpu.jit import kernel

    seen = []

    @kernel
    def fine(x):
        return x + 1

    @kernel
    def wrong(x):
        return x.nothing_of_that_name

    with numba.core.event.install_listener("numba:compile", Watch(seen)):
        assert fine(1) == 2
        with pytest.raises(numba.TypingError):
            wrong(1)
    assert seen and not any(seen) and gc.isenabled()


class Watch(numba.core.event.Listener):
    """Notes whether the collector is on while Numba compiles."""

    def __init__(self, seen):
        self.seen = seen

    def on_start(self, event):
        self.seen.append(gc.isenabled())

    def on_end(self, event):
        self.seen.append(gc.isenabled())


def test_the_room_has_every_kernel():
    from tinynet.kernels import cpu

    assert all(hasattr(cpu, name) for name in NAMES)
