"""The process of one engine: it waits on a pipe for orders, one line of JSON each, and answers in kind.

Started by children.py as ``python -m benchmarks.worker ENGINE THREADS``. While it waits it uses no processor.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import sys
import time
import traceback
from pathlib import Path
from typing import Any, TextIO

from benchmarks import engines, machine, timing
from benchmarks.nets import NETS, read_weights

FEWEST_STEPS = 3


class Session:
    """One engine, and the network it works on now. Public methods are the orders."""

    def __init__(self, name: str, threads: int):
        self._module = engines.module_of(name)
        self._module.load(threads)
        self._package = engines.KNOWN[name].package
        self._after_import = memory("VmRSS")
        self._engines: dict[str, Any] = {}

    def hello(self) -> dict[str, Any]:
        """What is running here, and in which environment; fails where the engine cannot work."""
        self._prove()
        return {
            "package": self._package,
            "version": importlib.metadata.version(self._package),
            "python": platform.python_version(),
            "environment": machine.environment(),
            "imported_mib": self._after_import,
        }

    def _prove(self) -> None:
        getattr(self._module, "prove", lambda: None)()

    def prepare(
        self, net: str, sample: list[int], batch: int, weights: str, dropout: bool, modes: list[str]
    ) -> dict[str, Any]:
        """Make the network from the weights in a file, once for each mode, and its batch."""
        network, values = NETS[net]._replace(sample=tuple(sample)), read_weights(Path(weights))
        x, labels = network.batch_of(batch)
        make = self._module.Engine
        self._engines = {mode: make(network, x, labels, values, dropout, mode) for mode in modes}
        return {}

    def compute(self, steps: int) -> dict[str, Any]:
        """For comparison with other engines: some logits, and the losses of ``steps`` steps in each mode."""
        any_mode = next(iter(self._engines))
        return {
            "logits": self._engines.get("infer", self._engines[any_mode])
            .logits()
            .reshape(-1)[:1000]
            .tolist(),
            "losses": {
                mode: [float(engine.step()) for _ in range(steps)]
                for mode, engine in self._engines.items()
                if mode != "infer"
            },
        }

    def run(self, mode: str, seconds: float) -> dict[str, Any]:
        """Train or infer for some seconds. Tells how many steps, how long, and whether others disturbed."""
        engine = self._engines[mode]
        call = engine.infer if mode == "infer" else engine.step
        watch, begin, steps, elapsed = timing.Watch(), time.perf_counter(), 0, 0.0
        while steps < FEWEST_STEPS or elapsed < seconds:
            call()
            steps += 1
            elapsed = time.perf_counter() - begin
        return {"steps": steps, "seconds": elapsed, "others": watch.others(), "disturbed": watch.disturbed()}

    def peak(self, steps: int) -> dict[str, Any]:
        """Peak memory of training steps in MiB, after some to warm up: in all, and beyond the imports."""
        step = self._engines["adam"].step
        for _ in range(steps):
            step()
        from_here = forget_peak()
        for _ in range(steps):
            step()
        high = memory("VmHWM")
        return {"peak_mib": high, "step_mib": high - self._after_import, "warm_up_excluded": from_here}


def memory(field: str) -> float:
    """A figure of /proc/self/status in MiB: VmRSS is what the process holds now, VmHWM the most it ever held.

    0 where the system does not tell, that is outside of Linux.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def forget_peak() -> bool:
    """Set VmHWM back to the memory that is held now; tells whether the system allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def main(words: list[str], kind: type[Session] = Session) -> None:
    """Answer orders until the pipe is closed."""
    answers = _take_stdout()
    session = kind(words[0], int(words[1]), *words[2:])
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = getattr(session, order.pop("do"))(**order)
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


def _take_stdout() -> TextIO:
    """Keep the pipe for answers; whatever else is printed in this process goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    main(sys.argv[1:])
