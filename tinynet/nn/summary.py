"""Dry runs, the summary table, and how a model prints itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tinynet import kernels
from tinynet.autograd import no_grad
from tinynet.backend import DEFAULT_DTYPE, device_of, to_device
from tinynet.errors import ArgumentError, by_x
from tinynet.nn.arguments import arguments
from tinynet.nn.trail import Step, record_call
from tinynet.tensor import Tensor

if TYPE_CHECKING:
    from tinynet.nn.module import Module

Shape = tuple[int, ...]

_PLAIN = (bool, int, float, str, tuple)  # what is printed of the settings of a layer, besides functions


def dry_run(model: Module, input_shape: Iterable[int]) -> list[Step]:
    """Send one sample of zeros through the model, and return all calls of modules in their order.

    Evaluation mode, nothing recorded, kernels that need no compilation; missing parameters are created.
    """
    shape = _checked_shape(input_shape)
    _check_inputs(model)
    first = next((p.data for p in model.parameters() if p.built), None)
    x = np.zeros((1, *shape), DEFAULT_DTYPE if first is None else first.dtype)
    x = to_device(x, _place(model) if first is None else device_of(first))
    quiet = np.errstate(all="ignore")  # zeros may have no logarithm
    with _evaluation(model), no_grad(), kernels.use("numpy"), quiet:
        _, steps = record_call(model, (Tensor(x),), {})
    model.input_shape = shape
    return [Step(*step) for step in steps]


def _place(model: Module) -> str:
    """Where to() has put a model that has no parameters yet."""
    return next((module._place for module in model.modules() if module._place), "cpu")


@contextmanager
def _evaluation(model: Module) -> Iterator[None]:
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def _check_inputs(model: Module) -> None:
    """Only models of one input can be run dry."""
    inputs = inspect.signature(model.forward).parameters.values()
    needed = [p.name for p in inputs if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if len(needed) > 1:
        raise ArgumentError(
            f"build() and summary() know one input, but {type(model).__name__}.forward takes "
            f"{', '.join(needed)}. Its layers find their sizes when you call the model once, with arrays"
        )


def _checked_shape(input_shape: Iterable[int]) -> Shape:
    try:
        shape = tuple(int(s) for s in input_shape)
    except (TypeError, ValueError):
        shape = ()
    if not shape or any(s < 1 for s in shape):
        raise ArgumentError(
            f"input_shape={input_shape!r}: give the shape of one sample, no batch axis, such as (28, 28, 1)"
        )
    return shape


@dataclass(frozen=True)
class Row:
    """One layer of a :class:`Summary`; shapes without the batch axis, ``multiply_adds`` for one sample."""

    path: str
    kind: str
    output_shape: Shape | None
    parameters: int
    frozen: bool
    multiply_adds: int


@dataclass(frozen=True)
class Summary:
    """The layers of a model, one row per call, and totals; ``str(summary)`` is the table."""

    input_shape: Shape
    rows: list[Row]
    trainable: int
    frozen: int
    buffers: int

    @classmethod
    def of(cls, model: Module, input_shape: Iterable[int] | None) -> Summary:
        """Make the summary of a model; see :meth:`Module.summary`."""
        if input_shape is None and model.input_shape is None:
            raise ArgumentError(
                "summary() has seen no data yet: model.summary((28, 28, 1)), the shape of one sample"
            )
        steps = dry_run(model, model.input_shape if input_shape is None else input_shape)  # type: ignore[arg-type]
        parameters = model.parameters()
        return cls(
            input_shape=model.input_shape or (),
            rows=_rows(model, steps),
            trainable=sum(p.size for p in parameters if p.built and p.requires_grad),
            frozen=sum(p.size for p in parameters if p.built and not p.requires_grad),
            buffers=sum(array.size for _, array in model.named_buffers() if array is not None),
        )

    @property
    def parameters(self) -> int:
        """Number of all parameters, trainable and frozen."""
        return self.trainable + self.frozen

    @property
    def multiply_adds(self) -> int:
        """Multiplications with an addition for one sample, in all layers together."""
        return sum(row.multiply_adds for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain Python values, ready for JSON."""
        return {
            "input_shape": list(self.input_shape),
            "layers": [{**vars(row), "output_shape": list(row.output_shape or ())} for row in self.rows],
            "parameters": self.parameters,
            "trainable": self.trainable,
            "frozen": self.frozen,
            "buffers": self.buffers,
            "multiply_adds": self.multiply_adds,
        }

    def __str__(self) -> str:
        head = ("layer", "type", "output", "parameters", "multiply-adds")
        body = [("input", "", by_x(self.input_shape), "", ""), *map(_cells, self.rows)]
        total = ("total", "", "", f"{self.parameters:,}", f"{self.multiply_adds:,}")
        widths = [max(map(len, column)) for column in zip(head, *body, total)]
        lines = [_line(cells, widths) for cells in (head, *body, total)]
        rule = "-" * len(max(lines, key=len))
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1], self._footer()])

    __repr__ = __str__

    def _footer(self) -> str:
        return (
            f"trainable {self.trainable:,}, frozen {self.frozen:,}, in buffers {self.buffers:,}. "
            "Shapes and multiply-adds\n(of convolutions, dense and recurrent layers) are for one sample."
        )


