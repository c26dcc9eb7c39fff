"""``python -m benchmarks gpu`` and ``report`` without a GPU: rehearsed on the CPU, and on made-up figures."""

import json
import math
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import made_up_gpu
import numpy as np
import pytest

from tinynet import backend, kernels
from tinynet.errors import DeviceError
from tinynet.kernels import cpu

ROOT = Path(__file__).resolve().parents[1]
REHEARSAL = ("gpu", "--device", "cpu", "--engines", "tinynet-gpu", "--threads", "1", "--seed", "1")


@pytest.fixture(autouse=True)
def beside_the_package(monkeypatch):
    """benchmarks/ is not installed: it is found from the repository's root."""
    monkeypatch.syspath_prepend(str(ROOT))


def main(*words) -> int:
    from benchmarks.__main__ import main

    return main([str(word) for word in words])


def kept(folder: Path) -> dict:
    """The result in a folder: strict JSON, and in order."""
    from benchmarks.gpu.schema import problems

    result = json.loads((folder / "gpu.json").read_text(), parse_constant=pytest.fail)
    assert problems(result) == []
    return result


# --- without a GPU ---


@pytest.fixture
def no_gpu(monkeypatch):
    def missing():
        raise DeviceError("no NVIDIA driver is loaded on this machine; nvidia-smi shows what is there")

    monkeypatch.setattr(backend, "require_cuda", missing)


def test_without_a_gpu_it_says_why_in_one_line_and_all_is_well(no_gpu, capsys):
    assert main("gpu") == 0
    text = "no CUDA device: no NVIDIA driver is loaded on this machine; nvidia-smi shows what is there\n"
    assert capsys.readouterr().out == text


