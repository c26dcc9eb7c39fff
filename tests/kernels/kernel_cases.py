"""What the kernel tests share: rooms, window geometry, one call of every kernel, and comparisons."""

import math
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from tinynet import kernels
from tinynet.kernels import Window, blocks

TESTED = ["numpy", "fast"]  # the rooms that are held against the reference
ROOMS = ["reference", *TESTED]
DTYPES = [np.float32, np.float64]
EVERY = sorted(set(kernels.__all__) - {"Window", "precision", "room", "use"})
BLOCKS = [name for name in EVERY if hasattr(blocks, name)]
NAMES = [name for name in EVERY if name not in BLOCKS]  # single kernels
IN_PLACE = {  # which arguments are written to
    "adam_step": (0, 2, 3),
    "add_scaled": (0,),
    "limit_norm": (0,),
    "sgd_step": (0, 2),
}
LISTS = {*IN_PLACE, "total_norm"} - {"add_scaled"}  # whose arguments are lists over parameters
EPS = 1e-5


def run(room, name, *args):
    """Call a kernel in a room; the results without None, or what it changed in place, as a list of arrays.

    What takes lists over parameters gets one here.
    """
    with kernels.use(room):
        result = getattr(kernels, name)(*(map(listed, args) if name in LISTS else args))
    if name in IN_PLACE:
        return [args[i] for i in IN_PLACE[name] if args[i] is not None]
    if name == "total_norm":  # always in float64
        return [result.astype(args[0].dtype)]
    return [r for r in result if r is not None] if isinstance(result, tuple) else [result]


def listed(value):
    """A list of one array, or of one number of a step; any other setting as it is."""
    return value if value is None or isinstance(value, (float, bool)) else [value]


def expected(name, *args):
    """What the reference gives for the same arguments in float64."""
    return run("reference", name, *(astype(a, np.float64) for a in args))


def astype(value, dtype):
    """A copy in ``dtype`` of a floating-point array; anything else as it is."""
    is_float = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return value.astype(dtype) if is_float else value


def assert_same(results, wanted, dtype):
    """Shapes and dtypes agree; floats within 1e-5 (float32) or 1e-12 of the norm, integers exactly."""
    assert len(results) == len(wanted)
    for i, (a, b) in enumerate(zip(results, wanted)):
        assert a.shape == b.shape, f"result {i}"
        assert a.dtype == (dtype if b.dtype.kind == "f" else b.dtype), f"result {i}"
        assert relative_error(a, b) <= (1e-5 if dtype == np.float32 else 1e-12), f"result {i}"


def relative_error(a, b):
    """Norm of the difference over the norm of b, or over that of as many ones if b is smaller."""
    a, b = a.astype(float), b.astype(float)
    return np.linalg.norm(a - b) / max(np.linalg.norm(b), math.sqrt(b.size), 1)


def normal(*shape, dtype=np.float64, seed=0):
    """Normally distributed numbers that depend on shape and seed alone."""
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


def wave(*shape, phase):
    """Numbers between -1 and 1 that any language can reproduce: sin(1.7 i + phase)."""
    return np.sin(np.arange(math.prod(shape)) * 1.7 + phase).reshape(shape)