def _rows(model: Module, steps: list[Step]) -> list[Row]:
    paths = {id(module): path for path, module in model.named_modules()}
    counted: set[int] = set()
    return [
        _row(step, paths.get(id(step.module), ""), counted)
        for step in steps
        if not any(step.module.children()) or _own_parameters(step.module)
    ]


def _own_parameters(module: Module) -> list[Any]:
    from tinynet.nn.parameter import Parameter

    return [item for _, item in module._contents() if isinstance(item, Parameter)]


def _row(step: Step, path: str, counted: set[int]) -> Row:
    """One row; parameters that an earlier row has counted do not count again."""
    own = {id(p): p for p in _own_parameters(step.module)}
    fresh = [p for key, p in own.items() if key not in counted and p.built]
    counted.update(own)
    out_shape = step.out_shape[1:] if step.out_shape is not None else None
    work: Callable[[Shape, Shape], int] | None = getattr(step.module, "multiply_adds", None)
    return Row(
        path=path or "(model)",
        kind=type(step.module).__name__,
        output_shape=out_shape,
        parameters=sum(p.size for p in fresh),
        frozen=bool(own) and not any(p.requires_grad for p in own.values()),
        multiply_adds=work((step.in_shape or ())[1:], out_shape or ()) if work else 0,
    )


def _cells(row: Row) -> tuple[str, ...]:
    shape = "several" if row.output_shape is None else by_x(row.output_shape)
    parameters = f"{row.parameters:,}" + (" frozen" if row.frozen else "")
    return row.path, row.kind, shape, parameters, f"{row.multiply_adds:,}"


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    left = [cell.ljust(width) for cell, width in zip(cells[:3], widths)]
    right = [cell.rjust(width) for cell, width in zip(cells[3:], widths[3:])]
    return "  ".join(left + right).rstrip()


def structure(module: Module, name: str = "", depth: int = 0) -> str:
    """The nested structure of a module with the settings of its layers and their numbers of parameters."""
    start = f"{'  ' * depth}{f'({name}) ' if name else ''}"
    if not hasattr(module, "forward"):  # a function among the layers of a Sequential
        return start + getattr(module, "__name__", repr(module))
    head = f"{start}{type(module).__name__}({_settings(module)})"
    lines = [f"{head}  # {_count(module)}" if module.parameters() else head]
    lines += [structure(inner, inner_name, depth + 1) for inner_name, inner in module._shown()]
    return "\n".join(lines)


def _count(module: Module) -> str:
    parameters = module.parameters()
    if not all(p.built for p in parameters):
        return "size not known yet"
    return f"{sum(p.size for p in parameters):,} parameters"


def _settings(module: Module) -> str:
    """The constructor's arguments as far as they differ from the defaults, read back from the attributes."""
    parts, kind = [], cast(Any, type(module))
    for name, parameter in arguments(kind).items():
        value = getattr(module, name, parameter.default)
        if value is None and parameter.default is True:  # a bias that was refused
            value = False
        if not (value is None or isinstance(value, _PLAIN) or inspect.isfunction(value)):
            continue
        text = value.__name__ if inspect.isfunction(value) else repr(value)
        if parameter.default is parameter.empty:
            parts.append(text)
        elif value != parameter.default:
            parts.append(f"{name}={text}")
    return ", ".join(parts)
