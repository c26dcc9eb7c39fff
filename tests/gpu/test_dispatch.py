"""Every operation and every layer on GPU arrays: the numbers are those of the CPU in float64, and stay there.

No operation has a branch for devices; what is tested here is that none forgets that its array may not be
NumPy's.
"""

import re
from types import CellType, FunctionType

import numpy as np
import pytest
from measure import relative_error

import tinynet as tn
from tinynet.errors import DeviceError
from tinynet.ops.cases import gradcheck_cases

NAMES = sorted(set(gradcheck_cases) - {"to_device", "astype"})  # these two change what is compared here


def moved(f, convert):
    """The function with the arrays that it takes from outside (labels, masks, statistics) converted."""
    cells = [c.cell_contents for c in f.__closure__ or ()]
    arrays = [convert(c) if isinstance(c, np.ndarray) else c for c in cells]
    g = FunctionType(f.__code__, f.__globals__, closure=tuple(map(CellType, arrays)) or None)
    g.__defaults__, g.__kwdefaults__ = f.__defaults__, f.__kwdefaults__
    return g


def run(name, move, dtype):
    """Outputs and gradients of the case of an operation, its inputs in ``dtype`` and moved by ``move``."""
    tn.seed(1)
    f, inputs = gradcheck_cases[name]()
    leaves = [tn.Tensor(move(np.asarray(x, dtype)), requires_grad=True) for x in inputs]
    result = moved(f, move)(*leaves) if isinstance(f, FunctionType) else f(*leaves)
    outputs = list(result) if isinstance(result, tuple) else [result]
    rng = np.random.default_rng(2)
    sum((y * tn.Tensor(move(rng.normal(size=y.shape).astype(dtype)))).sum() for y in outputs).backward()
    return [y.data for y in outputs] + [leaf.grad for leaf in leaves]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 3e-6), ("float64", 1e-12)])
def test_operation_on_the_gpu_equals_the_cpu_in_float64(gpu, name, dtype, bound):
    truth = run(name, np.asarray, "float64")
    got = run(name, gpu.asarray, dtype)
    assert all(type(a) is gpu.ndarray and a.dtype == dtype for a in got)
    for i, (g, t) in enumerate(zip(got, truth, strict=True)):
        assert relative_error(g, t) < bound, f"array {i}"


SEVERAL = [name for name in NAMES if len(gradcheck_cases[name]()[1]) > 1 and name not in ("dice", "focal")]


@pytest.mark.parametrize("stray", [0, 1, -1])
@pytest.mark.parametrize("name", SEVERAL)
def test_inputs_on_two_devices_are_refused_with_the_fix(standin_gpu, name, stray):
    f, inputs = gradcheck_cases[name]()
    tensors = [tn.tensor(np.asarray(x, "float32"), device="cuda") for x in inputs]
    tensors[stray] = tensors[stray].to("cpu")
    with pytest.raises(DeviceError, match=r"cpu|cuda:0") as caught:
        moved(f, standin_gpu.asarray)(*tensors)
    assert re.search(r"\.to\('(cpu|cuda:0)'\)", str(caught.value))
    host = [t.to("cpu") for t in tensors]
    host[stray] = host[stray].to("cuda")
    with pytest.raises(DeviceError, match=r"\.to\("):
        f(*host)
