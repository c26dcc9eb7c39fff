"""What a recorded step depends on besides its inputs, and whether all of that is still the same."""

from __future__ import annotations

import random as python_random
import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np

from tinynet import random
from tinynet.backend import is_array
from tinynet.errors import CaptureError
from tinynet.nn import Module
from tinynet.optim import Optimizer
from tinynet.tensor import Tensor

_NUMBERS = (bool, int, float, str)


class Witness:
    """Notes what a step uses, while it runs: tensors, modules, optimisers, and the gradients they get.

    A recording of the step holds the addresses of their arrays and the decisions made by their settings.
    :meth:`unchanged` tells whether these are still the same objects, in a few microseconds.
    """

    def __init__(self) -> None:
        self.leaves: dict[int, Tensor] = {}  # those that got a gradient
        self.accumulates = False
        self._before: dict[int, tuple[Tensor, Any]] = {}  # gradients before the step
        self._owners: dict[int, Any] = {}
        self._seen: list[tuple[weakref.ref, Any]] = []
        self._tensors: list[tuple[Tensor, Any, bool]] = []  # with array and requires_grad
        self._grads: list[tuple[Tensor, Any]] = []  # of parameters that this step gives none, after it
        self._settings: list[tuple[Any, str, Any]] = []  # attributes of modules and optimisers
        self._contents: list[tuple[Any, list[int]]] = []  # of lists and dicts among these attributes
        self._given: set[int] = set()  # leaves that got a gradient in the step under way
        self._draws = _random_states()

    def begin_step(self) -> None:
        """Several steps can be recorded together; each is to forget the gradients of the one before."""
        self._given.clear()

    def uses(self, thing: Any) -> None:
        """A tensor, a module or an optimiser; the latter with all that is in them."""
        if isinstance(thing, Tensor):
            if thing.node is None:
                self._seen.append((weakref.ref(thing), thing.data))
        elif thing is not None and id(thing) not in self._owners:
            self._owners[id(thing)] = thing
            if isinstance(thing, Module):
                self._note_module(thing)
            else:
                self._note_optimizer(thing)

    def receives(self, leaf: Tensor) -> None:
        """The first gradient of a step must not be added to one from before: nothing would take that back."""
        self.leaves[id(leaf)] = leaf
        self._before.setdefault(id(leaf), (leaf, leaf.grad))
        if id(leaf) not in self._given:
            self._given.add(id(leaf))
            self.accumulates |= leaf.grad is not None

    def _note_module(self, module: Module) -> None:
        for part in module.modules():
            self._note_settings(part, {*vars(part), "training", "frozen"})
        self._note_tensors(module.parameters())

    def _note_optimizer(self, optimizer: Optimizer) -> None:
        self._note_settings(optimizer, vars(optimizer).keys() - {"lr"})
        self._note_tensors(optimizer.params)

    def _note_settings(self, owner: Any, names: Iterable[str]) -> None:
        for name in names:
            value = getattr(owner, name)
            self._settings.append((owner, name, value))
            if isinstance(value, (list, dict)):
                self._contents.append((value, _identities(value)))

    def _note_tensors(self, tensors: Iterable[Tensor]) -> None:
        for t in tensors:
            self._tensors.append((t, t.data, t.requires_grad))
            self._before.setdefault(id(t), (t, t.grad))

    def unchanged(self) -> bool:
        """Whether everything that was noted still is what it was."""
        return (
            all(t.data is data and t.requires_grad is flag for t, data, flag in self._tensors)
            and all(getattr(owner, name, None) is value for owner, name, value in self._settings)
            and all(_identities(container) == ids for container, ids in self._contents)
            and all(t.grad is grad for t, grad in self._grads)
        )

    # --- after a recording ---

    def conclude(self) -> None:
        """Raise :class:`CaptureError` when the step did on the host what a replay would not do.

        Tensors that were made in the step are forgotten; the arrays they held are kept from being freed.
        """
        if _random_states() != self._draws:
            raise CaptureError(
                "it draws random numbers on the host, which would be the same in every replay. Let layers "
                "draw them (nn.Dropout), or hand them in as an input of the step"
            )
        for owner, name, before in list(self._settings):
            if (after := getattr(owner, name, None)) is not before:
                self._judge(owner, name, before, after)
        alive = [t for t in (ref() for ref, _ in self._seen) if t is not None]
        self._note_tensors(alive)
        self._grads = [(t, t.grad) for t, *_ in self._tensors if id(t) not in self.leaves]

    def _judge(self, owner: Any, name: str, before: Any, after: Any) -> None:
        """An attribute got another value in the step: a result put down, or a state that is needed again?"""
        if isinstance(before, _NUMBERS) or isinstance(after, _NUMBERS):
            raise CaptureError(
                f"it sets the attribute {name!r} from {before!r} to {after!r}, but its Python code runs only "
                "while it is recorded, not in a replay. Leave that to the code around the step"
            )
        array = before.data if isinstance(before, Tensor) else before
        if is_array(array) and any(array is used for _, used in self._seen):
            raise CaptureError(
                f"it reads the attribute {name!r} and puts another array in its place, so that a replay "
                f"would read the old one again. Write into it instead: self.{name}.data[...] = new.data"
            )
        self._settings = [s for s in self._settings if s[0] is not owner or s[1] != name]

    def take_back(self) -> None:
        """Have the gradients that were there before the step."""
        for tensor, grad in self._before.values():
            tensor.grad = grad


def _identities(container: list | dict) -> list[int]:
    return [*map(id, container.values() if isinstance(container, dict) else container)]


def _random_states() -> tuple[Any, ...]:
    """Where the streams of random numbers stand that a program uses without having made them."""
    numpys: Any = np.random.get_state(legacy=False)
    words = [np.asarray(value).tobytes() for value in numpys["state"].values()]
    return str(random.get_state()), python_random.getstate(), words
