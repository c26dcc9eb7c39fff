"""fit on a GPU: recorded steps, and data that stay there, change nothing but the time it takes."""

import os
import re
import signal
from itertools import pairwise

import numpy as np
import pytest

import tinynet as tn
from tinynet import kernels, metrics, nn, ops, optim
from tinynet.data import Dataset, DeviceLoader, Loader, split
from tinynet.data.transforms import Normalize, RandomAffine
from tinynet.errors import ArgumentError, DataError, NotFiniteError
from tinynet.training import EarlyStopping, LambdaCallback, Trainer, TrainingInterrupted
from tinynet.training import trainer as trainer_module
from tinynet.training.captured import CapturedSteps, steps_of
from tinynet.training.steps import Steps

ONE = pytest.mark.parametrize(  # the order of threads does not matter here
    "gpu", ["forward", pytest.param("card", marks=pytest.mark.gpu)], indirect=True
)


@pytest.fixture
def looking(monkeypatch):
    """A function after which fit looks at each batch, as on the CPU."""
    return lambda: monkeypatch.setattr(trainer_module, "steps_of", Steps)


def pictures(count=47, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 6, 6, 1)).astype(np.uint8), random.integers(0, 4, count)


def vectors(count=60, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(count, 5)).astype(np.float32), random.integers(0, 4, count)


def net():
    return nn.Sequential(nn.Dense(6, activation="relu"), nn.BatchNorm(), nn.Dropout(0.2), nn.Dense(4)).build(
        (5,)
    )


def conv_net():
    layers = nn.Conv2D(3, 3, activation="relu"), nn.MaxPool2D(2), nn.Flatten(), nn.Dropout(0.2), nn.Dense(4)
    return nn.Sequential(*layers).build((6, 6, 1))


def make_trainer(model=net, optimizer=optim.Adam, loss="cross_entropy", metrics=("accuracy",), **settings):
    tn.seed(5)
    return Trainer(model().to("cuda"), optimizer, loss, metrics, **settings)


def run(trainer, data, **fit):
    """What a fit leaves behind."""
    trainer.fit(data, **{"epochs": 3, "batch_size": 8, "verbose": 0, "seed": 1} | fit)
    return left_by(trainer)


def left_by(trainer):
    arrays = {**trainer.model.state_dict(), **trainer.optimizer.state_dict()}
    bits = {n: v.get().tobytes() if hasattr(v, "get") else v for n, v in arrays.items()}
    counters = trainer.epoch, trainer.batch, trainer.steps, trainer.samples
    return bits | {"random": str(tn.random.get_state()), "history": trainer.history.epochs, "at": counters}


def recordings(trainer):
    return [r for r in trainer._steps._recordings._made.values() if r._graph is not None]


# --- the same results ---

SETTINGS = [
    {},
    {"clip_norm": 0.05, "metrics": ("accuracy", "sensitivity", "specificity", "auc", "confusion_matrix")},
    {"optimizer": lambda params: optim.SGD(params, 0.1, momentum=0.9, nesterov=True), "loss": nn.Focal()},
    {"optimizer": "adamw", "loss": nn.CrossEntropy(class_weight=[1.0, 2.0, 1.0, 0.5], label_smoothing=0.1)},
]


@pytest.mark.parametrize("settings", SETTINGS[:1])
def test_recorded_steps_leave_what_the_others_leave(gpu, looking, settings):
    check_fit(looking, pictures(), model=conv_net, **settings)


@ONE
@pytest.mark.parametrize("settings", SETTINGS[1:])
def test_so_they_do_with_all_kinds_of_settings(gpu, looking, settings):
    check_fit(looking, vectors(), **settings)


def check_fit(looking, data, fit=None, **settings):
    fit = {"schedule": optim.CosineLR, "validation_data": data, **(fit or {})}
    trainer = make_trainer(**settings)
    found = run(trainer, data, **fit)
    assert (
        isinstance(trainer._steps, CapturedSteps) and len(recordings(trainer)) == 2
    )  # one for the last batch
    looking()
    trainer = make_trainer(**settings)
    assert run(trainer, data, **fit) == found and type(trainer._steps) is Steps


