"""Recurrent kernels: finite differences, PyTorch's values, and rooms against the reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import (
    DTYPES,
    ROOMS,
    TESTED,
    assert_same,
    astype,
    expected,
    normal,
    recurrent_calls,
    run,
    wave,
)
from numeric import assert_gradients

from tinynet import kernels

KINDS = ["rnn", "lstm", "gru"]
ALL = (True,) * 6  # every gradient is asked for
SIZES = {
    "n": st.sampled_from([1, 2, 5, 9]),
    "steps": st.sampled_from([1, 2, 3, 7]),
    "features": st.sampled_from([1, 3, 8, 11]),
    "units": st.sampled_from([1, 2, 5, 16, 19]),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("room", TESTED)
@given(sizes=st.fixed_dictionaries(SIZES))
@settings(max_examples=12)
def test_sizes(room, kind, dtype, sizes):
    for name, args in recurrent_calls(**sizes).items():
        if name.startswith(kind):
            args = tuple(astype(a, dtype) for a in soften(args))
            assert_same(run(room, name, *args), expected(name, *args), dtype)


def soften(args):
    """Matrices divided by the root of their height, as layers initialise them: the state stays tame."""
    return [a / np.sqrt(len(a)) if isinstance(a, np.ndarray) and a.ndim == 2 else a for a in args]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("room", ROOMS)
def test_backward_is_the_numeric_derivative(room, kind):
    calls = recurrent_calls(2, steps=3)
    args = [a for a in calls[kind] if isinstance(a, np.ndarray)]
    extra = ("tanh",) if kind == "rnn" else ()
    outputs = run(room, kind, *args, *extra)[: 2 if kind == "lstm" else 1]
    grad_outputs = list(calls[kind + "_backward"][: len(outputs)])
    grads = run(room, kind + "_backward", *calls[kind + "_backward"])
    assert_gradients(lambda *a: run(room, kind, *a, *extra)[: len(outputs)], args, grad_outputs, grads)


@pytest.mark.parametrize("room", ROOMS)
def test_relu_rnn_backward_is_the_numeric_derivative(room):
    x, w_ih, w_hh, bias, h0, _ = recurrent_calls(2, steps=3)["rnn"]
    (hs,) = run(room, "rnn", x, w_ih, w_hh, bias, h0, "relu")
    assert (hs == 0).any() and (hs > 0).any()
    grad_hs = normal(*hs.shape, seed=9)
    grads = run(room, "rnn_backward", grad_hs, x, w_ih, w_hh, h0, hs, "relu", ALL)
    inputs = [x, w_ih, w_hh, bias, h0]
    assert_gradients(lambda *a: run(room, "rnn", *a, "relu"), inputs, [grad_hs], grads)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", TESTED)
def test_relu_rnn_agrees_with_the_reference(room, dtype):
    x, w_ih, w_hh, bias, h0, _ = (astype(a, dtype) for a in recurrent_calls(5, 4, 7, 19)["rnn"])
    args = (x, w_ih, w_hh / 4, bias, h0, "relu")
    (hs,) = wanted = expected("rnn", *args)
    assert_same(run(room, "rnn", *args), wanted, dtype)
    args = (normal(*hs.shape, dtype=dtype), x, w_ih, w_hh / 4, h0, hs.astype(dtype), "relu", ALL)
    assert_same(run(room, "rnn_backward", *args), expected("rnn_backward", *args), dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("room", TESTED)
def test_gradients_that_are_not_needed_change_no_other(room, kind):
    *args, needs = recurrent_calls(5, 4, 7, 19)[kind + "_backward"]
    args = [astype(a, np.float32) for a in args]
    wanted = run(room, kind + "_backward", *args, needs)
    weights_only = (False, *needs[1:4], *(i == 4 and kind == "gru" for i in range(4, len(needs))))
    with kernels.use(room):
        got = getattr(kernels, kind + "_backward")(*args, weights_only)
    for grad, same, needed in zip(got, wanted, weights_only, strict=True):
        assert not needed or np.array_equal(grad, same)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("room", ROOMS)
def test_the_gradient_of_the_last_state_alone_may_be_given_alone(room, kind, steps, dtype):
    *args, needs = (astype(a, dtype) for a in recurrent_calls(9, steps, 7, 19)[f"{kind}_backward"])
    given = 2 if kind == "lstm" else 1
    for short in range(given):  # of an LSTM, the other one has a gradient at every step
        alone, whole = list(args), list(args)
        alone[short] = args[short][:, -1:]
        whole[short] = np.concatenate([np.zeros_like(args[short][:, :-1]), alone[short]], axis=1)
        found, wanted = (run(room, f"{kind}_backward", *a, needs) for a in (alone, whole))
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("start", ["h0", "zero"])
@pytest.mark.parametrize("kind", KINDS)
def test_many_samples_are_walked_in_bands_from_states_of_any_kind(kind, start):
    calls = recurrent_calls(70, 9, 11, 130)
    args = [astype(a, np.float32) for a in soften(calls[kind])]
    backward = [astype(a, np.float32) for a in soften(calls[kind + "_backward"])]
    if start == "zero":
        for numbers in (*args, *backward):
            if isinstance(numbers, np.ndarray) and numbers.shape == (70, 130):
                numbers[:] = 0
    for name, inputs in ((kind, args), (kind + "_backward", backward)):
        for a, b in zip(run("fast", name, *inputs), run("numpy", name, *inputs), strict=True):
            np.testing.assert_allclose(a, b, atol=3e-5 * max(1, np.abs(b).max()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n, steps, units", [(1, 1, 5), (9, 4, 19), (70, 3, 16)])
@pytest.mark.parametrize("room", ROOMS)
def test_the_last_state_alone_is_that_of_all(room, n, steps, units, dtype):
    args = [astype(a, dtype) for a in soften(recurrent_calls(n, steps, 7, units)["rnn"])]
    (alone,), (states,) = run(room, "rnn", *args, True), run(room, "rnn", *args)
    np.testing.assert_array_equal(alone, states[:, -1:])


FROM_PYTORCH = {  # states after three steps, and gradients of their sum in x and h0
    "rnn": (
        [-0.9631229565, -0.3604226850, 0.2068261583, -0.5998592517, 0.4208104669, -0.9016675845],
        [0.1430761421, -0.1582414419, 1.4652953168, -1.560602301, 0.7723802266, -0.8171545805],
        [0.1428847088, -0.1181354461],
    ),
    "lstm": (
        [-0.2797194477, 0.4135970219, -0.4127180748, 0.1490943384, -0.0033671832, 0.0556839386],
        [0.5197764885, 0.5073924332, 0.0380373823, -0.0928772436, 0.3717098575, 0.348504505],
        [0.5172861179, 0.019360074],
    ),
    "gru": (
        [-0.9511957076, 0.3692405710, -0.8090541264, -0.0127364762, -0.7816331087, -0.0510060499],
        [0.1056037638, 0.7416670908, 0.361614398, -0.4641003449, 0.083136157, 0.2799196373],
        [2.0811568386, 1.3750150889],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("room", ROOMS)
def test_values_from_pytorch(room, kind):
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[kind]
    x, w_ih, w_hh = wave(1, 3, 2, phase=0), wave(2, gates * 2, phase=1), wave(2, gates * 2, phase=2)
    bias, bias_hh = wave(gates * 2, phase=3), wave(gates * 2, phase=4)
    h0, c0 = wave(1, 2, phase=5), wave(1, 2, phase=6)
    biases = (bias, bias_hh) if kind == "gru" else (bias,)
    states = (h0, c0) if kind == "lstm" else (h0,)
    extra = ("tanh",) if kind == "rnn" else ()
    outputs = run(room, kind, x, w_ih, w_hh, *biases, *states, *extra)
    ones = [np.ones((1, 3, 2)), np.zeros((1, 3, 2))][: len(states)]
    grads = run(room, kind + "_backward", *ones, x, w_ih, w_hh, *states, *outputs, *extra, ALL)
    wanted_h, wanted_x, wanted_h0 = FROM_PYTORCH[kind]
    np.testing.assert_allclose(outputs[0].ravel(), wanted_h, atol=1e-9)
    np.testing.assert_allclose(grads[0].ravel(), wanted_x, atol=1e-9)
    np.testing.assert_allclose(grads[-2 if kind == "lstm" else -1].ravel(), wanted_h0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("room", ROOMS)
def test_huge_inputs_saturate_without_overflow(room, kind):
    x, *rest = (astype(a, np.float32) for a in recurrent_calls(2)[kind])
    with np.errstate(all="raise", under="ignore"):
        outputs = run(room, kind, x * 1e4, *rest)
    assert all(np.isfinite(y).all() for y in outputs)
    assert np.abs(outputs[0]).max() <= np.float32(max(1, np.abs(rest[-1 if kind == "gru" else 0]).max()))
