"""Callbacks: when they are called, early stopping, logs, checkpoints by number."""

import csv
import math

import numpy as np
import pytest

from tinynet.errors import ArgumentError, CheckpointError
from tinynet.training import (
    Callback,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    History,
    JSONLogger,
    LambdaCallback,
    LearningRate,
    load_checkpoint,
)
from tinynet.training.callbacks import MOMENTS


class Script(Callback):
    """Puts numbers of its own into the history, before other callbacks look at it, and notes the weights."""

    rank = 0

    def __init__(self, name, values):
        self.name, self.values, self.weights = name, values, []

    def on_epoch_end(self, trainer):
        trainer.history[-1][self.name] = self.values[trainer.epoch - 1]
        self.weights.append(trainer.model.state_dict())


def run(trainer, data, epochs, *callbacks):
    return trainer.fit(*data, epochs=epochs, batch_size=48, callbacks=callbacks, verbose=0)


def test_every_moment_comes_in_order(make_trainer, data):
    told = []
    notes = {m: lambda t, m=m: told.append((m, t.epoch, t.batch, t.steps)) for m in MOMENTS}
    run(make_trainer(), data, 2, LambdaCallback(**notes))
    assert told == [
        ("on_fit_begin", 0, 0, 0),
        ("on_epoch_begin", 0, 0, 0), ("on_batch_end", 0, 1, 1), ("on_batch_end", 0, 2, 2),
        ("on_epoch_end", 1, 0, 2),
        ("on_epoch_begin", 1, 0, 2), ("on_batch_end", 1, 1, 3), ("on_batch_end", 1, 2, 4),
        ("on_epoch_end", 2, 0, 4),
        ("on_fit_end", 2, 0, 4),
    ]  # fmt: skip


def test_the_trainers_own_callbacks_are_called_as_well(make_trainer, data):
    trainer, told = make_trainer(), []
    trainer.callbacks.append(LambdaCallback(on_fit_begin=lambda t: told.append("own")))
    run(trainer, data, 1, LambdaCallback(on_fit_begin=lambda t: told.append("given")))
    assert told == ["own", "given"]


def test_a_wrong_moment_is_refused():
    with pytest.raises(ArgumentError, match=r"unknown moment 'on_epoch_ends'\. Did you mean 'on_epoch_end'"):
        LambdaCallback(on_epoch_ends=print)


@pytest.mark.parametrize("wrong", [EarlyStopping, print])
def test_what_is_no_callback_is_refused(make_trainer, data, wrong):
    with pytest.raises(ArgumentError, match=rf"{wrong.__name__} is no Callback object.*: {wrong.__name__}\("):
        run(make_trainer(), data, 1, wrong)


def test_a_single_callback_needs_no_list(make_trainer, data):
    assert len(make_trainer().fit(*data, epochs=9, callbacks=EarlyStopping("loss", 1, 9.0), verbose=0)) == 2


# --- early stopping ---


@pytest.mark.parametrize(
    "monitor, values, settings, stops_after, best",
    [
        ("my_loss", [5, 4, 3, 3.5, 3.4, 1], {"patience": 2}, 5, 3),
        ("my_loss", [5, 4, 3, 3.5, 2, 1], {"patience": 2}, 6, 6),
        ("score", [0.1, 0.5, 0.4, 0.3], {"patience": 2}, 4, 2),
        ("score", [5, 4, 3], {"patience": 2, "mode": "min"}, 3, 3),
        ("my_loss", [5, 4.95, 4.91, 4.8], {"patience": 2, "min_delta": 0.1}, 3, 1),
        ("my_loss", [math.nan, 3, math.nan, 4], {"patience": 2}, 4, 2),
    ],
)
def test_early_stopping_stops_and_brings_back_the_best_weights(
    make_trainer, data, same_weights, monitor, values, settings, stops_after, best
):
    trainer, script = make_trainer(), Script(monitor, values)
    history = run(trainer, data, len(values), script, EarlyStopping(monitor, **settings))
    assert len(history) == stops_after
    assert same_weights(trainer.model, script.weights[best - 1])


def test_the_best_weights_are_a_copy(make_trainer, data, same_weights):
    trainer, script = make_trainer(), Script("score", [9, 1, 1])
    stopping = EarlyStopping("score", patience=5)
    run(trainer, data, 3, script, stopping)
    assert not same_weights(
        script.weights[0], script.weights[2]
    )  # training changed them after the best epoch
    assert same_weights(trainer.model, script.weights[0])


