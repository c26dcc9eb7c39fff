"""Dropout: zero some elements at random while training."""

from __future__ import annotations

from tinynet import kernels, random
from tinynet.autograd import Op
from tinynet.errors import ArgumentError
from tinynet.kernels.live import live
from tinynet.ops.checks import TensorLike, floats
from tinynet.tensor import Tensor


class Dropout(Op):
    """Zero elements with probability ``rate``, scale the rest; the key brings back the same mask."""

    def forward(self, x, *, rate, key):
        self.rate, self.key = rate, key
        return kernels.dropout(x, rate, key)

    def backward(self, grad):
        return kernels.dropout(grad, self.rate, self.key)


def dropout(x: TensorLike, rate: float, training: bool = True) -> Tensor:
    """Zero each element with probability ``rate``, scale the rest by 1 / (1 - rate) (Srivastava et al. 2014).

    Without ``training`` it returns ``x`` itself. The mask follows :func:`tinynet.seed`.
    Raises :class:`ArgumentError` unless 0 <= rate < 1.
    """
    if not 0 <= rate < 1:
        raise ArgumentError(f"dropout rate={rate!r}: the share of elements to zero, at least 0 and below 1")
    x = floats(x, "dropout")
    return Dropout.apply(x, rate=rate, key=live(random.draw_key)) if training and rate > 0 else x
