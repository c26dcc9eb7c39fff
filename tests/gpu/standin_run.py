"""How the stand-in runs a function of NumPy on device arrays: at once, or noted down by a capture.

See :mod:`standin`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import standin_memory as memory

SCALARS = (bool, int, float, complex, np.generic)
_CUBLAS = {"matmul", "dot", "inner", "tensordot", "einsum"}
_HOST_WORDS = {"where", "initial", "subok"}  # arguments of NumPy's functions that CuPy's do not have


class OnCard:
    """What all device arrays are: a NumPy array inside, and the block of memory that it lies in."""

    __slots__ = ("__weakref__", "_array", "_block", "base")
    kind: type  # the class of device arrays: the stand-in's ndarray

    def __init_subclass__(cls) -> None:
        OnCard.kind = cls

    @staticmethod
    def made(array: np.ndarray, block: memory.Block, base: OnCard | None = None) -> Any:
        """A device array of these parts."""
        y = OnCard.kind.__new__(OnCard.kind)
        y._array, y._block, y.base = array, block, base
        return y


def call(function: Callable, args: tuple, kwargs: dict) -> Any:
    """A NumPy function on device arrays, with what CuPy's function of that name refuses."""
    name = getattr(function, "__name__", "function")
    if _HOST_WORDS & kwargs.keys():
        raise TypeError(f"{name}() got an unexpected keyword argument {min(_HOST_WORDS & kwargs.keys())!r}")
    if name in _CUBLAS or (name == "dot" and args[0].ndim > 1):
        memory.refuse_cublas_in_capture()
    if isinstance(function, np.ufunc):
        for operand in args:
            if not isinstance(operand, (OnCard, *SCALARS)):
                raise TypeError(f"Unsupported type {type(operand)}")
    out = kwargs.pop("out", None)
    out = out[0] if isinstance(out, tuple) else out
    if out is not None:
        return _into(function, name, out, args, kwargs)
    if name == "nonzero" or (name == "where" and len(args) == 1):
        memory.count_to_host()  # how many there are must be known
    return run(function, args, kwargs, name)


def run(function: Callable, args: tuple, kwargs: Any = None, name: str = "", extra: Any = ()) -> Any:
    """The result of ``function``: views of the arguments, or new arrays, which a capture fills at replay."""
    raw, raw_kwargs = _unwrapped(args), _unwrapped(kwargs or {})
    sources = [*_arrays(args), *_arrays(kwargs or {}), *extra]
    with np.errstate(all="ignore"):  # a card warns of nothing
        result = function(*raw, **raw_kwargs)
    again = lambda: function(*raw, **raw_kwargs)  # noqa: E731
    return _wrapped(result, sources, again, name)


def in_place(name: str, target: OnCard, change: Callable, value: Any, extra: Any = ()) -> None:
    """``change(target, value)`` on the raw arrays, now or at replay."""
    raw, other = target._array, value._array if isinstance(value, OnCard) else value
    _do(name, lambda: change(raw, other), [a for a in (target, value, *extra) if isinstance(a, OnCard)])


def _into(function: Callable, name: str, out: OnCard, args: tuple, kwargs: dict) -> OnCard:
    if type(out) is not OnCard.kind:
        raise TypeError(f"return arrays must be of ArrayType, not {type(out)}")
    raw, raw_kwargs, target = _unwrapped(args), _unwrapped(kwargs), out._array
    _do(name, lambda: function(*raw, out=target, **raw_kwargs), [out, *_arrays(args)])
    return out


def _do(name: str, work: Callable[[], Any], arrays: list[OnCard]) -> None:
    stream = memory.current()
    if stream.is_capturing():
        return stream.note(name, work, [a._block for a in arrays])
    with np.errstate(all="ignore"):
        work()


launch = _do  # kernels are run the same way


def _wrapped(result: Any, sources: list[OnCard], again: Callable[[], Any], name: str) -> Any:
    if isinstance(result, (tuple, list)):
        parts = (_wrapped(r, sources, lambda i=i: again()[i], name) for i, r in enumerate(result))
        return type(result)(parts) if type(result) in (tuple, list) else tuple(parts)
    if isinstance(result, (np.generic, bool)) and sources:
        result = np.asarray(result)
    if not isinstance(result, np.ndarray):
        return result
    root = _root(result)
    for source in sources:
        if result is source._array:
            return source
        if root is _root(source._array):
            return _view(result, source)
    return _new(result, sources, again, name)


def _new(result: np.ndarray, sources: list[OnCard], again: Callable[[], Any], name: str) -> OnCard:
    y = OnCard.made(result, memory.allocate(result.nbytes))
    stream = memory.current()
    if stream.is_capturing():  # nothing is computed yet
        dense = y._array = poisoned(np.empty_like(result))
        stream.note(name, lambda: np.copyto(dense, again()), [y._block, *(s._block for s in sources)])
    elif 0 in result.strides and result.size > 1:
        y._array = result.copy(order="C")  # a new array on a card owns all of its memory
    return y


