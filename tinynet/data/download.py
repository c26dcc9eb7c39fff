"""Fetching a file whose checksum is known, from the first mirror that has it. Only on the user's request."""

from __future__ import annotations

import hashlib
import http.client
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from tinynet.errors import DataError

TIMEOUT = 30.0  # seconds without a byte
_BLOCK = 1 << 16


def fetch(name: str, folder: Path, mirrors: Sequence[str], md5: str) -> Path:
    """Fetch file ``name`` into ``folder`` from the first of ``mirrors`` (base addresses) that has it whole.

    The bytes go to a temporary file that gets its name when the checksum fits, so an interrupted download
    leaves nothing behind. Raises :class:`DataError` with each mirror's reason, or when the folder cannot be
    written.
    """
    reasons = []
    for mirror in mirrors:
        address = f"{mirror.rstrip('/')}/{name}"
        try:
            return _fetch_from(address, folder, name, md5)
        except DataError:  # no mirror can help with the folder
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            reasons.append(f"  {address}: {_reason(error)}")
    raise DataError(
        f"cannot fetch {name}:\n"
        + "\n".join(reasons)
        + f"\nWithout a network, copy the file into {folder} by hand, "
        "or train on drawn digits: tn.data.digits()"
    )


def _fetch_from(address: str, folder: Path, name: str, md5: str) -> Path:
    file, temporary = _open_temporary(folder, name)
    try:
        with file:
            found = _copy(address, file)
        if found != md5:
            raise ValueError(f"wrong checksum: MD5 {found} instead of {md5}")
        os.replace(temporary, folder / name)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    return folder / name


def _open_temporary(folder: Path, name: str) -> tuple[BinaryIO, Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(prefix=f".{name}.", suffix=".part", dir=folder)
    except OSError as error:
        raise DataError(
            f"cannot write into {folder}: {error.strerror or error}. Give another folder: "
            "tn.data.mnist(folder, download=True)"
        ) from error
    return os.fdopen(handle, "wb"), Path(path)


def _copy(address: str, file: BinaryIO) -> str:
    """Copy what the address delivers into ``file``; returns its MD5."""
    import urllib.request

    digest, size = hashlib.md5(usedforsecurity=False), 0
    with urllib.request.urlopen(address, timeout=TIMEOUT) as answer:
        while block := answer.read(_BLOCK):
            file.write(block)
            digest.update(block)
            size += len(block)
        promised = answer.headers.get("Content-Length")
    if promised is not None and size != int(promised):
        raise ValueError(f"interrupted after {size:,} of {int(promised):,} bytes")
    return digest.hexdigest()


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", None)  # what urllib's own error wraps
    status = getattr(error, "code", None)
    if status is not None:
        return f"HTTP {status} {cause}"
    return str(cause or error) or type(error).__name__
