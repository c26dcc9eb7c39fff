"""Normalisation: to mean 0 and variance 1 over the batch, the features, or groups of channels."""

from __future__ import annotations

import math
from typing import Any

from tinynet import kernels
from tinynet.autograd import Op
from tinynet.backend import array_module
from tinynet.errors import ArgumentError, ShapeError
from tinynet.ops.checks import TensorLike, channels_hint, floats, integer, same_device
from tinynet.tensor import Tensor


def _check_features(name: str, x: Tensor, *parameters: Tensor) -> None:
    shape = x.data.shape
    if len(shape) < 2:
        raise ShapeError(
            f"{name} needs x of shape (N, ..., features), got {shape}. A single row? Use x[None]"
        )
    for p in parameters:
        if p.data.ndim != 1 or p.data.shape[0] != shape[-1]:
            hint = channels_hint(shape, p.shape[0]) if p.ndim == 1 else ""
            raise ShapeError(
                f"{name} got x of shape {shape} with {shape[-1]} features on the last axis, but a weight or "
                f"bias of shape {p.shape}.{hint}"
            )


class BatchNorm(Op):
    """Normalise each feature with the statistics of this batch, and remember them; with ReLU if asked."""

    def forward(self, x, weight, bias, *, running, momentum, eps, relu):
        y, mean, var = kernels.norm_block(x, weight, bias, eps, relu)
        self.known, self.y = (x, weight, bias, mean, var, eps), y if relu else None
        n = math.prod(x.shape[:-1])
        for old, new in zip(running, (mean, var * (n / (n - 1)))):
            old *= momentum
            old += (1 - momentum) * new
        return y

    def backward(self, grad):
        return kernels.norm_block_backward(grad, *self.known, self.y)


class BatchNormFixed(Op):
    """Normalise each feature with given statistics: a scale and a shift per feature; with ReLU if asked."""

    def forward(self, x, weight, bias, *, mean, var, eps, relu):
        self.mean, self.inverse = _centre_and_inverse(mean, var, eps, x.dtype)
        self.scale = weight * self.inverse
        y = kernels.scale_shift(x, self.scale, bias - self.mean * self.scale, relu)
        self.x, self.y = x if self.needs[1] else None, y if relu else None
        return y

    def backward(self, grad):
        if self.y is not None:
            grad = grad * (self.y > 0).astype(grad.dtype)
        return (
            grad * self.scale if self.needs[0] else None,
            kernels.bias_grad(grad * ((self.x - self.mean) * self.inverse)) if self.needs[1] else None,
            kernels.bias_grad(grad) if self.needs[2] else None,
        )


def _centre_and_inverse(mean: Any, var: Any, eps: float, dtype: Any) -> tuple[Any, Any]:
    """The mean, and 1 over the standard deviation."""
    return mean.astype(dtype, copy=False), 1 / array_module(var).sqrt(var.astype(dtype, copy=False) + eps)


def fold_batch_norm(
    conv_weight: Any, conv_bias: Any, weight: Any, bias: Any, mean: Any, var: Any, eps: float
) -> tuple[Any, Any]:
    """Weight and bias (arrays) of the convolution that does a batch norm with fixed statistics as well.

    Both are linear in each feature, so (w * x + b) * scale + shift = (w * scale) * x + (b * scale + shift).
    """
    mean, inverse = _centre_and_inverse(mean, var, eps, conv_weight.dtype)
    scale = weight * inverse
    shift = bias - mean * scale
    return conv_weight * scale, shift if conv_bias is None else conv_bias * scale + shift


def batch_norm(
    x: TensorLike, weight: TensorLike, bias: TensorLike, running_mean: Any, running_var: Any, *,
    training: bool, momentum: float = 0.9, eps: float = 1e-5, relu: bool = False,
) -> Tensor:  # fmt: skip
    """Normalise each feature of ``x`` (..., C), then scale by ``weight`` (C,) and shift by ``bias`` (C,).

    While training, mean and population variance come from the batch, over all axes but the last, and the
    arrays ``running_mean`` and ``running_var`` (C,) are updated in place: running = momentum * running + (1 -
    momentum) * batch, with the unbiased variance (Ioffe and Szegedy 2015; None for both: nothing is
    remembered). Otherwise the running statistics are used. ``relu`` puts a :func:`relu` behind it, with the
    same result, but as one node of the graph.

    Raises :class:`ShapeError` when shapes do not fit, and while training with a single value per feature,
    whose variance is 0.
    """
    x, weight, bias = (floats(t, "batch_norm") for t in (x, weight, bias))
    _check_features("batch_norm", x, weight, bias)
    for running_array in (running_mean, running_var):
        if running_array is not None:
            same_device(x, running_array, "a running statistic of batch_norm")
    if training:
        _check_enough(x.data.shape)
        running = () if running_mean is None else (running_mean, running_var)
        return BatchNorm.apply(x, weight, bias, running=running, momentum=momentum, eps=eps, relu=relu)
    if running_mean is None:
        raise ArgumentError("batch_norm without training needs running_mean and running_var")
    return BatchNormFixed.apply(x, weight, bias, mean=running_mean, var=running_var, eps=eps, relu=relu)


