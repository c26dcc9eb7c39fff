"""Module: what it finds inside itself, modes, freezing, hooks, calls, and how it prints."""

import copy

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn
from tinynet.errors import ArgumentError


class Net(nn.Module):
    """Parameters, buffers and modules in every place where they are found."""

    def __init__(self):
        self.scale = nn.Parameter([1.0, 2.0])
        self.number = 3
        self.blocks = [nn.Dense(4, in_features=2), (nn.Dense(4, in_features=4, bias=False),)]
        self.heads = {"a": nn.Dense(2, in_features=4), "b": nn.Parameter([5.0])}
        self.norm = nn.BatchNorm(in_features=2)
        self.register_buffer("seen", np.zeros(1, np.float32))

    def forward(self, x):
        x = self.norm(x * self.scale)
        return self.heads["a"](self.blocks[1][0](self.blocks[0](x))) * self.heads["b"]


NAMES = [
    "scale",
    "heads.b",
    "blocks.0.weight",
    "blocks.0.bias",
    "blocks.1.0.weight",
    "heads.a.weight",
    "heads.a.bias",
    "norm.weight",
    "norm.bias",
]


def test_parameters_are_found_in_lists_tuples_and_dicts():
    assert [name for name, _ in Net().named_parameters()] == NAMES


def test_buffers_are_found():
    assert [n for n, _ in Net().named_buffers()] == ["seen", "norm.running_mean", "norm.running_var"]


def test_every_parameter_gets_a_gradient():
    net = Net()
    net(np.random.rand(5, 2).astype("float32")).sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in net.parameters())


def test_what_is_added_later_is_found():
    net = Net()
    net.blocks.append(nn.Dense(1, in_features=4))
    assert "blocks.2.weight" in dict(net.named_parameters())


def test_a_new_buffer_array_is_saved():
    net = Net()
    net.seen = np.ones(1, np.float32)
    assert net.state_dict()["seen"] == 1


def test_shared_parameters_and_modules_count_once():
    class Shared(nn.Module):
        def __init__(self):
            self.one = nn.Dense(3, in_features=3)
            self.again = self.one
            self.tied = self.one.weight

    assert [n for n, _ in Shared().named_parameters()] == ["tied", "one.bias"]
    assert [n for n, _ in Shared().named_modules()] == ["", "one"]


def test_a_module_that_holds_its_parent_does_no_harm():
    net = Net()
    net.blocks[0].parent = net
    assert len(net.parameters()) == len(NAMES)


def test_train_and_eval_reach_everything():
    net = Net()
    assert all(m.training for m in net.modules())
    assert not any(m.training for m in net.eval().modules())
    assert all(m.training for m in net.train().modules())


