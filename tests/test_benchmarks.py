"""The benchmarks run, keep what they promise, and refuse to time what is wrong."""

import argparse
import itertools
import json
import math
import re
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


@pytest.fixture(autouse=True)
def without_patience(beside_the_package, monkeypatch):
    """Other tests keep the cores busy: nothing here waits until they are free."""
    from benchmarks import pace

    monkeypatch.setattr(pace, "PATIENCE", 0.01)


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
    names = set(kernels.__all__) - {"Window", "precision", "room", "use"}
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
    assert (result["benchmark"], result["format"], result["wrong"]) == ("kernels", 3, [])
    assert set(result["machine"]) == MACHINE
    assert result["finished"] and result["ceiling"]["gflops"] > 1
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
    assert 0.2 < product["share"]["flops"] / (product["gflops"] / result["ceiling"]["gflops"]) < 5
    assert done.stdout == (tmp_path / "k.md").read_text() + "\n"  # no terminal: Markdown


def test_a_block_is_timed_against_the_single_kernels(tmp_path):
    words = "--only", "conv", "--only", "conv_block", "--json", f"{tmp_path}/k.json"
    assert main("kernels", "--quick", *words, "--markdown", f"{tmp_path}/k.md") == 0
    conv, *_, block = json.loads((tmp_path / "k.json").read_text())["rows"]
    assert "fused" not in conv and "apart" not in conv["rooms"]
    assert set(block["rooms"]) == {"numpy", "fast", "apart"} and block["case"].startswith("a1, ReLU, pool: ")
    assert block["fused"] == callable(getattr(fast_room, "conv_block", None))
    assert "## Blocks: one kernel against the single ones in a row" in (tmp_path / "k.md").read_text()


def test_one_table_has_the_shares_of_all_wide_convolutions():
    from benchmarks.cases import all_cases
    from benchmarks.kernels_tables import _counts, _share_table

    rows = [{"kernel": case.kernel, "case": case.label, "flops": case.flops} for case in all_cases()]
    rows = [row for row in rows if _counts(row)]
    for row in rows:  # 75 % of a ceiling of 100 GFLOP/s by the median, 80 % at best
        row |= {"share": {"flops": 0.75}, "best": row["flops"] / 80e9, "disturbed": row["kernel"] == "conv"}
    table = _share_table(rows, {"gflops": 100.0})
    assert table.columns[1:] == ["conv", "conv_input_grad", "conv_weight_grad"]
    others = 4  # stride 2, 1x1, 1-D, 3-D
    assert len(table.rows) == 1 + 10 + 3 + others  # b2; c but its first and last; its three ways up
    assert all(row[1:] == ["75 % (80 %)*", "75 % (80 %)", "75 % (80 %)"] for row in table.rows)
    assert "b2: 128x26x26x32 to 64" in [row[0] for row in table.rows]


def test_what_was_measured_before_a_crash_is_kept(monkeypatch, tmp_path):
    from benchmarks import kernels as verb

    measured = verb._row

    def crash(case, *more):
        if case.kernel == "erf":
            raise KeyboardInterrupt
        return measured(case, *more)

    monkeypatch.setattr(verb, "_row", crash)
    words = "--only", "bias_grad", "--only", "erf", "--json", f"{tmp_path}/k.json"
    assert main("kernels", "--quick", *words) == 130
    result = json.loads((tmp_path / "k.json").read_text())
    assert not result["finished"] and {row["kernel"] for row in result["rows"]} == {"bias_grad"}
    assert [path.name for path in tmp_path.iterdir()] == ["k.json"]  # nothing temporary is left


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


