"""The Tensor: an array, its gradient, and the place in the graph where it was made.

It knows no mathematics of its own: every operator and method hands over to :mod:`tinynet.ops`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

import tinynet.backend as backend
from tinynet.errors import DTypeError, GraphError

if TYPE_CHECKING:
    from tinynet.autograd import Node

Axis = int | tuple[int, ...] | None


class _Ops:
    """``tinynet.ops``, looked up at first use: ops are built on Tensor, so Tensor cannot import them."""

    def __getattr__(self, name: str) -> Any:
        function = getattr(importlib.import_module("tinynet.ops"), name)
        setattr(self, name, function)
        return function


ops = _Ops()


class Tensor:
    """An n-dimensional array that can remember how it was computed.

    ``data`` is the NumPy or CuPy array itself, ``grad`` an array of the same shape or None. Make one with
    :func:`tensor`. Arithmetic, comparison, indexing and the methods follow NumPy's words.
    """

    __slots__ = ("__weakref__", "data", "grad", "index", "node", "requires_grad")
    __array_priority__ = 1000  # array + tensor is a tensor
    __array_ufunc__ = None

    def __init__(self, data: Any, requires_grad: bool = False):
        self.data = data
        self.grad: Any = None
        self.requires_grad = requires_grad
        self.node: Node | None = None  # the operation that made it; None for a leaf
        self.index = 0  # which of the operation's outputs it is
        if requires_grad and data.dtype.kind != "f":
            raise DTypeError(
                f"only floating-point tensors can require a gradient, got {data.dtype}. "
                "Use .astype('float32') first"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def device(self) -> str:
        """``"cpu"`` or ``"cuda:0"`` and so on."""
        return backend.device_of(self.data)

    @property
    def T(self) -> Tensor:
        return ops.transpose(self)

    def backward(self, grad: Any = None) -> None:
        """Add the gradient of this tensor to every leaf it was made from, and release the graph.

        ``grad`` (same shape) is the gradient of something later with respect to this tensor; a single
        number needs none. Raises :class:`GraphError` when there is no graph, or it was released already.
        """
        from tinynet.autograd import backward

        backward(self, grad)

    def detach(self) -> Tensor:
        """The same array (shared, not copied) without its history."""
        return Tensor(self.data)

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array in the computer's own memory (shared where possible)."""
        return backend.host(self.data)

    def item(self) -> float | int | bool:
        """The value of a tensor with a single element, as a Python number."""
        return self.data.item()

    def astype(self, dtype: Any) -> Tensor:
        """The same values as another kind of number; between floating types the gradient passes through."""
        return ops.astype(self, dtype)

    def to(self, device: str) -> Tensor:
        """This tensor on ``device``, "cpu" or "cuda:0"; no copy if it is there. The gradient passes back."""
        return ops.to_device(self, device)

    def __repr__(self) -> str:
        body = np.array2string(self.numpy(), precision=4, suppress_small=True, threshold=50, prefix="tensor(")
        extra = ", requires_grad=True" if self.requires_grad and self.node is None else ""
        made = f", made by {self.node.name}" if self.node is not None else ""
        where = "" if self.device == "cpu" else f", device={self.device!r}"
        return f"tensor({body}, shape={self.shape}, dtype={self.dtype}{where}{extra}{made})"

    def __len__(self) -> int:
        return len(self.data)

    def __float__(self) -> float:
        return float(self.data.item())

    def __int__(self) -> int:
        return int(self.data.item())

    def __bool__(self) -> bool:
        return bool(self.data)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.requires_grad:
            raise GraphError("this tensor is part of a graph: use .detach().numpy() to read its values")
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    # --- operators ---
    def __add__(self, other: Any) -> Tensor:
        return ops.add(self, other)

    def __radd__(self, other: Any) -> Tensor:
        return ops.add(other, self)

    def __sub__(self, other: Any) -> Tensor:
        return ops.sub(self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return ops.sub(other, self)

    def __mul__(self, other: Any) -> Tensor:
        return ops.mul(self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return ops.mul(other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return ops.div(self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return ops.div(other, self)

    def __pow__(self, other: Any) -> Tensor:
        return ops.pow(self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return ops.pow(other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return ops.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return ops.matmul(other, self)

    def __neg__(self) -> Tensor:
        return ops.neg(self)

    def __abs__(self) -> Tensor:
        return ops.abs(self)

    def __getitem__(self, index: Any) -> Tensor:
        return ops.getitem(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        if self.requires_grad:
            raise GraphError(
                "a tensor that requires a gradient cannot be written to in place, because the graph still "
                "needs the old values. Use ops.where(mask, new, x), or change x.data under tn.no_grad()"
            )
        self.data[_plain(index)] = _plain(value)

    def __eq__(self, other: Any) -> Tensor:  # type: ignore[override]
        return Tensor(_array(self.data == _plain(other)))

    def __ne__(self, other: Any) -> Tensor:  # type: ignore[override]
        return Tensor(_array(self.data != _plain(other)))

    def __lt__(self, other: Any) -> Tensor:
        return Tensor(_array(self.data < _plain(other)))

    def __le__(self, other: Any) -> Tensor:
        return Tensor(_array(self.data <= _plain(other)))

    def __gt__(self, other: Any) -> Tensor:
        return Tensor(_array(self.data > _plain(other)))

    def __ge__(self, other: Any) -> Tensor:
        return Tensor(_array(self.data >= _plain(other)))

    __hash__ = object.__hash__

    # --- methods, documented at the functions of the same name in tinynet.ops ---
    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.sum(self, axis, keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.mean(self, axis, keepdims)

    def var(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.var(self, axis, keepdims)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.max(self, axis, keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.min(self, axis, keepdims)

    def logsumexp(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.logsumexp(self, axis, keepdims)

    def argmax(self, axis: int | None = None) -> Tensor:
        """Index of the largest element; no gradient passes."""
        return Tensor(_array(self.data.argmax(axis)))

    def argmin(self, axis: int | None = None) -> Tensor:
        """Index of the smallest element; no gradient passes."""
        return Tensor(_array(self.data.argmin(axis)))

    def exp(self) -> Tensor:
        return ops.exp(self)

    def log(self) -> Tensor:
        return ops.log(self)

    def sqrt(self) -> Tensor:
        return ops.sqrt(self)

    def abs(self) -> Tensor:
        return ops.abs(self)

    def clip(self, low: float | None = None, high: float | None = None) -> Tensor:
        return ops.clip(self, low, high)

    def relu(self) -> Tensor:
        return ops.relu(self)

    def sigmoid(self) -> Tensor:
        return ops.sigmoid(self)

    def tanh(self) -> Tensor:
        return ops.tanh(self)

    def softmax(self, axis: int = -1) -> Tensor:
        return ops.softmax(self, axis)

    def log_softmax(self, axis: int = -1) -> Tensor:
        return ops.log_softmax(self, axis)

    def reshape(self, *shape: Any) -> Tensor:
        return ops.reshape(self, *shape)

    def transpose(self, *axes: Any) -> Tensor:
        return ops.transpose(self, *axes)

    def flatten(self, start: int = 0) -> Tensor:
        return ops.flatten(self, start)

    def squeeze(self, axis: Axis = None) -> Tensor:
        return ops.squeeze(self, axis)

    def expand_dims(self, axis: int) -> Tensor:
        return ops.expand_dims(self, axis)

    def broadcast_to(self, shape: tuple[int, ...]) -> Tensor:
        return ops.broadcast_to(self, shape)


def _array(value: Any) -> Any:
    """An array where NumPy gave a scalar."""
    return value if backend.is_array(value) else np.asarray(value)


def _plain(value: Any) -> Any:
    """Tensors inside an index or a right-hand side replaced by their arrays."""
    if isinstance(value, Tensor):
        return value.data
    if isinstance(value, tuple):
        return tuple(_plain(v) for v in value)
    return value


def tensor(data: Any, *, dtype: Any = None, requires_grad: bool = False, device: str | None = None) -> Tensor:
    """Make a leaf tensor from numbers, nested lists, or an array (copied, so that nothing is shared).

    Python floats become float32; arrays keep their dtype (float64 stays float64, integers stay integers).
    Raises :class:`DTypeError` for anything that is no rectangle of numbers.
    """
    if isinstance(data, Tensor):
        data = data.data
    array = data.copy() if backend.is_array(data) and data.dtype.kind in "biuf" else _from_python(data)
    if dtype is not None:
        array = array.astype(dtype)
    if device is not None:
        array = backend.to_device(array, device)
    return Tensor(array, requires_grad)


def _from_python(data: Any) -> np.ndarray:
    holds_numpy = isinstance(data, np.generic)
    try:
        array = np.array(data)
    except ValueError as error:
        raise DTypeError(f"the nested lists do not form a rectangle of numbers: {error}") from error
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"a tensor holds numbers or booleans, got {array.dtype} from {type(data).__name__}")
    return array.astype(backend.DEFAULT_DTYPE) if array.dtype.kind == "f" and not holds_numpy else array


def as_tensor(value: Any, like: Tensor | None = None) -> Tensor:
    """``value`` as a tensor without copying; Python numbers take the dtype and device of ``like``."""
    if isinstance(value, Tensor):
        return value
    if backend.is_array(value):
        return Tensor(value)
    if like is None:
        return Tensor(_from_python(value))
    dtype, xp = like.data.dtype, backend.array_module(like.data)
    if isinstance(value, _NUMBERS_THAT_FIT.get(dtype.kind, ())):
        return Tensor(xp.asarray(value, dtype=dtype))
    return Tensor(xp.asarray(_from_python(value), dtype=dtype if dtype.kind == "f" else None))


# Python numbers that an array of this kind takes in without changing its dtype, as in NumPy
_NUMBERS_THAT_FIT: dict[str, tuple[type, ...]] = {"f": (int, float), "i": (int,), "u": (int,), "b": (bool,)}
