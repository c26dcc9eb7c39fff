"""Training: the one loop, its callbacks, checkpoints, and what it reports."""

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
