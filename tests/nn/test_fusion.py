"""Neighbours computed in one go: nothing but the graph shows it, and whoever looks sees every layer."""

from contextlib import nullcontext

import numpy as np
import pytest

import tinynet as tn
from tinynet import kernels, models, nn, ops
from tinynet.errors import ArgumentError, DTypeError, ShapeError, TinynetError
from tinynet.gradcheck import gradcheck
from tinynet.nn.trail import record_call

DTYPES = ["float32", "float64"]


def split(model):
    """Somebody looks at every layer, which keeps them apart."""
    for layer in model.modules():
        if layer is not model:
            layer.register_forward_hook(lambda layer, inputs, output: None)
    return model


def made(make, dtype="float32", shape=(9, 7, 3), look=False):
    """The same model each time, parameters in ``dtype``, with statistics that are not those of the batch."""
    tn.seed(1)
    model = make().build(shape).astype(dtype)
    for name, array in model.named_buffers():
        array += 0.5 if name.endswith("var") else 0.25
    for parameter in model.parameters():
        parameter.data += np.linspace(-0.3, 0.3, parameter.size).reshape(parameter.shape).astype(dtype)
    return split(model) if look else model


def images(dtype="float32", shape=(9, 7, 3), n=4):
    return np.random.default_rng(2).normal(size=(n, *shape)).astype(dtype)


def nodes(y):
    """The operations that made ``y``, the youngest first, along their first inputs."""
    names, node = [], y.node
    while node is not None:
        names.append(node.name)
        origin = node.sources[0] and node.sources[0][0]
        node = None if origin is None or isinstance(origin, tn.Tensor) else origin
    return names


def everything(model, x):
    """Output, all gradients and all buffers of one step."""
    x = tn.tensor(x, requires_grad=True)
    y = model(x)
    y.backward(np.random.default_rng(3).normal(size=y.shape))
    return [y.data, x.grad, *(p.grad for p in model.parameters()), *(b for _, b in model.named_buffers())]


def relu_pool(*, norm=False, **settings):
    layers = [nn.Conv2D(8, 3, **settings), *[nn.BatchNorm()] * norm, nn.ReLU(), nn.MaxPool2D(2)]
    return nn.Sequential(*layers)


