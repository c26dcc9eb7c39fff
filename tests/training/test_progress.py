"""What fit shows: one line per epoch, a bar on a terminal, or nothing."""

import io
import re
import subprocess
import sys

import numpy as np
import pytest

from tinynet import nn
from tinynet.training import LambdaCallback, Trainer
from tinynet.training.progress import clock, progress

LINE = re.compile(
    r"epoch  ?\d+/(\d+)  loss \d\.\d{4}  accuracy [01]\.\d{4}  val_loss \d\.\d{4}  val_accuracy [01]\.\d{4}"
    r"  [\d,]+ samples/s  \d+\.\d s"
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_exactly_one_line_per_epoch_without_a_terminal(make_trainer, data, capsys):
    make_trainer().fit(*data, epochs=3, validation_data=data)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(LINE.fullmatch(line) for line in lines), lines


def test_silence(make_trainer, data, capsys):
    make_trainer().fit(*data, epochs=2, verbose=0)
    make_trainer().fit(*data, epochs=2, verbose="silent")
    assert capsys.readouterr().out == ""


def test_the_reason_for_stopping_stands_in_the_last_line(make_trainer, data, capsys):
    make_trainer().fit(*data, epochs=9, callbacks=[LambdaCallback(on_epoch_end=lambda t: t.stop("enough"))])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and lines[0].endswith("stopping: enough")


def test_pictures_are_counted_as_images(capsys):
    x, y = np.zeros((8, 4, 4, 1), np.float32), np.zeros(8, int)
    Trainer(nn.Sequential(nn.Flatten(), nn.Dense(2)), "adam", "cross_entropy").fit(x, y)
    assert " images/s" in capsys.readouterr().out


def test_a_terminal_gets_a_bar_with_numbers_speed_and_time_left(make_trainer, data, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    make_trainer().fit(*data, epochs=2, validation_data=data, batch_size=8)
    shown = screen.getvalue()
    assert re.search(r"loss \d\.\d{4}  accuracy [01]\.\d{4}  [\d,]+ samples/s  (-:--|\d+:\d\d) left", shown)
    assert len(LINE.findall(shown)) == 2 and "\x1b[?25h" in shown  # the cursor is visible again


def test_an_error_leaves_the_terminal_in_order(make_trainer, data, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)

    def fail(trainer):
        raise OSError("lamp broken")

    with pytest.raises(OSError, match="lamp broken"):
        make_trainer().fit(*data, callbacks=[LambdaCallback(on_batch_end=fail)])
    shown = screen.getvalue()
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1


def test_the_bar_alone_loads_rich():
    code = (
        "import sys, numpy as np\nfrom tinynet import nn\nfrom tinynet.training import Trainer\n"
        "x = np.zeros((4, 2), 'float32')\n"
        "Trainer(nn.Sequential(nn.Dense(2)), 'adam', 'mse').fit(x, x)\n"
        "print('rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    "verbose, kind", [("bar", "Bar"), ("lines", "Lines"), (0, "Silent"), (False, "Silent")]
)
def test_verbose(verbose, kind):
    assert type(progress(verbose)).__name__ == kind


@pytest.mark.parametrize(
    "seconds, text",
    [(0.2, "0:00"), (7, "0:07"), (754.4, "12:34"), (3723, "1:02:03"), (float("nan"), "-:--")],
)
def test_clock(seconds, text):
    assert clock(seconds) == text
