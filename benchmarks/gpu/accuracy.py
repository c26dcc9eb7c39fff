"""Seconds of training until 99 % of the MNIST test digits are read."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.gpu.device import Cpu

TARGET = 0.99
NET, BATCH, EPOCHS, RATE, TOGETHER = "b", 256, 4, 0.003, 18  # 13 graphs of 18 steps are an epoch
PRECISIONS = ("tf32", "fp32")  # the first one is held against the bar


def train(
    device: Cpu, data: str, seed: int, precision: str, epochs: int = EPOCHS, samples: int | None = None
) -> dict[str, Any]:
    """Train from a seed: after each epoch the share of test digits that are read, and the seconds so far.

    Seconds count all steps, also the first ones and the recording of the graph; they do not count the test.
    """
    import tinynet as tn
    from tinynet import models, nn, optim

    train_set, test_set = (tn.data.mnist(data, split=split) for split in ("train", "test"))
    tn.seed(seed)
    model = models.wide_cnn().build((28, 28, 1)).to(device.kind)
    pair = train_set.x[:samples], train_set.y[:samples]
    loader = tn.data.DeviceLoader(pair, BATCH, shuffle=True, drop_last=True, seed=seed, device=device.kind)
    optimizer = optim.Adam(model.parameters(), lr=RATE)
    schedule, loss_of = optim.CosineLR(optimizer, epochs * len(loader), warmup=0.2), nn.CrossEntropy()

    def step(x: Any, y: Any) -> Any:
        loss = loss_of(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss

    compiled, found, seconds = tn.compile(step, device=device.kind), [], 0.0
    images, labels = device.put(test_set.x[:samples]), device.put(test_set.y[:samples])
    with tn.kernels.precision(precision):
        for _ in range(epochs):
            device.wait()
            start = time.perf_counter()
            for _ in compiled.run(loader, steps=TOGETHER):
                pass
            device.wait()
            seconds += time.perf_counter() - start
            found.append({"accuracy": _accuracy(device, model, images, labels), "seconds": seconds})
    return {"seed": seed, "precision": precision, "epochs": found}


def _accuracy(device: Cpu, model: Any, images: Any, labels: Any) -> float:
    """The share of the images that the model reads."""
    import tinynet as tn

    model.eval()
    order, right = device.put(np.arange(len(images), dtype=np.int32)), 0
    with tn.no_grad():
        for start in range(0, len(images), 1000):
            count = min(1000, len(images) - start)
            logits = model(tn.kernels.gather(images, order, start, count, True)).data
            right += int((logits.argmax(axis=1) == labels[start : start + count]).sum())
    model.train()
    return right / len(images)


def measure(
    ask: Callable[..., Any], data: str, seeds: int, quick: bool, late: Callable[[], bool]
) -> dict[str, Any]:
    """All seeds at each precision, after a run that compiles and does not count; and their medians."""
    settings = {"epochs": 1, "samples": 2 * BATCH * TOGETHER} if quick else {}
    ask("train", data=data, seed=0, precision=PRECISIONS[0], epochs=1, samples=4 * BATCH * TOGETHER)
    section: dict[str, Any] = {"net": NET, "batch": BATCH, "target": TARGET, "runs": []}
    for precision in PRECISIONS:
        for seed in range(seeds):
            run = None if late() else ask("train", data=data, seed=seed, precision=precision, **settings)
            section["runs"] += [run] if run else []
    return section | {"medians": {p: median(section["runs"], p) for p in PRECISIONS}}


def median(runs: list[dict[str, Any]], precision: str) -> dict[str, float] | None:
    """Median seconds and epochs until the target; None if fewer than half of the seeds got there."""
    mine = [run for run in runs if run["precision"] == precision]
    there = [reached(run) for run in mine]
    seconds = [found["seconds"] for found in there if found]
    if 2 * len(seconds) <= len(mine) or not mine:
        return None
    never = [float("inf")] * (len(mine) - len(seconds))
    epochs = [found["epochs"] for found in there if found]
    return {
        "seconds": statistics.median_low(seconds + never),
        "epochs": statistics.median_low(epochs + never),
        "seeds": len(seconds),
        "of": len(mine),
    }


def reached(run: dict[str, Any]) -> dict[str, float] | None:
    """Seconds and epochs until the target for one seed."""
    for i, epoch in enumerate(run["epochs"]):
        if epoch["accuracy"] >= TARGET:
            return {"seconds": epoch["seconds"], "epochs": i + 1}
    return None
