"""Random changes to pictures, whole batches at a time, the same in every run.

A transform takes pictures x (N, H, W, C) in float32 and gives new ones of the same shape. What it does to
sample i of epoch e depends on (seed, e, i) alone, not on the batch it stands in. Geometric transforms move
a mask (N, H, W) or (N, H, W, 1) along with its picture, by the nearest pixel, so that labels stay labels.
Parameters that change nothing give back the input itself.

    train = tn.data.mnist("mnist").with_transform(Compose([RandomAffine(rotation=10), ElasticDeformation()]))
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinynet.data.jit import kernels
from tinynet.data.seeding import between, branch, sample_keys, uniform
from tinynet.errors import ArgumentError, DTypeError, ShapeError

Pair = tuple[np.ndarray, np.ndarray | None]


class Transform:
    """Base of all transforms; a subclass defines ``apply``."""

    def __call__(self, x: np.ndarray, mask: np.ndarray | None = None, *, seed: int = 0) -> Any:
        """The transformed pictures; with a mask, the pair (pictures, mask). Another seed, another chance."""
        _check_pictures(x, mask)
        new_x, new_mask = self.apply(x, mask, sample_keys(seed, 0, np.arange(len(x))))
        return new_x if mask is None else (new_x, new_mask)

    def apply(self, x: np.ndarray, mask: np.ndarray | None, keys: np.ndarray) -> Pair:
        """Transform x (N, H, W, C) and its mask, if any, with one key (N,) uint64 per sample."""
        raise TypeError(f"{type(self).__name__} does not define apply(x, mask, keys)")


class Normalize(Transform):
    """(x - mean) / std, for each channel: numbers, or one per channel, from the *training* part alone."""

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]):
        self.mean, self.std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
        if not (np.isfinite(self.mean).all() and np.isfinite(self.std).all() and (self.std > 0).all()):
            raise ArgumentError(f"Normalize(mean={mean}, std={std}): need finite numbers and std > 0")

    def apply(self, x: np.ndarray, mask: np.ndarray | None, keys: np.ndarray) -> Pair:
        """Shift and scale; the mask stays."""
        if self.mean.size not in (1, x.shape[-1]) or self.std.size not in (1, x.shape[-1]):
            raise ShapeError(
                f"Normalize has {self.mean.size} means and {self.std.size} stds for {x.shape[-1]} channels"
            )
        if (self.mean == 0).all() and (self.std == 1).all():
            return x, mask
        return (x - self.mean) / self.std, mask


class Brightness(Transform):
    """Add one number to the whole picture, uniform in -amount..amount. Values may leave 0..1."""

    def __init__(self, amount: float):
        self.amount = _amount("Brightness", amount=amount)

    def apply(self, x: np.ndarray, mask: np.ndarray | None, keys: np.ndarray) -> Pair:
        """Lighten or darken each picture; the mask stays."""
        if self.amount == 0:
            return x, mask
        return x + between(keys, -self.amount, self.amount).reshape(-1, 1, 1, 1), mask


class Contrast(Transform):
    """Stretch the values around the picture's mean, by a factor uniform in 1-amount..1+amount."""

    def __init__(self, amount: float):
        self.amount = _amount("Contrast", amount=amount)
        if self.amount > 1:
            raise ArgumentError(
                f"Contrast(amount={amount}): above 1 some pictures would turn into their negatives"
            )

    def apply(self, x: np.ndarray, mask: np.ndarray | None, keys: np.ndarray) -> Pair:
        """Stretch or flatten each picture; the mask stays."""
        if self.amount == 0:
            return x, mask
        factor = between(keys, 1 - self.amount, 1 + self.amount).reshape(-1, 1, 1, 1)
        mean = x.mean(axis=(1, 2), keepdims=True)
        return mean + (x - mean) * factor, mask


