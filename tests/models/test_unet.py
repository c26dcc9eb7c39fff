"""The U-Net: any size, both ranks, and what it is made of."""

import numpy as np
import pytest

import tinynet as tn
from tinynet import models, nn, optim
from tinynet.errors import ArgumentError, ShapeError

RNG = np.random.default_rng(0)


def rand(*shape):
    return RNG.random(shape, dtype=np.float32)


@pytest.mark.parametrize("size", range(31, 66))
def test_every_size_comes_out_as_it_went_in(size):
    net = models.UNet(2, 3, classes=3).eval()
    with tn.no_grad(), tn.kernels.use("numpy"):
        assert net(rand(1, size, 96 - size, 1)).shape == (1, size, 96 - size, 3)


@pytest.mark.parametrize("upsample", ["transpose", "linear"])
@pytest.mark.parametrize("size", [(9, 12, 11), (1, 2, 3)])
def test_volumes(upsample, size):
    net = models.UNet(2, 2, classes=2, rank=3, upsample=upsample)
    y = net(rand(2, *size, 1))
    assert y.shape == (2, *size, 2)
    y.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_every_output_pixel_sees_its_own_input_pixel():
    net = models.UNet(4, 3, classes=1).eval()
    x = rand(1, 37, 45, 1)
    with tn.no_grad():
        before = net(x).numpy()
        for place in ((0, 0), (36, 44), (36, 0), (18, 23)):
            other = x.copy()
            other[0, *place] += 10
            assert abs(net(other).numpy() - before)[0, *place] > 1e-4


def test_number_of_parameters():
    # two convolutions per level (no bias) with two norms, transposed convolutions with bias, one last layer
    def double(c, f):
        return 9 * c * f + 9 * f * f + 4 * f

    down = double(1, 16) + double(16, 32) + double(32, 64)
    up = double(128, 64) + double(64, 32) + double(32, 16)
    larger = 4 * (128 * 64 + 64 * 32 + 32 * 16) + 64 + 32 + 16
    expected = down + double(64, 128) + larger + up + (16 * 2 + 2)
    assert models.UNet(16, 3, classes=2).summary((64, 64, 1)).parameters == expected == 482_466


def test_even_sizes_need_no_cropping():
    cropped = []
    net = models.UNet(2, 2).build((16, 16, 1))
    handle = net.up[1].register_forward_hook(lambda m, i, o: cropped.append(o.shape))
    net(rand(1, 16, 16, 1))
    handle.remove()
    assert cropped == [(1, 16, 16, 2)]


def test_it_learns_to_find_a_bright_square():
    x = rand(4, 16, 16, 1) * 0.3
    mask = np.zeros((4, 16, 16), np.int64)
    for i in range(4):
        mask[i, 2 + i : 8 + i, 3 : 9 + i] = 1
    x[mask == 1] += 0.7
    net = models.UNet(4, 2, classes=2)
    net.build((16, 16, 1))
    optimizer, loss_of = optim.Adam(net.parameters(), 0.02), nn.DiceCrossEntropy()
    first = loss_of(net(x), mask).item()
    for _ in range(15):
        optimizer.zero_grad()
        loss = loss_of(net(x), mask)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3 * first


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: models.UNet(rank=1), "rank=1: 2 for images, 3 for volumes"),
        (lambda: models.UNet(upsample="nearest"), "unknown upsample 'nearest'"),
        (lambda: models.UNet(depth=0), "depth=0: give a whole number"),
        (lambda: models.UNet(base=2.5), "base=2.5: give a whole number"),
    ],
)
def test_wrong_arguments(make, text):
    with pytest.raises(ArgumentError, match=text):
        make()


def test_a_batch_axis_is_needed():
    with pytest.raises(ShapeError, match=r"in UNet: got 16x16x1, 3 axes, but rank=2 needs 4\..*x\[None\]"):
        models.UNet(2, 1)(rand(16, 16, 1))
