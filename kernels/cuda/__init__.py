"""The room of GPU arrays, chosen by itself for CuPy arrays.

As long as there are no CUDA kernels here, GPU arrays run through the whole-array room, which works for
CuPy as it does for NumPy. This file is the seam: a kernel written in CUDA takes over when its name is
imported from a module of this folder instead, one name at a time, and nothing else changes.
"""

from tinynet.kernels.arrays import (
    adam_step,
    avg_pool,
    avg_pool_backward,
    batch_norm,
    batch_norm_backward,
    bias_grad,
    conv,
    conv_input_grad,
    conv_weight_grad,
    dropout,
    erf,
    gru,
    gru_backward,
    layer_norm,
    layer_norm_backward,
    lstm,
    lstm_backward,
    matmul,
    max_pool,
    max_pool_backward,
    rnn,
    rnn_backward,
    sgd_step,
    softmax_cross_entropy,
)

__all__ = [
    "adam_step", "avg_pool", "avg_pool_backward", "batch_norm", "batch_norm_backward", "bias_grad", "conv",
    "conv_input_grad", "conv_weight_grad", "dropout", "erf", "gru", "gru_backward", "layer_norm",
    "layer_norm_backward", "lstm", "lstm_backward", "matmul", "max_pool", "max_pool_backward", "rnn",
    "rnn_backward", "sgd_step", "softmax_cross_entropy",
]  # fmt: skip
