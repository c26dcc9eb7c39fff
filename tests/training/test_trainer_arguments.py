"""What fit and its kin can be given, and what they say about the rest."""

import numpy as np
import pytest

from tinynet import nn, optim
from tinynet.data import Loader
from tinynet.errors import ArgumentError, DataError, DTypeError, ShapeError
from tinynet.training import Trainer


def quiet(trainer, *data, **settings):
    return trainer.fit(*data, verbose=0, **settings)


# --- what may be given for optimiser, loss and metrics ---


@pytest.mark.parametrize("given", ["name", "class", "function", "object"])
def test_an_optimiser_may_be_a_name_a_class_a_function_or_an_object(data, given):
    model = nn.Sequential(nn.Dense(3)).build((6,))
    forms = {
        "name": "adamw",
        "class": optim.AdamW,
        "function": lambda params: optim.AdamW(params, 1e-3),
        "object": optim.AdamW(model.parameters()),
    }
    trainer = Trainer(model, forms[given], "cross_entropy", ["accuracy"])
    assert isinstance(trainer.optimizer, optim.AdamW)
    assert "accuracy" in quiet(trainer, *data).columns


def test_sgd_by_name_has_a_rate_of_its_own(data):
    trainer = Trainer(nn.Sequential(nn.Dense(3)).build((6,)), "sgd", "cross_entropy")
    assert trainer.optimizer.lr == 0.01


@pytest.mark.parametrize(
    "settings, text",
    [
        ({"optimizer": "adm"}, "unknown optimizer 'adm'. Did you mean 'adam'"),
        ({"loss": "cross_entrop"}, "unknown loss 'cross_entrop'. Did you mean 'cross_entropy'"),
        ({"metrics": ["acuracy"]}, "unknown metric 'acuracy'. Did you mean 'accuracy'"),
    ],
)
def test_wrong_names_list_the_nearest(settings, text):
    with pytest.raises(ArgumentError, match=text.replace(".", r"\.")):
        Trainer.compiled(nn.Sequential(nn.Dense(3)), **settings)


def test_lr_and_a_ready_optimiser_contradict_each_other():
    model = nn.Sequential(nn.Dense(3)).build((6,))
    with pytest.raises(
        ArgumentError, match=r"lr=0\.1 goes with an optimiser given by name; this one has its own"
    ):
        Trainer.compiled(model, optim.SGD(model.parameters(), 0.5), lr=0.1)


def test_a_model_without_parameters_is_refused(data):
    with pytest.raises(ArgumentError, match="there are no parameters"):
        quiet(Trainer(nn.Sequential(nn.Flatten()), "adam", "mse"), data[0], data[0])


# --- input that cannot be used ---


@pytest.mark.parametrize(
    "change, error, text",
    [
        (
            lambda x, y: {"x": x},
            DataError,
            "y is missing: got inputs alone (ndarray)",
        ),
        (
            lambda x, y: {"x": (x, y), "y": y},
            DataError,
            "x is a tuple, which brings its own targets: leave out y",
        ),
        (lambda x, y: {"x": x, "y": y[:-1]}, ShapeError, "x has 96 samples and y has 95"),
        (lambda x, y: {"x": x[:0], "y": y[:0]}, DataError, "x holds no samples"),
        (lambda x, y: {"x": x, "y": y, "epochs": -1}, ArgumentError, "epochs=-1: give a whole number"),
        (lambda x, y: {"x": x, "y": y, "epochs": 1.5}, ArgumentError, "epochs=1.5: give a whole number"),
        (
            lambda x, y: {"x": x, "y": y, "batch_size": 0},
            ArgumentError,
            "batch_size=0: a batch has at least 1",
        ),
        (
            lambda x, y: {"x": x, "y": y, "verbose": "line"},
            ArgumentError,
            "unknown verbose 'line'. Did you mean",
        ),
        (
            lambda x, y: {"x": x, "y": y, "validation_data": x},
            DataError,
            "validation_data: y is missing: got inputs alone (ndarray). Give both",
        ),
        (lambda x, y: {"x": x, "y": y.astype(float)}, DTypeError, "cross_entropy needs integer class labels"),
        (lambda x, y: {"x": x, "y": y[:, None]}, ShapeError, "It takes integer labels of shape"),
        (lambda x, y: {"x": list("abc"), "y": y[:3]}, DTypeError, "x holds <U1"),
    ],
)
def test_data_and_arguments_that_do_not_fit(make_trainer, data, change, error, text):
    settings = {"verbose": 0, **change(*data)}
    with pytest.raises(error) as caught:
        make_trainer().fit(**settings)
    assert text in str(caught.value)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("verb", ["fit", "evaluate", "validation"])
