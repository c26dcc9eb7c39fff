"""A made-up result of ``python -m benchmarks gpu``, to try tables, bars and pictures on."""

from typing import Any

KERNELS = ("conv", "conv_weight_grad", "dense", "softmax_cross_entropy")


def spread(median: float) -> dict[str, Any]:
    return {"median": median, "low": 0.9 * median, "high": 1.1 * median, "count": 5}


def result(**changes: Any) -> dict[str, Any]:
    """All sections, no faults; tinynet's graph is 10 times as fast as the peers."""
    sections = {
        "environment": {},
        "ceilings": ceilings(),
        "correctness": correctness(),
        "decisions": decisions(),
        "kernels": kernels(),
        "training": {
            "tasks": [task("a", 128), task("b", 128), task("b", 1024)],
            "skipped": ["net c, batch 128"],
        },
        "accuracy": accuracy(0.2),
    }
    machine = {
        "date": "2030-01-01T00:00:00+00:00", "commit": "0123456789ab", "cpu": "made-up CPU", "cores": 16,
        "instructions": ["avx2"], "caches": {}, "memory_gib": 128.0, "system": "Linux 1", "python": "3.12.3",
        "packages": {"numpy": "2.5.2"}, "blas": {"name": "none"}, "threads": 16, "environment": {},
    }  # fmt: skip
    card = {
        "kind": "cuda", "name": "made-up GPU", "compute_capability": "9.0", "multiprocessors": 132,
        "l2_bytes": 60_000_000, "memory_bytes": 139 << 30, "free_bytes": 138 << 30, "driver": 13000,
        "runtime": 13000, "cupy": "14.2.0",
    }  # fmt: skip
    return {
        "benchmark": "gpu", "format": 1, "machine": machine,
        "settings": {"quick": False, "device": "cuda", "minutes": 8.0, "threads": 16, "seed": 1},
        "environment": {"packages": {}, "nvidia_smi": {}, "virtual": "unknown", "environment": {}},
        "no_device": "", "card": card, "engines": {"tinynet-gpu": {"hows": ["eager", "graph"]}},
        "left_out": {"jax-gpu": "jax-gpu is not installed: pip install jax"}, "faults": [], "finished": True,
        "seconds": dict.fromkeys(sections, 1.0), "sections": sections, "bars": [],
    } | changes  # fmt: skip


def ceilings() -> dict[str, Any]:
    products = {"fp32": 50.0, "tf32": 400.0, "bf16": 700.0}
    return {
        "copy": {"bytes": 4 << 30, "gb_per_s": 4000.0, "device": spread(1e-3), "host": spread(1e-3)},
        "products": {p: {"side": 8192, "tflops": rate} for p, rate in products.items()},
        "launches": {
            "raw_kernel_us": 5.0,
            "ufunc_us": 11.0,
            "product_us": 9.0,
            "graph_us": 6.0,
            "node_us": 1.5,
        },
    }


def correctness(fault: str = "") -> dict[str, Any]:
    row = {"precision": "fp32", "error": 1e-7, "fault": fault}
    return {
        "seed": 1,
        "kernels": [{"kernel": "conv", "case": "tiny", **row}],
        "training": [{"net": "a", "how": "graph", **row, "fault": ""}],
        "skipped": [],
    }


def decisions() -> dict[str, Any]:
    times = {"conv": 1e-4, "conv_block": 1e-4, "columns": 2e-4, "cudnn": None}
    return {
        "library_graph": [{"workspace": 32 << 20, "seconds": 1e-5}, None],
        "conv": [{"batch": 128, "precision": "tf32", "flops": 10**9, "seconds": times}],
        "epoch_graph": {"nodes": 5600, "record_seconds": 0.1, "first_seconds": 0.01, "replay_seconds": 0.01},
    }


def kernels() -> dict[str, Any]:
    rows = [_kernel_row(kernel, tiny, i) for i, kernel in enumerate(KERNELS) for tiny in (True, False)]
    batches = [
        {
            "kernel": kernel,
            "batch": n,
            "cpu": spread(n * 1e-6),
            "gpu": spread(2e-5),
            "copied": spread(1e-4 + n * 4e-7),
        }
        for kernel in KERNELS
        for n in (1, 4, 16, 64, 256, 1024)
    ]
    return {"rows": rows, "batches": batches, "skipped": [], "failed": []}


def _kernel_row(kernel: str, tiny: bool, i: int) -> dict[str, Any]:
    flops, moved = (100, 100) if tiny else (10**9, 10 ** (7 + i))
    called = {"device": spread(1.2e-5), "host": spread(1.3e-5)}
    gpu = {"called": called, "graph": spread(3e-5 * (1 + i)), "why_no_graph": "", "copies": 4}
    rooms = {"numpy": spread(2e-2), "fast": spread(1e-3), "fast, 1 thread": spread(1e-2)}
    return {
        "kernel": kernel, "case": "tiny: 1x1" if tiny else "b2: 128x26x26x32 to 64", "tiny": tiny,
        "flops": flops, "bytes": moved, "rooms": rooms | ({"reference": spread(1.0)} if tiny else {}),
        "gpu": {"fp32": gpu, "tf32": gpu},
    }  # fmt: skip


def task(net: str, batch: int) -> dict[str, Any]:
    """Peers at 100,000 samples/s, PyTorch with channels last at 200,000, tinynet's graph at 1,000,000."""
    rates = [
        ("tinynet-gpu", "eager", 1e5), ("tinynet-gpu", "graph", 1e6), ("torch-gpu", "eager", 1e5),
        ("torch-gpu", "channels-last", 2e5), ("torch-gpu", "graph", 1e5),
        ("torch-compile-gpu", "compiled", 1e5),
    ]  # fmt: skip
    rows = [training_row(*rate, precision) for precision in ("fp32", "tf32") for rate in rates]
    flops = {"a": 2_190_336, "b": 71_569_920}[net]
    return {
        "net": net, "batch": batch, "parameters": 1, "flops_per_sample": flops, "rows": rows, "skipped": [],
    }  # fmt: skip


def training_row(engine: str, how: str, rate: float, precision: str) -> dict[str, Any]:
    return {
        "engine": engine, "how": how, "precision": precision, "losses": [2.3, 2.2], "loss_error": 0.0,
        "fault": "", "bytes": 1 << 30, "begin_seconds": 1.0, "calls": 10, "rounds": [rate] * 5,
        "device_rounds": [rate] * 5,
        "samples_per_second": spread(rate), "epoch_seconds": 60_000 / rate,
    }  # fmt: skip


def accuracy(seconds: float) -> dict[str, Any]:
    epochs = [{"accuracy": 0.985, "seconds": seconds / 2}, {"accuracy": 0.991, "seconds": seconds}]
    runs = [{"seed": seed, "precision": p, "epochs": epochs} for p in ("tf32", "fp32") for seed in range(5)]
    medians = {p: {"seconds": seconds, "epochs": 2, "seeds": 5, "of": 5} for p in ("tf32", "fp32")}
    return {"net": "b", "batch": 256, "target": 0.99, "runs": runs, "medians": medians}