class Geometric(Transform):
    """Base of transforms that move pixels: a subclass says from which place each new pixel is taken."""

    fill: float = 0.0

    def is_identity(self) -> bool:
        """Whether the parameters move nothing at all."""
        raise TypeError(f"{type(self).__name__} does not define is_identity()")

    def move(self, places: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """From ``places`` (N, H, W, 2), rows and columns, to the places before the transform."""
        raise TypeError(f"{type(self).__name__} does not define move(places, keys)")

    def apply(self, x: np.ndarray, mask: np.ndarray | None, keys: np.ndarray) -> Pair:
        """Move the pixels of the pictures and of the mask to the same places."""
        return _warp([(self, keys)], x, mask)


class RandomAffine(Geometric):
    """Rotate, shear, scale and shift, about the picture's middle.

    rotation: uniform in -rotation..rotation degrees. shear: uniform in -shear..shear, columns per row (0.1
    leans by 5.7 degrees). scale: the factor is uniform in 1-scale..1+scale, in both directions alike. shift:
    uniform in -shift..shift pixels, for rows and for columns. What comes from outside is ``fill``.
    """

    def __init__(
        self,
        rotation: float = 0.0,
        shear: float = 0.0,
        scale: float = 0.0,
        shift: float = 0.0,
        fill: float = 0.0,
    ):
        self.rotation = _amount("RandomAffine", rotation=rotation)
        self.shear, self.shift = _amount("RandomAffine", shear=shear), _amount("RandomAffine", shift=shift)
        self.scale, self.fill = _amount("RandomAffine", scale=scale), float(fill)
        if self.scale >= 1:
            raise ArgumentError(
                f"RandomAffine(scale={scale}): need less than 1, the factor is 1-scale..1+scale"
            )

    def is_identity(self) -> bool:
        """Whether all four are 0."""
        return self.rotation == self.shear == self.scale == self.shift == 0

    def matrices(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What happens to a place (row, column) seen from the middle: matrix (N, 2, 2) and shift (N, 2)."""
        chance = 2 * uniform(keys, 5) - 1  # (N, 5) in -1..1
        angle, shear = np.deg2rad(self.rotation * chance[:, 0]), self.shear * chance[:, 1]
        cos, sin, one, zero = np.cos(angle), np.sin(angle), np.ones_like(shear), np.zeros_like(shear)
        turn = np.stack([cos, -sin, sin, cos], axis=-1).reshape(-1, 2, 2)
        lean = np.stack([one, zero, shear, one], axis=-1).reshape(-1, 2, 2)
        factor = 1 + self.scale * chance[:, 2]
        return factor[:, None, None] * (turn @ lean), self.shift * chance[:, 3:]

    def move(self, places: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Undo the transform: subtract the shift, multiply by the inverse matrix."""
        matrix, shift = self.matrices(keys)
        n, height, width, _ = places.shape
        middle = np.array([(height - 1) / 2, (width - 1) / 2], np.float32)
        flat = places.reshape(n, -1, 2) - (middle + shift)[:, None]
        back = flat @ np.linalg.inv(matrix).transpose(0, 2, 1) + middle
        return back.astype(np.float32).reshape(places.shape)


class ElasticDeformation(Geometric):
    """Bend the picture like rubber (Simard, Steinkraus and Platt, ICDAR 2003).

    Each pixel gets a random displacement, uniform in -1..1 for rows and for columns; the field is smoothed by
    a Gaussian of ``sigma`` pixels and multiplied by ``alpha``. The paper's sigma=4, alpha=34 moves pixels by
    1.4 on average (standard deviation); a smaller sigma crumples, a larger one shifts.
    """

    def __init__(self, alpha: float = 34.0, sigma: float = 4.0, fill: float = 0.0):
        self.alpha, self.sigma = (
            _amount("ElasticDeformation", alpha=alpha),
            _amount("ElasticDeformation", sigma=sigma),
        )
        self.fill = float(fill)

    def is_identity(self) -> bool:
        """Whether alpha is 0."""
        return self.alpha == 0

    def field(self, keys: np.ndarray, height: int, width: int) -> np.ndarray:
        """The displacements (N, height, width, 2) in pixels, rows then columns."""
        rough = 2 * uniform(keys, 2 * height * width) - 1
        rough = rough.reshape(-1, 2, height, width)
        down = np.float32(self.alpha) * _gaussian(height, self.sigma)
        return np.moveaxis(down @ rough @ _gaussian(width, self.sigma), 1, -1)

    def move(self, places: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Add the displacement that belongs to each new pixel."""
        return places + self.field(keys, *places.shape[1:3])


class Compose(Transform):
    """Several transforms, one after the other.

    Geometric ones that follow each other are merged, so that the picture is resampled, and blurred, only
    once: their displacements all belong to the pixels of the final picture.
    """

    def __init__(self, transforms: Sequence[Transform]):
        self.transforms = list(transforms)
        for transform in self.transforms:
            if not isinstance(transform, Transform):
                raise DTypeError(f"Compose takes transforms, got {transform!r}")

    def apply(self, x: np.ndarray, mask: np.ndarray | None, keys: np.ndarray) -> Pair:
        """Apply each in turn, each with random numbers of its own."""
        moves: list[tuple[Geometric, np.ndarray]] = []
        for number, transform in enumerate(self.transforms):
            own = branch(keys, number)
            if isinstance(transform, Geometric):
                moves.append((transform, own))
                continue
            x, mask = _warp(moves, x, mask)
            moves = []
            x, mask = transform.apply(x, mask, own)
        return _warp(moves, x, mask)


def _warp(moves: list[tuple[Geometric, np.ndarray]], x: np.ndarray, mask: np.ndarray | None) -> Pair:
    """Resample once after all ``moves``, (transform, keys) pairs in the order in which they happen."""
    moves = [(transform, keys) for transform, keys in moves if not transform.is_identity()]
    if not moves:
        return x, mask
    _check_pictures(x, mask)
    places = np.broadcast_to(_grid(*x.shape[1:3]), (len(x), *x.shape[1:3], 2))
    for transform, keys in reversed(moves):  # from the new picture back to the old one
        places = transform.move(places, keys)
    places = np.ascontiguousarray(places, np.float32)
    return _resampled(x, places, moves[-1][0].fill), None if mask is None else _resampled_mask(mask, places)


def _resampled(x: np.ndarray, places: np.ndarray, fill: float) -> np.ndarray:
    x = np.ascontiguousarray(x, np.float32)
    out = np.empty_like(x)
    kernels("sampling").bilinear(x, places, np.float32(fill), out)
    return out


def _resampled_mask(mask: np.ndarray, places: np.ndarray) -> np.ndarray:
    flat = np.ascontiguousarray(mask).reshape(*mask.shape[:3], -1)
    out = np.empty_like(flat)
    kernels("sampling").nearest(flat, places, flat.dtype.type(0), out)
    return out.reshape(mask.shape)


def _grid(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns], axis=-1).astype(np.float32)  # (H, W, 2)


def _gaussian(size: int, sigma: float) -> np.ndarray:
    """The matrix (size, size) that smooths a line of ``size`` pixels, with zeros beyond its ends."""
    if sigma == 0:
        return np.eye(size, dtype=np.float32)
    distance = np.arange(size)[:, None] - np.arange(size)
    reach = np.arange(-math.ceil(4 * sigma), math.ceil(4 * sigma) + 1)
    weights = np.exp(-0.5 * (distance / sigma) ** 2) / np.exp(-0.5 * (reach / sigma) ** 2).sum()
    return weights.astype(np.float32)


def _amount(name: str, **value: float) -> float:
    ((parameter, number),) = value.items()
    if not isinstance(number, int | float | np.number) or not math.isfinite(number) or number < 0:
        raise ArgumentError(f"{name}({parameter}={number!r}): need a finite number of at least 0")
    return float(number)


def _check_pictures(x: np.ndarray, mask: np.ndarray | None) -> None:
    if x.ndim != 4:
        raise ShapeError(f"transforms take pictures (N, H, W, C), got shape {x.shape}")
    if x.dtype.kind != "f":
        raise DTypeError(
            f"transforms take float32 pictures, got {x.dtype}; divide 8-bit pictures by 255 first"
        )
    if mask is not None and (mask.shape[:3] != x.shape[:3] or mask.ndim not in (3, 4)):
        raise ShapeError(f"the mask's shape {mask.shape} does not fit the pictures' {x.shape}")
