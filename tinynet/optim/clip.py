"""Keeping gradients small."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tinynet.backend import array_module
from tinynet.errors import ArgumentError, NotFiniteError
from tinynet.tensor import Tensor


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients together so that their norm, as of one long vector, is at most ``max_norm``.

    Returns the norm before (Pascanu et al. 2013). Raises :class:`NotFiniteError`, with nothing changed, when
    a gradient holds a NaN or an infinity.
    """
    _check_limit(max_norm, "max_norm")
    grads = [p.grad for p in {id(p): p for p in params}.values() if p.grad is not None]
    squares = [float((g.astype("float64") ** 2).sum()) for g in grads]
    norm = math.sqrt(math.fsum(squares)) if all(map(math.isfinite, squares)) else math.nan
    if not math.isfinite(norm):
        i = next(i for i, s in enumerate(squares) if not math.isfinite(s))
        raise NotFiniteError(
            f"gradient {i} of {len(grads)}, of shape {grads[i].shape}, holds a NaN or an infinity"
        )
    if norm > max_norm:
        for g in grads:
            g *= max_norm / norm
    return norm


def clip_grad_value(params: Iterable[Tensor], limit: float) -> None:
    """Clip every element of every gradient to -limit .. limit."""
    _check_limit(limit, "limit")
    for p in params:
        if p.grad is not None:
            array_module(p.grad).clip(p.grad, -limit, limit, out=p.grad)


def _check_limit(value: float, name: str) -> None:
    if not value > 0:
        raise ArgumentError(f"{name}={value!r}: give a number above 0")
