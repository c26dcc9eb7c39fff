"""Twins in PyTorch of the networks in tinynet.models, and how weights get from there to here."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from benchmarks.nets import Net


def make(net: Net) -> nn.Module:
    """The twin of a network; of (a) for any side of the image."""
    return small_cnn(net.sample[0]) if net.name == "a" else NETS[net.name]()


def small_cnn(side: int = 28) -> nn.Module:
    """Network (a)."""
    pixels = (side // 2 // 2) ** 2
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * pixels, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def wide_cnn() -> nn.Module:
    """Network (b)."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25),
        nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10),
    )  # fmt: skip


class RowRNN(nn.Module):
    """Network (d)."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(28, 128, batch_first=True)
        self.out = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Rows (N, 28, 28) to logits (N, 10), from the last state."""
        states, _ = self.rnn(x)
        return self.out(states[:, -1])


class UNet(nn.Module):
    """Network (c): three levels of 16, 32 and 64 filters, 128 at the bottom; transposed convolutions up."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.down = nn.ModuleList([_double_conv(1, 16), _double_conv(16, 32), _double_conv(32, 64)])
        self.bottom = _double_conv(64, 128)
        self.up = nn.ModuleList([nn.ConvTranspose2d(2 * f, f, 2, stride=2) for f in (64, 32, 16)])
        self.merge = nn.ModuleList([_double_conv(2 * f, f) for f in (64, 32, 16)])
        self.out = nn.Conv2d(16, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (N, 1, H, W) to logits (N, 2, H, W)."""
        skips = []
        for block in self.down:
            skips.append(block(x))
            x = self.pool(skips[-1])
        x = self.bottom(x)
        for up, merge, skip in zip(self.up, self.merge, reversed(skips)):
            x = merge(torch.cat([skip, up(x)], dim=1))
        return self.out(x)


def _double_conv(channels: int, filters: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, filters, 3, padding="same", bias=False), nn.BatchNorm2d(filters), nn.ReLU(),
        nn.Conv2d(filters, filters, 3, padding="same", bias=False), nn.BatchNorm2d(filters), nn.ReLU(),
    )  # fmt: skip


NETS = {"b": wide_cnn, "c": UNet, "d": RowRNN}


def copy_weights(model: nn.Module, arrays: list[np.ndarray]) -> None:
    """Fill the model's parameters, in their order, with arrays whose features stand last."""
    remaining = iter(arrays)
    channels = 0  # of the image that is flattened before the first Dense layer
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                channels = layer.out_channels
            for parameter, values in zip(
                layer.parameters(recurse=False), _turned(layer, remaining, channels)
            ):
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(values)))
    if next(remaining, None) is not None:
        raise ValueError(f"{type(model).__name__} has fewer parameters than the network it is a twin of")


def _turned(layer: nn.Module, arrays: Iterator[np.ndarray], channels: int) -> Iterator[np.ndarray]:
    """The layer's arrays in PyTorch's order of axes."""
    if isinstance(layer, nn.Conv2d):
        yield next(arrays).transpose(3, 2, 0, 1)
    elif isinstance(layer, nn.ConvTranspose2d):
        yield next(arrays).transpose(2, 3, 0, 1)
    elif isinstance(layer, nn.Linear):
        yield _channels_first_rows(next(arrays), channels).T
    elif isinstance(layer, nn.RNN):
        yield from _recurrent(layer, arrays)
        return
    yield from arrays  # what is left needs no turning; zip takes as many as the layer has


def _channels_first_rows(weight: np.ndarray, channels: int) -> np.ndarray:
    """Rows of a Dense weight in the order in which PyTorch flattens: channel, height, width."""
    side = round((len(weight) / channels) ** 0.5) if channels else 0
    if side * side * channels != len(weight):
        return weight  # not behind an image
    return weight.reshape(side, side, channels, -1).transpose(2, 0, 1, 3).reshape(weight.shape)


def _recurrent(layer: nn.RNN, arrays: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """PyTorch has two biases, which are added up: the second stays at 0 and out of the optimiser."""
    yield next(arrays).T
    yield next(arrays).T
    yield next(arrays)
    layer.bias_hh_l0.requires_grad_(False)
    yield np.zeros(layer.hidden_size, np.float32)
