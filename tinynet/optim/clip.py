"""Keeping gradients small."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from tinynet import kernels
from tinynet.backend import array_module, can_look
from tinynet.errors import ArgumentError, NotFiniteError
from tinynet.tensor import Tensor


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> Any:
    """Scale all gradients together so that their norm, as of one long vector, is at most ``max_norm``.

    Returns the norm before (Pascanu et al. 2013). Raises :class:`NotFiniteError`, with nothing changed, when
    a gradient holds a NaN or an infinity. In a step that is being recorded nobody can look at them: then all
    gradients become NaN, and the norm is an array.
    """
    _check_limit(max_norm, "max_norm")
    grads = [p.grad for p in {id(p): p for p in params}.values() if p.grad is not None]
    if not grads:
        return 0.0
    norm = kernels.total_norm(grads)
    if not can_look(norm):
        kernels.limit_norm(grads, norm, max_norm)
        return norm
    if not math.isfinite(norm):
        raise _not_finite(grads)
    if norm > max_norm:
        kernels.limit_norm(grads, norm, max_norm)
    return float(norm)


def _not_finite(grads: list[Any]) -> NotFiniteError:
    i = next(i for i, g in enumerate(grads) if not math.isfinite(kernels.total_norm([g])))
    return NotFiniteError(
        f"gradient {i} of {len(grads)}, of shape {grads[i].shape}, holds a NaN or an infinity"
    )


def clip_grad_value(params: Iterable[Tensor], limit: float) -> None:
    """Clip every element of every gradient to -limit .. limit."""
    _check_limit(limit, "limit")
    for p in params:
        if p.grad is not None:
            array_module(p.grad).clip(p.grad, -limit, limit, out=p.grad)


def _check_limit(value: float, name: str) -> None:
    if not value > 0:
        raise ArgumentError(f"{name}={value!r}: give a number above 0")
