"""Pictures of results: the worst mistakes of a classifier, the curves of its history, bars side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np

from tinynet.errors import ShapeError
from tinynet.files import atomic_write
from tinynet.training import History

_ZOOM, _GAP, _CAPTION = 5, 16, 44  # enlargement of a pixel; pixels between tiles, and below a digit
_PAPER, _INK, _WRONG = "white", (32, 32, 32), (190, 30, 45)


def worst_mistakes(probabilities: Any, labels: Any, count: int = 24) -> np.ndarray:
    """Numbers of the samples that were read wrongly, the surest mistake first, at most ``count`` of them.

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
    worst = worst_mistakes(probabilities, labels, columns * rows)
    images, labels, probabilities = np.asarray(images), np.asarray(labels), np.asarray(probabilities)
    wrong = int((probabilities.argmax(axis=1) != labels).sum())
    page = _Page(_headline(wrong, len(worst), len(labels)), len(worst), columns, images.shape[1:3])
    for i in worst:
        answer = int(probabilities[i].argmax())
        page.add(images[i], f"is {labels[i]}", f"read as {answer}, {100 * probabilities[i, answer]:.0f} %")
    page.save(path)
    return len(worst)


def _headline(wrong: int, shown: int, n: int) -> str:
    if not wrong:
        return f"no mistake in {n:,}"
    return f"{wrong:,} mistakes in {n:,}" + (f"; the {shown} surest:" if shown < wrong else ":")


class _Page:
    """A page of enlarged pictures with two lines of text below each."""

    def __init__(self, headline: str, count: int, columns: int, shape: tuple[int, int]):
        from PIL import Image, ImageDraw, ImageFont

        self.columns, self.count = columns, 0
        self.height, self.width = shape[0] * _ZOOM, shape[1] * _ZOOM
        across, down = max(3, min(count, columns)), -(-count // columns)
        size = (across * (self.width + _GAP) + _GAP, down * (self.height + _CAPTION + _GAP) + 3 * _GAP)
        self.image = Image.new("RGB", size, _PAPER)
        self.pen, self.font = ImageDraw.Draw(self.image), ImageFont.load_default(17)
        self.pen.text((_GAP, _GAP // 2), headline, _INK, self.font)

    def add(self, picture: np.ndarray, first: str, second: str) -> None:
        """Put a picture (H, W, 1), 0..1, in the next place."""
        from PIL import Image

        row, column = divmod(self.count, self.columns)
        x, y = _GAP + column * (self.width + _GAP), 3 * _GAP + row * (self.height + _CAPTION + _GAP)
        grey = np.rint(np.clip(picture[..., 0], 0, 1) * 255).astype(np.uint8)
        self.image.paste(
            Image.fromarray(grey).resize((self.width, self.height), Image.Resampling.NEAREST), (x, y)
        )
        self.pen.text((x, y + self.height + 2), first, _INK, self.font)
        self.pen.text((x, y + self.height + 21), second, _WRONG, self.font)
        self.count += 1

    def save(self, path: str | os.PathLike) -> None:
        """Write the page as PNG."""
        buffer = BytesIO()
        self.image.save(buffer, "png")
        atomic_write(path, buffer.getvalue())


def draw_curves(path: str | os.PathLike, history: History) -> bool:
    """Write a PNG with a panel for each number of the history over the epochs, validation in the same panel.

    Returns False, and writes nothing, where matplotlib is not installed.
    """
    if (Figure := _figure_class()) is None:
        return False
    panels = list(dict.fromkeys(name.removeprefix("val_") for name in history.columns)) or ["loss"]
    figure = Figure(figsize=(4.6 * len(panels), 3.6), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        _draw_panel(axes, panel, history)
    _write(path, figure)
    return True


def draw_bars(path: str | os.PathLike, values: Mapping[str, float], title: str, unit: str) -> bool:
    """Write a PNG with a bar for each of the positive values, on a logarithmic axis, the number beside it.

    Returns False, and writes nothing, where matplotlib is not installed.
    """
    if (Figure := _figure_class()) is None:
        return False
    names, numbers = list(values), list(values.values())
    figure = Figure(figsize=(8, 1.6 + 0.6 * len(names)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(names, numbers, color="#0b6e4f")
    axes.bar_label(bars, [f"{number:.3g}" for number in numbers], padding=4)
    axes.set_xscale("log")
    axes.set_xlim(min(numbers) / 3, max(numbers) * 4)
    axes.invert_yaxis()  # the first one on top
    axes.set_title(title, loc="left")
    axes.set_xlabel(unit)
    axes.spines[["top", "right"]].set_visible(False)
    _write(path, figure)
    return True


def _figure_class() -> Any:
    """matplotlib's Figure; None where it is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    return Figure


def _write(path: str | os.PathLike, figure: Any) -> None:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    atomic_write(path, buffer.getvalue())


def _draw_panel(axes: Any, panel: str, history: History) -> None:
    for name, label in ((panel, "training"), (f"val_{panel}", "held-out")):
        if name in history:
            axes.plot(range(1, len(history) + 1), history[name], "o-", markersize=4, label=label)
    axes.set(title={"lr": "learning rate"}.get(panel, panel), xlabel="epoch")
    axes.set_xlim(0.7, max(len(history), 1) + 0.3)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.grid(alpha=0.3)
    if f"val_{panel}" in history:
        axes.legend()
