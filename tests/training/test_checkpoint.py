"""Checkpoints: going on bit for bit, files that do not fit, full disks, killed processes."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn, optim
from tinynet.data import digits
from tinynet.errors import CheckpointError
from tinynet.files import read_arrays, write_arrays
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


def state_of(trainer):
    """Everything that a training leaves behind."""
    return {
        **{f"model.{k}": v for k, v in trainer.model.state_dict().items()},
        **{f"optimizer.{k}": np.asarray(v) for k, v in trainer.optimizer.state_dict().items()},
        "random": str(tn.random.get_state()),
        "history": str(trainer.history.epochs),
    }


@pytest.fixture(scope="module")
def four_epochs():
    return state_of(train(4))


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_four_epochs_are_two_a_stop_and_two_bit_for_bit(stop_after, four_epochs, same_weights, tmp_path):
    path = tmp_path / "run.safetensors"
    train(stop_after, path)
    resumed = train(4, resume=path, seed=12345)  # a new process would have another random state, too
    assert same_weights(state_of(resumed), four_epochs)


def test_without_the_checkpoint_it_is_another_training(four_epochs, same_weights):
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
    after, four_epochs, same_weights, tmp_path
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


def test_a_finished_training_that_is_resumed_returns_its_history(tmp_path, four_epochs, same_weights):
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


# --- what does not fit ---


@pytest.fixture
def saved(make_trainer, data, tmp_path):
    """A checkpoint, and the trainer that made it."""
    trainer = make_trainer()
    trainer.fit(*data, epochs=2, checkpoint=tmp_path / "run.safetensors", verbose=0)
    return tmp_path / "run.safetensors", trainer


def refused(path, trainer, text, same_weights):
    """Loading raises CheckpointError with ``text``, and nothing has changed."""
    before = state_of(trainer)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, trainer)
    assert text in str(caught.value) and path.name in str(caught.value)
    assert same_weights(state_of(trainer), before)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(saved, same_weights, share):
    path, trainer = saved
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(path, trainer, "no complete safetensors file", same_weights)


def test_any_changed_byte_is_noticed(saved, same_weights):
    path, trainer = saved
    content = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(content), 60):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(place) % 8
        path.write_bytes(damaged)
        before = state_of(trainer)
        with pytest.raises(CheckpointError):
            load_checkpoint(path, trainer)
        assert same_weights(state_of(trainer), before)
    path.write_bytes(content)
    load_checkpoint(path, trainer)


def test_changed_numbers_in_the_metadata_are_noticed(saved, same_weights):
    path, trainer = saved
    arrays, metadata = read_arrays(path)
    write_arrays(path, arrays, metadata | {"state": metadata["state"].replace('"steps": 6', '"steps": 7')})
    refused(path, trainer, "is damaged: its checksum does not fit", same_weights)


def test_files_of_another_kind_or_version_are_refused(saved, same_weights):
    path, trainer = saved
    arrays, metadata = read_arrays(path)
    write_arrays(path, arrays, metadata | {"version": "2"})
    refused(path, trainer, "is a checkpoint of version 2; this tinynet reads version 1", same_weights)
    trainer.model.save_weights(path)
    refused(
        path,
        trainer,
        "no checkpoint of a training run. If it holds weights alone: model.load_weights",
        same_weights,
    )
    path.write_text("epoch,loss\n1,0.5\n")
    refused(path, trainer, "damaged, truncated, or of another kind", same_weights)
    path.unlink()
    refused(path, trainer, "there is no file", same_weights)


def test_another_architecture_or_optimiser_is_refused(saved, same_weights, make_trainer):
    path, _ = saved
    wide = Trainer(
        nn.Sequential(nn.Dense(9), nn.BatchNorm(), nn.Dropout(0.2), nn.Dense(3)).build((6,)), "adam", "mse"
    )
    refused(path, wide, "0.weight: (6, 8) in the weights, (6, 9) in the model", same_weights)
    deep = Trainer(nn.Sequential(*wide.model.children(), nn.Dense(3)).build((6,)), "adam", "mse")
    refused(path, deep, "missing: 4.weight, 4.bias", same_weights)
    other = make_trainer(optimizer="sgd")
    other.model.build((6,))
    refused(path, other, "was saved with the optimiser Adam, but this training uses SGD", same_weights)


def test_an_unbuilt_model_is_refused_by_hand_and_built_by_fit(saved, make_trainer, data):
    path, trainer = saved
    with pytest.raises(
        CheckpointError, match=r"build the model first.*or hand the path to fit\(resume=\.\.\.\)"
    ):
        load_checkpoint(path, make_trainer())
    with pytest.raises(CheckpointError, match="nothing to save yet"):
        save_checkpoint(path, make_trainer())
    assert make_trainer().fit(*data, epochs=2, resume=path, verbose=0) == trainer.history


def test_the_middle_of_an_epoch_needs_the_same_batches(make_trainer, data, tmp_path):
    path = tmp_path / "run.safetensors"
    with pytest.raises(TrainingInterrupted):
        make_trainer().fit(*data, batch_size=32, callbacks=[CtrlC(2)], checkpoint=path, verbose=0)
    with pytest.raises(CheckpointError, match="stopped at batch 2 of 3, but an epoch has 6 batches now"):
        make_trainer().fit(*data, batch_size=16, resume=path, verbose=0)


# --- what goes wrong while saving ---


@pytest.fixture
def open_folder():
    """A folder that every user may enter, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@contextmanager
