"""Ready-made models."""

from __future__ import annotations

from typing import Any

from tinynet.errors import did_you_mean
from tinynet.models.digits import RowRNN, row_rnn, small_cnn, wide_cnn
from tinynet.models.unet import UNet

__all__ = ["RowRNN", "UNet", "row_rnn", "small_cnn", "wide_cnn"]


def __getattr__(name: str) -> Any:
    raise AttributeError(f"tinynet.models has no {name!r}. {did_you_mean(name, __all__)}")
