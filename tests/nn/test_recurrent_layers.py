"""Recurrent layers against a loop over the steps; states, directions, and how they start."""

import numpy as np
import pytest

from tinynet import nn
from tinynet.errors import ArgumentError, ShapeError


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def rnn_step(x, h, w_ih, w_hh, bias):
    return (np.tanh(x @ w_ih + h[0] @ w_hh + bias),)


def lstm_step(x, state, w_ih, w_hh, bias):
    h, c = state
    i, f, g, o = np.split(x @ w_ih + h @ w_hh + bias, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru_step(x, state, w_ih, w_hh, b_ih, b_hh):
    (h,) = state
    a, b = np.split(x @ w_ih + b_ih, 3, axis=-1), np.split(h @ w_hh + b_hh, 3, axis=-1)
    r, z = sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1])
    return ((1 - z) * np.tanh(a[2] + r * b[2]) + z * h,)


def loop(step, x, weights, state):
    states = []
    for t in range(x.shape[1]):
        state = step(x[:, t], state, *weights)
        states.append(state)
    return [np.stack(kind, axis=1) for kind in zip(*states)]


CELLS = {
    "SimpleRNN": (nn.SimpleRNN, rnn_step, 1),
    "LSTM": (nn.LSTM, lstm_step, 2),
    "GRU": (nn.GRU, gru_step, 1),
}
X = np.random.default_rng(0).standard_normal((3, 6, 5)).astype("float32")


def weights_of(layer, end=""):
    names = ("weight_ih", "weight_hh", *layer.biases)
    rng = np.random.default_rng(1)
    for name in layer.biases:
        getattr(layer, name + end).data[:] = rng.standard_normal(getattr(layer, name + end).shape)
    return [getattr(layer, name + end).data for name in names]


def zeros(kinds, units=4):
    return (np.zeros((len(X), units), np.float32),) * kinds


@pytest.mark.parametrize("name", CELLS)
def test_one_direction_against_a_loop(name):
    kind, step, kinds = CELLS[name]
    layer = kind(4, return_sequences=True, return_state=True, in_features=5)
    states = loop(step, X, weights_of(layer), zeros(kinds))
    output, *last = layer(X)
    np.testing.assert_allclose(output.numpy(), states[0], rtol=1e-4, atol=1e-5)
    assert len(last) == kinds
    for got, expected in zip(last, states):
        np.testing.assert_allclose(got.numpy(), expected[:, -1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CELLS)
def test_both_directions_against_loops(name):
    kind, step, kinds = CELLS[name]
    layer = kind(4, bidirectional=True, return_sequences=True, return_state=True, in_features=5)
    there = loop(step, X, weights_of(layer), zeros(kinds))
    back = loop(step, X[:, ::-1], weights_of(layer, "_reverse"), zeros(kinds))
    output, *last = layer(X)
    expected = np.concatenate([there[0], back[0][:, ::-1]], axis=-1)
    np.testing.assert_allclose(output.numpy(), expected, rtol=1e-4, atol=1e-5)
    for got, a, b in zip(last, there, back):
        np.testing.assert_allclose(
            got.numpy(), np.concatenate([a[:, -1], b[:, -1]], -1), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("both_ways", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_the_last_state_is_the_output_without_sequences(name, both_ways):
    layer = CELLS[name][0](4, bidirectional=both_ways, return_state=True, in_features=5)
    output, h, *_ = layer(X)
    assert output.shape == (3, 8 if both_ways else 4)
    np.testing.assert_array_equal(output.numpy(), h.numpy())


@pytest.mark.parametrize("name", CELLS)
def test_a_sequence_may_be_read_in_two_parts(name):
    layer = CELLS[name][0](4, return_sequences=True, return_state=True, in_features=5)
    whole, *last = layer(X)
    first, *state = layer(X[:, :2])
    second, *end = layer(X[:, 2:], *state)
    np.testing.assert_allclose(
        np.concatenate([first.numpy(), second.numpy()], 1), whole.numpy(), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(end[0].numpy(), last[0].numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CELLS)
def test_each_direction_starts_from_its_own_half_of_the_states(name):
    kind, step, kinds = CELLS[name]
    layer = kind(4, bidirectional=True, return_state=True, in_features=5)
    states = [np.random.default_rng(i).standard_normal((3, 8)).astype("float32") for i in range(kinds)]
    there = loop(step, X, weights_of(layer), tuple(s[:, :4] for s in states))
    back = loop(step, X[:, ::-1], weights_of(layer, "_reverse"), tuple(s[:, 4:] for s in states))
    expected = np.concatenate([there[0][:, -1], back[0][:, -1]], axis=-1)
    np.testing.assert_allclose(layer(X, *states)[0].numpy(), expected, rtol=1e-4, atol=1e-5)


def test_states_may_be_named_and_of_both_directions():
    layer = nn.LSTM(4, bidirectional=True, return_state=True, in_features=5)
    _, h, c = layer(X)
    by_name = layer(X, h0=h, c0=c)[0]
    np.testing.assert_array_equal(by_name.numpy(), layer(X, h, c)[0].numpy())


@pytest.mark.parametrize("name", CELLS)
def test_all_parameters_get_gradients(name):
    layer = CELLS[name][0](4, bidirectional=True)
    layer(X).sum().backward()
    assert len(layer.parameters()) == (8 if name == "GRU" else 6)
    assert all(p.grad is not None and np.abs(p.grad).max() > 0 for p in layer.parameters())


@pytest.mark.parametrize("name", CELLS)
def test_recurrent_kernels_start_orthogonal_gate_by_gate(name):
    layer = CELLS[name][0](6, in_features=5)
    for gate in np.split(layer.weight_hh.data, layer.gates, axis=1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(6), atol=1e-5)


def test_the_forget_gate_starts_open():
    bias = nn.LSTM(3, in_features=5).bias.data
    assert bias.tolist() == [0] * 3 + [1] * 3 + [0] * 6


def test_relu_cells():
    layer = nn.SimpleRNN(4, activation="relu", return_sequences=True, in_features=5)
    assert layer(X).numpy().min() == 0


def test_an_unknown_activation_is_refused():
    with pytest.raises(ArgumentError, match=r"unknown activation 'tanhh'\. Did you mean 'tanh'"):
        nn.SimpleRNN(4, activation="tanhh")


@pytest.mark.parametrize("shape, text", [((6, 5), r"x\[None\]"), ((3, 2, 6, 5), r"the input is \(N, T, F\)")])
def test_the_rank_is_checked(shape, text):
    with pytest.raises(ShapeError, match=rf"in LSTM: .*{text}"):
        nn.LSTM(4)(np.zeros(shape, np.float32))


def test_swapped_steps_and_features_are_recognised():
    with pytest.raises(ShapeError, match=r"x.transpose\(0, 2, 1\)"):
        nn.GRU(4, in_features=6)(X)
