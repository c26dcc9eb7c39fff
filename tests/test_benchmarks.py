"""The benchmarks run, keep what they promise, and refuse to time what is wrong."""

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinynet.kernels as kernels
import tinynet.kernels.cpu as fast_room

ROOT = Path(__file__).resolve().parents[1]
SPREAD = {"median", "low", "high", "count"}
MACHINE = {
    "date", "commit", "cpu", "instructions", "cores", "caches", "memory_gib", "system", "python", "packages",
    "blas", "threads", "environment",
}  # fmt: skip


@pytest.fixture(autouse=True)
def beside_the_package(monkeypatch):
    """benchmarks/ is not installed: it is found from the repository's root."""
    monkeypatch.syspath_prepend(str(ROOT))


def run(*words: str) -> subprocess.CompletedProcess:
    """``python -m benchmarks`` as a user runs it."""
    command = [sys.executable, "-m", "benchmarks", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def main(*words: str) -> int:
    """The same within this process, so that a test can put something wrong in its way."""
    from benchmarks.__main__ import main

    return main(list(words))


# --- kernels ---


def test_every_kernel_has_a_tiny_case_and_real_ones():
    from benchmarks.cases import all_cases

    cases = all_cases()
    names = set(kernels.__all__) - {"Window", "room", "use"}
    assert {case.kernel for case in cases} == names
    assert sorted(case.kernel for case in cases if case.tiny) == sorted(names)
    assert {case.kernel for case in cases if not case.tiny} == names


def test_kernels_are_checked_timed_and_kept(tmp_path):
    done = run(
        "kernels", "--quick", "--only", "matmul", "--only", "max_pool",
        "--json", f"{tmp_path}/new/k.json", "--markdown", f"{tmp_path}/k.md",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "new" / "k.json").read_text())
    assert (result["benchmark"], result["format"], result["wrong"]) == ("kernels", 1, [])
    assert set(result["machine"]) == MACHINE
    assert result["ceiling"]["gflops"] > 1
    assert [(row["kernel"], row["tiny"]) for row in result["rows"]] == [
        ("matmul", True), ("matmul", False), ("max_pool", True), ("max_pool", False),
    ]  # fmt: skip
    for row in result["rows"]:
        assert set(row["rooms"]) == {"numpy", "fast"} | ({"reference"} if row["tiny"] else set())
        assert all(set(spread) == SPREAD and spread["median"] > 0 for spread in row["rooms"].values())
        assert max(row["errors"].values()) < 1e-5
    product = result["rows"][1]
    assert product["flops"] == 2 * 128 * 784 * 128
    assert product["bytes"] == 4 * (128 * 784 + 784 * 128 + 128 * 128)
    seconds = product["rooms"]["fast"]["median"]
    assert product["gflops"] == pytest.approx(product["flops"] / seconds / 1e9)
    assert product["share"]["flops"] == pytest.approx(product["gflops"] / result["ceiling"]["gflops"])
    assert done.stdout == (tmp_path / "k.md").read_text() + "\n"  # no terminal: Markdown


def slightly_off(x):
    return arrays_bias_grad(x) * np.float32(1.001)


def of_another_shape(x):
    return arrays_bias_grad(x)[None]


def not_a_number(x):
    return arrays_bias_grad(x) * np.float32(np.nan)


def failing(x):
    raise ZeroDivisionError("no rows")


