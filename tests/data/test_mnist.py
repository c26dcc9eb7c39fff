"""MNIST's files: the real ones, and damaged ones of every kind."""

import gzip
import struct

import numpy as np
import pytest

from tinynet import data
from tinynet.data.mnist import read_idx
from tinynet.errors import ArgumentError, DataError

NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def images_file(n=5, side=28, magic=2051):
    pixels = np.arange(n * side * side) % 251
    return struct.pack(">4I", magic, n, side, side) + pixels.astype(np.uint8).tobytes()


def labels_file(labels=(0, 9, 3, 1, 7), magic=2049):
    return struct.pack(">2I", magic, len(labels)) + bytes(labels)


def write(folder, images=None, labels=None, packed=False, split="train"):
    contents = (images_file() if images is None else images, labels_file() if labels is None else labels)
    for name, content in zip(NAMES[split], contents, strict=True):
        path = folder / (name + ".gz" * packed)
        path.write_bytes(gzip.compress(content) if packed else content)
    return folder


def read(folder):
    with pytest.warns(UserWarning, match="not the original MNIST file"):
        return data.mnist(folder)


# --- the real files ---


@pytest.mark.parametrize(
    ("split", "counts", "mean", "std"),
    [("train", TRAIN_COUNTS, 0.13066, 0.30811), ("test", TEST_COUNTS, 0.13251, 0.31048)],
)
def test_the_real_files(shared_data, recwarn, split, counts, mean, std):
    d = data.mnist(shared_data / "mnist", split)
    assert d.x.shape == (sum(counts), 28, 28, 1) and d.x.dtype == np.uint8
    assert d.y.dtype == np.int64 and np.bincount(d.y).tolist() == counts
    assert d.x.mean() / 255 == pytest.approx(mean, abs=1e-5)
    assert d.x.std() / 255 == pytest.approx(std, abs=1e-5)
    assert not recwarn.list  # their checksums fit


def test_the_real_files_unpacked(shared_data, tmp_path, recwarn):
    for name in NAMES["test"]:
        (tmp_path / name).write_bytes(gzip.decompress((shared_data / "mnist" / f"{name}.gz").read_bytes()))
    unpacked, packed = data.mnist(tmp_path, "test"), data.mnist(shared_data / "mnist", "test")
    np.testing.assert_array_equal(unpacked.x, packed.x)
    assert not recwarn.list


def test_a_real_file_cut_short(shared_data, tmp_path):
    for name in NAMES["test"]:
        content = (shared_data / "mnist" / f"{name}.gz").read_bytes()
        (tmp_path / f"{name}.gz").write_bytes(content[:-1000])
    with pytest.raises(
        DataError, match=r"t10k-images-idx3-ubyte.gz is damaged.*its 1,647,877 bytes are no whole gzip"
    ):
        data.mnist(tmp_path, "test")


# --- sets in MNIST's format ---


@pytest.mark.parametrize("packed", [False, True])
def test_another_set_in_the_same_format_is_read_with_a_warning(tmp_path, packed):
    d = read(write(tmp_path, packed=packed))
    assert d.x.shape == (5, 28, 28, 1) and d.y.tolist() == [0, 9, 3, 1, 7]
    np.testing.assert_array_equal(d.x.ravel(), np.arange(5 * 784) % 251)


def test_the_cache_folder_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "tinynet" / "mnist").mkdir(parents=True)
    write(tmp_path / "tinynet" / "mnist")
    assert len(read(None)) == 5


GOOD = images_file()


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (GOOD[:-1], r"promises 16 \+ 5 x 28 x 28 = 3,936 bytes, but there are 3,935"),
        (GOOD + b"x", "3,936 bytes, but there are 3,937"),
        (GOOD[:12], "it ends inside its header, after 12 of 16 bytes"),
        (GOOD[:2], "it ends inside its header, after 2 of 16 bytes"),
        (b"", "it ends inside its header, after 0 of 16 bytes"),
        (
            images_file(magic=2052),
            "it starts with the bytes 00000804 instead of 00000803.*4 axes instead of 3",
        ),
        (labels_file(), "00000801 instead of 00000803.*images and labels mixed up"),
        (b"<html>Not found</html>", "it looks like a web page"),
        (b"\x89PNG....", "it starts with the bytes 89504e47 instead of 00000803"),
        (images_file(side=32), "its pictures have 32x32 pixels instead of 28x28"),
        (struct.pack(">4I", 2051, 2**32 - 1, 2**32 - 1, 28), "promises .* but there are 16"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*not the original")
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_image_files(tmp_path, images, text, packed):
    with pytest.raises(DataError, match=f"train-images-idx3-ubyte.*{text}") as caught:
        data.mnist(write(tmp_path, images=images, packed=packed))
    assert "Delete it and get it again: tn.data.mnist(download=True)" in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (labels_file((0, 1, 10, 3, 4)), "label 10 of sample 2 is outside 0..9"),
        (labels_file((0, 1)), "holds 5 pictures, but .* 2 labels"),
        (labels_file()[:-2], r"promises 8 \+ 5 = 13 bytes, but there are 11"),
        (images_file(), "00000803 instead of 00000801"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*not the original")
def test_damaged_label_files(tmp_path, labels, text):
    with pytest.raises(DataError, match=text):
        data.mnist(write(tmp_path, labels=labels))


@pytest.mark.filterwarnings("ignore:.*not the original")
def test_an_empty_set(tmp_path):
    with pytest.raises(DataError, match="holds no labels"):
        data.mnist(write(tmp_path, images=images_file(n=0), labels=labels_file(())))


@pytest.mark.parametrize("where", ["head", "middle", "end"])
def test_a_changed_byte_in_a_gzip_file(tmp_path, where):
    write(tmp_path, packed=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[{"head": 0, "middle": len(content) // 2, "end": -6}[where]] ^= 0x55
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz is damaged.*are no whole gzip file"):
        data.mnist(tmp_path)


def test_missing_folder_and_files(tmp_path):
    with pytest.raises(
        DataError, match=r"train-images-idx3-ubyte.gz is not in .*nowhere \(there is no such folder\)"
    ):
        data.mnist(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"\(it is empty\).*Copy MNIST's four .gz files.*tn.data.digits\(\)"):
        data.mnist(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError, match=r"\(it holds notes.txt\)"):
        data.mnist(tmp_path)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*Is a directory"):
        read_idx(tmp_path, axes=1)


def test_unknown_split():
    with pytest.raises(ArgumentError, match=r"unknown split 'training'. Did you mean 'train'"):
        data.mnist(split="training")
