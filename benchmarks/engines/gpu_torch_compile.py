"""The networks in PyTorch with torch.compile(mode="max-autotune") around forward and loss.

The optimiser is outside, as in most programs. The first step compiles and tries out many kernels, which takes
tens of seconds.
"""

from __future__ import annotations

from typing import Any

from benchmarks.engines import gpu_torch
from benchmarks.gpu.job import Job

HOWS = ("compiled",)
load = gpu_torch.load
prove = gpu_torch.prove
open_device = gpu_torch.open_device


class Engine(gpu_torch.Engine):
    """One network; see benchmarks/gpu/job.py."""

    def __init__(self, job: Job):
        import torch

        super().__init__(job)
        model = self.model

        def loss_of(x: Any, labels: Any) -> Any:
            return torch.nn.functional.cross_entropy(model(x), labels)

        mode = "max-autotune" if job.device == "cuda" else "default"
        self.loss_of = torch.compile(loss_of, mode=mode, dynamic=False)

    def _loss(self) -> Any:
        import torch

        torch.compiler.cudagraph_mark_step_begin()
        return self.loss_of(*self._batch())
