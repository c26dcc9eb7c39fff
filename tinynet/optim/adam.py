"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tinynet import kernels
from tinynet.errors import ArgumentError
from tinynet.kernels.live import live, live_items
from tinynet.optim.optimizer import Optimizer, below_one, not_negative
from tinynet.tensor import Tensor


class Adam(Optimizer):
    """Steps scaled by running means of the gradient and of its square (Kingma and Ba 2015)::

        m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
        p -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    t counts the steps of each parameter from 1. ``weight_decay`` is added to the gradient, g += weight_decay
    * p; :class:`AdamW` is usually better.
    """

    settings = ("lr", "beta1", "beta2", "eps", "weight_decay")
    slots = ("mean", "square")
    decoupled = False

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, lr)
        if not isinstance(betas, Sequence) or len(betas) != 2:
            raise ArgumentError(f"betas={betas!r}: give two numbers, such as (0.9, 0.999)")
        self.beta1, self.beta2 = (below_one(beta, "betas") for beta in betas)
        self.eps, self.weight_decay = not_negative(eps, "eps"), not_negative(weight_decay, "weight_decay")
        if eps == 0:
            raise ArgumentError("eps=0 divides by zero where a gradient is zero; 1e-8 is usual")

    def update(self, params: list[Tensor], states: list[dict[str, Any]]) -> None:
        kernels.adam_step(
            [p.data for p in params],
            [p.grad for p in params],
            [state["mean"] for state in states],
            [state["square"] for state in states],
            live(lambda: self.lr),
            self.beta1,
            self.beta2,
            self.eps,
            self.weight_decay,
            self.decoupled,
            live_items(states, "steps"),
        )


class AdamW(Adam):
    """Adam with decoupled weight decay: first p *= 1 - lr * weight_decay (Loshchilov and Hutter 2019)."""

    decoupled = True

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        super().__init__(params, lr, betas, eps, weight_decay)
