"""Recurrent layers on the GPU, against the whole-array room in float64, itself tested against plain loops."""

from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measure import relative_error

from tinynet.kernels import arrays
from tinynet.kernels.cuda import recurrent
from tinynet.kernels.cuda.graph import Graph
from tinynet.kernels.cuda.recurrent import gru, gru_backward, lstm, lstm_backward, rnn, rnn_backward

FORWARD = {"rnn": rnn, "lstm": lstm, "gru": gru}
BACKWARD = {"rnn": rnn_backward, "lstm": lstm_backward, "gru": gru_backward}
GATES = {"rnn": 1, "lstm": 4, "gru": 3}
GRADIENTS = {"rnn": 5, "lstm": 6, "gru": 6}
INPUT_WEIGHTS_AND_BIASES = {"rnn": (0, 1, 2, 3), "lstm": (0, 1, 2, 3), "gru": (0, 1, 2, 3, 4)}
WAYS = pytest.mark.parametrize("name", ["walk", "steps"])
KINDS = pytest.mark.parametrize("kind", FORWARD)


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def arguments(kind, n, steps, features, units, activation="tanh"):
    """Arguments of the forward; weights small enough that the states stay tame."""
    width = GATES[kind] * units
    w_ih = normal(features, width, seed=1) / np.float32(np.sqrt(features))
    w_hh = normal(units, width, seed=2) / np.float32(2 * np.sqrt(units))
    biases = [normal(width, seed=3 + i) for i in range(2 if kind == "gru" else 1)]
    states = [normal(n, units, seed=5 + i) for i in range(2 if kind == "lstm" else 1)]
    return [
        normal(n, steps, features),
        w_ih,
        w_hh,
        *biases,
        *states,
        *([activation] if kind == "rnn" else []),
    ]


def backward_arguments(kind, args, results, needs):
    """Arguments of the backward, from those and the results of the forward."""
    (n, steps, _), units = args[0].shape, args[2].shape[0]
    grads = [normal(n, steps, units, seed=7 + i) for i in range(2 if kind == "lstm" else 1)]
    states = args[{"rnn": 4, "lstm": 4, "gru": 5}[kind] :]
    extra = [states.pop()] if kind == "rnn" else []
    return [*grads, *args[:3], *states, *results, *extra, needs]


def on_card(gpu, values):
    return [gpu.asarray(v) if isinstance(v, np.ndarray) else v for v in values]


def in_float64(values):
    return [v.astype(float) if isinstance(v, np.ndarray) else v for v in values]


def listed(results):
    return list(results) if isinstance(results, tuple) else [results]


@contextmanager
def way(name):
    """All steps in one kernel ("walk"), or one by one ("steps"), whatever the size of the weight."""
    before = recurrent._MOST_THREADS
    recurrent._MOST_THREADS = before if name == "walk" else 0
    yield
    recurrent._MOST_THREADS = before


def check(gpu, kind, args, needs, tolerance=1e-6):
    """Forward and backward; the backward gets the exact states, so that errors do not add up."""
    results = listed(FORWARD[kind](*on_card(gpu, args)))
    wanted = listed(getattr(arrays, kind)(*in_float64(args)))
    saved = [w.astype(np.float32) for w in wanted]
    given = backward_arguments(kind, args, saved, needs)
    grads = BACKWARD[kind](*on_card(gpu, given))
    wanted_grads = getattr(arrays, f"{kind}_backward")(*in_float64(given))
    assert len(results) == len(wanted) and len(grads) == len(wanted_grads) == GRADIENTS[kind]
    for i, (got, truth) in enumerate(zip([*results, *grads], [*wanted, *wanted_grads])):
        place = i - len(results)
        if place in INPUT_WEIGHTS_AND_BIASES[kind] and not needs[place]:
            assert got is None, f"gradient {place} was not asked for"
        else:
            assert got.dtype == np.float32
            assert relative_error(got, truth) < tolerance, f"result {i}"


# (samples, steps, features, units): single ones, around the edges of tiles and warps, and empty ones
SIZES = [
    (1, 1, 1, 1),
    (3, 4, 5, 7),
    (2, 3, 17, 33),
    (65, 2, 3, 17),
    (2, 9, 2, 3),
    (1, 2, 3, 70),
    (0, 3, 2, 4),
    (2, 0, 3, 4),
]


@WAYS
@KINDS
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_sizes(gpu, kind, sizes, name):
    with way(name):
        check(gpu, kind, arguments(kind, *sizes), (True,) * GRADIENTS[kind])