def test_without_a_gpu_the_environment_is_kept_all_the_same(no_gpu, tmp_path):
    assert main("gpu", "--out", tmp_path / "new" / "folder") == 0
    result = kept(tmp_path / "new" / "folder")
    assert result["no_device"].startswith("no NVIDIA driver") and result["finished"]
    assert result["machine"]["packages"]["numpy"] == np.__version__
    assert (result["card"], result["sections"]) == (None, {})
    assert "Nothing was measured: no NVIDIA driver" in (tmp_path / "new" / "folder" / "gpu.md").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--only", "kernel"], "unknown name 'kernel'; known: environment, ceilings, "),
        (["--engines", "torch"], "unknown name 'torch'; known: tinynet-gpu, torch-gpu, "),
        (["--device", "cpu", "--out", "/dev/null/x"], "cannot write /dev/null/x/gpu.json: "),
        (["--device", "tpu"], "invalid choice: 'tpu'"),
    ],
)
def test_wrong_use_ends_with_code_2_a_sentence_and_no_files(words, says, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main("gpu", "--out", tmp_path / "folder", *words)
    assert end.value.code == 2 and not (tmp_path / "folder").exists()
    assert says in capsys.readouterr().err


# --- a rehearsal: everything, with the CPU in the place of the GPU ---


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    """The folder of a rehearsal of the quick sections, as a user runs it."""
    folder = tmp_path_factory.mktemp("rehearsal")
    words = [*REHEARSAL, "--out", str(folder), "--only", "ceilings,training,accuracy"]
    command = [sys.executable, "-m", "benchmarks", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    return folder


def test_a_rehearsal_fills_all_files_and_calls_itself_one(rehearsed):
    result, text = kept(rehearsed), (rehearsed / "gpu.md").read_text()
    assert result["finished"] and result["faults"] == []
    assert list(result["sections"]) == ["environment", "ceilings", "training", "accuracy"]
    assert result["card"]["kind"] == "cpu" and "no figure here is one of a GPU" in text
    assert "This is a rehearsal and no measurement." in text
    assert (rehearsed / "stdout").read_text() == text + "\n"
    assert "section training" in (rehearsed / "gpu.log").read_text()
    assert result["sections"]["accuracy"] == {"skipped": "no data: --data FOLDER"}


def test_a_rehearsal_trains_in_every_way(rehearsed):
    (task,) = kept(rehearsed)["sections"]["training"]["tasks"]
    assert (task["net"], task["batch"], task["parameters"]) == ("a", 8, 103_018)
    assert task["flops_per_sample"] == 2_190_336
    ways = {(row["how"], row["precision"]) for row in task["rows"]}
    assert ways == {(how, p) for how in ("eager", "graph", "graph of 20") for p in ("fp32", "tf32")}
    for row in task["rows"]:
        assert (row["fault"], row["loss_error"], len(row["losses"]), len(row["rounds"])) == ("", 0.0, 20, 2)
        assert row["samples_per_second"]["median"] > 0
        assert row["epoch_seconds"] == pytest.approx(60_000 / row["samples_per_second"]["median"])


def test_the_bars_follow_from_the_file_alone(rehearsed):
    from benchmarks.gpu.bars import judge

    result = kept(rehearsed)
    assert result["bars"] == judge(result)


@pytest.mark.skipif(sys.platform == "win32", reason="ends a process by a signal")
def test_a_run_that_is_killed_leaves_what_was_measured(tmp_path):
    command = [sys.executable, "-m", "benchmarks", *REHEARSAL, "--out", str(tmp_path)]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    path, end = tmp_path / "gpu.json", time.monotonic() + 120
    while time.monotonic() < end:
        if path.exists() and '"ceilings"' in path.read_text():
            break
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    assert running.wait(60) == -signal.SIGKILL
    result = kept(tmp_path)
    assert not result["finished"] and result["sections"]["ceilings"]["copy"]["gb_per_s"] > 0
    assert "The run did not come to its end." in (tmp_path / "gpu.md").read_text()


# --- the crew ---


class FakeChild:
    """An engine without a process; ``answers`` maps an order to what it answers, or to an exception."""

    def __init__(self, engine, launch, answers=None):
        self.engine, self.launch, self.answers, self.left = engine, launch, answers or {}, False

    def ask(self, order, **settings):
        answer = self.answers.get(settings.get("how"), self.answers).get(order, {})
        if isinstance(answer, Exception):
            raise answer
        return answer(settings) if callable(answer) else answer

    def __exit__(self, *error):
        self.left = True


def test_a_member_that_crashes_is_replaced_and_its_failure_noted(capsys):
    from benchmarks.children import EngineError, Launch
    from benchmarks.gpu.crew import crew

    children = []

    def start(engine, launch):
        failing = (
            {"part": EngineError("x failed to part:\nMemoryError: none")}
            if not children
            else {"part": {"a": 1}}
        )
        children.append(FakeChild(engine, launch, failing))
        return children[-1]

    with crew(["x"], lambda name: Launch(1), start) as members:
        assert members["x"].attempt("part") is None
        assert members["x"].why() == "x failed to part: MemoryError: none"
        assert members["x"].attempt("part") == {"a": 1}
        assert [child.left for child in children] == [True, False]
    assert [child.left for child in children] == [True, True]
    assert capsys.readouterr().err == "x failed to part: MemoryError: none\n"


def entries_of(*speeds, losses=None):
    """Entries of one fake engine each: (engine, how, samples per second at batch 1)."""
    from benchmarks.children import Launch
    from benchmarks.gpu.crew import Member
    from benchmarks.gpu.training import Entry

    entries = []
    for engine, how, speed in speeds:
        answers = {
            "begin": {"losses": (losses or {}).get(engine, [2.3] * 20), "seconds": 1.0, "bytes": 0},
            "calls": {"calls": 10},
            "race": lambda given, speed=speed: {
                "host": given["calls"] / speed,
                "device": None,
                "steps": given["calls"],
            },
        }
        member = Member(
            engine, Launch(1), lambda name, launch, answers=answers: FakeChild(name, launch, answers)
        )
        job = {"net": "a", "batch": 1, "weights": "", "how": how, "precision": "fp32"}
        entries.append(Entry(member, job))
    return entries


def raced(entries):
    from benchmarks.gpu import training

    for entry in entries:
        entry.begin()
    rows = [entry.row for entry in entries]
    training.compare(rows)
    training._race(entries, 1, training.Extent([], 3, 0.1))
    return rows


def test_engines_that_agree_are_raced():
    rows = raced(entries_of(("tinynet-gpu", "graph", 300.0), ("torch-gpu", "eager", 100.0)))
    assert [len(row["rounds"]) for row in rows] == [3, 3]
    assert rows[0]["samples_per_second"]["median"] == pytest.approx(300)
    assert rows[1]["epoch_seconds"] == pytest.approx(600)


@pytest.mark.parametrize(
    ("losses", "says"),
    [
        ([2.3] * 19 + [2.4], "its first losses differ by 4.3e-02"),
        ([2.3] * 19, "its first losses differ by inf"),
        ([math.nan] * 20, "a loss is not a number"),
    ],
)
def test_an_engine_whose_losses_differ_is_neither_raced_nor_compared(losses, says):
    from benchmarks.gpu.bars import fastest

    entries = entries_of(
        ("tinynet-gpu", "graph", 300.0), ("torch-gpu", "eager", 100.0), losses={"torch-gpu": losses}
    )
    rows = raced(entries)
    assert says in rows[1]["fault"] and rows[1]["rounds"] == [] and len(rows[0]["rounds"]) == 3
    assert fastest(rows, "torch-gpu", ("eager",), "fp32") is None
    json.dumps(rows, allow_nan=False)


def test_an_entry_that_fails_takes_no_other_along():
    """Both stand in one process: when it is replaced, the sound one begins anew by itself."""
    from benchmarks.children import EngineError, Launch
    from benchmarks.gpu.crew import Member
    from benchmarks.gpu.training import Entry

    good = {
        "begin": {"losses": [2.3] * 20, "seconds": 1.0, "bytes": 0},
        "calls": {"calls": 1},
        "race": {"host": 1.0, "device": 1.0, "steps": 1},
    }
    begun = []
    answers = {
        "eager": good | {"begin": lambda given: begun.append(given["how"]) or good["begin"]},
        "graph": {"begin": EngineError("torch-gpu failed to begin:\nRuntimeError: no graph")},
    }
    member = Member("torch-gpu", Launch(1), lambda name, launch: FakeChild(name, launch, answers))
    job = {"net": "a", "batch": 1, "weights": "", "precision": "fp32"}
    rows = raced([Entry(member, job | {"how": how}) for how in ("eager", "graph")])
    assert rows[1]["fault"] == "torch-gpu failed to begin: RuntimeError: no graph"
    assert (rows[0]["fault"], len(rows[0]["rounds"]), begun) == ("", 3, ["eager", "eager"])


def test_slow_compilers_are_asked_for_less():
    from benchmarks.gpu.training import wanted

    engines = {
        "tinynet-gpu": {"hows": ["graph"]},
        "torch-compile-gpu": {"hows": ["compiled"]},
        "jax-gpu": {"hows": ["jit"]},
    }
    assert list(wanted(engines, "b", 128)) == [
        ("tinynet-gpu", "graph", "fp32"), ("tinynet-gpu", "graph", "tf32"),
        ("torch-compile-gpu", "compiled", "tf32"), ("jax-gpu", "jit", "tf32"),
    ]  # fmt: skip
    assert [engine for engine, _, _ in wanted(engines, "c", 128)] == ["tinynet-gpu", "jax-gpu"]


def test_a_section_that_comes_late_skips_what_is_left(tmp_path):
    from benchmarks.gpu import correctness

    section = correctness.measure(lambda *a, **b: pytest.fail("too late"), {"a": ""}, 1, 1, lambda: True)
    assert section["kernels"] == section["training"] == []
    assert section["skipped"][0] == "conv, fp32" and section["skipped"][-1] == "training of net a"


# --- is it right? ---


def check(kernel, precision="fp32"):
    from benchmarks.gpu import correctness
    from benchmarks.gpu.device import Cpu

    return correctness.check_kernel(Cpu(), kernel, precision, seed=1, most=0)


def test_a_right_kernel_has_no_fault():
    (row,) = check("bias_grad")
    assert row["fault"] == "" and row["error"] < 1e-6


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_a_wrong_kernel_is_reported(precision, monkeypatch):
    error = {"fp32": 1.0001, "tf32": 1.01}[precision]
    right = cpu.matmul
    monkeypatch.setattr(cpu, "matmul", lambda a, b: right(a, b) * np.float32(error))
    (row,) = check("matmul", precision)
    limit = {"fp32": "1e-05", "tf32": "1e-03"}[precision]
    assert f"more than {limit}" in row["fault"]


def test_tf32_may_be_as_wrong_as_its_rounding(monkeypatch):
    right = cpu.matmul
    monkeypatch.setattr(cpu, "matmul", lambda a, b: right(a, b) * np.float32(1.0005))
    assert check("matmul", "tf32")[0]["fault"] == "" and check("matmul")[0]["fault"] != ""


def test_a_kernel_that_gives_other_bits_each_time_is_reported(monkeypatch):
    right, calls = cpu.bias_grad, []

    def shaky(x):
        calls.append(0)
        return right(x) * np.float32(1 + 1e-7 * (len(calls) % 2))

    monkeypatch.setattr(cpu, "bias_grad", shaky)
    assert check("bias_grad")[0]["fault"] == "two runs on the same data give different bits"


@pytest.mark.parametrize(
    ("got", "truth", "norm"),
    [
        ([3.0, 4.5], [3.0, 4.0], 0.1),
        ([0.0], [0.0], 0.0),
        ([math.nan], [1.0], math.inf),
        ([1.0, 1.0], [1.0], math.inf),
        ([1, 2], [1, 2], 0.0),
        ([1, 3], [1, 2], math.inf),
    ],
)
def test_relative_norm(got, truth, norm):
    from benchmarks.gpu.correctness import relative_norm

    assert relative_norm(np.array(got), np.array(truth)) == pytest.approx(norm)


def test_every_kernel_is_checked_and_products_twice():
    from benchmarks.gpu.correctness import PRODUCTS, names

    known = set(kernels.__all__) - {"Window", "precision", "room", "use"}
    assert {name for name, precision in names() if precision == "fp32"} == known
    assert {name for name, precision in names() if precision == "tf32"} == set(PRODUCTS)
    assert set(PRODUCTS) <= known


def test_training_is_checked_in_every_way(tmp_path, monkeypatch):
    from benchmarks.gpu import correctness
    from benchmarks.gpu.device import Cpu
    from benchmarks.nets import NETS, write_weights

    write_weights(NETS["a"], tmp_path / "a.npz")
    monkeypatch.setitem(correctness.STEP_BATCH, "a", 2)
    rows = correctness.check_training(Cpu(), "a", str(tmp_path / "a.npz"))
    assert [row["fault"] for row in rows] == [""] * 7
    assert [(row["how"], row["precision"]) for row in rows[:4]] == [
        ("CPU, float32", "fp32"), ("eager", "fp32"), ("graph", "fp32"), ("graph of 20", "fp32"),
    ]  # fmt: skip
    assert max(row["error"] for row in rows) < 1e-5


@pytest.mark.parametrize("change", ["losses", "weights", "crash"])
def test_a_graph_that_computes_something_else_is_reported(change):
    from benchmarks.gpu.correctness import Trained, _ways

    weights, losses = [np.ones(3, np.float32)], [2.3] * 20

    def run(how):
        if how != "graph" or change == "none":
            return Trained(losses, weights)
        if change == "crash":
            raise RuntimeError("the stream is capturing")
        return Trained([2.2] * 20, weights) if change == "losses" else Trained(losses, [weights[0] + 1e-7])

    faults = {row["how"]: row["fault"] for row in _ways("a", "fp32", losses, run)}
    assert faults["eager"] == faults["graph of 20"] == ""
    assert {
        "losses": "losses differ by 4.3e-02, more than 1e-04",
        "weights": "the weights are not those of single steps, bit for bit",
        "crash": "RuntimeError: the stream is capturing",
    }[change] == faults["graph"]


def test_what_is_wrong_makes_the_run_fail_and_all_times_invalid(monkeypatch, tmp_path, capsys):
    from benchmarks.gpu import bench

    def wrong(*given):
        return made_up_gpu.correctness("relative norm of the error 1.0e+00, more than 1e-05")

    monkeypatch.setattr(bench.correctness, "measure", wrong)
    assert main(*REHEARSAL, "--out", tmp_path, "--only", "correctness") == 1
    fault = "conv (tiny), fp32: relative norm of the error 1.0e+00, more than 1e-05"
    assert kept(tmp_path)["faults"] == [fault]
    out = capsys.readouterr().out
    assert fault in out and "1 results are wrong: no time counts." in out


# --- bars, from made-up figures ---


def verdicts(result):
    from benchmarks.gpu.bars import judge

    return {(b["bar"], b["net"], b["batch"]): (b["ratio"], b["verdict"]) for b in judge(result)}


def test_a_made_up_result_is_in_order_and_every_table_can_be_made():
    from benchmarks.gpu.bars import judge
    from benchmarks.gpu.schema import problems
    from benchmarks.gpu.tables import heading, tables_of
    from benchmarks.report import document

    result = made_up_gpu.result()
    result["bars"] = judge(result)
    assert problems(result) == []
    text = document(heading(result), tables_of(result))
    assert "9 bars are reached, 1 are missed." in text
    assert (
        "| tinynet-gpu       | graph         | fp32      | 1,000,000 (900,000-1,100,000) |  128 us |" in text
    )
    assert "jax-gpu is not installed: pip install jax" in text
    assert text.rindex("## The bars") > max(
        text.rindex(f"## {t}") for t in ("Kernels on", "Net (b)", "MNIST")
    )


def test_ratios_are_of_medians_against_the_peers_fastest_way():
    found = verdicts(made_up_gpu.result())
    assert found["torch eager", "a", 128] == (pytest.approx(5.0), "MISS")  # channels last: 200,000
    assert found["torch eager", "b", 128] == (pytest.approx(5.0), "PASS")
    assert found["torch, whole step as a graph", "a", 128] == (pytest.approx(10.0), "PASS")
    assert found["jax jit / scan", "a", 128] == (None, "jax-gpu not measured")
    assert found["99 % of MNIST, s of training", "b", 256] == (0.2, "PASS")


def test_a_peer_with_a_fault_does_not_count_and_is_named():
    result = made_up_gpu.result()
    rows = result["sections"]["training"]["tasks"][0]["rows"]
    next(row for row in rows if row["how"] == "channels-last")["fault"] = "its first losses differ"
    assert verdicts(result)["torch eager", "a", 128] == (pytest.approx(10.0), "PASS")
    next(row for row in rows if row["how"] == "compiled")["fault"] = "torch-compile-gpu took longer than 60 s"
    assert verdicts(result)["torch.compile(max-autotune)", "a", 128] == (None, "torch-compile-gpu failed")


@pytest.mark.parametrize(
    ("ratio", "least", "says"),
    [(2.0, 2.0, "PASS"), (1.99, 2.0, "MISS"), (0.5, None, "reported"), (9.0, 8.0, "PASS")],
)
def test_verdicts(ratio, least, says):
    from benchmarks.gpu.bars import verdict

    assert verdict(ratio, least) == says


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"faults": ["conv is wrong"]}, "invalid"),
        ({"settings": {"quick": True, "device": "cuda"}}, "a trial"),
        ({"settings": {"quick": False, "device": "cpu"}}, "a rehearsal"),
    ],
)
def test_a_run_that_is_no_measurement_passes_no_bar(changes, says):
    found = verdicts(made_up_gpu.result(**changes))
    assert {verdict for ratio, verdict in found.values() if ratio is not None} == {says}


