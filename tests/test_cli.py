"""The command line: every verb, its help, its JSON, its exit codes, and what a user's mistake looks like."""

import json
import shlex
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import tinynet
from tinynet import backend, cli, runs
from tinynet.cli import doctor, main
from tinynet.errors import DataError, DeviceError, NotFiniteError

VERBS = ["doctor", "train", "evaluate", "predict", "summary", "gradcheck", "bench"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder, made by the command line itself."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert main(["train", "mnist", "--samples", "1500", "--epochs", "2", "--out", str(folder)]) == 0
    return folder


def command(capsys, *arguments):
    """Exit code, standard output and error output of a call."""
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as stop:  # argparse
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


# --- help ---


def test_without_a_verb_all_verbs_are_listed(capsys):
    code, out, _ = command(capsys)
    assert code == 2
    assert all(verb in out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example_that_can_be_typed(verb, capsys):
    code, out, _ = command(capsys, verb, "--help")
    assert code == 0
    examples = out.partition("example:\n")[2].splitlines()
    assert examples
    for line in examples:
        name, *arguments = shlex.split(line, comments=True)
        assert name == "tinynet"
        assert cli._parser().parse_args(arguments).run


@pytest.mark.parametrize("what", cli.TRAININGS)
def test_a_training_has_help_of_its_own(what, capsys):
    code, out, _ = command(capsys, "train", what, "--help")
    assert code == 0
    assert out.startswith(f"usage: tinynet train {what}")
    assert "--epochs" in out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["trian"], "invalid choice: 'trian'"),
        (["train", "mnits"], "invalid choice: 'mnits'"),
        (["train", "mnist", "--epochs", "many"], "'many' is no whole number of at least 1"),
        (["evaluate"], "the following arguments are required: RUN"),
        (["predict", "run"], "the following arguments are required: IMAGE"),
    ],
)
def test_wrong_words_exit_with_2(arguments, text, capsys):
    code, _, err = command(capsys, *arguments)
    assert code == 2
    assert text in err


# --- errors ---


def test_a_users_mistake_is_one_line_without_a_traceback(capsys):
    code, out, err = command(capsys, "summary", "no/where")
    assert (code, out) == (2, "")
    assert err == "error: no/where does not exist. A training makes one: tinynet train mnist --out no/where\n"


