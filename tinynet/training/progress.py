"""What ``fit`` shows while it runs: a bar on a terminal, one line per epoch elsewhere, or nothing."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Any

from tinynet.errors import unknown_name
from tinynet.training.callbacks import Callback
from tinynet.training.history import describe

if TYPE_CHECKING:
    from tinynet.training.trainer import Trainer

CHOICES = ("auto", "bar", "lines", "silent")


def progress(verbose: str | int) -> Silent:
    """The callback for ``fit(verbose=...)``: "auto" is "bar" on a terminal, else "lines"; 0 is "silent"."""
    kind = "silent" if verbose == 0 else verbose
    if kind not in CHOICES:
        raise unknown_name("verbose", verbose, [*CHOICES, "0"])
    if kind == "auto":
        kind = "bar" if sys.stdout is not None and sys.stdout.isatty() else "lines"
    return {"bar": Bar, "lines": Lines, "silent": Silent}[str(kind)]()


class Silent(Callback):
    """Show nothing."""

    rank = 3

    def close(self) -> None:
        """Leave the terminal as it should be, whatever happened; twice does no harm."""


class Lines(Silent):
    """One line per epoch: its numbers, its speed without validation, and the time it took with it."""

    def on_epoch_begin(self, trainer: Trainer) -> None:
        self._begin = self._now = time.perf_counter()
        self._seen = self._seen_before = trainer.samples  # not 0 where an epoch is resumed in its middle

    def on_batch_end(self, trainer: Trainer) -> None:
        self._now, self._seen = time.perf_counter(), trainer.samples

    def on_epoch_end(self, trainer: Trainer) -> None:
        self._print(self._line(trainer))

    def _print(self, line: str) -> None:
        print(line, flush=True)

    def _line(self, trainer: Trainer) -> str:
        numbers = {name: v for name, v in trainer.history[-1].items() if name != "lr"}
        width = len(str(trainer.epochs))
        took = f"{self._speed(trainer)}  {time.perf_counter() - self._begin:.1f} s"
        why = f"  stopping: {trainer.stop_reason}" if trainer.stop_reason else ""
        return f"epoch {trainer.epoch:{width}}/{trainer.epochs}  {describe(numbers)}  {took}{why}"

    def _speed(self, trainer: Trainer) -> str:
        seconds = max(self._now - self._begin, 1e-9)
        return f"{(self._seen - self._seen_before) / seconds:,.0f} {unit(trainer)}/s"


class Bar(Lines):
    """A bar for the epoch under way, drawn by rich; the line of :class:`Lines` takes its place at the end."""

    EVERY = 0.1  # seconds between two updates: a small net does thousands of batches in a second

    def __init__(self) -> None:
        self._bar: Any = None
        self._from: tuple[float, float] | None = None  # time and place from which the pace is measured

    def on_epoch_begin(self, trainer: Trainer) -> None:
        super().on_epoch_begin(trainer)
        self._shown = 0.0
        self._bar, self._task = make_bar(f"epoch {trainer.epoch + 1}/{trainer.epochs}", trainer.batches)
        self._bar.start()

    def on_batch_end(self, trainer: Trainer) -> None:
        super().on_batch_end(trainer)
        if self._from is None:  # not earlier: the first batch may have compiled kernels
            self._from = self._now, self._done(trainer)
        if self._now - self._shown >= self.EVERY:
            self._shown = self._now
            self._bar.update(self._task, completed=trainer.batch, status=self._status(trainer))

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _print(self, line: str) -> None:
        self.close()
        super()._print(line)

    def _status(self, trainer: Trainer) -> str:
        numbers = describe(trainer.running(metrics=1))  # there is no room for more
        return f"{numbers}  {self._speed(trainer)}  {clock(self._seconds_left(trainer))} left"

    def _done(self, trainer: Trainer) -> float:
        return trainer.epoch + trainer.batch / trainer.batches

    def _seconds_left(self, trainer: Trainer) -> float:
        """Of the whole fit, at the pace so far; NaN while there is none."""
        begin, before = self._from or (0.0, 0.0)
        done = self._done(trainer)
        return (self._now - begin) / (done - before) * (trainer.epochs - done) if done > before else math.nan


def unit(trainer: Trainer) -> str:
    """What a sample is called: "images" when it has the axes H, W, C."""
    return "images" if len(trainer.model.input_shape or ()) == 3 else "samples"


def make_bar(title: str, total: int) -> tuple[Any, Any]:
    """A rich progress bar that disappears at its end, and its only task, with a field ``status``."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    text = TextColumn("{task.description}"), TextColumn("{task.fields[status]}", markup=False)
    columns = (text[0], BarColumn(bar_width=None), text[1])  # the bar takes what the texts leave
    console = Console(file=sys.stdout)
    bar = Progress(*columns, console=console, transient=True, expand=True, refresh_per_second=8)
    return bar, bar.add_task(title, total=total, status="")


def clock(seconds: float) -> str:
    """``0:07``, ``12:34`` or ``1:02:03``; ``-:--`` for NaN."""
    if math.isnan(seconds):
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
