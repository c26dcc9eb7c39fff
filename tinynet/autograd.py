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
from typing import Any, Protocol

import numpy as np

from tinynet.backend import array_module, device_of
from tinynet.errors import DeviceError, DTypeError, GraphError, ShapeError
from tinynet.tensor import Tensor

_birth = itertools.count()


class Witness(Protocol):
    """Somebody who wants to know what a step has to do with; see :func:`witnessed`."""

    def uses(self, thing: Any) -> None:
        """A tensor goes into an operation, a module is called, or an optimiser takes a step."""

    def receives(self, leaf: Tensor) -> None:
        """A gradient is about to be added to a leaf's own."""


class _Mode(threading.local):
    recording = True
    witness: Witness | None = None


_mode = _Mode()


@contextmanager
def no_grad() -> Iterator[None]:
    """Inside this block nothing is recorded: for evaluation, and for changing weights by hand."""
    before, _mode.recording = _mode.recording, False
    try:
        yield
    finally:
        _mode.recording = before


@contextmanager
def witnessed(witness: Witness) -> Iterator[None]:
    """Inside this block ``witness`` is told what is used, and which leaves receive gradients."""
    before, _mode.witness = _mode.witness, witness
    try:
        yield
    finally:
        _mode.witness = before


def notice(thing: Any) -> None:
    """Tell the witness, if there is one, that the step uses ``thing``."""
    if _mode.witness is not None:
        _mode.witness.uses(thing)


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
        arrays: list[Any] = []
        sources: list[Source | None] = []
        for t in inputs:
            if t is None:
                arrays.append(None)
                sources.append(None)
                continue
            array = t.data
            arrays.append(array)
            sources.append((t.node or t, t.index, array.shape, array.dtype) if t.requires_grad else None)
        if len(arrays) > 1:
            _check_alike(cls.__name__, arrays)
        if _mode.witness is not None:
            for t in inputs:
                notice(t)
        op.needs = tuple([source is not None for source in sources])
        result = op.forward(*arrays, **settings)
        node = Node(op, sources) if True in op.needs and _mode.recording else None
        if type(result) is not tuple:
            return _wrap(result, node, 0)
        if node is not None:
            node.n_outputs = len(result)
        return tuple([_wrap(r, node, i) for i, r in enumerate(result)])


# Where an input came from and what its gradient looks like: the leaf itself or the operation that made the
# input, which of its outputs it is, its shape and its dtype. None for an input that wants no gradient.
Source = tuple["Tensor | Node", int, tuple[int, ...], np.dtype]


class Node:
    """A recorded operation: where its inputs came from, and when it was born.

    It holds no data of inner tensors, so that an array which no operation stored for its backward is freed
    as soon as the program has no name for it.
    """

    __slots__ = ("birth", "n_outputs", "name", "op", "sources")

    def __init__(self, op: Op, sources: list[Source | None]):
        self.op: Op | None = op
        self.sources: list[Source | None] | None = sources
        self.name = type(op).__name__
        self.birth = next(_birth)
        self.n_outputs = 1

    def backward(self, grad_outputs: list[Any]) -> Iterator[tuple[Source | None, Any]]:
        """Pairs of source and gradient; releases what the operation had stored."""
        op, sources = self.op, self.sources
        if op is None or sources is None:
            raise GraphError(
                f"backward() came to {self.name}, whose graph was released by an earlier backward(). Build "
                "the loss again inside the loop, or detach() the value that is carried over."
            )
        self.op = self.sources = None
        grads = op.backward(*grad_outputs)
        return zip(sources, grads if type(grads) is tuple else (grads,))


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
        grads = pending.pop(node)
        for source, g in node.backward(grads):
            if source is None or g is None:
                continue
            origin, output, shape, dtype = source
            if type(g) is not np.ndarray or g.shape != shape or g.dtype is not dtype:
                g = _fit(g, shape, dtype)
            if isinstance(origin, Tensor):
                _accumulate(origin, _own(g, grads))
                continue
            slots = pending.get(origin)
            if slots is None:
                slots = pending[origin] = [None] * origin.n_outputs
                heapq.heappush(queue, (-origin.birth, origin))
            slots[output] = g if slots[output] is None else slots[output] + g


def _seed_gradient(root: Tensor, grad: Any) -> Any:
    xp = array_module(root.data)
    if grad is None:
        if root.data.size != 1:
            raise GraphError(
                f"backward() without an argument needs a single number, got shape {root.shape}. "
                "Reduce it first, for example loss.mean().backward(), or pass grad=."
            )
        return xp.ones(root.data.shape, root.data.dtype)
    grad = xp.array(grad.data if isinstance(grad, Tensor) else grad, dtype=root.data.dtype)  # a copy
    if grad.shape != root.shape:
        raise ShapeError(f"backward() of a tensor of shape {root.shape} got a gradient of shape {grad.shape}")
    return grad


def _accumulate(leaf: Tensor, grad: Any) -> None:
    if _mode.witness is not None:
        _mode.witness.receives(leaf)
    leaf.grad = grad if leaf.grad is None else leaf.grad + grad


def _own(grad: Any, grad_outputs: list[Any]) -> Any:
    """A leaf never shares memory with another tensor, such as the gradient an operation merely passed on."""
    if grad.base is not None:
        return grad.copy()
    for g in grad_outputs:
        if g is grad:
            return grad.copy()
    return grad


def _fit(grad: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """The gradient in the input's own shape and dtype."""
    if isinstance(grad, np.generic):
        grad = np.asarray(grad)  # NumPy gives scalars instead of 0-d arrays
    if grad.shape != shape:
        grad = _sum_to(grad, shape)
    return grad if grad.dtype == dtype else grad.astype(dtype)


def _sum_to(grad: Any, shape: tuple[int, ...]) -> Any:
    """Undo broadcasting: sum over the axes along which an input of ``shape`` was repeated."""
    extra = grad.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(
        i + extra for i, s in enumerate(shape) if s == 1 and grad.shape[i + extra] != 1
    )
    return grad.sum(axis=axes, keepdims=True).reshape(shape)


def _wrap(array: Any, node: Node | None, index: int) -> Tensor:
    """The tensor of a result; its place in the graph is written down directly, to lose no time."""
    if type(array) is not np.ndarray:
        array = array_module(array).asarray(array)  # NumPy gives scalars instead of 0-d arrays
    t = Tensor.__new__(Tensor)
    t.data, t.grad, t.requires_grad, t.node, t.index = array, None, node is not None, node, index
    return t


def _check_alike(name: str, arrays: list[Any]) -> None:
    """One dtype and one device among the floating inputs; nothing is converted silently."""
    first = arrays[0]
    if first is None:
        return
    kind, dtype = type(first), first.dtype
    for a in arrays[1:]:
        if a is None or (a.dtype is dtype and type(a) is kind):
            continue
        if a.dtype != first.dtype and a.dtype.kind == first.dtype.kind == "f":
            raise DTypeError(
                f"{name} got {first.dtype} and {a.dtype}. Convert one of them: .astype({str(first.dtype)!r})"
            )
        if device_of(a) != device_of(first):
            raise DeviceError(
                f"{name} got tensors on {device_of(first)} and {device_of(a)}. "
                f"Move one of them: .to({str(device_of(first))!r})"
            )