def poisoned(array: np.ndarray) -> np.ndarray:
    """All bytes 0xFF: NaN, -1 or 255, never what is wanted."""
    array.fill(np.frombuffer(b"\xff" * array.itemsize, array.dtype)[0])
    return array


def _view(result: np.ndarray, source: OnCard) -> OnCard:
    return OnCard.made(result, source._block, source if source.base is None else source.base)


def _root(array: Any) -> Any:
    """The array, or whatever else, whose memory this one shows."""
    while getattr(array, "base", None) is not None:
        array = array.base
    return array


def _unwrapped(value: Any) -> Any:
    """The NumPy arrays inside; host arrays are refused."""
    if isinstance(value, OnCard):
        return value._array
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if type(value) in (tuple, list):
        return type(value)(map(_unwrapped, value))
    return {k: _unwrapped(v) for k, v in value.items()} if type(value) is dict else value


def _arrays(value: Any) -> list[OnCard]:
    if isinstance(value, OnCard):
        return [value]
    inner = value.values() if type(value) is dict else value if type(value) in (tuple, list) else ()
    return [array for v in inner for array in _arrays(v)]


# --- indices ---


def fill_value(value: Any, place: Place) -> Any:
    """What may be written that is no device array: a number; lists only at places given by arrays."""
    if isinstance(value, SCALARS) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value
    if place.arrays:
        memory.count_to_device()
        return np.asarray(value)
    if isinstance(value, np.ndarray):
        raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
    raise TypeError(f"Unsupported type {type(value)}")


class Place:
    """An index whose device arrays are read when it is used. Like CuPy, it wraps what is out of range."""

    def __init__(self, array: OnCard, index: Any):
        parts = index if isinstance(index, tuple) else (index,)
        self._parts = [self._part(p) for p in parts]
        if not any(p is Ellipsis for p in parts):
            self._parts.append(Ellipsis)  # so that a single element is a 0-d view, not a scalar
        self._sizes = self._axes(array.shape)
        self.arrays = [p for p in self._parts if isinstance(p, OnCard)]

    @staticmethod
    def _part(part: Any) -> Any:
        if isinstance(part, (list, np.ndarray)):
            memory.count_to_device()
            part = on_card(np.asarray(part) if len(part) else np.asarray(part, np.int64))
        if isinstance(part, OnCard):
            if part.dtype.kind not in "biu":
                text = "arrays used as indices must be of integer or boolean type. (actual: {})"
                raise IndexError(text.format(part.dtype.type))
            if part.dtype.kind == "b":
                memory.count_to_host()  # how many are true must be known
        return part

    def _axes(self, shape: tuple[int, ...]) -> list[int]:
        """For each part, the size of the axis that it takes from."""
        widths = [0 if p is None else p.ndim if _is_mask(p) else 1 for p in self._parts]
        skipped = len(shape) - sum(w for w, p in zip(widths, self._parts) if p is not Ellipsis)
        if skipped < 0:
            raise IndexError(
                f"too many indices for array: array is {len(shape)}-dimensional, but "
                f"{len(shape) - skipped} were indexed"
            )
        sizes, axis = [], 0
        for part, width in zip(self._parts, widths):
            sizes.append(math.prod(shape[axis : axis + 1]))
            axis += skipped if part is Ellipsis else width
        return sizes

    def bound(self) -> Callable[[], tuple]:
        """The index as NumPy takes it, read anew at each call; it keeps memory in place but owns none."""
        raw = [p._array if isinstance(p, OnCard) else p for p in self._parts]
        sizes = self._sizes
        return lambda: tuple(map(_in_range, raw, sizes))


def _in_range(part: Any, size: int) -> Any:
    if not isinstance(part, np.ndarray) or part.dtype.kind == "b":
        return part
    return part.astype(np.int64) % max(size, 1)


def _is_mask(part: Any) -> bool:
    return isinstance(part, OnCard) and part.dtype.kind == "b"


def take(a: OnCard, indices: Any, axis: int | None = None, out: Any = None) -> OnCard:
    """CuPy's take wraps indices that are out of range."""
    if not isinstance(indices, OnCard):
        if not isinstance(indices, int):
            memory.count_to_device()
        indices = on_card(np.asarray(indices))
    return run(lambda x, i: np.take(x, i.astype(np.int64), axis, mode="wrap"), (a, indices), name="take")


def on_card(array: np.ndarray) -> OnCard:
    """A device array with these values (not counted as a transfer)."""
    return OnCard.made(array.copy(order="K"), memory.allocate(array.nbytes))
