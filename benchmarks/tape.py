"""What the tape costs: a step of net (a) less its kernels, and operations on one number less NumPy's part."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks import timing
from benchmarks.engines.with_tinynet import Engine
from benchmarks.nets import NETS
from benchmarks.pace import of_this_machine
from benchmarks.race import Effort

CHAIN = 100  # operations in a row, so that the ends do not count

Call = tuple[Callable, tuple]


class Recorder:
    """Stands in for a room of kernels: computes what the room computes, and notes each call."""

    def __init__(self, room: ModuleType):
        self.room, self.calls = room, list[Call]()

    def __getattr__(self, name: str) -> Callable:
        from tinynet.kernels import blocks

        kernel = getattr(self.room, name, None)
        if not callable(kernel):
            kernel = functools.partial(getattr(blocks, name), self.room)
        return functools.partial(self._call, kernel)

    def _call(self, kernel: Callable, *arguments: Any) -> Any:
        self.calls.append((kernel, arguments))
        return kernel(*arguments)


@contextlib.contextmanager
def recorded() -> Iterator[list[Call]]:
    """The kernels that are called in this block, with their arguments."""
    from tinynet.kernels import rooms

    room = rooms.loaded["fast"]
    recorder = Recorder(room)
    rooms.loaded["fast"] = recorder
    try:
        yield recorder.calls
    finally:
        rooms.loaded["fast"] = room


def step_overhead(batch: int, effort: Effort) -> dict[str, Any]:
    """A training step of net (a) beside the same kernel calls alone: microseconds, medians of the rounds.

    What lies between is the tape, the layers, the loss, the optimiser's Python, and what NumPy does in them.
    """
    net = NETS["a"]
    x, labels = net.batch_of(batch)
    engine = Engine(net, x, labels, [p.data for p in net.in_tinynet().parameters()], True, "adam")
    engine.step()
    with recorded() as calls:
        engine.step()

    def kernels_alone() -> None:
        for kernel, arguments in calls:
            kernel(*arguments)

    figures = _beside({"step": engine.step, "kernels": kernels_alone}, effort, 1)
    return {"batch": batch, "kernel_calls": len(calls)} | figures


def op_overheads(effort: Effort) -> list[dict[str, Any]]:
    """Forward and backward of one operation on one number, beside NumPy's arithmetic in it; microseconds."""
    one = np.ones(1, np.float32)
    cases = [
        ("-x", lambda x: -x, [np.negative, np.negative]),
        ("x + 1", lambda x: x + 1, [lambda a: np.add(a, one)]),
        ("x * 1", lambda x: x * 1, [lambda a: np.multiply(a, one)] * 2),
    ]
    return [_op_overhead(*case, effort) for case in cases]


def _op_overhead(name: str, op: Callable, bare: list[Callable], effort: Effort) -> dict[str, Any]:
    import tinynet as tn

    leaf, array = tn.Tensor(np.ones(1, np.float32), requires_grad=True), np.ones(1, np.float32)

    def on_the_tape() -> None:
        leaf.grad = None
        x = leaf
        for _ in range(CHAIN):
            x = op(x)
        x.backward()

    def in_numpy() -> None:
        for _ in range(CHAIN):
            for function in bare:
                function(array)

    return {"op": name} | _beside({"op_and_tape": on_the_tape, "numpy": in_numpy}, effort, CHAIN)


def _beside(calls: dict[str, Callable], effort: Effort, parts: int) -> dict[str, Any]:
    """Microseconds of both calls in alternating rounds, and of the first less the second."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    disturbed = 0
    for _ in range(effort.rounds):
        for name, call in calls.items():
            some, spoiled = timing.undisturbed(
                lambda call=call: timing.sample(call, effort.seconds), effort.attempts, of_this_machine()
            )
            samples[name].append(1e6 / parts * timing.Spread.of(some).median)
            disturbed += spoiled
    spreads = {name: timing.Spread.of(some)._asdict() for name, some in samples.items()}
    left = [a - b for a, b in zip(*samples.values())]
    return spreads | {"overhead": timing.Spread.of(left)._asdict(), "disturbed": disturbed}
