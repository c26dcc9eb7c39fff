"""Sizes found from the data: at the first call, by build(), or given; and taken back when a call fails."""

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn
from tinynet.errors import ArgumentError, ShapeError


def net():
    return nn.Sequential(nn.Conv2D(4, 3), nn.BatchNorm(), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Dense(3))


def same(a, b):
    assert list(a) == list(b)
    assert all(a[name].tobytes() == b[name].tobytes() for name in a)


def test_build_first_call_and_given_sizes_draw_the_same_weights():
    tn.seed(3)
    built = net().build((8, 8, 2)).state_dict()
    tn.seed(3)
    called = net().eval()
    called(np.ones((5, 8, 8, 2), np.float32))
    tn.seed(3)
    given = nn.Sequential(
        nn.Conv2D(4, 3, in_channels=2),
        nn.BatchNorm(in_features=4),
        nn.ReLU(),
        nn.Dropout(),
        nn.Flatten(),
        nn.Dense(3, in_features=144),
    )
    same(built, called.state_dict())
    same(built, given.state_dict())


def test_build_has_no_side_effects_on_a_built_model():
    model = net().build((8, 8, 2))
    model[3].eval()
    before, random_state = model.state_dict(), tn.random.get_state()
    model.build((8, 8, 2))
    print(model.summary((8, 8, 2)))
    same(before, model.state_dict())
    assert tn.random.get_state() == random_state
    assert [m.training for m in model.modules()] == [True] * 4 + [False] + [True] * 2


def test_build_compiles_nothing_and_records_nothing(monkeypatch):
    rooms = []
    monkeypatch.setattr(
        nn.Dense, "run", lambda self, x: rooms.append((tn.kernels.room(), tn.autograd.is_recording())) or x
    )
    nn.Dense(2).build((3,))
    assert rooms == [("numpy", False)]


@pytest.mark.parametrize("shape", [(), 28, (None, 28, 28, 1), (0, 3), (28, -1)])
def test_build_refuses_what_is_no_shape_of_a_sample(shape):
    with pytest.raises(ArgumentError, match=r"the shape of one sample, no batch axis, such as \(28, 28, 1\)"):
        net().build(shape)


def test_a_first_call_that_fails_leaves_everything_as_it_was():
    model, random_state = net(), tn.random.get_state()
    with pytest.raises(ShapeError):
        model(np.ones((2, 2, 2, 1), np.float32))  # too small for the kernel
    assert not any(p.built for p in model.parameters())
    assert tn.random.get_state() == random_state
    assert model(np.ones((2, 8, 8, 3), np.float32)).shape == (2, 3)


def test_layers_before_the_failing_one_are_taken_back_too():
    model = nn.Sequential(nn.Dense(4), nn.Conv2D(2, 3))
    with pytest.raises(ShapeError):
        model(np.ones((2, 7), np.float32))
    assert not any(p.built for p in model.parameters())


def test_layers_that_were_built_before_stay():
    first = nn.Dense(4, in_features=7)
    with pytest.raises(ShapeError):
        nn.Sequential(first, nn.Conv2D(2, 3))(np.ones((2, 7), np.float32))
    assert first.weight.built


@pytest.mark.parametrize("shape", [(2, 1, 28, 28), (2, 3, 32, 32), (2, 3, 20, 30)])
def test_channels_first_images_are_recognised_at_the_first_call(shape):
    model = nn.Sequential(nn.Conv2D(4, 3, padding="same"), nn.Conv2D(4, 3))
    with pytest.raises(ShapeError, match=r"is axis 1 the channels\?.*x.transpose\(0, 2, 3, 1\)"):
        model(np.ones(shape, np.float32))


def test_channels_first_volumes_are_recognised_at_the_first_call():
    with pytest.raises(ShapeError, match=r"x.transpose\(0, 2, 3, 4, 1\).*in_channels=8"):
        nn.Conv3D(4, 1)(np.ones((2, 1, 8, 8, 8), np.float32))


def test_who_insists_on_the_channels_gets_them():
    assert nn.Conv2D(4, 1, in_channels=28)(np.ones((2, 1, 28, 28), np.float32)).shape == (2, 1, 28, 4)


def test_the_shape_of_a_sample_is_remembered():
    model = nn.Dense(2)
    model(np.ones((5, 3), np.float32))
    assert model.input_shape == (3,)


def test_sizes_can_be_read():
    conv, dense, rnn = nn.Conv2D(4, 3), nn.Dense(2), nn.GRU(2)
    assert (conv.in_channels, dense.in_features, rnn.in_features) == (None, None, None)
    conv.build((5, 5, 7)), dense.build((6,)), rnn.build((3, 5))
    assert (conv.in_channels, dense.in_features, rnn.in_features) == (7, 6, 5)


def test_a_batch_axis_in_the_shape_of_a_sample_is_noticed():
    with pytest.raises(
        ShapeError, match=r"got 1x32x12x12x1, 5 axes.*one sample, for build\(\) and summary\(\)"
    ):
        nn.Conv2D(4, 3).build((32, 12, 12, 1))
