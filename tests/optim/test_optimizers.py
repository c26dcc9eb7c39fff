"""Optimisers against their formulas step by step, their state, and what they refuse."""

import json
import weakref

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn, optim
from tinynet.errors import ArgumentError, CheckpointError
from tinynet.tensor import Tensor

RNG = np.random.default_rng(0)
START = RNG.standard_normal((5, 3)).astype("float32")
GRADS = RNG.standard_normal((12, 5, 3)).astype("float32")


def sgd(grads, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    p, v = START.astype("float64"), 0.0
    for g in grads.astype("float64"):
        g = g + weight_decay * p
        v = momentum * v + g
        p = p - lr * (g + momentum * v if nesterov else v)
    return p


def adam(grads, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False):
    p, m, v = START.astype("float64"), 0.0, 0.0
    for t, g in enumerate(grads.astype("float64"), start=1):
        if decoupled:
            p = p * (1 - lr * weight_decay)
        else:
            g = g + weight_decay * p
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g**2
        p = p - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return p


CASES = {
    "plain": (lambda p: optim.SGD(p, 0.1), lambda g: sgd(g, 0.1)),
    "momentum": (lambda p: optim.SGD(p, 0.1, 0.9), lambda g: sgd(g, 0.1, 0.9)),
    "nesterov": (
        lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.2),
        lambda g: sgd(g, 0.1, 0.9, True, 0.2),
    ),
    "adam": (lambda p: optim.Adam(p), adam),
    "adam with decay": (
        lambda p: optim.Adam(p, 0.1, (0.8, 0.9), 1e-3, 0.3),
        lambda g: adam(g, 0.1, (0.8, 0.9), 1e-3, 0.3),
    ),
    "adamw": (
        lambda p: optim.AdamW(p, 0.1, weight_decay=0.3),
        lambda g: adam(g, 0.1, weight_decay=0.3, decoupled=True),
    ),
}


def steps(optimizer, parameter, grads):
    for g in grads:
        parameter.grad = g.copy()
        optimizer.step()


@pytest.mark.parametrize("room", ["reference", "numpy", "fast"])
@pytest.mark.parametrize("name", CASES)
def test_twelve_steps_follow_the_formula(name, room):
    make, formula = CASES[name]
    p = nn.Parameter(START)
    with tn.kernels.use(room):
        steps(make([p]), p, GRADS)
    np.testing.assert_allclose(p.data, formula(GRADS), rtol=1e-4, atol=1e-5)
    assert p.dtype == np.float32


@pytest.mark.parametrize("name", CASES)
def test_state_comes_back_bit_for_bit(name):
    make, _ = CASES[name]
    p, q = nn.Parameter(START), nn.Parameter(START)
    steps(make([p]), p, GRADS)
    half = make([q])
    steps(half, q, GRADS[:5])
    state = half.state_dict()
    numbers = json.loads(json.dumps({k: v for k, v in state.items() if not isinstance(v, np.ndarray)}))
    resumed = make([q])
    resumed.lr = 77.0
    resumed.load_state_dict(numbers | {k: v for k, v in state.items() if isinstance(v, np.ndarray)})
    steps(resumed, q, GRADS[5:])
    assert p.data.tobytes() == q.data.tobytes()


def test_the_state_is_a_copy():
    p = nn.Parameter(START)
    optimizer = optim.Adam([p])
    steps(optimizer, p, GRADS[:1])
    state = optimizer.state_dict()
    before = state["mean.0"].copy()
    steps(optimizer, p, GRADS[1:2])
    assert np.array_equal(state["mean.0"], before)
    assert state["steps.0"] == 1


def test_parameters_without_a_gradient_are_left_alone():
    p, q = nn.Parameter(START), nn.Parameter(START)
    optimizer = optim.AdamW([p, q])
    steps(optimizer, p, GRADS[:2])
    assert np.array_equal(q.data, START)
    assert [name for name in optimizer.state_dict() if name.endswith(".1")] == []
    q.grad = GRADS[2].copy()
    optimizer.step()  # the first step of q corrects its bias as a first step
    np.testing.assert_allclose(
        q.data, adam(GRADS[2:3], weight_decay=0.01, decoupled=True), rtol=1e-5, atol=1e-6
    )


def test_zero_grad():
    p = nn.Parameter(START)
    p.grad = GRADS[0]
    optim.SGD([p], 0.1).zero_grad()
    assert p.grad is None


def test_lr_can_be_set():
    p = nn.Parameter(START)
    optimizer = optim.SGD([p], 0.1)
    optimizer.lr = 0.5
    steps(optimizer, p, GRADS[:1])
    np.testing.assert_allclose(p.data, START - 0.5 * GRADS[0], rtol=1e-6)