def test_debug_shows_the_traceback():
    with pytest.raises(tinynet.errors.CheckpointError):
        main(["summary", "no/such/folder", "--debug"])


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (DataError("no such digit"), 2, "error: no such digit\n"),
        (
            PermissionError(13, "Permission denied", "there"),
            2,
            "error: [Errno 13] Permission denied: 'there'\n",
        ),
        (NotFiniteError("the loss is nan"), 1, "error: the loss is nan\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_exit_codes_of_a_program(error, code, text, capsys):
    def body(args):
        raise error

    assert cli.program(body, cli.options("test"), []) == code
    assert capsys.readouterr().err == text


def test_a_fault_of_our_own_keeps_its_traceback():
    def body(args):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cli.program(body, cli.options("test"), [])


def test_the_module_is_a_program_and_returns_the_exit_code():
    done = subprocess.run(
        [sys.executable, "-m", "tinynet", "summary", "nowhere"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: nowhere does not exist")


# --- train, evaluate, summary ---


def test_training_leaves_a_run_folder(run):
    names = {path.name for path in run.iterdir()}
    assert {
        "run.json",
        "weights.safetensors",
        "history.json",
        "checkpoint.safetensors",
        "mistakes.png",
    } <= names


def test_evaluate_prints_figures_and_confusion(run, capsys):
    code, out, _ = command(capsys, "evaluate", run, "--samples", 300)
    assert code == 0
    assert "held-out digits: accuracy " in out
    assert "n = 300" in out
    assert len(out.partition("is\\read")[2].splitlines()) == 11


def test_evaluate_as_json(run, capsys, tmp_path):
    code, _, _ = command(
        capsys, "evaluate", run, "--data", "digits", "--samples", 300, "--json", tmp_path / "e.json"
    )
    facts = json.loads((tmp_path / "e.json").read_text())
    assert code == 0
    assert facts["n"] == np.sum(facts["confusion"]) == 300
    assert facts["accuracy"] == pytest.approx(np.trace(facts["confusion"]) / 300)
    assert facts["loss"] > 0
    expected = runs.evaluate(runs.load_run(run).model, runs.open_data("digits", "test", 300))
    assert facts["accuracy"] == expected["accuracy"]


def test_evaluate_prints_json_alone_for_a_dash(run, capsys):
    _, out, _ = command(capsys, "evaluate", run, "--samples", 50, "--json", "-")
    assert json.loads(out)["n"] == 50


def test_evaluate_on_the_real_set(run, capsys, shared_data):
    folder = shared_data / "mnist"
    code, out, _ = command(capsys, "evaluate", run, "--data", folder, "--samples", 500, "--json", "-")
    assert code == 0
    assert (
        json.loads(out)["accuracy"] > 0.3
    )  # of digits that it never saw the like of, after a second of training


def test_evaluate_on_a_folder_that_is_not_there(run, capsys, tmp_path):
    code, _, err = command(capsys, "evaluate", run, "--data", tmp_path / "x")
    assert code == 2
    assert "t10k-images-idx3-ubyte.gz is not in" in err


def test_json_into_a_missing_folder(run, capsys, tmp_path):
    code, _, err = command(capsys, "summary", run, "--json", tmp_path / "no" / "s.json")
    assert code == 2
    assert "s.json': the folder does not exist" in err


def test_summary(run, capsys):
    code, out, _ = command(capsys, "summary", run)
    assert code == 0
    assert out.startswith("small_cnn\n")
    assert "103,018" in out


def test_summary_as_json(run, capsys):
    _, out, _ = command(capsys, "summary", run, "--json", "-")
    facts = json.loads(out)
    assert facts["parameters"] == 103_018
    assert len(facts["layers"]) == 10


# --- predict ---


@pytest.fixture
def picture(tmp_path):
    """A drawn digit as somebody would scan it: large, dark on white, off the middle. And the digit itself."""
    x, _ = runs.open_data("digits", "test", 5)[:]
    large = np.kron(x[3, ..., 0], np.ones((9, 9)))
    page = np.full((400, 600), 250.0)
    page[30:282, 250:502] -= 220 * large
    Image.fromarray(page.astype(np.uint8)).save(tmp_path / "scan.png")
    return tmp_path / "scan.png", x[3:4]


def test_predict_reads_a_scan_as_the_digit_it_shows(run, capsys, picture):
    path, digit = picture
    code, out, _ = command(capsys, "predict", run, path, "--json", "-")
    (fact,) = json.loads(out)
    expected = runs.predict(runs.load_run(run).model, digit)[0]
    assert code == 0
    assert fact["image"] == str(path)
    assert fact["digit"] == expected.argmax()
    assert sum(fact["probabilities"]) == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(fact["probabilities"], expected, atol=0.1)  # re-scaled, so not the same pixels


def test_predict_prints_ten_probabilities_for_each_picture(run, capsys, picture):
    code, out, _ = command(capsys, "predict", run, picture[0], picture[0])
    head, first, second = out.splitlines()
    assert code == 0
    assert head.split()[:12] == ["image", "digit", *map(str, range(10))]
    assert first == second
    assert sum(map(float, first.split()[2:])) == pytest.approx(100, abs=1)


def test_predict_names_the_picture_that_is_missing(run, capsys, picture):
    code, _, err = command(capsys, "predict", run, picture[0], "missing.png")
    assert (code, err) == (2, "error: there is no file missing.png\n")


def test_predict_names_the_picture_that_is_blank(run, capsys, tmp_path):
    Image.new("L", (40, 40), 255).save(tmp_path / "blank.png")
    code, _, err = command(capsys, "predict", run, tmp_path / "blank.png")
    assert code == 2
    assert err.startswith(f"error: {tmp_path / 'blank.png'}: the picture is blank")


def test_predict_names_the_file_that_is_no_picture(run, capsys, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    code, _, err = command(capsys, "predict", run, tmp_path / "text.png")
    assert code == 2
    assert err.startswith(f"error: cannot read {tmp_path / 'text.png'} as a picture")


# --- gradcheck ---


def test_gradcheck_of_one_operation_shows_its_table(capsys):
    code, out, _ = command(capsys, "gradcheck", "conv")
    assert code == 0
    assert out.startswith("ok       conv")
    assert "analytic" in out
    assert out.endswith("1 of 1 gradients agree\n")


def test_gradcheck_of_all_operations(capsys):
    from tinynet.ops.cases import gradcheck_cases

    code, out, _ = command(capsys, "gradcheck", "all", "--json", "-")
    assert code == 0
    assert json.loads(out).keys() == gradcheck_cases.keys()


def test_a_wrong_gradient_exits_with_1(capsys, monkeypatch):
    from tinynet.ops.cases import gradcheck_cases

    class Wrong(tinynet.Op):
        def forward(self, x):
            return 3 * x

        def backward(self, grad):
            return 2 * grad

    monkeypatch.setitem(gradcheck_cases, "relu", lambda: (Wrong.apply, [np.ones(3)]))
    code, out, _ = command(capsys, "gradcheck", "relu")
    assert code == 1
    assert "DIFFERS  relu" in out
    assert "0 of 1 gradients agree" in out


def test_gradcheck_of_a_name_that_is_no_operation(capsys):
    code, _, err = command(capsys, "gradcheck", "rleu")
    assert code == 2
    assert err.startswith("error: unknown operation 'rleu'. Did you mean 'relu'")


# --- bench ---


def test_bench_hands_over_to_the_repository(capfd):
    assert main(["bench", "nothing-of-that-name"]) == 2
    assert "benchmarks" in capfd.readouterr().err


def test_bench_without_the_repository_says_where_it_is(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(tinynet, "__file__", str(tmp_path / "tinynet" / "__init__.py"))
    code, _, err = command(capsys, "bench", "train")
    assert code == 2
    assert "no part of the installed package: run python -m benchmarks in a clone" in err


# --- doctor ---


def test_the_doctor_has_a_line_for_everything(capsys):
    code, out, _ = command(capsys, "doctor")
    lines = out.splitlines()
    assert code == 0
    assert [line[9:23].strip() for line in lines] == list(doctor._LOOKS)
    assert {line.split()[0] for line in lines} <= {"ok", "missing"}


def test_the_doctor_as_json(capsys):
    _, out, _ = command(capsys, "doctor", "--json", "-")
    findings = {f["name"]: f for f in json.loads(out)}
    assert findings["Numba"]["state"] == "ok"
    assert all(f["advice"] for f in findings.values() if f["state"] == "missing")


def findings(capsys):
    """What the doctor finds, by name: state, text, advice."""
    code, out, _ = command(capsys, "doctor", "--json", "-")
    return code, {f["name"]: (f["state"], f["text"], f["advice"]) for f in json.loads(out)}


@pytest.fixture
def cupy(monkeypatch):
    """A machine with CuPy and one card, as far as the doctor looks."""
    cards = [{"name": b"NVIDIA Made-up", "major": 9, "minor": 0}]
    runtime = SimpleNamespace(getDeviceCount=lambda: 1, getDeviceProperties=cards.__getitem__)
    fake = SimpleNamespace(__version__="14.2.0", cuda=SimpleNamespace(runtime=runtime))
    monkeypatch.setattr(backend, "cupy_packages", lambda: ["cupy-cuda13x"])
    monkeypatch.setattr(backend, "import_cupy", lambda: fake)
    monkeypatch.setattr(backend, "require_device", lambda cupy: None)
    monkeypatch.setattr(backend, "require_library", lambda cupy, library: None)
    monkeypatch.setattr(backend, "gpu_memory", lambda: (3 << 30, 4 << 30))
    monkeypatch.setattr(doctor, "_driver_version", lambda: 13010)


def refuse(text):
    def raise_it(*given):
        raise DeviceError(text)

    return raise_it


def test_the_doctor_describes_the_gpu(capsys, cupy):
    code, found = findings(capsys)
    assert code == 0
    assert found["CuPy"] == ("ok", "cupy-cuda13x 14.2.0", "")
    assert found["GPU driver"] == ("ok", "for CUDA 13.1", "")
    assert found["GPU"] == ("ok", "NVIDIA Made-up (compute capability 9.0)", "")
    assert found["GPU memory"] == ("ok", "3 GiB of 4 GiB are free", "")
    assert found["NVRTC"] == found["cuBLAS"] == ("ok", "found", "")


def test_without_cupy_the_doctor_says_what_to_install(capsys, monkeypatch, cupy):
    monkeypatch.setattr(backend, "cupy_packages", list)
    monkeypatch.setattr(backend, "import_cupy", refuse("a GPU needs CuPy. pip install it"))
    code, found = findings(capsys)
    assert code == 0  # a GPU is no must
    assert found["CuPy"] == ("missing", "only needed for a GPU", "a GPU needs CuPy. pip install it")
    for name in ("GPU", "GPU memory", "NVRTC", "cuBLAS"):
        assert found[name] == ("missing", "needs CuPy", "see CuPy")


def test_without_a_gpu_the_doctor_says_what_stands_in_the_way(capsys, monkeypatch, cupy):
    monkeypatch.setattr(backend, "require_device", refuse("the driver is too old. Install a newer one"))
    monkeypatch.setattr(doctor, "_driver_version", lambda: 0)
    code, found = findings(capsys)
    assert code == 0 and found["CuPy"][0] == found["NVRTC"][0] == "ok"
    assert found["GPU driver"] == ("missing", "no NVIDIA driver is loaded", "nvidia-smi shows what is there")
    assert found["GPU"] == ("missing", "needs a GPU", "the driver is too old. Install a newer one")
    assert found["GPU memory"] == ("missing", "needs a GPU", "see GPU")


def test_a_missing_library_is_told_apart_with_its_command(capsys, monkeypatch, cupy):
    text = "CuPy finds no NVRTC library (libnvrtc.so.13). Install it: pip install nvidia-cuda-nvrtc"
    monkeypatch.setattr(
        backend, "require_library", lambda cupy, name: refuse(text)() if name == "nvrtc" else None
    )
    _, found = findings(capsys)
    state, reason, advice = found["NVRTC"]
    assert (state, reason) == ("missing", "CuPy finds no NVRTC library (libnvrtc.so.13)")
    assert advice == "Install it: pip install nvidia-cuda-nvrtc" and found["cuBLAS"][0] == "ok"


def test_without_a_driver_the_version_is_0(monkeypatch):
    def no_library(name):
        raise OSError(name)

    monkeypatch.setattr(doctor.ctypes, "CDLL", no_library)
    assert doctor._driver_version() == 0


def test_without_numba_the_doctor_exits_with_1_and_says_what_to_do(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    code, out, _ = command(capsys, "doctor")
    assert code == 1
    line = next(line for line in out.splitlines() if " Numba " in line)
    assert line.startswith("broken")
    assert line.endswith("pip install numba")


def test_a_look_that_fails_is_a_finding(capsys, monkeypatch):
    monkeypatch.setitem(doctor._LOOKS, "NumPy", lambda name: 1 / 0)
    code, out, _ = command(capsys, "doctor")
    assert code == 1
    assert "broken   NumPy          ZeroDivisionError: division by zero" in out


def test_a_cache_folder_that_cannot_be_written_is_found(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    code, out, _ = command(capsys, "doctor")
    assert code == 0
    assert f"missing  cache folder   {tmp_path / 'file' / 'tinynet'} cannot be written" in out


def test_the_doctor_counts_mnist(capsys, monkeypatch, tmp_path, shared_data):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "tinynet").mkdir()
    (tmp_path / "tinynet" / "mnist").symlink_to(shared_data / "mnist")
    _, out, _ = command(capsys, "doctor")
    assert "ok       MNIST          60,000 and 10,000 digits" in out


def test_the_doctor_quotes_what_is_wrong_with_mnist(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "tinynet" / "mnist").mkdir(parents=True)
    _, out, _ = command(capsys, "doctor")
    assert "missing  MNIST          train-images-idx3-ubyte.gz is not in" in out


def test_precompile_runs_every_net_once(capsys):
    code, out, _ = command(capsys, "doctor", "--precompile")
    assert code == 0
    assert "ok       precompile     kernels of 3 nets are compiled" in out