def test_bars_without_any_section():
    found = verdicts(made_up_gpu.result(sections={}))
    assert {ratio for ratio, _ in found.values()} == {None}
    assert found["99 % of MNIST, s of training", "b", None] == (None, "not measured")


def test_seeds_that_never_arrive_count_in_the_median():
    from benchmarks.gpu.accuracy import median

    def run(*shares):
        epochs = [{"accuracy": share, "seconds": 0.1 * (i + 1)} for i, share in enumerate(shares)]
        return {"seed": 0, "precision": "tf32", "epochs": epochs}

    runs = [run(0.98, 0.991), run(0.99, 0.98), run(0.98, 0.98)]
    assert median(runs, "tf32") == {"seconds": 0.2, "epochs": 2, "seeds": 2, "of": 3}
    assert median([run(0.98), run(0.99)], "tf32") is None and median(runs, "fp32") is None


def test_training_until_digits_are_read(shared_data):
    from benchmarks.gpu import accuracy
    from benchmarks.gpu.device import Cpu

    run = accuracy.train(Cpu(), str(shared_data / "mnist"), seed=1, precision="fp32", epochs=2, samples=512)
    assert len(run["epochs"]) == 2 and run["epochs"][1]["accuracy"] > 0.2  # after 4 batches; chance is 0.1
    assert 0 < run["epochs"][0]["seconds"] < run["epochs"][1]["seconds"]