@KINDS
@given(
    sizes=st.tuples(*[st.sampled_from(some) for some in ([1, 3, 9], [1, 2, 5], [1, 4, 20], [1, 2, 5, 18])]),
    needs=st.tuples(*[st.booleans()] * 6),
    activation=st.sampled_from(["tanh", "relu"]),
    name=st.sampled_from(["walk", "steps"]),
)
@settings(max_examples=12)
def test_any(gpu, kind, sizes, needs, activation, name):
    with way(name):
        check(gpu, kind, arguments(kind, *sizes, activation), needs[: GRADIENTS[kind]])


@WAYS
@KINDS
def test_operands_that_do_not_lie_in_order(gpu, kind, name):
    """Sequences with time first, weights that are views, states that are broadcast."""
    with way(name):
        args = arguments(kind, 4, 3, 5, 6)
        other = on_card(gpu, args)
        other[0] = gpu.asarray(np.ascontiguousarray(args[0].swapaxes(0, 1))).swapaxes(0, 1)
        other[1] = gpu.asarray(args[1].T.copy()).T
        other[2] = gpu.asarray(np.pad(args[2], ((0, 0), (1, 2))))[:, 1:-2]
        place = {"rnn": 4, "lstm": 4, "gru": 5}[kind]
        args[place] = np.broadcast_to(args[place][:1], args[place].shape).copy()
        other[place] = gpu.broadcast_to(gpu.asarray(args[place][:1]), args[place].shape)
        got = listed(FORWARD[kind](*other))
        wanted = listed(getattr(arrays, kind)(*in_float64(args)))
        assert all(relative_error(g, w) < 1e-6 for g, w in zip(got, wanted))
        needs = (True,) * GRADIENTS[kind]
        given = backward_arguments(kind, args, [w.astype(np.float32) for w in wanted], needs)
        shuffled = [time_first(gpu, v) for v in given]
        wanted = getattr(arrays, f"{kind}_backward")(*in_float64(given))
        assert all(relative_error(g, w) < 1e-6 for g, w in zip(BACKWARD[kind](*shuffled), wanted))


def time_first(gpu, value):
    if not isinstance(value, np.ndarray):
        return value
    return gpu.asarray(np.ascontiguousarray(value.swapaxes(0, 1))).swapaxes(0, 1)


@WAYS
@KINDS
def test_nothing_overflows(gpu, kind, name):
    """Gates far out are 0 or 1, not NaN."""
    with way(name):
        args = arguments(kind, 2, 2, 3, 4)
        args[0] *= 1e4
        got = listed(FORWARD[kind](*on_card(gpu, args)))
        wanted = listed(getattr(arrays, kind)(*in_float64(args)))
        assert all(relative_error(g, w) < 1e-6 for g, w in zip(got, wanted))


@WAYS
@KINDS
def test_can_be_recorded(gpu, kind, name):
    with way(name):
        args = arguments(kind, 3, 2, 4, 5)
        inputs = on_card(gpu, args)
        eager = [r.get() for r in listed(FORWARD[kind](*inputs))]
        graph = Graph(lambda: both_ways(gpu, kind, inputs))
        for _ in range(2):
            graph.replay()
            assert all(np.array_equal(a.get(), b) for a, b in zip(graph.result, eager))
        grads = both_ways(gpu, kind, inputs)[len(eager) :]
        assert all(np.array_equal(a.get(), b.get()) for a, b in zip(graph.result[len(eager) :], grads))


def both_ways(gpu, kind, inputs):
    results = listed(FORWARD[kind](*inputs))
    given = backward_arguments(kind, inputs, results, (True,) * GRADIENTS[kind])
    grads = [results[0] * 0.5 for _ in range(2 if kind == "lstm" else 1)]  # made on the card
    return [*results, *BACKWARD[kind](*grads, *given[len(grads) :])]


@KINDS
def test_other_floats_go_to_the_whole_array_room(gpu, kind):
    args = in_float64(arguments(kind, 2, 3, 3, 4))
    got = listed(FORWARD[kind](*on_card(gpu, args)))
    assert all(g.dtype == float for g in got)
    wanted = listed(getattr(arrays, kind)(*args))
    assert all(relative_error(g, w) < 1e-12 for g, w in zip(got, wanted))


@pytest.mark.parametrize(
    ("shape", "small"),
    [((128, 128), True), ((160, 160), True), ((192, 192), False), ((64, 256), True), ((80, 320), True),
     ((96, 384), False), ((96, 288), True), ((1, 4), True)],
)  # fmt: skip
def test_which_weights_a_block_can_keep(shape, small):
    assert recurrent._is_small(np.empty(shape)) == recurrent._is_small(np.empty(shape[::-1])) == small
