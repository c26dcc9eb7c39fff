"""Starting the processes of the engines, and talking to them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from types import TracebackType
from typing import Any

from benchmarks.engines import ENGINES
from benchmarks.machine import ROOT

# Libraries read these when they start: all engines get the same number of threads.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class EngineError(RuntimeError):
    """An engine's process failed; the text is what it said."""


class Child:
    """The process of one engine, as a ``with`` block: ``child.ask("run", mode="train", seconds=1.0)``."""

    def __init__(self, engine: str, threads: int):
        self.engine = engine
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by __exit__)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", engine, str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True, cwd=ROOT,
            env=environment(engine, threads),
        )  # fmt: skip

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            pipe.close()

    def ask(self, order: str, **settings: Any) -> dict[str, Any]:
        """Send an order, wait for its answer. Raises :class:`EngineError` when the engine failed."""
        try:
            self._process.stdin.write(json.dumps({"do": order, **settings}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line) if line else {"error": self._last_words()}
        if "error" in answer:
            raise EngineError(f"{self.engine} failed to {order}:\n{answer['error']}")
        return answer

    def _last_words(self) -> str:
        self._process.wait()
        self._said.seek(0)
        return f"its process ended with code {self._process.returncode}\n{self._said.read()[-4000:]}"


def environment(engine: str, threads: int) -> dict[str, str]:
    """This process's environment, the same threads for all, and the allocator as this engine wants it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    return inherited | dict.fromkeys(_THREADS, str(threads)) | ENGINES[engine].environment
