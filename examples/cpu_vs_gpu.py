"""Time one convolution, forward and backward, on everything that this machine can compute with.

    python examples/cpu_vs_gpu.py                            # what training a small net asks for
    python examples/cpu_vs_gpu.py --batch 8 --channels 64    # fewer pictures, more channels

The plain loops of kernels/reference get one small picture: they would need minutes for a batch. So compare
GFLOP/s, which is how many thousand million multiplications and additions are done in a second. On a GPU the
arrays are there already, and starting each kernel is part of the time.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np

import tinynet as tn
from tinynet import backend, cli, kernels, ops, pictures
from tinynet.errors import ArgumentError, DeviceError

# On the screen: the room of the kernels (see kernels/__init__.py), the device.
BACKENDS = {
    "plain loops": ("reference", "cpu"),
    "NumPy": ("numpy", "cpu"),
    "Numba": ("fast", "cpu"),
    "CUDA": ("fast", "cuda"),
}


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.options(__doc__)
    parser.add_argument("--batch", type=int, metavar="N", default=64, help="pictures; default: 64")
    parser.add_argument("--side", type=int, metavar="N", default=28, help="pixels; default: 28")
    parser.add_argument("--channels", type=int, metavar="N", default=32, help="in and out; default: 32")
    parser.add_argument("--seconds", type=float, metavar="S", default=0.5, help="for each; default: 0.5")
    parser.add_argument("--picture", metavar="FILE", default="cpu_vs_gpu.png", help="where bars are drawn")
    return parser


def time_convolution(shape: tuple[int, ...], device: str, seconds: float) -> dict[str, float]:
    """The shortest time of forward and backward of a 3x3 convolution, as many channels out as in."""
    rng, channels = np.random.default_rng(0), shape[-1]
    x = tn.tensor(rng.standard_normal(shape, np.float32), requires_grad=True, device=device)
    weight = rng.standard_normal((3, 3, channels, channels), np.float32)
    w = tn.tensor(weight, requires_grad=True, device=device)
    grad = tn.tensor(rng.standard_normal(shape, np.float32), device=device)

    def forward_and_backward() -> None:
        x.grad = w.grad = None
        ops.conv(x, w, padding="same").backward(grad)
        backend.host(w.grad)  # a GPU works on while Python goes on: asking for a result waits for it

    times, end = [], time.perf_counter() + seconds
    while len(times) < 2 or time.perf_counter() < end:  # the first call may compile
        start = time.perf_counter()
        forward_and_backward()
        times.append(time.perf_counter() - start)
    flops = 3 * 2 * x.size * 9 * channels  # y, and the gradients of x and w: as many products each
    return {"ms": 1e3 * min(times), "gflops": flops / min(times) / 1e9}


def measure(name: str, shape: tuple[int, ...], seconds: float) -> dict[str, Any]:
    """One line of the table; without a GPU it says what is missing."""
    room, device = BACKENDS[name]
    if room == "reference":
        shape, seconds = (1, 8, 8, min(shape[-1], 4)), 0.0
    row: dict[str, Any] = {"backend": name, "pictures": f"{shape[0]} of {'x'.join(map(str, shape[1:]))}"}
    try:
        with kernels.use(room):
            return row | time_convolution(shape, tn.device(device), seconds)
    except DeviceError as error:
        return row | {"why_not": str(error)}


def line(row: dict[str, Any]) -> str:
    """A line of the table."""
    start = f"{row['backend']:12} {row['pictures']:16} "
    return start + (row.get("why_not") or f"{row['ms']:9.3f} {row['gflops']:10.4g}")


def main(args: argparse.Namespace) -> int:
    """Measure, print, draw."""
    if min(args.batch, args.side, args.channels) < 1:
        raise ArgumentError("--batch, --side and --channels: give at least 1 for each")
    shape = args.batch, args.side, args.side, args.channels
    rows = [measure(name, shape, args.seconds) for name in BACKENDS]
    head = f"{'backend':12} {'pictures':16} {'ms':>9} {'GFLOP/s':>10}"
    cli.emit(args.json, rows, "\n".join([head, *map(line, rows)]))
    rates = {row["backend"]: row["gflops"] for row in rows if "gflops" in row}
    if not pictures.draw_bars(args.picture, rates, "A 3x3 convolution, forward and backward", "GFLOP/s"):
        print("no picture without matplotlib: pip install matplotlib", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(cli.program(main, options()))
