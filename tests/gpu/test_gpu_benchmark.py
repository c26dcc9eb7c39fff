"""The parts of ``python -m benchmarks gpu`` that talk to a GPU, through the stand-in and on a real card."""

from pathlib import Path

import numpy as np
import pytest

from tinynet.kernels import cuda

# What is measured does not depend on the order of threads: one is enough.
pytestmark = pytest.mark.parametrize(
    "gpu", ["forward", pytest.param("card", marks=pytest.mark.gpu)], indirect=True
)


@pytest.fixture
def device(gpu, monkeypatch):
    """The device that is measured; benchmarks/ is found from the repository's root."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2]))
    from benchmarks.gpu.device import open_device

    return open_device("cuda")


def test_the_card_is_described(device):
    from benchmarks.gpu.environment import card_facts, host_facts, summary

    card = card_facts(device)
    assert card["kind"] == "cuda" and card["memory_bytes"] >= card["free_bytes"] > 0
    assert f"* {card['name']}, compute capability " in summary(host_facts(1), card)


def test_arrays_go_there_and_come_back(device):
    array = np.arange(6, dtype=np.float32)
    there = device.put(array)
    assert not isinstance(there, np.ndarray) and np.array_equal(device.get(there), array)
    assert device.put("x") == "x" and device.free_bytes() > 0


def test_poisoned_memory_holds_nan(device):
    device.release()
    device.poison([4096])
    assert np.isnan(device.get(device.xp.empty(1024, np.float32))).all()


def test_a_graph_does_all_it_recorded_at_each_start(device):
    x = device.put(np.zeros(3, np.float32))
    replay = device.graph(lambda: [device.xp.add(x, 1, out=x) for _ in range(4)])
    for _ in range(3):
        replay()
    assert device.get(x).tolist() == [12.0] * 3


def test_copies_products_and_launches_have_a_cost(device, monkeypatch):
    from benchmarks.gpu import ceilings

    monkeypatch.setattr(ceilings, "LAUNCHES", 8)
    monkeypatch.setattr(ceilings, "NODES", 4)
    monkeypatch.setitem(ceilings.COPY_BYTES, "cuda", 1 << 16)
    assert ceilings.copy(device, 1)["gb_per_s"] > 0
    costs = ceilings.launches(device, 1)
    assert set(costs) == {"raw_kernel_us", "ufunc_us", "product_us", "graph_us", "node_us"}
    assert min(costs.values()) > 0
    assert ceilings.epoch_graph(device, 10)["record_seconds"] > 0


@pytest.mark.parametrize(
    ("kernel", "precision"), [("matmul", "fp32"), ("matmul", "tf32"), ("limit_norm", "fp32")]
)
def test_right_kernels_have_no_fault(device, kernel, precision):
    from benchmarks.gpu.correctness import check_kernel

    (row,) = check_kernel(device, kernel, precision, seed=1, most=0)
    assert row["fault"] == "" and row["error"] < 1e-3


def test_a_wrong_kernel_is_reported(device, monkeypatch):
    from benchmarks.gpu.correctness import check_kernel

    right = cuda.matmul
    monkeypatch.setattr(cuda, "matmul", lambda a, b: right(a, b) * np.float32(1.0001))
    assert "more than 1e-05" in check_kernel(device, "matmul", "fp32", seed=1, most=0)[0]["fault"]


def test_a_kernel_is_timed_from_python_and_in_a_graph(device):
    from benchmarks.gpu.kernels import time_kernel

    (row,) = time_kernel(device, "adam_step", most=0, regions=1, budget=0.0, threads=1)
    times = row["gpu"]["fp32"]
    assert times["called"]["host"]["median"] > 0 and times["graph"] is not None and times["copies"] > 1
    assert set(row["rooms"]) == {"reference", "numpy", "fast", "fast, 1 thread"}


def test_a_kernel_that_cannot_be_recorded_is_timed_all_the_same(device, monkeypatch):
    from benchmarks.gpu.kernels import time_kernel

    right = cuda.adam_step

    def looks(params, *more):
        right(params, *more)
        params[0].get()

    monkeypatch.setattr(cuda, "adam_step", looks)
    times = time_kernel(device, "adam_step", most=0, regions=1, budget=0.0, threads=1)[0]["gpu"]["fp32"]
    assert times["graph"] is None and "captur" in times["why_no_graph"]
    assert times["called"]["host"]["median"] > 0


def test_recorded_training_gives_the_bits_of_single_steps(device, tmp_path):
    from benchmarks.engines import gpu_tinynet
    from benchmarks.gpu.job import Job
    from benchmarks.nets import NETS, read_weights, write_weights

    write_weights(NETS["a"], tmp_path / "a.npz")

    def trained(how):
        job = Job.make(NETS["a"], 1, read_weights(tmp_path / "a.npz"), how, few=True)
        engine = gpu_tinynet.Engine(job)
        return [engine.losses(engine.advance()) for _ in range(5)], engine.weights()

    (losses, weights), (recorded, others) = trained("eager"), trained("graph")
    assert losses == recorded and all(map(np.array_equal, weights, others))


def test_the_example_times_a_convolution_on_the_card(device):
    from tinynet.examples import cpu_vs_gpu

    row = cpu_vs_gpu.measure("CUDA", (1, 6, 6, 2), 0.0)
    assert row["gflops"] > 0 and "why_not" not in row
