"""Recordings of a step on a GPU: when to make one, whether it still fits, and why it cannot be made."""

from __future__ import annotations

import traceback
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tinynet.autograd import is_recording, witnessed
from tinynet.errors import CaptureError, TinynetError
from tinynet.kernels.products import tf32
from tinynet.tensor import Tensor
from tinynet.training.feed import Feed, detached
from tinynet.training.witness import Witness

Step = Callable[..., Any]

WARM_UPS = 3  # runs before the first recording: kernels are compiled, and memory is found
KEPT = 8  # recordings of one step, for inputs of different shapes


class Recordings:
    """All recordings of one step."""

    def __init__(self, step: Step):
        self._step = step
        self._made: OrderedDict[Any, _Recording] = OrderedDict()
        self._told = False
        self.closed = False  # for good: the step is not recorded any more

    def replay(self, feed: Feed, before: Callable[[], object] = lambda: None) -> list[Any] | None:
        """What the steps return for the inputs of ``feed``; None when they have to be run as they are.

        ``before()`` is called right before a replay.
        """
        from tinynet.kernels.cuda.graph import on_device

        recording = self._of(feed)
        with on_device(feed.device):
            if not recording.ready and (recording.warm_ups or not recording.make(self._step, feed)):
                return None
            before()
            return recording.replay(feed)

    @contextmanager
    def watching(self, feed: Feed) -> Iterator[Witness]:
        """Around steps that are run as they are; it sees whether they could be recorded."""
        witness, recording = Witness(), self._of(feed)
        with witnessed(witness):
            yield witness
        if recording.warm_ups > 1 or not witness.accumulates:
            recording.warm_ups -= 1
        elif not self._told:
            self._told = True
            warnings.warn(
                f"the step {_name(self._step)} adds to gradients from before it, and is therefore not "
                "recorded but run as it is, slower. Is optimizer.zero_grad() missing in it?",
                stacklevel=5,
            )

    def _of(self, feed: Feed) -> _Recording:
        key = feed.key, is_recording(), tf32()
        if key not in self._made:
            self._made[key] = _Recording(1 if self._made else WARM_UPS)
            if len(self._made) > KEPT:
                self._made.popitem(last=False)
        self._made.move_to_end(key)
        return self._made[key]


class _Recording:
    """Steps for inputs of one kind: to be run ``warm_ups`` times as they are, recorded, or outdated."""

    def __init__(self, warm_ups: int):
        self.warm_ups = warm_ups
        self._graph: Any = None
        self._witness = Witness()
        self._grads: list[tuple[Tensor, Any]] = []
        self._feed: Any = None

    @property
    def ready(self) -> bool:
        """Whether there is a recording that fits. One that does not any more is given up."""
        if self._graph is not None and not self._witness.unchanged():
            self._graph, self.warm_ups = None, 1  # run once more: new states may have to be made
        return self._graph is not None

    def make(self, step: Step, feed: Feed) -> bool:
        """Record the steps. False, or an error: that cannot be done, and everything is as it was."""
        from tinynet.kernels.cuda.graph import Graph

        self._feed, self._witness = feed.fixed(), Witness()
        try:
            with witnessed(self._witness):
                graph = Graph(lambda: each_step(step, self._feed, self._witness), 4096 * feed.count)
            self._witness.conclude()
        except BaseException as error:
            self._witness.take_back()
            if isinstance(error, Exception) and not isinstance(error, MemoryError):
                raise _explained(error, step) from (None if isinstance(error, TinynetError) else error)
            raise
        if self._witness.accumulates:  # gradients that somebody left there just now
            self._witness.take_back()
            self.warm_ups = 1
            return False
        self._grads = [(leaf, leaf.grad) for leaf in self._witness.leaves.values()]
        self._graph = graph
        return True

    def replay(self, feed: Feed) -> list[Any]:
        """Compute the steps for the inputs of ``feed``, and leave everything as they would."""
        self._feed.take_over(feed)
        self._graph.replay()
        for leaf, grad in self._grads:
            leaf.grad = grad
        return self._graph.result


def each_step(step: Step, feed: Feed, witness: Witness) -> list[Any]:
    """The results of all steps of ``feed``, without graphs."""
    results = []
    for inputs in feed.inputs():
        witness.begin_step()
        results.append(detached(step(*inputs)))
    return results


# --- errors ---

_LOOKS = (
    "Values are there only after the step: return the tensor and look at it outside: loss = step(x, y); "
    "print(float(loss))"
)
_OTHER = "Leave it out of the step, or do not compile the step"

_CAUSES = {  # a word in the text of an error, and what stands behind it
    "cuBLAS": "multiplies matrices through CuPy; only products of tensors in float32 can be recorded",
    "Live": "works on arrays that are not float32 with a number that changes from step to step",
    "captur": "looks at values on the GPU",
}


def _explained(error: Exception, step: Step) -> Exception:
    """What the step asked for that a recording cannot give, and where; other errors of tinynet stay."""
    if isinstance(error, CaptureError):
        return CaptureError(f"the step {_name(step)} cannot be recorded: {error}")
    if isinstance(error, TinynetError):
        return error
    what = next((what for word, what in _CAUSES.items() if word in str(error)), None)
    return CaptureError(
        f"the step {_name(step)} cannot be recorded: {_place(error, step)} "
        f"{what or f'fails with {type(error).__name__}: {error}'}. Model and optimiser are as they were. "
        f"{_LOOKS if what == _CAUSES['captur'] else _OTHER}"
    )


def _name(step: Step) -> str:
    return getattr(step, "__qualname__", type(step).__name__)


def _place(error: Exception, step: Step) -> str:
    """The last line that stands in the step's own file, or else outside of tinynet."""
    frames = traceback.extract_tb(error.__traceback__)
    own = getattr(getattr(step, "__code__", None), "co_filename", None)
    ours = Path(__file__).parents[1]
    outside = [f for f in frames if ours not in Path(f.filename).parents]
    chosen = [f for f in frames if f.filename == own] or outside or frames
    return f"line {chosen[-1].lineno} of {Path(chosen[-1].filename).name} ({chosen[-1].line})"
