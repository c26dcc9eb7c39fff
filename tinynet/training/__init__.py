"""Training: the one loop, its callbacks, checkpoints, and what it reports."""

from __future__ import annotations

from typing import Any

from tinynet.errors import did_you_mean
from tinynet.training.callbacks import (
    Callback,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    JSONLogger,
    LambdaCallback,
    LearningRate,
)
from tinynet.training.checkpoint import load_checkpoint, save_checkpoint
from tinynet.training.history import History, Report
from tinynet.training.interrupt import TrainingInterrupted
from tinynet.training.trainer import Trainer

__all__ = [
    "CSVLogger", "Callback", "Checkpoint", "EarlyStopping", "History", "JSONLogger", "LambdaCallback",
    "LearningRate", "Report", "Trainer", "TrainingInterrupted", "load_checkpoint", "save_checkpoint",
]  # fmt: skip

_ELSEWHERE = {  # names of other packages, and what they are called here
    "ModelCheckpoint": "Checkpoint(path)",
    "LearningRateScheduler": "LearningRate(schedule)",
    "TensorBoard": "JSONLogger(path) or CSVLogger(path)",
    "TerminateOnNaN": "what fit does by itself",
}


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        raise AttributeError(f"tinynet.training has no {name!r}; it is called {_ELSEWHERE[name]}")
    raise AttributeError(f"tinynet.training has no {name!r}. {did_you_mean(name, __all__)}")
