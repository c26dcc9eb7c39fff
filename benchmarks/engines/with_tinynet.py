"""The networks in tinynet, used as the README uses it."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.engines import ADAM, SGD
from benchmarks.nets import Net


def load(threads: int) -> None:
    """Import all that a training step needs, and use ``threads`` threads."""
    import tinynet.kernels.cpu
    import tinynet.models
    import tinynet.optim

    tinynet.threads(threads)


class Engine:
    """One network on one batch; see benchmarks/engines/__init__.py."""

    def __init__(
        self, net: Net, x: np.ndarray, labels: np.ndarray, weights: list[np.ndarray], dropout: bool, mode: str
    ):
        from tinynet import nn, optim

        self.x, self.labels, self.model = x, labels, net.in_tinynet()
        for parameter, values in zip(self.model.parameters(), weights, strict=True):
            parameter.data[...] = values
        for module in self.model.modules():
            if isinstance(module, nn.Dropout) and not dropout:
                module.rate = 0.0
        self.loss = nn.CrossEntropy()
        if mode == "infer":
            self.model.eval()
        else:
            parameters = self.model.parameters()
            self.optimizer = optim.SGD(parameters, **SGD) if mode == "sgd" else optim.Adam(parameters, **ADAM)

    def step(self) -> Any:
        """One training step; returns the loss."""
        self.optimizer.zero_grad()
        loss = self.loss(self.model(self.x), self.labels)
        loss.backward()
        self.optimizer.step()
        return loss

    def infer(self) -> Any:
        """The forward pass alone."""
        import tinynet as tn

        with tn.no_grad():
            return self.model(self.x)

    def logits(self) -> np.ndarray:
        """The forward pass as an array."""
        return self.infer().numpy()
