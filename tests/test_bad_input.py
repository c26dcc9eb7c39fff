"""Bad input of every kind, given as a user gives it: the type of the error, its text, and nothing is lost.

One line for each kind; the rooms' own tests go into the details.
"""

import errno
import gzip
import io
import os
import struct

import numpy as np
import pytest
from numba.core.caching import FunctionCache

import tinynet as tn
from tinynet import cli, data, models, nn, ops, optim, runs
from tinynet.data import jit as data_jit
from tinynet.errors import (
    ArgumentError,
    CheckpointError,
    DataError,
    DeviceError,
    DTypeError,
    NotFiniteError,
    ShapeError,
)
from tinynet.training import EarlyStopping

WEIGHTS, RUN = "weights.safetensors", "run.safetensors"
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(20, 6)).astype("float32"), RNG.integers(0, 3, 20)
IMAGES = RNG.normal(size=(20, 12, 12, 1)).astype("float32")


def but(array, index, value):
    """A copy in which one entry is another."""
    array = np.array(array)
    array[index] = value
    return array


def rows(units=3, loss="cross_entropy", **settings):
    model = nn.Sequential(nn.Dense(8, activation="relu"), nn.Dense(units))
    return model.compile("adam", loss, **settings)


def pictures():
    layers = nn.Conv2D(4, 3), nn.MaxPool2D(2), nn.Flatten(), nn.Dense(3)
    return nn.Sequential(*layers).compile("adam", "cross_entropy")


def normed():
    return nn.Sequential(nn.Dense(8), nn.BatchNorm(), nn.Dense(3)).compile()


def yes_or_no():
    return rows(1, "bce_with_logits")


def quantity():
    return rows(1, "mse")


class Files(data.Dataset):
    """Samples that are read one by one; number 7 gives what it is told to."""

    def __init__(self, seventh):
        self.seventh = seventh

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return self.seventh() if index == 7 else (X[index], Y[index])


def unreadable():
    raise OSError("no such file")


# --- what is given to fit: model, data, error, text ---

FIT = {
    "rows of another length": (rows, X[:, :5], Y, ShapeError, "got 5 numbers .*in_features=6"),
    "pictures of another size": (
        pictures, IMAGES[:, :8, :8], Y, ShapeError, r"got 36 numbers per sample.*\n.*\n  Fix: Dense",
    ),
    "no channel axis": (
        pictures, IMAGES[..., 0], Y, ShapeError, r"got shape \(20, 12, 12\).*x\[\.\.\., None\]",
    ),
    "numbers for rows": (rows, X[:, 0], Y, ShapeError, r"got an input of shape \(20,\).*x\[:, None\]"),
    "channels first": (
        pictures, IMAGES.transpose(0, 3, 1, 2), Y, ShapeError, r"channels-first.*x\.transpose\(0, 2, 3, 1\)",
    ),
    "another number of channels": (pictures, IMAGES.repeat(2, -1), Y, ShapeError, "2 channels .* takes 1"),
    "fewer labels": (rows, X, Y[:-1], ShapeError, "x has 20 samples and y has 19"),
    "text": (rows, X.astype(str), Y, DTypeError, r"x holds <U\d+ .*need numbers"),
    "objects": (rows, X.astype(object), Y, DTypeError, "x holds object"),
    "complex numbers": (rows, X.astype(complex), Y, DTypeError, "complex128.*need real numbers"),
    "samples of two lengths": (
        rows, [[1.0, 2.0], [3.0]], [0, 1], ShapeError, "x is no array: its samples differ",
    ),
    "no samples": (rows, X[:0], Y[:0], DataError, r"x holds no samples: its shape is \(0, 6\)"),
    "a batch of one": (
        normed, X[:1], Y[:1], ShapeError, r"\(BatchNorm\).*more than one value.*drop_last=True",
    ),
    "a label too high": (
        rows, X, but(Y, 7, 3), DataError, "sample 7 of the data.*label 3 .*there are 3 classes, 0 to 2",
    ),
    "a label below 0": (rows, X, but(Y, 7, -1), DataError, "sample 7 of the data.*label -1"),
    "labels that count from 1": (rows, X, Y + 1, DataError, "Labels that count from 1. Subtract 1"),
    "labels as floats": (rows, X, Y.astype(float), DTypeError, r"integer class labels, got float64.*astype"),
    "labels as text": (rows, X, Y.astype(str), DTypeError, r"y holds <U\d+ .*np\.unique\(y, return_inverse"),
    "labels in a column": (rows, X, Y[:, None], ShapeError, r"Leave out the last axis: target\[\.\.\., 0\]"),
    "labels as one-hot integers": (
        rows, X, np.eye(3, dtype=int)[Y], ShapeError, r"One-hot.*target\.argmax\(-1\)",
    ),
    "one-hot rows of another width": (
        rows, X, np.eye(4)[Y], ShapeError, r"logits of shape \(20, 3\).*\(20, 4\)",
    ),
    "no shares": (rows, X, np.eye(3)[Y] * 2, DataError, "sample .*no set of probabilities"),
    "labels as quantities": (quantity, X, Y[:, None], DTypeError, r"integer targets.*use cross_entropy"),
    "quantities in a row": (quantity, X, X[:, 0], ShapeError, r"target a last axis: target\[\.\.\., None\]"),
    "a third answer to yes or no": (
        yes_or_no, X, but(Y[:, None], 4, 2), DataError, "sample .* between 0 and 1, got 2",
    ),
    "NaN in the inputs": (rows, but(X, (13, 2), np.nan), Y, NotFiniteError, "x holds nan in sample 13"),
    "infinity in the inputs": (
        rows, but(X, (13, 2), -np.inf), Y, NotFiniteError, "x holds -inf in sample 13",
    ),
    "NaN in the targets": (quantity, X, but(X[:, :1], 4, np.nan), NotFiniteError, "y holds nan in sample 4"),
    "no targets": (rows, X, None, DataError, "y is missing"),
    "a file that cannot be read": (
        rows, Files(unreadable), None, DataError, "sample 7 cannot be read: OSError",
    ),
    "a sample of another shape": (
        rows, Files(lambda: (X[7, :5], 0)), None, ShapeError, r"sample 7: .*shape \(5,\)",
    ),
    "a sample with NaN": (rows, Files(lambda: (X[7] * np.nan, 0)), None, NotFiniteError, "nan in sample 7"),
    "a sample without a target": (
        rows, Files(lambda: X[7]), None, DataError, r"sample 7: .*a pair \(x, y\)",
    ),
}  # fmt: skip


