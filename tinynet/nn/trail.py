"""Where in a model an error happened, and what the data looked like on the way there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from tinynet import random
from tinynet.autograd import notice
from tinynet.errors import ShapeError, TinynetError, by_x

if TYPE_CHECKING:
    from tinynet.nn.module import Module

Shape = tuple[int, ...]

_SHOWN = 8  # so many layers before the failing one are listed


class Step(NamedTuple):
    """One call of one module: the shapes of its first input and of its output (None for a tuple)."""

    module: Module
    in_shape: Shape | None
    out_shape: Shape | None


Undo = list[tuple[Callable[[], None], dict[str, Any]]]


class _Calls(threading.local):
    """The outermost call that is under way: its steps, and how to forget the layers that it built."""

    steps: list[tuple] | None = None  # plain tuples, to lose no time; see Step
    undo: Undo | None = None


calls = _Calls()


def record_call(module: Module, inputs: tuple, settings: dict[str, Any]) -> tuple[Any, list[tuple]]:
    """Call ``module``; return its output and all steps taken inside. Errors get the trail so far."""
    notice(module)
    before = calls.steps, calls.undo
    steps: list[tuple] = []
    undo: Undo = []
    calls.steps, calls.undo = steps, undo
    try:
        return module(*inputs, **settings), steps
    except BaseException as error:
        _take_back(undo)
        if isinstance(error, ShapeError):
            _add_trail(error, module, steps)
        raise
    finally:
        calls.steps, calls.undo = before


def will_build(forget: Callable[[], None]) -> None:
    """A layer is about to draw its parameters; should the outermost call fail, ``forget`` takes them back."""
    if calls.undo is not None:
        calls.undo.append((forget, random.get_state()))


def _take_back(undo: Undo) -> None:
    """Layers that found their sizes in a call that failed are as new again, and so is the random stream."""
    for forget, random_state in reversed(undo):
        forget()
        random.set_state(random_state)


def locate(error: TinynetError, module: Module, inputs: tuple) -> None:
    """Note in ``error``, on its way out, that it passes through ``module``."""
    place = vars(error)
    if "module" not in place:
        place.update(kind=type(module).__name__, path="", in_shape=_shape(inputs))
    else:
        inner = _path_of(place["module"], module)
        place["path"] = f"{inner}.{place['path']}" if place["path"] else inner
    place["module"] = module
    root = type(module).__name__.lower()
    error.layer = f"{root}.{place['path']} ({place['kind']})" if place["path"] else place["kind"]


def _path_of(part: Module, whole: Module) -> str:
    paths = (path for path, m in whole.named_modules() if m is part)
    return next(paths, type(part).__name__.lower())


def _shape(inputs: tuple) -> Shape | None:
    return getattr(inputs[0], "shape", None) if inputs else None


def _add_trail(error: ShapeError, root: Module, calls_so_far: list[tuple]) -> None:
    """Insert ``28x28x1 -> conv1 -> 26x26x8 -> ... x fc1`` before the fix in the message."""
    steps = [Step(*call) for call in calls_so_far if not any(call[0].children())]
    if not steps or not vars(error).get("path"):
        return
    head, fix, tail = str(error.args[0]).partition("\n  Fix:")
    error.args = (f"{head}\n  {_draw(error, root, steps)}{fix}{tail}",)


def _draw(error: ShapeError, root: Module, steps: list[Step]) -> str:
    names = {id(m): path for path, m in root.named_modules()}
    parts = ["..."] if len(steps) > _SHOWN else []
    before = None
    for step in steps[-_SHOWN:]:
        if step.in_shape != before:
            parts.append(_per_sample(step.in_shape))
        parts += [
            _called(names.get(id(step.module), ""), type(step.module).__name__),
            _per_sample(step.out_shape),
        ]
        before = step.out_shape
    failed = vars(error)
    if failed["in_shape"] != before:
        parts.append(_per_sample(failed["in_shape"]))
    return " -> ".join(parts) + " x " + _called(failed["path"], failed["kind"])


def _called(path: str, kind: str) -> str:
    """The path, with the kind of layer where it ends in a number."""
    return f"{path} {kind}".strip() if not path or path.rpartition(".")[2].isdigit() else path


def _per_sample(shape: Shape | None) -> str:
    return by_x(shape[1:]) if shape else "?"
