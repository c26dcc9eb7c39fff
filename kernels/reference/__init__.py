"""The definition of every kernel in plain loops: short, slow, never clever. NumPy arrays only.

All sums run in float64 and results have the dtype of the inputs. The other rooms are right when they agree
with this one.
"""

from tinynet.kernels.reference.conv import bias_grad, conv, conv_input_grad, conv_weight_grad, matmul
from tinynet.kernels.reference.elementwise import adam_step, dropout, erf, sgd_step, softmax_cross_entropy
from tinynet.kernels.reference.norm import batch_norm, batch_norm_backward, layer_norm, layer_norm_backward
from tinynet.kernels.reference.pool import avg_pool, avg_pool_backward, max_pool, max_pool_backward
from tinynet.kernels.reference.recurrent import gru, gru_backward, lstm, lstm_backward, rnn, rnn_backward

__all__ = [
    "adam_step", "avg_pool", "avg_pool_backward", "batch_norm", "batch_norm_backward", "bias_grad", "conv",
    "conv_input_grad", "conv_weight_grad", "dropout", "erf", "gru", "gru_backward", "layer_norm",
    "layer_norm_backward", "lstm", "lstm_backward", "matmul", "max_pool", "max_pool_backward", "rnn",
    "rnn_backward", "sgd_step", "softmax_cross_entropy",
]  # fmt: skip
