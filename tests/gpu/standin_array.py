"""The stand-in's array: NumPy inside, CuPy's manners outside. See :mod:`standin`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import standin_memory as memory
from standin_run import OnCard, Place, call, fill_value, in_place, poisoned, run, take

_NO_CONVERSION = (
    "Implicit conversion to a NumPy array is not allowed. "
    "Please use `.get()` to construct a NumPy array explicitly."
)


class ndarray(OnCard):
    """An array on the card. It shares no behaviour with NumPy's that CuPy's does not share."""

    __array_priority__ = 100
    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self, shape: Any, dtype: Any = float, memptr: Any = None, strides: Any = None, order: str = "C"
    ):
        assert memptr is None and strides is None, "the stand-in makes no arrays on given memory"
        shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        self._block, self.base = memory.allocate(math.prod(shape) * np.dtype(dtype).itemsize), None
        self._array = poisoned(np.empty(shape, dtype, order))

    # --- what it looks like ---
    shape = property(lambda self: self._array.shape)
    dtype = property(lambda self: self._array.dtype)
    ndim = property(lambda self: self._array.ndim)
    size = property(lambda self: self._array.size)
    nbytes = property(lambda self: self._array.nbytes)
    itemsize = property(lambda self: self._array.itemsize)
    strides = property(lambda self: self._array.strides)
    flags = property(lambda self: self._array.flags)
    T = property(lambda self: self.transpose())

    @property
    def device(self) -> Any:
        from standin import Device

        return Device(0)

    @property
    def data(self) -> memory.MemoryPointer:
        return memory.MemoryPointer(self._block, self._array.ctypes.data)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        parts = {"shape": self.shape, "typestr": self.dtype.str, "strides": self.strides}
        return {**parts, "data": (self._array.ctypes.data, False), "version": 3, "stream": 1}

    # --- the way back to the host ---
    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> np.ndarray:
        memory.count_to_host()
        if out is None:
            return self._array.copy(order)
        np.copyto(out, self._array, casting="no")
        return out

    def set(self, array: np.ndarray, stream: Any = None) -> None:
        if type(array) is not np.ndarray:
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if array.dtype != self.dtype:
            raise TypeError(f"{array.dtype} array cannot be set to {self.dtype} array")
        if array.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {array.shape}")
        memory.count_to_device()
        self._array[...] = array

    def item(self, *place: Any) -> Any:
        return self.get().item(*place)

    def tolist(self) -> Any:
        return self.get().tolist()

    def tobytes(self, order: str = "C") -> bytes:
        return self.get().tobytes(order)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError(_NO_CONVERSION)

    def __bool__(self) -> bool:
        return bool(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __complex__(self) -> complex:
        return complex(self.get())

    def __repr__(self) -> str:
        return repr(self.get())

    def __str__(self) -> str:
        return str(self.get())

    def __format__(self, spec: str) -> str:
        return format(self.get(), spec)

    def __reduce__(self) -> Any:
        from standin import asarray

        return asarray, (self.get(),)

    # --- parts ---
    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Any:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> ndarray:
        place = Place(self, index)
        at = place.bound()
        return run(lambda array: array[at()], (self,), name="getitem", extra=place.arrays)

    def __setitem__(self, index: Any, value: Any) -> None:
        place = Place(self, index)
        if not isinstance(value, ndarray):
            value = fill_value(value, place)
        at = place.bound()
        in_place("setitem", self, lambda array, new: array.__setitem__(at(), new), value, place.arrays)

    def fill(self, value: Any) -> None:
        self[...] = value

    # --- whole arrays ---
    def astype(self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None, copy: bool = True):
        return run(lambda a: a.astype(dtype, order, copy=copy), (self,), name="astype")

    def reshape(self, *shape: Any, order: str = "C") -> ndarray:
        return run(lambda a: a.reshape(*shape, order=order), (self,), name="reshape")

    def clip(self, min: Any = None, max: Any = None, out: Any = None) -> ndarray:
        return call(np.clip, (self, min, max), {"out": out} if out is not None else {})

    def copy(self, order: str = "C") -> ndarray:
        return run(lambda a: a.copy(order), (self,), name="copy")

    def __copy__(self) -> ndarray:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> ndarray:
        return self.copy()

    def view(self, dtype: Any = None) -> ndarray:
        return run(lambda a: a.view(dtype) if dtype is not None else a.view(), (self,), name="view")

    def nonzero(self) -> tuple:
        return call(np.nonzero, (self,), {})

    def take(self, indices: Any, axis: int | None = None, out: Any = None) -> ndarray:
        return take(self, indices, axis)

    def reduced_view(self, dtype: Any = None) -> ndarray:
        return self.reshape(-1) if self.flags.c_contiguous else self

    def dot(self, other: ndarray, out: Any = None) -> ndarray:
        return call(np.dot, (self, other), {})

    # --- meetings with NumPy ---
    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **settings: Any) -> Any:
        if method != "__call__":
            return NotImplemented
        return call(ufunc, inputs, settings)

    def __array_function__(self, function: Any, types: Any, args: tuple, kwargs: dict) -> Any:
        return call(function, args, kwargs)


def _methods(names: str) -> None:
    for name in names.split():

        def method(self: ndarray, *args: Any, _name: str = name, **kwargs: Any) -> Any:
            return call(getattr(np.ndarray, _name), (self, *args), kwargs)

        setattr(ndarray, name, method)


def _operators(table: str) -> None:
    """Each pair is the middle of the operator's name and the ufunc that does the work."""
    for name, ufunc in (pair.split("=") for pair in table.split()):
        function = getattr(np, ufunc)

        def operate(self: ndarray, *other: Any, _function: Any = function) -> Any:
            if other and getattr(other[0], "__array_priority__", 0) > 100:
                return NotImplemented
            return call(_function, (self, *other), {})

        def reflected(self: ndarray, other: Any, _function: Any = function) -> Any:
            return call(_function, (other, self), {})

        def own(self: ndarray, other: Any, _function: Any = function) -> ndarray:
            return call(_function, (self, other), {"out": self})

        setattr(ndarray, f"__{name}__", operate)
        if function.nin == 2 and name not in ("eq", "ne", "lt", "le", "gt", "ge"):
            setattr(ndarray, f"__r{name}__", reflected)
            setattr(ndarray, f"__i{name}__", own)


_methods(
    "all any argmax argmin argsort conj cumprod cumsum diagonal flatten max mean min prod ravel repeat round "
    "sort squeeze std sum swapaxes trace transpose var"
)
_operators(
    "add=add sub=subtract mul=multiply truediv=true_divide floordiv=floor_divide mod=remainder pow=power "
    "matmul=matmul and=bitwise_and or=bitwise_or xor=bitwise_xor lshift=left_shift rshift=right_shift "
    "eq=equal ne=not_equal lt=less le=less_equal gt=greater ge=greater_equal "
    "neg=negative pos=positive abs=absolute invert=invert"
)
