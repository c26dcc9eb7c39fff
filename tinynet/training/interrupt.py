"""Ctrl-C during training: finish the batch, keep everything, then stop."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinynet.training.history import History


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C stopped ``fit`` between two batches. ``history`` holds the finished epochs, the model its
    weights.

    A program catches it and ends with ``sys.exit(130)``, as a shell expects after Ctrl-C.
    """

    def __init__(self, message: str, history: History):
        super().__init__(message)
        self.history = history


class Interrupt:
    """Inside this block the first Ctrl-C only sets ``asked``; the second one interrupts at once.

    Signals reach the main thread alone, so in other threads nothing is installed; and a process that
    ignores Ctrl-C (``nohup``) goes on ignoring it. The handler that was there before comes back at the end.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Interrupt:
        before = signal.getsignal(signal.SIGINT)
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and before not in (None, signal.SIG_IGN):
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: object) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self._before)
        if sys.stderr is not None and sys.stderr.isatty():
            # print() is not allowed to interrupt itself, and the signal may have come in the middle of one
            os.write(2, b"\nstopping after this batch; Ctrl-C again stops at once\n")
