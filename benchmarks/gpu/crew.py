"""The processes that do the work. Whatever happens in one of them, the others and the results are safe."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.children import Child, EngineError, Launch
from benchmarks.race import summary


class Member:
    """A process that is started when it is first asked, and replaced after a failure."""

    def __init__(self, engine: str, launch: Launch, start: Callable[[str, Launch], Any] = Child):
        self.engine, self._launch, self._start = engine, launch, start
        self._child: Any = None
        self.process = 0  # counts those that were started
        self.faults: list[str] = []

    def ask(self, order: str, **settings: Any) -> Any:
        """The answer; raises :class:`EngineError`, with the process gone, when it failed."""
        if self._child is None:
            self._child, self.process = self._start(self.engine, self._launch), self.process + 1
        try:
            return self._child.ask(order, **settings)
        except EngineError:
            self.leave()
            raise

    def attempt(self, order: str, **settings: Any) -> Any:
        """The answer, or None when it failed: the reason is then the last of ``faults``."""
        try:
            return self.ask(order, **settings)
        except EngineError as error:
            self.faults.append(str(error))
            print(summary(error), file=sys.stderr, flush=True)
            return None

    def why(self) -> str:
        """The last failure in one line."""
        return summary(self.faults[-1]) if self.faults else ""

    def leave(self) -> None:
        """End the process, if there is one."""
        if self._child is not None:
            self._child.__exit__(None, None, None)
            self._child = None


@contextlib.contextmanager
def crew(
    engines: list[str], launch_of: Callable[[str], Launch], start: Callable[[str, Launch], Any] = Child
) -> Iterator[dict[str, Member]]:
    """One member for each engine; all processes end with the block."""
    members = {name: Member(name, launch_of(name), start) for name in engines}
    try:
        yield members
    finally:
        for member in members.values():
            member.leave()
