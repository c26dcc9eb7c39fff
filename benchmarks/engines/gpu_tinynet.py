"""The networks in tinynet on a GPU: step by step, the step as a CUDA graph, or twenty steps in one graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.engines import SGD, with_tinynet
from benchmarks.gpu import device as clock
from benchmarks.gpu.device import Cpu
from benchmarks.gpu.job import BATCHES, CHUNK, NEARLY_NONE, Job

HOWS = ("eager", "graph", "graph of 20")
load = with_tinynet.load


def prove(device: str) -> None:
    """Fail where there is no such device, with the cause and the fix."""
    clock.open_device(device)


def open_device(kind: str) -> Cpu:
    """The device by its kind."""
    return clock.open_device(kind)


class Engine:
    """One network; see benchmarks/gpu/job.py."""

    def __init__(self, job: Job):
        import tinynet as tn
        from tinynet import kernels, nn, optim

        self.device, self.precision, self.chunk = open_device(job.device), job.precision, 1
        self.images, self.labels, self.order = map(
            self.device.put, (job.images, job.labels, job.order.ravel())
        )
        self.batch, self.dtype, self.offset = job.order.shape[1], job.dtype, 0
        self.model, self.loss, self.kernels = job.net.in_tinynet(), nn.CrossEntropy(), kernels
        for parameter, values in zip(self.model.parameters(), job.weights, strict=True):
            parameter.data = values.astype(job.dtype)
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.rate = NEARLY_NONE
        self.model.to(job.device)
        self.optimizer = optim.SGD(self.model.parameters(), **SGD)
        compiled = tn.compile(self._step, device=job.device)
        self.run = self._step if job.how == "eager" else compiled
        if job.how == "graph of 20":
            self.chunk, self.run = CHUNK, lambda: list(compiled.run([()] * CHUNK, steps=CHUNK))

    def advance(self) -> Any:
        """The next ``chunk`` steps."""
        with self.kernels.precision(self.precision):
            return self.run()

    def losses(self, result: Any) -> list[float]:
        """The losses, waited for."""
        return [float(loss.item()) for loss in (result if isinstance(result, list) else [result])]

    def weights(self) -> list[np.ndarray]:
        """The parameters on the host."""
        return [self.device.get(parameter.data) for parameter in self.model.parameters()]

    def _step(self) -> Any:
        """Batch, loss, gradients, and the step of the optimiser."""
        from tinynet.kernels.live import live

        offset = live(self._next)
        x = self.kernels.gather(self.images, self.order, offset, self.batch, True)
        labels = self.kernels.gather(self.labels, self.order, offset, self.batch, False)
        loss = self.loss(self.model(x.astype(self.dtype, copy=False)), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    def _next(self) -> int:
        here, self.offset = self.offset, (self.offset + self.batch) % (BATCHES * self.batch)
        return here