def unwritable(folder: Path):
    """The folder can be read but not written to; root, who may do anything, is nobody for a while."""
    user = os.geteuid()
    folder.chmod(0o555)
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(0o755)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs the users of a POSIX system")
def test_a_read_only_folder_ends_fit_and_nothing_is_lost(make_trainer, data, open_folder, same_weights):
    trainer, path = make_trainer(), open_folder / "run.safetensors"
    trainer.fit(*data, epochs=1, checkpoint=path, verbose=0)
    before = path.read_bytes()
    text = r"cannot write .*: this user may not write there\. What was there before is unchanged"
    with unwritable(open_folder), pytest.raises(CheckpointError, match=text):
        trainer.fit(*data, epochs=3, checkpoint=path, verbose=0)
    assert path.read_bytes() == before and os.listdir(open_folder) == ["run.safetensors"]
    assert len(trainer.history) == 1
    save_checkpoint(path, trainer)  # the state in memory is whole
    other = make_trainer()
    other.model.build((6,))
    load_checkpoint(path, other)
    assert same_weights(other.model, trainer.model)


@pytest.mark.parametrize("step", ["write", "fsync"])
def test_a_full_disk_ends_fit_and_nothing_is_lost(make_trainer, data, tmp_path, monkeypatch, step):
    trainer, path = make_trainer(), tmp_path / "run.safetensors"
    trainer.fit(*data, epochs=1, checkpoint=path, verbose=0)
    before = path.read_bytes()

    def full(*ignored):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(
        *{"write": ("tinynet.files._write_and_sync", full), "fsync": ("os.fsync", full)}[step]
    )
    with pytest.raises(
        CheckpointError, match=r"cannot write .*: the disk is full\. What was there .*unchanged"
    ):
        trainer.fit(*data, epochs=3, checkpoint=path, verbose=0)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["run.safetensors"]
    assert len(trainer.history) == 1


def test_a_real_limit_on_the_size_of_files(tmp_path):
    """The operating system itself refuses the write in the middle of the file."""
    resource = pytest.importorskip("resource", reason="limits are a matter of POSIX systems")
    program = f"""if True:
        import os, sys, resource, numpy as np
        from tinynet import nn
        from tinynet.errors import CheckpointError
        from tinynet.training import Trainer, save_checkpoint
        path = sys.argv[1]
        trainer = Trainer(nn.Sequential(nn.Dense(100)).build((100,)), "sgd", "mse")
        save_checkpoint(path, trainer)
        before = open(path, "rb").read()
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, {resource.RLIM_INFINITY}))
        try:
            save_checkpoint(path, trainer)
        except CheckpointError as error:
            print(error)
        assert open(path, "rb").read() == before and os.listdir(os.path.dirname(path)) == ["run.safetensors"]
    """
    path = tmp_path / "run.safetensors"
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (
        "cannot write" in done.stdout and "File too large. What was there before is unchanged." in done.stdout
    )


KILLED = '''
import os, random, signal, sys, time
import numpy as np
from tinynet import nn
from tinynet.training import History, Trainer, load_checkpoint, save_checkpoint

folder, times = sys.argv[1], 30
path = os.path.join(folder, "run.safetensors")


def trainer():
    return Trainer(nn.Sequential(nn.Dense(400), nn.Dense(400)).build((400,)), "sgd", "mse")


def fill(t, number):
    """The same number everywhere, so that a mixture of two checkpoints shows."""
    for p in t.model.parameters():
        p.data[...] = number
    t.epoch = t.steps = number
    t.history = History([{"loss": number}])


def save_for_ever(t, number):
    while True:
        number += 1
        fill(t, number)
        save_checkpoint(path, t)


writer, reader, leftovers, last = trainer(), trainer(), 0, 0
fill(writer, 0)
save_checkpoint(path, writer)
dice = random.Random(0)
for _ in range(times):
    child = os.fork()
    if child == 0:
        save_for_ever(writer, last)
    time.sleep(dice.uniform(0.001, 0.06))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    leftovers += len(os.listdir(folder)) > 1
    assert len(os.listdir(folder)) <= 2, os.listdir(folder)
    load_checkpoint(path, reader)
    assert reader.epoch == reader.steps == reader.history["loss"][0] >= last
    assert all((p.data == reader.epoch).all() for p in reader.model.parameters())
    last = reader.epoch
save_checkpoint(path, writer)
assert os.listdir(folder) == ["run.safetensors"], os.listdir(folder)
print(times, leftovers, last)
'''


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_killed_thirty_times_while_saving_leaves_a_whole_checkpoint(tmp_path):
    """Real SIGKILLs at random moments, most of them in the middle of a write."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kills, in_the_middle, last = map(int, done.stdout.split())
    assert kills == 30 and in_the_middle >= 3 and last > 0
