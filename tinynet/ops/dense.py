"""The fully connected layer."""

from __future__ import annotations

from tinynet import kernels
from tinynet.autograd import Op
from tinynet.errors import ShapeError
from tinynet.ops.checks import TensorLike, check_parameter, floats
from tinynet.tensor import Tensor


class Dense(Op):
    """y = x @ weight + bias, on rows."""

    def forward(self, x, weight, bias):
        self.x, self.weight = x, weight
        y = kernels.matmul(x.reshape(-1, x.shape[-1]), weight)
        if bias is not None:
            y += bias
        return y.reshape(*x.shape[:-1], y.shape[-1])

    def backward(self, grad):
        rows, grads = self.x.reshape(-1, self.x.shape[-1]), grad.reshape(-1, grad.shape[-1])
        return (
            kernels.matmul(grads, self.weight.T).reshape(self.x.shape) if self.needs[0] else None,
            kernels.matmul(rows.T, grads) if self.needs[1] else None,
            kernels.bias_grad(grads) if self.needs[2] else None,
        )


def dense(x: TensorLike, weight: TensorLike, bias: TensorLike | None = None) -> Tensor:
    """``x`` (..., in) times ``weight`` (in, out) plus ``bias`` (out,): (..., out).

    Raises :class:`ShapeError` when the sizes do not fit.
    """
    x, weight = floats(x, "dense"), floats(weight, "dense")
    bias = None if bias is None else floats(bias, "dense")
    _check_dense(x.data.shape, weight.data.shape)
    if bias is not None:
        check_parameter(bias, weight.data.shape[1:], "the bias", f"a weight of shape {weight.shape}")
    return Dense.apply(x, weight, bias)


def _check_dense(x: tuple[int, ...], weight: tuple[int, ...]) -> None:
    if len(weight) != 2:
        raise ShapeError(f"dense needs a weight of shape (in, out), got {weight}")
    if not x or x[-1] != weight[0]:
        features = f"{x[-1]} features on the last axis" if x else "a single number"
        raise ShapeError(f"dense got x of shape {x}: {features}, but the weight {weight} takes {weight[0]}")
