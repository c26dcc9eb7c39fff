"""The small nets for digits: what they are made of, their sizes, and that they learn."""

import numpy as np
import pytest

import tinynet as tn
from tinynet import models
from tinynet.errors import ShapeError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "make, parameters, kinds",
    [
        (models.small_cnn, 103_018, "Conv2D ReLU MaxPool2D Conv2D ReLU MaxPool2D Flatten Dense ReLU Dense"),
        (
            models.wide_cnn,
            1_199_882,
            "Conv2D ReLU Conv2D ReLU MaxPool2D Dropout Flatten Dense ReLU Dropout Dense",
        ),
    ],
)
def test_the_convolutional_nets(make, parameters, kinds):
    net = make()
    assert " ".join(type(layer).__name__ for layer in net) == kinds
    assert net.summary((28, 28, 1)).parameters == parameters
    assert net(RNG.random((2, 28, 28, 1), dtype=np.float32)).shape == (2, 10)


def test_the_net_that_reads_rows():
    net = models.row_rnn()
    assert net.summary((28, 28, 1)).parameters == 128 * (28 + 128 + 1) + 128 * 10 + 10
    x = RNG.random((2, 28, 28), dtype=np.float32)
    assert np.array_equal(net(x).numpy(), net(x[..., None]).numpy())
    assert models.row_rnn(units=8, classes=3)(x).shape == (2, 3)


@pytest.mark.parametrize("shape", [(28, 28), (2, 28, 28, 3)])
def test_colour_images_are_no_rows(shape):
    with pytest.raises(ShapeError, match=r"in RowRNN: got .*needs grey images \(N, rows, columns\)"):
        models.row_rnn()(np.zeros(shape, np.float32))


@pytest.mark.parametrize("make", [models.small_cnn, lambda: models.row_rnn(units=32)])
def test_they_learn(make):
    y = np.arange(40) % 2
    x = RNG.random((40, 28, 28, 1), dtype=np.float32) * 0.2
    x[y == 1, 8:20, 8:20] += 0.8
    net = make()
    net.compile(lr=0.003)
    net.fit(x, y, epochs=6, batch_size=8, verbose="silent")
    assert net.evaluate(x, y)["accuracy"] == 1.0


def test_unknown_models():
    with pytest.raises(AttributeError, match=r"tinynet.models has no 'Unet'. Did you mean 'UNet'"):
        tn.models.Unet  # noqa: B018
