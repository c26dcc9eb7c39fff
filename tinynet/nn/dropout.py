"""Dropout."""

from __future__ import annotations

from tinynet import ops
from tinynet.nn.checks import share
from tinynet.nn.module import Module
from tinynet.tensor import Tensor


class Dropout(Module):
    """In training, zero each element with probability ``rate`` and scale the rest by 1 / (1 - rate).

    In evaluation it does nothing (Srivastava et al. 2014). ``rate`` lies in [0, 1), else
    :class:`ArgumentError`.
    """

    def __init__(self, rate: float = 0.5):
        self.rate = share(rate, "rate")

    def forward(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.rate, self.training)
