"""What is typed wrongly gets a sentence that shows the right way."""

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn
from tinynet.errors import ArgumentError, DTypeError, ShapeError


def zeros(*shape, dtype="float32"):
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    "make, right",
    [
        (lambda: nn.Conv2D(1, 32, 3),
         r"Conv2D\(1, 32, 3\): only filters, .* Write Conv2D\(32, 3, in_channels=1\)"),
        (lambda: nn.Conv3D(1, 32, 3, 2), r"Write Conv3D\(32, 3, in_channels=1\)"),
        (lambda: nn.ConvTranspose2D(8, 4, 2), r"Write ConvTranspose2D\(4, 2, in_channels=8\)"),
        (lambda: nn.Dense(784, 10), r"Dense\(784, 10\): only units .* Write Dense\(10, in_features=784\)"),
        (lambda: nn.SimpleRNN(28, 128), r"Write SimpleRNN\(128, in_features=28\)"),
        (lambda: nn.LSTM(28, 128, 2), r"Write LSTM\(128, in_features=28\)"),
        (lambda: nn.MaxPool2D(3, 2), r"Write MaxPool2D\(3, stride=2\)"),
        (lambda: nn.AvgPool2D(3, 2), r"Write AvgPool2D\(3, stride=2\)"),
        (lambda: nn.GroupNorm(8, 32), r"Write GroupNorm\(8\)"),
        (lambda: nn.LeakyReLU(0.1, 2), r"LeakyReLU\(0.1, 2\): only slope may stand without a name"),
        (lambda: nn.ReLU(True), r"ReLU\(True\): nothing may stand without a name"),
        (lambda: nn.BatchNorm(32), r"momentum=32 .* The number of features is not given to BatchNorm"),
    ],
)  # fmt: skip
def test_arguments_in_the_order_of_another_library(make, right):
    with pytest.raises(ArgumentError, match=right):
        make()


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: nn.Dense(3, activation="rellu"), r"unknown activation 'rellu'\. Did you mean 'relu'"),
        (lambda: nn.Dense(3, activation=nn.ReLU), r"activation is the class ReLU; write ReLU\(\)"),
        (lambda: nn.Dense(3, init="he_norml"), r"unknown init 'he_norml'\. Did you mean 'he_normal'"),
        (lambda: nn.Dense(3, init="constant"), r"init=nn\.init\.Constant\(0\.1\)"),
        (lambda: nn.Conv2D(3, 3, padding="smae"), r"unknown padding 'smae'\. Did you mean 'same'"),
        (lambda: nn.MaxPool2D(padding="full"), r"unknown padding 'full'\. Known: same, valid"),
        (lambda: nn.Upsample2D(2, mode="bilinear"), r"unknown mode 'bilinear'\. Did you mean 'linear'"),
        (lambda: nn.Conv2D(3, 3, stride=0), r"stride=0: each entry must be an integer of at least 1"),
        (lambda: nn.Conv2D(3, 3, dilation=0), r"dilation=0"),
        (lambda: nn.Conv2D(3, (3, 3, 3)), r"kernel_size=\(3, 3, 3\) has 3 entries for 2 spatial axes"),
        (lambda: nn.Conv2D(0, 3), r"filters=0: give a whole number of at least 1"),
        (lambda: nn.Dense(2.5), r"units=2\.5: give a whole number"),
        (lambda: nn.Dense(3, in_features=0), r"in_features=0"),
        (lambda: nn.Conv2D(4, 3, groups=3), r"filters=4 cannot be divided into groups=3"),
        (lambda: nn.Conv2D(4, 3, groups=2, in_channels=3), r"3 input channels cannot be divided"),
        (lambda: nn.MaxPool2D(0), r"size=0"),
        (lambda: nn.Upsample2D(0), r"scale=0"),
        (lambda: nn.LayerNorm(eps=0), r"eps=0: give a small positive number"),
        (lambda: nn.Dense(3, init=lambda s: np.zeros(2), in_features=4),
         r"instead of an array of shape \(4, 3\)"),
    ],
)  # fmt: skip
def test_wrong_values(make, text):
    with pytest.raises(ArgumentError, match=text):
        make()


