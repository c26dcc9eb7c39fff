"""Batches out of data that lie in memory as a whole, one sample and one pixel at a time."""

from __future__ import annotations

import math

import numpy as np

from tinynet.kernels.arrays.gather import Amounts

_MASK = 2**64 - 1
_STEP = 0x9E3779B97F4A7C15


def gather(rows: np.ndarray, order: np.ndarray, offset: int, count: int, scaled: bool) -> np.ndarray:
    """Row ``order[offset]``, then row ``order[offset + 1]``, and so on."""
    divide = scaled and rows.dtype == np.uint8
    batch = np.empty((count, *rows.shape[1:]), np.float32 if divide else rows.dtype)
    for i in range(count):
        row = rows[order[offset + i]]
        batch[i] = row / 255 if divide else row
    return batch


def gather_warped(
    images: np.ndarray, order: np.ndarray, offset: int, count: int, key: int, amounts: Amounts, fill: float
) -> np.ndarray:
    """For each new pixel, the place it comes from, and the mean of the four pixels around that."""
    y = gather(images, order, offset, count, True)
    for i, x in enumerate(y.astype(np.float64)):
        matrix, shift = affine(key, int(order[offset + i]), amounts)
        middle = (np.array(x.shape[:2]) - 1) / 2
        for place in np.ndindex(*x.shape[:2]):
            row, column = np.linalg.solve(matrix, place - middle - shift) + middle
            y[(i, *place)] = bilinear(x, row, column, fill)
    return y


def affine(key: int, number: int, amounts: Amounts) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and shift of sample ``number``: where a place, seen from the middle, goes."""
    sample = scramble(key + _STEP * (number + 1))
    chances = [(scramble(sample + _STEP * (j + 1)) >> 40) / 2**23 - 1 for j in range(5)]
    rotation, shear, scale, shift = amounts
    angle = math.radians(rotation * chances[0])
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    lean = np.array([[1, 0], [shear * chances[1], 1]])
    return (1 + scale * chances[2]) * (turn @ lean), shift * np.array(chances[3:])


def scramble(bits: int) -> int:
    """SplitMix64's finishing step (Steele, Lea and Flood 2014)."""
    bits &= _MASK
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB & _MASK
    return bits ^ (bits >> 31)


def bilinear(x: np.ndarray, row: float, column: float, fill: float) -> np.ndarray:
    """The image x (H, W, C) at a place between its pixels; outside of it all is ``fill``."""
    top, left, value = math.floor(row), math.floor(column), np.zeros(x.shape[-1])
    for i, weight_i in ((top, top + 1 - row), (top + 1, row - top)):
        for j, weight_j in ((left, left + 1 - column), (left + 1, column - left)):
            inside = 0 <= i < x.shape[0] and 0 <= j < x.shape[1]
            value += weight_i * weight_j * (x[i, j] if inside else fill)
    return value
