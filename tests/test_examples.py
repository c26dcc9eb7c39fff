"""The examples: short enough to project, and what they print, write and do when something is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinynet import backend, cli, runs
from tinynet.errors import DeviceError
from tinynet.examples import cpu_vs_gpu, train_mnist, train_rnn
from tinynet.training import History

FOLDER = Path(__file__).resolve().parents[1] / "examples"
FILES = {
    "checkpoint.safetensors",
    "curves.png",
    "history.json",
    "mistakes.png",
    "run.json",
    "weights.safetensors",
}


def run(example, *arguments):
    """Exit code of an example with these arguments."""
    return cli.program(example.main, example.options(), [str(a) for a in arguments])


def weights(folder):
    return runs.load_run(folder).model.state_dict()


def same(one, two):
    return all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("[a-z]*.py")), ids=lambda p: p.name)
def test_an_example_fits_on_the_wall(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 100
    assert max(map(len, lines)) <= 110


@pytest.mark.parametrize("path", sorted(FOLDER.glob("train_*.py")), ids=lambda p: p.name)
def test_an_example_runs_as_a_script_from_anywhere(path, tmp_path):
    small = [sys.executable, path, "--samples", "300", "--epochs", "1"]
    done = subprocess.run(small, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "held-out digits: accuracy" in done.stdout
    assert runs.load_run(next((tmp_path / "runs").iterdir()))


# --- what it prints and writes ---


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a short training, with its JSON."""
    pytest.importorskip("matplotlib", reason="curves need matplotlib")
    folder = tmp_path_factory.mktemp("example") / "run"
    arguments = ["--samples", 2000, "--epochs", 3, "--out", folder, "--json", folder.parent / "out.json"]
    assert run(train_mnist, *arguments) == 0
    return folder


def test_the_run_folder_holds_everything(trained):
    assert {path.name for path in trained.iterdir()} == FILES


def test_the_json_holds_the_figures(trained):
    facts = json.loads((trained.parent / "out.json").read_text())
    assert facts["parameters"] == 103_018
    assert (facts["data"], facts["device"], facts["epochs"]) == ("digits", "cpu", 3)
    assert facts["train_seconds"] > 0
    assert facts["train_samples_per_second"] == pytest.approx(6000 / facts["train_seconds"])
    assert 0.4 < facts["test_accuracy"] <= 1  # after 47 batches; guessing gives 0.1
    assert facts.items() <= json.loads((trained / "run.json").read_text()).items()


def test_the_history_has_training_and_held_out_figures(trained):
    history = History.load(trained / "history.json")
    assert len(history) == 3
    assert set(history.columns) == {"loss", "accuracy", "val_loss", "val_accuracy", "lr"}
    assert history["loss"][2] < history["loss"][0]


def test_the_rate_rises_and_falls_to_0(trained):
    rates = History.load(trained / "history.json")["lr"]
    assert rates[0] > rates[1] > rates[2]
    assert rates[2] < 1e-5


@pytest.mark.parametrize("name", ["mistakes.png", "curves.png"])
def test_the_pictures_can_be_opened(trained, name):
    assert Image.open(trained / name).size > (300, 300)


def test_it_prints_the_summary_the_epochs_and_the_confusion(capsys, tmp_path):
    assert run(train_mnist, "--samples", 300, "--epochs", 2, "--out", tmp_path) == 0
    out = capsys.readouterr().out
    assert "total                          103,018" in out
    assert out.count("val_accuracy") == 2
    assert "is\\read" in out
    assert f"in {tmp_path}: checkpoint.safetensors, curves.png" in out


def test_the_json_can_go_to_the_screen(capsys, tmp_path):
    run(train_mnist, "--samples", 200, "--epochs", 1, "--out", tmp_path, "--json", "-")
    out = capsys.readouterr().out
    assert json.loads(out[out.index("\n{") :])["epochs"] == 1


# --- the same again, and going on ---


