"""Files that are either whole or not there: atomic writing, and named arrays in safetensors files."""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tinynet.backend import host
from tinynet.errors import CheckpointError

Content = bytes | Callable[[BinaryIO], object]

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "this user may not write there",
    errno.EPERM: "this user may not write there",
}
_CHECKSUM = "crc32"


def atomic_write(path: str | os.PathLike, content: Content) -> None:
    """Write bytes, or what ``content(file)`` writes, so that ``path`` holds either the old or the new file.

    A temporary file in the same folder is written, flushed to the disk and renamed; whatever happens in
    between, a process killed, a full disk, ``path`` is never half-written. What a killed process left behind
    is removed. Raises :class:`CheckpointError` for a missing or read-only folder and a full disk.
    """
    target = Path(os.path.realpath(path))  # a link keeps pointing to the same place
    _check_is_file(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    _remove_leftovers(target)
    try:
        _write_and_sync(temporary, content)
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise _cannot_write(target, error) from error
        raise
    _sync_folder(target.parent)


def _check_is_file(target: Path) -> None:
    """A folder, or a device such as /dev/null, must not be replaced by a file."""
    if target.exists() and not target.is_file():
        what = "a folder: add a file name" if target.is_dir() else "no ordinary file"
        raise CheckpointError(f"cannot write {target}: it is {what}")


def _remove_leftovers(target: Path) -> None:
    """Delete temporary files for ``target`` whose writers are no more."""
    for path in target.parent.glob(f".{escape(target.name)}.*.tmp"):
        writer = path.name.split(".")[-2]
        if writer.isdecimal() and not _is_running(int(writer)):
            with suppress(OSError):
                path.unlink()


def _is_running(process: int) -> bool:
    if os.name != "posix":  # there os.kill would end it; but files that are open cannot be deleted there
        return False
    try:
        os.kill(process, 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's process
        return True
    return True


def _write_and_sync(path: Path, content: Content) -> None:
    with open(path, "wb") as file:
        if callable(content):
            content(file)
        else:
            file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _cannot_write(target: Path, error: OSError) -> CheckpointError:
    if not target.parent.is_dir():
        reason = f"the folder {target.parent} does not exist"
    else:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
    kept = " What was there before is unchanged." if target.exists() else ""
    return CheckpointError(f"cannot write {target}: {reason}.{kept}")


def write_arrays(
    path: str | os.PathLike, arrays: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Save named arrays (NumPy or CuPy) and a few strings to a safetensors file, atomically.

    A checksum is saved with them, so that :func:`read_arrays` notices any changed bit.
    """
    from safetensors.numpy import save

    on_host = {name: np.ascontiguousarray(host(a)).reshape(a.shape) for name, a in arrays.items()}
    atomic_write(path, save(on_host, {**(metadata or {}), _CHECKSUM: _checksum(on_host)}))


def read_arrays(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the strings of a safetensors file, arrays in the order of their names.

    Raises :class:`CheckpointError` when the file is missing, cannot be opened, truncated, or something else.
    """
    from safetensors import SafetensorError

    if os.path.isdir(path):
        raise CheckpointError(f"{path} is a folder: add the name of the file in it")
    try:
        arrays, metadata = _read(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no file {path}") from error
    except (OSError, TypeError) as error:  # a TypeError: bfloat16 and the like, which NumPy does not have
        raise CheckpointError(f"cannot read {path}: {error}") from error
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is no complete safetensors file ({os.path.getsize(path):,} bytes): it is damaged, "
            f"truncated, or of another kind. Reader's message: {error}"
        ) from error
    if metadata.pop(_CHECKSUM, None) not in (None, _checksum(arrays)):
        raise CheckpointError(f"{path} is damaged: its checksum does not fit the numbers in it")
    return arrays, metadata


def _read(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in sorted(file.keys())}, dict(file.metadata() or {})


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    crc = 0
    for name in sorted(arrays):
        crc = zlib.crc32(arrays[name].reshape(-1).view(np.uint8).data, zlib.crc32(name.encode(), crc))
    return f"{crc:08x}"
