"""Normalisation layers; all of them work on the last axis, the features."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet import ops
from tinynet.backend import DEFAULT_DTYPE, to_device
from tinynet.errors import ArgumentError
from tinynet.nn.checks import warn_once, whole
from tinynet.nn.init import ones, zeros
from tinynet.nn.layer import Drawn, Layer
from tinynet.nn.parameter import Parameter
from tinynet.ops.norm import fold_batch_norm
from tinynet.tensor import Tensor


class _Norm(Layer):
    """A learned scale ``weight`` (C,) and shift ``bias`` (C,) after the normalisation."""

    def __init__(self, eps: float):
        if not eps > 0:
            raise ArgumentError(f"eps={eps!r}: give a small positive number such as 1e-5")
        self.eps = eps
        self.weight, self.bias = Parameter(), Parameter()

    @property
    def in_features(self) -> int | None:
        """Number of features; None as long as no data were seen."""
        return self._features

    def shapes(self, features: int) -> Drawn:
        return {"weight": (ones, (features,)), "bias": (zeros, (features,))}


class BatchNorm(_Norm):
    """Normalise each feature over the batch and all positions (Ioffe and Szegedy 2015): (..., C) to (..., C).

    In training the batch's own mean and population variance are used, and recorded::

        running = momentum * running + (1 - momentum) * batch

    with the unbiased variance of the batch. (PyTorch's ``momentum`` is 1 minus this one.) In evaluation, and
    after :meth:`freeze`, the running statistics are used. ``weight`` and ``bias`` (C,) are learned;
    ``running_mean`` and ``running_var`` (C,) are buffers. The number of features is found from the data.

    Raises :class:`ShapeError` in training when there is only one value per feature.
    """

    _right_call = "momentum=..., eps=..."

    def __init__(self, momentum: float = 0.9, eps: float = 1e-5, *, in_features: int | None = None):
        self.momentum = _checked_momentum(momentum)
        super().__init__(eps)
        self.running_mean: Any = None
        self.running_var: Any = None
        self.register_buffer("running_mean", None)
        self.register_buffer("running_var", None)
        self.size(in_features)

    def _create(self, features: int, device: str) -> None:
        super()._create(features, device)
        self.running_mean = to_device(np.zeros(features, DEFAULT_DTYPE), device)
        self.running_var = to_device(np.ones(features, DEFAULT_DTYPE), device)

    def forget(self) -> None:
        super().forget()
        self.running_mean = self.running_var = None

    @property
    def fixed(self) -> bool:
        """Whether the running statistics are used now, and not those of the batch."""
        return self.frozen or not self.training

    def folded(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Weight and bias of a convolution, changed so that it does this normalisation as well.

        With the running statistics; no gradient passes.
        """
        statistics = self.running_mean, self.running_var, self.eps
        before = weight.data, None if bias is None else bias.data
        w, b = fold_batch_norm(*before, self.weight.data, self.bias.data, *statistics)
        return Tensor(w), Tensor(b)

    def run(self, x: Tensor, *, relu: bool = False) -> Tensor:
        """The normalisation; nn.fusion asks for a ReLU in the same pass."""
        return ops.batch_norm(
            x,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            training=not self.fixed,
            momentum=self.momentum,
            eps=self.eps,
            relu=relu,
        )


def _checked_momentum(momentum: float) -> float:
    if not 0 <= momentum <= 1:
        raise ArgumentError(
            f"momentum={momentum!r} must lie between 0 and 1. The number of features is not given to "
            "BatchNorm, it is found from the data: BatchNorm()"
        )
    if momentum < 0.5:
        warn_once(
            f"BatchNorm(momentum={momentum}): here momentum is the weight of the old value, so this forgets "
            f"quickly. If the number comes from PyTorch, write momentum={round(1 - momentum, 10)}"
        )
    return momentum


class LayerNorm(_Norm):
    """Normalise the features of each position by themselves (Ba et al. 2016): (..., C) to (..., C).

    ``weight`` and ``bias`` (C,). The number of features is found from the data.
    """

    def __init__(self, *, eps: float = 1e-5, in_features: int | None = None):
        super().__init__(eps)
        self.size(in_features)

    def run(self, x: Tensor) -> Tensor:
        return ops.layer_norm(x, self.weight, self.bias, self.eps)


class GroupNorm(_Norm):
    """Normalise ``groups`` groups of features of each sample, over all positions (Wu and He 2018).

    (N, ..., C) to (N, ..., C), ``weight`` and ``bias`` (C,); C must be divisible by ``groups``.
    """

    _right_call = "{0}"

    def __init__(self, groups: int, *, eps: float = 1e-5, in_features: int | None = None):
        self.groups = whole(groups, "groups")
        super().__init__(eps)
        self.size(in_features)

    def run(self, x: Tensor) -> Tensor:
        return ops.group_norm(x, self.groups, self.weight, self.bias, self.eps)
