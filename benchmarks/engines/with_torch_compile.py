"""The networks in PyTorch with torch.compile around forward and loss, and around the optimiser's step."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.engines import with_torch
from benchmarks.nets import Net

load = with_torch.load


def prove() -> None:
    """Compile something small, which fails where there is no C++ compiler."""
    import torch

    torch.compile(torch.sin, dynamic=False)(torch.ones(64))


class Engine(with_torch.Engine):
    """One network on one batch; see benchmarks/engines/__init__.py. The first steps compile."""

    def __init__(
        self, net: Net, x: np.ndarray, labels: np.ndarray, weights: list[np.ndarray], dropout: bool, mode: str
    ):
        import torch

        super().__init__(net, x, labels, weights, dropout, mode)
        model, loss = self.model, self.loss
        self.forward = torch.compile(model, dynamic=False)
        self.forward_and_loss = torch.compile(lambda x, labels: loss(model(x), labels), dynamic=False)
        self.update = torch.compile(self.optimizer.step, dynamic=False)

    def step(self) -> Any:
        """One training step; returns the loss."""
        self.optimizer.zero_grad()
        loss = self.forward_and_loss(self.x, self.labels)
        loss.backward()
        self.update()
        return loss

    def infer(self) -> Any:
        """The forward pass alone."""
        import torch

        with torch.no_grad():
            return self.forward(self.x)
