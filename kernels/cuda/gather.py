"""Batches out of data on the card."""

from __future__ import annotations

import math

import numpy as np

from tinynet.kernels.arrays._library import Array, xp_of
from tinynet.kernels.arrays.gather import Amounts
from tinynet.kernels.cuda.loader import blocks, launch
from tinynet.kernels.live import Live, words

FILE = "gather.cu"


def gather(rows: Array, order: Array, offset: int | Live, count: int, scaled: bool) -> Array:
    """The rows that stand in ``order`` (int32) from ``offset`` on."""
    if scaled and rows.dtype == np.uint8:
        return _pick("gather_scaled", rows, order, offset, count, np.float32, 1)
    width = 4 if _row_bytes(rows) % 4 == 0 else 1
    return _pick("gather_bytes", rows, order, offset, count, rows.dtype, width)


def _pick(
    kernel: str, rows: Array, order: Array, offset: int | Live, count: int, dtype: np.dtype, width: int
) -> Array:
    out = xp_of(rows).empty((count, *rows.shape[1:]), dtype)
    size = _row_bytes(rows) // width
    total = count * size
    launch(kernel, FILE, blocks(total), (256,), rows, order, words(offset), out, size, total, BYTES=width)
    return out


def _row_bytes(rows: Array) -> int:
    return math.prod(rows.shape[1:]) * rows.itemsize


def gather_warped(
    images: Array,
    order: Array,
    offset: int | Live,
    count: int,
    key: int | Live,
    amounts: Amounts,
    fill: float,
) -> Array:
    """The images that stand in ``order`` (int32) from ``offset`` on, each moved by chance."""
    out = xp_of(images).empty((count, *images.shape[1:]), np.float32)
    most = np.array(amounts, np.float32)
    launch(
        "gather_warped", FILE, (count,), (256,), images, order, words(offset, key), out, *images.shape[1:],
        most, float(fill), BYTES=images.itemsize,
    )  # fmt: skip
    return out
