"""Small data and small models that the training tests share."""

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn
from tinynet.training import Trainer


@pytest.fixture
def data():
    """96 rows of 6 numbers; the class (0, 1, 2) is where the largest of the first three stands."""
    x = np.random.default_rng(1).normal(size=(96, 6)).astype(np.float32)
    return x, x[:, :3].argmax(1)


@pytest.fixture
def make_trainer():
    """A function that seeds, and makes a trainer of a small net with dropout and batch normalisation."""

    def make(optimizer="adam", loss="cross_entropy", metrics=("accuracy",), lr=0.01, seed=3):
        tn.seed(seed)
        model = nn.Sequential(nn.Dense(8, activation="relu"), nn.BatchNorm(), nn.Dropout(0.2), nn.Dense(3))
        return Trainer.compiled(model, optimizer, loss, metrics, lr=lr)

    return make


@pytest.fixture
def same_weights():
    """A function that compares two models, or state dicts, bit for bit."""

    def same(a, b):
        a, b = (s if isinstance(s, dict) else s.state_dict() for s in (a, b))
        return {k: bits(v) for k, v in a.items()} == {k: bits(v) for k, v in b.items()}

    return same


@pytest.fixture(scope="session")
def state_of():
    """A function that lists everything a training leaves behind."""

    def state(trainer):
        return {
            **{f"model.{k}": v for k, v in trainer.model.state_dict().items()},
            **{f"optimizer.{k}": np.asarray(v) for k, v in trainer.optimizer.state_dict().items()},
            "random": str(tn.random.get_state()),
            "history": str(trainer.history.epochs),
        }

    return state


def bits(value):
    array = np.asarray(value)
    return array.shape, array.dtype, array.tobytes()
