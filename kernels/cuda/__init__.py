"""The room of GPU arrays, chosen by itself for CuPy arrays: CUDA C++ for float32, see README.md beside this.

Arrays of other dtypes go through the whole-array room, which works for CuPy as it does for NumPy.
"""

from tinynet.kernels.cuda.clip import limit_norm, total_norm
from tinynet.kernels.cuda.conv import (
    conv,
    conv_block,
    conv_block_backward,
    conv_input_grad,
    conv_weight_grad,
)
from tinynet.kernels.cuda.dense import bias_grad, dense, dense_backward
from tinynet.kernels.cuda.dropout import dropout
from tinynet.kernels.cuda.elementwise import erf
from tinynet.kernels.cuda.gather import gather, gather_warped
from tinynet.kernels.cuda.loss import (
    add_scaled,
    scaled_sum,
    softmax_cross_entropy,
    softmax_cross_entropy_grad,
)
from tinynet.kernels.cuda.matmul import matmul
from tinynet.kernels.cuda.norm import (
    batch_norm,
    batch_norm_backward,
    layer_norm,
    layer_norm_backward,
    norm_block,
    norm_block_backward,
    scale_shift,
)
from tinynet.kernels.cuda.optimizer import adam_step, sgd_step
from tinynet.kernels.cuda.pool import avg_pool, avg_pool_backward, max_pool, max_pool_backward
from tinynet.kernels.cuda.recurrent import gru, gru_backward, lstm, lstm_backward, rnn, rnn_backward

__all__ = [
    "adam_step", "add_scaled", "avg_pool", "avg_pool_backward", "batch_norm", "batch_norm_backward",
    "bias_grad", "conv", "conv_block", "conv_block_backward", "conv_input_grad", "conv_weight_grad",
    "dense", "dense_backward", "dropout",
    "erf", "gather", "gather_warped", "gru", "gru_backward", "layer_norm", "layer_norm_backward",
    "limit_norm", "lstm", "lstm_backward", "matmul", "max_pool", "max_pool_backward", "norm_block",
    "norm_block_backward", "rnn", "rnn_backward", "scale_shift", "scaled_sum", "sgd_step",
    "softmax_cross_entropy", "softmax_cross_entropy_grad", "total_norm",
]  # fmt: skip
