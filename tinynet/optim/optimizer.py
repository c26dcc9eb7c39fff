"""The base of the optimisers: the parameters, the state of each, and saving both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from numbers import Real
from typing import Any

from tinynet.autograd import notice
from tinynet.backend import array_module, host, to_device
from tinynet.errors import ArgumentError, CheckpointError
from tinynet.kernels.live import live
from tinynet.tensor import Tensor


class Optimizer:
    """Changes parameters by their gradients: ``zero_grad()``, ``loss.backward()``, ``step()``, and again.

    ``lr`` can be set at any time. A parameter without a gradient is left alone, with its state. Raises
    :class:`ArgumentError` when there are no parameters, or some that have no size yet, and lists what it saw.
    """

    settings: tuple[str, ...] = ("lr",)  # numbers that are saved with the state
    slots: tuple[str, ...] = ()  # arrays kept per parameter, of the parameter's shape

    def __init__(self, params: Iterable[Tensor], lr: float):
        self.params = _checked(params)
        self.lr = not_negative(lr, "lr")
        self._state: list[dict[str, Any]] = [{} for _ in self.params]

    def zero_grad(self) -> None:
        """Forget the gradients; otherwise those of the next backward are added to them."""
        notice(self)
        for p in self.params:
            p.grad = None

    def step(self) -> None:
        """Change every parameter that has a gradient, all in one go."""
        notice(self)
        params, states = [], []
        for p, state in zip(self.params, self._state):
            if p.grad is None:
                continue
            if not state:
                state.update(self._fresh(p))
            elif self.slots and type(state[self.slots[0]]) is not type(p.data):
                state.update((slot, to_device(state[slot], p.device)) for slot in self.slots)  # p was moved
            params.append(p)
            states.append(state)
        live(partial(_count_step, states))
        self.update(params, states)

    def update(self, params: list[Tensor], states: list[dict[str, Any]]) -> None:
        """Change these parameters in place by their gradients.

        The state of each holds its arrays, named by ``slots``, and in "steps" the number of this step,
        counted from 1. Numbers that change from step to step are handed to kernels as live ones, so that a
        step can be recorded: ``live(lambda: self.lr)``; see tinynet.kernels.live.
        """
        raise TypeError(f"{type(self).__name__} defines no update(self, params, states)")

    def _fresh(self, p: Tensor) -> dict[str, Any]:
        xp = array_module(p.data)
        return {"steps": 0, **{slot: xp.zeros_like(p.data) for slot in self.slots}}

    def state_dict(self) -> dict[str, Any]:
        """Settings as numbers, and copies of the arrays, named by parameter: "velocity.0", "velocity.1"."""
        flat: dict[str, Any] = {name: getattr(self, name) for name in self.settings}
        for i, state in enumerate(self._state):
            for name, value in state.items():
                flat[f"{name}.{i}"] = value if isinstance(value, int) else value.copy()
        return flat

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a state of :meth:`state_dict`; what follows is equal bit for bit.

        Raises :class:`CheckpointError` when it belongs to another optimiser or other parameters.
        """
        fresh = [self._restored(p, state, i) for i, p in enumerate(self.params)]
        _check_names(self, state, fresh)
        for name in self.settings:
            setattr(self, name, type(getattr(self, name))(state[name]))
        self._state = fresh

    def _restored(self, p: Tensor, state: Mapping[str, Any], i: int) -> dict[str, Any]:
        """The state of parameter ``i``; empty when it had not been changed yet."""
        if f"steps.{i}" not in state:
            return {}
        slots = {slot: _like(p, state.get(f"{slot}.{i}"), f"{slot}.{i}") for slot in self.slots}
        return {"steps": int(state[f"steps.{i}"]), **slots}

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)}" for name in self.settings)
        return f"{type(self).__name__}({len(self.params)} parameters, {values})"


def _count_step(states: list[dict[str, Any]]) -> int:
    for state in states:
        state["steps"] += 1
    return len(states)


