"""How the pen of :func:`tinynet.data.digits` writes: one number per nuisance, to be switched off at will."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from tinynet.errors import ArgumentError, unknown_name


@dataclass(frozen=True)
class DigitStyle:
    """The hand that draws digits. A lesson changes one thing: ``dataclasses.replace(WIDE, warp=0.0)``.

    The defaults are those with which a net trained on drawn digits alone does best on real ones. "sd" is the
    standard deviation of a normal distribution; "box" lengths are shares of the skeleton's unit box.
    Negative or infinite numbers raise :class:`ArgumentError`.
    """

    jitter: float = 0.07  # sd of each control point's place (box)
    stroke_shift: float = 0.04  # sd of each whole stroke's place, in forms of several strokes (box)
    trim: float = 0.06  # sd of what each end of a stroke loses or gains (share of its length)
    balance_x: float = 0.15  # sd of log(p) in x -> x^p: the left part larger or the right
    balance_y: float = 0.18  # the same for top and bottom: a small head, a large foot
    warp: float = 0.06  # sd of each of the slow sine waves that bend the whole sheet (box)
    aspect: float = 0.85  # width over height of the skeleton's box
    aspect_of_one: float = 0.5  # the same for the digit 1
    aspect_spread: float = 0.18  # sd of log(aspect)
    slant: float = 0.12  # mean lean to the right (x per unit of y)
    slant_of_one: float = 0.25  # the same for the digit 1
    slant_spread: float = 0.26  # sd of the lean
    rotation: float = 7.0  # sd in degrees
    width: float = 2.75  # mean width of the pen (pixels)
    width_spread: float = 0.7  # its sd from digit to digit (pixels)
    width_least: float = 1.3  # the thinnest pen (pixels)
    width_cap: float = 0.3  # the widest pen, as a share of a narrow form's width
    pressure: float = 0.3  # sd of log(width) along the stroke: a slow wave
    rough_width: float = 0.15  # sd of the width from point to point (share of it)
    rough_edge: float = 0.0375  # sd of the path from point to point (share of the pen's width)
    box: float = 20.0  # long side of the ink (pixels)
    edge: float = 1.15  # width of the soft edge (pixels)
    edge_power: float = 1.3  # above 1 the soft edge is darker outside than a straight ramp
    gain_low: float = 0.95  # the ink's strength is uniform between these two; what exceeds 1 is cut off
    gain_high: float = 1.15
    centre_by_mass: float = (
        1.0  # 1: centre of mass to the middle, as in MNIST; 0: the box stays in the middle
    )

    def __post_init__(self) -> None:
        for name in FIELDS:
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise ArgumentError(f"DigitStyle({name}={value!r}): need a finite number of at least 0")
        if not 4 <= self.box <= 28 or self.edge == 0 or self.rotation > 360:
            raise ArgumentError(
                f"DigitStyle(box={self.box}, edge={self.edge}, rotation={self.rotation}): "
                "need 4 <= box <= 28, edge > 0, rotation <= 360"
            )


FIELDS = tuple(field.name for field in fields(DigitStyle))

WIDE = DigitStyle()
"""The training style: wide on purpose, it is the augmentation. Some of its digits no person can read."""

READABLE = DigitStyle(jitter=0.035, stroke_shift=0.02, trim=0.03, warp=0.03, pressure=0.15)
"""The held-out style: the same hand, writing so that a person can read it. A test must be fair."""

_NAMED = {"wide": WIDE, "readable": READABLE}


def style(setting: DigitStyle | str) -> DigitStyle:
    """The style itself, or the one that is called ``"wide"`` or ``"readable"``."""
    if isinstance(setting, DigitStyle):
        return setting
    if setting not in _NAMED:
        raise unknown_name("setting", setting, _NAMED)
    return _NAMED[setting]