@pytest.mark.parametrize(
    "name, text",
    [
        ("Linear", r"tinynet\.nn has no 'Linear'; it is called Dense\(units\)"),
        ("Conv2d", r"Conv2D\(filters, kernel_size\)"),
        ("Conv2DTranspose", r"ConvTranspose2D\("),
        ("MaxPooling2D", r"MaxPool2D\(size\)"),
        ("BatchNorm2d", r"BatchNorm\(\)"),
        ("BatchNormalization", r"BatchNorm\(\)"),
        ("CrossEntropyLoss", r"CrossEntropy\(\)"),
        ("ModuleList", r"a plain Python list"),
        ("Bidirectional", r"bidirectional=True"),
        ("Drpout", r"tinynet\.nn has no 'Drpout'\. Did you mean 'Dropout'"),
    ],
)
def test_names_of_the_other_school(name, text):
    with pytest.raises(AttributeError, match=text):
        getattr(nn, name)


def test_every_name_of_the_other_school_leads_to_one_that_exists():
    for name, ours in nn._ELSEWHERE.items():
        assert name not in nn.__all__
        assert any(known in ours for known in [*nn.__all__, "plain Python"]), name


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: nn.Conv2D(8, 3, strides=2), r"Conv2D has no argument 'strides'\. It is called 'stride'\."),
        (lambda: nn.ConvTranspose2D(8, 3, strid=2),
         r"ConvTranspose2D has no argument 'strid'\. Did you mean 'stride'"),
        (lambda: nn.Dense(3, use_bias=False), r"It is called 'bias'"),
        (lambda: nn.LSTM(3, hidden_size=4), r"It is called 'units'"),
        (lambda: nn.GRU(3, activation="relu"), r"GRU has no argument 'activation'"),
        (lambda: nn.Dropout(p=0.5), r"It is called 'rate'"),
        (lambda: nn.CrossEntropy(weight=[1, 2]), r"It is called 'class_weight'"),
        (lambda: nn.ReLU(inplace=True), r"ReLU has no argument 'inplace'\. It takes none"),
    ],
)  # fmt: skip
def test_arguments_with_the_names_of_another_library(make, text):
    with pytest.raises(ArgumentError, match=text):
        make()


def test_ones_own_modules_take_what_they_want():
    class Own(nn.Module):
        def __init__(self, a, *rest, b=1, **more):
            self.more = more

    assert Own(1, 2, 3, c=4).more == {"c": 4}


# --- shapes: the layer is named, and the way there is shown ---


class Net(nn.Module):
    def __init__(self):
        self.conv1 = nn.Conv2D(16, 3, padding="same")
        self.pool = nn.MaxPool2D(2)
        self.conv2 = nn.Conv2D(8, 3, padding="same")
        self.flatten = nn.Flatten()
        self.fc1 = nn.Dense(32, in_features=1050)

    def forward(self, x):
        return self.fc1(self.flatten(self.conv2(self.pool(self.conv1(x)))))


def test_the_error_of_the_design():
    with pytest.raises(ShapeError) as error:
        Net()(zeros(2, 28, 28, 1))
    assert str(error.value) == (
        "in net.fc1 (Dense): got 1568 numbers per sample, but in_features=1050.\n"
        "  28x28x1 -> conv1 -> 28x28x16 -> pool -> 14x14x16 -> conv2 -> 14x14x8 -> flatten -> 1568 x fc1\n"
        "  Fix: Dense(32, in_features=1568), or leave in_features out."
    )


def test_a_forgotten_flatten_is_named():
    net = nn.Sequential(nn.MaxPool2D(2), nn.Dense(10, in_features=48))
    with pytest.raises(ShapeError, match=r"got 4x4x3 = 48 numbers per sample.*\n.*\n  Fix: nn.Flatten\(\)"):
        net(zeros(2, 8, 8, 3))


def test_layers_in_lists_have_a_path_too():
    class Deep(nn.Module):
        def __init__(self):
            self.blocks = [nn.Sequential(nn.ReLU(), nn.Dense(3, in_features=5))]

        def forward(self, x):
            return self.blocks[0](x)

    trail = r"4 -> blocks\.0\.0 ReLU -> 4 x blocks\.0\.1 Dense"
    with pytest.raises(ShapeError, match=rf"^in deep\.blocks\.0\.1 \(Dense\): got 4 .*\n  {trail}"):
        Deep()(zeros(2, 4))


def test_steps_outside_of_layers_are_seen_in_the_trail():
    class Cut(nn.Module):
        def __init__(self):
            self.first, self.second = nn.Dense(6), nn.Dense(2, in_features=6)

        def forward(self, x):
            return self.second(self.first(x)[:, :4])

    with pytest.raises(ShapeError, match=r"3 -> first -> 6 -> 4 x second"):
        Cut()(zeros(2, 3))


def test_long_trails_are_cut():
    net = nn.Sequential(*[nn.ReLU() for _ in range(20)], nn.Dense(2, in_features=3))
    with pytest.raises(ShapeError, match=r"\n  \.\.\. -> 4 -> 12 ReLU -> 4 -> 13 ReLU") as error:
        net(zeros(2, 4))
    assert "11 ReLU" not in str(error.value)