def test_shared_parameters_count_once():
    p = nn.Parameter(START)
    optimizer = optim.SGD([p, p], 0.1)
    steps(optimizer, p, GRADS[:1])
    np.testing.assert_allclose(p.data, START - 0.1 * GRADS[0], rtol=1e-6)


def test_plain_tensors_learn_too():
    w = tn.tensor([3.0], requires_grad=True)
    optimizer = optim.SGD([w], 0.1, momentum=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        (w * w).sum().backward()
        optimizer.step()
    assert abs(w.item()) < 1e-3


def test_repr():
    assert repr(optim.SGD([nn.Parameter(START)], 0.1)) == (
        "SGD(1 parameters, lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.0)"
    )


class Empty(nn.Module):
    pass


@pytest.mark.parametrize(
    "params, text",
    [
        ([], r"there are no parameters: an empty list. Are the layers stored as attributes"),
        (Empty().parameters(), r"there are no parameters"),
        (nn.Dense(3), r"got a Dense; write dense\.parameters\(\)"),
        (nn.Parameter(START), r"got a single tensor; put it into a list"),
        ([nn.Parameter(START), nn.Parameter()],
         r"parameter 1 has no size yet.*model\.build\(.*Seen: \(5, 3\), no size yet\."),
        ([3.0], r"parameter 0 is a float, not a tensor\. Seen: float\."),
        (nn.Dense(3, in_features=2).named_parameters(), r"parameter 0 is a tuple"),
        (nn.Dense(3, in_features=2).freeze().parameters(), r"all layers frozen\? Seen: \(2, 3\), \(3,\)\."),
        ([nn.Parameter(START) * 2], r"parameter 0 is the result of Mul, not a leaf"),
    ],
)  # fmt: skip
def test_wrong_parameters(params, text):
    with pytest.raises(ArgumentError, match=text):
        optim.Adam(params)


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda p: optim.SGD(p, -1), r"lr=-1: give a number of at least 0"),
        (lambda p: optim.SGD(p, None), r"lr=None"),
        (lambda p: optim.SGD(p, float("nan")), r"lr=nan"),
        (lambda p: optim.SGD(p, 0.1, momentum=1), r"momentum=1: give a number from 0 up to"),
        (lambda p: optim.SGD(p, 0.1, nesterov=True), r"nesterov=True does nothing without momentum"),
        (lambda p: optim.SGD(p, 0.1, weight_decay=-1), r"weight_decay=-1"),
        (lambda p: optim.Adam(p, betas=(0.9, 1.0)), r"betas=1\.0"),
        (lambda p: optim.Adam(p, betas=0.9), r"betas=0\.9: give two numbers"),
        (lambda p: optim.Adam(p, eps=0), r"eps=0 divides by zero"),
    ],
)
def test_wrong_numbers(make, text):
    with pytest.raises(ArgumentError, match=text):
        make([nn.Parameter(START)])


def test_states_of_others_are_refused():
    p, q = nn.Parameter(START), nn.Parameter(START[:2])
    adam_of_p, sgd_of_p, adam_of_q = optim.Adam([p]), optim.SGD([p], 0.1, 0.9), optim.Adam([q])
    steps(adam_of_p, p, GRADS[:1])
    state = adam_of_p.state_dict()
    with pytest.raises(CheckpointError, match=r"the optimiser's velocity\.0 has shape None"):
        sgd_of_p.load_state_dict(state)
    with pytest.raises(CheckpointError, match=r"mean.0 has shape \(5, 3\), its parameter \(2, 3\)"):
        adam_of_q.load_state_dict(state)
    with pytest.raises(CheckpointError, match=r"unknown mean\.1"):
        adam_of_p.load_state_dict(state | {"mean.1": START})
    with pytest.raises(CheckpointError, match="missing beta1"):
        adam_of_p.load_state_dict({k: v for k, v in state.items() if k != "beta1"})


def test_names():
    assert optim.get("adamw") is optim.AdamW
    with pytest.raises(ArgumentError, match=r"unknown optimizer 'adm'\. Did you mean 'adam'"):
        optim.get("adm")


@pytest.mark.parametrize(
    "name, text",
    [
        ("lr_scheduler", "StepLR, CosineLR or OneCycleLR"),
        ("clip_grad_norm_", r"it is called clip_grad_norm\("),
        ("Adm", "Did you mean 'Adam'"),
    ],
)
def test_names_of_the_other_school(name, text):
    with pytest.raises(AttributeError, match=text):
        getattr(optim, name)


