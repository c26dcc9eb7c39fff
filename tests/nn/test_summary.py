"""The summary: every row and total by hand, and no side effects."""

import json

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn
from tinynet.errors import ArgumentError

TABLE = """\
layer  type       output  parameters  multiply-adds
---------------------------------------------------
input             6x6x2
0      Conv2D     6x6x4           76          2,592
1      BatchNorm  6x6x4            8              0
2      MaxPool2D  3x3x4            0              0
3      Flatten    36               0              0
4      Dense      5       185 frozen            180
---------------------------------------------------
total                            269          2,772
trainable 84, frozen 185, in buffers 8. Shapes and multiply-adds
(of convolutions, dense and recurrent layers) are for one sample."""


def net():
    return nn.Sequential(
        nn.Conv2D(4, 3, padding="same"), nn.BatchNorm(), nn.MaxPool2D(2), nn.Flatten(), nn.Dense(5)
    )


def test_the_table():
    model = net()
    model[4].freeze()
    assert str(model.summary((6, 6, 2))) == TABLE


def test_numbers_can_be_read_and_written_as_json():
    summary = net().summary((6, 6, 2))
    assert (summary.parameters, summary.trainable, summary.buffers, summary.multiply_adds) == (
        269,
        269,
        8,
        2772,
    )
    stored = json.loads(json.dumps(summary.to_dict()))
    assert stored["layers"][0] == {
        "path": "0",
        "kind": "Conv2D",
        "output_shape": [6, 6, 4],
        "parameters": 76,
        "frozen": False,
        "multiply_adds": 2592,
    }


@pytest.mark.parametrize(
    "layer, shape, expected",
    [
        (nn.Conv1D(4, 3), (10, 2), 8 * 3 * 2 * 4),
        (nn.Conv2D(4, 3, stride=2, groups=2), (9, 9, 2), 4 * 4 * 9 * 1 * 4),
        (nn.Conv3D(2, 2), (3, 3, 3, 1), 8 * 8 * 2),
        (nn.ConvTranspose2D(4, 2, stride=2), (5, 6, 3), 30 * 4 * 3 * 4),
        (nn.Dense(4), (3,), 12),
        (nn.Dense(4), (5, 3), 60),
        (nn.SimpleRNN(4), (6, 3), 6 * (3 * 4 + 16)),
        (nn.LSTM(4), (6, 3), 6 * 4 * (3 * 4 + 16)),
        (nn.GRU(4, bidirectional=True), (6, 3), 2 * 6 * 3 * (3 * 4 + 16)),
        (nn.MaxPool2D(2), (4, 4, 1), 0),
    ],
)
def test_multiply_adds(layer, shape, expected):
    assert layer.summary(shape).multiply_adds == expected


def test_a_layer_called_twice_has_two_rows_and_counts_once():
    class Twice(nn.Module):
        def __init__(self):
            self.layer = nn.Dense(3)

        def forward(self, x):
            return self.layer(self.layer(x))

    summary = Twice().summary((3,))
    assert [(row.path, row.parameters, row.multiply_adds) for row in summary.rows] == [
        ("layer", 12, 9),
        ("layer", 0, 9),
    ]
    assert summary.parameters == 12


def test_own_parameters_of_a_container_have_a_row():
    class Scaled(nn.Module):
        def __init__(self):
            self.scale, self.body = nn.Parameter([2.0]), nn.Dense(3)

        def forward(self, x):
            return self.body(x) * self.scale

    assert [(row.path, row.parameters) for row in Scaled().summary((3,)).rows] == [
        ("body", 12),
        ("(model)", 1),
    ]


def test_the_structure_can_be_typed_again():
    net = nn.Sequential(nn.Conv2D(4, 3, stride=2, bias=False), nn.Dense(2, activation="relu", bias=False))
    text = repr(net)
    assert "Conv2D(4, 3, stride=2, bias=False)" in text and "Dense(2, activation=relu, bias=False)" in text


def test_several_outputs():
    assert "several" in str(nn.LSTM(3, return_state=True).summary((4, 2)))


def test_the_shape_is_remembered_or_asked_for():
    model = net()
    with pytest.raises(ArgumentError, match=r"model.summary\(\(28, 28, 1\)\)"):
        model.summary()
    model(np.ones((2, 6, 6, 2), np.float32))
    assert str(model.summary()) == str(model.summary((6, 6, 2)))


def test_the_summary_changes_nothing():
    model = net().build((6, 6, 2))
    before, state = {n: a.tobytes() for n, a in model.state_dict().items()}, tn.random.get_state()
    model.summary()
    assert {n: a.tobytes() for n, a in model.state_dict().items()} == before
    assert tn.random.get_state() == state
    assert all(m.training for m in model.modules())
    assert all(p.grad is None for p in model.parameters())
