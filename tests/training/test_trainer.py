"""The loop itself: what fit, evaluate and predict do, and what they say about input that cannot be used."""

import numpy as np
import pytest

import tinynet as tn
from tinynet import metrics, nn, ops, optim
from tinynet.data import Dataset, Loader
from tinynet.errors import ArgumentError
from tinynet.training import Callback, LambdaCallback, Trainer


def quiet(trainer, *data, **settings):
    return trainer.fit(*data, verbose=0, **settings)


# --- fit ---


def test_fit_learns_a_simple_rule(make_trainer, data):
    trainer = make_trainer()
    history = quiet(trainer, *data, epochs=30, batch_size=16)
    assert history["loss"][0] > 0.9 and history["accuracy"][-1] > 0.8
    assert trainer.evaluate(*data)["accuracy"] > 0.9


def test_fit_is_the_loop_written_out(data):
    """The trainer against the ten lines of the documentation, bit for bit."""
    x, y = data

    def model():
        tn.seed(5)
        return nn.Sequential(nn.Dense(8, activation="tanh"), nn.Dropout(0.3), nn.Dense(3)).build((6,))

    by_hand = model()
    optimizer, loss_fn, losses = optim.SGD(by_hand.parameters(), 0.1, momentum=0.9), nn.CrossEntropy(), []
    for _ in range(2):
        order = np.arange(96)
        total = 0.0
        for start in range(0, 96, 40):  # a ragged last batch
            part = order[start : start + 40]
            optimizer.zero_grad()
            loss = loss_fn(by_hand(x[part]), y[part])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(part)
        losses.append(total / 96)

    fitted = model()
    trainer = Trainer(fitted, optim.SGD(fitted.parameters(), 0.1, momentum=0.9), nn.CrossEntropy())
    history = quiet(trainer, x, y, epochs=2, batch_size=40, shuffle=False, seed=0)
    assert history["loss"] == losses
    for a, b in zip(by_hand.parameters(), fitted.parameters()):
        assert np.array_equal(a.data, b.data)


def test_the_same_seed_gives_the_same_weights(make_trainer, data, same_weights):
    def weights(**settings):
        trainer = make_trainer()
        quiet(trainer, *data, epochs=2, **settings)
        return trainer.model.state_dict()

    assert same_weights(weights(), weights())
    assert not same_weights(weights(), weights(seed=99))  # another order


@pytest.mark.parametrize("form", ["arrays", "lists", "tensors", "pair", "dataset", "loader"])
def test_all_forms_of_data_are_the_same_data(make_trainer, data, same_weights, form):
    x, y = data
    forms = {
        "arrays": (x, y),
        "lists": (x.tolist(), y.tolist()),
        "tensors": (tn.tensor(x), tn.tensor(y)),
        "pair": ((x, y),),
        "dataset": (Dataset(x, y),),
        "loader": (Loader((x, y), 32, shuffle=True, seed=8),),
    }
    expected = make_trainer()
    quiet(expected, x, y, seed=8)
    trainer = make_trainer()
    quiet(trainer, *forms[form], seed=8)
    assert same_weights(trainer.model, expected.model)


def test_pictures_of_bytes_are_scaled_in_fit_and_in_predict_alike(make_trainer):
    x = np.random.default_rng(0).integers(0, 256, (20, 6), np.uint8)
    trainer = make_trainer()
    quiet(trainer, x, np.arange(20) % 3)
    assert np.allclose(trainer.predict(x), trainer.predict(x / np.float32(255)), atol=1e-6)


def test_the_history_holds_plain_floats_of_loss_metrics_and_validation(make_trainer, data):
    trainer = make_trainer(metrics=["accuracy", metrics.ConfusionMatrix()])
    history = quiet(trainer, *data, epochs=2, validation_data=data)
    assert history.columns == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert all(type(value) is float for epoch in history for value in epoch.values())
    report = trainer.evaluate(*data, batch_size=32)
    assert history["val_loss"][-1] == report.loss and history["val_accuracy"][-1] == report["accuracy"]


def test_the_loss_is_a_mean_over_samples_not_over_batches(data):
    x, y = data
    model = nn.Sequential(nn.Dense(3)).build((6,))
    trainer = Trainer(model, optim.SGD(model.parameters(), 0.0), "cross_entropy")
    expected = ops.cross_entropy(model(x), y).item()
    history = quiet(trainer, x, y, batch_size=90)  # batches of 90 and of 6
    assert history["loss"][0] == pytest.approx(expected, rel=1e-6)
    assert trainer.evaluate(x, y, batch_size=90).loss == pytest.approx(expected, rel=1e-6)


