"""Optimisers, learning-rate schedules and gradient clipping."""

from __future__ import annotations

from typing import Any

from tinynet.errors import did_you_mean, unknown_name
from tinynet.optim.adam import Adam, AdamW
from tinynet.optim.clip import clip_grad_norm, clip_grad_value
from tinynet.optim.optimizer import Optimizer
from tinynet.optim.schedules import CosineLR, OneCycleLR, Schedule, StepLR
from tinynet.optim.sgd import SGD

__all__ = [
    "SGD", "Adam", "AdamW", "CosineLR", "OneCycleLR", "Optimizer", "Schedule", "StepLR", "clip_grad_norm",
    "clip_grad_value", "get",
]  # fmt: skip

_NAMES: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}

_ELSEWHERE = {  # names of PyTorch and Keras, and what they are called here
    "RMSprop": "Adam(params)",
    "lr_scheduler": "StepLR, CosineLR or OneCycleLR, directly in tinynet.optim",
    "CosineAnnealingLR": "CosineLR(optimizer, steps)",
    "CosineDecay": "CosineLR(optimizer, steps)",
    "ExponentialLR": "StepLR(optimizer, every=1, gamma=...)",
    "ExponentialDecay": "StepLR(optimizer, every, gamma)",
    "MultiStepLR": "StepLR(optimizer, every, gamma)",
    "clip_grad_norm_": "clip_grad_norm(params, max_norm)",
    "clip_grad_value_": "clip_grad_value(params, limit)",
}


def get(name: str) -> type[Optimizer]:
    """The optimiser class called "sgd", "adam" or "adamw"; else :class:`ArgumentError`."""
    if not isinstance(name, str) or name not in _NAMES:
        raise unknown_name("optimizer", name, _NAMES)
    return _NAMES[name]


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        raise AttributeError(f"tinynet.optim has no {name!r}; it is called {_ELSEWHERE[name]}")
    raise AttributeError(f"tinynet.optim has no {name!r}. {did_you_mean(name, __all__)}")
