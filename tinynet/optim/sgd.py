"""Gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tinynet import kernels
from tinynet.errors import ArgumentError
from tinynet.kernels.live import live
from tinynet.optim.optimizer import Optimizer, below_one, not_negative
from tinynet.tensor import Tensor


class SGD(Optimizer):
    """Stochastic gradient descent: v = momentum * v + g, p -= lr * v, with g += weight_decay * p before.

    With ``nesterov`` the step is lr * (g + momentum * v) (Sutskever et al. 2013). ``lr`` has no good value
    for all nets; 0.01 to 0.1 is usual.
    """

    settings = ("lr", "momentum", "nesterov", "weight_decay")

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, lr)
        self.momentum, self.nesterov = below_one(momentum, "momentum"), bool(nesterov)
        self.weight_decay = not_negative(weight_decay, "weight_decay")
        if nesterov and momentum == 0:
            raise ArgumentError("nesterov=True does nothing without momentum; give for example momentum=0.9")
        if momentum:
            self.slots = ("velocity",)

    def update(self, params: list[Tensor], states: list[dict[str, Any]]) -> None:
        kernels.sgd_step(
            [p.data for p in params],
            [p.grad for p in params],
            [state["velocity"] for state in states] if self.slots else None,
            live(lambda: self.lr),
            self.momentum,
            self.nesterov,
            self.weight_decay,
        )
