"""The base of everything that holds parameters: finding them, modes, state, and calls."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tinynet import backend
from tinynet.backend import is_array
from tinynet.errors import ArgumentError, TinynetError
from tinynet.nn.arguments import check_call
from tinynet.nn.parameter import Parameter
from tinynet.nn.trail import calls, locate, record_call
from tinynet.tensor import Tensor

Hook = Callable[["Module", tuple, Any], Any]


class Module:
    """A layer, or a model made of layers: write ``__init__`` and ``forward``, and call it like a function.

    Parameters, buffers and other modules are found when they are stored as attributes, also inside lists,
    tuples and dicts, and are listed in the order in which they were assigned::

        class Net(nn.Module):
            def __init__(self):
                self.conv = nn.Conv2D(8, 3, activation="relu")
                self.out = nn.Dense(10)

            def forward(self, x):                 # (N, H, W, C)
                return self.out(self.conv(x).flatten(1))

    ``training`` tells dropout and batch normalisation how to behave; see :meth:`train` and :meth:`eval`.
    """

    training: bool = True
    frozen: bool = False
    input_shape: tuple[int, ...] | None = None  # of one sample, known after build() or the first call
    _hooks: tuple[Hook, ...] = ()
    _buffers: tuple[str, ...] = ()
    _trainer: Any = None
    _place: str | None = None  # where to() has put it; parameters that are still to be made go there
    _right_call: str = ""  # see check_call

    def __new__(cls, *args: Any, **settings: Any) -> Any:
        if cls.__module__.startswith("tinynet."):
            check_call(cls, cls._right_call, args, settings)
        return super().__new__(cls)

    def forward(self, *inputs: Any, **settings: Any) -> Any:
        """What the module computes; every subclass defines it, and users call the module itself."""
        raise TypeError(f"{type(self).__name__} defines no forward(self, x)")

    def __call__(self, *inputs: Any, **settings: Any) -> Any:
        """Run :meth:`forward` on tensors or arrays; errors come back with the path of the layer in them."""
        steps = calls.steps
        if steps is None:
            return self._outermost_call(inputs, settings)
        first = inputs[0] if inputs else None
        if type(first) is not Tensor and is_array(first):
            inputs = (first := Tensor(first), *inputs[1:])
        try:
            output = self.forward(*inputs, **settings)
            for hook in self._hooks:
                replaced = hook(self, inputs, output)
                output = output if replaced is None else replaced
        except TinynetError as error:
            locate(error, self, inputs)
            raise
        steps.append((self, getattr(first, "shape", None), getattr(output, "shape", None)))
        return output

    def _outermost_call(self, inputs: tuple, settings: dict[str, Any]) -> Any:
        output, _ = record_call(self, inputs, settings)
        if self.input_shape is None and inputs and hasattr(inputs[0], "shape"):
            self.input_shape = tuple(inputs[0].shape[1:])
        return output

    def register_forward_hook(self, hook: Hook) -> HookHandle:
        """Have ``hook(module, inputs, output)`` called after every forward; what it returns, if anything,
        replaces the output. ``handle.remove()`` ends it."""
        self._hooks = (*self._hooks, hook)
        return HookHandle(self, hook)

    # --- what is inside ---

    def _attributes(self) -> Iterable[tuple[str, Any]]:
        return vars(self).items()

    def _contents(self) -> Iterator[tuple[str, Parameter | Module]]:
        for name, value in self._attributes():
            yield from _found_in(name, value)

    def _shown(self) -> Iterator[tuple[str, Any]]:
        """What stands in the printed structure below this module."""
        return ((name, item) for name, item in self._contents() if isinstance(item, Module))

    def children(self) -> Iterator[Module]:
        """The modules directly inside this one."""
        return (item for _, item in self._contents() if isinstance(item, Module))

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """Pairs of dotted path and module, this one first (its path is ""), each module once."""
        seen: set[int] = set()
        stack: list[tuple[str, Module]] = [("", self)]
        while stack:
            path, module = stack.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield path, module
            inner = [(_join(path, n), m) for n, m in module._contents() if isinstance(m, Module)]
            stack.extend(reversed(inner))

    def modules(self) -> Iterator[Module]:
        """This module and all modules inside it, each once."""
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Pairs of dotted path and parameter; a shared parameter comes once, under its first path."""
        seen: set[int] = set()
        for path, module in self.named_modules():
            for name, item in module._contents():
                if isinstance(item, Parameter) and id(item) not in seen:
                    seen.add(id(item))
                    yield _join(path, name), item

    def parameters(self) -> list[Parameter]:
        """All parameters, frozen ones too, in order, each once."""
        return [p for _, p in self.named_parameters()]

    def register_buffer(self, name: str, array: Any) -> None:
        """Store an array that is saved with the weights but not learned, such as running statistics."""
        if name not in self._buffers:
            self._buffers = (*self._buffers, name)
        setattr(self, name, array)

    def named_buffers(self) -> Iterator[tuple[str, Any]]:
        """Pairs of dotted path and array of all buffers."""
        for path, module in self.named_modules():
            for name in module._buffers:
                yield _join(path, name), getattr(module, name)

    # --- modes and places ---

    def train(self) -> Module:
        """Training mode: dropout drops, batch normalisation uses and records the batch's statistics."""
        return self._set_all(training=True)

    def eval(self) -> Module:
        """Evaluation mode: dropout does nothing, batch normalisation uses its running statistics."""
        return self._set_all(training=False)

    def freeze(self) -> Module:
        """Stop learning: no gradients, and running statistics stand still (and are used) in training, too."""
        return self._set_all(frozen=True)._set_requires_grad(False)

    def unfreeze(self) -> Module:
        """Learn again after :meth:`freeze`."""
        return self._set_all(frozen=False)._set_requires_grad(True)

    def _set_all(self, **flags: Any) -> Module:
        for module in self.modules():
            vars(module).update(flags)
        return self

    def _set_requires_grad(self, value: bool) -> Module:
        for parameter in self.parameters():
            parameter.requires_grad, parameter.grad = value, None
        return self

    def to(self, device: str) -> Module:
        """Move parameters and buffers to ``"cpu"`` or ``"cuda"``; an optimiser of them follows by itself.

        Parameters without a size yet will be made there. Gradients are forgotten. When the GPU is too small
        for them all, :class:`DeviceMemoryError` is raised and nothing has moved.
        """
        device = backend.device(device)
        self._convert(lambda array: backend.to_device(array, device))
        return self._set_all(_place=device)

    def astype(self, dtype: Any) -> Module:
        """Convert parameters and buffers, for instance to float64 to check gradients."""
        return self._convert(lambda array: array.astype(dtype))

    def _convert(self, convert: Callable[[Any], Any]) -> Module:
        holders: list[tuple[Any, str]] = [(p, "data") for p in self.parameters()]
        holders += [(module, name) for module in self.modules() for name in module._buffers]
        arrays = [getattr(holder, name) for holder, name in holders]
        converted = [None if array is None else convert(array) for array in arrays]
        for (holder, name), array in zip(holders, converted):
            setattr(holder, name, array)
        for parameter in self.parameters():
            parameter.grad = None
        return self

    # --- sizes, state and files: the work is done in nn.summary and nn.state ---

    def build(self, input_shape: Iterable[int]) -> Module:
        """Find all sizes from the shape of one sample, without the batch axis: ``net.build((28, 28, 1))``.

        Zeros go through the model in evaluation mode; nothing but the missing parameters changes.
        """
        from tinynet.nn.summary import dry_run

        dry_run(self, input_shape)
        return self

    def summary(self, input_shape: Iterable[int] | None = None) -> Any:
        """A table of all layers, ready to print: output shape, parameters, multiply-adds.

        Without ``input_shape`` (one sample, no batch axis) it takes the one of ``build`` or the first call.
        An unbuilt model is built by it; otherwise nothing changes, as in :meth:`build`.
        """
        from tinynet.nn.summary import Summary

        return Summary.of(self, input_shape)

    def state_dict(self) -> dict[str, Any]:
        """Copies of all parameters and buffers by name, in order; for :meth:`load_state_dict`."""
        from tinynet.nn import state

        return state.collect(self)

    def load_state_dict(self, arrays: Mapping[str, Any], strict: bool = True) -> Any:
        """Take over parameters and buffers by name.

        Returns a report: loaded, missing, unexpected, shape_mismatch.

        With ``strict`` anything that does not fit raises :class:`CheckpointError`, and nothing is changed.
        Without it, what fits is loaded and the rest is in the report.
        """
        from tinynet.nn import state

        return state.load(self, arrays, strict)

    def save_weights(self, path: str | os.PathLike) -> None:
        """Write all parameters and buffers to a safetensors file, whole or not at all."""
        from tinynet.nn import state

        state.save_file(self, path)

    def load_weights(self, path: str | os.PathLike, strict: bool = True) -> Any:
        """Read a file of :meth:`save_weights`, or the weights in a checkpoint of :meth:`fit`.

        The same errors and report as :meth:`load_state_dict`.
        """
        from tinynet.nn import state

        return state.load_file(self, path, strict)

    def __repr__(self) -> str:
        from tinynet.nn.summary import structure

        return structure(self)

    # --- training: tinynet.training is imported here, when it is used; nothing else in nn looks upwards ---

    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = "cross_entropy",
        metrics: Iterable[Any] | None = None,
        lr: float | None = None,
    ) -> Module:
        """Choose how :meth:`fit` trains: names or objects; ``lr`` is the optimiser's own default if None.

        Without ``metrics`` there is the accuracy for losses of class labels, and none for others. Returns the
        model itself.
        """
        from tinynet.training import Trainer

        self._trainer = Trainer.compiled(self, optimizer, loss, metrics, lr)
        return self

    def fit(self, *data: Any, **settings: Any) -> Any:
        """Train on ``(x, y)`` or a loader; arguments and result as :meth:`tinynet.training.Trainer.fit`."""
        return self._compiled("fit").fit(*data, **settings)

    def evaluate(self, *data: Any, **settings: Any) -> Any:
        """Loss and metrics on data, as :meth:`tinynet.training.Trainer.evaluate`."""
        return self._compiled("evaluate").evaluate(*data, **settings)

    def predict(self, x: Any, **settings: Any) -> Any:
        """Outputs for new inputs, as :meth:`tinynet.training.Trainer.predict`."""
        return self._compiled("predict").predict(x, **settings)

    def _compiled(self, verb: str) -> Any:
        if self._trainer is None:
            raise ArgumentError(
                f"{verb}() does not know the loss yet. First: "
                'model.compile(optimizer="adam", loss="cross_entropy", metrics=["accuracy"])'
            )
        return self._trainer


class HookHandle:
    """Takes a forward hook away again: ``handle.remove()``, or at the end of a ``with`` block."""

    def __init__(self, module: Module, hook: Hook):
        self._module, self._hook = module, hook

    def remove(self) -> None:
        """End the hook; a second time does nothing."""
        self._module._hooks = tuple(h for h in self._module._hooks if h is not self._hook)

    def __enter__(self) -> HookHandle:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


def _found_in(name: str, value: Any) -> Iterator[tuple[str, Parameter | Module]]:
    if isinstance(value, (Parameter, Module)):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _found_in(f"{name}.{i}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _found_in(f"{name}.{key}", item)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
