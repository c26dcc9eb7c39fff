"""Layers against plain NumPy formulas: shapes, settings that reach the op, and modes."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinynet as tn
from tinynet import nn
from tinynet.errors import ArgumentError, ShapeError


def rand(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype("float32")


def conv_by_hand(x, weight, bias):
    """A 2-D convolution without padding, one output pixel after the other."""
    kh, kw = weight.shape[:2]
    oh, ow = x.shape[1] - kh + 1, x.shape[2] - kw + 1
    y = np.zeros((len(x), oh, ow, weight.shape[-1]))
    for i in range(oh):
        for j in range(ow):
            y[:, i, j] = np.tensordot(x[:, i : i + kh, j : j + kw], weight, 3) + bias
    return y


def test_conv2d_against_a_loop():
    layer, x = nn.Conv2D(4, (3, 2), activation="relu"), rand(2, 6, 5, 3)
    y = layer(x).numpy()
    layer.bias.data[:] = [0.1, -0.2, 0.3, -0.4]
    y = layer(x).numpy()
    expected = np.maximum(conv_by_hand(x, layer.weight.data, layer.bias.data), 0)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "layer, shape, weight, out",
    [
        (nn.Conv1D(4, 3, stride=2), (2, 9, 3), (3, 3, 4), (2, 4, 4)),
        (nn.Conv2D(4, 3, padding="same", stride=2), (2, 7, 8, 3), (3, 3, 3, 4), (2, 4, 4, 4)),
        (nn.Conv2D(4, 3, padding=1, dilation=2, groups=2), (2, 7, 8, 2), (3, 3, 1, 4), (2, 5, 6, 4)),
        (nn.Conv2D(4, 3, padding=((0, 1), (2, 0)), bias=False), (2, 5, 5, 1), (3, 3, 1, 4), (2, 4, 5, 4)),
        (nn.Conv3D(2, (1, 2, 3)), (1, 4, 5, 6, 2), (1, 2, 3, 2, 2), (1, 4, 4, 4, 2)),
        (nn.ConvTranspose1D(4, 3, stride=2), (2, 5, 3), (3, 3, 4), (2, 11, 4)),
        (nn.ConvTranspose2D(4, 2, stride=2, groups=2), (2, 5, 6, 2), (2, 2, 2, 2), (2, 10, 12, 4)),
        (
            nn.ConvTranspose2D(4, 3, stride=2, padding=1, output_padding=1),
            (1, 5, 5, 2),
            (3, 3, 2, 4),
            (1, 10, 10, 4),
        ),
        (nn.ConvTranspose2D(4, 3, stride=3, padding="same"), (1, 5, 5, 2), (3, 3, 2, 4), (1, 15, 15, 4)),
        (nn.ConvTranspose3D(2, 2, stride=2), (1, 2, 3, 4, 5), (2, 2, 2, 5, 2), (1, 4, 6, 8, 2)),
    ],
)
def test_shapes_of_convolutions(layer, shape, weight, out):
    assert layer(rand(*shape)).shape == out
    assert layer.weight.shape == weight
    assert layer.bias is None or layer.bias.shape == (out[-1],)


@pytest.mark.parametrize(
    "layer, shape, out",
    [
        (nn.MaxPool1D(2), (2, 7, 3), (2, 3, 3)),
        (nn.MaxPool2D(), (2, 6, 6, 3), (2, 3, 3, 3)),
        (nn.MaxPool2D(3, stride=1), (2, 6, 6, 3), (2, 4, 4, 3)),
        (nn.MaxPool2D(2, padding="same"), (2, 7, 5, 3), (2, 4, 3, 3)),
        (nn.MaxPool3D((1, 2, 2)), (1, 3, 4, 4, 2), (1, 3, 2, 2, 2)),
        (nn.AvgPool1D(2), (2, 7, 3), (2, 3, 3)),
        (nn.AvgPool2D((2, 3), stride=(1, 3)), (2, 6, 6, 3), (2, 5, 2, 3)),
        (nn.AvgPool3D(2), (1, 2, 4, 4, 2), (1, 1, 2, 2, 2)),
        (nn.GlobalAvgPool1D(), (2, 7, 3), (2, 3)),
        (nn.GlobalAvgPool2D(), (2, 7, 5, 3), (2, 3)),
        (nn.GlobalAvgPool3D(), (2, 7, 5, 4, 3), (2, 3)),
        (nn.GlobalMaxPool1D(), (2, 7, 3), (2, 3)),
        (nn.GlobalMaxPool2D(), (2, 7, 5, 3), (2, 3)),
        (nn.GlobalMaxPool3D(), (2, 7, 5, 4, 3), (2, 3)),
        (nn.Upsample1D(3), (2, 4, 3), (2, 12, 3)),
        (nn.Upsample2D((2, 1), mode="linear"), (2, 4, 5, 3), (2, 8, 5, 3)),
        (nn.Upsample3D(2, mode="linear"), (1, 2, 3, 4, 2), (1, 4, 6, 8, 2)),
        (nn.Flatten(), (2, 3, 4, 5), (2, 60)),
        (nn.Dense(7), (2, 3, 4), (2, 3, 7)),
    ],
)
def test_shapes_of_the_others(layer, shape, out):
    assert layer(rand(*shape)).shape == out


def test_pools_against_numpy():
    x = rand(2, 4, 6, 3)
    blocks = x.reshape(2, 2, 2, 3, 2, 3)
    np.testing.assert_array_equal(nn.MaxPool2D(2)(x).numpy(), blocks.max((2, 4)))
    np.testing.assert_allclose(nn.AvgPool2D(2)(x).numpy(), blocks.mean((2, 4)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(nn.GlobalAvgPool2D()(x).numpy(), x.mean((1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(nn.GlobalMaxPool2D()(x).numpy(), x.max((1, 2)))


def test_padding_of_an_average_counts_when_asked():
    x = np.ones((1, 2, 2, 1), np.float32)
    assert nn.AvgPool2D(2, stride=1, padding=1)(x).numpy().min() == 1
    assert nn.AvgPool2D(2, stride=1, padding=1, count_padding=True)(x).numpy().min() == 0.25


def test_transposed_convolution_is_the_adjoint():
    conv = nn.Conv2D(3, 3, stride=2, padding=1, bias=False, in_channels=2).astype("float64")
    back = nn.ConvTranspose2D(2, 3, stride=2, padding=1, bias=False, in_channels=3).astype("float64")
    back.weight.data[:] = conv.weight.data.swapaxes(-1, -2)
    x, y = rand(2, 7, 7, 2).astype("float64"), rand(2, 4, 4, 3).astype("float64")
    assert np.isclose((conv(x).numpy() * y).sum(), (x * back(y).numpy()).sum())


def test_dense_is_a_matrix_product():
    layer, x = nn.Dense(4, activation="tanh"), rand(5, 3)
    y = layer(x)
    np.testing.assert_allclose(
        y.numpy(), np.tanh(x @ layer.weight.data + layer.bias.data), rtol=1e-5, atol=1e-6
    )


ACTIVATIONS = {
    "ReLU": (nn.ReLU(), lambda x: np.maximum(x, 0)),
    "LeakyReLU": (nn.LeakyReLU(0.2), lambda x: np.where(x > 0, x, 0.2 * x)),
    "PReLU": (nn.PReLU(0.3), lambda x: np.where(x > 0, x, 0.3 * x)),
    "ELU": (nn.ELU(2.0), lambda x: np.where(x > 0, x, 2 * np.expm1(x))),
    "GELU": (
        nn.GELU(approximate=True),
        lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    ),
    "Sigmoid": (nn.Sigmoid(), lambda x: 1 / (1 + np.exp(-x))),
    "Tanh": (nn.Tanh(), np.tanh),
    "Softplus": (nn.Softplus(), lambda x: np.log1p(np.exp(x))),
    "Softmax": (nn.Softmax(), lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_against_their_formulas(name):
    layer, formula = ACTIVATIONS[name]
    x = rand(4, 5)
    np.testing.assert_allclose(layer(x).numpy(), formula(x), rtol=1e-5, atol=1e-6)


def test_every_activation_has_its_string():
    for name in (
        "relu",
        "leaky_relu",
        "elu",
        "gelu",
        "sigmoid",
        "tanh",
        "softplus",
        "softmax",
        "log_softmax",
    ):
        x = rand(2, 3)
        with_string = nn.Dense(4, activation=name, in_features=3)
        np.testing.assert_array_equal(
            with_string(x).numpy(),
            getattr(tn.ops, name)(tn.ops.dense(x, with_string.weight, with_string.bias)).numpy(),
        )


def test_an_activation_may_be_a_layer_with_parameters_or_a_function():
    layer = nn.Dense(4, activation=nn.PReLU())
    layer(rand(2, 3))
    assert [n for n, _ in layer.named_parameters()] == ["weight", "bias", "activation.weight"]
    assert nn.Dense(4, activation=lambda y: y * 0)(rand(2, 3)).numpy().any() == 0


@given(st.integers(2, 6), st.integers(1, 4), st.floats(0.5, 0.99), st.integers(0, 9))
def test_batch_norm_follows_its_formula(n, c, momentum, seed):
    x = np.random.default_rng(seed).normal(2, 3, (n, 3, c)).astype("float32")
    layer = nn.BatchNorm(momentum)
    y = layer(x).numpy()
    mean, var = x.mean((0, 1)), x.var((0, 1))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(layer.running_mean, (1 - momentum) * mean, rtol=1e-4, atol=1e-5)
    unbiased = x.var((0, 1), ddof=1)
    np.testing.assert_allclose(layer.running_var, momentum + (1 - momentum) * unbiased, rtol=1e-4, atol=1e-5)


def test_batch_norm_in_evaluation_uses_and_keeps_its_statistics():
    layer = nn.BatchNorm(in_features=2)
    layer.running_mean[:], layer.running_var[:] = [1, 2], [4, 9]
    y = layer.eval()(np.array([[3.0, 5.0]], np.float32)).numpy()
    np.testing.assert_allclose(y, [[1, 1]], rtol=1e-4)
    assert layer.running_mean.tolist() == [1, 2]


def test_batch_norm_of_one_value_per_feature_says_what_to_do():
    with pytest.raises(ShapeError, match=r"in BatchNorm.*more than one value per feature.*drop_last=True"):
        nn.BatchNorm()(np.ones((1, 3), np.float32))


def test_batch_norm_with_the_momentum_of_pytorch_warns_once():
    with pytest.warns(UserWarning, match=r"from PyTorch, write momentum=0.875"):
        nn.BatchNorm(momentum=0.125)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nn.BatchNorm(momentum=0.125)


def test_layer_and_group_norm_follow_their_formulas():
    x = rand(2, 3, 4, 6)
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    np.testing.assert_allclose(
        nn.LayerNorm()(x).numpy(), (x - mean) / np.sqrt(var + 1e-5), rtol=1e-3, atol=1e-4
    )
    groups = x.reshape(2, 12, 3, 2)
    mean, var = groups.mean((1, 3), keepdims=True), groups.var((1, 3), keepdims=True)
    expected = ((groups - mean) / np.sqrt(var + 1e-5)).reshape(x.shape)
    np.testing.assert_allclose(nn.GroupNorm(3)(x).numpy(), expected, rtol=1e-3, atol=1e-4)


def test_dropout_drops_in_training_only():
    layer, x = nn.Dropout(0.25), np.ones((100, 100), np.float32)
    y = layer(x).numpy()
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    assert 0.7 < (y > 0).mean() < 0.8
    assert layer.eval()(x).numpy().all()


@pytest.mark.parametrize("rate", [1, -0.1, 1.5, float("nan")])
def test_dropout_rate_is_checked(rate):
    with pytest.raises(ArgumentError, match=r"rate=.*from 0 up to, but not including, 1"):
        nn.Dropout(rate)


def test_layers_learn_in_float64():
    def loss(x, w):
        net[0].weight = w
        return net(x).sum()

    net = nn.Sequential(nn.Dense(3, activation="tanh", in_features=2), nn.LayerNorm(in_features=3)).astype(
        "float64"
    )
    net[1].weight.data[:] = [1.0, -2.0, 0.5]
    w = nn.Parameter(net[0].weight.data)
    assert tn.gradcheck(loss, tn.tensor(rand(4, 2).astype("float64"), requires_grad=True), w)
