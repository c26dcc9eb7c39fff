"""Recurrent layers: values and gate order from PyTorch, states, errors."""

import numpy as np
import pytest
from waves import wave

import tinynet as tn
from tinynet import ops
from tinynet.errors import ArgumentError, DTypeError, ShapeError


def inputs(gates, n=2, t=3, f=4, u=5):
    return wave(n, t, f), wave(f, gates * u), wave(u, gates * u), wave(gates * u)


def test_lstm_values_and_gate_order_from_pytorch():
    x, w, v, b = wave(1, 3, 2), wave(2, 8, k=0.5), wave(2, 8, k=0.4), wave(8, k=0.2)
    h, c = ops.lstm(x, w, v, b, wave(1, 2, k=0.35), wave(1, 2, k=0.8))
    expected = [[0.65676904, 0.61573096], [0.55117751, 0.48150498], [0.51085217, 0.52320475]]
    np.testing.assert_allclose(h.data[0], expected, rtol=1e-7)
    np.testing.assert_allclose(c.data[0, -1], [1.39467141, 1.25440386], rtol=1e-7)


def test_gru_values_and_gate_order_from_pytorch():
    x, w, v, b, d = wave(1, 3, 2), wave(2, 6, k=0.5), wave(2, 6, k=0.4), wave(6, k=0.2), wave(6, k=1.1)
    h = ops.gru(x, w, v, b, d, wave(1, 2, k=0.35))
    expected = [[0.46220514, 0.64983143], [0.3681759, 0.55622606], [0.32099706, 0.59751361]]
    np.testing.assert_allclose(h.data[0], expected, rtol=1e-7)


def test_rnn_by_hand():
    h = ops.rnn(np.array([[[1.0], [2.0]]]), np.array([[0.5]]), np.array([[0.25]]), np.array([0.1]))
    first = np.tanh(0.6)
    np.testing.assert_allclose(h.data.ravel(), [first, np.tanh(1.1 + 0.25 * first)])


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_no_state_means_zeros_and_a_sequence_can_go_on_from_its_state(name):
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[name]
    x, *weights = inputs(gates)
    weights += [weights[-1]] * (name == "gru")

    def run(x, *states):
        result = getattr(ops, name)(x, *weights, *states)
        return result if isinstance(result, tuple) else (result,)

    whole = run(x)
    states = [np.zeros((2, 5))] * len(whole)
    first = run(x[:, :2], *states)
    second = run(x[:, 2:], *(s[:, -1] for s in first))
    np.testing.assert_allclose(second[0].data, whole[0].data[:, 2:], rtol=1e-12)
    assert whole[0].shape == (2, 3, 5)


@pytest.mark.parametrize(
    ("name", "used"), [("rnn", (0,)), ("gru", (0,)), ("lstm", (0,)), ("lstm", (1,)), ("lstm", (0, 1))]
)
def test_the_last_state_alone_is_the_end_of_all_states(name, used):
    def run(last):
        arrays = list(inputs({"rnn": 1, "lstm": 4, "gru": 3}[name]))
        arrays += [arrays[-1]] * (name == "gru") + [wave(2, 5)] * (1 + (name == "lstm"))
        tensors = [tn.tensor(a, requires_grad=True) for a in arrays]
        result = getattr(ops, name)(*tensors, last=last)
        states = result if isinstance(result, tuple) else (result,)
        ends = [states[i] if last else states[i][:, -1] for i in used]
        ops.concat([end * wave(2, 5) for end in ends]).sum().backward()
        return [e.data for e in ends], [t.grad for t in tensors]

    for alone, of_all in zip(run(True), run(False), strict=True):
        for a, b in zip(alone, of_all, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


def test_without_a_backward_to_come_the_last_state_is_the_only_one_kept():
    arrays = [a.astype(np.float32) for a in inputs(1)]
    recorded = ops.rnn(*(tn.tensor(a, requires_grad=True) for a in arrays), last=True)
    plain = ops.rnn(*arrays, last=True)
    np.testing.assert_array_equal(plain.data, recorded.data)
    with tn.no_grad():
        quiet = ops.rnn(*(tn.tensor(a, requires_grad=True) for a in arrays), last=True)
    np.testing.assert_array_equal(quiet.data, recorded.data)
    assert [(h.data.base if h.data.base is not None else h.data).size for h in (plain, quiet)] == [10, 10]


def test_unused_outputs_of_an_lstm_have_zero_gradients():
    for which in (0, 1):
        arrays = [tn.tensor(a, requires_grad=True) for a in inputs(4)]
        ops.lstm(*arrays)[which][:, -1].sum().backward()
        assert all(np.isfinite(a.grad).all() and a.grad.any() for a in arrays)


def test_states_carry_gradients():
    h0 = tn.tensor(np.zeros((2, 5)), requires_grad=True)
    ops.rnn(*inputs(1), h0).sum().backward()
    assert h0.grad.shape == (2, 5) and h0.grad.any()


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_recurrent_errors(name):
    gates, op = {"rnn": 1, "lstm": 4, "gru": 3}[name], getattr(ops, name)
    x, w, v, b = inputs(gates)
    b = (b, b) if name == "gru" else (b,)
    with pytest.raises(
        ShapeError, match=rf"{name} needs sequences of shape \(N, steps, features\), got \(3, 4\).*x\[None\]"
    ):
        op(x[0], w, v, *b)
    with pytest.raises(
        ShapeError,
        match=r"3 features per step, .* takes 4\. Steps and features swapped\? x\.transpose\(0, 2, 1\)",
    ):
        op(x.transpose(0, 2, 1), w, v, *b)
    with pytest.raises(ShapeError, match="sequences of no steps"):
        op(x[:, :0], w, v, *b)
    with pytest.raises(
        ShapeError, match=rf"weight_hh has shape .* {gates} gate\(s\) needs \(5, {5 * gates}\)"
    ):
        op(x, w, v[:, 1:], *b)
    with pytest.raises(ShapeError, match=rf"weight_ih has shape .* needs \(4, {5 * gates}\)"):
        op(x, w[:, 1:], v, *b)
    with pytest.raises(ShapeError, match=rf"bias\w* has shape .* needs \({5 * gates},\)"):
        op(x, w, v, *(p[1:] for p in b))
    with pytest.raises(ShapeError, match=r"h0 has shape \(1, 5\), but 2 sequences and 5 units of"):
        op(x, w, v, *b, np.zeros((1, 5)))
    with pytest.raises(DTypeError, match=f"{name} needs floating-point numbers, got int64"):
        op(x.astype(int), w, v, *b)


def test_unknown_activation():
    with pytest.raises(ArgumentError, match=r"unknown activation of rnn 'tnah'. Did you mean 'tanh'\?"):
        ops.rnn(*inputs(1), activation="tnah")
