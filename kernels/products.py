"""How exactly products are computed on a GPU: in float32, or on tensor cores in TF32."""

from __future__ import annotations

_KNOWN = ("fp32", "tf32")
_current = "fp32"


class precision:
    """Choose the precision of GPU products: ``kernels.precision("tf32")``, or as a ``with`` block.

    "fp32" (the default) is IEEE single precision. "tf32" rounds the factors to 10 bits of mantissa and sums
    in float32, on the tensor cores of cards from compute capability 8.0 on; results are then right to about
    three digits. Arrays on the CPU and float64 arrays are not concerned.
    """

    def __init__(self, name: str):
        global _current
        if name not in _KNOWN:
            raise ValueError(f"unknown precision {name!r}; known: {', '.join(_KNOWN)}")
        self._before, _current = _current, name

    def __enter__(self) -> precision:
        return self

    def __exit__(self, *error: object) -> None:
        global _current
        _current = self._before


def tf32() -> bool:
    """Whether TF32 was chosen."""
    return _current == "tf32"
