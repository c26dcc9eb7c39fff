"""The operations of tinynet: every function takes and returns Tensors and knows its own gradient.

Arrays and Python numbers are welcome where a Tensor stands. Features are the last axis everywhere.
"""

from tinynet.ops.activation import (
    elu,
    gelu,
    leaky_relu,
    log_softmax,
    prelu,
    relu,
    sigmoid,
    softmax,
    softplus,
    tanh,
)
from tinynet.ops.choice import clip, maximum, minimum, where
from tinynet.ops.conv import conv, conv_transpose
from tinynet.ops.convert import astype, to_device
from tinynet.ops.dense import dense
from tinynet.ops.dropout import dropout
from tinynet.ops.index import getitem, pad
from tinynet.ops.loss import bce_with_logits, cross_entropy, dice, focal, mse
from tinynet.ops.math import abs, add, div, exp, log, matmul, mul, neg, pow, sqrt, sub
from tinynet.ops.norm import batch_norm, group_norm, layer_norm
from tinynet.ops.pool import avg_pool, global_avg_pool, global_max_pool, max_pool, upsample
from tinynet.ops.recurrent import gru, lstm, rnn
from tinynet.ops.reduce import logsumexp, max, mean, min, sum, var
from tinynet.ops.shape import (
    broadcast_to,
    concat,
    expand_dims,
    flatten,
    flip,
    reshape,
    split,
    squeeze,
    stack,
    transpose,
)

__all__ = [
    "abs", "add", "astype", "avg_pool", "batch_norm", "bce_with_logits", "broadcast_to", "clip", "concat",
    "conv", "conv_transpose", "cross_entropy", "dense", "dice", "div", "dropout", "elu", "exp",
    "expand_dims", "flatten", "flip", "focal", "gelu", "getitem", "global_avg_pool", "global_max_pool",
    "group_norm", "gru", "layer_norm", "leaky_relu", "log", "log_softmax", "logsumexp", "lstm", "matmul",
    "max", "max_pool", "maximum", "mean", "min", "minimum", "mse", "mul", "neg", "pad", "pow", "prelu",
    "relu", "reshape", "rnn", "sigmoid", "softmax", "softplus", "split", "sqrt", "squeeze", "stack", "sub",
    "sum", "tanh", "to_device", "transpose", "upsample", "var", "where",
]  # fmt: skip
