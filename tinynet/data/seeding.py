"""Random numbers by counting: what a sample gets depends on its own number, not on what was drawn before.

A key (64 bits) belongs to one sample of one epoch; the numbers that hang on it are hashes of the key and a
counter (SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
"""

from __future__ import annotations

import numpy as np

from tinynet.errors import ArgumentError

_STEP = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def check_seed(seed: int) -> int:
    """The seed as an integer; :class:`ArgumentError` when it is negative or no integer."""
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
        raise ArgumentError(f"seed={seed!r}: a seed is an integer of at least 0")
    return int(seed)


def scramble(bits: np.ndarray) -> np.ndarray:
    """SplitMix64's finishing step: every bit of the result depends on every bit that goes in (uint64)."""
    bits = (bits ^ (bits >> np.uint64(30))) * _FIRST
    bits = (bits ^ (bits >> np.uint64(27))) * _SECOND
    return bits ^ (bits >> np.uint64(31))


def branch(keys: np.ndarray, number: int | np.ndarray) -> np.ndarray:
    """New keys (uint64, shape by broadcasting) from ``keys`` and a number or an array of numbers."""
    numbers = np.atleast_1d(np.asarray(number, np.int64)).astype(np.uint64)
    return scramble(np.asarray(keys, np.uint64) + _STEP * (numbers + np.uint64(1)))


def epoch_key(seed: int, epoch: int) -> int:
    """The key from which those of all samples branch off, for this seed and epoch."""
    start = np.array([check_seed(seed) % (1 << 63)], np.uint64)
    return int(branch(scramble(start), epoch)[0])


def sample_keys(seed: int, epoch: int, indices: np.ndarray) -> np.ndarray:
    """One key for each sample number in ``indices`` (n,), for this seed and epoch."""
    return branch(np.array([epoch_key(seed, epoch)], np.uint64), np.asarray(indices))


def uniform(keys: np.ndarray, count: int) -> np.ndarray:
    """``count`` numbers in [0, 1) for each key: (n,) to (n, count) in float32."""
    bits = branch(np.asarray(keys)[:, None], np.arange(count)[None])
    return (bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def between(keys: np.ndarray, low: float, high: float, count: int = 1) -> np.ndarray:
    """``count`` numbers between ``low`` and ``high`` for each key: (n, count) in float32."""
    return np.float32(low) + np.float32(high - low) * uniform(keys, count)
