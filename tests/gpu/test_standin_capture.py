"""The stand-in's captures: nothing is computed until a replay, and what CuPy refuses inside is refused."""

import numpy as np
import pytest
import standin_memory
from test_standin import ADD


@pytest.fixture
def cp(standin_gpu):
    return standin_gpu


@pytest.fixture
def x(cp):
    return cp.asarray(np.arange(12, dtype=np.float32).reshape(3, 4))


def captured(cp, function, private=True):
    """The graph of ``function()``, what that returned, and the pool that has to stay."""
    pool, stream = cp.cuda.MemoryPool(), cp.cuda.Stream(non_blocking=True)
    with stream, cp.cuda.using_allocator(pool.malloc if private else cp.get_default_memory_pool().malloc):
        stream.begin_capture()
        try:
            result = function()
        finally:
            graph = stream.end_capture()
    return graph, result, pool


def test_nothing_is_computed_until_the_replay(cp, x):
    before = x.get()

    def step():
        y = x * 2
        x[...] = y + 1
        return y

    graph, y, _pool = captured(cp, step)
    np.testing.assert_array_equal(x.get(), before)
    assert np.isnan(y.get()).all()
    for _ in range(2):
        graph.launch()
        np.testing.assert_array_equal(y.get(), before * 2)
        before = before * 2 + 1
        np.testing.assert_array_equal(x.get(), before)


@pytest.mark.parametrize(
    "work",
    [
        lambda cp, x, y: x.__iadd__(1),
        lambda cp, x, y: x.fill(3),
        lambda cp, x, y: cp.add(x, 1, out=x),
        lambda cp, x, y: x.__setitem__((slice(None), y), 5.0),
        lambda cp, x, y: cp.add.at(x, y, 1.0),
        lambda cp, x, y: cp.clip(x, 1, 2, out=x),
        lambda cp, x, y: cp.RawModule(code=ADD).get_function("add")(
            (1,), (16,), (x, x, np.float32(1), np.int32(12))
        ),
    ],
)
def test_everything_that_changes_an_array_waits(cp, x, work):
    y, before = cp.asarray([0, 1, 1]), x.get()
    graph, _, _pool = captured(cp, lambda: work(cp, x, y))
    np.testing.assert_array_equal(x.get(), before)
    graph.launch()
    after = x.get()
    assert (after != before).any()
    fresh = cp.asarray(before)
    work(cp, fresh, y)
    np.testing.assert_array_equal(after, fresh.get())


def test_a_replay_reads_the_inputs_of_its_own_time(cp, x):
    index = cp.asarray([0, 1])
    graph, (rows, total, parts), _pool = captured(
        cp, lambda: (x[index], x.sum(), cp.split(x + 0, 2, axis=1)), private=True
    )
    x[...] = 3
    index[...] = 2
    x[2] = 5
    graph.launch()
    assert (rows.get() == 5).all()
    assert float(total) == 3 * 8 + 5 * 4
    assert [p.shape for p in parts] == [(3, 2), (3, 2)]
    assert (parts[1].get() == x.get()[:, 2:]).all()


def test_numbers_are_frozen(cp, x):
    rate = {"lr": 2.0}
    graph, y, _pool = captured(cp, lambda: x * rate["lr"] + cp.asarray(rate["lr"], dtype=np.float32))
    rate["lr"] = 100.0
    graph.launch()
    np.testing.assert_array_equal(y.get(), x.get() * 2 + 2)


D2H, H2D = "so D2H transfers are disallowed", "so H2D transfers are disallowed"
SYNC = "operation not permitted when stream is capturing"
CUBLAS = "calling cuBLAS API during stream capture is currently unsupported"


@pytest.mark.parametrize(
    ("work", "error", "words"),
    [
        (lambda cp, x: x.get(), RuntimeError, D2H),
        (lambda cp, x: float(x.sum()), RuntimeError, D2H),
        (lambda cp, x: bool((x > 0).all()), RuntimeError, D2H),
        (lambda cp, x: x[0, 0].item(), RuntimeError, D2H),
        (lambda cp, x: x[x > 1], RuntimeError, D2H),
        (lambda cp, x: x.__setitem__(x > 1, 0), RuntimeError, D2H),
        (lambda cp, x: cp.nonzero(x), RuntimeError, D2H),
        (lambda cp, x: cp.where(x > 0), RuntimeError, D2H),
        (lambda cp, x: str(x), RuntimeError, D2H),
        (lambda cp, x: cp.asarray([1.0, 2.0]), RuntimeError, H2D),
        (lambda cp, x: x[[0, 1]], RuntimeError, H2D),
        (lambda cp, x: x.set(np.zeros((3, 4), np.float32)), RuntimeError, H2D),
        (lambda cp, x: x @ x.T, NotImplementedError, CUBLAS),
        (lambda cp, x: cp.dot(x, x.T), NotImplementedError, CUBLAS),
        (lambda cp, x: cp.tensordot(x, x, 2), NotImplementedError, CUBLAS),
        (lambda cp, x: cp.einsum("ij,kj->ik", x, x), NotImplementedError, CUBLAS),
        (lambda cp, x: cp.random.normal(size=3), NotImplementedError, CUBLAS),
        (
            lambda cp, x: cp.cuda.get_current_stream().synchronize(),
            RuntimeError,
            SYNC,
        ),
        (
            lambda cp, x: cp.cuda.Device().synchronize(),
            RuntimeError,
            SYNC,
        ),
    ],
)
def test_what_a_capture_refuses(cp, x, work, error, words):
    with pytest.raises(error, match=words):
        captured(cp, lambda: work(cp, x))
    assert not cp.cuda.get_current_stream().is_capturing()


def test_other_streams_go_on_working(cp, x):
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
    assert float(x[0, 1]) == 1
    assert (x + 1).get()[0, 0] == 1
    assert stream.is_capturing()
    assert stream.end_capture().nodes == []


def test_the_default_stream_cannot_capture(cp):
    with pytest.raises(RuntimeError, match="cannot capture on the default"):
        cp.cuda.Stream.null.begin_capture()


def test_end_without_begin(cp):
    with pytest.raises(RuntimeError, match="cudaErrorIllegalState"):
        cp.cuda.Stream(non_blocking=True).end_capture()


# --- memory that went back to its pool ---


def test_temporaries_from_the_default_pool_make_the_graph_unusable(cp, x):
    def step():
        x[...] = (x + 1) * 2

    graph, _, _ = captured(cp, step, private=False)
    with pytest.raises(standin_memory.FreedMemory, match="works on 2 arrays whose memory went back"):
        graph.launch()


def test_a_private_pool_keeps_them_as_long_as_it_lives(cp, x):
    def step():
        x[...] = (x + 1) * 2

    graph, _, pool = captured(cp, step)
    graph.launch()
    assert pool.used_bytes() == 0
    del pool
    with pytest.raises(standin_memory.FreedMemory):
        graph.launch()


def test_an_input_that_was_dropped_is_noticed(cp):
    inputs = [cp.ones(3)]
    graph, y, _pool = captured(cp, lambda: inputs[0] + 1)
    graph.launch()
    assert (y.get() == 2).all()
    inputs.clear()
    with pytest.raises(standin_memory.FreedMemory, match="works on 1 arrays"):
        graph.launch()


def test_nodes_can_be_counted(cp, x):
    graph, _, _pool = captured(cp, lambda: (x.T, x[1:], x.reshape(-1), x + 1, x.sum()))
    assert [name for name, _ in graph.nodes] == ["add", "sum"]  # views cost nothing
    assert graph.debug_dot_str().count("graph_1_node_") == 2
