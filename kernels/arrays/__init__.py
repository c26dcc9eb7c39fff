"""Kernels as whole-array operations, for NumPy and CuPy alike and for any floating dtype.

The path to read: a convolution is im2col and a matrix product, a pool is a loop over the taps of its
window, a recurrent layer a loop over time with the whole batch at once.
"""

from tinynet.kernels.arrays.conv import col2im, conv, conv_input_grad, conv_weight_grad, im2col
from tinynet.kernels.arrays.dense import bias_grad, matmul
from tinynet.kernels.arrays.elementwise import dropout, erf
from tinynet.kernels.arrays.gather import gather, gather_warped
from tinynet.kernels.arrays.loss import (
    add_scaled,
    scaled_sum,
    softmax_cross_entropy,
    softmax_cross_entropy_grad,
)
from tinynet.kernels.arrays.norm import batch_norm, batch_norm_backward, layer_norm, layer_norm_backward
from tinynet.kernels.arrays.optimizer import adam_step, limit_norm, sgd_step, total_norm
from tinynet.kernels.arrays.pool import avg_pool, avg_pool_backward, max_pool, max_pool_backward
from tinynet.kernels.arrays.recurrent import gru, gru_backward, lstm, lstm_backward, rnn, rnn_backward

__all__ = [
    "adam_step", "add_scaled", "avg_pool", "avg_pool_backward", "batch_norm", "batch_norm_backward",
    "bias_grad", "col2im", "conv", "conv_input_grad", "conv_weight_grad", "dropout", "erf", "gather",
    "gather_warped", "gru", "gru_backward", "im2col", "layer_norm", "layer_norm_backward", "limit_norm",
    "lstm", "lstm_backward", "matmul", "max_pool", "max_pool_backward", "rnn", "rnn_backward",
    "scaled_sum", "sgd_step", "softmax_cross_entropy", "softmax_cross_entropy_grad", "total_norm",
]  # fmt: skip
