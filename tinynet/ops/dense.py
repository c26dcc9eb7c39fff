"""The fully connected layer."""

from __future__ import annotations

from tinynet import kernels
from tinynet.autograd import Op
from tinynet.errors import ShapeError
from tinynet.ops.checks import TensorLike, check_parameter, floats
from tinynet.tensor import Tensor


class Dense(Op):
    """y = x @ weight + bias, on rows, with ReLU if asked."""

    def forward(self, x, weight, bias, *, relu):
        rows = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
        y = kernels.dense(rows, weight, bias, relu)
        self.rows, self.weight, self.shape = rows, weight, x.shape
        self.y = y if relu else None
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], y.shape[-1])

    def backward(self, grad):
        grads = grad if grad.ndim == 2 else grad.reshape(-1, grad.shape[-1])
        grad_x, *rest = kernels.dense_backward(grads, self.rows, self.weight, self.y, self.needs)
        if len(self.shape) != 2 and grad_x is not None:
            grad_x = grad_x.reshape(self.shape)
        return grad_x, *rest


def dense(x: TensorLike, weight: TensorLike, bias: TensorLike | None = None, *, relu: bool = False) -> Tensor:
    """``x`` (..., in) times ``weight`` (in, out) plus ``bias`` (out,): (..., out).

    ``relu`` puts a :func:`relu` behind it, with the same result, but as one node of the graph.

    Raises :class:`ShapeError` when the sizes do not fit.
    """
    x, weight = floats(x, "dense"), floats(weight, "dense")
    bias = None if bias is None else floats(bias, "dense")
    _check_dense(x.data.shape, weight.data.shape)
    if bias is not None:
        check_parameter(bias, weight.data.shape[1:], "the bias", "a weight of shape {}", weight.shape)
    return Dense.apply(x, weight, bias, relu=relu)


def _check_dense(x: tuple[int, ...], weight: tuple[int, ...]) -> None:
    if len(weight) != 2:
        raise ShapeError(f"dense needs a weight of shape (in, out), got {weight}")
    if not x or x[-1] != weight[0]:
        features = f"{x[-1]} features on the last axis" if x else "a single number"
        raise ShapeError(f"dense got x of shape {x}: {features}, but the weight {weight} takes {weight[0]}")