# --- many parameters in one call ---

OTHERS = {
    "plain": lambda a: a,
    "float64": lambda a: a.astype("float64"),
    "columns first": np.asfortranarray,
    "part of another array": lambda a: np.pad(a, 1)[1:-1, 1:-1],
    "empty": lambda a: a[:0],
}


@pytest.mark.parametrize("room", ["reference", "numpy", "fast"])
@pytest.mark.parametrize("name", CASES)
def test_parameters_of_all_kinds_go_together_as_they_go_alone(name, room):
    make, _ = CASES[name]

    def parameters():
        small = [Tensor(kind(START.copy()), requires_grad=True) for kind in OTHERS.values()]
        large = Tensor(np.resize(START, (40_001,)), requires_grad=True)  # worth several threads
        return [*small, large, Tensor(np.full((), 2, "float32"), requires_grad=True)]

    def step(params, i):
        for p in params:
            p.grad = np.resize(GRADS[i], p.shape).astype(p.dtype)

    together, alone = parameters(), parameters()
    optimizer, each = make(together), [make([p]) for p in alone]
    for i in range(2):
        step(together, i)
        together[0].grad = together[0].grad if i else None  # the first one starts a step later
        with tn.kernels.use(room):
            optimizer.step()
        step(alone, i)
        with tn.kernels.use("numpy"):
            for one in each[0 if i else 1 :]:
                one.step()
    for p, q in zip(together, alone):
        np.testing.assert_allclose(p.data, q.data, rtol=1e-5, atol=1e-6)
    assert optimizer.state_dict()["steps.0"] == 1


@pytest.mark.parametrize("name", CASES)
def test_arrays_may_be_exchanged_between_steps(name):
    make, formula = CASES[name]
    p = nn.Parameter(START)
    optimizer = make([p])
    for g in GRADS:
        p.data, p.grad = p.data.copy(), np.asfortranarray(g)
        state = {key: value.copy() if isinstance(value, np.ndarray) else value
                 for key, value in optimizer.state_dict().items()}  # fmt: skip
        optimizer.load_state_dict(state)
        optimizer.step()
    np.testing.assert_allclose(p.data, formula(GRADS), rtol=1e-4, atol=1e-5)


def test_a_parameter_that_cannot_be_written_to_is_an_error():
    p = nn.Parameter(START)
    p.data.flags.writeable = False
    p.grad = GRADS[0]
    with pytest.raises(ValueError, match="read-only"):
        optim.Adam([p]).step()


def test_without_any_gradient_a_step_does_nothing():
    p = nn.Parameter(START)
    for optimizer in (optim.SGD([p], 0.1), optim.Adam([p])):
        optimizer.step()
        assert np.array_equal(p.data, START) and "steps.0" not in optimizer.state_dict()


def test_one_kernel_call_serves_all_parameters(monkeypatch):
    calls = []
    monkeypatch.setattr(tn.kernels, "adam_step", lambda params, *rest: calls.append(len(params)))
    params = [nn.Parameter(START) for _ in range(9)]
    for p in params:
        p.grad = GRADS[0]
    optim.Adam(params).step()
    assert calls == [9]


@pytest.mark.parametrize("name", CASES)
def test_optimisers_that_take_turns_keep_to_their_own_arrays(name):
    make, formula = CASES[name]
    models = [[nn.Parameter(START), nn.Parameter(START)] for _ in range(3)]
    optimizers = [make(params) for params in models]
    for g in GRADS:
        for params, optimizer in zip(models, optimizers):
            for p in params:
                p.grad = g.copy()
            optimizer.step()
            optimizer.step()  # twice in a row, and back again
    for p in (p for params in models for p in params):
        np.testing.assert_allclose(p.data, formula(GRADS.repeat(2, axis=0)), rtol=1e-4, atol=1e-5)


def test_no_optimiser_is_kept_alive_by_its_last_step():
    p = nn.Parameter(START)
    steps(optim.Adam([p]), p, GRADS[:2])
    array = weakref.ref(p.data)
    del p
    assert array() is None


@pytest.mark.parametrize("name", CASES)
def test_a_gradient_of_another_dtype_in_the_middle(name):
    make, formula = CASES[name]
    p, q = nn.Parameter(START), nn.Parameter(START)
    optimizer = make([p, q])
    for i, g in enumerate(GRADS):
        p.grad, q.grad = g.copy(), g.astype("float64" if i % 2 else "float32")
        optimizer.step()
    for parameter in (p, q):
        np.testing.assert_allclose(parameter.data, formula(GRADS), rtol=1e-4, atol=1e-5)
