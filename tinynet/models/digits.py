"""Small nets for pictures of digits, 28 x 28 x 1; they return logits (N, classes)."""

from __future__ import annotations

from tinynet import ops
from tinynet.errors import ShapeError, by_x
from tinynet.nn import Conv2D, Dense, Dropout, Flatten, MaxPool2D, Module, ReLU, Sequential, SimpleRNN
from tinynet.tensor import Tensor


def small_cnn(classes: int = 10) -> Sequential:
    """Two convolutions of 8 and 16 filters, each with pooling, and two dense layers."""
    return Sequential(
        Conv2D(8, 3, padding="same"),
        ReLU(),
        MaxPool2D(2),
        Conv2D(16, 3, padding="same"),
        ReLU(),
        MaxPool2D(2),
        Flatten(),
        Dense(128),
        ReLU(),
        Dense(classes),
    )


def wide_cnn(classes: int = 10) -> Sequential:
    """Two convolutions of 32 and 64 filters, one pooling, dropout, and two dense layers."""
    return Sequential(
        Conv2D(32, 3),
        ReLU(),
        Conv2D(64, 3),
        ReLU(),
        MaxPool2D(2),
        Dropout(0.25),
        Flatten(),
        Dense(128),
        ReLU(),
        Dropout(0.5),
        Dense(classes),
    )


class RowRNN(Module):
    """A recurrent net that reads grey images row by row: (N, T, F) or (N, T, F, 1) to logits (N, classes)."""

    def __init__(self, units: int = 128, classes: int = 10):
        self.units, self.classes = units, classes
        self.rnn = SimpleRNN(units)
        self.out = Dense(classes)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 4 and x.shape[-1] == 1:
            x = ops.squeeze(x, -1)
        if x.ndim != 3:
            raise ShapeError(f"got {by_x(x.shape)}, but needs grey images (N, rows, columns)")
        return self.out(self.rnn(x))


def row_rnn(units: int = 128, classes: int = 10) -> RowRNN:
    """A SimpleRNN of 128 units over the 28 rows of an image, then a dense layer: 21,386 parameters."""
    return RowRNN(units, classes)