def test_the_first_layer_has_no_trail():
    net = nn.Sequential(nn.Dense(2, in_features=3))
    with pytest.raises(ShapeError) as error:
        net(zeros(2, 4))
    assert "->" not in str(error.value)


def test_a_layer_by_itself_is_named_by_its_kind():
    with pytest.raises(ShapeError, match=r"^in Dense: got 4 numbers"):
        nn.Dense(2, in_features=3)(zeros(2, 4))


def test_the_trail_of_one_call_is_not_seen_in_the_next():
    net = nn.Sequential(nn.ReLU(), nn.Dense(2, in_features=3))
    net(zeros(2, 3))
    with pytest.raises(ShapeError) as error:
        net(zeros(2, 4))
    assert str(error.value).count("ReLU") == 1


def test_channels_first_batches_are_recognised():
    net = nn.Sequential(nn.Conv2D(4, 3, in_channels=1))
    with pytest.raises(ShapeError, match=r"in sequential\.0 \(Conv2D\): .*x.transpose\(0, 2, 3, 1\)"):
        net(zeros(2, 1, 28, 28))


@pytest.mark.parametrize(
    "layer, shape, text",
    [
        (nn.Conv2D(4, 3), (28, 28, 1), r"28x28x1, 3 axes, but the input is \(N, H, W, C\)\..*x\[None\]"),
        (nn.Conv1D(4, 3), (2, 3, 4, 5), r"4 axes, but the input is \(N, T, C\)"),
        (nn.MaxPool2D(2), (28, 28, 1), r"3 axes, but the input has 4\..*x\[None\]"),
        (nn.GlobalAvgPool2D(), (2, 3, 3, 3, 1), r"5 axes, but the input has 4"),
        (nn.GlobalMaxPool3D(), (2, 3, 3, 1), r"x\[None\]"),
        (nn.Conv2D(4, 5), (2, 3, 9, 1), r"height 5 does not fit into an input of height 3"),
        (nn.GroupNorm(3), (2, 4), r"4 channels cannot be divided among 3 groups"),
    ],
)
def test_ranks_and_sizes(layer, shape, text):
    with pytest.raises(ShapeError, match=text):
        layer(zeros(*shape))


@pytest.mark.parametrize("dtype", ["float64", "uint8", "int64"])
@pytest.mark.parametrize(
    "layer, shape", [(nn.Conv2D(2, 1), (1, 3, 3, 1)), (nn.Dense(2), (1, 3)), (nn.GRU(2), (1, 2, 3))]
)
def test_other_dtypes_are_not_mixed_in(layer, shape, dtype):
    with pytest.raises(
        DTypeError, match=rf"the input is {dtype}, the weights float32\. .*x\.astype\('float32'\)"
    ):
        layer(zeros(*shape, dtype=dtype))


@pytest.mark.parametrize(
    "room, name, text",
    [
        (tn, "Conv2D", r"tinynet has no 'Conv2D'; it is tinynet\.nn\.Conv2D"),
        (tn, "modls", r"Did you mean 'models'"),
        (tn.data, "DataLoader", r"it is called Loader\("),
        (tn.data, "loader_", r"Did you mean 'Loader'"),
        (tn.training, "ModelCheckpoint", r"it is called Checkpoint\("),
        (tn.training, "EarlyStoping", r"Did you mean 'EarlyStopping'"),
    ],
)
def test_names_that_other_rooms_or_packages_have(room, name, text):
    with pytest.raises(AttributeError, match=text):
        getattr(room, name)


def test_layers_can_be_replaced_by_layers_only():
    net = nn.Sequential(nn.Dense(3), nn.Dense(2))
    net[-1] = nn.Dense(5)
    assert net(zeros(1, 4)).shape == (1, 5) and list(net.state_dict())[-1] == "1.bias"
    with pytest.raises(ArgumentError, match=r"layer 0 is the class ReLU; write ReLU\(\)"):
        net[0] = nn.ReLU


def test_models_of_two_inputs_are_called_not_built():
    class Two(nn.Module):
        def __init__(self):
            self.out = nn.Dense(2)

        def forward(self, x, y, scale=1.0):
            return self.out(x) + self.out(y) * scale

    with pytest.raises(ArgumentError, match=r"Two\.forward takes x, y\. Its layers find their sizes when"):
        Two().build((3,))
    assert Two()(zeros(1, 3), zeros(1, 3)).shape == (1, 2)