class FromDisk:
    """A data set that makes its samples when asked."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def batch(self, indices):
        return self.x[indices], self.y[indices]

    def start_epoch(self, epoch):
        pass


@ONE
def test_data_that_cannot_lie_on_the_gpu_are_copied_batch_by_batch(gpu, looking):
    check_fit(looking, FromDisk(*vectors()))


@ONE
def test_a_loader_of_ones_own_is_moved_on_as_always(gpu, looking):
    for make in (Loader, DeviceLoader):
        loaders = [make(vectors(), 16, shuffle=True, seed=4) for _ in range(2)]
        found = run(make_trainer(), loaders[0])
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(trainer_module, "steps_of", Steps)
            assert run(make_trainer(), loaders[1]) == found
        assert loaders[0].epoch == loaders[1].epoch == 3


@ONE
def test_several_fits_and_a_resumed_one(gpu, tmp_path):
    data, path = vectors(), tmp_path / "run.safetensors"
    whole = make_trainer()
    run(whole, data, epochs=2)
    wanted = run(whole, data, epochs=4)

    def interrupt(trainer):
        if trainer.steps == 13:
            os.kill(os.getpid(), signal.SIGINT)

    trainer = make_trainer()
    run(trainer, data, epochs=2)
    with pytest.raises(TrainingInterrupted):
        run(trainer, data, epochs=4, checkpoint=path, callbacks=[LambdaCallback(on_batch_end=interrupt)])
    other = make_trainer()
    found = run(other, data, epochs=4, resume=path)
    assert {n: v for n, v in found.items() if n != "history"} == {
        n: v for n, v in wanted.items() if n != "history"
    }
    assert [e["loss"] for e in found["history"]] == [e["loss"] for e in wanted["history"]]


@ONE
def test_callbacks_see_the_numbers_of_each_batch(gpu, looking):
    seen = []
    note = LambdaCallback(
        on_batch_end=lambda t: seen.append((t.batch, t.samples, t.batch_loss, t.loss_sum, t.running()))
    )
    run(make_trainer(), vectors(), callbacks=[note, EarlyStopping("loss")])
    found = list(seen)
    seen.clear()
    looking()
    run(make_trainer(), vectors(), callbacks=[note, EarlyStopping("loss")])
    assert seen == found and len(seen) == 24


@ONE
def test_the_host_does_not_wait_for_the_gpu(standin_gpu, gpu):
    counts = []
    note = LambdaCallback(on_batch_end=lambda t: counts.append((t.steps, gpu.transfers.to_host)))
    run(make_trainer(), vectors(480), epochs=2, callbacks=[note])
    waits = [steps for (_, before), (steps, after) in pairwise(counts) if after != before]
    assert [s for s in waits if s > 5] == [51, 61, 101]  # after every 50 batches, and after an epoch


@ONE
def test_a_change_in_a_callback_has_its_effect(gpu, looking):
    def freeze(trainer):
        if trainer.steps == 9:
            trainer.model[0].freeze()
        if trainer.steps == 14:
            trainer.model[0].unfreeze()
            trainer.optimizer.lr = 0.5

    found = run(make_trainer(), vectors(), callbacks=[LambdaCallback(on_batch_end=freeze)])
    looking()
    assert run(make_trainer(), vectors(), callbacks=[LambdaCallback(on_batch_end=freeze)]) == found


# --- what goes wrong ---


def error_of(data, *args, **settings):
    """The error of a fit, and what it leaves."""
    trainer = make_trainer(**settings)
    with pytest.raises((NotFiniteError, DataError)) as caught:
        run(trainer, data, schedule=optim.CosineLR)
    return str(caught.value), left_by(trainer)


def with_nan(count, place):
    x, y = vectors(count)
    x[place, 2] = np.nan
    return FromDisk(x, y)


def with_label(count, place):
    x, y = vectors(count)
    y[place] = 7
    return x, y


def rising(params):
    return optim.SGD(params, 1e4)


@ONE
@pytest.mark.parametrize(
    "data, settings, text",
    [
        (lambda: with_nan(60, 17), {}, "The input of sample 17 holds NaN"),
        (lambda: with_nan(480, 450), {}, "The input of sample 450 holds NaN"),
        (lambda: with_label(60, 44), {}, "sample 44 of the data, in place .* label 7 .* is out of range"),
        (lambda: with_label(480, 0), {}, "sample 0 of the data, in place .* label 7 .* is out of range"),
        (
            lambda: vectors(900),
            {"optimizer": rising, "loss": ops.focal, "model": lambda: diverging()},
            "epoch 1",
        ),
    ],
)
def test_an_error_is_that_of_looking_at_each_batch(gpu, looking, data, settings, text):
    found = error_of(data(), **settings)
    looking()
    wanted = error_of(data(), **settings)
    assert found == wanted
    assert re.search(text, found[0])


def diverging():
    return nn.Sequential(nn.Dense(6), nn.Dense(6), nn.Dense(4)).build((5,))


class Looking(nn.Module):
    """A layer that cannot be recorded."""

    def forward(self, x):
        return ops.mul(x, 2.0) if float(ops.sum(x)) > 0 else x


@ONE
def test_a_model_that_looks_at_values_is_trained_as_it_is(gpu, looking):
    def model():
        return nn.Sequential(nn.Dense(6), Looking(), nn.Dense(4)).build((5,))

    with pytest.warns(UserWarning, match="fit goes on without a recorded step, slower: .* looks at values"):
        found = run(make_trainer(model), vectors())
    looking()
    assert run(make_trainer(model), vectors()) == found


class Own(optim.SGD):
    """An optimiser that nobody knows."""


@ONE
def test_what_is_not_recorded_from_the_start(gpu):
    cases = [
        make_trainer(optimizer=lambda params: Own(params, 0.1)),
        make_trainer(lambda: net().astype("float64")),
        Trainer(net(), "adam", "cross_entropy"),
    ]
    hooked = make_trainer()
    hooked.model[0].register_forward_hook(lambda *call: None)
    assert {type(steps_of(trainer)) for trainer in [*cases, hooked]} == {Steps}


@ONE
def test_no_memory_for_a_recording_is_no_end(gpu, looking, monkeypatch):
    from tinynet.kernels.cuda import graph

    def full(self, *args):
        raise MemoryError("Out of memory allocating 99 bytes")

    with monkeypatch.context() as patched:
        patched.setattr(graph.Graph, "__init__", full)
        with pytest.warns(UserWarning, match="without a recorded step, slower: Out of memory"):
            found = run(make_trainer(), vectors())
    looking()
    assert run(make_trainer(), vectors()) == found


# --- data on the GPU ---


@pytest.mark.parametrize("shape", [(6, 7, 3), (5,), (3, 3, 1)])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_a_loader_on_the_gpu_gives_the_same_batches(gpu, shape, dtype):
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (23, *shape)).astype(dtype)
    for y in (
        random.integers(0, 9, 23),
        random.normal(size=(23, 2)),
        random.integers(0, 2, (23, 3)).astype(np.uint8),
    ):
        order = {"batch_size": 4, "shuffle": True, "seed": 3}
        plain, there = Loader((x, y), **order), DeviceLoader((x, y), **order)
        for _ in range(2):
            for a, b in zip(plain, there, strict=True):
                for p, q in zip(a, b):
                    assert p.dtype == q.dtype and p.shape == q.shape and p.tobytes() == q.get().tobytes()
        assert there.take(np.array([5, 2]))[0].get().tobytes() == plain.take(np.array([5, 2]))[0].tobytes()


def test_a_random_affine_on_the_gpu_takes_the_same_numbers(gpu):
    x, y = pictures(20)
    move = RandomAffine(rotation=15, shear=0.1, scale=0.1, shift=1.5, fill=0.25)
    data = Dataset(x, y).with_transform(move, seed=7)
    order = {"batch_size": 8, "shuffle": True, "seed": 3}
    plain, there = Loader(data, **order), DeviceLoader(data, **order)
    for _ in range(2):
        for (a, _), (b, _) in zip(plain, there, strict=True):
            np.testing.assert_allclose(b.get(), a, atol=5e-6)


@ONE
def test_a_part_of_the_data_and_a_transform_that_does_nothing(gpu):
    part, _ = split(Dataset(*pictures()), (0.5, 0.5))
    for data in (part, part.with_transform(RandomAffine())):
        for a, b in zip(Loader(data, 8), DeviceLoader(data, 8), strict=True):
            assert [p.tobytes() for p in a] == [q.get().tobytes() for q in b]


@ONE
def test_fit_moves_pictures_on_the_gpu(gpu, looking):
    x, y = pictures()
    data = Dataset(x, y).with_transform(RandomAffine(rotation=20, shift=1))
    trainer = make_trainer(conv_net)
    losses = [e["loss"] for e in run(trainer, data)["history"]]
    assert isinstance(trainer._steps._data, DeviceLoader) and len(recordings(trainer)) == 2
    looking()
    np.testing.assert_allclose(
        losses, [e["loss"] for e in run(make_trainer(conv_net), data)["history"]], rtol=1e-4
    )


@ONE
@pytest.mark.parametrize(
    "data, text",
    [
        (lambda: FromDisk(*pictures()), "a FromDisk makes its samples one by one"),
        (lambda: Dataset(*pictures()).with_transform(Normalize(0, 2)), "only RandomAffine of pictures"),
        (lambda: Dataset(*vectors()).with_transform(RandomAffine(9)), "only RandomAffine of pictures"),
        (
            lambda: split(Dataset(*pictures()).with_transform(RandomAffine(9)), (0.5, 0.5))[0],
            "a transform under a Subset",
        ),
    ],
)
def test_data_that_a_loader_on_the_gpu_does_not_take(gpu, data, text):
    with pytest.raises(ArgumentError, match=text):
        DeviceLoader(data())


@ONE
def test_data_that_are_too_large_stay_on_the_host(standin_gpu, gpu, monkeypatch):
    monkeypatch.setattr(gpu.card, "memory", gpu.card.used() + 500_000)
    trainer = make_trainer()
    run(trainer, vectors(5000), epochs=0)
    assert type(trainer._steps._data) is Loader


def test_metrics_gather_on_the_gpu(gpu):
    _, y = vectors()
    scores = np.random.default_rng(1).normal(size=(60, 4)).astype(np.float32)
    for name in ("accuracy", "sensitivity", "mse"):
        there, here = metrics.get(name), metrics.get(name)
        targets = scores * 2 if name == "mse" else y
        there.update(gpu.asarray(scores), gpu.asarray(targets))
        here.update(scores, targets)
        assert there.result() == pytest.approx(here.result(), rel=1e-12)


# --- the kernels behind it ---


@pytest.mark.parametrize("sizes", [[1], [5000, 3, 0, 4096], [4097] * 3 + [2] * 170])
def test_norms_of_many_arrays(gpu, sizes):
    arrays = [np.random.default_rng(i).normal(size=n).astype(np.float32) for i, n in enumerate(sizes)]
    there = [gpu.asarray(a) for a in arrays]
    norm = kernels.total_norm(there)
    truth = kernels.total_norm([a.astype(float) for a in arrays])
    assert norm.shape == () and norm.dtype == np.float64
    assert float(norm) == pytest.approx(float(truth), rel=1e-12)
    kernels.limit_norm(there, norm, 0.5)
    kernels.limit_norm(arrays, truth, 0.5)
    assert all((a == b.get()).all() for a, b in zip(arrays, there))
    before = [b.get() for b in there]
    kernels.limit_norm(there, norm, float(norm) * 2)
    assert all((a == b.get()).all() for a, b in zip(before, there))


def test_a_norm_shows_what_is_not_finite(gpu):
    for value in (np.nan, np.inf):
        arrays = [gpu.ones(300, np.float32), gpu.ones(3, np.float32)]
        arrays[1][2] = value
        assert not np.isfinite(float(kernels.total_norm(arrays)))
    huge = [gpu.full(5000, 3e38, np.float32)]
    assert float(kernels.total_norm(huge)) == pytest.approx(3e38 * np.sqrt(5000), rel=1e-6)


@pytest.mark.parametrize("rows, classes", [(1, 2), (7, 10), (130, 33)])
def test_the_gradient_of_cross_entropy(gpu, rows, classes):
    random = np.random.default_rng(0)
    p, labels = random.uniform(size=(rows, classes)).astype(np.float32), random.integers(0, classes, rows)
    for grad in (random.normal(size=rows), np.array(0.7)):
        grad = grad.astype(np.float32)
        there = map(gpu.asarray, (p, labels, grad))
        found = kernels.softmax_cross_entropy_grad(*there, 3).get()
        with kernels.use("reference"):
            truth = kernels.softmax_cross_entropy_grad(p.astype(float), labels, grad.astype(float), 3)
        np.testing.assert_allclose(found, truth, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("count", [1, 255, 257, 1000])
def test_sums(gpu, count):
    values = np.random.default_rng(0).normal(size=count).astype(np.float32)
    assert float(kernels.scaled_sum(gpu.asarray(values), 7)) == pytest.approx(
        values.astype(float).sum() / 7, rel=1e-5
    )
    total = gpu.full((), 0.1)
    kernels.add_scaled(total, gpu.asarray(values[0]), 128)
    assert float(total) == 0.1 + float(values[0]) * 128