def test_a_second_fit_goes_on_with_the_weights_and_has_a_history_of_its_own(make_trainer, data):
    trainer = make_trainer()
    first = quiet(trainer, *data, epochs=3)
    second = quiet(trainer, *data, epochs=2)
    assert (len(first), len(second)) == (3, 2)
    assert second["loss"][0] < first["loss"][0]


class Watched(Dataset):
    """Notes which passes over it begin."""

    def __init__(self, *data):
        super().__init__(*data)
        self.seen = []

    def start_epoch(self, epoch):
        self.seen.append(epoch)


def test_data_drawn_afresh_are_new_in_each_epoch_and_in_a_second_fit(make_trainer, data):
    trainer, watched = make_trainer(), Watched(*data)
    quiet(trainer, watched, epochs=2)
    quiet(trainer, watched, epochs=2)
    assert watched.seen == [0, 1, 2, 3]


def test_validation_data_are_the_same_in_each_epoch(make_trainer, data):
    watched = Watched(*data)
    quiet(make_trainer(), *data, epochs=3, validation_data=Loader(watched, 32))
    assert watched.seen == [0, 0, 0]


def test_an_unbuilt_model_is_built_from_the_data(make_trainer, data):
    trainer = make_trainer()
    assert trainer.optimizer is None
    quiet(trainer, *data, epochs=0)
    assert trainer.model.state_dict()["0.weight"].shape == (6, 8)
    assert isinstance(trainer.optimizer, optim.Adam) and trainer.optimizer.lr == 0.01


@pytest.mark.parametrize("training", [True, False])
def test_every_module_comes_back_in_the_mode_it_was_in(make_trainer, data, training):
    trainer = make_trainer()
    trainer.model.train() if training else trainer.model.eval()
    next(trainer.model.children()).training = not training
    modes = [module.training for module in trainer.model.modules()]
    during = []
    quiet(trainer, *data, callbacks=[LambdaCallback(on_batch_end=lambda t: during.append(t.model.training))])
    trainer.evaluate(*data), trainer.predict(data[0])
    assert [module.training for module in trainer.model.modules()] == modes
    assert all(during)


def test_frozen_layers_stay_as_they_are(make_trainer, data):
    trainer = make_trainer()
    trainer.model.build((6,))
    first, norm = list(trainer.model.children())[:2]
    first.freeze(), norm.freeze()
    before = {k: v for k, v in trainer.model.state_dict().items() if k[0] in "01"}
    quiet(trainer, *data, epochs=2)
    after = trainer.model.state_dict()
    assert all(np.array_equal(before[k], after[k]) for k in before)


def test_clip_norm_limits_the_step(data):
    x, y = data

    def step(clip_norm):
        tn.seed(0)
        model = nn.Sequential(nn.Dense(3)).build((6,))
        before = model.state_dict()
        optimizer = optim.SGD(model.parameters(), 1.0)
        quiet(Trainer(model, optimizer, "cross_entropy", clip_norm=clip_norm), x * 100, y, batch_size=96)
        return np.sqrt(sum(((before[k] - v) ** 2).sum() for k, v in model.state_dict().items()))

    assert step(None) > 1
    assert step(0.5) == pytest.approx(0.5, rel=1e-4)


def test_a_callback_can_evaluate_in_the_middle_of_an_epoch(make_trainer, data):
    """Metrics, mode and order of the epoch under way are left alone."""
    expected = quiet(make_trainer(), *data, epochs=2)
    disturb = LambdaCallback(on_batch_end=lambda t: t.evaluate(*data))
    assert quiet(make_trainer(), *data, epochs=2, callbacks=[disturb]) == expected


# --- schedules ---


def rates(trainer, data, **settings):
    seen = []

    class Watch(Callback):
        def on_batch_end(self, trainer):
            seen.append(trainer.optimizer.lr)

    trainer.callbacks.append(Watch())
    history = quiet(trainer, *data, batch_size=48, **settings)
    return seen, history


def test_a_schedule_class_gets_the_number_of_batches_and_steps_after_each(make_trainer, data):
    trainer = make_trainer(lr=1.0, optimizer="sgd")
    seen, history = rates(trainer, data, epochs=2, schedule=optim.CosineLR)
    assert seen == pytest.approx([0.8535534, 0.5, 0.1464466, 0.0], abs=1e-6)
    assert history["lr"] == [seen[1], seen[3]]
    assert trainer.optimizer.lr == 1.0  # the next fit starts from the optimiser's own rate again


