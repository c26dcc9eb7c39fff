"""The contract of the kernels that make batches out of data which lie in memory as a whole."""

from __future__ import annotations

from typing import Any

from tinynet.kernels.rooms import room_of

Array = Any


def gather(rows: Array, order: Array, offset: int, count: int, scaled: bool) -> Array:
    """A batch: the rows order[offset], order[offset + 1], ... of ``rows`` (n, ...), ``count`` of them.

    ``order`` (m,) int32. With ``scaled``, 8-bit numbers become float32 and are divided by 255.
    """
    return room_of(rows).gather(rows, order, offset, count, scaled)


def gather_warped(
    images: Array, order: Array, offset: int, count: int, key: int,
    amounts: tuple[float, float, float, float], fill: float,
) -> Array:  # fmt: skip
    """As a scaled :func:`gather` of images (n, H, W, C), each turned, leant, scaled and shifted by chance.

    ``amounts`` are those of data.transforms.RandomAffine: rotation in degrees, shear, scale, shift in pixels.
    What happens to a sample depends on ``key`` (64 bits) and its own number alone; with chances between -1
    and 1, number i being::

        sample = scramble(key + STEP * (number + 1));  (scramble(sample + STEP * (i + 1)) >> 40) / 2^23 - 1

    where STEP is 0x9E3779B97F4A7C15 and scramble is the finishing step of SplitMix64. A place (row, column),
    seen from the image's middle, is leant by shear * chance 1, rotated by rotation * chance 0, multiplied by
    1 + scale * chance 2, and shifted by shift * chances 3 and 4. New pixels are blended from the four around
    the place they come from; outside of the image there is ``fill``.
    """
    return room_of(images).gather_warped(images, order, offset, count, key, amounts, fill)
