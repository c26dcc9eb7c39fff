"""Pictures from files, with all the grey levels that are stored, and pictures of digits made like MNIST's."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from tinynet.errors import DataError, MissingPackageError, ShapeError

BOX = 20  # MNIST: the long side of the ink, in pixels
SIDE = 28  # MNIST: the picture's side
MASS_CENTRE = 14  # MNIST: where the centre of mass goes, in pixel indices
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_LEVELS = {
    "1": 1,
    "L": 255,
    "LA": 255,
    "RGB": 255,
    "RGBA": 255,
    "I;16": 65535,
    "I;16L": 65535,
    "I;16B": 65535,
    "I": 65535,
}


def read_image(path: str | os.PathLike) -> np.ndarray:
    """A grey picture (H, W, 1) in float32, 0 black to 1 white, from any file that Pillow reads.

    8-bit values are divided by 255 and 16-bit values by 65535, so that none of their levels is lost. Colours
    become their luma (ITU-R BT.601); transparent pictures are laid on white, light ink on black; the camera's
    orientation mark is obeyed. Raises :class:`DataError` for files that cannot be read.
    """
    mode, values = _decoded(path)
    if mode not in _LEVELS:
        raise DataError(
            f"{path} holds pixels of kind {mode}, whose range is not known; save it as 8 or 16-bit PNG"
        )
    values = values.astype(np.float32) / np.float32(_LEVELS[mode])
    if values.max(initial=0) > 1:
        raise DataError(f"{path} holds integers above {_LEVELS[mode]}; save it as 8 or 16-bit PNG")
    return _grey(values)[..., None]


def _decoded(path: str | os.PathLike) -> tuple[str, np.ndarray]:
    """Pillow's name for the kind of pixels, and the pixels."""
    pillow = _pillow()
    try:
        with pillow.open(path) as file:
            image = _upright(file)
            if image.mode not in (*_LEVELS, "F"):  # palette, CMYK, YCbCr, ...
                image = image.convert("RGBA" if image.has_transparency_data else "RGB")
            return image.mode, np.asarray(image)
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}") from error
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        raise DataError(f"cannot read {path} as a picture: {error}") from error


def _upright(image: Any) -> Any:
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingPackageError("reading pictures needs Pillow: pip install pillow") from error
    return Image


def _grey(values: np.ndarray) -> np.ndarray:
    """(H, W) from (H, W), (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4) RGBA."""
    if values.ndim == 2:
        return values
    alpha = values[..., -1] if values.shape[-1] in (2, 4) else None
    colours = values[..., : values.shape[-1] - (alpha is not None)]
    grey = colours @ _LUMA if colours.shape[-1] == 3 else colours[..., 0]
    return grey if alpha is None else _laid_on_paper(grey, alpha)


def _laid_on_paper(grey: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """White paper, or black for ink that is mostly light: ink must not vanish."""
    ink_is_light = (grey * alpha).sum() > 0.5 * alpha.sum()
    paper = np.float32(0 if ink_is_light else 1)
    return alpha * grey + (1 - alpha) * paper


def as_mnist(image: np.ndarray) -> np.ndarray:
    """A picture of one digit (H, W) or (H, W, 1), 0..1, as MNIST would show it: (28, 28, 1), ink 1 on 0.

    The ink is light on dark afterwards, 20 pixels long, with its centre of mass in the middle: nets that were
    trained on MNIST fail on pictures that lack this. Raises :class:`DataError` for a picture without ink.
    """
    return as_mnist_stages(image)["centred"]


def as_mnist_stages(image: np.ndarray) -> dict[str, np.ndarray]:
    """The steps of :func:`as_mnist`, (h, w, 1): "ink" on 0, "cropped", "scaled" to 20 pixels, "centred"."""
    image = np.asarray(image, np.float32)
    if image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,)) or 0 in image.shape:
        raise ShapeError(f"as_mnist takes a grey picture (H, W) or (H, W, 1), got shape {image.shape}")
    if not np.isfinite(image).all():
        raise DataError("the picture holds NaN or infinite values")
    ink = _ink(image.reshape(image.shape[:2]))
    cropped = _crop(ink)
    scaled = _scale(cropped)
    stages = {"ink": ink, "cropped": cropped, "scaled": scaled, "centred": _centre(scaled)}
    return {name: stage[..., None] for name, stage in stages.items()}


def _ink(image: np.ndarray) -> np.ndarray:
    """Ink 0..1 on 0: what differs from the paper by more than the noise at the picture's border."""
    difference = image - _paper(image)
    ink = difference if difference.max() > -difference.min() else -difference
    noise = 6 * np.median(np.abs(difference[_border(image.shape)]))
    strongest = ink.max()
    if strongest < 0.05 or strongest <= 1.5 * noise:
        raise DataError("the picture is blank: nothing on it stands out from its background")
    faintest = strongest * np.clip(noise / strongest, 0.02, 0.5)
    return np.where(ink > faintest, ink / strongest, 0).astype(np.float32)


def _border(shape: tuple[int, ...]) -> np.ndarray:
    """True on the outermost pixels of a picture of this shape."""
    border = np.ones(shape, bool)
    border[1:-1, 1:-1] = False
    return border


def _paper(image: np.ndarray) -> np.ndarray:
    """The paper's brightness (H, W): a plane through the border's usual pixels, for light from one side."""
    rows, columns = np.nonzero(_border(image.shape))
    values = image[rows, columns]
    away = np.abs(values - np.median(values))
    usual = away <= 4 * np.median(away)  # ink that touches the border is no paper
    places = np.stack([np.ones_like(rows), rows, columns], axis=-1)
    level, down, right = np.linalg.lstsq(places[usual], values[usual], rcond=None)[0]
    return level + down * np.arange(image.shape[0])[:, None] + right * np.arange(image.shape[1])


def _crop(ink: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _scale(ink: np.ndarray) -> np.ndarray:
    """The long side becomes 20 pixels, averaged over the pixels that melt into one; full ink stays 1."""
    pillow = _pillow()
    factor = BOX / max(ink.shape)
    height, width = (max(1, round(side * factor)) for side in ink.shape)
    small = np.asarray(pillow.fromarray(ink).resize((width, height), pillow.Resampling.BILINEAR))
    return small / small.max()


def _centre(ink: np.ndarray) -> np.ndarray:
    """Place on 28x28, by whole pixels, so that the centre of mass is nearest to pixel (14, 14)."""
    top = _offset(ink.sum(axis=1))
    left = _offset(ink.sum(axis=0))
    picture = np.zeros((SIDE, SIDE), np.float32)
    picture[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return picture


def _offset(mass: np.ndarray) -> int:
    centre = (np.arange(len(mass)) * mass).sum() / mass.sum()
    return int(np.clip(np.rint(MASS_CENTRE - centre), 0, SIDE - len(mass)))
