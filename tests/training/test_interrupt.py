"""Ctrl-C: real signals, to this process and to another one."""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from tinynet import nn
from tinynet.training import Callback, LambdaCallback, Trainer, TrainingInterrupted, load_checkpoint


class PressCtrlC(Callback):
    """Sends the signal after a number of batches (or at once when an epoch's training is over)."""

    def __init__(self, after, times=1):
        self.after, self.times = after, times

    def on_batch_end(self, trainer):
        if trainer.steps == self.after:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(autouse=True)
def handler_comes_back():
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is before
    signal.signal(signal.SIGINT, before)


def test_the_batch_is_finished_and_everything_is_kept(make_trainer, data):
    trainer, told = make_trainer(), []
    press = PressCtrlC(after=5)
    note = LambdaCallback(
        on_batch_end=lambda t: told.append(t.steps), on_fit_end=lambda t: told.append("end")
    )
    with pytest.raises(KeyboardInterrupt) as caught:
        trainer.fit(*data, epochs=9, batch_size=32, callbacks=[press, note], verbose=0)
    assert isinstance(caught.value, TrainingInterrupted)
    assert str(caught.value) == "interrupted in epoch 2 after 2 of 3 batches; the weights are kept"
    assert told == [1, 2, 3, 4, 5, "end"]
    assert len(caught.value.history) == 1 and caught.value.history is trainer.history


def test_the_checkpoint_is_written_and_the_message_says_how_to_go_on(
    make_trainer, data, tmp_path, same_weights
):
    path = tmp_path / "run.safetensors"
    trainer = make_trainer()
    with pytest.raises(TrainingInterrupted, match=r"fit\(\.\.\., resume='.*run\.safetensors'\) goes on"):
        trainer.fit(*data, epochs=9, callbacks=[PressCtrlC(2)], checkpoint=path, verbose=0)
    other = make_trainer(seed=77)
    other.model.build((6,))
    load_checkpoint(path, other)
    assert same_weights(other.model, trainer.model) and (other.epoch, other.batch) == (0, 2)


def test_a_second_ctrl_c_interrupts_at_once(make_trainer, data):
    told = []
    with pytest.raises(KeyboardInterrupt) as caught:
        make_trainer().fit(
            *data,
            callbacks=[PressCtrlC(1, times=2), LambdaCallback(on_batch_end=lambda t: told.append(t.steps))],
            verbose=0,
        )
    assert type(caught.value) is KeyboardInterrupt and told == []


def test_without_ctrl_c_and_after_an_error_the_handler_comes_back_too(make_trainer, data):
    before = signal.getsignal(signal.SIGINT)
    make_trainer().fit(*data, verbose=0)
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(ZeroDivisionError):
        make_trainer().fit(*data, callbacks=[LambdaCallback(on_batch_end=lambda t: 1 // 0)], verbose=0)
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_in_the_last_batch_is_not_swallowed(make_trainer, data):
    trainer = make_trainer()
    with pytest.raises(TrainingInterrupted, match="interrupted after the last epoch; the weights are kept"):
        trainer.fit(*data, epochs=1, batch_size=32, callbacks=[PressCtrlC(3)], verbose=0)
    assert len(trainer.history) == 1


def test_ctrl_c_during_the_last_callbacks_is_not_swallowed(make_trainer, data):
    press = LambdaCallback(on_fit_end=lambda t: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(TrainingInterrupted):
        make_trainer().fit(*data, callbacks=[press], verbose=0)


def test_ctrl_c_in_the_validation_does_not_wait_for_its_end(make_trainer, data):
    seen = []

    class Slow:
        def __len__(self):
            return 96

        def batch(self, indices):
            seen.append(len(indices))
            os.kill(os.getpid(), signal.SIGINT) if len(seen) == 2 else None
            return data[0][indices], data[1][indices]

        def start_epoch(self, epoch):
            pass

    trainer = make_trainer()
    with pytest.raises(TrainingInterrupted, match="in epoch 1 after 12 of 12 batches"):
        trainer.fit(*data, batch_size=8, validation_data=Slow(), verbose=0)
    assert len(seen) == 2 and len(trainer.history) == 0


def test_other_threads_install_no_handler(make_trainer, data):
    trainer, seen = make_trainer(), []
    note = LambdaCallback(on_batch_end=lambda t: seen.append(signal.getsignal(signal.SIGINT)))
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=lambda: trainer.fit(*data, callbacks=[note], verbose=0))
    thread.start()
    thread.join()
    assert len(seen) == 3 and all(handler is before for handler in seen)


def test_a_process_that_ignores_ctrl_c_goes_on_ignoring_it(make_trainer, data):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert len(make_trainer().fit(*data, epochs=2, callbacks=[PressCtrlC(1)], verbose=0)) == 2
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_process_is_interrupted_from_outside(tmp_path):
    """A real Ctrl-C for a program that ends with 130 as shells expect; its checkpoint is whole."""
    program = """
        import sys, numpy as np
        from tinynet import nn
        from tinynet.training import LambdaCallback, Trainer, TrainingInterrupted
        x = np.zeros((64, 2), "float32")
        ready = LambdaCallback(on_epoch_end=lambda t: print("ready", flush=True) if t.epoch == 1 else None)
        trainer = Trainer(nn.Sequential(nn.Dense(2)), "adam", "mse", callbacks=[ready])
        try:
            trainer.fit(x, x, epochs=10**9, verbose=0, checkpoint=sys.argv[1])
        except TrainingInterrupted as stop:
            print(stop)
            sys.exit(130)
    """
    path = tmp_path / "run.safetensors"
    command = [sys.executable, "-c", textwrap.dedent(program), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err and out.startswith("interrupted in epoch")
    assert [p.name for p in tmp_path.iterdir()] == ["run.safetensors"]
    trainer = Trainer(nn.Sequential(nn.Dense(2)).build((2,)), "adam", "mse")
    load_checkpoint(path, trainer)
    assert len(trainer.history) == trainer.epoch >= 1
