"""Weights to and from PyTorch's layout; that the numbers agree is checked in nn/test_against_pytorch.py."""

import numpy as np
import pytest

from tinynet import io, models, nn
from tinynet.errors import ArgumentError, CheckpointError

RNG = np.random.default_rng(0)


def rand(*shape):
    return RNG.standard_normal(shape).astype("float32")


class Everything(nn.Module):
    def __init__(self):
        self.conv = nn.Conv2D(4, (3, 2), groups=2)
        self.up = nn.ConvTranspose2D(6, 2, stride=2, groups=2)
        self.norm = nn.BatchNorm()
        self.body = nn.Sequential(nn.Flatten(), nn.Dropout(0.0), nn.ReLU(), nn.Dense(12), nn.PReLU())
        self.lstm = nn.LSTM(3, bidirectional=True)
        self.gru = nn.GRU(5)
        self.scales = [nn.Parameter([1.0]), nn.Parameter([2.0])]

    def forward(self, x):
        x = self.body(self.norm(self.up(self.conv(x)))).reshape(-1, 3, 4)
        return self.lstm(x) * self.scales[0], self.gru(x) * self.scales[1]


def built():
    return Everything().build((5, 4, 2))


SHAPES = {
    "conv.weight": (4, 1, 3, 2),
    "conv.bias": (4,),
    "up.weight": (4, 3, 2, 2),
    "up.bias": (6,),
    "norm.weight": (6,),
    "norm.bias": (6,),
    "norm.running_mean": (6,),
    "norm.running_var": (6,),
    "body.3.weight": (12, 216),
    "body.3.bias": (12,),
    "body.4.weight": (12,),
    "lstm.weight_ih_l0": (12, 4),
    "lstm.weight_hh_l0": (12, 3),
    "lstm.bias_ih_l0": (12,),
    "lstm.bias_hh_l0": (12,),
    "lstm.weight_ih_l0_reverse": (12, 4),
    "lstm.weight_hh_l0_reverse": (12, 3),
    "lstm.bias_ih_l0_reverse": (12,),
    "lstm.bias_hh_l0_reverse": (12,),
    "gru.weight_ih_l0": (15, 4),
    "gru.weight_hh_l0": (15, 5),
    "gru.bias_ih_l0": (15,),
    "gru.bias_hh_l0": (15,),
    "scales.0": (1,),
    "scales.1": (1,),
}


def test_names_and_shapes_are_those_of_pytorch():
    state = io.to_torch(built())
    assert {name: array.shape for name, array in state.items()} == SHAPES
    assert all(array.flags.c_contiguous for array in state.values())


def test_there_and_back_again():
    a, b = built(), built()
    io.from_torch(b, io.to_torch(a))
    for name, array in a.state_dict().items():
        assert np.array_equal(array, b.state_dict()[name]), name


def test_a_convolution_by_its_formula():
    conv = nn.Conv2D(4, 3, in_channels=2)
    weight = io.to_torch(conv)["weight"]
    assert all(weight[o, i, h, w] == conv.weight.data[h, w, i, o] for o, i, h, w in np.ndindex(4, 2, 3, 3))


def test_two_biases_become_their_sum():
    layer = nn.LSTM(3, in_features=2)
    state = {n: rand(*a.shape) for n, a in io.to_torch(layer).items()}
    io.from_torch(layer, state)
    np.testing.assert_allclose(layer.bias.data, state["bias_ih_l0"] + state["bias_hh_l0"])


def channels_first_dense(x, weight, bias):
    """What PyTorch computes after flattening (N, C, H, W)."""
    return np.moveaxis(x, -1, 1).reshape(len(x), -1) @ weight.T + bias


def test_rows_behind_a_flatten_are_put_in_order():
    net = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Dense(6)).build((3, 4, 5))
    weight, bias, x = rand(6, 60), rand(6), abs(rand(2, 3, 4, 5))
    io.from_torch(net, {"2.weight": weight, "2.bias": bias})
    np.testing.assert_allclose(net(x).numpy(), channels_first_dense(x, weight, bias), rtol=1e-4, atol=1e-4)


def test_two_heads_behind_one_flatten():
    class Heads(nn.Module):
        def __init__(self):
            self.flatten, self.a, self.b = nn.Flatten(), nn.Dense(2), nn.Dense(3)

        def forward(self, x):
            x = self.flatten(x)
            return self.a(x).sum() + self.b(x).sum()

    net, state = Heads().build((2, 2, 3)), {"a.weight": rand(2, 12), "b.weight": rand(3, 12)}
    io.from_torch(net, state | {"a.bias": rand(2), "b.bias": rand(3)})
    for name, n in (("a", 2), ("b", 3)):
        turned = state[f"{name}.weight"].reshape(n, 3, 2, 2).transpose(2, 3, 1, 0).reshape(12, n)
        assert np.array_equal(getattr(net, name).weight.data, turned)


def test_a_flatten_without_a_layer_can_be_told():
    class Plain(nn.Module):
        def __init__(self):
            self.fc = nn.Dense(6)

        def forward(self, x):
            return self.fc(x.flatten(1))

    net, x = Plain().build((3, 4, 5)), rand(2, 3, 4, 5)
    state = {"fc.weight": rand(6, 60), "fc.bias": rand(6)}
    io.from_torch(net, state, flattened={"fc": (3, 4, 5)})
    expected = channels_first_dense(x, state["fc.weight"], state["fc.bias"])
    np.testing.assert_allclose(net(x).numpy(), expected, rtol=1e-4, atol=1e-4)
    assert np.array_equal(io.to_torch(net, {"fc": (3, 4, 5)})["fc.weight"], state["fc.weight"])
    with pytest.raises(ArgumentError, match="does not have: fc2"):
        io.to_torch(net, {"fc2": (3, 4, 5)})


def test_the_dry_run_leaves_no_hooks():
    net = models.small_cnn().build((28, 28, 1))
    io.to_torch(net)
    assert not any(module._hooks for module in net.modules())


def test_the_counter_of_batch_norm_is_left_out():
    net = nn.BatchNorm(in_features=2)
    io.from_torch(net, io.to_torch(net) | {"num_batches_tracked": np.array(7)})


def test_what_does_not_fit_is_refused():
    net = built()
    before = net.state_dict()
    state = io.to_torch(net)
    with pytest.raises(CheckpointError, match=r"unexpected: head\.weight"):
        io.from_torch(net, state | {"head.weight": rand(2)})
    with pytest.raises(CheckpointError, match=r"missing: conv\.bias"):
        io.from_torch(net, {n: a for n, a in state.items() if n != "conv.bias"})
    with pytest.raises(CheckpointError, match="the LSTM needs weight_ih_l0, weight_hh_l0"):
        io.from_torch(net, {n: a for n, a in state.items() if n != "lstm.bias_hh_l0"})
    with pytest.raises(CheckpointError, match=r"another shape: conv\.weight"):
        io.from_torch(net, state | {"conv.weight": rand(4, 1, 2, 2)})
    assert all(np.array_equal(before[n], a) for n, a in net.state_dict().items())


def test_an_unbuilt_model_is_refused():
    with pytest.raises(CheckpointError, match=r"model.build\("):
        io.to_torch(models.small_cnn())
    net = nn.Sequential(nn.Flatten(), nn.Dense(2, in_features=12))
    with pytest.raises(CheckpointError, match="the order of the rows behind Flatten depends on the input"):
        io.to_torch(net)