def not_negative(value: Any, name: str) -> float:
    """``value`` as a float, if it is a number of at least 0; else an :class:`ArgumentError`."""
    if isinstance(value, bool) or not isinstance(value, Real) or not float(value) >= 0:
        raise ArgumentError(f"{name}={value!r}: give a number of at least 0")
    return float(value)


def below_one(value: Any, name: str) -> float:
    """``value`` as a float, if it lies in [0, 1); else an :class:`ArgumentError`."""
    if not_negative(value, name) >= 1:
        raise ArgumentError(f"{name}={value!r}: give a number from 0 up to, but not including, 1")
    return float(value)


def _checked(params: Iterable[Tensor]) -> list[Tensor]:
    """The distinct parameters; a shared one counts once."""
    if hasattr(params, "parameters"):
        raise ArgumentError(
            f"got a {type(params).__name__}; write {type(params).__name__.lower()}.parameters()"
        )
    if isinstance(params, Tensor):
        raise ArgumentError("got a single tensor; put it into a list: [tensor]")
    if not isinstance(params, Iterable):
        raise ArgumentError(f"the first argument is a list of parameters, got {params!r}: model.parameters()")
    seen = list({id(p): p for p in params}.values())
    for i, p in enumerate(seen):
        _check_one(p, i, seen)
    if not any(p.requires_grad for p in seen):
        raise ArgumentError(_nothing_to_learn(seen))
    return seen


def _check_one(p: Any, i: int, seen: list[Any]) -> None:
    if not isinstance(p, Tensor):
        fix = " Write model.parameters()." if isinstance(p, (tuple, str)) else ""  # names among them
        raise ArgumentError(f"parameter {i} is a {type(p).__name__}, not a tensor.{fix} {_listing(seen)}")
    if p.data is None:
        raise ArgumentError(
            f"parameter {i} has no size yet. First let the layers find theirs: model.build((28, 28, 1)), "
            f"with the shape of one sample, or call the model once. {_listing(seen)}"
        )
    if p.node is not None:
        raise ArgumentError(
            f"parameter {i} is the result of {p.node.name}, not a leaf. Make it with "
            f"tn.tensor(..., requires_grad=True). {_listing(seen)}"
        )


def _nothing_to_learn(seen: list[Tensor]) -> str:
    if not seen:
        return (
            "there are no parameters: an empty list. Are the layers stored as attributes of the model "
            "(lists, tuples and dicts are fine)?"
        )
    return f"none of the parameters requires a gradient; are all layers frozen? {_listing(seen)}"


def _listing(seen: list[Any]) -> str:
    items = [_describe(p) for p in seen[:8]]
    return f"Seen: {', '.join(items)}{', ...' if len(seen) > 8 else ''}."


def _describe(p: Any) -> str:
    if not isinstance(p, Tensor):
        return type(p).__name__
    return "no size yet" if p.data is None else f"{p.shape}"


def _like(p: Tensor, array: Any, name: str) -> Any:
    shape = getattr(array, "shape", None)
    if shape != p.shape:
        raise CheckpointError(f"the optimiser's {name} has shape {shape}, its parameter {p.shape}")
    return array_module(p.data).array(array if array_module(array) is array_module(p.data) else host(array))


def _check_names(optimizer: Optimizer, state: Mapping[str, Any], fresh: list[dict[str, Any]]) -> None:
    known = set(optimizer.settings) | {f"{name}.{i}" for i, part in enumerate(fresh) for name in part}
    missing, unknown = sorted(set(optimizer.settings) - set(state)), sorted(set(state) - known)
    if missing or unknown:
        raise CheckpointError(
            f"this is no state of {type(optimizer).__name__} with {len(fresh)} parameters: "
            f"missing {', '.join(missing) or 'nothing'}; unknown {', '.join(unknown) or 'nothing'}"
        )
