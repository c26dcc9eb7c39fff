"""Checked geometry of sliding windows: from what users type to :class:`tinynet.kernels.Window`.

The same few windows come back at every step of a training run, so the checked results are remembered.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from tinynet.errors import ArgumentError, ShapeError, unknown_name
from tinynet.kernels.geometry import Window

Size = int | Sequence[int]
Padding = int | str | Sequence[int] | Sequence[Sequence[int]]
Pairs = tuple[tuple[int, int], ...]
Result = TypeVar("Result")

_AXIS_NAMES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def remembered(function: Callable[..., Result]) -> Callable[..., Result]:
    """``function`` with its last results kept; lists among the arguments count as tuples."""
    cached = functools.lru_cache(maxsize=512, typed=True)(function)

    @functools.wraps(function)
    def call(*args: Any) -> Result:
        try:
            return cached(*args)
        except TypeError:  # a list cannot be a key
            return cached(*map(_hashable, args))

    return call


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, (list, tuple)) else value


def axis_names(rank: int) -> tuple[str, ...]:
    """How the spatial axes are called in errors: ("height", "width") for images."""
    return _AXIS_NAMES.get(rank) or tuple(f"axis {i + 1}" for i in range(rank))


def _is_int(value: object, least: int) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= least)


def per_axis(value: Size, rank: int, name: str, least: int = 1) -> tuple[int, ...]:
    """One integer per spatial axis from an int or a sequence of them; each at least ``least``."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank
    if any(not _is_int(v, least) for v in values):
        raise ArgumentError(f"{name}={value!r}: each entry must be an integer of at least {least}")
    if len(values) != rank:
        raise ArgumentError(f"{name}={value!r} has {len(values)} entries for {rank} spatial axes")
    return tuple(map(int, values))  # type: ignore[arg-type]


def same_padding(
    spatial: tuple[int, ...], size: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> Pairs:
    """Padding that makes the output ceil(input / stride); an odd pixel goes to the right and the bottom."""
    pairs = []
    for s, k, step, d in zip(spatial, size, stride, dilation):
        total = max((-(-s // step) - 1) * step + (k - 1) * d + 1 - s, 0)
        pairs.append((total // 2, total - total // 2))
    return tuple(pairs)


def padding_pairs(padding: Padding, rank: int) -> Pairs:
    """(before, after) for each spatial axis from "valid", an integer, one per axis, or a pair per axis."""
    if isinstance(padding, str):
        if padding != "valid":
            raise unknown_name("padding", padding, ("valid", "same"))
        padding = 0
    entries = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * rank
    pairs = tuple(tuple(p) if isinstance(p, (tuple, list)) else (p, p) for p in entries)
    if len(pairs) != rank or any(len(p) != 2 or not all(_is_int(v, 0) for v in p) for p in pairs):
        raise ArgumentError(
            f'padding={padding!r} for {rank} spatial axes: give "valid", "same", an integer of at least 0, '
            "one per axis, or a (before, after) pair per axis"
        )
    return tuple((int(before), int(after)) for before, after in pairs)


@remembered
def make_window(
    spatial: tuple[int, ...], size: Size, stride: Size = 1, padding: Padding = "valid", dilation: Size = 1
) -> Window:
    """The window over an input with axes ``spatial``.

    Raises :class:`ArgumentError` for sizes that make no sense, :class:`ShapeError` when the window does not
    fit.
    """
    rank = len(spatial)
    sizes, strides = per_axis(size, rank, "kernel size"), per_axis(stride, rank, "stride")
    dilations = per_axis(dilation, rank, "dilation")
    if isinstance(padding, str) and padding == "same":
        pairs = same_padding(spatial, sizes, strides, dilations)
    else:
        pairs = padding_pairs(padding, rank)
    window = Window(sizes, strides, pairs, dilations)
    _check_fits(spatial, window)
    return window


@remembered
def output_shape(
    spatial: tuple[int, ...], size: Size, stride: Size = 1, padding: Padding = "valid", dilation: Size = 1
) -> tuple[int, ...]:
    """How many places the window of :func:`make_window` has along each axis."""
    return make_window(spatial, size, stride, padding, dilation).output_shape(spatial)


def _check_fits(spatial: tuple[int, ...], window: Window) -> None:
    for name, s, extent, (before, after), k, d in zip(
        axis_names(len(spatial)), spatial, window.extent, window.padding, window.size, window.dilation
    ):
        if s + before + after < extent:
            spread = f" (dilation {d} spreads it over {extent})" if d > 1 else ""
            padded = f" + {before} + {after} of padding" if before + after else ""
            raise ShapeError(
                f"a window of {name} {k}{spread} does not fit into an input of {name} {s}{padded}. "
                'Use a smaller window, a larger input, or padding="same"'
            )


@remembered
def pool_window(
    spatial: tuple[int, ...], size: Size, stride: Size | None, padding: Padding, dilation: Size, ceil: bool
) -> Window:
    """The window of a pool: ``stride`` None means side by side, ``ceil`` keeps the ragged edge."""
    window = make_window(spatial, size, size if stride is None else stride, padding, dilation)
    return _with_ceil(spatial, window) if ceil else window


def _with_ceil(spatial: tuple[int, ...], window: Window) -> Window:
    """Room on the right for one window more, if that window starts in the input or the left padding."""
    pairs = []
    for s, e, step, (before, after) in zip(spatial, window.extent, window.stride, window.padding):
        last = -(-(s + before + after - e) // step) * step  # where the last window starts, padding included
        if last >= s + before:
            last -= step
        pairs.append((before, max(after, last + e - s - before)))
    return window._replace(padding=tuple(pairs))


@remembered
def check_no_blind_window(spatial: tuple[int, ...], window: Window) -> None:
    """Raise :class:`ArgumentError` when some window of a pool lies on nothing but padding."""
    for i, name in enumerate(axis_names(len(spatial))):
        starts = np.arange(window.output_shape(spatial)[i]) * window.stride[i] - window.padding[i][0]
        places = starts[:, None] + np.arange(window.size[i]) * window.dilation[i]
        if not ((places >= 0) & (places < spatial[i])).any(axis=1).all():
            before, after = window.padding[i]
            raise ArgumentError(
                f"with padding {before} + {after} along the {name} of {spatial[i]}, a pooling window of "
                f"{name} {window.size[i]} lies on nothing but padding. Use less padding"
            )