MODELS = {
    "conv relu pool": (relu_pool, ["Conv"]),
    "without a bias": (lambda: relu_pool(bias=False, padding="same"), ["Conv"]),
    "stride": (lambda: relu_pool(stride=(2, 1), dilation=(1, 2), padding=1), ["Conv"]),
    "groups": (
        lambda: nn.Sequential(nn.Conv2D(6, 3, groups=3), nn.ReLU(), nn.MaxPool2D((2, 2), stride=(2, 2))),
        ["Conv"],
    ),
    "conv relu": (lambda: nn.Sequential(nn.Conv2D(8, 3), nn.ReLU()), ["Conv"]),
    "conv pool": (lambda: nn.Sequential(nn.Conv2D(8, 3), nn.MaxPool2D(2)), ["Conv"]),
    "activation": (lambda: nn.Sequential(nn.Conv2D(8, 3, activation="relu")), ["Conv"]),
    "activation, pool": (
        lambda: nn.Sequential(nn.Conv2D(8, 3, activation="relu"), nn.MaxPool2D((2, 2), stride=2)), ["Conv"]
    ),
    "dense relu": (
        lambda: nn.Sequential(nn.Dense(5), nn.ReLU(), nn.Dense(2, activation="relu")), ["Dense", "Dense"]
    ),
    "norm relu": (lambda: nn.Sequential(nn.BatchNorm(), nn.ReLU()), ["BatchNorm"]),
    "frozen norm": (lambda: nn.Sequential(nn.BatchNorm().freeze(), nn.ReLU()), ["BatchNormFixed"]),
    "conv norm relu": (lambda: relu_pool(norm=True), ["MaxPool", "BatchNorm", "Conv"]),
    "small cnn": (models.small_cnn, ["Dense", "Dense", "Reshape", "Conv", "Conv"]),
    "wide cnn": (
        models.wide_cnn, ["Dense", "Dropout", "Dense", "Reshape", "Dropout", "Conv", "Conv"]
    ),
    "u-net": (lambda: models.UNet(base=2, depth=1), None),
    "another activation": (
        lambda: nn.Sequential(nn.Conv2D(8, 3, activation="tanh"), nn.ReLU(), nn.MaxPool2D(2)),
        ["MaxPool", "Relu", "Tanh", "Conv"],
    ),
    "another activation, pool": (
        lambda: nn.Sequential(nn.Conv2D(8, 3, activation=ops.sigmoid), nn.MaxPool2D(2)),
        ["MaxPool", "Sigmoid", "Conv"],
    ),
    "two relus": (
        lambda: nn.Sequential(nn.Dense(5, activation="relu"), nn.ReLU(), nn.ReLU()), ["Relu", "Relu", "Dense"]
    ),
    "dropout between": (
        lambda: nn.Sequential(nn.Conv2D(8, 3), nn.Dropout(0.5), nn.ReLU(), nn.MaxPool2D(2)),
        ["MaxPool", "Relu", "Dropout", "Conv"],
    ),
    "other pools": (
        lambda: nn.Sequential(nn.Conv2D(8, 3), nn.ReLU(), nn.MaxPool2D(2, stride=1), nn.MaxPool2D(2)),
        ["MaxPool", "MaxPool", "Conv"],
    ),
    "padded pool": (
        lambda: nn.Sequential(nn.Conv2D(8, 3), nn.MaxPool2D(2, padding="same")), ["MaxPool", "Conv"]
    ),
    "a function": (
        lambda: nn.Sequential(nn.Conv2D(8, 3), ops.relu, nn.MaxPool2D(2)), ["MaxPool", "Relu", "Conv"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_what_is_computed_in_one_go(name):
    make, expected = MODELS[name]
    if expected is not None:
        x = tn.tensor(images(shape=(12, 10, 3)), requires_grad=True)
        assert nodes(made(make, shape=(12, 10, 3))(x)) == expected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MODELS)
def test_a_training_step_is_the_same_to_the_last_bit(name, dtype):
    shape = (12, 10, 3)
    steps = []
    for look in (False, True):
        model = made(MODELS[name][0], dtype, shape, look)
        tn.seed(5)
        steps.append(everything(model, images(dtype, shape)))
    for together, apart in zip(*steps, strict=True):
        np.testing.assert_array_equal(together, apart, strict=True)


@pytest.mark.parametrize(
    "name", ["conv relu pool", "dense relu", "norm relu", "frozen norm", "activation, pool"]
)
def test_gradients_agree_with_finite_differences(name):
    model = made(MODELS[name][0], "float64", (5, 4, 2))
    x = images("float64", (5, 4, 2), n=2)
    assert gradcheck(model, x)
    for parameter in model.parameters():
        parameter.grad = None
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if learning:
        model(x).sum().backward()
    for parameter in learning:
        check_slope(model, x, parameter)


def check_slope(model, x, parameter, step=1e-6):
    """The sum of the outputs along a random direction of one parameter."""
    direction, middle = np.random.default_rng(4).normal(size=parameter.shape), parameter.data
    sums = []
    for sign in (1, -1):
        parameter.data = middle + sign * step * direction
        sums.append(model(x).sum().item())
    parameter.data = middle
    slope = (sums[0] - sums[1]) / (2 * step)
    assert slope == pytest.approx(np.vdot(parameter.grad, direction), rel=1e-5, abs=1e-6)


# --- inference: batch norm folded into the weights ---


@pytest.fixture
def norms(monkeypatch):
    """How often a batch norm with fixed statistics was computed by itself."""
    calls, original = [], kernels.scale_shift
    monkeypatch.setattr(kernels, "scale_shift", lambda *args: calls.append(1) or original(*args))
    return calls


FOLDED = {
    "with a bias": lambda: relu_pool(norm=True),
    "without a bias": lambda: relu_pool(norm=True, bias=False, padding="same", stride=2),
    "without relu": lambda: nn.Sequential(nn.Conv2D(6, 3, groups=3), nn.BatchNorm()),
    "a sequence": lambda: nn.Sequential(nn.Conv1D(6, 3), nn.BatchNorm(eps=0.1), nn.ReLU()),
}


@pytest.mark.parametrize("name", FOLDED)
def test_a_batch_norm_is_folded_into_the_weights_for_inference(name, norms):
    shape = (11, 3) if name == "a sequence" else (9, 7, 3)
    x = images(shape=shape)
    together, apart = (made(FOLDED[name], shape=shape, look=look).eval() for look in (False, True))
    weights = together.state_dict()
    norms.clear()
    with tn.no_grad():
        y = together(x)
        assert not norms
        np.testing.assert_allclose(y.data, apart(x).data, rtol=1e-4, atol=1e-5)
        assert len(norms) == 1
    for key, array in together.state_dict().items():
        np.testing.assert_array_equal(array, weights[key], strict=True)


def test_frozen_layers_are_folded_without_no_grad(norms):
    model = made(FOLDED["with a bias"]).freeze()
    norms.clear()
    assert not model(images()).requires_grad and not norms  # in training mode, but frozen


NOT_FOLDED = {  # dtype, how the model is prepared, whether in no_grad(), whether x wants a gradient
    "recorded": ("float32", nn.Module.eval, False, False),
    "in float64": ("float64", nn.Module.eval, True, False),
    "in training": ("float32", nn.Module.train, True, False),
    "x wants a gradient": ("float32", nn.Module.freeze, False, True),
}


@pytest.mark.parametrize("case", NOT_FOLDED)
def test_a_batch_norm_is_not_folded_and_the_result_exact(case, norms):
    dtype, prepare, unrecorded, wants_grad = NOT_FOLDED[case]
    x, results = tn.tensor(images(dtype), requires_grad=wants_grad), []
    for look in (False, True):
        model = made(FOLDED["with a bias"], dtype, look=look)
        norms.clear()
        with tn.no_grad() if unrecorded else nullcontext():
            results.append([prepare(model)(x).data, *(b for _, b in model.named_buffers())])
        assert len(norms) == (case != "in training")
    for together, apart in zip(*results, strict=True):
        np.testing.assert_array_equal(together, apart, strict=True)


# --- who looks sees every layer ---


@pytest.mark.parametrize("looked_at", [0, 1, 2])
def test_a_hook_sees_what_its_layer_makes(looked_at):
    seen = []
    models = [made(relu_pool) for _ in range(2)]
    watched = models[1][looked_at].register_forward_hook(lambda *call: seen.append(call))
    plain, other = (model(images()) for model in models)
    np.testing.assert_array_equal(plain.data, other.data)
    ((layer, (given,), output),) = seen
    assert layer is models[1][looked_at]
    expected = tn.tensor(images())
    for before in models[0][:looked_at]:
        expected = before(expected)
    np.testing.assert_array_equal(given.data, expected.data)
    np.testing.assert_array_equal(output.data, models[0][looked_at](expected).data)
    watched.remove()
    assert nodes(models[1](images())) == ["Conv"]


def test_a_hook_may_replace_what_stands_within_a_run():
    model = made(relu_pool)
    with model[1].register_forward_hook(lambda layer, inputs, output: output * 0 + 7):
        assert (model(images()).data == 7).all()
    assert not (model(images()).data == 7).any()


def test_layers_are_exchanged_and_changed_at_any_time():
    model = made(relu_pool)
    assert nodes(model(images())) == ["Conv"]
    model[1] = nn.Tanh()
    assert nodes(model(images())) == ["MaxPool", "Tanh", "Conv"]
    model[1], model[2].stride = nn.ReLU(), 1
    assert nodes(model(images())) == ["MaxPool", "Conv"]
    model[0].activation = ops.sigmoid
    assert nodes(model(images())) == ["MaxPool", "Relu", "Sigmoid", "Conv"]


class Doubling(nn.ReLU):
    def forward(self, x):
        return super().forward(x) * 2


class Negative(nn.Conv2D):
    def run(self, x):
        return -super().run(x)


def test_layers_with_a_forward_of_their_own_are_called():
    plain, doubled = made(relu_pool), made(relu_pool)
    doubled[1] = Doubling()
    np.testing.assert_array_equal(doubled(images()).data, 2 * plain(images()).data)
    model = made(lambda: nn.Sequential(Negative(4, 3), nn.ReLU(), nn.MaxPool2D(2)))
    assert nodes(model(images())) == ["MaxPool", "Relu", "Neg", "Conv"]


# --- the trail, errors, building ---


def steps_of(model, x):
    names = {id(module): path for path, module in model.named_modules()}
    return [(names[id(module)], *shapes) for module, *shapes in record_call(model, (tn.tensor(x),), {})[1]]


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("name", ["conv relu pool", "stride", "conv norm relu", "dense relu", "u-net"])
def test_the_trail_names_every_layer_with_its_shapes(name, recorded):
    both = []
    for look in (False, True):
        model = made(MODELS[name][0], look=look)
        model.train() if recorded else model.eval().freeze()
        both.append(steps_of(model, images()))
    assert both[0] == both[1]


def test_the_trail_of_a_run():
    assert steps_of(made(relu_pool), images()) == [
        ("0", (4, 9, 7, 3), (4, 7, 5, 8)),
        ("1", (4, 7, 5, 8), (4, 7, 5, 8)),
        ("2", (4, 7, 5, 8), (4, 3, 2, 8)),
        ("", (4, 9, 7, 3), (4, 3, 2, 8)),
    ]


@pytest.mark.parametrize("name", MODELS)
def test_summaries_and_names_are_those_of_the_layers(name):
    plain, looked_at = (made(MODELS[name][0], shape=(12, 10, 3), look=look) for look in (False, True))
    assert str(plain.summary()) == str(looked_at.summary())
    assert list(plain.state_dict()) == list(looked_at.state_dict())


def test_names_of_parameters_stay():
    names = list(made(models.small_cnn, shape=(28, 28, 1)).state_dict())
    assert names == [f"{i}.{name}" for i in (0, 3, 7, 9) for name in ("weight", "bias")]


def classifier():
    return nn.Sequential(*relu_pool(), nn.Flatten(), nn.Dense(5, in_features=8), nn.ReLU())


WRONG = {
    "too small for the pool": (classifier, images(shape=(3, 9, 3)), ShapeError),
    "too small for the kernel": (classifier, images(shape=(2, 9, 3)), ShapeError),
    "without channels": (classifier, images(shape=(9, 9)), ShapeError),
    "channels first": (classifier, images(shape=(3, 28, 28)), ShapeError),
    "no sample": (classifier, np.float32(3), ShapeError),
    "does not fit the dense layer": (classifier, images(shape=(9, 9, 3)), ShapeError),
    "other numbers": (classifier, images("float64"), DTypeError),
    "whole numbers": (classifier, np.ones((1, 9, 9, 3), int), DTypeError),
    "one value per feature": (
        lambda: nn.Sequential(nn.BatchNorm(), nn.ReLU()), images(shape=(3,), n=1), ShapeError
    ),
    "groups": (lambda: relu_pool(groups=2), images(), ArgumentError),
    "norm of other size": (
        lambda: nn.Sequential(nn.Conv2D(8, 3), nn.BatchNorm(in_features=4), nn.ReLU()).eval().freeze(),
        images(), ShapeError,
    ),
}  # fmt: skip


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("name", WRONG)
def test_errors_are_those_of_the_layer_that_fails(name, built):
    make, x, kind = WRONG[name]
    errors = []
    for look in (False, True):
        model = make()
        if built and name != "groups":
            model[0].build((3,) if isinstance(model[0], nn.BatchNorm) else (9, 9, 3))
        if look:
            split(model)
        before = tn.random.get_state()
        with pytest.raises(TinynetError) as caught:
            model(x)
        assert type(caught.value) is kind and caught.value.__context__ is None
        assert str(tn.random.get_state()) == str(before)
        errors.append((str(caught.value), getattr(caught.value, "layer", None)))
    assert errors[0] == errors[1]


def test_the_pool_says_that_the_image_is_too_small_for_it():
    with pytest.raises(
        ShapeError, match=r"window of height 2 does not fit into an input of height 1"
    ) as caught:
        classifier()(images(shape=(3, 9, 3)))
    assert caught.value.layer == "sequential.2 (MaxPool2D)"
    assert "3x9x3 -> 0 Conv2D -> 1x7x8 -> 1 ReLU -> 1x7x8 x 2 MaxPool2D" in str(caught.value)


def test_a_model_that_was_never_built_finds_its_sizes():
    x, results = images(shape=(4, 4, 3)), []
    for look in (False, True):
        tn.seed(1)
        model = split(classifier()) if look else classifier()
        results.append(model(x).data)
        assert model[0].in_channels == 3 and model.input_shape == (4, 4, 3)
    np.testing.assert_array_equal(*results)


def test_a_first_call_that_fails_leaves_the_layers_unbuilt():
    model = classifier()
    with pytest.raises(ShapeError):
        model(images(shape=(3, 9, 3)))
    assert model[0].in_channels is None and model(images(shape=(4, 4, 3))).shape == (4, 5)


def test_forward_called_by_hand_and_lists_as_input():
    model = made(lambda: nn.Sequential(nn.Dense(5), nn.ReLU()), shape=(3,))
    x = images(shape=(3,))
    np.testing.assert_array_equal(model.forward(tn.tensor(x)).data, model(x).data)
    np.testing.assert_array_equal(model([[1.0, 2.0, 3.0]]).data, model(np.float32([[1, 2, 3]])).data)