def test_a_pool_is_judged_by_the_numbers_that_won(monkeypatch):
    """Winograd's rounding decides between numbers that are nearly equal; another place is still a fault."""
    from benchmarks.cases import all_cases
    from benchmarks.kernels import check

    case = next(c for c in all_cases() if c.kernel == "conv_block" and c.label.startswith("c, ReLU, pool"))
    given = case.arguments(np.random.default_rng(0))
    assert check(case, given)[1] == []
    y, where = fast_room.conv_block(*given)
    where[0, 0, 0] = (where[0, 0, 0] + 1) % 4
    monkeypatch.setattr(fast_room, "conv_block", lambda *arguments: (y, where))
    assert "the fast room" in check(case, given)[1][0]


# --- training ---


def test_training_is_measured_without_any_peer(tmp_path):
    done = run(
        "train", "--quick", "--nets", "a", "--batch", "8,16", "--engines", "tinynet", "--threads", "1",
        "--json", f"{tmp_path}/t.json", "--markdown", f"{tmp_path}/t.md",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "t.json").read_text())
    assert (result["benchmark"], result["format"], result["finished"]) == ("train", 2, True)
    assert result["engines"]["tinynet"]["environment"]["OMP_NUM_THREADS"] == "1"
    assert set(result["machine"]) == MACHINE and result["machine"]["threads"] == 1
    assert [(c["net"], c["batch"], c["faults"]) for c in result["comparisons"]] == [
        ("a", 8, []),
        ("a", 16, []),
    ]
    for comparison in result["comparisons"]:
        assert comparison["parameters"] == 103_018 and comparison["ratios"] == {}
        ours = comparison["engines"]["tinynet"]
        for mode in ("adam", "sgd"):
            assert len(ours["losses"][mode]) == 4 and all(map(math.isfinite, ours["losses"][mode]))
        assert ours["losses"]["adam"][0] == ours["losses"]["sgd"][0]  # the same weights
        assert ours["losses"]["adam"][3] != ours["losses"]["sgd"][3]  # other steps
        for mode in ("adam", "sgd", "infer"):
            assert len(ours[mode]["rounds"]) == 2
            assert set(ours[mode]["samples_per_second"]) == SPREAD
        assert 0 < ours["memory"]["step_mib"] < ours["memory"]["peak_mib"] or sys.platform != "linux"
    assert "| a   | 8     |" in (tmp_path / "t.md").read_text()


class FakeChild:
    """An engine that computes fixed losses, in a process that is not there; it may fail after some runs."""

    def __init__(self, adam, speed=100.0, sgd=(2.3, 2.2), runs=1000):
        self.losses, self.speed, self.runs = {"adam": list(adam), "sgd": list(sgd)}, speed, runs

    def ask(self, order, **settings):
        from benchmarks.children import EngineError

        if order == "compute":
            return {"logits": [1.0, 2.0], "losses": self.losses}
        if order == "run":
            self.runs -= 1
            if self.runs < 0:
                raise EngineError("torch failed to run:\nTraceback\nMemoryError: no more")
            return {"steps": 10, "seconds": 10 / self.speed, "others": 0.0, "disturbed": False}
        return {}


def compared(children: dict) -> dict:
    from benchmarks import race, train
    from benchmarks.nets import NETS

    task, effort = race.Task(NETS["a"], 1, "", 0), race.Effort(3, 0.0, 0.0, 1)
    result = {"engines": {name: {} for name in children}, "faults": []}
    train._add(result, race.agree(children, task, result["faults"]))
    train._add(result, race.race(children, task, effort, result["faults"]))
    train._compare_with_tinynet(result)
    return result


def test_ratios_are_formed_only_with_engines_that_compute_the_same():
    truth = [2.3, 2.2, 2.1]
    children = {"tinynet": FakeChild(truth, 300.0), "torch": FakeChild([2.3001, 2.2, 2.1])}
    children["jax"] = FakeChild([2.3, 2.2, 2.2])
    result = compared(children)
    assert set(result["ratios"]) == {"torch"}
    assert result["ratios"]["torch"]["adam"]["median"] == pytest.approx(3.0)
    (fault,) = result["faults"]
    assert fault.startswith("jax: its losses (adam) differ by 4.3e-02")