def test_crossover_is_where_the_gpu_stays_ahead():
    from benchmarks.gpu.kernels import crossover

    def rows(cpu, gpu):
        spreads = [(made_up_gpu.spread(c), made_up_gpu.spread(g)) for c, g in zip(cpu, gpu)]
        return [{"kernel": "k", "batch": 4**i, "cpu": c, "gpu": g} for i, (c, g) in enumerate(spreads)]

    assert crossover(rows([1, 2, 3, 4], [2, 2, 2, 2]), "gpu") == {"k": 16}
    assert crossover(rows([3, 1, 3, 4], [2, 2, 2, 2]), "gpu") == {"k": 16}  # ahead at 1, but not for good
    assert crossover(rows([3, 3, 3, 3], [2, 2, 2, 2]), "gpu") == {"k": 1}
    assert crossover(rows([1, 1, 1, 1], [2, 2, 2, 2]), "gpu") == {"k": None}


# --- the schema ---


def broken(*path, value=None):
    """A made-up result in which one thing is replaced, or without ``value`` removed."""
    result = json.loads(json.dumps(made_up_gpu.result()))
    inside = result
    for name in path[:-1]:
        inside = inside[name]
    if value is None:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    return result


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (broken("seconds"), "result: seconds is missing"),
        (broken("finished", value="yes"), "result.finished: 'yes' is not bool"),
        (broken("machine", "cores", value=True), "result.machine.cores: True is not int or float"),
        (broken("sections", "magic", value={}), "sections.magic: {} is not known"),
        (broken("format", value=2), "gpu in format 2, not gpu in format 1"),
        (
            broken("sections", "kernels", "rows", 1, "gpu", "fp32", "called", "host"),
            "fp32.called: host is missing",
        ),
        (broken("sections", "training", "tasks", value={}), "sections.training.tasks: {} is no list"),
        (broken("faults", value=[1]), "result.faults.0: 1 is not str"),
        ([], "result: [] is no dict"),
    ],
)
def test_a_result_that_is_not_in_order_is_found_out(result, says):
    from benchmarks.gpu.schema import problems

    assert any(says in problem for problem in problems(result)), problems(result)


