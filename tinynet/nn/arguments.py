"""What a constructor takes, for layers that print themselves and for those that are called wrongly."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

from tinynet.errors import ArgumentError, did_you_mean

_ELSEWHERE = {  # arguments of PyTorch and Keras, and what they are called here
    "strides": "stride",
    "pool_size": "size",
    "scale_factor": "scale",
    "dilation_rate": "dilation",
    "use_bias": "bias",
    "kernel_initializer": "init",
    "out_channels": "filters",
    "out_features": "units",
    "hidden_size": "units",
    "input_size": "in_features",
    "num_groups": "groups",
    "p": "rate",
    "nonlinearity": "activation",
    "negative_slope": "slope",
    "weight": "class_weight",
    "epsilon": "eps",
}


@cache
def arguments(kind: Any) -> dict[str, inspect.Parameter]:
    """The arguments of a constructor, with those that it hands on to its base by ``**settings``."""
    found: dict[str, inspect.Parameter] = {}
    for cls in kind.__mro__:
        if "__init__" not in vars(cls) or cls is object:
            continue
        own = list(inspect.signature(vars(cls)["__init__"]).parameters.values())[1:]
        found |= {p.name: p for p in own if p.kind is not p.VAR_KEYWORD and p.name not in found}
        if not any(p.kind is p.VAR_KEYWORD for p in own):
            break
    return found


def check_call(cls: type, right_call: str, args: tuple, settings: dict[str, Any]) -> None:
    """Raise :class:`ArgumentError`, with the call probably meant, for arguments that ``cls`` does not take.

    ``right_call`` says how positional arguments given in excess are written, e.g. "{1}, in_features={0}".
    """
    known = arguments(cls)
    for name in settings.keys() - known.keys():
        raise ArgumentError(f"{cls.__name__} has no argument {name!r}. {_hint(name, known)}")
    leading = [p.name for p in known.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    if len(args) > len(leading) and not any(p.kind is p.VAR_POSITIONAL for p in known.values()):
        got = ", ".join(map(repr, args))
        right = f" Write {cls.__name__}({right_call.format(*args)})" if right_call and len(args) > 1 else ""
        rule = f"only {', '.join(leading)} may" if leading else "nothing may"
        raise ArgumentError(f"{cls.__name__}({got}): {rule} stand without a name.{right}")


def _hint(name: str, known: dict[str, inspect.Parameter]) -> str:
    ours = _ELSEWHERE.get(name)
    if ours in known:
        return f"It is called {ours!r}."
    return did_you_mean(name, known) if known else "It takes none."
