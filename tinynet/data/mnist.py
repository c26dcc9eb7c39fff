"""The MNIST set of handwritten digits (LeCun, Cortes and Burges 1998), read from its four original files."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinynet.backend import cache_folder
from tinynet.data.dataset import Dataset
from tinynet.data.download import fetch
from tinynet.errors import DataError, unknown_name

MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)

_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

_MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}

_IDX_UBYTE = 0x0800  # the IDX format's code for bytes; the lowest byte of the magic number counts the axes
_AGAIN = "Delete it and get it again: tn.data.mnist(download=True)"


def mnist(
    folder: str | os.PathLike | None = None,
    split: str = "train",
    download: bool = False,
    mirrors: Sequence[str] = MIRRORS,
) -> Dataset:
    """MNIST as a dataset: x (n, 28, 28, 1), ink 1 on 0, y (n,) labels 0..9; 60,000 to train, 10,000 to test.

    Reads ``train-images-idx3-ubyte.gz`` and its three companions, as they are or unpacked, from ``folder``
    (default: ``mnist`` in the cache folder, ``~/.cache/tinynet``). Nothing is fetched unless
    ``download=True``; then files that are missing come from the first of ``mirrors`` that has them, and must
    fit their checksum.

    Raises :class:`DataError` for files that are missing, truncated or damaged, saying which and how. Sound
    files of another content (a set in MNIST's format) give a warning.
    """
    if split not in _FILES:
        raise unknown_name("split", split, _FILES)
    place = cache_folder() / "mnist" if folder is None else Path(folder)
    image_path, label_path = (_find(place, name, download, mirrors) for name in _FILES[split])
    images, labels = read_idx(image_path, axes=3), read_idx(label_path, axes=1)
    _check(images, labels, image_path, label_path)
    return Dataset(images[..., None], labels.astype(np.int64))


def read_idx(path: str | os.PathLike, axes: int) -> np.ndarray:
    """The array of bytes in an IDX file with this many axes: uint8; ``.gz`` files are unpacked.

    Raises :class:`DataError` naming the file and what does not fit.
    """
    path = Path(path)
    content = _content(path)
    _check_magic(path, content, axes)
    header = 4 + 4 * axes
    if len(content) < header:
        raise _damaged(path, f"it ends inside its header, after {len(content)} of {header} bytes")
    shape = struct.unpack_from(f">{axes}I", content, 4)
    expected = header + int(np.prod(shape, dtype=np.float64))
    if len(content) != expected:
        sizes = " x ".join(f"{s:,}" for s in shape)
        raise _damaged(
            path,
            f"its header promises {header} + {sizes} = {expected:,} bytes, but there are {len(content):,}",
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _content(path: Path) -> bytes:
    """The bytes of the file, unpacked; warns when they are not those of the original."""
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        content = gzip.decompress(stored) if path.suffix == ".gz" else stored
    except (EOFError, OSError, zlib.error) as error:
        raise _damaged(path, f"its {len(stored):,} bytes are no whole gzip file ({error})") from error
    if path.name in _MD5 and md5(stored) != _MD5[path.name]:
        warnings.warn(
            f"{path} is not the original MNIST file (MD5 {md5(stored)}, original {_MD5[path.name]})",
            stacklevel=5,
        )
    return content


def md5(content: bytes) -> str:
    """The MD5 checksum in hexadecimal; it guards against damage, not against attack."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _check_magic(path: Path, content: bytes, axes: int) -> None:
    expected = struct.pack(">I", _IDX_UBYTE + axes)
    if content[:4] == expected[: len(content)]:
        return
    hint = ""
    if content[:1] in (b"<", b"{"):
        hint = " (it looks like a web page that was saved in place of the file)"
    elif content[:3] == bytes([0, 0, _IDX_UBYTE >> 8]):
        hint = f" (an IDX file with {content[3]} axes instead of {axes}: images and labels mixed up?)"
    raise _damaged(path, f"it starts with the bytes {content[:4].hex()} instead of {expected.hex()}{hint}")


def _check(images: np.ndarray, labels: np.ndarray, image_path: Path, label_path: Path) -> None:
    if images.shape[1:] != (28, 28):
        raise _damaged(
            image_path, f"its pictures have {images.shape[1]}x{images.shape[2]} pixels instead of 28x28"
        )
    if len(images) != len(labels):
        raise DataError(
            f"{image_path} holds {len(images):,} pictures, but {label_path} {len(labels):,} labels: "
            "they are not of one set"
        )
    if len(labels) == 0:
        raise DataError(f"{label_path} holds no labels")
    if labels.max() > 9:
        first = int(np.argmax(labels > 9))
        raise _damaged(label_path, f"label {labels[first]} of sample {first} is outside 0..9")


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"{path} is damaged, or no MNIST file: {why}. {_AGAIN}")


def _find(folder: Path, name: str, download: bool, mirrors: Sequence[str]) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    packed = f"{name}.gz"
    if download:
        return fetch(packed, folder, mirrors, _MD5[packed])
    raise DataError(
        f"{packed} is not in {folder}{_what_is_there(folder)}. Copy MNIST's four .gz files into a folder and "
        "give it: tn.data.mnist(folder); or fetch them: tn.data.mnist(download=True); or train without "
        "them: tn.data.digits()"
    )


def _what_is_there(folder: Path) -> str:
    if not folder.is_dir():
        return " (which is a file, not a folder)" if folder.exists() else " (there is no such folder)"
    names = sorted(entry.name for entry in folder.iterdir())
    return (
        f" (it holds {', '.join(names[:6])}{', ...' if len(names) > 6 else ''})"
        if names
        else " (it is empty)"
    )