def test_the_results_that_are_kept_are_in_order_and_their_bars_follow_from_them():
    from benchmarks.gpu.bars import judge
    from benchmarks.kept import FOLDER, load

    for path in FOLDER.rglob("*.json"):
        result = load(path).result  # checks the schema of gpu.json
        if result["benchmark"] == "gpu":
            assert result["bars"] == judge(result) and not result["faults"]


# --- the peers compute the same ---


def first_losses(name, how, net, tmp_path):
    from benchmarks import engines
    from benchmarks.gpu.job import Job
    from benchmarks.nets import NETS, read_weights, write_weights

    write_weights(NETS[net], tmp_path / "weights.npz")
    values = read_weights(tmp_path / "weights.npz")
    engine = engines.module_of(name).Engine(Job.make(NETS[net], 2, values, how, few=True, device="cpu"))
    found = []
    while len(found) < 3:
        found += engine.losses(engine.advance())
    return found[:3]


@pytest.mark.parametrize("net", "abc")
def test_torch_computes_the_same(net, tmp_path):
    pytest.importorskip("torch", reason="a peer that is compared with")
    ours = first_losses("tinynet-gpu", "eager", net, tmp_path)
    for how in ("eager", "channels-last"):
        assert first_losses("torch-gpu", how, net, tmp_path) == pytest.approx(ours, rel=1e-4)


