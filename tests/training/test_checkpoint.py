"""Checkpoints: going on bit for bit, files that do not fit, full disks, killed processes."""

import os
import signal

import pytest

import tinynet as tn
from tinynet import nn, optim
from tinynet.data import digits
from tinynet.errors import CheckpointError
from tinynet.files import read_arrays
from tinynet.training import (
    Callback,
    Checkpoint,
    EarlyStopping,
    LambdaCallback,
    LearningRate,
    Trainer,
    TrainingInterrupted,
    load_checkpoint,
    save_checkpoint,
)


def cnn(optimizer="adam"):
    model = nn.Sequential(
        nn.Conv2D(4, 3, activation="relu"),
        nn.BatchNorm(),
        nn.MaxPool2D(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Dense(10),
    )
    return Trainer.compiled(model, optimizer, "cross_entropy", ["accuracy"], lr=0.01)


def train(epochs, path=None, resume=None, seed=0, *, every="batch", callbacks=(), x=None):
    """Adam, a cosine per batch, dropout, batch normalisation, digits drawn afresh, shuffled."""
    tn.seed(seed)
    trainer = cnn()
    batches = 5 * 4
    schedule = LearningRate(lambda optimizer, _: optim.CosineLR(optimizer, batches, warmup=0.2), every)
    trainer.fit(
        digits(160, seed=2) if x is None else x, epochs=epochs, batch_size=32, schedule=schedule, verbose=0,
        validation_data=digits(32, seed=9, split="test"), checkpoint=path, resume=resume, callbacks=callbacks,
    )  # fmt: skip
    return trainer


@pytest.fixture(scope="module")
def four_epochs(state_of):
    return state_of(train(4))


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_four_epochs_are_two_a_stop_and_two_bit_for_bit(
    state_of, stop_after, four_epochs, same_weights, tmp_path
):
    path = tmp_path / "run.safetensors"
    train(stop_after, path)
    resumed = train(4, resume=path, seed=12345)  # a new process would have another random state, too
    assert same_weights(state_of(resumed), four_epochs)


def test_without_the_checkpoint_it_is_another_training(state_of, four_epochs, same_weights):
    assert not same_weights(state_of(train(4, seed=12345)), four_epochs)


class CtrlC(Callback):
    """Presses Ctrl-C after a batch, or when the validation begins."""

    def __init__(self, after):
        self.after = after

    def on_batch_end(self, trainer):
        if trainer.steps == self.after:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("after", [1, 7, 10])
def test_after_ctrl_c_in_the_middle_of_an_epoch_it_goes_on_bit_for_bit(
    state_of, after, four_epochs, same_weights, tmp_path
):
    """Batch 10 is the last of its epoch: the signal comes before its validation."""
    path = tmp_path / "run.safetensors"
    with pytest.raises(TrainingInterrupted):
        train(4, path, callbacks=[CtrlC(after)])
    resumed = state_of(train(4, path, resume=path, seed=12345))
    history = resumed.pop("history")
    assert same_weights(resumed, {k: v for k, v in four_epochs.items() if k != "history"})
    if after == 10:  # the numbers of the epoch were complete; otherwise its accuracy counts the rest of it
        assert history == four_epochs["history"]


def test_losses_of_an_interrupted_epoch_count_all_of_its_batches(four_epochs, tmp_path):
    path = tmp_path / "run.safetensors"
    with pytest.raises(TrainingInterrupted):
        train(4, path, callbacks=[CtrlC(7)])
    resumed = train(4, resume=path)
    assert f"'loss': {resumed.history['loss'][1]}, 'acc" in four_epochs["history"]


def test_early_stopping_and_the_best_checkpoint_go_on_as_well(tmp_path, same_weights, make_trainer, data):
    """The best epoch came before the stop: its weights, its number and the waiting are in the checkpoint."""
    scores = [5, 9, 6, 7, 8, 8]

    def run(epochs, folder, resume=None):
        def put_score(trainer):
            trainer.history[-1]["score"] = scores[trainer.epoch - 1]

        script = LambdaCallback(on_epoch_end=put_score)
        path = folder / "run.safetensors"
        callbacks = [script, EarlyStopping("score", 3), Checkpoint(path, keep_best="score")]
        trainer = make_trainer()
        trainer.fit(*data, epochs=epochs, callbacks=callbacks, resume=resume, verbose=0)
        return trainer

    whole = run(6, tmp_path / "a")
    run(3, tmp_path / "b")
    best = (tmp_path / "b" / "run.best.safetensors").read_bytes()
    resumed = run(6, tmp_path / "b", resume=tmp_path / "b" / "run.safetensors")
    assert len(whole.history) == 5 and resumed.history == whole.history
    assert same_weights(whole.model, resumed.model)
    assert (tmp_path / "b" / "run.best.safetensors").read_bytes() == best


def test_a_finished_training_that_is_resumed_returns_its_history(
    state_of, tmp_path, four_epochs, same_weights
):
    path = tmp_path / "run.safetensors"
    train(4, path)
    again = train(4, resume=path, seed=1)
    assert same_weights(state_of(again), four_epochs)


def test_epochs_counted_per_epoch_schedule_and_the_rate_itself_are_restored(tmp_path):
    path = tmp_path / "run.safetensors"
    rates = train(4, every="epoch").history["lr"]
    train(2, path, every="epoch")
    assert train(4, resume=path, every="epoch").history["lr"] == rates


def test_save_and_load_by_hand(make_trainer, data, same_weights, tmp_path):
    trainer, other = make_trainer(), make_trainer(seed=4)
    trainer.fit(*data, epochs=2, verbose=0)
    save_checkpoint(tmp_path / "run.safetensors", trainer)
    stream = tn.random.get_state()
    other.model.build((6,))
    load_checkpoint(tmp_path / "run.safetensors", other)
    assert same_weights(trainer.model, other.model) and trainer.history == other.history
    assert same_weights(trainer.optimizer.state_dict(), other.optimizer.state_dict())
    assert tn.random.get_state() == stream and other.epoch == 2


def test_a_checkpoint_is_a_safetensors_file_whose_names_can_be_read(make_trainer, data, tmp_path):
    path = tmp_path / "run.safetensors"
    make_trainer().fit(*data, checkpoint=path, verbose=0)
    arrays, metadata = read_arrays(path)
    assert {"model/0.weight", "model/1.running_mean", "optimizer/mean.0"} <= set(arrays)
    assert metadata["format"] == "tinynet checkpoint" and metadata["version"] == "1"


def test_a_second_fit_is_resumed_with_the_data_of_its_own_passes(make_trainer, same_weights, tmp_path):
    """Digits drawn afresh: the second fit sees passes 2 to 5, and so does the one that goes on with it."""

    def run(trainer, epochs, **settings):
        trainer.fit(digits(64, seed=2), epochs=epochs, verbose=0, **settings)

    whole, stopped, fresh = cnn(), cnn(), cnn()
    path = tmp_path / "run.safetensors"
    for trainer, epochs in ((whole, 4), (stopped, 2)):
        tn.seed(0)
        trainer.model.build((28, 28, 1))
        run(trainer, 2)
        run(trainer, epochs, checkpoint=path)
    run(fresh, 4, resume=path)
    assert same_weights(fresh.model, whole.model)


def test_the_middle_of_an_epoch_needs_the_same_batches(make_trainer, data, tmp_path):
    path = tmp_path / "run.safetensors"
    with pytest.raises(TrainingInterrupted):
        make_trainer().fit(*data, batch_size=32, callbacks=[CtrlC(2)], checkpoint=path, verbose=0)
    with pytest.raises(CheckpointError, match="stopped at batch 2 of 3, but an epoch has 6 batches now"):
        make_trainer().fit(*data, batch_size=16, resume=path, verbose=0)
