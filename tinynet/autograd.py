"""Reverse-mode differentiation: what an operation is, how it is recorded, and how gradients flow back.

A forward call leaves a chain of :class:`Op` objects behind. ``backward`` walks it from the youngest to the
oldest; since an operation is always younger than its inputs, that order is a topological order.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinynet.backend import array_module, device_of
from tinynet.errors import DeviceError, DTypeError, GraphError, ShapeError
from tinynet.tensor import Tensor

_birth = itertools.count()


class _Mode(threading.local):
    recording = True


_mode = _Mode()


@contextmanager
def no_grad() -> Iterator[None]:
    """Inside this block nothing is recorded: for evaluation, and for changing weights by hand."""
    before, _mode.recording = _mode.recording, False
    try:
        yield
    finally:
        _mode.recording = before


def is_recording() -> bool:
    """Whether operations on tensors that require a gradient are recorded now."""
    return _mode.recording


class Op:
    """One differentiable operation: ``forward`` and ``backward`` on arrays, side by side.

    ``forward(*arrays, **settings)`` returns an array, or a tuple of arrays, and stores by name what
    ``backward`` will need. ``backward(*grad_outputs)`` returns one gradient per input (None for none),
    in a tuple when there are several inputs; ``self.needs[i]`` tells whether input i wants one.
    A gradient in the broadcast shape is summed back to the input's shape by the caller.
    """

    needs: tuple[bool, ...]

    def forward(self, *arrays: Any, **settings: Any) -> Any:
        raise TypeError(f"{type(self).__name__} defines no forward")

    def backward(self, *grad_outputs: Any) -> Any:
        raise TypeError(f"{type(self).__name__} defines no backward")

    @classmethod
    def apply(cls, *inputs: Tensor | None, **settings: Any) -> Any:
        """Run the operation on tensors; record it if a gradient can be asked for later."""
        op = cls()
        if len(inputs) > 1:
            _check_alike(cls.__name__, inputs)
        op.needs = tuple([t is not None and t.requires_grad for t in inputs])
        result = op.forward(*[None if t is None else t.data for t in inputs], **settings)
        node = Node(op, inputs) if True in op.needs and _mode.recording else None
        if type(result) is not tuple:
            return _wrap(result, node, 0)
        if node is not None:
            node.n_outputs = len(result)
        return tuple(_wrap(r, node, i) for i, r in enumerate(result))


# Where an input came from and what its gradient looks like: the leaf itself or the operation that made the
# input, which of its outputs it is, its shape and its dtype. None for an input that wants no gradient.
Source = tuple["Tensor | Node", int, tuple[int, ...], np.dtype]


def _source(t: Tensor | None) -> Source | None:
    if t is None or not t.requires_grad:
        return None
    return t if t.node is None else t.node, t.index, t.data.shape, t.data.dtype


class Node:
    """A recorded operation: where its inputs came from, and when it was born.

    It holds no data of inner tensors, so that an array which no operation stored for its backward is freed
    as soon as the program has no name for it.
    """

    __slots__ = ("birth", "n_outputs", "name", "op", "sources")

    def __init__(self, op: Op, inputs: tuple[Tensor | None, ...]):
        self.op: Op | None = op
        self.name = type(op).__name__
        self.sources: tuple[Source | None, ...] | None = tuple([_source(t) for t in inputs])
        self.birth = next(_birth)
        self.n_outputs = 1

    def backward(self, grad_outputs: list[Any]) -> list[tuple[Source, Any]]:
        """Pairs of source and gradient; releases what the operation had stored."""
        op, sources = self.op, self.sources
        if op is None or sources is None:
            raise GraphError(
                f"backward() came to {self.name}, whose graph was released by an earlier backward(). Build "
                "the loss again inside the loop, or detach() the value that is carried over."
            )
        self.op = self.sources = None
        grads = op.backward(*grad_outputs)
        grads = grads if type(grads) is tuple else (grads,)
        return [
            (source, _fit(grad, source, grad_outputs))
            for source, grad in zip(sources, grads)
            if source is not None and grad is not None
        ]


def backward(root: Tensor, grad: Any = None) -> None:
    """Gradients of ``root`` with respect to every leaf it was made from, added to the leaves' ``grad``."""
    if not root.requires_grad:
        raise GraphError("backward() on a tensor that was made from nothing that requires a gradient")
    grad = _seed_gradient(root, grad)
    if root.node is None:
        return _accumulate(root, grad)
    pending: dict[Node, list[Any]] = {root.node: [None] * root.node.n_outputs}
    pending[root.node][root.index] = grad
    queue = [(-root.node.birth, root.node)]
    while queue:
        node = heapq.heappop(queue)[1]
        for (origin, output, _, _), g in node.backward(pending.pop(node)):
            if isinstance(origin, Tensor):
                _accumulate(origin, g)
                continue
            if origin not in pending:
                pending[origin] = [None] * origin.n_outputs
                heapq.heappush(queue, (-origin.birth, origin))
            slots = pending[origin]
            slots[output] = g if slots[output] is None else slots[output] + g