def test_steplr_steps_after_each_epoch(make_trainer, data):
    trainer = make_trainer(lr=1.0, optimizer="sgd")
    trainer.model.build((6,))
    seen, history = rates(trainer, data, epochs=3, schedule=optim.StepLR(trainer.optimizer, 1, gamma=0.5))
    assert seen == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    assert history["lr"] == [1.0, 0.5, 0.25]


def test_a_schedule_of_another_optimiser_is_refused(make_trainer, data):
    trainer, other = make_trainer(), make_trainer()
    other.model.build((6,))
    with pytest.raises(ArgumentError, match="the schedule belongs to another optimiser"):
        quiet(trainer, *data, schedule=optim.StepLR(other.optimizer, 1))


# --- evaluate and predict ---


def test_the_report_is_a_mapping_that_reads_well(make_trainer, data):
    trainer = make_trainer(metrics=["accuracy", "confusion_matrix"])
    report = trainer.evaluate(*data)
    assert list(report) == ["loss", "accuracy", "confusion_matrix"] and report.n == 96
    assert report["confusion_matrix"].sum() == 96
    assert report["accuracy"] == np.trace(report["confusion_matrix"]) / 96
    assert str(report).startswith(
        f"loss {report.loss:.4f}  accuracy {report['accuracy']:.4f}  (96 samples)\n"
    )
    assert report.get("auc") is None
    with pytest.raises(ArgumentError, match=r"unknown metric 'acc'\. Did you mean 'accuracy'"):
        report["acc"]


def test_evaluate_changes_nothing(make_trainer, data, same_weights):
    trainer = make_trainer()
    quiet(trainer, *data)
    before, stream = trainer.model.state_dict(), tn.random.get_state()
    loader = Loader(data, 32, shuffle=True)
    first = trainer.evaluate(loader)
    assert dict(first) == dict(trainer.evaluate(loader)) and loader.epoch == 0
    assert same_weights(trainer.model, before) and tn.random.get_state() == stream


@pytest.mark.parametrize(
    "loss, expected",
    [
        ("cross_entropy", lambda z: np.exp(z) / np.exp(z).sum(-1, keepdims=True)),
        ("bce_with_logits", lambda z: 1 / (1 + np.exp(-z))),
        (ops.cross_entropy, lambda z: np.exp(z) / np.exp(z).sum(-1, keepdims=True)),
        (ops.bce_with_logits, lambda z: 1 / (1 + np.exp(-z))),
        ("focal", lambda z: np.exp(z) / np.exp(z).sum(-1, keepdims=True)),
        ("mse", lambda z: z),
        (lambda pred, target: ops.mse(pred, target), lambda z: z),
    ],
)
def test_predict_gives_the_probabilities_that_the_loss_sees(data, loss, expected):
    model = nn.Sequential(nn.Dense(3)).build((6,))
    weight, bias = model.state_dict().values()
    got = Trainer(model, "adam", loss).predict(data[0], batch_size=50)
    assert type(got) is np.ndarray and got.dtype == np.float32
    assert np.allclose(got, expected(data[0] @ weight + bias), atol=1e-6)


def test_predict_is_in_evaluation_mode_and_takes_data_with_targets_as_well(make_trainer, data):
    trainer = make_trainer()
    expected = trainer.predict(data[0])
    assert np.array_equal(expected, trainer.predict(data[0]))
    for form in (data, Dataset(*data), Loader(data, 128), data[0].tolist(), tn.tensor(data[0])):
        assert np.array_equal(trainer.predict(form), expected)


def test_predict_refuses_a_shuffled_loader(make_trainer, data):
    with pytest.raises(ArgumentError, match=r"in the order of the data.*shuffle=False"):
        make_trainer().predict(Loader(data, shuffle=True))


def test_the_model_delegates(data):
    model = nn.Sequential(nn.Dense(3))
    assert model.compile("sgd", "cross_entropy", ["accuracy"], lr=0.5) is model
    history = model.fit(*data, epochs=3, verbose=0)
    assert history["loss"][-1] < history["loss"][0]
    assert model.evaluate(*data).loss < history["loss"][0]
    assert np.allclose(model.predict(data[0]).sum(1), 1, atol=1e-6)
