"""The networks in PyTorch, eager, channels first as PyTorch has them by default."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.engines import ADAM, SGD
from benchmarks.nets import Net


def load(threads: int) -> None:
    """Import PyTorch and give it ``threads`` threads."""
    import torch

    torch.set_num_threads(threads)


class Engine:
    """One network on one batch; see benchmarks/engines/__init__.py."""

    def __init__(
        self, net: Net, x: np.ndarray, labels: np.ndarray, weights: list[np.ndarray], dropout: bool, mode: str
    ):
        import torch
        from torch import nn

        from benchmarks.engines import torch_nets

        self.model = torch_nets.make(net)
        torch_nets.copy_weights(self.model, weights)
        for module in self.model.modules():
            if isinstance(module, nn.Dropout) and not dropout:
                module.p = 0.0
        self.is_image = x.ndim == 4
        self.x, self.labels = self._tensor(x), torch.from_numpy(labels)
        self.model.train(mode != "infer")
        self.loss = nn.CrossEntropyLoss()
        learned = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = (
            torch.optim.SGD(learned, **SGD) if mode == "sgd" else torch.optim.Adam(learned, **ADAM)
        )

    def _tensor(self, x: np.ndarray) -> Any:
        import torch

        return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if self.is_image else x)

    def step(self) -> Any:
        """One training step; returns the loss."""
        self.optimizer.zero_grad()
        loss = self.loss(self.model(self.x), self.labels)
        loss.backward()
        self.optimizer.step()
        return loss

    def infer(self) -> Any:
        """The forward pass alone."""
        import torch

        with torch.inference_mode():
            return self.model(self.x)

    def logits(self) -> np.ndarray:
        """The forward pass as an array, features last."""
        logits = self.infer().numpy()
        return logits.transpose(0, 2, 3, 1) if logits.ndim == 4 else logits
