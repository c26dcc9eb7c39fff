"""Starting the processes of the engines, and talking to them."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple

from benchmarks.engines import KNOWN
from benchmarks.machine import ROOT

# Libraries read these when they start: all engines get the same number of threads.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class EngineError(RuntimeError):
    """An engine's process failed; the text is what it said."""


class Launch(NamedTuple):
    """How processes are started: threads, the Python of an engine that is not this one, seconds to wait, and
    what else an engine's process is told."""

    threads: int
    pythons: Mapping[str, str] = MappingProxyType({})
    patience: float = 600.0
    words: tuple[str, ...] = ()

    def python(self, engine: str) -> str:
        """The interpreter that has the engine's package."""
        return self.pythons.get(engine, sys.executable)

    def lacks(self, engine: str) -> str:
        """Why the engine cannot be used, with the command that helps; empty when its package is there."""
        package = KNOWN[engine].package
        script = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
        try:
            done = subprocess.run(
                [self.python(engine), "-c", script], cwd=ROOT, capture_output=True, check=False
            )
        except OSError as error:
            return f"{self.python(engine)} cannot be started: {error.strerror}"
        return f"{engine} is not installed: {self._pip(engine)} install {package}" if done.returncode else ""

    def _pip(self, engine: str) -> str:
        return f"{self.pythons[engine]} -m pip" if engine in self.pythons else "pip"


class Child:
    """The process of one engine, as a ``with`` block: ``child.ask("run", mode="adam", seconds=1.0)``."""

    def __init__(self, engine: str, launch: Launch):
        self.engine, self.patience = engine, launch.patience
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by __exit__)
        self._process = subprocess.Popen(
            [launch.python(engine), "-m", KNOWN[engine].worker, engine, str(launch.threads), *launch.words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True, cwd=ROOT,
            env=environment(engine, launch.threads),
        )  # fmt: skip
        self._answers: queue.Queue[str] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")  # the end

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            with contextlib.suppress(BrokenPipeError):  # an order that nobody has read
                pipe.close()

    def ask(self, order: str, **settings: Any) -> dict[str, Any]:
        """Send an order, wait for its answer. Raises :class:`EngineError` when the engine failed.

        An engine that takes longer than its patience is ended, so that it does not disturb the others.
        """
        try:
            self._process.stdin.write(json.dumps({"do": order, **settings}) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=self.patience)
        except BrokenPipeError:
            line = ""
        except queue.Empty:
            self._process.kill()
            raise EngineError(
                f"{self.engine} took longer than {self.patience:g} s to {order}; --timeout"
            ) from None
        answer = json.loads(line) if line else {"error": self._last_words()}
        if "error" in answer:
            raise EngineError(f"{self.engine} failed to {order}:\n{answer['error']}")
        return answer

    def _last_words(self) -> str:
        self._process.wait()
        self._said.seek(0)
        return f"its process ended with code {self._process.returncode}\n{self._said.read()[-4000:]}"


def environment(engine: str, threads: int) -> dict[str, str]:
    """This process's environment, the same threads for all, and what else this engine wants to be set."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    return inherited | dict.fromkeys(_THREADS, str(threads)) | KNOWN[engine].environment