def good_data(make):
    """Data that the model of ``make`` can be trained on."""
    x = IMAGES if make is pictures else X
    y = {yes_or_no: Y[:, None] > 0, quantity: X[:, :1]}.get(make, Y)
    return x, y


@pytest.mark.parametrize("make, x, y, error, text", FIT.values(), ids=FIT)
def test_fit_says_what_is_wrong_and_keeps_the_weights(make, x, y, error, text):
    model = make()
    model.fit(*good_data(make), verbose=0)
    before = model.state_dict()
    with pytest.raises(error, match=text):
        model.fit(x, y, epochs=2, verbose=0)
    after = model.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    model.fit(*good_data(make), verbose=0)  # and can go on


ELSEWHERE = ["a label too high", "NaN in the inputs", "no samples", "rows of another length", "fewer labels"]


@pytest.mark.parametrize("title", ELSEWHERE)
def test_evaluate_and_validation_say_the_same(title):
    make, x, y, error, text = FIT[title]
    model = make()
    model.fit(*good_data(make), verbose=0)
    with pytest.raises(error, match=text):
        model.evaluate(x, y)
    with pytest.raises(error, match="validation_data: ") as told:
        model.fit(*good_data(make), validation_data=(x, y), verbose=0)
    told.match(text)


# --- a call, a constructor, a name ---