def test_losses_that_are_not_numbers_never_agree():
    result = compared({"tinynet": FakeChild([2.3]), "torch": FakeChild([math.nan])})
    assert result["ratios"] == {} and "torch: its losses (adam) differ" in result["faults"][0]


def test_losses_must_agree_with_each_optimizer():
    result = compared({"tinynet": FakeChild([2.3]), "torch": FakeChild([2.3], sgd=[2.3, 2.1])})
    assert result["ratios"] == {} and "torch: its losses (sgd) differ by 4.3e-02" in result["faults"][0]


def test_an_engine_that_fails_on_the_way_keeps_its_rounds_and_the_others_go_on():
    warm_up_and_one_round = 3 + 3
    children = {"tinynet": FakeChild([2.3]), "torch": FakeChild([2.3], 50.0, runs=warm_up_and_one_round + 1)}
    children["jax"] = FakeChild([2.3], 25.0)
    result = compared(children)
    rounds = {name: len(e["adam"]["rounds"]) for name, e in result["engines"].items()}
    assert rounds == {"tinynet": 3, "torch": 2, "jax": 3}
    assert len(result["engines"]["torch"]["infer"]["rounds"]) == 1
    assert result["ratios"]["torch"]["adam"]["count"] == 2
    assert result["ratios"]["torch"]["infer"]["median"] == pytest.approx(2.0)
    assert result["ratios"]["jax"]["sgd"]["median"] == pytest.approx(4.0)
    assert result["faults"] == ["torch failed to run:\nTraceback\nMemoryError: no more"]


def test_a_fault_is_one_line_in_the_table():
    from benchmarks.race import summary

    trace = "torch failed to run:\nTraceback\n  raise it\nMemoryError: no more\n"
    assert summary(trace) == summary(trace + "\nSet TORCH_LOGS for more\n")
    assert summary(trace) == "torch failed to run: MemoryError: no more"
    assert summary("torch took too long") == "torch took too long"


def test_an_engine_that_hangs_is_ended():
    from benchmarks.children import Child, EngineError, Launch

    with Child("tinynet", Launch(1, patience=0.01)) as child:
        with pytest.raises(EngineError, match=r"tinynet took longer than 0\.01 s to hello; --timeout"):
            child.ask("hello")
        assert child._process.wait(10) != 0


def test_without_peers_tinynet_is_measured_alone_and_says_what_to_install(monkeypatch, tmp_path, capsys):
    from benchmarks import engines

    for name in ("torch", "torch-malloc", "torch-compile", "jax"):
        absent = engines.ENGINES[name]._replace(package="no_such_package")
        monkeypatch.setitem(engines.ENGINES, name, absent)
    words = "--nets", "d", "--batch", "4", "--rounds", "1", "--json", f"{tmp_path}/t.json"
    assert main("train", "--quick", *words) == 0
    assert "without torch: torch is not installed: pip install no_such_package" in capsys.readouterr().err
    result = json.loads((tmp_path / "t.json").read_text())
    assert list(result["engines"]) == ["tinynet"] and len(result["left_out"]) == 4
    assert set(result["comparisons"][0]["engines"]) == {"tinynet"}


@pytest.mark.skipif(sys.platform == "win32", reason="the broken Python is a shell script")
def test_an_engine_that_cannot_work_is_left_out_with_the_reason(tmp_path, capsys):
    broken = tmp_path / "python"
    broken.write_text('#!/bin/sh\n[ "$1" = -c ] || { echo "InvalidCxxCompiler: none" >&2; exit 1; }\n')
    broken.chmod(0o755)
    words = "--nets", "d", "--batch", "4", "--rounds", "1", "--python", f"torch-compile={broken}"
    files = "--markdown", f"{tmp_path}/t.md"
    assert main("train", "--quick", "--engines", "tinynet,torch-compile", *words, *files) == 0
    reason = "torch-compile failed to hello: InvalidCxxCompiler: none"
    assert f"without torch-compile: {reason}" in capsys.readouterr().err
    assert re.search(rf"torch-compile \| left out +\| {reason}", (tmp_path / "t.md").read_text())


