"""Layers, losses and initialisers. Features come last everywhere; input sizes are found from the data."""

from __future__ import annotations

from typing import Any

from tinynet.errors import did_you_mean
from tinynet.nn import init, losses
from tinynet.nn.activation import ELU, GELU, LeakyReLU, PReLU, ReLU, Sigmoid, Softmax, Softplus, Tanh
from tinynet.nn.containers import Flatten, Sequential
from tinynet.nn.conv import (
    Conv1D,
    Conv2D,
    Conv3D,
    ConvTranspose1D,
    ConvTranspose2D,
    ConvTranspose3D,
    Upsample1D,
    Upsample2D,
    Upsample3D,
)
from tinynet.nn.dense import Dense
from tinynet.nn.dropout import Dropout
from tinynet.nn.losses import MSE, BCEWithLogits, CrossEntropy, Dice, DiceCrossEntropy, Focal
from tinynet.nn.module import HookHandle, Module
from tinynet.nn.norm import BatchNorm, GroupNorm, LayerNorm
from tinynet.nn.parameter import Parameter
from tinynet.nn.pool import (
    AvgPool1D,
    AvgPool2D,
    AvgPool3D,
    GlobalAvgPool1D,
    GlobalAvgPool2D,
    GlobalAvgPool3D,
    GlobalMaxPool1D,
    GlobalMaxPool2D,
    GlobalMaxPool3D,
    MaxPool1D,
    MaxPool2D,
    MaxPool3D,
)
from tinynet.nn.recurrent import GRU, LSTM, SimpleRNN

__all__ = [
    "ELU", "GELU", "GRU", "LSTM", "MSE", "AvgPool1D", "AvgPool2D", "AvgPool3D", "BCEWithLogits",
    "BatchNorm", "Conv1D", "Conv2D", "Conv3D", "ConvTranspose1D", "ConvTranspose2D", "ConvTranspose3D",
    "CrossEntropy", "Dense", "Dice", "DiceCrossEntropy", "Dropout", "Flatten", "Focal", "GlobalAvgPool1D",
    "GlobalAvgPool2D", "GlobalAvgPool3D", "GlobalMaxPool1D", "GlobalMaxPool2D", "GlobalMaxPool3D",
    "GroupNorm", "HookHandle", "LayerNorm", "LeakyReLU", "MaxPool1D", "MaxPool2D", "MaxPool3D", "Module",
    "PReLU", "Parameter", "ReLU", "Sequential", "Sigmoid", "SimpleRNN", "Softmax", "Softplus", "Tanh",
    "Upsample1D", "Upsample2D", "Upsample3D", "init", "losses",
]  # fmt: skip

_ELSEWHERE = {  # names of PyTorch and Keras, and what they are called here
    "Linear": "Dense(units)",
    "LazyLinear": "Dense(units)",
    **{f"Conv{r}d": f"Conv{r}D(filters, kernel_size)" for r in (1, 2, 3)},
    **{f"LazyConv{r}d": f"Conv{r}D(filters, kernel_size)" for r in (1, 2, 3)},
    **{f"ConvTranspose{r}d": f"ConvTranspose{r}D(filters, kernel_size)" for r in (1, 2, 3)},
    **{f"Conv{r}DTranspose": f"ConvTranspose{r}D(filters, kernel_size)" for r in (1, 2, 3)},
    **{f"MaxPool{r}d": f"MaxPool{r}D(size)" for r in (1, 2, 3)},
    **{f"AvgPool{r}d": f"AvgPool{r}D(size)" for r in (1, 2, 3)},
    **{f"MaxPooling{r}D": f"MaxPool{r}D(size)" for r in (1, 2, 3)},
    **{f"AveragePooling{r}D": f"AvgPool{r}D(size)" for r in (1, 2, 3)},
    **{f"AdaptiveAvgPool{r}d": f"GlobalAvgPool{r}D()" for r in (1, 2, 3)},
    **{f"AdaptiveMaxPool{r}d": f"GlobalMaxPool{r}D()" for r in (1, 2, 3)},
    **{f"GlobalAveragePooling{r}D": f"GlobalAvgPool{r}D()" for r in (1, 2, 3)},
    **{f"GlobalMaxPooling{r}D": f"GlobalMaxPool{r}D()" for r in (1, 2, 3)},
    **{f"BatchNorm{r}d": "BatchNorm()" for r in (1, 2, 3)},
    **{f"Dropout{r}d": "Dropout(rate)" for r in (1, 2, 3)},
    **{f"UpSampling{r}D": f"Upsample{r}D(scale)" for r in (1, 2, 3)},
    "Upsample": "Upsample2D(scale)",
    "BatchNormalization": "BatchNorm()",
    "LayerNormalization": "LayerNorm()",
    "GroupNormalization": "GroupNorm(groups)",
    "InstanceNorm2d": "GroupNorm(groups) with one group per feature",
    "RNN": "SimpleRNN(units)",
    "Bidirectional": "SimpleRNN, LSTM or GRU(units, bidirectional=True)",
    "Layer": "Module",
    "Model": "Module",
    "ModuleList": "a plain Python list as an attribute",
    "ModuleDict": "a plain Python dict as an attribute",
    "Activation": 'activation="relu" of a layer, or ReLU()',
    "MSELoss": "MSE()",
    "MeanSquaredError": "MSE()",
    "CrossEntropyLoss": "CrossEntropy()",
    "NLLLoss": "CrossEntropy(), which takes logits",
    "SparseCategoricalCrossentropy": "CrossEntropy(), which takes logits",
    "CategoricalCrossentropy": "CrossEntropy(), which takes logits",
    "BCELoss": "BCEWithLogits(), which takes logits",
    "BCEWithLogitsLoss": "BCEWithLogits()",
    "BinaryCrossentropy": "BCEWithLogits(), which takes logits",
    "DiceLoss": "Dice()",
    "FocalLoss": "Focal()",
}


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        raise AttributeError(f"tinynet.nn has no {name!r}; it is called {_ELSEWHERE[name]}")
    raise AttributeError(f"tinynet.nn has no {name!r}. {did_you_mean(name, __all__)}")