@pytest.mark.parametrize("how", ["jit", "scan"])
def test_jax_computes_the_same(how, tmp_path):
    pytest.importorskip("jax", reason="a peer that is compared with")
    ours = first_losses("tinynet-gpu", "eager", "b", tmp_path)
    assert first_losses("jax-gpu", how, "b", tmp_path) == pytest.approx(ours, rel=1e-4)


# --- report ---


def report(capsys, *words) -> str:
    assert main("report", *words) == 0
    return capsys.readouterr().out


def test_what_is_kept_is_shown_sentence_first_and_with_machine_and_date(capsys):
    out = report(capsys)
    assert out.startswith("# Kept results\n\nNumba's kernels are ")
    assert re.search(r"\(\S.*, \d+ cores, 20\d\d-\d\d-\d\d\)", out.partition("##")[0])
    assert "| kernel " in out and "## The bars" in out and "kernels.json |" in out


def test_without_gpu_results_every_cuda_cell_says_so(capsys):
    files = sorted((ROOT / "benchmarks" / "results").glob("*-kernels.json"))
    out = report(capsys, *files[:1])
    rows = [line for line in out.splitlines() if line.startswith("| conv ")]
    assert len(rows) == 2 and all(line.endswith("| not yet measured on a GPU |") for line in rows)
    assert out.count("CUDA kernels are not yet measured on a GPU.") == 1
    bars = out.partition("## The bars")[2].partition("##")[0]
    assert bars.count("not yet measured on a GPU") == 13 and "PASS" not in bars


