"""Numba kernels for NumPy arrays in float32; whatever they do not cover goes to the whole-array room."""

from tinynet.kernels.arrays import *
from tinynet.kernels.cpu.conv import (
    conv,
    conv_block,
    conv_block_backward,
    conv_weight_grad,
)
from tinynet.kernels.cpu.conv_transpose import conv_input_grad, conv_transpose
from tinynet.kernels.cpu.dense import dense, dense_backward
from tinynet.kernels.cpu.dropout import dropout
from tinynet.kernels.cpu.elementwise import erf
from tinynet.kernels.cpu.gru import gru, gru_backward
from tinynet.kernels.cpu.loss import softmax_cross_entropy, softmax_cross_entropy_grad
from tinynet.kernels.cpu.lstm import lstm, lstm_backward
from tinynet.kernels.cpu.matmul import bias_grad, matmul
from tinynet.kernels.cpu.norm import (
    batch_norm,
    batch_norm_backward,
    layer_norm,
    layer_norm_backward,
    norm_block,
    norm_block_backward,
    scale_shift,
)
from tinynet.kernels.cpu.optimizer import adam_step, sgd_step
from tinynet.kernels.cpu.pieces import cut, join
from tinynet.kernels.cpu.pool import avg_pool, avg_pool_backward, max_pool, max_pool_backward
from tinynet.kernels.cpu.process import settle
from tinynet.kernels.cpu.recurrent import rnn, rnn_backward

TAKES_LAST_ALONE = True  # see ../recurrent.py

settle()
