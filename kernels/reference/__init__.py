"""The definition of every kernel in plain loops: short, slow, never clever. NumPy arrays only.

All sums run in float64 and results have the dtype of the inputs. The other rooms are right when they agree
with this one.
"""

from tinynet.kernels.reference.conv import bias_grad, conv, conv_input_grad, conv_weight_grad, matmul
from tinynet.kernels.reference.elementwise import (
    adam_step,
    add_scaled,
    dropout,
    erf,
    limit_norm,
    scaled_sum,
    sgd_step,
    softmax_cross_entropy,
    softmax_cross_entropy_grad,
    total_norm,
)
from tinynet.kernels.reference.gather import gather, gather_warped
from tinynet.kernels.reference.norm import batch_norm, batch_norm_backward, layer_norm, layer_norm_backward
from tinynet.kernels.reference.pool import avg_pool, avg_pool_backward, max_pool, max_pool_backward
from tinynet.kernels.reference.recurrent import gru, gru_backward, lstm, lstm_backward, rnn, rnn_backward

__all__ = [
    "adam_step", "add_scaled", "avg_pool", "avg_pool_backward", "batch_norm", "batch_norm_backward",
    "bias_grad", "conv", "conv_input_grad", "conv_weight_grad", "dropout", "erf", "gather",
    "gather_warped", "gru", "gru_backward", "layer_norm", "layer_norm_backward", "limit_norm", "lstm",
    "lstm_backward", "matmul", "max_pool", "max_pool_backward", "rnn", "rnn_backward", "scaled_sum",
    "sgd_step", "softmax_cross_entropy", "softmax_cross_entropy_grad", "total_norm",
]  # fmt: skip