def test_frozen_layers_stay_bit_for_bit():
    net = nn.Sequential(nn.Dense(6), nn.BatchNorm(), nn.Dense(3))
    x, y = np.random.rand(8, 4).astype("float32"), np.random.randint(0, 3, 8)
    net(x)
    net[1].freeze()
    net[0].freeze()
    before = net.state_dict()
    optimizer = tn.optim.Adam(net.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        nn.CrossEntropy()(net.train()(x), y).backward()
        optimizer.step()
    after = net.state_dict()
    same = {name for name in before if before[name].tobytes() == after[name].tobytes()}
    assert same == {name for name in before if not name.startswith("2.")}


def test_a_frozen_batch_norm_uses_its_running_statistics():
    norm = nn.BatchNorm(in_features=2).freeze()
    x = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    np.testing.assert_allclose(norm(x).numpy(), x / np.sqrt(1 + 1e-5), rtol=1e-6)


def test_unfreeze_learns_again():
    net = nn.Sequential(nn.Dense(2), nn.BatchNorm()).build((3,)).freeze().unfreeze()
    before = net.state_dict()
    net(np.random.rand(4, 3).astype("float32")).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    assert not np.array_equal(before["1.running_mean"], net[1].running_mean)


def test_what_is_frozen_before_it_is_built_stays_frozen():
    net = nn.Sequential(nn.Dense(2)).freeze().build((3,))
    assert not any(p.requires_grad for p in net.parameters())


def test_astype_converts_parameters_and_buffers():
    net = Net().astype("float64")
    assert {a.dtype for a in net.state_dict().values()} == {np.dtype("float64")}


def test_to_cpu_changes_nothing_and_an_unknown_device_is_refused():
    net = Net()
    array = net.scale.data
    assert net.to("cpu").scale.data is array
    with pytest.raises(ArgumentError, match="unknown device 'gpu'"):
        net.to("gpu")


def test_arrays_are_welcome():
    net = nn.Dense(2, in_features=3)
    x = np.ones((1, 3), np.float32)
    np.testing.assert_array_equal(net(x).numpy(), net(tn.tensor(x)).numpy())


def test_hooks_see_inputs_and_outputs_until_they_are_removed():
    net, seen = nn.Sequential(nn.Dense(2), nn.ReLU()), []
    handle = net[0].register_forward_hook(
        lambda module, inputs, output: seen.append((inputs[0].shape, output.shape))
    )
    x = np.ones((1, 3), np.float32)
    net(x)
    handle.remove()
    handle.remove()
    net(x)
    assert seen == [((1, 3), (1, 2))]


def test_a_hook_may_replace_the_output():
    net = nn.Dense(2, in_features=3)
    with net.register_forward_hook(lambda module, inputs, output: output * 0):
        assert not net(np.ones((1, 3), np.float32)).numpy().any()
    assert net(np.ones((1, 3), np.float32)).numpy().any()


def test_copies_are_independent():
    net = nn.Sequential(nn.Dense(2, in_features=3))
    twin = copy.deepcopy(net)
    twin[0].weight.data[:] = 0
    assert net[0].weight.data.any()


def test_a_module_without_forward_says_so():
    class Empty(nn.Module):
        pass

    with pytest.raises(TypeError, match="Empty defines no forward"):
        Empty()(1)


def test_repr_shows_the_structure_with_parameters():
    class Small(nn.Module):
        def __init__(self):
            self.body = nn.Sequential(
                nn.Conv2D(4, 3, padding="same", activation="relu"), nn.MaxPool2D(2), tn.ops.tanh
            )
            self.out = nn.Dense(2)

        def forward(self, x):
            return self.out(self.body(x).flatten(1))

    assert repr(Small()).splitlines()[0] == "Small()  # size not known yet"
    assert repr(Small().build((6, 6, 1))).splitlines() == [
        "Small()  # 114 parameters",
        "  (body) Sequential()  # 40 parameters",
        "    (0) Conv2D(4, 3, padding='same', activation=relu, in_channels=1)  # 40 parameters",
        "    (1) MaxPool2D()",
        "    (2) tanh",
        "  (out) Dense(2, in_features=36)  # 74 parameters",
    ]


@pytest.mark.parametrize(
    "layer, text",
    [
        (nn.ConvTranspose2D(4, 2, stride=2), "ConvTranspose2D(4, 2, stride=2)"),
        (nn.LSTM(8, bidirectional=True), "LSTM(8, bidirectional=True)"),
        (nn.SimpleRNN(8, activation="relu"), "SimpleRNN(8, activation='relu')"),
        (nn.BatchNorm(0.99), "BatchNorm(momentum=0.99)"),
        (nn.MaxPool2D(3, stride=2), "MaxPool2D(size=3, stride=2)"),
        (nn.Dropout(0.5), "Dropout()"),
        (nn.CrossEntropy(label_smoothing=0.1), "CrossEntropy(label_smoothing=0.1)"),
    ],
)
def test_layers_print_what_differs_from_the_defaults(layer, text):
    assert repr(layer).partition("  #")[0] == text


def test_parameters_print_themselves():
    assert repr(nn.Parameter()) == "parameter(no size yet)"
    assert repr(nn.Parameter([1.0])).startswith("parameter([1.]")


@pytest.mark.parametrize("verb", ["fit", "evaluate", "predict"])
def test_training_needs_compile(verb):
    with pytest.raises(
        ArgumentError, match=rf"{verb}\(\) does not know the loss yet. First: model.compile\("
    ):
        getattr(nn.Dense(2), verb)(np.ones((1, 3)))


def test_compile_and_fit_hand_over_to_the_trainer():
    net = nn.Sequential(nn.Dense(2))
    net.compile(optimizer="sgd", loss="cross_entropy", metrics=["accuracy"], lr=0.5)
    x = np.random.rand(64, 3).astype("float32")
    y = (x[:, 0] > x[:, 1]).astype("int64")
    net.fit(x, y, epochs=30, batch_size=16, verbose="silent")
    assert net.evaluate(x, y)["accuracy"] > 0.85
    probabilities = net.predict(x)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


def test_sequential_is_a_list_of_layers():
    net = nn.Sequential(nn.Dense(4), nn.ReLU(), nn.Dense(2))
    assert len(net) == 3
    assert list(net)[2] is net[2]
    assert isinstance(net[:2], nn.Sequential)
    assert net[:2][0] is net[0]
    assert len(net.append(nn.Softmax())) == 4


@pytest.mark.parametrize(
    "layers, text",
    [
        (([nn.ReLU()],), r"Sequential\(\*layers\) with a star"),
        ((nn.ReLU,), r"layer 0 is the class ReLU; write ReLU\(\)"),
        ((nn.ReLU(), 3), "layer 1 is 3, not a layer"),
    ],
)
def test_sequential_refuses_what_is_no_layer(layers, text):
    with pytest.raises(ArgumentError, match=text):
        nn.Sequential(*layers)
