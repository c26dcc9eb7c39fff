"""Pictures about a training run: the worst mistakes of a classifier, and the curves of its history."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np

from tinynet.errors import MissingPackageError, ShapeError
from tinynet.files import atomic_write

_ZOOM, _GAP, _CAPTION = 4, 14, 46  # enlargement of a pixel; pixels between tiles and below a digit
_PAPER, _TEXT, _WRONG = (255, 255, 255), (32, 32, 32), (190, 30, 45)


def worst_mistakes(probabilities: Any, labels: Any, count: int = 24) -> np.ndarray:
    """Numbers of the samples (at most ``count``) that were read wrongly, the surest mistake first.

    ``probabilities`` (n, classes) as ``predict`` returns them, ``labels`` (n,) the true classes. The order is
    by the probability that the wrong answer was given.
    """
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise ShapeError(
            f"need probabilities (n, classes) and labels (n,), got {probabilities.shape} and {labels.shape}"
        )
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    sureness = probabilities[wrong].max(axis=1)
    return wrong[np.argsort(-sureness, kind="stable")][:count]


def draw_mistakes(
    path: str | os.PathLike, images: Any, labels: Any, probabilities: Any, *, columns: int = 6, rows: int = 4
) -> int:
    """Write a PNG with the worst mistakes, each with its label and what it was read as; returns how many.

    ``images`` (n, H, W, 1) from 0 to 1, ink high; ``labels`` (n,); ``probabilities`` (n, classes).
    """
    from PIL import Image, ImageDraw, ImageFont

    images = np.asarray(images)
    worst = worst_mistakes(probabilities, labels, columns * rows)
    side = images.shape[1] * _ZOOM
    used = (min(columns, max(len(worst), 3)), max(-(-len(worst) // columns), 1))
    size = (used[0] * (side + _GAP) + _GAP, used[1] * (side + _CAPTION + _GAP) + _GAP + _CAPTION)
    page = Image.new("RGB", size, _PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(17)
    pen.text((_GAP, _GAP), _headline(len(worst), probabilities, labels), _TEXT, font)
    for place, number in enumerate(worst):
        x = _GAP + place % columns * (side + _GAP)
        y = _CAPTION + _GAP + place // columns * (side + _CAPTION + _GAP)
        page.paste(_tile(images[number], side), (x, y))
        _caption(pen, font, (x, y + side + 4), int(labels[number]), np.asarray(probabilities[number]))
    _save_png(path, page)
    return len(worst)


def _headline(shown: int, probabilities: Any, labels: Any) -> str:
    wrong = int((np.asarray(probabilities).argmax(axis=1) != np.asarray(labels)).sum())
    if not wrong:
        return f"no mistake in {len(labels):,}"
    return f"{wrong:,} mistakes in {len(labels):,}" + (f", the {shown} surest:" if shown < wrong else ":")


def _tile(image: np.ndarray, side: int) -> Any:
    from PIL import Image

    ink = np.clip(image.reshape(image.shape[:2]) * 255, 0, 255).astype(np.uint8)
    return Image.fromarray(ink).resize((side, side), Image.Resampling.NEAREST)


def _caption(pen: Any, font: Any, corner: tuple[int, int], label: int, chances: np.ndarray) -> None:
    read = int(chances.argmax())
    pen.text(corner, f"is {label}", _TEXT, font)
    pen.text((corner[0], corner[1] + 19), f"read as {read}, {100 * chances[read]:.0f} %", _WRONG, font)


def _save_png(path: str | os.PathLike, page: Any) -> None:
    buffer = BytesIO()
    page.save(buffer, "png")
    atomic_write(path, buffer.getvalue())


def draw_curves(path: str | os.PathLike, history: Sequence[Mapping[str, float]]) -> None:
    """Write a PNG with one panel per number of the history, training and validation together, over epochs.

    ``history`` holds a dict per epoch; "val_loss" goes into the panel of "loss". Raises
    :class:`MissingPackageError` without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError('curves need matplotlib: pip install "matplotlib>=3.8"') from error
    names = [n for n in (history[0] if len(history) else {}) if _is_curve(n, history)]
    panels = list(dict.fromkeys(name.removeprefix("val_") for name in names)) or ["loss"]
    figure = Figure(figsize=(4.8 * len(panels), 3.6), layout="constrained")
    for axes, panel in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels):
        for name, kind in ((panel, "training"), (f"val_{panel}", "validation")):
            if name in names:
                axes.plot(range(1, len(history) + 1), [epoch.get(name) for epoch in history], "o-", label=kind)
        axes.set(title=panel.replace("_", " "), xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    atomic_write(path, buffer.getvalue())


def _is_curve(name: str, history: Sequence[Mapping[str, float]]) -> bool:
    """Single numbers only, and of those the ones that belong together: losses and metrics, not times."""
    return name.removeprefix("val_") not in ("seconds", "samples_per_second", "lr") and all(
        isinstance(epoch.get(name, 0.0), int | float) for epoch in history
    )
