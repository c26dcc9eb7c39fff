"""Compare analytic gradients with finite differences: in float64, and away from kinks and ties.

A function with a kink (relu at 0) or a tie (the maximum of two equal numbers) has no derivative there: the
slope to the left differs from the slope to the right. Such inputs are moved a little, and the report says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import tinynet.backend as backend
from tinynet.autograd import no_grad
from tinynet.errors import ArgumentError, unknown_name
from tinynet.tensor import Tensor, as_tensor

SMALL = 256  # inputs of up to this many elements are checked one by one
DIRECTIONS = 8  # along how many random directions a larger input is checked
ROUNDS = 12  # how often an input is moved off a kink before giving up


@dataclass(frozen=True)
class InputCheck:
    """How the gradient of one input compares: errors are absolute differences of derivatives."""

    number: int
    shape: tuple[int, ...]
    along: str  # "elements" or "directions"
    compared: int
    moved: int  # elements or directions that lay on a kink or tie
    left_out: int  # those that could not be moved off it
    error: float
    at: str  # where the largest error is, and the two derivatives there
    analytic: float
    numeric: float
    ok: bool


@dataclass(frozen=True)
class Report:
    """What :func:`gradcheck` found; true when every gradient agrees, a table when printed."""

    inputs: tuple[InputCheck, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether all inputs agree."""
        return all(c.ok for c in self.inputs)

    @property
    def max_error(self) -> float:
        """The largest absolute difference between an analytic and a numeric derivative."""
        return max((c.error for c in self.inputs), default=0.0)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [
            ("input", "shape", "compared", "error", "at", "analytic", "numeric", "")
        ]
        rows += [_row(c) for c in self.inputs]
        widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
        table = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows]
        head = f"gradients {'agree' if self.ok else 'DIFFER'}, largest error {self.max_error:.1e}"
        return "\n".join([head, *table, *(f"note: {n}" for n in self.notes)])


def _row(c: InputCheck) -> tuple[str, ...]:
    compared = f"{c.compared} {c.along}"
    numbers = (f"{c.error:.1e}", c.at, f"{c.analytic:.6g}", f"{c.numeric:.6g}")
    return (str(c.number), str(c.shape), compared, *numbers, "ok" if c.ok else "DIFFERS")


def gradcheck(
    f: Callable[..., Any], *inputs: Any,
    eps: float = 1e-6, atol: float = 1e-6, rtol: float = 1e-5, directional: bool | None = None,
) -> Report:  # fmt: skip
    """Compare the gradients of ``f(*inputs)`` with central differences of step ``eps``.

    ``f`` takes tensors and returns a tensor or a tuple of them, of any shape; outputs are weighed at random
    and summed. Floating inputs are copied to float64, integers are passed on as they are. Inputs of up to 256
    elements are checked element by element, larger ones along 8 random directions; ``directional`` True or
    False settles it. A derivative agrees when abs(analytic - numeric) <= atol + rtol * abs(numeric).

    Returns a :class:`Report`: true when all agree, a table when printed. Raises :class:`ArgumentError` when
    ``f`` gives different values for the same inputs, as dropout does.
    """
    rng = np.random.default_rng(0)
    probe = _Probe(f, inputs, eps, rng)
    lines = {i: _directions(a, directional, rng) for i, a in enumerate(probe.arrays) if _is_float(a)}
    moved = dict.fromkeys(lines, 0)
    slopes = probe.slopes(lines)
    for _ in range(ROUNDS):
        stuck = {i: [d for d, s in zip(lines[i], slopes[i]) if s is None] for i in lines}
        if not any(stuck.values()):
            break
        for i, directions in stuck.items():
            moved[i] = max(moved[i], len(directions))
            _move(probe.arrays[i], directions, rng)
        slopes = probe.slopes(lines)
    gradients = probe.gradients()
    checks = [_compare(i, lines[i], slopes[i], gradients[i], moved[i], atol, rtol) for i in lines]
    return Report(tuple(checks), tuple(_notes(checks)))


def _is_float(array: Any) -> bool:
    return array.dtype.kind == "f"


def _directions(array: Any, directional: bool | None, rng: np.random.Generator) -> list[Any]:
    """Along what to differentiate: a flat index for one element, or an array of +1 and -1."""
    if directional is None:
        directional = array.size > SMALL
    if not directional:
        return list(range(array.size))
    xp = backend.array_module(array)
    return [xp.asarray(rng.choice([-1.0, 1.0], array.shape)) for _ in range(DIRECTIONS if array.size else 0)]


