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


class Node:
    """A recorded operation: where its inputs came from, and when it was born."""

    __slots__ = ("birth", "inputs", "n_outputs", "name", "op")

    def __init__(self, op: Op, inputs: tuple[Tensor | None, ...]):
        self.op: Op | None = op
        self.name = type(op).__name__
        self.inputs: tuple[Tensor | None, ...] | None = inputs
        self.birth = next(_birth)
        self.n_outputs = 1

    def backward(self, grad_outputs: list[Any]) -> list[tuple[Tensor, Any]]:
        """Pairs of input and gradient; releases what the operation had stored."""
        op, inputs = self.op, self.inputs
        if op is None or inputs is None:
            raise GraphError(
                f"backward() came to {self.name}, whose graph was released by an earlier backward(). Build the "
                "loss again inside the loop, or detach() the value that is carried over."
            )
        self.op = self.inputs = None
        grads = op.backward(*grad_outputs)
        grads = grads if type(grads) is tuple else (grads,)
        return [
            (t, _fit(grad, t, grad_outputs))
            for t, grad in zip(inputs, grads)
            if t is not None and t.requires_grad and grad is not None
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
        for t, g in node.backward(pending.pop(node)):
            if t.node is None:
                _accumulate(t, g)
                continue
            if t.node not in pending:
                pending[t.node] = [None] * t.node.n_outputs
                heapq.heappush(queue, (-t.node.birth, t.node))
            slots = pending[t.node]
            slots[t.index] = g if slots[t.index] is None else slots[t.index] + g


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
        raise ShapeError(f"backward(grad) got a gradient of shape {grad.shape} for a tensor of shape {root.shape}")
    return grad


def _accumulate(leaf: Tensor, grad: Any) -> None:
    leaf.grad = grad if leaf.grad is None else leaf.grad + grad


def _fit(grad: Any, t: Tensor, grad_outputs: list[Any]) -> Any:
    """The gradient in the input's own shape and dtype; a leaf never shares memory with another tensor."""
    if isinstance(grad, np.generic):
        grad = np.asarray(grad)  # NumPy gives scalars instead of 0-d arrays
    if grad.shape != t.data.shape:
        grad = _sum_to(grad, t.data.shape)
    if grad.dtype != t.data.dtype:
        grad = grad.astype(t.data.dtype)
    if t.node is None and (grad.base is not None or any(grad is g for g in grad_outputs)):
        grad = grad.copy()
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
        if type(t.data) is not type(first.data):
            raise DeviceError(
                f"{name} got tensors on {device_of(first.data)} and {device_of(t.data)}. "
                f"Move one of them: .to({str(device_of(first.data))!r})"
            )
