"""The single-node cases of the ONNX test suite, as plain arrays."""

import functools
import glob
import os
import warnings
from typing import NamedTuple

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from onnx.backend.test.loader import load_model_tests


class Case(NamedTuple):
    """One node with its inputs (None where one is left out), attributes and expected outputs."""

    name: str
    op: str
    inputs: list
    attributes: dict
    outputs: list
    rtol: float
    atol: float


@functools.cache
def load(ops: frozenset) -> dict[str, Case]:
    """All cases whose model is a single node of one of ``ops``, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite's own generators divide by zero on purpose
        tests = [
            t
            for kind in ("node", "pytorch-converted", "pytorch-operator")
            for t in load_model_tests(kind=kind)
        ]
    cases = (read(t, ops) for t in tests if "_expanded" not in t.name)
    return {c.name: c for c in cases if c is not None}


def read(test, ops):
    model = test.model or onnx.load(os.path.join(test.model_dir, "model.onnx"))
    graph = model.graph
    if (
        len(graph.node) != 1
        or graph.node[0].op_type not in ops
        or graph.node[0].domain not in ("", "ai.onnx")
    ):
        return None
    node = graph.node[0]
    given, expected = test.data_sets[0] if test.data_sets else read_files(test.model_dir)
    if any(not isinstance(a, np.ndarray | np.generic) for a in [*given, *expected]):
        return None  # sequences and optionals, which no tensor library of our kind has
    values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    names = (
        [i.name for i in graph.input if i.name not in values]
        if len(graph.input) != len(given)
        else [i.name for i in graph.input]
    )
    values.update(zip(names, map(np.asarray, given)))
    attributes = {a.name: text(onnx.helper.get_attribute_value(a)) for a in node.attribute}
    attributes["n_outputs"] = len(node.output)
    inputs = [values.get(n) if n else None for n in node.input]
    wanted = dict(zip((o.name for o in graph.output), map(np.asarray, expected)))
    outputs = [wanted.get(n) for n in node.output]
    return Case(test.name, node.op_type, inputs, attributes, outputs, test.rtol, test.atol)


def read_files(folder):
    """The arrays of a case that is kept on disk."""
    sets = sorted(glob.glob(os.path.join(folder, "test_data_set_*")))[0]

    def arrays(kind):
        n = len(glob.glob(os.path.join(sets, f"{kind}_*.pb")))
        tensors = (onnx.load_tensor(os.path.join(sets, f"{kind}_{i}.pb")) for i in range(n))
        return [onnx.numpy_helper.to_array(t) for t in tensors]

    return arrays("input"), arrays("output")


def text(value):
    return value.decode() if isinstance(value, bytes) else value