def test_a_label_out_of_range_is_named_by_its_place_in_the_data(make_trainer, data, verb, shuffle):
    x, y = data
    y = y.copy()
    y[77] = 3
    trainer = make_trainer()
    with pytest.raises(DataError) as caught:
        if verb == "fit":
            quiet(trainer, x, y, batch_size=10, shuffle=shuffle)
        elif verb == "evaluate":
            trainer.evaluate(Loader((x, y), 10, shuffle=shuffle))
        else:
            quiet(trainer, *data, validation_data=Loader((x, y), 10, shuffle=shuffle))
    assert "sample 77 of the data, in place" in str(caught.value)
    assert "label 3" in str(caught.value) and "3 classes, 0 to 2" in str(caught.value)


def test_an_error_in_a_batch_changes_neither_weights_nor_statistics(make_trainer, data, same_weights):
    x, y = data
    trainer = make_trainer()
    trainer.model.build((6,))
    before = trainer.model.state_dict()
    with pytest.raises(DataError, match="sample 5 of the data"):
        quiet(trainer, x, np.where(np.arange(96) == 5, 9, y), batch_size=96)
    assert same_weights(trainer.model, before)


def test_a_target_out_of_range_for_bce_is_named(data):
    x = data[0]
    y = np.zeros((96, 3), np.float32)
    y[40, 2] = 1.5
    trainer = Trainer(nn.Sequential(nn.Dense(3)), "adam", "bce_with_logits")
    with pytest.raises(DataError, match=r"sample 40 of the data.*got 1\.5"):
        quiet(trainer, x, y)


def test_a_loss_that_is_not_a_single_number_is_refused(make_trainer, data):
    with pytest.raises(ArgumentError, match=r"the loss has shape \(32,\).*reduction='mean'"):
        quiet(make_trainer(loss=nn.CrossEntropy(reduction="none")), *data)


def test_inputs_of_another_shape_than_the_built_model_name_the_layer(make_trainer, data):
    trainer = make_trainer()
    quiet(trainer, *data)
    with pytest.raises(ShapeError, match="Dense"):
        trainer.predict(data[0][:, :4])


# --- models and losses that cannot be trained, or not any more as they were ---


class Own(nn.Module):
    """Two layers, of which ``use`` says what becomes of the input."""

    def __init__(self, use):
        self.one, self.two, self.use = nn.Dense(3), nn.Dense(3), use

    def forward(self, x):
        return self.use(self, x)


@pytest.mark.parametrize(
    "model, loss, text",
    [
        (
            Own(lambda own, x: own.one(x)),
            "mse",
            r"two\.weight, two\.bias found no size: forward\(\) does not use",
        ),
        (
            Own(lambda own, x: (own.two(own.one(x)), None)[1]),
            "mse",
            r"Own\.forward\(\) returned None: is there",
        ),
        (Own(lambda own, x: own.two(own.one(x))), lambda pred, y: 3.0, "the loss returned 3.0, not a tensor"),
    ],
)
def test_models_and_losses_that_give_nothing_to_learn_from(data, model, loss, text):
    with pytest.raises(ArgumentError, match=text):
        quiet(Trainer(model, "adam", loss), data[0], data[0][:, :3])


def test_a_layer_that_was_replaced_learns_too(data):
    model = nn.Sequential(nn.Dense(8, activation="relu"), nn.Dense(3)).compile(lr=0.05)
    quiet(model, *data)
    first = model[0].weight.data.copy()
    model[0].freeze()
    model[-1] = nn.Dense(4)
    losses = model.fit(*data, epochs=10, verbose=0)["loss"]
    assert losses[-1] < 0.8 * losses[0] and np.array_equal(first, model[0].weight.data)


def test_the_optimiser_of_what_the_model_was_is_refused_and_of_a_part_is_not(data):
    model = nn.Sequential(nn.Dense(8), nn.Dense(3)).build((6,))
    model.compile(optim.Adam(model[1].parameters()))
    quiet(model, *data)
    model[1] = nn.Dense(3)
    with pytest.raises(ArgumentError, match=r"lacks 0\.weight.*layer replaced\? .*optim\.Adam\(model\.par"):
        quiet(model, *data)


@pytest.mark.parametrize("loss, columns", [("mse", ["loss"]), ("cross_entropy", ["loss", "accuracy"])])
def test_accuracy_is_measured_by_default_where_there_are_classes(data, loss, columns):
    model = nn.Sequential(nn.Dense(3)).compile("sgd", loss)
    assert quiet(model, data[0], data[0][:, :3] if loss == "mse" else data[1]).columns == columns
