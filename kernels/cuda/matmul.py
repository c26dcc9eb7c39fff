"""Matrix products: large ones by cuBLAS where it is installed, the others by our own kernels (matmul.cu)."""

from __future__ import annotations

from typing import Any

import numpy as np

import tinynet.kernels.cuda.cublas as cublas
from tinynet.kernels.arrays._library import xp_of
from tinynet.kernels.cuda.loader import Grid, blocks, contiguous, float32_kernel, launch
from tinynet.kernels.products import tf32

Array = Any
End = tuple[bool, bool, int]  # of a product: add to what is there, add a bias, activation

ACTIVATIONS = {None: 0, "relu": 1, "tanh": 2}

SMALL = 1 << 22  # multiplications up to which the library is not asked: our kernels end with bias and ReLU
_TILE, _DEPTH, _NARROW = 64, 16, 16  # matmul.cu knows them too
_SHORT = 1024  # most numbers in a row for the kernel of narrow results
_STRETCH = 128  # least length along k that is worth a block of its own
_BLOCKS = 264  # keep a large card busy. The same on every card, so that all compute the same bits


@float32_kernel
def matmul(a: Array, b: Array) -> Array:
    """Matrix product of 2-D arrays, either of which may be a transposed view."""
    return gemm(a, b)


def gemm(
    a: Array, b: Array, out: Array | None = None, *, add: bool = False, bias: Array | None = None,
    activation: str | None = None,
) -> Array:  # fmt: skip
    """activation(a (M, K) @ b (K, N) + bias (N,)), written to ``out`` if there is one; returns that.

    With ``add``, what ``out`` holds is added before the activation, which is None, "relu" or "tanh". All
    float32. ``out`` (M, N) may be a view whose rows lie apart, such as one step of sequences, but must not
    overlap the factors.
    """
    out = xp_of(a).empty((len(a), b.shape[1]), np.float32) if out is None else out
    if out.size == 0:
        return out
    if (cublas.steps(out) or (0, 0))[1] != 1:
        raise ValueError(f"the rows of out must be contiguous; its strides are {out.strides}")
    a, b = in_line(a), in_line(b)
    end = add, bias is not None, ACTIVATIONS[activation]
    bias = out if bias is None else contiguous(bias)
    if b.shape[1] <= _NARROW and b.shape[0] <= _SHORT and cublas.steps(a)[1] == 1:
        _run("product_narrow", blocks(len(a), 4), 128, a, b, bias, out, _sizes(a, b, out, end))
    elif out.size * a.shape[1] > SMALL and cublas.library() is not None:
        _by_library(a, b, bias, out, end)
    else:
        _by_tiles(a, b, bias, out, end)
    return out


def in_line(matrix: Array) -> Array:
    """The matrix itself if its rows or its columns are contiguous, else a copy."""
    return contiguous(matrix) if cublas.steps(matrix) is None else matrix


def tensor_cores(xp: Any) -> bool:
    """Whether products shall be computed in TF32: it was chosen, and this card has it."""
    return tf32() and int(xp.cuda.Device().compute_capability) >= 80


def _by_library(a: Array, b: Array, bias: Array, out: Array, end: End) -> None:
    cublas.gemm(a, b, out, end[0], tensor_cores(xp_of(out)))
    if any(end[1:]):
        sizes = _sizes(a, b, out, (False, *end[1:]))
        _run("finish_all", blocks(out.size), 256, out, bias, sizes)


def _by_tiles(a: Array, b: Array, bias: Array, out: Array, end: End) -> None:
    """Blocks compute a tile each; where these are few, several blocks share a tile."""
    (m, n), k = out.shape, a.shape[1]
    name = "product_tf32" if tensor_cores(xp_of(out)) else "product"
    tiles = *blocks(m, _TILE), *blocks(n, _TILE)
    stretch, stretches = _stretches(tiles[0] * tiles[1], k)
    if stretches <= 1:
        _run(name, (*tiles, 1), 256, a, b, bias, out, _sizes(a, b, out, end, k))
        return
    parts = xp_of(out).empty((stretches, m, n), np.float32)
    sizes = _sizes(a, b, parts[0], (False, False, 0), stretch)
    _run(name, (*tiles, stretches), 256, a, b, parts, parts, sizes)
    _run("sum_parts", blocks(out.size), 256, parts, bias, out, _sizes(a, b, out, end), stretches)


def _stretches(tiles: int, k: int) -> tuple[int, int]:
    """Length and number of the stretches of k."""
    wanted = min(_BLOCKS // tiles, k // _STRETCH)
    stretch = -(-k // max(wanted, 1) // _DEPTH) * _DEPTH
    return stretch, -(-k // max(stretch, 1))


def _sizes(a: Array, b: Array, out: Array, end: End, stretch: int = 0) -> np.ndarray:
    """``Product`` of matmul.cu."""
    numbers = *out.shape, a.shape[1], *cublas.steps(a), *cublas.steps(b), cublas.steps(out)[0], stretch, *end
    return np.array(numbers, np.int32)


def _run(name: str, grid: Grid, threads: int, *args: Any) -> None:
    launch(name, "matmul.cu", grid, (threads,), *args)