arrays_bias_grad = fast_room.bias_grad


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (slightly_off, "it differs by 1.0e-03 of the largest number"),
        (of_another_shape, "it returns float32 (1, 5) instead of float32 (5,)"),
        (not_a_number, "it differs by inf of the largest number"),
        (failing, "it raises ZeroDivisionError: no rows"),
    ],
)
def test_a_wrong_kernel_is_reported_and_not_timed(wrong, says, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(fast_room, "bias_grad", wrong)
    assert main("kernels", "--quick", "--only", "bias_grad", "--json", f"{tmp_path}/k.json") == 1
    result = json.loads((tmp_path / "k.json").read_text(), parse_constant=pytest.fail)  # no NaN, no Infinity
    assert all("rooms" not in row for row in result["rows"])
    assert f"bias_grad (tiny: 3x4x5): the fast room, against reference in float64: {says}" in result["wrong"]
    assert says in capsys.readouterr().out


def test_a_wrong_kernel_does_not_keep_others_from_being_timed(monkeypatch, tmp_path):
    monkeypatch.setattr(fast_room, "bias_grad", slightly_off)
    words = "kernels", "--quick", "--only", "bias_grad", "--only", "sgd_step", "--json", f"{tmp_path}/k.json"
    assert main(*words) == 1
    rows = json.loads((tmp_path / "k.json").read_text())["rows"]
    assert {row["kernel"] for row in rows if "rooms" in row} == {"sgd_step"}


def test_kernels_that_work_in_place_are_checked_by_what_they_change(monkeypatch):
    from benchmarks.cases import all_cases
    from benchmarks.kernels import check

    case = next(case for case in all_cases() if case.kernel == "sgd_step" and case.tiny)
    given = case.arguments(np.random.default_rng(0))
    before = given[0].copy()
    assert check(case, given)[1] == []
    assert np.array_equal(given[0], before)  # the check worked on copies
    monkeypatch.setattr(fast_room, "sgd_step", lambda *arguments: None)
    assert "the fast room" in check(case, given)[1][0]


# --- training ---


def test_training_is_measured_without_any_peer(tmp_path):
    done = run(
        "train", "--quick", "--nets", "a", "--batch", "8,16", "--engines", "tinynet", "--threads", "1",
        "--json", f"{tmp_path}/t.json", "--markdown", f"{tmp_path}/t.md",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "t.json").read_text())
    assert (result["benchmark"], result["format"]) == ("train", 1)
    assert set(result["machine"]) == MACHINE and result["machine"]["threads"] == 1
    assert [(c["net"], c["batch"], c["faults"]) for c in result["comparisons"]] == [
        ("a", 8, []),
        ("a", 16, []),
    ]
    for comparison in result["comparisons"]:
        assert comparison["parameters"] == 103_018 and comparison["ratios"] == {}
        ours = comparison["engines"]["tinynet"]
        assert len(ours["losses"]) == 4 and all(map(math.isfinite, ours["losses"]))
        for mode in ("train", "infer"):
            assert len(ours[mode]["rounds"]) == 2
            assert set(ours[mode]["samples_per_second"]) == SPREAD
        assert 0 < ours["memory"]["step_mib"] < ours["memory"]["peak_mib"] or sys.platform != "linux"
    assert "| a   | 8     |" in (tmp_path / "t.md").read_text()


class FakeChild:
    """An engine that computes fixed losses, in a process that is not there."""

    def __init__(self, losses, speed=100.0):
        self.losses, self.speed = losses, speed

    def ask(self, order, **settings):
        if order == "compute":
            return {"logits": [1.0, 2.0], "losses": self.losses}
        if order == "run":
            return {"steps": 10, "seconds": 10 / self.speed, "others": 0.0, "disturbed": False}
        return {}


def compared(children: dict) -> dict:
    from benchmarks import train

    task, effort = {"net": "a", "batch": 1, "weights": ""}, train.Effort(3, 0.0, 0.0, 1)
    result = {"engines": {name: {} for name in children}, "faults": []}
    train._agree(children, task, result)
    for name, figures in train._race(children, task, effort).items():
        result["engines"][name] |= figures
    return result | {"ratios": train._ratios(result["engines"])}


def test_ratios_are_formed_only_with_engines_that_compute_the_same():
    truth = [2.3, 2.2, 2.1]
    children = {"tinynet": FakeChild(truth, 300.0), "torch": FakeChild([2.3001, 2.2, 2.1])}
    children["jax"] = FakeChild([2.3, 2.2, 2.2])
    result = compared(children)
    assert set(result["ratios"]) == {"torch"}
    assert result["ratios"]["torch"]["train"]["median"] == pytest.approx(3.0)
    assert len(result["faults"]) == 1 and result["faults"][0].startswith("jax: its losses differ by 4.3e-02")


def test_losses_that_are_not_numbers_never_agree():
    result = compared({"tinynet": FakeChild([2.3]), "torch": FakeChild([math.nan])})
    assert result["ratios"] == {} and "torch: its losses differ" in result["faults"][0]


def test_an_engine_that_fails_says_why_and_goes_on():
    from benchmarks.children import Child, EngineError

    with Child("tinynet", 1) as child:
        with pytest.raises(EngineError, match=r"(?s)tinynet failed to prepare.*KeyError: 'no such net'"):
            child.ask("prepare", net="no such net", batch=1, weights="", dropout=True)
        assert child.ask("hello")["imported_mib"] >= 0
        child._process.kill()
        with pytest.raises(EngineError, match="its process ended with code -9"):
            child.ask("hello")