CALLS = {
    "a list of text": (lambda: nn.Dense(3)(["a", "b"]), DTypeError, "holds numbers or booleans, got <U1"),
    "nothing at all": (lambda: nn.Dense(3)(None), DTypeError, "in Dense: .*from NoneType"),
    "a single number": (lambda: nn.Dense(3)(np.float32(1)), ShapeError, "in Dense: got a single number"),
    "a single picture": (lambda: nn.Conv2D(4, 3)(IMAGES[0]), ShapeError, r"add the batch axis: x\[None\]"),
    "rows for sequences": (lambda: nn.LSTM(4)(X), ShapeError, r"20x6, 2 axes, but the input is \(N, T, F\)"),
    "double precision": (
        lambda: nn.Dense(3)(X.astype(float)), DTypeError, r"float64.*x\.astype\('float32'\)",
    ),
    "bytes": (lambda: nn.Conv2D(4, 3)(IMAGES.astype("uint8")), DTypeError, r"uint8.*x\.astype\('float32'\)"),
    "channels first": (
        lambda: nn.Conv2D(4, 3)(IMAGES.transpose(0, 3, 1, 2)), ShapeError, r"x\.transpose\(0, 2, 3, 1\)",
    ),
    "a skip of another width": (
        lambda: tn.tensor(IMAGES) + IMAGES[:, :6], ShapeError, r"\(20, 12, 12, 1\) and \(20, 6, 12, 1\)",
    ),
    "an empty batch": (lambda: nn.CrossEntropy()(X[:0, :3], Y[:0]), ShapeError, "empty batch"),
    "a batch of one": (lambda: nn.BatchNorm()(X[:1]), ShapeError, r"\(1, 6\) has 1\. Use a larger batch"),
    "a kernel too large": (
        lambda: nn.Conv2D(4, 7, padding=1)(IMAGES[:, :4]), ShapeError, r"height 7 .* 4 \+ 1 \+ 1 of padding",
    ),
    "a pool too large": (lambda: nn.MaxPool2D(13)(IMAGES), ShapeError, "height 13 does not fit .*height 12"),
    "a stride of 0": (lambda: nn.Conv2D(4, 3, stride=0), ArgumentError, "stride=0: .*at least 1"),
    "a pool's stride of 0": (lambda: nn.MaxPool2D(2, stride=0), ArgumentError, "stride=0: .*at least 1"),
    "an op's stride of 0": (
        lambda: ops.conv(IMAGES, np.ones((3, 3, 1, 1), "float32"), stride=0), ArgumentError, "stride=0",
    ),
    "unknown activation": (lambda: nn.Dense(3, activation="Relu"), ArgumentError, r"mean 'relu'\?$"),
    "unknown initialiser": (lambda: nn.Dense(3, init="glorot"), ArgumentError, "init 'glorot'.*'glorot_"),
    "unknown padding": (lambda: nn.Conv2D(4, 3, padding="smae"), ArgumentError, "Did you mean 'same'"),
    "unknown loss": (lambda: rows(loss="crossentropy"), ArgumentError, "Did you mean 'cross_entropy'"),
    "unknown optimiser": (lambda: nn.Dense(3).compile("adm"), ArgumentError, "Did you mean 'adam'"),
    "unknown metric": (lambda: rows(metrics=["acc"]), ArgumentError, "Did you mean .*'accuracy'"),
    "unknown schedule": (
        lambda: rows().fit(X, Y, schedule="cosine"), ArgumentError, r"schedule='cosine': .*optim\.CosineLR",
    ),
    "unknown monitor": (
        lambda: rows().fit(X, Y, callbacks=[EarlyStopping()]), ArgumentError, "no validation_data",
    ),
    "unknown kernels": (lambda: tn.kernels.use("gpu"), ValueError, "unknown room 'gpu'.*reference"),
    "unknown device": (lambda: tn.device("gpu"), ArgumentError, "unknown device 'gpu'. Known: 'cpu', 'cuda'"),
    "a GPU that is not there": (lambda: tn.device("cuda:99"), DeviceError, "GPU|CuPy|NVIDIA"),
    "unknown split": (lambda: data.digits(5, split="valid"), ArgumentError, "unknown split 'valid'"),
    "no parameters": (lambda: optim.SGD([], 0.1), ArgumentError, "there are no parameters: an empty list"),
    "no parameters in the model": (
        lambda: optim.Adam(nn.ReLU().parameters()), ArgumentError, "no parameters",
    ),
    "no sizes yet": (lambda: optim.Adam(rows().parameters()), ArgumentError, r"no size yet.*model\.build"),
    "all frozen": (lambda: optim.Adam(rows().build((6,)).freeze().parameters()), ArgumentError, "frozen"),
    "a model for its parameters": (lambda: optim.Adam(rows()), ArgumentError, r"sequential\.parameters\(\)"),
    "the rate first": (
        lambda: optim.SGD(0.1, []), ArgumentError, "the first argument is a list of parameters",
    ),
}  # fmt: skip


@pytest.mark.parametrize("act, error, text", CALLS.values(), ids=CALLS)
def test_calls_say_what_is_wrong(act, error, text):
    with pytest.raises(error, match=text):
        act()


# --- losses that are not finite ---


