"""Atomic writing and safetensors files: whole or not at all, and damage is noticed."""

import errno
import os

import numpy as np
import pytest

from tinynet.errors import CheckpointError
from tinynet.files import atomic_write, read_arrays, write_arrays

ARRAYS = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "turned": np.arange(6.0).reshape(2, 3).T,
    "one": np.array(3),
    "none": np.zeros((0, 2), np.float32),
}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "a.safetensors"
    write_arrays(path, ARRAYS, {"epoch": "3"})
    return path


def test_arrays_and_strings_come_back(saved):
    arrays, metadata = read_arrays(saved)
    assert metadata == {"epoch": "3"}
    assert list(arrays) == sorted(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


def test_other_programs_read_the_file(saved):
    from safetensors.numpy import load_file

    np.testing.assert_array_equal(load_file(saved)["turned"], ARRAYS["turned"])


def test_files_without_a_checksum_are_read(tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": np.ones(3)}, tmp_path / "b")
    assert read_arrays(tmp_path / "b")[0]["a"].sum() == 3


@pytest.mark.parametrize("length", [0, 4, 7, 20, 100, -1])
def test_a_truncated_file_is_refused(saved, length):
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(CheckpointError, match="damaged, truncated, or of another kind"):
        read_arrays(saved)


def test_a_changed_bit_is_noticed(saved):
    content = bytearray(saved.read_bytes())
    content[-10] ^= 4
    saved.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged: its checksum does not fit"):
        read_arrays(saved)


def test_another_kind_of_file_is_refused(tmp_path):
    path = tmp_path / "text"
    path.write_text("these are no weights, but a text of some length")
    with pytest.raises(CheckpointError, match="no complete safetensors file \\(47 bytes\\)"):
        read_arrays(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no file .*nothing"):
        read_arrays(tmp_path / "nothing")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(CheckpointError, match="is a folder: add the name of the file"):
        read_arrays(tmp_path)


def test_bytes_or_a_writer(tmp_path):
    atomic_write(tmp_path / "a", b"123")
    atomic_write(tmp_path / "b", lambda file: file.write(b"456"))
    assert (tmp_path / "a").read_bytes() + (tmp_path / "b").read_bytes() == b"123456"
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"the folder .*nowhere does not exist"):
        atomic_write(tmp_path / "nowhere" / "a", b"")


@pytest.mark.parametrize(
    "code, text",
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "this user may not write there"),
    ],
)
def test_a_write_that_fails_keeps_the_old_file(tmp_path, code, text):
    path = tmp_path / "a"
    atomic_write(path, b"old")

    def fail(file):
        file.write(b"new, but only h")
        raise OSError(code, os.strerror(code))

    with pytest.raises(CheckpointError, match=f"{text}.*before is unchanged"):
        atomic_write(path, fail)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(CheckpointError, match="this user may not write there"):
        atomic_write(tmp_path / "a", b"")


def test_other_errors_of_the_writer_come_through(tmp_path):
    def fail(file):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic_write(tmp_path / "a", fail)
    assert os.listdir(tmp_path) == []


def test_a_link_keeps_pointing_to_the_same_place(tmp_path):
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    atomic_write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a matter of POSIX systems")
def test_what_is_no_file_is_not_replaced_by_one(tmp_path):
    """Neither a folder nor, for a user who may do everything, a device such as /dev/null."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, text in ((tmp_path, "it is a folder: add a file name"), (pipe, "it is no ordinary file")):
        with pytest.raises(CheckpointError, match=text):
            atomic_write(path, b"")
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]
