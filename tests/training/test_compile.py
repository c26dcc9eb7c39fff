"""tn.compile on the CPU: the step runs as it is, with the same results as without."""

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn, ops, optim
from tinynet.autograd import witnessed
from tinynet.data import DeviceLoader, Loader
from tinynet.errors import ArgumentError, CaptureError, DeviceError
from tinynet.kernels.live import live, recording
from tinynet.training.witness import Witness


def training(wrap):
    """A step, wrapped, and all that it changes."""
    tn.seed(1)
    model = nn.Sequential(nn.Dense(5, activation="relu"), nn.BatchNorm(), nn.Dropout(0.3), nn.Dense(3)).build(
        (6,)
    )
    optimizer = optim.Adam(model.parameters())
    schedule = optim.CosineLR(optimizer, 20)

    def step(x, y):
        loss = ops.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss

    return wrap(step), lambda: {**model.state_dict(), **optimizer.state_dict()}


def assert_equal(a, b):
    assert a.keys() == b.keys()
    assert all(np.asarray(a[name]).tobytes() == np.asarray(b[name]).tobytes() for name in a)


def test_a_compiled_step_does_what_the_step_does(data):
    results = []
    for wrap in (lambda step: step, tn.compile):
        step, state = training(wrap)
        losses = [step(*batch).item() for batch in Loader(data, 10)]
        results.append((losses, state()))
    assert results[0][0] == results[1][0]
    assert_equal(results[0][1], results[1][1])


@pytest.mark.parametrize("loader", [Loader, lambda *a, **k: DeviceLoader(*a, **k, device="cpu")])
@pytest.mark.parametrize("steps", [1, 4, 100])
def test_run_goes_over_all_batches_in_order(data, loader, steps):
    step, state = training(tn.compile)
    wanted = [step(*batch).item() for batch in Loader(data, 10, shuffle=True, seed=2)]
    left = state()
    step, state = training(tn.compile)
    batches = loader(data, 10, shuffle=True, seed=2)
    assert [loss.item() for loss in step.run(batches, steps)] == wanted
    assert_equal(left, state())
    assert batches.epoch == 1


def test_results_have_no_graph(data):
    step = tn.compile(lambda x: {"y": [x * 2.0, None], "n": (3,)})
    x = tn.tensor([1.0], requires_grad=True)
    result = step(x.detach())
    assert result["y"][0].numpy() == 2.0 and result["y"][1] is None and result["n"] == (3,)
    assert not tn.compile(lambda: x * 2.0)().requires_grad


def test_errors_of_the_step_come_through(data):
    def step(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        tn.compile(step)(data[0])


def test_wrong_arguments():
    with pytest.raises(ArgumentError, match=r"tn\.compile takes a function, got 3"):
        tn.compile(3)
    with pytest.raises(ArgumentError, match="unknown device 'gpu'"):
        tn.compile(lambda x: x, device="gpu")
    with pytest.raises(ArgumentError, match="steps=0: give a number of at least 1"):
        next(tn.compile(lambda x: x).run([(1,)], steps=0))


def test_a_gpu_that_is_not_there_is_named_at_once():
    with pytest.raises(DeviceError):
        tn.compile(lambda x: x, device="cuda:7")


def test_live_numbers_are_plain_ones_outside_of_a_recording():
    assert live(lambda: 0.25) == 0.25
    assert not recording()


# --- what a step has to do with ---


class Counting(nn.Module):
    def __init__(self):
        self.inner, self.parts, self.count = nn.Dense(2), [nn.ReLU()], 0

    def forward(self, x):
        return self.inner(x)


def seen(change=lambda model, optimizer: None):
    """A witness of a step, after which ``change`` was made."""
    model = Counting()
    model(np.ones((1, 3), np.float32))
    optimizer = optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for _ in range(2):  # the first makes the optimiser's arrays
        witness = Witness()
        with witnessed(witness):
            loss = ops.sum(model(np.ones((1, 3), np.float32)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    witness.conclude()
    change(model, optimizer)
    return witness


def exchange(model, optimizer):
    model.inner.weight.data = model.inner.weight.data.copy()


CHANGES = {
    "array": exchange,
    "frozen": lambda model, optimizer: model.freeze(),
    "mode": lambda model, optimizer: model.eval(),
    "attribute": lambda model, optimizer: setattr(model, "count", 1),
    "list": lambda model, optimizer: model.parts.append(nn.ReLU()),
    "momentum": lambda model, optimizer: setattr(optimizer, "momentum", 0.5),
    "state": lambda model, optimizer: optimizer.load_state_dict(optimizer.state_dict()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_witness_notices_changes(change):
    assert not seen(CHANGES[change]).unchanged()


def test_a_witness_lets_rates_weights_and_gradients_change():
    def go_on(model, optimizer):
        optimizer.lr = 5.0
        model.load_state_dict({n: a + 1 for n, a in model.state_dict().items()})
        optimizer.zero_grad()

    assert seen(go_on).unchanged()


def test_a_witness_sees_whether_gradients_are_added_up():
    weight = tn.tensor([1.0], requires_grad=True)
    for expected in (False, True):
        witness = Witness()
        with witnessed(witness):
            ops.sum(weight * weight).backward()  # two gradients in one step are all right
        assert witness.accumulates is expected
    witness.take_back()
    assert weight.grad == 2.0


def test_a_witness_wants_no_counting_in_the_step():
    model = Counting().build((3,))
    witness = Witness()
    with witnessed(witness):
        model(np.ones((1, 3), np.float32))
        model.count += 1
    with pytest.raises(CaptureError, match="sets the attribute 'count' from 0 to 1"):
        witness.conclude()