def test_an_infinite_loss_stops_fit_names_the_layer_and_keeps_good_weights():
    model = rows(lr=1e30)
    with pytest.raises(
        NotFiniteError, match=r"epoch 2, .*out of [01] \(Dense\).*learning rate \(1e\+30\) too high"
    ):
        model.fit(X, Y, epochs=20, verbose=0)
    assert np.isfinite(model.evaluate(X, Y).loss)


# --- files: what is there is damaged, of another kind, or missing ---


@pytest.fixture
def folder(tmp_path):
    """Weights, a checkpoint, and the first digits of a small MNIST in a folder."""
    model = rows()
    model.fit(X, Y, verbose=0, checkpoint=tmp_path / RUN)
    model.save_weights(tmp_path / WEIGHTS)
    for name, head in (
        ("train-images-idx3-ubyte.gz", (2051, 3, 28, 28)),
        ("train-labels-idx1-ubyte.gz", (2049, 3)),
    ):
        content = struct.pack(f">{len(head)}I", *head) + bytes(np.prod(head[1:]))
        (tmp_path / name).write_bytes(gzip.compress(content))
    return tmp_path


def cut(content):
    return content[:-20]


def flip(content):
    return content[:-20] + bytes([content[-20] ^ 1]) + content[-19:]


def load(model, path):
    return model.build((6,)).load_weights(path)


def resume(model, path):
    return model.fit(X, Y, epochs=2, resume=path, verbose=0)


READING = {
    "weights of another width": (
        lambda f: load(rows(4), f / WEIGHTS), "another model, 2 of 4 .*\n.*1.weight: .8, 3. .*.8, 4.",
    ),
    "weights of another net": (
        lambda f: models.small_cnn().build((28, 28, 1)).load_weights(f / WEIGHTS),
        "weights.safetensors: .*another model, 1 of 8 arrays fit\n  missing: .*\n  unexp",
    ),
    "weights before the sizes": (lambda f: rows().load_weights(f / WEIGHTS), r"First: model\.build"),
    "checkpoint of another net": (lambda f: resume(rows(4), f / RUN), "does not fit: .*another model"),
    "checkpoint of another optimiser": (
        lambda f: resume(rows().compile("sgd"), f / RUN), "with the optimiser Adam, .* uses SGD",
    ),
    "weights for a checkpoint": (lambda f: resume(rows(), f / WEIGHTS), "no checkpoint of a training"),
    "missing weights": (lambda f: load(rows(), f / "nothing"), "there is no file .*nothing"),
    "missing checkpoint": (lambda f: resume(rows(), f / "nothing"), "no file .*nothing to go on from"),
    "a folder for a file": (lambda f: load(rows(), f), "is a folder: add the name of the file"),
    "missing folder for weights": (
        lambda f: rows().build((6,)).save_weights(f / "new" / "w"), "cannot write .*new does not exist",
    ),
    "a folder in the place of weights": (
        lambda f: rows().build((6,)).save_weights(f), "cannot write .*a folder",
    ),
    "missing run": (lambda f: runs.load_run(f / "nothing"), "does not exist.*tinynet train mnist --out"),
    "no run": (lambda f: runs.load_run(f), "is no run folder: it holds no run.json"),
}  # fmt: skip


@pytest.mark.parametrize("act, text", READING.values(), ids=READING)
def test_files_that_do_not_fit(act, text, folder):
    with pytest.raises(CheckpointError, match=text):
        act(folder)


@pytest.mark.parametrize(
    "damage, text", [(cut, "is no complete safetensors file .*truncated"), (flip, "is damaged")]
)
@pytest.mark.parametrize("name, read", [(WEIGHTS, load), (RUN, resume)])
def test_damaged_files_are_noticed_and_change_nothing(damage, text, name, read, folder):
    path, model = folder / name, rows().build((6,))
    path.write_bytes(damage(path.read_bytes()))
    before = model.state_dict()
    with pytest.raises(CheckpointError, match=rf"{name} {text}"):
        read(model, path)
    assert all(np.array_equal(array, before[key]) for key, array in model.state_dict().items())