@pytest.fixture
def made_up_file(tmp_path):
    from benchmarks.gpu.bars import judge

    result = made_up_gpu.result()
    result["bars"] = judge(result)
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps(result))
    return path


def test_gpu_results_fill_the_columns(made_up_file, capsys):
    out = report(capsys, made_up_file)
    assert "On the GPU 9 bars are reached, 1 are missed (made-up GPU, with made-up CPU" in out
    assert "| conv                  | tiny: 1x1 |    1.00 s | 20.0 ms | 1.00 ms | 13.0 us |" in out
    assert "not yet measured" not in out


@pytest.mark.parametrize("changes", [{"faults": ["wrong"]}, {"no_device": "no driver", "card": None}])
def test_a_run_that_measured_nothing_right_is_no_gpu_result(changes, tmp_path, capsys):
    (tmp_path / "gpu.json").write_text(json.dumps(made_up_gpu.result(**changes)))
    assert "CUDA kernels are not yet measured on a GPU." in report(capsys, tmp_path / "gpu.json")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is no JSON: "),
        ("[]", "is no result of python -m benchmarks"),
        ('{"benchmark": "gpu"}', "is no complete result: result: format is missing"),
        (None, "cannot read "),
    ],
)
def test_a_file_that_is_no_result(text, says, tmp_path, capsys):
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SystemExit) as end:
        main("report", path)
    assert end.value.code == 2 and says in capsys.readouterr().err


def test_the_pictures_of_both_machines(made_up_file, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    results = sorted((ROOT / "benchmarks" / "results").glob("*-kernels.json"))
    report(capsys, made_up_file, *results[:1], "--pictures", tmp_path / "pictures")
    drawn = {path.name: path.read_bytes()[:4] for path in (tmp_path / "pictures").iterdir()}
    assert drawn == dict.fromkeys(["roofline-cpu.png", "roofline-gpu.png", "crossover.png"], b"\x89PNG")


def test_rooflines_are_those_of_the_result():
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    from benchmarks.kept_pictures import gpu_roofs

    roofs, points = gpu_roofs(made_up_gpu.result()["sections"])
    assert [(roof.name, roof.flops, roof.bandwidth) for roof in roofs] == [
        ("fp32", 50e12, 4e12), ("tf32", 400e12, 4e12),
    ]  # fmt: skip
    assert points[0].intensity == pytest.approx(100) and points[0].rate == pytest.approx(1e9 / 3e-5)


def test_without_matplotlib_there_are_tables_and_the_command_that_helps(
    monkeypatch, made_up_file, capsys, tmp_path
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for name in ("kept_pictures", "curve_pictures"):
        monkeypatch.delitem(sys.modules, f"benchmarks.{name}", raising=False)
    assert main("report", made_up_file, "--pictures", tmp_path / "pictures") == 0
    assert "pip install matplotlib" in capsys.readouterr().err
