"""Five measurements on which the design of the kernels depends: cheap, and to be looked at first.

1. what a launch costs (measured in ceilings.py)
2. a product of NVIDIA's library in a graph, with a workspace and without
3. the convolution: ours, the library's product on explicit columns, cuDNN
4. a training step of net (a) in eager PyTorch, on which the table of ratios hangs (measured in training.py)
5. a graph of a whole epoch
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.gpu.crew import Member
from benchmarks.gpu.device import Cpu
from benchmarks.gpu.device import measure as seconds_of
from tinynet import kernels
from tinynet.kernels import Window

BATCHES = {"cuda": (128, 1024), "cpu": (4,)}
PRECISIONS = ("fp32", "tf32")
_PLACES, _TAPS, _FILTERS = 24 * 24, 32 * 9, 64  # of the second convolution of net (b)
_PLAIN = Window((3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1))


def library_graph(device: Cpu, workspace: int, regions: int) -> dict[str, Any]:
    """Seconds of a product of 1024 x 1024 in a graph of ten, by cuBLAS with ``workspace`` bytes."""
    from benchmarks.gpu.library import Library

    a, b = (device.put(np.random.default_rng(i).standard_normal((1024, 1024), np.float32)) for i in (0, 1))
    call = Library(device.xp, workspace).product(a, b, "tf32")
    call()
    replay = device.graph(lambda: [call() for _ in range(10)])
    return {"workspace": workspace, "seconds": seconds_of(device, replay, regions).seconds / 10}


def conv(device: Cpu, batch: int, precision: str, regions: int) -> dict[str, Any]:
    """Seconds of the second convolution of net (b): alone, with ReLU and pool, as a product of columns."""
    rng = np.random.default_rng(0)
    shapes = (
        (batch, 26, 26, 32),
        (3, 3, 32, _FILTERS),
        (_FILTERS,),
        (batch * _PLACES, _TAPS),
        (_TAPS, _FILTERS),
    )
    x, weight, bias, columns, matrix = (device.put(rng.standard_normal(s, np.float32)) for s in shapes)
    calls = {
        "conv": lambda: kernels.conv(x, weight, bias, _PLAIN, 1),
        "conv_block": lambda: kernels.conv_block(x, weight, bias, _PLAIN, 1, True, True),
        "columns": lambda: kernels.matmul(columns, matrix),
    }
    with kernels.precision(precision):
        return {name: seconds_of(device, call, regions).seconds for name, call in calls.items()}


def flops(batch: int) -> int:
    """Of that convolution."""
    return 2 * batch * _PLACES * _TAPS * _FILTERS


def measure(members: dict[str, Member], kind: str, regions: int, nodes: int) -> dict[str, Any]:
    """All that is not measured elsewhere; None where it failed, and cuDNN only where PyTorch is."""
    ours = members["tinynet-gpu"]
    sizes = (32 << 20, 0) if kind == "cuda" else ()
    graphs = [_part(ours, "library_graph", workspace=size, regions=regions) for size in sizes]
    convs = [
        _conv_row(members, batch, precision, regions) for batch in BATCHES[kind] for precision in PRECISIONS
    ]
    epoch = ours.attempt("part", name="ceilings", what="epoch_graph", nodes=nodes)
    return {"library_graph": graphs, "conv": convs, "epoch_graph": epoch}


def _part(member: Member, what: str, **settings: Any) -> Any:
    return member.attempt("part", name="decisions", what=what, **settings)


def _conv_row(members: dict[str, Member], batch: int, precision: str, regions: int) -> dict[str, Any]:
    settings = {"batch": batch, "precision": precision, "regions": regions}
    seconds = _part(members["tinynet-gpu"], "conv", **settings) or {}
    if "torch-gpu" in members:
        cudnn = members["torch-gpu"].attempt("own", what="conv_seconds", **settings)
        seconds["cudnn"] = cudnn["device"]["median"] if cudnn else None
    return {"batch": batch, "precision": precision, "flops": flops(batch), "seconds": seconds}
