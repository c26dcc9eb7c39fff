"""The networks in PyTorch on a GPU: eager, with channels last in memory, or the whole step as a CUDA graph.

cuDNN looks for its fastest algorithms, the optimiser is PyTorch's fused one, and the data lie on the GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.engines import SGD
from benchmarks.gpu.device import Cpu
from benchmarks.gpu.job import NEARLY_NONE, Job, Turn

HOWS = ("eager", "channels-last", "graph", "graph, channels-last")


def load(threads: int) -> None:
    """Import PyTorch and give it ``threads`` threads."""
    import torch

    torch.set_num_threads(threads)


def prove(device: str) -> None:
    """Fail where this PyTorch cannot use the device."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(f"torch {torch.__version__} finds no CUDA device: install a build of it for CUDA")


class TorchDevice(Cpu):
    """The same clock as others have, through PyTorch."""

    kind = "cuda"

    def wait(self) -> None:
        import torch

        torch.cuda.synchronize()

    def event(self) -> Any:
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, begin: Any, end: Any) -> float:
        return begin.elapsed_time(end) / 1e3

    def free_bytes(self) -> int:
        import torch

        return torch.cuda.mem_get_info()[0]

    def release(self) -> None:
        import torch

        torch.cuda.empty_cache()


def open_device(kind: str) -> Cpu:
    """The device by its kind."""
    return TorchDevice() if kind == "cuda" else Cpu()


class Engine:
    """One network; see benchmarks/gpu/job.py."""

    chunk = 1

    def __init__(self, job: Job):
        import torch
        from torch import nn

        from benchmarks.engines import torch_nets

        self.device, self.kind, self.tf32 = open_device(job.device), job.device, job.precision == "tf32"
        self.is_last = job.how.endswith("channels-last")
        self._set_precision()
        self.images = torch.from_numpy(job.images.transpose(0, 3, 1, 2).copy()).to(self.kind)
        self.labels, self.order = (torch.from_numpy(a).to(self.kind) for a in (job.labels, job.order))
        self.model, self.weights = torch_nets.make(job.net), job.weights
        torch_nets.copy_weights(self.model, job.weights)
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = NEARLY_NONE
        self.model.to(self.kind, memory_format=torch.channels_last if self.is_last else torch.preserve_format)
        self.optimizer = torch.optim.SGD(self.model.parameters(), **SGD, fused=True)
        self.rows, self.turn, self.is_graph = self.order[0].clone(), Turn(1), job.how.startswith("graph")
        self.run = self._recorded() if self.is_graph else self._step

    def advance(self) -> Any:
        """One step on the next batch."""
        self._set_precision()
        self._choose(self.order[self.turn.take()])
        return self.run()

    def _choose(self, rows: Any) -> None:
        """A graph reads the numbers of its samples always from the same place."""
        if self.is_graph:
            self.rows.copy_(rows)
        else:
            self.rows = rows

    def losses(self, result: Any) -> list[float]:
        """The loss, waited for."""
        return [float(result)]

    def _set_precision(self) -> None:
        """cuDNN uses TF32 by default and products do not: here both as it was asked for."""
        import torch

        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32
        torch.backends.cudnn.benchmark = True

    def _batch(self) -> tuple[Any, Any]:
        import torch

        x = self.images.index_select(0, self.rows).float().div_(255)
        x = x.contiguous(memory_format=torch.channels_last) if self.is_last else x
        return x, self.labels.index_select(0, self.rows)

    def _loss(self) -> Any:
        from torch.nn import functional

        x, labels = self._batch()
        return functional.cross_entropy(self.model(x), labels)

    def _step(self) -> Any:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _recorded(self) -> Any:
        """The step as a graph, as PyTorch's notes on CUDA graphs do it, and all back at its beginning."""
        import torch

        before = {name: value.clone() for name, value in self.model.state_dict().items()}
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._step()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            loss = self._step()
        self._go_back(before)

        def replay() -> Any:
            self.graph.replay()
            return loss

        return replay

    def _go_back(self, before: dict[str, Any]) -> None:
        import torch

        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                value.copy_(before[name])
            for state in self.optimizer.state.values():
                for value in state.values():
                    if torch.is_tensor(value):
                        value.zero_()


def conv_seconds(device: str, batch: int, precision: str, regions: int) -> dict[str, Any]:
    """Seconds of the second convolution of net (b) in cuDNN, channels last, ReLU and pool not included."""
    import torch
    from torch.nn import functional

    from benchmarks.gpu.device import measure

    torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = True, precision == "tf32"
    form = torch.channels_last
    x = torch.randn(batch, 32, 26, 26, device=device).contiguous(memory_format=form)
    weight = torch.randn(64, 32, 3, 3, device=device).contiguous(memory_format=form)
    return measure(open_device(device), lambda: functional.conv2d(x, weight), regions).facts()


def numbers(model: Any) -> list[np.ndarray]:
    """The parameters on the host."""
    return [p.detach().cpu().numpy() for p in model.parameters()]
