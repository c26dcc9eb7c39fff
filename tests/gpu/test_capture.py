"""Recorded steps: what is replayed is, bit for bit, what running the step would have done."""

import random as python_random
import warnings

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn, ops, optim
from tinynet.data import DeviceLoader
from tinynet.errors import ArgumentError, CaptureError
from tinynet.training import recording

ONE = pytest.mark.parametrize(  # the order of threads does not matter here
    "gpu", ["forward", pytest.param("card", marks=pytest.mark.gpu)], indirect=True
)


class Net(nn.Module):
    """With everything that goes on from step to step: running statistics, dropout."""

    def __init__(self):
        self.conv = nn.Conv2D(3, 3, padding="same")
        self.norm = nn.BatchNorm()
        self.drop = nn.Dropout(0.3)
        self.out = nn.Dense(4)

    def forward(self, x):
        x = ops.max_pool(ops.relu(self.norm(self.conv(x))), 2)
        return self.out(self.drop(ops.flatten(x, 1)))


def images():
    return Net().build((6, 6, 1))


def rows():
    """A smaller net, for rows of 5 numbers."""
    return nn.Sequential(nn.Dense(6, activation="relu"), nn.Dropout(0.2), nn.Dense(4)).build((5,))


def batches(count, size=6, shape=(5,), seed=0):
    random = np.random.default_rng(seed)
    return [
        (random.normal(size=(size, *shape)).astype(np.float32), random.integers(0, 4, size))
        for _ in range(count)
    ]