IDX = {
    "cut": (cut, "is damaged, or no MNIST file: its [0-9]+ bytes are no whole gzip file"),
    "flipped": (flip, "is damaged, or no MNIST file: .*no whole gzip file"),
    "a web page": (lambda content: b"<html>", "no whole gzip file"),
    "of another kind": (
        lambda content: gzip.compress(b"\0\0\x0d\3" + bytes(100)), "bytes 00000d03 instead of 00000803",
    ),
    "too short": (
        lambda content: gzip.compress(gzip.decompress(content)[:-1]), "promises .* = 2,368 bytes, .* 2,367",
    ),
    "of another set": (
        lambda content: gzip.compress(struct.pack(">4I", 2051, 2, 28, 28) + bytes(1568)),
        "holds 2 pictures, but .* 3 labels",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*is not the original MNIST file")
@pytest.mark.parametrize("damage, text", IDX.values(), ids=IDX)
def test_damaged_idx_files_are_noticed(damage, text, folder):
    path = folder / "train-images-idx3-ubyte.gz"
    assert len(data.mnist(folder)) == 3
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=text):
        data.mnist(folder)


@pytest.mark.parametrize("name, text", [("nothing", "there is no such folder"), (WEIGHTS, "is a file")])
def test_a_folder_of_data_that_is_none(name, text, folder):
    with pytest.raises(
        DataError, match=rf"images-idx3-ubyte.gz is not in .*{name} \(.*{text}.*tn\.data\.digits\(\)"
    ):
        data.mnist(folder / name)


class HalfAFile(io.BytesIO):
    headers = {"Content-Length": "9912422"}  # noqa: RUF012


def test_an_interrupted_download_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", lambda address, timeout: HalfAFile(bytes(5000)))
    with pytest.raises(
        DataError, match=r"(?s)cannot fetch train-im.*interrupted after 5,000 of 9,912,422.*by hand"
    ):
        data.mnist(tmp_path, download=True)
    assert list(tmp_path.iterdir()) == []


# --- files: they cannot be written ---


def refuse(reason):
    def fail(*_, **__):
        raise OSError(reason, os.strerror(reason))

    return fail


NO_ROOM = [
    ("os.fsync", errno.ENOSPC, "the disk is full"),
    ("tinynet.files.open", errno.EROFS, "is read-only"),
]


@pytest.mark.parametrize("where, reason, text", NO_ROOM)
def test_a_full_disk_or_a_read_only_folder_leaves_the_old_files(where, reason, text, folder, monkeypatch):
    path, run = folder / WEIGHTS, folder / RUN
    model, before = rows().build((6,)), {p.name: p.read_bytes() for p in folder.iterdir()}
    monkeypatch.setattr(where, refuse(reason), raising=False)
    with pytest.raises(
        CheckpointError, match=f"cannot write .*weights.*{text}. What was there before is unchanged"
    ):
        model.save_weights(path)
    with pytest.raises(CheckpointError, match=f"cannot write .*run.*{text}"):
        model.fit(X, Y, epochs=3, checkpoint=run, verbose=0)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert np.isfinite(model.evaluate(X, Y).loss)


def test_a_cache_that_cannot_be_written_is_said_once(tmp_path, monkeypatch):
    """Of compiled kernels, those of the data and the others, and of drawn digits."""
    kernel_jit = pytest.importorskip("tinynet.kernels.cpu.jit")
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    monkeypatch.setattr(FunctionCache, "save_overload", refuse(errno.ENOSPC))
    monkeypatch.setattr(kernel_jit, "_said", set())
    monkeypatch.setattr(data_jit, "_warned", set())
    data.digits(5)[:]  # its kernels are compiled, or read, before the warnings are counted
    data_jit._warned.clear()
    with pytest.warns(UserWarning, match="cannot be kept") as told:
        for number in (1, 2):
            assert kernel_jit.kernel(lambda x, number=number: x + number)(2) == 2 + number
            assert data_jit.compiled(lambda x, number=number: x + number)(2) == 2 + number
            assert len(data.digits(5, cache=True)[:][0]) == 5
    assert len(told) == 3


# --- the command line: one line, and a code ---


@pytest.mark.parametrize(
    "words, text",
    [
        ("evaluate nothing", "nothing does not exist"),
        ("predict . picture.png", "is no run folder"),
        ("summary .", "is no run folder"),
        ("gradcheck rleu", "Did you mean 'relu'"),
        ("train mnist --data nothing", "there is no such folder"),
        ("train mnist --samples 9 --optimizer adm", "Did you mean 'adam'"),
    ],
)
def test_the_command_line_says_it_in_one_line(words, text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words.split()) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and text in told and told.count("\n") == 1
