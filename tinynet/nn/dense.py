"""The fully connected layer."""

from __future__ import annotations

import math

from tinynet import ops
from tinynet.errors import ShapeError, by_x
from tinynet.nn.activation import Activation
from tinynet.nn.activation import get as get_activation
from tinynet.nn.checks import whole
from tinynet.nn.init import Initializer, zeros
from tinynet.nn.init import get as get_init
from tinynet.nn.layer import Drawn, Layer
from tinynet.nn.parameter import Parameter
from tinynet.tensor import Tensor


class Dense(Layer):
    """y = activation(x @ weight + bias) on the last axis: (..., in_features) to (..., units).

    ``weight`` (in_features, units), ``bias`` (units,). ``in_features`` is found from the data when left out.
    """

    _right_call = "{1}, in_features={0}"

    def __init__(
        self,
        units: int,
        *,
        activation: Activation = None,
        bias: bool = True,
        in_features: int | None = None,
        init: str | Initializer = "glorot_uniform",
    ):
        self.units = whole(units, "units")
        self.init, self.activation = get_init(init), get_activation(activation)
        self.weight = Parameter()
        self.bias = Parameter() if bias else None
        self.size(in_features)

    @property
    def in_features(self) -> int | None:
        """Number of input features; None as long as no data were seen."""
        return self._features

    def shapes(self, features: int) -> Drawn:
        drawn: Drawn = {"weight": (self.init, (features, self.units))}
        return drawn if self.bias is None else {**drawn, "bias": (zeros, (self.units,))}

    def run(self, x: Tensor, *, relu: bool = False) -> Tensor:
        """The product; nn.fusion asks for a ReLU in the same pass."""
        if x.shape[-1:] != (self._features,):
            raise self._wrong_size(x.shape)
        own_relu = self.activation is ops.relu
        y = ops.dense(x, self.weight, self.bias, relu=relu or own_relu)
        return y if own_relu or self.activation is None else self.activation(y)

    def _wrong_size(self, shape: tuple[int, ...]) -> ShapeError:
        if len(shape) < 2:
            return ShapeError(
                f"got an input of shape {shape}, but in_features={self._features} numbers make a row. "
                "One number per sample? Add an axis: x[:, None]"
            )
        per_sample = math.prod(shape[1:])
        flat = f" = {per_sample} numbers" if len(shape) > 2 else " numbers"
        flatten = "nn.Flatten() before it" if len(shape) > 2 and per_sample == self._features else None
        fix = flatten or f"Dense({self.units}, in_features={shape[-1]}), or leave in_features out"
        return ShapeError(
            f"got {by_x(shape[1:])}{flat} per sample, but in_features={self._features}.\n  Fix: {fix}."
        )

    def multiply_adds(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> int:
        return math.prod(in_shape[:-1]) * self.weight.size