class Geometry(NamedTuple):
    """The shapes of a convolution."""

    x_shape: tuple
    window: Window
    filters: int
    groups: int

    @property
    def y_shape(self):
        return (self.x_shape[0], *self.window.output_shape(self.x_shape[1:-1]), self.filters)

    @property
    def weight_shape(self):
        return (*self.window.size, self.x_shape[-1] // self.groups, self.filters)

    def arrays(self, dtype):
        """x, weight, bias and a gradient of y."""
        shapes = self.x_shape, self.weight_shape, (self.filters,), self.y_shape
        return [normal(*shape, dtype=dtype, seed=i) for i, shape in enumerate(shapes)]


@st.composite
def geometries(draw):
    """Convolutions of rank 1 to 3: settings of their own per axis, length 1 and ragged ends included."""
    rank = draw(st.integers(1, 3))
    upto = [5, 3, 2][rank - 1]
    axes = [draw(axis_settings(upto)) for _ in range(rank)]
    spatial, size, stride, padding, dilation = zip(*axes)
    groups = draw(st.integers(1, 3))
    inputs, outputs = (draw(st.integers(1, 9 // rank)) for _ in range(2))
    x_shape = (draw(st.integers(1, 3)), *spatial, groups * inputs)
    return Geometry(x_shape, Window(size, stride, padding, dilation), groups * outputs, groups)


@st.composite
def axis_settings(draw, upto):
    """Length of the input, and size, stride, padding and dilation of the window, along one axis."""
    size, stride, dilation = draw(st.integers(1, upto)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    extent = (size - 1) * dilation + 1
    before, after = (draw(st.integers(0, min(2, extent - 1))) for _ in range(2))
    length = max(1, extent - before - after) + draw(st.integers(0, upto + 2))
    return length, size, stride, (before, after), dilation


def all_calls(dtype, n=3):
    """Arguments of one call of every kernel, by name, for ``n`` samples or rows."""
    calls = conv_calls(n) | pool_calls(n) | norm_calls(n) | recurrent_calls(n) | small_calls(n)
    calls |= block_calls(n)
    return {name: tuple(astype(a, dtype) for a in args) for name, args in calls.items()}


def conv_calls(n):
    window = Window((3, 2), (2, 1), ((1, 0), (1, 1)), (1, 2))
    case = Geometry((n, 7, 6, 4), window, 6, 2)
    x, weight, bias, grad_y = case.arrays(np.float64)
    return {
        "conv": (x, weight, bias, window, 2),
        "conv_input_grad": (grad_y, weight, x.shape, window, 2),
        "conv_weight_grad": (x, grad_y, window, 2),
        "bias_grad": (grad_y,),
        "matmul": (normal(n, 5), normal(5, 4)),
    }


def pool_calls(n):
    window = Window((3, 2), (2, 1), ((1, 0), (1, 1)), (1, 2))
    x = normal(n, 7, 6, 4)
    y, where = run("reference", "max_pool", x, window)
    grad_y = normal(*y.shape, seed=1)
    return {
        "max_pool": (x, window),
        "max_pool_backward": (grad_y, where, x.shape, window),
        "avg_pool": (x, window, False),
        "avg_pool_backward": (grad_y, x.shape, window, False),
    }


def norm_calls(n):
    weight, bias = normal(5, seed=1), normal(5, seed=2)
    calls = {}
    for name, x in (("batch_norm", normal(n, 4, 2, 5) + 2), ("layer_norm", normal(n, 5) + 2)):
        y, mean, var = run("reference", name, x, weight, bias, EPS)
        calls[name] = (x, weight, bias, EPS)
        calls[f"{name}_backward"] = (normal(*y.shape, seed=3), x, weight, mean, var, EPS)
    return calls


def block_calls(n):
    """All with a ReLU, the convolution with a pool as well."""
    x, weight, bias, window, groups = conv_calls(n)["conv"]
    pooled, where = run("reference", "conv_block", x, weight, bias, window, groups, True, True)
    rows, matrix, shift, scale = normal(n, 5), normal(5, 4), normal(4, seed=1), normal(4, seed=2)
    (dense,) = run("reference", "dense", rows, matrix, shift, True)
    maps, stats = normal(n, 4, 2, 4) + 2, (scale, shift, EPS)
    y, mean, var = run("reference", "norm_block", maps, *stats, True)
    needs = (True, True, True)
    grad_y, *geometry = conv_calls(n)["conv_input_grad"]
    return {
        "conv_block": (x, weight, bias, window, groups, True, True),
        "conv_block_backward": (normal(*pooled.shape), x, weight, None, where, window, groups, needs),
        "conv_transpose": (grad_y, weight, normal(4), *geometry[1:]),
        "dense": (rows, matrix, shift, True),
        "dense_backward": (normal(*dense.shape, seed=3), rows, matrix, dense, needs),
        "norm_block": (maps, *stats, True),
        "norm_block_backward": (normal(*y.shape, seed=3), maps, scale, shift, mean, var, EPS, y),
        "scale_shift": (maps, scale, shift, True),
        "join": (1, rows, normal(n, 2), rows + 1),
        "cut": (maps, (1, 3), 3),
    }


def recurrent_calls(n, steps=4, features=3, units=2):
    calls = {}
    for name, gates in (("rnn", 1), ("lstm", 4), ("gru", 3)):
        x, h0, c0 = normal(n, steps, features), normal(n, units, seed=1), normal(n, units, seed=2)
        w_ih, w_hh = normal(features, gates * units, seed=3), normal(units, gates * units, seed=4)
        bias, bias_hh = normal(gates * units, seed=5), normal(gates * units, seed=6)
        states = {"rnn": (h0,), "lstm": (h0, c0), "gru": (h0,)}[name]
        extra = ("tanh",) if name == "rnn" else ()
        biases = (bias, bias_hh) if name == "gru" else (bias,)
        calls[name] = (x, w_ih, w_hh, *biases, *states, *extra)
        saved = run("reference", name, *calls[name])
        grads = [normal(*h0[:, None].repeat(steps, 1).shape, seed=7 + i) for i in range(len(states))]
        needs = (True,) * (3 + len(biases) + len(states))
        calls[f"{name}_backward"] = (*grads, x, w_ih, w_hh, *states, *saved, *extra, needs)
    return calls


def small_calls(n):
    param, grad, mean, square = (normal(n, 7, seed=i) for i in range(4))
    picked = np.arange(n, dtype=np.int32), 0, n
    return {
        "gather": (normal(n, 4, 2), np.arange(n, dtype=np.int32)[::-1].copy(), 0, n, True),
        "gather_warped": (normal(n, 6, 5, 2), *picked, 2**63 + 9, (20.0, 0.2, 0.1, 1.5), 0.3),
        "total_norm": (normal(n, 9),),
        "limit_norm": (normal(n, 9), 2.5, 0.4),
        "softmax_cross_entropy": (3 * normal(n, 5), np.arange(n) * 3 % 5),
        "softmax_cross_entropy_grad": (normal(n, 5), np.arange(n) * 3 % 5, normal(n, seed=1), 3),
        "scaled_sum": (normal(n), 3),
        "add_scaled": (normal(1), normal(1, seed=1), 128),
        "dropout": (normal(n, 9), 0.4, 0x1234567_89ABCDEF),
        "erf": (normal(n, 9),),
        "sgd_step": (param, grad, mean, 0.1, 0.9, True, 0.01),
        "adam_step": (param, grad, mean, square**2, 0.1, 0.9, 0.99, 1e-8, 0.01, False, 3),
    }