def _seed_gradient(root: Tensor, grad: Any) -> Any:
    xp = array_module(root.data)
    if grad is None:
        if root.data.size != 1:
            raise GraphError(
                f"backward() without an argument needs a single number, got shape {root.shape}. "
                "Reduce it first, for example loss.mean().backward(), or pass grad=."
            )
        return xp.ones_like(root.data)
    grad = xp.array(grad.data if isinstance(grad, Tensor) else grad, dtype=root.data.dtype)  # a copy
    if grad.shape != root.shape:
        raise ShapeError(f"backward() of a tensor of shape {root.shape} got a gradient of shape {grad.shape}")
    return grad


def _accumulate(leaf: Tensor, grad: Any) -> None:
    leaf.grad = grad if leaf.grad is None else leaf.grad + grad


def _fit(grad: Any, source: Source, grad_outputs: list[Any]) -> Any:
    """The gradient in the input's own shape and dtype; a leaf never shares memory with another tensor."""
    origin, _, shape, dtype = source
    if isinstance(grad, np.generic):
        grad = np.asarray(grad)  # NumPy gives scalars instead of 0-d arrays
    if grad.shape != shape:
        grad = _sum_to(grad, shape)
    if grad.dtype != dtype:
        grad = grad.astype(dtype)
    if isinstance(origin, Tensor) and (grad.base is not None or any(grad is g for g in grad_outputs)):
        return grad.copy()
    return grad


def _sum_to(grad: Any, shape: tuple[int, ...]) -> Any:
    """Undo broadcasting: sum over the axes along which an input of ``shape`` was repeated."""
    extra = grad.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(
        i + extra for i, s in enumerate(shape) if s == 1 and grad.shape[i + extra] != 1
    )
    return grad.sum(axis=axes, keepdims=True).reshape(shape)


def _wrap(array: Any, node: Node | None, index: int) -> Tensor:
    if type(array) is not np.ndarray:
        array = array_module(array).asarray(array)  # NumPy gives scalars instead of 0-d arrays
    return Tensor._made_by(array, node, index)


def _check_alike(name: str, inputs: tuple[Tensor | None, ...]) -> None:
    """One dtype and one device among the floating inputs; nothing is converted silently."""
    first = inputs[0]
    for t in inputs[1:]:
        if t is None or first is None:
            continue
        if t.data.dtype != first.data.dtype and t.data.dtype.kind == first.data.dtype.kind == "f":
            raise DTypeError(
                f"{name} got {first.dtype} and {t.dtype}. Convert one of them: .astype({str(first.dtype)!r})"
            )
        if type(t.data) is not type(first.data) and device_of(t.data) != device_of(first.data):
            raise DeviceError(
                f"{name} got tensors on {device_of(first.data)} and {device_of(t.data)}. "
                f"Move one of them: .to({str(device_of(first.data))!r})"
            )
