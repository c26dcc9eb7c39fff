"""The README keeps its word: its code runs, its commands exist, and its map fits the rooms."""

import re
import shlex
from pathlib import Path

import pytest

from tinynet import cli
from tinynet.examples import train_mnist, train_rnn

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text()
FIRST_SCREEN = TEXT.partition("\n## ")[0]

SMALLER = {"60_000": "640", "10_000": "256", "epochs=3": "epochs=1"}  # so that the blocks take a second


def blocks(language: str, text: str = TEXT) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


CODE = blocks("python")


@pytest.mark.parametrize("number", range(len(CODE)))
def test_every_block_of_code_runs_by_itself(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = CODE[number]
    for large, small in SMALLER.items():
        code = code.replace(large, small)
    exec(compile(code, f"README.md, block {number + 1} of Python", "exec"), {"__name__": "__main__"})


def test_there_is_code_to_run_and_every_size_is_known():
    assert len(CODE) >= 6
    assert all(any(large in code for code in CODE) for large in SMALLER)
    assert set(re.findall(r"\b\d+_000\b", "".join(CODE))) <= SMALLER.keys()


def test_the_first_screen_has_all_that_a_newcomer_needs():
    train, test = blocks("sh", FIRST_SCREEN)
    assert train.splitlines() == [
        "python3 -m venv .venv && .venv/bin/pip install -q -e . && .venv/bin/python examples/train_mnist.py"
    ]
    assert test.startswith(
        'python3 -m venv .venv && .venv/bin/pip install -q -e ".[test]" && .venv/bin/python -m pytest'
    )
    assert len(blocks("text", FIRST_SCREEN)) == 1
    assert len(blocks("python", FIRST_SCREEN)[0].splitlines()) == 12


def test_the_output_is_one_that_the_example_prints():
    (output,) = blocks("text", FIRST_SCREEN)
    epochs = train_mnist.options().get_default("epochs")
    lines = re.findall(
        r"^epoch +(\d+)/(\d+)  loss \S+  accuracy \S+  val_loss \S+  val_accuracy \S+  ", output, re.M
    )
    assert lines[-1] == (str(epochs), str(epochs))
    accuracy = re.search(r"^held-out digits: accuracy (\S+) %, loss \S+, n = 10,000$", output, re.MULTILINE)
    assert float(accuracy[1]) >= 97.5


def test_the_commands_have_options_that_exist():
    examples = {"train_mnist.py": train_mnist, "train_rnn.py": train_rnn}
    found = 0
    for line in "".join(blocks("sh")).splitlines():
        for name, example in examples.items():
            if name in line:
                example.options().parse_args(shlex.split(line.partition(name)[2], comments=True))
                found += 1
    assert found >= 4


def test_the_command_line_is_the_one_that_is_described():
    commands = re.findall(r"`(tinynet [^`]+)`", TEXT.partition("## Command line")[2])
    verbs = {cli._parser().parse_args(shlex.split(c)[1:]).run for c in commands}
    assert {"work:train", "work:evaluate", "work:predict", "work:summary", "work:check_gradients"} < verbs
    assert {"work:bench", "doctor:run"} < verbs


def test_the_map_fits_the_rooms():
    rows = re.findall(r"^\| (`.+?) \|", FIRST_SCREEN, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert all((ROOT / name).exists() or (ROOT / "tinynet" / name).exists() for name in named)
    rooms = {p.name for p in (ROOT / "tinynet").iterdir() if p.is_dir() and not p.name.startswith("_")}
    assert rooms <= {Path(name).name for name in named}


def test_the_files_that_are_linked_exist():
    assert all((ROOT / name).exists() for name in re.findall(r"\]\((?!http)([^)#]+)\)", TEXT))


def test_the_tests_of_the_repository_are_run_with_the_command_of_the_readme():
    lines = [line for line in TEXT.splitlines() if re.match(r"python3 -m venv \.venv .*-m pytest", line)]
    assert len(lines) == 1  # .ci/run takes its command from this line
