"""Batches out of data that lie in memory as a whole: picked, scaled, and moved a little."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.kernels.arrays._library import Array, xp_of

Amounts = tuple[float, float, float, float]

_STEP = 0x9E3779B97F4A7C15  # of SplitMix64: 2^64 / golden ratio


def gather(rows: Array, order: Array, offset: int, count: int, scaled: bool) -> Array:
    """The rows that stand in ``order`` from ``offset`` on."""
    batch = rows[order[offset : offset + count]]
    return _scaled(batch) if scaled else batch


def gather_warped(
    images: Array, order: Array, offset: int, count: int, key: int, amounts: Amounts, fill: float
) -> Array:
    """The images that stand in ``order`` from ``offset`` on, each moved by random numbers of its own."""
    xp, numbers = xp_of(images), order[offset : offset + count]
    rows, columns = _places(xp, _chances(xp, numbers, key), images.shape[1:3], amounts)
    return _bilinear(xp, _scaled(images[numbers]), rows, columns, fill)


def _scaled(batch: Array) -> Array:
    """8-bit numbers divided by 255, others as they are."""
    return batch.astype(np.float32) / np.float32(255) if batch.dtype == np.uint8 else batch


def _chances(xp: Any, numbers: Array, key: int) -> Array:
    """Five numbers from -1 to 1 for each sample, (n, 5): each has 24 random bits."""
    keys = _scramble(xp, numbers.astype(xp.uint64) * xp.uint64(_STEP) + xp.uint64((key + _STEP) % 2**64))
    columns = [_scramble(xp, keys + xp.uint64((i + 1) * _STEP % 2**64)) for i in range(5)]
    bits = xp.stack(columns, axis=-1) >> xp.uint64(40)
    return bits.astype(np.float64) * 2.0**-23 - 1


def _scramble(xp: Any, bits: Array) -> Array:
    """SplitMix64's finishing step, on uint64."""
    bits = (bits ^ (bits >> xp.uint64(30))) * xp.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> xp.uint64(27))) * xp.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> xp.uint64(31))


def _places(xp: Any, chances: Array, size: tuple[int, int], amounts: Amounts) -> tuple[Array, Array]:
    """From which row and column each new pixel is taken: the transform undone, (n, H, W) each."""
    rotation, shear, scale, shift = amounts
    angle, lean = xp.deg2rad(rotation * chances[:, 0]), shear * chances[:, 1]
    cos, sin, factor = xp.cos(angle), xp.sin(angle), 1 + scale * chances[:, 2]
    inverse = [cos, sin, -lean * cos - sin, cos - lean * sin]  # of factor * (turn @ lean)
    a, b, c, d = ((entry / factor)[:, None, None] for entry in inverse)
    middle = [(side - 1) / 2 for side in size]
    ways = (middle[i] + shift * chances[:, 3 + i, None, None] for i in range(2))
    row, column = (xp.arange(s, dtype=np.float64) for s in size)
    row_way, column_way = ways
    down, right = row[:, None] - row_way, column - column_way
    return a * down + b * right + middle[0], c * down + d * right + middle[1]


def _bilinear(xp: Any, x: Array, rows: Array, columns: Array, fill: float) -> Array:
    """Each new pixel from the four around its place; outside of the image all is ``fill``."""
    n, height, width, _ = x.shape
    padded = xp.full((n, height + 2, width + 2, x.shape[-1]), fill, x.dtype)
    padded[:, 1:-1, 1:-1] = x
    rows, columns = rows.clip(-1, height), columns.clip(-1, width)
    top, left = xp.floor(rows).clip(-1, height - 1), xp.floor(columns).clip(-1, width - 1)
    down, right = ((p - corner)[..., None].astype(x.dtype) for p, corner in ((rows, top), (columns, left)))
    each, top, left = xp.arange(n)[:, None, None], top.astype(np.int64) + 1, left.astype(np.int64) + 1
    upper = padded[each, top, left] * (1 - right) + padded[each, top, left + 1] * right
    lower = padded[each, top + 1, left] * (1 - right) + padded[each, top + 1, left + 1] * right
    return upper * (1 - down) + lower * down