def test_early_stopping_may_keep_the_last_weights_and_starts_afresh(make_trainer, data, same_weights):
    trainer, script = make_trainer(), Script("score", [9, 1, 1, 1])
    stopping = EarlyStopping("score", patience=2, restore_best=False)
    assert len(run(trainer, data, 4, script, stopping)) == 3
    assert same_weights(trainer.model, script.weights[2])
    assert len(run(trainer, data, 4, Script("score", [1, 2, 3, 4]), stopping)) == 4


def test_what_is_monitored_must_be_there(make_trainer, data, tmp_path):
    with pytest.raises(ArgumentError, match=r"unknown number to monitor 'los'.*'loss'"):
        run(make_trainer(), data, 1, EarlyStopping("los"))
    trainer = make_trainer()
    for callback in (EarlyStopping(), Checkpoint(tmp_path / "run", keep_best="val_accuracy")):
        with pytest.raises(ArgumentError, match=r"no 'val_\w+' to monitor: fit\(\) has no validation_data"):
            run(trainer, data, 1, callback)
    assert trainer.steps == 0
    with pytest.raises(ArgumentError, match="unknown mode 'smallest'"):
        EarlyStopping("loss", mode="smallest")
    with pytest.raises(ArgumentError, match="patience=0: give the number of epochs to wait"):
        EarlyStopping("loss", patience=0)


# --- logs ---


def test_the_csv_and_json_logs_hold_the_history(make_trainer, data, tmp_path):
    script = Script("extra", [1, 2])
    history = run(
        make_trainer(),
        data,
        2,
        script,
        CSVLogger(tmp_path / "new" / "log.csv"),
        JSONLogger(tmp_path / "log.json"),
    )
    assert History.load(tmp_path / "log.json") == history
    with open(tmp_path / "new" / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [float(row["loss"]) for row in rows] == history["loss"]
    assert list(rows[0]) == ["epoch", "loss", "accuracy", "extra"]


# --- checkpoints by number ---


def test_checkpoints_come_every_so_many_epochs_and_at_the_end(make_trainer, data, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(
        "tinynet.training.callbacks.save_checkpoint",
        lambda path, trainer: saved.append((path.name, trainer.epoch)),
    )
    run(make_trainer(), data, 5, Checkpoint(tmp_path / "run.safetensors", every=2))
    assert saved == [("run.safetensors", 2), ("run.safetensors", 4), ("run.safetensors", 5)]


def test_the_best_checkpoint_is_kept_beside_the_last_one(make_trainer, data, same_weights, tmp_path):
    trainer, script = make_trainer(), Script("val_score", [1, 3, 2])
    path = tmp_path / "new" / "run.safetensors"
    run(trainer, data, 3, script, Checkpoint(path, keep_best="val_score"))
    for name, epoch in (("run.best.safetensors", 2), ("run.safetensors", 3)):
        load_checkpoint(path.with_name(name), trainer)
        assert trainer.epoch == epoch and same_weights(trainer.model, script.weights[epoch - 1])


def test_wrong_numbers_of_epochs_and_units_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match="every=0: give a number of epochs, at least 1"):
        Checkpoint(tmp_path / "x", every=0)
    with pytest.raises(ArgumentError, match="unknown unit 'epochs'"):
        LearningRate(lambda optimizer, steps: None, every="epochs")


def test_a_read_only_folder_stops_fit_before_it_starts(make_trainer, data, tmp_path, monkeypatch):
    trainer = make_trainer()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(
        CheckpointError, match=f"nothing can be written into the folder {tmp_path}: it is read"
    ):
        trainer.fit(*data, checkpoint=tmp_path / "run.safetensors", verbose=0)
    assert trainer.steps == 0


def test_a_folder_that_cannot_be_made_stops_fit_before_it_starts(make_trainer, data, tmp_path):
    (tmp_path / "file").write_text("")
    trainer = make_trainer()
    with pytest.raises(CheckpointError, match=r"cannot create the folder .*file.sub: Not a directory"):
        trainer.fit(*data, checkpoint=tmp_path / "file" / "sub" / "run.safetensors", verbose=0)
    assert trainer.steps == 0


def test_a_failing_callback_ends_fit_and_restores_the_mode(make_trainer, data):
    trainer = make_trainer()
    trainer.model.eval()
    with pytest.raises(ZeroDivisionError):
        run(trainer, data, 1, LambdaCallback(on_batch_end=lambda t: 1 // 0))
    assert not trainer.model.training and np.isfinite(trainer.batch_loss)
