"""What a layer learns."""

from __future__ import annotations

from typing import Any

from tinynet.tensor import Tensor, tensor


class Parameter(Tensor):
    """A tensor that a layer learns; a :class:`Module` finds it when it is stored as an attribute.

    Without ``data`` it has no size yet: the layer fills it in at the first call, when it sees its input.
    """

    __slots__ = ()

    def __init__(self, data: Any = None, requires_grad: bool = True):
        if data is None:
            super().__init__(None)
            self.requires_grad = requires_grad
        else:
            super().__init__(tensor(data).data, requires_grad)

    @property
    def built(self) -> bool:
        """Whether the size is known and the numbers are there."""
        return self.data is not None

    def __repr__(self) -> str:
        return (
            super().__repr__().replace("tensor(", "parameter(", 1) if self.built else "parameter(no size yet)"
        )
