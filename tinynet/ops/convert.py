"""The same values as another kind of number, or on another device."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet import backend
from tinynet.autograd import Op
from tinynet.errors import DTypeError
from tinynet.ops.checks import TensorLike
from tinynet.tensor import Tensor, as_tensor


class AsType(Op):
    """The same values in another floating dtype; the gradient is converted back by the caller."""

    def forward(self, x, *, dtype):
        return x.astype(dtype)

    def backward(self, grad):
        return grad


def astype(x: TensorLike, dtype: Any) -> Tensor:
    """``x`` as another kind of number. Gradients pass between floating dtypes; integers carry none.

    Raises :class:`DTypeError` for what is no dtype of numbers.
    """
    x, wanted = as_tensor(x), _number_dtype(dtype)
    if wanted.kind != "f" or x.dtype.kind != "f":
        return Tensor(x.data.astype(wanted))
    return x if wanted == x.dtype else AsType.apply(x, dtype=wanted)


def _number_dtype(dtype: Any) -> np.dtype:
    try:
        wanted = np.dtype(dtype)
    except TypeError as error:
        raise DTypeError(
            f"{dtype!r} is no dtype. For instance: 'float32', 'float64', 'int64', 'bool'"
        ) from error
    if wanted.kind not in "biuf":
        raise DTypeError(f"a tensor holds real numbers or booleans, not {wanted}")
    return wanted


class ToDevice(Op):
    """The same values on another device; the gradient travels back."""

    def forward(self, x, *, device):
        self.origin = backend.device_of(x)
        return backend.to_device(x, device)

    def backward(self, grad):
        return backend.to_device(grad, self.origin)


def to_device(x: TensorLike, device: str) -> Tensor:
    """``x`` on ``device`` ("cpu", "cuda", "cuda:1"), itself if it is there already.

    Raises :class:`DeviceError` when there is no such device, with the cause.
    """
    x, name = as_tensor(x), backend.device(device)
    return x if x.device == name else ToDevice.apply(x, device=name)