def test_an_engine_that_fails_says_why_and_goes_on():
    from benchmarks.children import Child, EngineError, Launch

    with Child("tinynet", Launch(1)) as child:
        order = {"sample": [28, 28, 1], "batch": 1, "weights": "", "dropout": True, "modes": ["adam"]}
        with pytest.raises(EngineError, match=r"(?s)tinynet failed to prepare.*KeyError: 'no such net'"):
            child.ask("prepare", net="no such net", **order)
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


# --- curves ---


def curve(tmp_path: Path, section: str, *words: str) -> list[dict]:
    """One section of ``curves``, measured with tinynet alone; its rows."""
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    files = "--json", f"{tmp_path}/c.json", "--pictures", f"{tmp_path}/pictures"
    assert main("curves", "--quick", "--engines", "tinynet", "--only", section, *files, *words) == 0
    result = json.loads((tmp_path / "c.json").read_text())
    assert (result["benchmark"], result["format"], result["faults"]) == ("curves", 1, [])
    assert set(result["machine"]) == MACHINE and list(result["sections"]) == [section]
    pictures = list((tmp_path / "pictures").iterdir())
    assert pictures and all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    return result["sections"][section]


def test_curve_of_threads(tmp_path):
    (row,) = curve(tmp_path, "threads", "--threads", "2")
    rounds = {n: figures["adam"]["rounds"] for n, figures in row["threads"].items()}
    assert row["net"] == "a" and set(rounds) == {"1", "2"}
    ratios = sorted(two / one for one, two in zip(rounds["1"], rounds["2"]))
    assert row["times_one_thread"]["2"]["median"] == pytest.approx(sum(ratios) / 2)


def test_curve_of_batches(tmp_path):
    rows = curve(tmp_path, "batch", "--threads", "1")
    assert [(row["net"], row["batch"]) for row in rows] == [("a", 1), ("a", 8)]
    assert all(set(row["engines"]["tinynet"]) == {"adam", "infer"} for row in rows)
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert names == {"batch-a-adam.png", "batch-a-infer.png"}


def test_curve_of_image_sides(tmp_path):
    rows = curve(tmp_path, "side", "--threads", "1")
    assert [row["side"] for row in rows] == [28, 42]


def test_curve_of_one_convolution(tmp_path):
    rows = curve(tmp_path, "conv", "--threads", "1")
    assert [row["side"] for row in rows] == [28, 42]
    assert set(rows[0]["kernels"]) == {"conv", "conv_input_grad", "conv_weight_grad"}
    assert all(k["gflops"]["median"] > 0 for row in rows for k in row["kernels"].values())


def test_overhead_of_the_tape(tmp_path):
    rows = curve(tmp_path, "tape", "--threads", "1")
    steps, ops = [row for row in rows if "batch" in row], [row for row in rows if "op" in row]
    assert [row["batch"] for row in steps] == [1, 32] and len(ops) == 3
    assert steps[0]["kernel_calls"] == steps[1]["kernel_calls"] >= 8  # of the two Dense layers alone: 6
    assert all(row["op_and_tape"]["median"] > row["numpy"]["median"] > 0 for row in ops)


def test_recording_the_kernels_changes_no_result_and_leaves_no_trace():
    import tinynet as tn
    from benchmarks.tape import recorded

    x, w = np.ones((2, 3), np.float32), np.ones((3, 4), np.float32)
    kernels.matmul(x, w)
    with recorded() as calls:
        with tn.no_grad():
            y = tn.Tensor(x) @ tn.Tensor(w)
        assert len(calls) == 1
    kernel, arguments = calls[0]
    assert np.array_equal(kernel(*arguments), y.numpy())
    kernels.matmul(x, w)
    assert len(calls) == 1