class _Probe:
    """f as one number, with slopes along any direction in any input."""

    def __init__(self, f: Callable[..., Any], inputs: tuple[Any, ...], eps: float, rng: np.random.Generator):
        self.f, self.eps = f, eps
        self.arrays = [_float64(as_tensor(x).data) for x in inputs]
        with no_grad():
            outputs = self._outputs([Tensor(a.copy()) for a in self.arrays])
        if not outputs or not any(map(_is_float, self.arrays)):
            raise ArgumentError("gradcheck: neither inputs nor outputs may all be integers")
        self.weights = [_weights(y.data, rng) for y in outputs]
        if not _same(self.value(), self.value()):
            raise ArgumentError(
                "gradcheck: f gives different values for the same inputs. Fix its random numbers: call "
                "tn.seed(0) inside f"
            )

    def _outputs(self, tensors: list[Tensor]) -> list[Tensor]:
        result = self.f(*tensors)
        outputs = list(result) if isinstance(result, (tuple, list)) else [result]
        if not all(isinstance(y, Tensor) for y in outputs):
            raise ArgumentError(f"gradcheck: f must return tensors, got {type(result).__name__}")
        return [y for y in outputs if _is_float(y)]

    def value(self) -> float:
        with no_grad():
            outputs = self._outputs([Tensor(a.copy()) for a in self.arrays])
        return sum(float((y.data * w).sum()) for y, w in zip(outputs, self.weights))

    def gradients(self) -> list[Any]:
        leaves = [Tensor(a.copy(), requires_grad=_is_float(a)) for a in self.arrays]
        terms = [(y * Tensor(w)).sum() for y, w in zip(self._outputs(leaves), self.weights)]
        sum(terms[1:], terms[0]).backward()
        return [0 * t.data if t.grad is None else t.grad for t in leaves]

    def slopes(self, lines: dict[int, list[Any]]) -> dict[int, list[float | None]]:
        """The derivative along each direction in each input; None on a kink."""
        centre = self.value()
        return {i: [self._slope(i, d, centre) for d in directions] for i, directions in lines.items()}

    def _slope(self, i: int, direction: Any, centre: float) -> float | None:
        """Mean of the slopes to both sides, or None if they differ by more than curvature explains.

        Curvature makes a difference that grows with the step, a kink one that does not.
        """
        left, right = self._sides(i, direction, centre, self.eps)
        jump = abs(right - left)
        if jump <= 1e-5 * max(abs(left), abs(right)) + 1e-8 * max(1.0, abs(centre)):
            return (left + right) / 2
        far_left, far_right = self._sides(i, direction, centre, 10 * self.eps)
        return (left + right) / 2 if abs(far_right - far_left) > 3 * jump else None

    def _sides(self, i: int, direction: Any, centre: float, eps: float) -> tuple[float, float]:
        here = self.arrays[i]
        self.arrays[i] = _moved(here, direction, -eps)
        before = self.value()
        self.arrays[i] = _moved(here, direction, eps)
        after = self.value()
        self.arrays[i] = here
        return (centre - before) / eps, (after - centre) / eps


def _float64(array: Any) -> Any:
    return array.astype(np.float64) if _is_float(array) else array


def _weights(output: Any, rng: np.random.Generator) -> Any:
    """Random weights, none of them near 0, of both signs."""
    numbers = rng.uniform(0.5, 1.5, output.shape) * rng.choice([-1.0, 1.0], output.shape)
    return backend.array_module(output).asarray(numbers)


def _same(a: float, b: float) -> bool:
    return a == b or (np.isnan(a) and np.isnan(b))


def _moved(array: Any, direction: Any, size: float) -> Any:
    """A copy of the array, moved along a direction."""
    if not isinstance(direction, int):
        return array + size * direction
    array = array.copy()
    array[np.unravel_index(direction, array.shape)] += size
    return array


def _move(array: Any, directions: list[Any], rng: np.random.Generator) -> None:
    """Take each element on a kink a random step aside; along lines through many elements, all of them."""
    for direction in directions:
        if not isinstance(direction, int):
            array += backend.array_module(array).asarray(rng.normal(0, 0.1, array.shape))
            return
        array[np.unravel_index(direction, array.shape)] += rng.uniform(0.05, 0.15) * rng.choice([-1, 1])


def _compare(
    number: int, directions: list[Any], slopes: list[float | None], gradient: Any, moved: int, atol: float,
    rtol: float,
) -> InputCheck:  # fmt: skip
    found = list(_derivatives(directions, slopes, gradient))
    errors = [abs(a - n) if np.isfinite(a) else np.inf for _, a, n in found]
    agree = all(e <= atol + rtol * abs(n) for e, (_, _, n) in zip(errors, found))
    worst = int(np.argmax(errors)) if found else 0
    at, analytic, numeric = found[worst] if found else ("-", 0.0, 0.0)
    elementwise = all(isinstance(d, int) for d in directions)
    return InputCheck(
        number=number,
        shape=gradient.shape,
        along="elements" if elementwise else "directions",
        compared=len(found),
        moved=moved,
        left_out=len(directions) - len(found),
        error=float(errors[worst]) if found else 0.0,
        at=at,
        analytic=analytic,
        numeric=numeric,
        ok=agree and (bool(found) or not directions),
    )


def _derivatives(
    directions: list[Any], slopes: list[float | None], gradient: Any
) -> Iterator[tuple[str, float, float]]:
    """Place, analytic and numeric derivative for each direction that lies on no kink."""
    for number, (direction, numeric) in enumerate(zip(directions, slopes)):
        if numeric is None:
            continue
        if isinstance(direction, int):
            place = tuple(int(p) for p in np.unravel_index(direction, gradient.shape))
            yield str(place), float(gradient[place]), numeric
        else:
            yield f"direction {number}", float((gradient * direction).sum()), numeric


def _notes(checks: list[InputCheck]) -> Iterator[str]:
    for c in checks:
        if c.moved:
            yield f"input {c.number}: {c.moved} {c.along} lay on a kink or tie and were moved"
        if c.left_out:
            yield f"input {c.number}: {c.left_out} {c.along} stayed on a kink and were not compared"


def check_op(name: str) -> Report:
    """Check the gradient of one operation of :mod:`tinynet.ops` on the inputs kept for it.

    Raises :class:`ArgumentError` for a name that is no differentiable operation.
    """
    from tinynet.ops.cases import (
        gradcheck_cases,
    )  # the operations are built on this package, so not at load time

    if name not in gradcheck_cases:
        raise unknown_name("operation", name, gradcheck_cases)
    f, inputs = gradcheck_cases[name]()
    return gradcheck(f, *inputs)