class Training:
    """A net on the GPU, its optimiser with a schedule, and a step."""

    def __init__(self, make=optim.Adam, compiled=True, model=rows, loss=ops.cross_entropy, **settings):
        tn.seed(5)
        self.model, self.loss = model().to("cuda"), loss
        self.optimizer = make(self.model.parameters(), **settings)
        self.schedule = optim.CosineLR(self.optimizer, 40, warmup=0.2)
        self.runs = 0
        self.step = tn.compile(self.plain_step, device="cuda") if compiled else self.plain_step

    def plain_step(self, x, y):
        self.runs += 1
        logits = self.model(x)
        loss = self.loss(logits, y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return loss, logits

    def run(self, data):
        """Losses and logits of all steps, as bytes."""
        return [[t.data.get().tobytes() for t in self.step(*map(cuda, batch))] for batch in data]

    def state(self):
        """All that a step changes."""
        arrays = {**self.model.state_dict(), **self.optimizer.state_dict()}
        arrays |= {f"grad {n}": p.grad for n, p in self.model.named_parameters()}
        bits = {n: v.get().tobytes() if hasattr(v, "get") else v for n, v in arrays.items()}
        return bits | {"random": str(tn.random.get_state()), "count": self.schedule.count}


def cuda(array):
    return tn.backend.to_device(array, "cuda")


def both(data, change=lambda training: None, after=None, **settings):
    """The same training, compiled and not, with ``change`` made in the middle; both have to agree."""
    after = len(data) // 2 if after is None else after
    results, states, trainings = [], [], []
    for compiled in (False, True):
        training = Training(compiled=compiled, **settings)
        found = training.run(data[:after])
        change(training)
        results.append(found + training.run(data[after:]))
        states.append(training.state())
        trainings.append(training)
    assert results[0] == results[1]
    assert states[0] == states[1]
    return trainings[1]


# --- a replay does what the step does ---

OPTIMIZERS = [(optim.Adam, {}), (optim.AdamW, {}), (optim.SGD, {"lr": 0.1, "momentum": 0.9})]


@pytest.mark.parametrize("make, settings", OPTIMIZERS)
def test_a_replay_does_what_the_step_does(gpu, make, settings):
    training = both(batches(7, shape=(6, 6, 1)), make=make, model=images, **settings)
    assert training.runs == recording.WARM_UPS + 1  # the last of them was recorded


LOSSES = {
    "weights": lambda z, y: ops.cross_entropy(z, y, class_weight=np.array([1, 2, 0.5, 1], np.float32)),
    "ignored": lambda z, y: ops.cross_entropy(z, y, ignore_index=2),
    "smoothing": lambda z, y: ops.cross_entropy(z, y, label_smoothing=0.1),
    "sum": lambda z, y: ops.cross_entropy(z, y, reduction="sum"),
    "binary": lambda z, y: ops.bce_with_logits(z[:, 0], (y > 1).astype("float32"), pos_weight=[3.0]),
    "shares": lambda z, y: ops.cross_entropy(
        z, (y[:, None] == tn.backend.array_module(y).arange(4)) * np.float32(1)
    ),
    "focal": lambda z, y: ops.focal(z, y),
    "dice": lambda z, y: ops.dice(ops.reshape(z, 2, 3, 4), y.reshape(2, 3)),
    "mse": lambda z, y: ops.mse(z[:, 0], y.astype("float32")),
}


@ONE
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_can_be_recorded(gpu, loss):
    assert both(batches(6), loss=LOSSES[loss]).runs == 4


@ONE
def test_nothing_is_read_back_in_a_replay(standin_gpu, gpu):
    training, data = Training(), [tuple(map(cuda, batch)) for batch in batches(7)]
    for batch in data[:4]:
        training.step(*batch)
    standin_gpu.transfers.reset()
    for batch in data[4:]:
        training.step(*batch)
    assert standin_gpu.transfers.to_host == 0
    assert standin_gpu.transfers.to_device == 3  # the table of live numbers


@ONE
def test_arrays_tensors_and_settings_may_be_inputs(gpu):
    @tn.compile
    def step(x, factor, name, nothing):
        assert type(x) is kind and nothing is None
        return {"x": ops.mul(x, factor), "parts": [name, (x, factor)]}

    for kind, value in ((gpu.ndarray, gpu.ones(3)), (tn.Tensor, tn.Tensor(gpu.ones(3)))):
        for factor in (2.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0):
            result = step(value, factor, "a", None)
            assert result["x"].numpy().tolist() == [factor] * 3
            assert result["parts"][0] == "a" and result["parts"][1][1] == factor
            assert type(result["parts"][1][0]) is kind


@ONE
def test_wrong_inputs(gpu):
    step = tn.compile(lambda x: x)
    with pytest.raises(
        ArgumentError, match=r"got a list\. Its inputs are tensors, arrays, numbers, strings or"
    ):
        tn.compile(lambda x, y: x)(gpu.ones(3), [1])
    with pytest.raises(ArgumentError, match=r"an input that requires a gradient\. Inputs are data"):
        step(tn.tensor(gpu.ones(3), requires_grad=True))


@ONE
def test_results_have_no_graph_and_the_next_call_writes_over_them(gpu):
    weight = tn.tensor(gpu.ones(3), requires_grad=True)
    step = tn.compile(lambda x: ops.sum(ops.mul(x, weight)))
    results = [step(gpu.full(3, float(i))) for i in range(6)]
    assert not any(r.requires_grad for r in results)
    assert [r.item() for r in results] == [0.0, 3.0, 6.0, 15.0, 15.0, 15.0]


@ONE
def test_host_arrays_are_copied_to_the_device(gpu):
    plain = Training(compiled=False)
    wanted = plain.run(batches(6))
    training = Training()
    assert [[t.numpy().tobytes() for t in training.step(x, y)] for x, y in batches(6)] == wanted


# --- shapes, and several steps at a time ---


@ONE
def test_another_shape_gets_a_recording_of_its_own(gpu):
    data = [b for pair in zip(batches(6, 6), batches(6, 3, seed=1)) for b in pair]
    training = both(data)
    assert training.runs == (3 + 1) + (1 + 1)


@ONE
def test_only_so_many_recordings_are_kept(gpu):
    data = [b for size in range(1, recording.KEPT + 4) for b in batches(5, size)]
    training = both(data + data[:5])
    assert len(training.step._recordings._made) == recording.KEPT


@ONE
@pytest.mark.parametrize("steps", [1, 3, 1000])
def test_several_steps_can_be_one_recording(gpu, steps):
    data = [batches(7, 6) + batches(1, 2), batches(7, 6, seed=1) + batches(1, 2, seed=2)] * 2
    plain = Training(compiled=False)
    wanted = plain.run([*data[0], *data[1], *data[2], *data[3]])
    training = Training()
    found = [
        [t.data.get().tobytes() for t in pair] for d in data for pair in training.step.run(d, steps=steps)
    ]
    assert found == wanted and training.state() == plain.state()


@ONE
@pytest.mark.parametrize("steps", [1, 4, 1000])
def test_batches_of_a_loader_on_the_gpu_are_made_in_the_recording(gpu, steps):
    x, y = (np.concatenate(parts) for parts in zip(*batches(5, 6)))
    order = {"batch_size": 4, "shuffle": True, "seed": 3}
    plain = Training(compiled=False)
    loader = tn.data.Loader((x, y), **order)
    wanted = [plain.run(loader) for _ in range(5)]
    training, loader = Training(), DeviceLoader((x, y), **order)
    found = [
        [[t.data.get().tobytes() for t in pair] for pair in training.step.run(loader, steps)]
        for _ in range(5)
    ]
    assert found == wanted and training.state() == plain.state() and loader.epoch == 5


def test_steps_must_be_positive():
    with pytest.raises(ArgumentError, match="steps=0"):
        next(tn.compile(lambda x: x).run([], steps=0))


# --- what a recording takes for granted, and what happens when that changes ---


def exchange_an_array(training):
    training.model[0].weight.data = training.model[0].weight.data + 1


def load_weights(training):
    training.model.load_state_dict({k: v * 2 for k, v in training.model.state_dict().items()})


def move_there_and_back(training):
    training.model.to("cpu").to("cuda")


def load_optimizer(training):
    training.optimizer.load_state_dict(training.optimizer.state_dict())


def freeze(training):
    training.model[0].freeze()


def thaw(training):
    training.model[2].weight.requires_grad = False


def evaluate(training):
    training.model.eval()


def add_a_layer(training):
    training.model.layers.append(nn.ReLU())


def set_a_rate(training):
    training.optimizer.lr = 0.5
    training.schedule.base_lr = 0.7


def set_beta(training):
    training.optimizer.beta1 = 0.5


def set_dropout(training):
    training.model[1].rate = 0.9


def use_other_numbers(training):
    tn.seed(77)


def leave_gradients(training):
    for p in training.model.parameters():
        p.grad = p.data * 100


CHANGES = [
    exchange_an_array, load_weights, move_there_and_back, load_optimizer, freeze, thaw, evaluate, add_a_layer,
    set_a_rate, set_beta, set_dropout, use_other_numbers, leave_gradients,
]  # fmt: skip


@ONE
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_between_steps_has_its_effect(gpu, change):
    both(batches(12), change)


@ONE
def test_what_needs_no_new_recording_gets_none(gpu):
    assert [both(batches(12), c).runs for c in (load_weights, set_a_rate, use_other_numbers)] == [4, 4, 4]


@ONE
def test_a_step_that_adds_to_gradients_is_run_as_it_is(gpu):
    found = []
    for compiled in (False, True):
        tn.seed(0)
        model = rows().to("cuda")

        def step(x, y):
            loss = ops.cross_entropy(model(x), y)  # noqa: B023
            loss.backward()
            return loss

        run = tn.compile(step) if compiled else step
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found.append([run(*map(cuda, batch)).item() for batch in batches(7)])
        found.append([p.grad.get().tobytes() for p in model.parameters()])
        assert len(told) == compiled
    assert found[:2] == found[2:]
    assert "adds to gradients from before it" in str(told[0].message)


@ONE
def test_gradients_may_be_cleared_at_the_end_of_the_step(gpu):
    weight = tn.tensor(gpu.ones(3, np.float32), requires_grad=True)
    optimizer = optim.SGD([weight], lr=0.5)

    @tn.compile
    def step(x):
        ops.sum(ops.mul(x, weight)).backward()
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(8):
        assert step(gpu.ones(3, np.float32)) is None
        assert weight.grad is None
    assert weight.numpy().tolist() == [1 - 8 * 0.5] * 3


# --- what cannot be recorded ---


@ONE
def test_weights_in_float64_are_not_recorded(gpu):
    weight, data = tn.tensor(gpu.ones((4, 4)), requires_grad=True), gpu.ones((4, 4))
    optimizer = optim.SGD([weight], lr=0.5)
    changes = {"is product": lambda: data @ data, "is step": optimizer.step}
    causes = {
        "is product": "multiplies matrices through CuPy",
        "is step": "works on arrays that are not float32",
    }
    for name in changes:

        @tn.compile
        def step(x):
            ops.sum(ops.mul(x, weight)).backward()
            changes[name]()  # noqa: B023
            optimizer.zero_grad()

        for _ in range(3):
            step(data)
        with pytest.raises(CaptureError, match=causes[name]):
            step(data)


def of_floats(loss, model):
    return float(loss)


def of_item(loss, model):
    return loss.item()


def of_get(loss, model):
    return model[0].weight.data.get()


def of_print(loss, model):
    print(loss)


def of_branch(loss, model):
    if loss > 1:
        return loss


def of_mask(loss, model):
    return model[0].weight.data[model[0].weight.data > 0]


def of_failure(loss, model):
    raise KeyError("nothing here")


def of_numpy_draws(loss, model):
    return np.random.rand()


def of_python_draws(loss, model):
    return python_random.random()


def of_own_draws(loss, model):
    return tn.random.generator().random()


def of_counting(loss, model):
    model.seen = getattr(model, "seen", 0) + 1


def of_state(loss, model):
    model.state = ops.add(
        getattr(model, "state", tn.tensor(np.zeros(()), device="cuda", dtype="float32")), loss.detach()
    )


WRONG = {
    of_floats: "line .* of test_capture.py .* looks at values on the GPU",
    of_item: "looks at values on the GPU",
    of_get: "looks at values on the GPU",
    of_print: "looks at values on the GPU.* print",
    of_branch: "looks at values on the GPU",
    of_mask: "looks at values on the GPU",
    of_failure: "fails with KeyError: 'nothing here'",
    of_numpy_draws: "draws random numbers on the host",
    of_python_draws: "draws random numbers on the host",
    of_own_draws: "draws random numbers on the host",
    of_counting: "sets the attribute 'seen' from",
    of_state: "reads the attribute 'state' and puts another array in its place",
}


@ONE
@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_recorded_is_one_clear_error(gpu, wrong, capsys):
    training = Training()
    calls = []

    def step(x, y):
        calls.append(1)
        loss, _ = training.plain_step(x, y)
        if wrong is not of_failure or len(calls) > 3:
            wrong(loss, training.model)
        return loss

    compiled, data = tn.compile(step), [tuple(map(cuda, batch)) for batch in batches(5)]
    for batch in data[:3]:
        compiled(*batch)
    before = training.state()
    for _ in range(2):
        with pytest.raises(CaptureError, match=f"(?s)the step .*step cannot be recorded: .*{WRONG[wrong]}"):
            compiled(*data[3])
        after = training.state()
        assert {n for n in before if after[n] != before[n]} <= {"random"}
    if wrong not in (of_numpy_draws, of_python_draws, of_own_draws):
        assert after == before
    training.plain_step(*data[4])  # all still works
    assert training.state() != before
    assert not gpu.cuda.get_current_stream().is_capturing()


@ONE
def test_a_recording_that_fails_is_ended(standin_gpu, gpu, monkeypatch):
    made = []

    class Noted(gpu.cuda.Stream):
        def __init__(self, *args, **settings):
            super().__init__(*args, **settings)
            made.append(self)

    monkeypatch.setattr(gpu.cuda, "Stream", Noted)
    step = tn.compile(lambda x: float(ops.sum(x)))
    for _ in range(3):
        step(gpu.ones(3))
    with pytest.raises(CaptureError):
        step(gpu.ones(3))
    assert [stream.is_capturing() for stream in made] == [False]


@ONE
def test_a_label_out_of_range_shows_in_the_loss(gpu):
    training, ((x, y),) = Training(), batches(1)
    for _ in range(4):
        training.step(x, y)
    bad = y.copy()
    bad[3] = 4
    loss, _ = training.step(x, bad)
    assert np.isnan(loss.item())


@ONE
@pytest.mark.parametrize("loss", ["binary", "shares"])
def test_a_target_out_of_range_shows_in_the_loss(gpu, loss):
    takes = {
        "binary": lambda z, t: ops.bce_with_logits(z, t),
        "shares": lambda z, t: ops.cross_entropy(z, t),
    }[loss]
    step = tn.compile(lambda z, t: takes(z, t))
    target = gpu.full((3, 4), 0.25, np.float32)
    assert np.isfinite([step(gpu.ones((3, 4), np.float32), target).item() for _ in range(5)]).all()
    target[1, 2] = -0.5
    assert np.isnan(step(gpu.ones((3, 4), np.float32), target).item())


def test_compile_wants_a_function():
    with pytest.raises(ArgumentError, match=r"tn\.compile takes a function, got 3"):
        tn.compile(3)