def test_all_engines_get_the_same_threads_and_only_one_of_them_another_allocator(monkeypatch):
    from benchmarks.children import environment

    monkeypatch.setenv("MALLOC_TOP_PAD_", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    plain, tuned = environment("torch", 2), environment("torch-malloc", 2)
    assert plain["OMP_NUM_THREADS"] == tuned["OMP_NUM_THREADS"] == "2"
    assert "MALLOC_TOP_PAD_" not in plain and tuned["MALLOC_TOP_PAD_"] == str(64 << 20)


# --- wrong use, time, tables ---


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["kernels", "--only", "convolve"], "there is no kernel 'convolve'; known: conv, "),
        (["kernels", "--threads", "4096"], "--threads 4096: this machine has 1 to "),
        (["train", "--nets", "a,z"], "unknown name 'z'; known: a, b, c, d"),
        (["train", "--nets", ","], "--nets: no name in ','"),
        (["train", "--engines", "caffe"], "unknown name 'caffe'; known: tinynet, torch, "),
        (["train", "--batch", "32,0"], "--batch: '0' is no number from 1 up"),
        (["train", "--json", "/dev/null/t.json"], "cannot write /dev/null/t.json: "),
    ],
)
def test_wrong_use_ends_with_code_2_and_a_sentence(words, says, capsys):
    with pytest.raises(SystemExit) as end:
        main(*words)
    assert end.value.code == 2
    assert says in capsys.readouterr().err


def test_a_peer_that_is_not_installed_is_named_with_its_fix(monkeypatch, capsys):
    from benchmarks import engines

    monkeypatch.setitem(engines.ENGINES, "jax", engines.Description("with_jax", "no_such_package", {}))
    with pytest.raises(SystemExit):
        main("train", "--engines", "jax")
    assert "jax is not installed: pip install no_such_package" in capsys.readouterr().err


def test_spread_is_median_and_quartiles():
    from benchmarks.timing import Spread

    assert Spread.of([5.0, 1.0, 2.0, 3.0, 4.0]) == Spread(3.0, 2.0, 4.0, 5)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0, 1)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux tells what other processes do")
def test_the_watch_sees_other_processes_and_measures_again():
    from benchmarks.timing import undisturbed

    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    tries = []

    def measurement() -> int:
        tries.append(subprocess.run([sys.executable, "-c", "import time; time.sleep(0.3)"], check=True))
        return len(tries)

    try:
        result, disturbed = undisturbed(measurement, 3)
    finally:
        busy.kill()
        busy.wait()
    assert disturbed and len(tries) == 3 and 1 <= result <= 3


def test_an_undisturbed_measurement_is_made_once(monkeypatch):
    from benchmarks import timing

    monkeypatch.setattr(timing, "machine_busy", lambda: 0.0)
    assert timing.undisturbed(lambda: "figure", 3) == ("figure", False)


def test_numbers_are_written_with_three_digits():
    from benchmarks.report import digits, seconds

    assert [seconds(s) for s in (2.5, 0.0123, 4.56e-4, 8.5e-8)] == ["2.50 s", "12.3 ms", "456 us", "85 ns"]
    assert [digits(x) for x in (0.5, 9.996, 12.34, 1234.5)] == ["0.50", "10.0", "12.3", "1234"]


def test_tables_as_markdown():
    from benchmarks.report import Table, to_markdown

    table = Table("Title", ["name", "speed"], [["conv", "5"], ["pool", "12"]], "Note.", left=1)
    assert to_markdown(table).splitlines() == [
        "## Title", "", "| name | speed |", "|------|------:|", "| conv |     5 |", "| pool |    12 |",
        "", "Note.",
    ]  # fmt: skip


def test_a_file_that_was_there_is_not_lost_before_the_new_one_is_ready(tmp_path):
    from benchmarks.report import keep, writable

    path = tmp_path / "k.json"
    path.write_text("old")
    arguments = argparse.Namespace(json=writable(str(path)), markdown=None)
    assert path.read_text() == "old"
    keep(arguments, {"a": 1}, "", [])
    assert json.loads(path.read_text()) == {"a": 1}