def _check_enough(shape: tuple[int, ...]) -> None:
    count = math.prod(shape[:-1])
    if count < 2:
        raise ShapeError(
            f"batch_norm needs more than one value per feature while training; x of shape {shape} has "
            f"{count}. Use a larger batch, leave out a last batch of one (tn.data.Loader(..., "
            "drop_last=True)), or switch to eval()"
        )


class LayerNorm(Op):
    """Normalise each row over its features."""

    def forward(self, x, weight, bias, *, eps):
        self.rows, self.weight, self.eps = x.reshape(-1, x.shape[-1]), weight, eps
        y, self.mean, self.var = kernels.layer_norm(self.rows, weight, bias, eps)
        return y.reshape(x.shape)

    def backward(self, grad):
        grad_x, *rest = kernels.layer_norm_backward(
            grad.reshape(self.rows.shape), self.rows, self.weight, self.mean, self.var, self.eps
        )
        return grad_x.reshape(grad.shape), *rest


def layer_norm(x: TensorLike, weight: TensorLike, bias: TensorLike, eps: float = 1e-5) -> Tensor:
    """Normalise ``x`` (..., F) over its last axis, then scale by ``weight`` (F,) and shift by ``bias`` (F,).

    Ba et al. 2016. Raises :class:`ShapeError` when the shapes do not fit.
    """
    x, weight, bias = (floats(t, "layer_norm") for t in (x, weight, bias))
    _check_features("layer_norm", x, weight, bias)
    if x.shape[-1] == 0:
        raise ShapeError(f"layer_norm of shape {x.shape}: there are no features")
    return LayerNorm.apply(x, weight, bias, eps=eps)


class GroupNorm(Op):
    """Normalise each group of channels of each sample over its channels and all positions."""

    def forward(self, x, weight, bias, *, groups, eps):
        grouped = _in_groups(x, groups)
        centred = grouped - _group_mean(grouped)
        self.inverse = 1 / array_module(x).sqrt(_group_mean(centred * centred) + eps)
        self.normal, self.weight, self.groups = (centred * self.inverse).reshape(x.shape), weight, groups
        return self.normal * weight + bias

    def backward(self, grad):
        grad_x = self._grad_x(grad) if self.needs[0] else None
        return grad_x, kernels.bias_grad(grad * self.normal), kernels.bias_grad(grad)

    def _grad_x(self, grad):
        g, normal = _in_groups(grad * self.weight, self.groups), _in_groups(self.normal, self.groups)
        # what changes the mean or the spread of the group has no effect
        g = g - _group_mean(g) - normal * _group_mean(g * normal)
        return (g * self.inverse).reshape(grad.shape)


def _in_groups(x: Any, groups: int) -> Any:
    """(N, *spatial, C) as (N, positions, G, C / G)."""
    return x.reshape(len(x), math.prod(x.shape[1:-1]), groups, x.shape[-1] // groups)


def _group_mean(x: Any) -> Any:
    return x.mean(axis=(1, 3), keepdims=True)


def group_norm(x: TensorLike, groups: int, weight: TensorLike, bias: TensorLike, eps: float = 1e-5) -> Tensor:
    """Normalise each of ``groups`` groups of channels of each sample of ``x`` (N, *spatial, C).

    Then scale by ``weight`` (C,) and shift by ``bias`` (C,). One group is layer norm over all positions, C
    groups are instance norm (Wu and He 2018). Raises :class:`ShapeError` when the shapes do not fit or C
    cannot be divided among the groups.
    """
    x, weight, bias = (floats(t, "group_norm") for t in (x, weight, bias))
    _check_features("group_norm", x, weight, bias)
    if integer(groups, "groups") < 1:
        raise ArgumentError(f"groups={groups!r} must be at least 1")
    if x.shape[-1] % groups:
        raise ShapeError(f"group_norm: {x.shape[-1]} channels cannot be divided among {groups} groups")
    if 0 in x.shape[1:]:
        raise ShapeError(f"group_norm of shape {x.shape}: there is nothing to normalise")
    return GroupNorm.apply(x, weight, bias, groups=groups, eps=eps)
