"""ONNX operators in terms of tinynet's: transpose at the border, rename the attributes, reorder the gates.

``RUN[op_type](inputs, attributes)`` takes NumPy arrays (None for an input left out) and returns the list of
outputs; ``NOT_OFFERED`` stands for an output that tinynet does not have.
"""

import math

import numpy as np

from tinynet import ops
from tinynet.tensor import Tensor

NOT_OFFERED = object()


def last(x):
    """Channels first to features last."""
    return None if x is None else np.ascontiguousarray(np.moveaxis(x, 1, -1))


def first(y):
    """Features last to channels first."""
    y = y.numpy() if isinstance(y, Tensor) else y
    return np.moveaxis(y, -1, 1)


def plain(f):
    """An operator whose inputs and output are used as they are."""
    return lambda inputs, attributes: [f(*inputs, **attributes).numpy()]


def pairs(pads):
    """ONNX pads (all begins, then all ends) as a (before, after) pair per axis."""
    half = len(pads) // 2
    return tuple((int(a), int(b)) for a, b in zip(pads[:half], pads[half:]))


def sliding(attributes, spatial):
    """stride, padding and dilation of a window, from ONNX attributes."""
    size = attributes["kernel_shape"]
    stride = tuple(attributes.get("strides", [1] * len(size)))
    dilation = tuple(attributes.get("dilations", [1] * len(size)))
    padding = pairs(attributes.get("pads", [0] * 2 * len(size)))
    auto = attributes.get("auto_pad", "NOTSET")
    if auto == "VALID":
        padding = "valid"
    elif auto == "SAME_UPPER":
        padding = "same"
    elif auto == "SAME_LOWER":  # the odd pixel goes to the left and the top
        total = [
            max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            for n, s, k, d in zip(spatial, stride, size, dilation)
        ]
        padding = tuple((t - t // 2, t // 2) for t in total)
    return {"stride": stride, "padding": padding, "dilation": dilation}


def conv(inputs, attributes):
    x, w, *b = inputs
    attributes.setdefault("kernel_shape", w.shape[2:])
    w = np.moveaxis(w, (0, 1), (-1, -2))
    y = ops.conv(
        last(x), w, b[0] if b else None, groups=attributes.get("group", 1), **sliding(attributes, x.shape[2:])
    )
    return [first(y)]


def conv_transpose(inputs, attributes):
    x, w, *b = inputs
    attributes.setdefault("kernel_shape", w.shape[2:])
    setting = sliding(attributes, x.shape[2:])
    rank = x.ndim - 2
    extra = attributes.get("output_padding", [0] * rank)
    wanted = attributes.get("output_shape")
    upper = attributes.get("auto_pad") == "SAME_UPPER"
    if wanted is None and attributes.get("auto_pad", "NOTSET").startswith("SAME"):
        wanted = [n * s for n, s in zip(x.shape[2:], setting["stride"])]
    if wanted is not None:
        total = [
            s * (n - 1) + e + (k - 1) * d + 1 - o
            for s, n, e, k, d, o in zip(
                setting["stride"], x.shape[2:], extra, w.shape[2:], setting["dilation"], wanted
            )
        ]
        # what an output shape beyond the full one asks for is output padding
        extra = [e + max(-t, 0) for e, t in zip(extra, total)]
        total = [max(t, 0) for t in total]
        setting["padding"] = tuple((t // 2, t - t // 2) if upper else (t - t // 2, t // 2) for t in total)
    y = ops.conv_transpose(
        last(x), np.moveaxis(w, (0, 1), (-2, -1)), b[0] if b else None, groups=attributes.get("group", 1),
        output_padding=tuple(extra), **setting,
    )  # fmt: skip
    return [first(y)]


def max_pool(inputs, attributes):
    (x,) = inputs
    y = ops.max_pool(
        last(x), tuple(attributes["kernel_shape"]), ceil=bool(attributes.get("ceil_mode", 0)),
        **sliding(attributes, x.shape[2:]),
    )  # fmt: skip
    return [first(y), NOT_OFFERED]


def average_pool(inputs, attributes):
    (x,) = inputs
    y = ops.avg_pool(
        last(x), tuple(attributes["kernel_shape"]), ceil=bool(attributes.get("ceil_mode", 0)),
        count_padding=bool(attributes.get("count_include_pad", 0)), **sliding(attributes, x.shape[2:]),
    )  # fmt: skip
    return [first(y)]


def global_pool(pool):
    def run(inputs, attributes):
        (x,) = inputs
        return [pool(last(x)).numpy().reshape(*x.shape[:2], *[1] * (x.ndim - 2))]

    return run


def batch_norm(inputs, attributes):
    x, scale, shift, mean, var = inputs
    training = bool(attributes.get("training_mode", 0))
    momentum, old = attributes.get("momentum", 0.9), var.copy()
    mean, var = mean.copy(), var.copy()
    y = ops.batch_norm(
        last(x),
        scale,
        shift,
        mean,
        var,
        training=training,
        momentum=momentum,
        eps=attributes.get("epsilon", 1e-5),
    )
    if training:  # ONNX records the population variance, tinynet the unbiased one, as PyTorch does
        n = x.size // x.shape[1]
        var = old * momentum + (var - old * momentum) * (n - 1) / n
    return [first(y), mean, var.astype(x.dtype)][: 3 if training else 1]


def layer_norm(inputs, attributes):
    x, scale, *shift = inputs
    axis = attributes.get("axis", -1) % x.ndim
    features = math.prod(x.shape[axis:])
    shift = shift[0] if shift else np.zeros_like(scale)
    rows = x.reshape(-1, features)
    y = ops.layer_norm(rows, scale.reshape(-1), shift.reshape(-1), eps=attributes.get("epsilon", 1e-5))
    return [y.numpy().reshape(x.shape), NOT_OFFERED, NOT_OFFERED]


def group_norm(inputs, attributes):
    x, scale, shift = inputs
    y = ops.group_norm(last(x), attributes["num_groups"], scale, shift, eps=attributes.get("epsilon", 1e-5))
    return [first(y)]


def instance_norm(inputs, attributes):
    x, scale, shift = inputs
    return [first(ops.group_norm(last(x), x.shape[1], scale, shift, eps=attributes.get("epsilon", 1e-5)))]


def reorder(w, hidden, order):
    """Gates of the last axis in another order."""
    return np.concatenate([w[..., g * hidden : (g + 1) * hidden] for g in order], axis=-1)


class Recurrent:
    """RNN, LSTM and GRU: both directions, either layout; ONNX gate order i o f c and z r h."""

    def __init__(self, kind, order):
        self.kind, self.order = kind, order

    def __call__(self, inputs, attributes):
        x, w, r, b, _, h0, c0, _ = [*inputs, *[None] * (8 - len(inputs))]
        batch_first = attributes.get("layout", 0)
        if not batch_first:  # (T, N, F) to (N, T, F), states (directions, N, U) to (N, directions, U)
            x, h0, c0 = (None if a is None else np.swapaxes(a, 0, 1) for a in (x, h0, c0))
        backward = {"reverse": [True], "bidirectional": [False, True]}.get(
            attributes.get("direction"), [False]
        )
        hs, last_h, last_c = [], [], []
        for d, turned in enumerate(backward):
            states = [None if s is None else np.ascontiguousarray(s[:, d]) for s in (h0, c0)]
            h, c = self.one_direction(
                x[:, ::-1] if turned else x, w[d], r[d], None if b is None else b[d], states
            )
            hs.append(h[:, ::-1] if turned else h)
            last_h.append(h[:, -1])
            last_c.append(None if c is None else c[:, -1])
        return self.outputs(hs, last_h, last_c, batch_first)

    def one_direction(self, x, w, r, b, states):
        hidden = r.shape[-1]
        w, r = (reorder(np.ascontiguousarray(m.T), hidden, self.order) for m in (w, r))
        b = np.zeros(2 * w.shape[-1], x.dtype) if b is None else b
        b_ih, b_hh = (reorder(part, hidden, self.order) for part in np.split(b, 2))
        if self.kind == "RNN":
            return ops.rnn(x, w, r, b_ih + b_hh, states[0]).numpy(), None
        if self.kind == "LSTM":
            return [a.numpy() for a in ops.lstm(x, w, r, b_ih + b_hh, *states)]
        return ops.gru(x, w, r, b_ih, b_hh, states[0]).numpy(), None

    @staticmethod
    def outputs(hs, last_h, last_c, batch_first):
        y, h = np.stack(hs, axis=2), np.stack(last_h, axis=1)  # (N, T, D, U), (N, D, U)
        c = None if last_c[0] is None else np.stack(last_c, axis=1)
        if batch_first:
            return [y, h, c]
        return [y.transpose(1, 2, 0, 3), h.swapaxes(0, 1), None if c is None else c.swapaxes(0, 1)]


def softmax_cross_entropy(inputs, attributes):
    x, labels, *weight = inputs
    loss = ops.cross_entropy(
        last(x), labels, class_weight=weight[0] if weight else None,
        ignore_index=attributes.get("ignore_index"),
        reduction=attributes.get("reduction", "mean"),
    )  # fmt: skip
    return [loss.numpy(), first(ops.log_softmax(last(x)))]


def gemm(inputs, attributes):
    a, b, *c = inputs
    a = ops.transpose(a) if attributes.get("transA") else a
    b = ops.transpose(b) if attributes.get("transB") else b
    y = ops.matmul(a, b) * attributes.get("alpha", 1.0)
    return [(y + ops.mul(c[0], attributes.get("beta", 1.0)) if c else y).numpy()]


def prelu(inputs, attributes):
    x, slope = inputs
    if slope.shape == x.shape[1:2]:  # one slope per channel, as older versions of the operator wrote it
        return [first(ops.prelu(last(x), slope))]
    return [ops.prelu(x, slope).numpy()]


def add(inputs, attributes):
    """Before opset 7 the second operand was aligned at ``axis``, and broadcasting had to be asked for."""
    a, b = inputs
    if attributes.get("broadcast") and "axis" in attributes:
        b = b.reshape(b.shape + (1,) * (a.ndim - attributes["axis"] - b.ndim))
    return [ops.add(a, b).numpy()]


def dropout(inputs, attributes):
    x, ratio, training = [*inputs, *[None] * (3 - len(inputs))]
    rate = float(ratio) if ratio is not None else 0.5
    y = ops.dropout(x, rate, training=bool(training) if training is not None else False)
    return [y.numpy(), np.ones(x.shape, bool)]


def flatten(inputs, attributes):
    (x,) = inputs
    axis = attributes.get("axis", 1)
    return [ops.reshape(x, math.prod(x.shape[:axis]), math.prod(x.shape[axis:])).numpy()]


def pad(inputs, attributes):
    if len(inputs) == 1:  # before opset 11 everything was an attribute
        widths = pairs(attributes["pads"])
        return [
            ops.pad(
                inputs[0], widths, attributes.get("mode", "constant"), attributes.get("value", 0.0)
            ).numpy()
        ]
    x, pads, value, axes = [*inputs, *[None] * (4 - len(inputs))]
    widths = [(0, 0)] * x.ndim
    for axis, width in zip(range(x.ndim) if axes is None else axes, pairs(pads)):
        widths[axis] = width
    return [
        ops.pad(x, widths, attributes.get("mode", "constant"), 0 if value is None else value.item()).numpy()
    ]


def clip(inputs, attributes):
    x, low, high = [*inputs, *[None] * (3 - len(inputs))]
    low, high = (
        attributes.get(name, None if bound is None else bound.item())
        for name, bound in (("min", low), ("max", high))
    )
    return [ops.clip(x, low, high).numpy()]


def upsample(inputs, attributes):
    x, scales = inputs[0], [int(s) for s in inputs[-1]]
    return [first(ops.upsample(last(x), tuple(scales[2:]), attributes.get("mode", "nearest")))]


def resize(inputs, attributes):
    return upsample(inputs[:3], attributes)


def chain(f):
    """A binary function over any number of inputs."""

    def run(inputs, attributes):
        total = Tensor(inputs[0])
        for x in inputs[1:]:
            total = f(total, x)
        return [total.numpy()]

    return run


def mean(inputs, attributes):
    return [ops.div(chain(ops.add)(inputs, {})[0], float(len(inputs))).numpy()]


def reduction(f):
    def run(inputs, attributes):
        x, axes = [*inputs, None][:2]
        axes = attributes.get("axes", axes)
        keepdims = bool(attributes.get("keepdims", 1))
        if axes is None or len(axes) == 0:
            if attributes.get("noop_with_empty_axes"):
                return [x]
            return [f(x, None, keepdims).numpy()]
        return [f(x, tuple(int(a) for a in axes), keepdims).numpy()]

    return run


def winner(name):
    def run(inputs, attributes):
        (x,), axis = inputs, attributes.get("axis", 0)
        index = getattr(Tensor(x), name)(axis)
        return [np.expand_dims(index.numpy(), axis) if attributes.get("keepdims", 1) else index.numpy()]

    return run


def split(inputs, attributes):
    x, parts = inputs[0], inputs[1] if len(inputs) > 1 else attributes.get("split")
    axis = attributes.get("axis", 0)
    n = attributes.get("num_outputs", attributes["n_outputs"])
    if parts is None:  # the last part may be smaller
        step = -(-x.shape[axis] // n)
        parts = [step] * (n - 1) + [x.shape[axis] - step * (n - 1)]
    return [t.numpy() for t in ops.split(x, [int(p) for p in parts], axis)]


def slice_(inputs, attributes):
    x, starts, ends, axes, steps = [*inputs, *[None] * (5 - len(inputs))]
    index = [slice(None)] * x.ndim
    axes = range(len(starts)) if axes is None else axes
    for a, start, end, step in zip(axes, starts, ends, [1] * len(starts) if steps is None else steps):
        beyond = step < 0 and end < -x.shape[a]
        index[a] = slice(int(start), None if beyond else int(end), int(step))
    return [ops.getitem(x, tuple(index)).numpy()]


def gather(inputs, attributes):
    x, index = inputs
    axis = attributes.get("axis", 0)
    return [ops.getitem(x, (slice(None),) * axis + (index,)).numpy()]


def reshape(inputs, attributes):
    x, shape = inputs
    sizes = [int(s) if s or attributes.get("allowzero") else x.shape[i] for i, s in enumerate(shape)]
    return [ops.reshape(x, *sizes).numpy()]


def squeeze(inputs, attributes):
    axes = inputs[1] if len(inputs) > 1 else attributes.get("axes")
    return [ops.squeeze(inputs[0], None if axes is None else tuple(int(a) for a in axes)).numpy()]


def unsqueeze(inputs, attributes):
    x, axes = Tensor(inputs[0]), inputs[1] if len(inputs) > 1 else attributes["axes"]
    for a in sorted(int(a) % (x.ndim + len(axes)) for a in axes):
        x = ops.expand_dims(x, a)
    return [x.numpy()]


def expand(inputs, attributes):
    x, shape = inputs
    return [ops.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(int(s) for s in shape))).numpy()]


RUN = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_pool(ops.global_avg_pool),
    "GlobalMaxPool": global_pool(ops.global_max_pool),
    "BatchNormalization": batch_norm,
    "LayerNormalization": layer_norm,
    "GroupNormalization": group_norm,
    "InstanceNormalization": instance_norm,
    "RNN": Recurrent("RNN", [0]),
    "LSTM": Recurrent("LSTM", [0, 2, 3, 1]),
    "GRU": Recurrent("GRU", [1, 0, 2]),
    "SoftmaxCrossEntropyLoss": softmax_cross_entropy,
    "Softmax": lambda i, a: [ops.softmax(i[0], a.get("axis", -1)).numpy()],
    "LogSoftmax": lambda i, a: [ops.log_softmax(i[0], a.get("axis", -1)).numpy()],
    "Gemm": gemm,
    "MatMul": plain(ops.matmul),
    "Relu": plain(ops.relu),
    "LeakyRelu": lambda i, a: [ops.leaky_relu(i[0], a.get("alpha", 0.01)).numpy()],
    "Elu": lambda i, a: [ops.elu(i[0], a.get("alpha", 1.0)).numpy()],
    "PRelu": prelu,
    "Sigmoid": plain(ops.sigmoid),
    "Tanh": plain(ops.tanh),
    "Softplus": plain(ops.softplus),
    "Gelu": lambda i, a: [ops.gelu(i[0], a.get("approximate", "none") == "tanh").numpy()],
    "Dropout": dropout,
    "Flatten": flatten,
    "Pad": pad,
    "Concat": lambda i, a: [ops.concat(i, a["axis"]).numpy()],
    "Clip": clip,
    "Resize": resize,
    "Upsample": upsample,
    "Add": add,
    "Sub": plain(ops.sub),
    "Mul": plain(ops.mul),
    "Div": plain(ops.div),
    "Pow": plain(ops.pow),
    "Neg": plain(ops.neg),
    "Abs": plain(ops.abs),
    "Exp": plain(ops.exp),
    "Log": plain(ops.log),
    "Sqrt": plain(ops.sqrt),
    "Reciprocal": lambda i, a: [ops.div(1.0, i[0]).numpy()],
    "Where": plain(ops.where),
    "Max": chain(ops.maximum),
    "Min": chain(ops.minimum),
    "Sum": chain(ops.add),
    "Mean": mean,
    "ReduceSum": reduction(ops.sum),
    "ReduceMean": reduction(ops.mean),
    "ReduceMax": reduction(ops.max),
    "ReduceMin": reduction(ops.min),
    "ReduceLogSumExp": reduction(ops.logsumexp),
    "ArgMax": winner("argmax"),
    "ArgMin": winner("argmin"),
    "Equal": lambda i, a: [(Tensor(i[0]) == i[1]).numpy()],
    "Less": lambda i, a: [(Tensor(i[0]) < i[1]).numpy()],
    "LessOrEqual": lambda i, a: [(Tensor(i[0]) <= i[1]).numpy()],
    "Greater": lambda i, a: [(Tensor(i[0]) > i[1]).numpy()],
    "GreaterOrEqual": lambda i, a: [(Tensor(i[0]) >= i[1]).numpy()],
    "Reshape": reshape,
    "Transpose": lambda i, a: [ops.transpose(i[0], *a.get("perm", ())).numpy()],
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Expand": expand,
    "Split": split,
    "Slice": slice_,
    "Gather": gather,
}