def test_the_same_seed_gives_the_same_weights_bit_for_bit(tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        run(train_mnist, "--samples", 400, "--epochs", 2, "--seed", seed, "--out", tmp_path / name)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


CTRL_C_AT_BATCH_7 = """
import os, signal, sys
from tinynet import backend, cli, runs
from tinynet.errors import DeviceError
from tinynet.examples import {example} as example

class Interrupting(runs.Recorder):
    def on_batch_end(self, trainer):
        if trainer.steps == 7:
            os.kill(os.getpid(), signal.SIGINT)

runs.Recorder = Interrupting
sys.exit(cli.program(example.main, example.options()))
"""


@pytest.mark.parametrize("example", [train_mnist, train_rnn], ids=["train_mnist", "train_rnn"])
def test_ctrl_c_keeps_everything_exits_with_130_and_can_be_resumed(example, tmp_path):
    script = CTRL_C_AT_BATCH_7.format(example=example.__name__.rpartition(".")[2])
    options = ["--samples", "640", "--epochs", "3"]  # 5 batches an epoch
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    command = [sys.executable, "-c", script, *options, "--out", str(stopped)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 130, done.stderr
    assert "interrupted in epoch 2 after 2 of 5 batches; the weights are kept" in done.stderr
    assert "Traceback" not in done.stderr
    assert f"kept in {stopped}; the same command with --resume goes on" in done.stdout
    assert len(History.load(stopped / "history.json")) == 1
    assert runs.load_run(stopped).facts["epochs"] == 1

    assert run(example, *options, "--out", stopped, "--resume") == 0
    assert run(example, *options, "--out", whole) == 0
    assert same(weights(stopped), weights(whole))
    losses = [History.load(folder / "history.json")["val_loss"] for folder in (stopped, whole)]
    assert losses[0] == losses[1]


# --- other data, nets and optimisers ---


def test_the_real_mnist(tmp_path, shared_data):
    folder = shared_data / "mnist"
    options = ["--data", folder, "--samples", 1500, "--epochs", 2, "--out", tmp_path]
    assert run(train_mnist, *options) == 0
    facts = runs.load_run(tmp_path).facts
    assert facts["data"] == str(folder)
    assert facts["test_n"] == 1500
    assert facts["test_accuracy"] > 0.5


def test_the_wide_net_with_augmentation(tmp_path):
    options = ["--net", "wide", "--augment", "--optimizer", "sgd", "--samples", 200, "--epochs", 1]
    assert run(train_mnist, *options, "--out", tmp_path) == 0
    assert runs.load_run(tmp_path).facts["model"] == "wide_cnn"


def test_the_recurrent_net_learns(tmp_path):
    assert run(train_rnn, "--samples", 2000, "--epochs", 3, "--out", tmp_path) == 0
    facts = runs.load_run(tmp_path).facts
    assert (facts["model"], facts["parameters"]) == ("row_rnn", 21_386)
    assert facts["test_accuracy"] > 0.2  # it is slower to learn than the convolutional net


# --- what a user can get wrong ---


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--optimizer", "adm"], "unknown optimizer 'adm'. Did you mean 'adam' or 'adamw'?"),
        (["--data", "nowhere"], "train-images-idx3-ubyte.gz is not in nowhere (there is no such folder)"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--lr", "-1"], "lr=-1.0: give a number of at least 0"),
        (["--seed", "-1"], "seed=-1: a seed is an integer of at least 0"),
        (["--resume"], "holds no checkpoint.safetensors"),
        (["--start", "nowhere"], "nowhere does not exist. A training makes one"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_code_2(options, text, capsys, tmp_path):
    assert run(train_mnist, "--samples", 200, "--out", tmp_path / "run", *options) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert text in err
    assert not (tmp_path / "run" / "weights.safetensors").exists()


@pytest.mark.parametrize("example", [train_mnist, train_rnn])
@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--epochs", "-1"], "argument --epochs: '-1' is no whole number of at least 1"),
        (["--samples", "0"], "argument --samples: '0' is no whole number of at least 1"),
        (["--json", "no/such/results.json"], "argument --json: 'no/such/results.json': the folder does not"),
    ],
)
def test_what_cannot_work_is_refused_before_the_work_begins(example, options, text, capsys, tmp_path):
    with pytest.raises(SystemExit, match="2"):
        run(example, "--out", tmp_path / "run", *options)
    assert text in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_nothing_to_resume_leaves_no_folder(tmp_path):
    assert run(train_mnist, "--samples", 200, "--out", tmp_path / "run", "--resume") == 2
    assert not (tmp_path / "run").exists()


def test_a_run_begins_with_the_weights_of_another(tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    assert run(train_mnist, "--samples", 300, "--epochs", 1, "--out", first) == 0
    further = ["--samples", 300, "--epochs", 1, "--lr", 0, "--out", second, "--start", first]
    assert run(train_mnist, *further) == 0  # at a learning rate of 0 they stay as they are
    assert same(weights(first), weights(second))
    assert run(train_mnist, *further, "--net", "wide") == 2
    assert "shape" in capsys.readouterr().err
    assert run(train_mnist, *further, "--out", first) == 2
    assert f"would write over {first}" in capsys.readouterr().err


def test_a_run_folder_that_cannot_be_made(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert run(train_mnist, "--samples", 200, "--out", tmp_path / "file") == 2
    assert capsys.readouterr().err.startswith("error: cannot create the folder")


def test_a_training_that_diverges_exits_with_1_and_names_the_rate(capsys, tmp_path):
    assert run(train_mnist, "--samples", 640, "--lr", "1e30", "--out", tmp_path) == 1
    err = capsys.readouterr().err
    assert "the loss is" in err
    assert "learning rate" in err


# --- without a GPU, and against one ---


@pytest.fixture
def no_gpu(monkeypatch):
    """A machine without a GPU, also where there is one."""

    def missing():
        raise DeviceError("no NVIDIA driver is loaded")

    monkeypatch.setattr(backend, "require_cuda", missing)


def test_a_missing_gpu_is_one_line_before_anything_is_made(no_gpu, capsys, tmp_path):
    assert run(train_mnist, "--device", "cuda", "--out", tmp_path / "run") == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "error: no NVIDIA driver is loaded\n")
    assert not (tmp_path / "run").exists()


SMALL = ["--batch", 2, "--side", 8, "--channels", 2, "--seconds", 0.01]


def test_one_convolution_on_every_backend(no_gpu, capsys, tmp_path):
    pytest.importorskip("matplotlib", reason="bars need matplotlib")
    files = ["--picture", tmp_path / "bars.png", "--json", tmp_path / "out.json"]
    assert run(cpu_vs_gpu, *SMALL, *files) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["backend", "pictures", "ms", "GFLOP/s"]
    assert [line[:12].strip() for line in lines] == list(cpu_vs_gpu.BACKENDS)
    assert lines[0][13:].startswith("1 of 8x8x2") and lines[1][13:].startswith("2 of 8x8x2")
    assert lines[3].endswith(" no NVIDIA driver is loaded")
    rows = json.loads((tmp_path / "out.json").read_text())
    for row in rows[:3]:
        flops = 3 * 2 * int(row["pictures"][0]) * 8 * 8 * 2 * 9 * 2
        assert row["gflops"] == pytest.approx(flops / (row["ms"] / 1e3) / 1e9)
    assert rows[3] == {"backend": "CUDA", "pictures": "2 of 8x8x2", "why_not": "no NVIDIA driver is loaded"}
    assert Image.open(tmp_path / "bars.png").size > (300, 150)


def test_without_matplotlib_there_is_the_table_alone(no_gpu, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert run(cpu_vs_gpu, *SMALL, "--picture", tmp_path / "bars.png") == 0
    captured = capsys.readouterr()
    assert "Numba" in captured.out and captured.err.endswith("pip install matplotlib\n")
    assert not (tmp_path / "bars.png").exists()


@pytest.mark.parametrize("option", ["--batch", "--side", "--channels"])
def test_a_convolution_of_nothing(option, capsys):
    assert run(cpu_vs_gpu, option, 0) == 2
    assert capsys.readouterr().err == "error: --batch, --side and --channels: give at least 1 for each\n"


def test_the_rooms_are_as_they_were_after_a_comparison(no_gpu, tmp_path):
    from tinynet import kernels

    run(cpu_vs_gpu, *SMALL, "--picture", tmp_path / "bars.png")
    assert kernels.room() == "fast"
