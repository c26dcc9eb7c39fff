"""Checkpoint files: what does not fit, what cannot be written, and processes that are killed."""

import errno
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tinynet import nn, optim
from tinynet.errors import CheckpointError
from tinynet.files import read_arrays, write_arrays
from tinynet.training import Trainer, load_checkpoint, save_checkpoint

# --- what does not fit ---


@pytest.fixture
def saved(make_trainer, data, tmp_path):
    """A checkpoint, and the trainer that made it."""
    trainer = make_trainer()
    trainer.fit(*data, epochs=2, checkpoint=tmp_path / "run.safetensors", verbose=0)
    return tmp_path / "run.safetensors", trainer


@pytest.fixture
def refused(state_of, same_weights):
    """A function: loading raises CheckpointError with a text, and nothing has changed."""

    def check(path, trainer, text):
        before = state_of(trainer)
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path, trainer)
        assert text in str(caught.value) and path.name in str(caught.value)
        assert same_weights(state_of(trainer), before)

    return check


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(saved, refused, share):
    path, trainer = saved
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(path, trainer, "no complete safetensors file")


def test_no_changed_byte_brings_wrong_numbers_in(saved, state_of, same_weights):
    path, trainer = saved
    content, before = path.read_bytes(), state_of(trainer)
    refusals = 0
    for place in np.random.default_rng(0).integers(0, len(content), 80):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(place) % 8
        path.write_bytes(damaged)
        try:
            load_checkpoint(path, trainer)  # where only the name of the checksum was hit, the rest is right
        except CheckpointError:
            refusals += 1
        assert same_weights(state_of(trainer), before)
    assert refusals >= 75


def test_changed_numbers_in_the_metadata_are_noticed(saved, refused):
    path, trainer = saved
    arrays, metadata = read_arrays(path)
    write_arrays(path, arrays, metadata | {"state": metadata["state"].replace('"steps": 6', '"steps": 7')})
    refused(path, trainer, "is damaged: its checksum does not fit")


def test_files_of_another_kind_or_version_are_refused(saved, refused):
    path, trainer = saved
    arrays, metadata = read_arrays(path)
    write_arrays(path, arrays, metadata | {"version": "2"})
    refused(path, trainer, "is a checkpoint of version 2; this tinynet reads version 1")
    trainer.model.save_weights(path)
    refused(path, trainer, "no checkpoint of a training run. If it holds weights alone: model.load_weights")
    path.write_text("epoch,loss\n1,0.5\n")
    refused(path, trainer, "damaged, truncated, or of another kind")
    path.unlink()
    refused(path, trainer, "there is no file")


def test_another_architecture_or_optimiser_is_refused(saved, refused, make_trainer):
    path, _ = saved
    wide = Trainer(
        nn.Sequential(nn.Dense(9), nn.BatchNorm(), nn.Dropout(0.2), nn.Dense(3)).build((6,)), "adam", "mse"
    )
    refused(path, wide, "0.weight: (6, 8) in the weights, (6, 9) in the model")
    deep = Trainer(nn.Sequential(*wide.model.children(), nn.Dense(3)).build((6,)), "adam", "mse")
    refused(path, deep, "missing: 4.weight, 4.bias")
    other = make_trainer(optimizer="sgd")
    other.model.build((6,))
    refused(path, other, "was saved with the optimiser Adam, but this training uses SGD")


def test_an_optimiser_of_other_parameters_is_refused_and_the_model_stays(saved, refused, make_trainer):
    path, _ = saved
    model = make_trainer(seed=8).model.build((6,))
    last = Trainer(model, optim.Adam(list(model.children())[-1].parameters()), "mse")
    refused(path, last, "mean.0 has shape (6, 8), its parameter (8, 3)")


def test_an_unbuilt_model_is_refused_by_hand_and_built_by_fit(saved, make_trainer, data):
    path, trainer = saved
    with pytest.raises(
        CheckpointError, match=r"build the model first.*or hand the path to fit\(resume=\.\.\.\)"
    ):
        load_checkpoint(path, make_trainer())
    with pytest.raises(CheckpointError, match="nothing to save yet"):
        save_checkpoint(path, make_trainer())
    assert make_trainer().fit(*data, epochs=2, resume=path, verbose=0) == trainer.history


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


def test_weights_alone_are_read_from_a_checkpoint_too(make_trainer, data, same_weights, tmp_path):
    trainer, twin = make_trainer(), make_trainer(seed=4).model.build((6,))
    trainer.fit(*data, checkpoint=tmp_path / "run.safetensors", verbose=0)
    assert twin.load_weights(tmp_path / "run.safetensors").complete
    assert same_weights(trainer.model, twin)
