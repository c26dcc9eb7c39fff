"""Kernels that read pictures at places between their pixels. Compiled with Numba."""

from __future__ import annotations

import numpy as np

from tinynet.data.jit import compiled


@compiled
def bilinear(x, places, fill, out):
    """out[n, r, c] = x[n] at places[n, r, c] = (row, column), blended from the four pixels around.

    x and out (N, H, W, C) float32, places (N, H, W, 2) float32 in pixel indices; outside x all is ``fill``.
    """
    count, height, width, channels = x.shape
    for n in range(count):
        for r in range(height):
            for c in range(width):
                row, col = places[n, r, c, 0], places[n, r, c, 1]
                if not (-1.0 < row < height and -1.0 < col < width):
                    for k in range(channels):
                        out[n, r, c, k] = fill
                    continue
                top, left = int(np.floor(row)), int(np.floor(col))
                down, right = row - np.float32(top), col - np.float32(left)
                for k in range(channels):
                    value = np.float32(0)
                    for i in range(2):
                        for j in range(2):
                            weight = (down if i else 1 - down) * (right if j else 1 - right)
                            inside = 0 <= top + i < height and 0 <= left + j < width
                            value += weight * (x[n, top + i, left + j, k] if inside else fill)
                    out[n, r, c, k] = value


@compiled
def nearest(x, places, fill, out):
    """As :func:`bilinear`, but the value of the nearest pixel: for labels, which cannot be blended."""
    count, height, width, _ = x.shape
    for n in range(count):
        for r in range(height):
            for c in range(width):
                row, col = int(np.floor(places[n, r, c, 0] + 0.5)), int(np.floor(places[n, r, c, 1] + 0.5))
                inside = 0 <= row < height and 0 <= col < width
                for k in range(x.shape[3]):
                    out[n, r, c, k] = x[n, row, col, k] if inside else fill
