"""Twenty training steps against numbers that PyTorch 2.13 computed once, in float64, from the same weights.

Inputs and weights are sine waves, the weights in PyTorch's layout, so their conversion is checked as well.
Each case holds the twenty losses, and the first six outputs afterwards in evaluation mode.
"""

import numpy as np
import pytest

from tinynet import io, nn, optim

# fmt: off
PYTORCH = {
    "conv_sgd": (
        [1.266779446525, 0.925258882198, 0.888775605503, 0.889344112985, 0.857149780583, 0.819782009547,
         0.782149013991, 0.746883784605, 0.719198523561, 0.70306262042, 0.675961785767, 0.632219924034,
         0.60251361301, 0.588677749307, 0.539043485084, 0.526915424179, 0.533272624481, 0.474098254199,
         0.47106967788, 0.471557489028],
        [2.233812832223, -1.532210757943, 0.190626332631, -0.036067694597, 0.013334844995, 0.977998766867],
    ),
    "transpose_adamw": (
        [1.135909162427, 1.115527155076, 1.097721645754, 1.080486611893, 1.065834245007, 1.054637453722,
         1.04681262341, 1.041209418996, 1.037028802744, 1.034403460562, 1.034091966915, 1.03469964151,
         1.036685989932, 1.03736685574, 1.036611562196, 1.035632982311, 1.034203687435, 1.032793484883,
         1.032310889243, 1.032284854942],
        [-0.387930331762, -0.376762732861, 0.266920380386, -0.404201268156, -0.373989782729, 0.26827646194],
    ),
    "lstm_adam": (
        [1.067223056873, 1.048182234699, 1.030334508372, 1.013645653874, 0.998000738973, 0.983201698454,
         0.968966601253, 0.954985419369, 0.940961812588, 0.92663910387, 0.911822777004, 0.896388844525,
         0.880277095036, 0.86347850695, 0.846024511646, 0.827982510142, 0.809456107322, 0.790584939548,
         0.771541272327, 0.752521188619],
        [-0.020330918634, -0.873281018485, 0.695949529993, -0.068471516946, -0.866824640446,
         0.722528961661],
    ),
    "gru_adam": (
        [1.099422799224, 1.058812654768, 1.022954330128, 0.991533844476, 0.963909542882, 0.939299471639,
         0.916818211722, 0.895596373534, 0.874921740029, 0.854313627948, 0.833520654407, 0.812477366543,
         0.791244097602, 0.769946362966, 0.748725365427, 0.727705028974, 0.706975736999, 0.686594072005,
         0.666595476058, 0.647010919795],
        [0.272745202041, -1.0165329531, 0.905962549469, -0.022798764242, -0.900408831836, 0.929440921581],
    ),
    "rnn_both_ways_sgd": (
        [1.291979221431, 1.248161752232, 1.187667043075, 1.124612548928, 1.065103976661, 1.011082757039,
         0.962606974083, 0.919032235741, 0.879562449662, 0.843477203403, 0.810204920852, 0.779326959972,
         0.750553516365, 0.723690845057, 0.698609408126, 0.675217632101, 0.653442995023, 0.633220145453,
         0.61448455104, 0.597169779584],
        [0.144776836674, -1.016326252261, 0.452517352188, -0.547049525785, -1.217657247724, 1.35197049762],
    ),
}
# fmt: on


def wave(shape, phase, scale=0.4):
    return scale * np.sin(np.arange(np.prod(shape)) * 0.7 + phase).reshape(shape)


def fill(net):
    """Sine waves as weights, one phase per parameter in PyTorch's order; norms scale by about 1."""
    state = io.to_torch(net)
    learned = [name for name in state if "running" not in name]
    for i, name in enumerate(learned):
        scale = state[name].ndim == 1 and name.endswith("weight")
        state[name] = wave(state[name].shape, i) + (1.0 if scale else 0.0)
        if "bias_hh" in name and not isinstance(net, GRUNet):
            state[name] = np.zeros_like(state[name])  # PyTorch's second bias, which one bias here stands for
    io.from_torch(net, state)


class Sequence(nn.Module):
    def __init__(self, rnn):
        self.rnn, self.out = rnn, nn.Dense(3)

    def forward(self, x):
        return self.out(self.rnn(x))


class GRUNet(Sequence):
    pass


def conv_net():
    return nn.Sequential(
        nn.Conv2D(4, 3, stride=2, padding=1),
        nn.BatchNorm(),
        nn.ReLU(),
        nn.Conv2D(6, (3, 2), groups=2, dilation=(1, 2)),
        nn.Tanh(),
        nn.MaxPool2D((2, 1), stride=(1, 1)),
        nn.Flatten(),
        nn.Dense(3),
    )


def transpose_net():
    return nn.Sequential(
        nn.ConvTranspose2D(4, 3, stride=2, padding=1, output_padding=1, groups=2),
        nn.GroupNorm(2),
        nn.GELU(),
        nn.AvgPool2D(3, stride=2),
        nn.Conv2D(4, 1, bias=False),
        nn.LeakyReLU(0.1),
        nn.GlobalAvgPool2D(),
        nn.Flatten(),
        nn.LayerNorm(),
        nn.PReLU(),
        nn.Dense(3),
    )


IMAGES, SEQUENCES = wave((4, 9, 8, 2), 0.3, 1.0), wave((4, 5, 3), 0.1, 1.0)
CASES = {
    "conv_sgd": (
        conv_net,
        IMAGES,
        lambda p: optim.SGD(p, 0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    ),
    "transpose_adamw": (transpose_net, IMAGES, lambda p: optim.AdamW(p, 0.01, weight_decay=0.05)),
    "lstm_adam": (lambda: Sequence(nn.LSTM(4)), SEQUENCES, lambda p: optim.Adam(p, 0.02)),
    "gru_adam": (
        lambda: GRUNet(nn.GRU(4)),
        SEQUENCES,
        lambda p: optim.Adam(p, 0.02, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.01),
    ),
    "rnn_both_ways_sgd": (
        lambda: Sequence(nn.SimpleRNN(4, bidirectional=True)),
        SEQUENCES,
        lambda p: optim.SGD(p, 0.1, momentum=0.5),
    ),
}


def train(name, dtype):
    make_net, x, make_optimizer = CASES[name]
    x, net = x.astype(dtype), make_net()
    net.build(x.shape[1:])
    fill(net.astype(dtype))
    optimizer, loss_of, losses = make_optimizer(net.parameters()), nn.CrossEntropy(), []
    for _ in range(20):
        optimizer.zero_grad()
        loss = loss_of(net(x), np.array([0, 2, 1, 2]))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses), net.eval()(x).numpy().reshape(-1)[:6]


@pytest.mark.parametrize("name", CASES)
def test_twenty_steps_in_double_precision(name):
    losses, outputs = train(name, np.float64)
    np.testing.assert_allclose(losses, PYTORCH[name][0], rtol=0, atol=1e-10)
    np.testing.assert_allclose(outputs, PYTORCH[name][1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_twenty_steps_in_single_precision(name):
    losses, outputs = train(name, np.float32)
    np.testing.assert_allclose(losses, PYTORCH[name][0], rtol=0, atol=2e-4)
    np.testing.assert_allclose(outputs, PYTORCH[name][1], rtol=0, atol=2e-3)
