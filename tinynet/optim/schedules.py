"""Learning-rate schedules: each ``step()`` sets the optimiser's ``lr`` for what comes next.

A schedule counts its own steps. Whether ``step()`` is called after each batch or after each epoch is the
caller's choice; :class:`CosineLR` and :class:`OneCycleLR` want the number of steps to come in the same unit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tinynet.errors import ArgumentError, CheckpointError
from tinynet.kernels.live import live
from tinynet.optim.optimizer import Optimizer, below_one, not_negative


class Schedule:
    """Base of the schedules; ``base_lr`` is the optimiser's rate when the schedule is made.

    The rate of step 0 is set at once.
    """

    def __init__(self, optimizer: Optimizer):
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError(f"the first argument is the optimiser, got {optimizer!r}")
        self.optimizer = optimizer
        self.base_lr = optimizer.lr
        self.count = 0
        optimizer.lr = self.rate(0)

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        raise TypeError(f"{type(self).__name__} defines no rate(self, step)")

    def step(self) -> None:
        """Go on to the next step, and set the optimiser's ``lr`` for it."""
        live(self._advance)

    def _advance(self) -> int:
        self.count += 1
        self.optimizer.lr = self.rate(self.count)
        return self.count

    def state_dict(self) -> dict[str, float]:
        """The position, as numbers ready for JSON."""
        return {"count": self.count, "base_lr": self.base_lr}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a position of :meth:`state_dict`, and set the optimiser's ``lr`` for it."""
        if set(state) != {"count", "base_lr"}:
            raise CheckpointError(
                f"this is no state of a schedule: it holds {', '.join(sorted(state)) or 'nothing'}"
            )
        self.count, self.base_lr = int(state["count"]), float(state["base_lr"])
        self.optimizer.lr = self.rate(self.count)


class StepLR(Schedule):
    """The rate times ``gamma`` after every ``every`` steps; usually stepped once per epoch."""

    def __init__(self, optimizer: Optimizer, every: int, gamma: float = 0.1):
        self.every, self.gamma = _steps(every, "every"), not_negative(gamma, "gamma")
        super().__init__(optimizer)

    def rate(self, step: int) -> float:
        return self.base_lr * self.gamma ** (step // self.every)


class CosineLR(Schedule):
    """Half a cosine from the optimiser's rate down to ``final_lr`` (Loshchilov and Hutter 2017).

    ``steps`` is the number of steps in all, usually batches * epochs. During the first ``warmup`` share of
    them (0.1 is a tenth) the rate rises in a straight line: step t of w warm-up steps has rate base * (t + 1)
    / w. Then it is final + (base - final) * (1 + cos(pi u)) / 2, where u goes from 0 to 1 at the end. Later
    steps stay at ``final_lr``.
    """

    def __init__(self, optimizer: Optimizer, steps: int, *, warmup: float = 0.0, final_lr: float = 0.0):
        self.steps, self.warmup = _steps(steps, "steps"), below_one(warmup, "warmup")
        self.final_lr = not_negative(final_lr, "final_lr")
        super().__init__(optimizer)

    def rate(self, step: int) -> float:
        rising = round(self.warmup * self.steps)
        if step < rising:
            return self.base_lr * (step + 1) / rising
        return _half_cosine(self.base_lr, self.final_lr, (step - rising) / max(self.steps - rising, 1))


class OneCycleLR(Schedule):
    """One rise and one fall, both half cosines (Smith and Topin 2018).

    The optimiser's rate is the peak: the rate starts at peak / ``start_divisor``, reaches the peak after the
    share ``warmup`` of all ``steps``, and ends at peak / (``start_divisor`` * ``final_divisor``).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        steps: int,
        *,
        warmup: float = 0.3,
        start_divisor: float = 25.0,
        final_divisor: float = 1e4,
    ):
        self.steps, self.warmup = _steps(steps, "steps"), below_one(warmup, "warmup")
        if not (start_divisor >= 1 and final_divisor >= 1):
            raise ArgumentError(
                f"start_divisor={start_divisor!r}, final_divisor={final_divisor!r}: at least 1"
            )
        self.start_divisor, self.final_divisor = start_divisor, final_divisor
        super().__init__(optimizer)

    def rate(self, step: int) -> float:
        top = self.warmup * self.steps
        start = self.base_lr / self.start_divisor
        if step < top:
            return _half_cosine(start, self.base_lr, step / top)
        last = max(self.steps - 1 - top, 1)
        return _half_cosine(self.base_lr, start / self.final_divisor, (step - top) / last)


def _half_cosine(start: float, end: float, way: float) -> float:
    """From ``start`` to ``end``; ``way`` goes from 0 to 1, and more counts as 1."""
    return end + (start - end) * (1 + math.cos(math.pi * min(way, 1.0))) / 2


def _steps(value: Any, name: str) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise ArgumentError(f"{name}={value!r}: give a whole number of at least 1")
    return int(value)