def test_without_matplotlib_there_are_tables_and_the_command_that_helps(monkeypatch, tmp_path, capsys):
    from benchmarks import curves

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "benchmarks.curve_pictures", raising=False)
    curves._draw(f"{tmp_path}/pictures", {"sections": {}})
    assert "pip install matplotlib" in capsys.readouterr().err
    assert not (tmp_path / "pictures").exists()


def test_all_curves_are_drawn_for_all_engines(tmp_path):
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    from benchmarks.curve_pictures import draw

    spread = {"median": 2.0, "low": 1.0, "high": 3.0, "count": 3}
    modes = {mode: {"samples_per_second": spread} for mode in ("adam", "infer")}
    rows = [
        {"net": net, "batch": batch, "engines": {"tinynet": modes, "torch": {"adam": modes["adam"]}}}
        for net in "ab"
        for batch in (1, 4)
    ]
    written = draw(str(tmp_path), {"batch": rows, "side": []})
    assert [path.name for path in written] == [
        "batch-a-adam.png", "batch-a-infer.png", "batch-b-adam.png", "batch-b-infer.png",
    ]  # fmt: skip


def test_rates_beyond_the_registers_stay_inside_the_picture():
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    from benchmarks.curve_pictures import _conv

    rate = {"gflops": {"median": 490, "low": 480, "high": 500}}
    kernels = {"conv": rate, "conv_input_grad": rate, "conv_weight_grad": rate}
    row = {"side": 28, "batch": 8, "channels": 32, "ceiling_gflops": 230, "kernels": kernels}
    ((_, figure),) = _conv([row, row | {"side": 56}])
    assert figure.axes[0].get_ylim()[1] > 500


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks/results").glob("*.json")), ids=lambda p: p.name)
def test_results_that_are_kept_are_whole_and_right(path):
    result = json.loads(path.read_text())
    assert result["finished"] and not result.get("wrong") and not result.get("faults")
    assert not any(comparison["faults"] for comparison in result.get("comparisons", []))


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
        (
            ["train", "--python", "torch"],
            "--python: 'torch' is not NAME=FILE with a name of tinynet, torch, ",
        ),
        (["train", "--engines", "jax", "--python", "jax=nowhere"], "nowhere cannot be started: No such file"),
        (["curves", "--only", "sizes"], "unknown name 'sizes'; known: threads, batch, side, conv, tape"),
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


class FakePace:
    """Cores that are there or not, by a list of what is seen before and after each attempt."""

    def __init__(self, seen):
        self.seen = list(seen)

    def full(self):
        return self.seen.pop(0)

    settle = full


@pytest.mark.parametrize(
    ("seen", "result"),
    [
        ([True, True], (1, False)),
        ([True, False, True, True], (2, False)),  # a core was taken away during the first attempt
        ([False, True, True, True], (2, False)),  # it was not there to begin with
        ([True, False] * 3, (1, True)),
    ],
)
def test_a_measurement_without_all_cores_is_made_again(seen, result, monkeypatch):
    from benchmarks import timing

    monkeypatch.setattr(timing, "machine_busy", lambda: 0.0)
    tries = itertools.count(1)
    assert timing.undisturbed(lambda: next(tries), 3, FakePace(seen)) == result


def test_a_turn_without_all_cores_is_made_again(monkeypatch):
    from benchmarks import race

    pace = FakePace([True, False, False, True, True, True])
    monkeypatch.setattr(race, "of_this_machine", lambda: pace)
    child = FakeChild([2.3])
    turn = race._turn(child, "adam", race.Effort(1, 0.0, 0.0, 4))
    assert not turn["disturbed"] and child.runs == 1000 - 3


def test_the_pace_is_that_of_products_from_registers():
    from benchmarks.pace import Pace

    pace = Pace(1)
    assert 0 < pace.now() <= pace.best
    pace.best *= 100  # what this machine never reaches
    assert not pace.full()


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
