"""The error classes: one family, also caught by the built-in names a user would expect."""

import inspect

import pytest

from tinynet import errors
from tinynet.errors import ArgumentError, ShapeError, TinynetError, by_x, did_you_mean, unknown_name

BUILT_IN = {
    "ShapeError": ValueError,
    "DTypeError": TypeError,
    "DeviceError": RuntimeError,
    "DeviceMemoryError": MemoryError,
    "GraphError": RuntimeError,
    "CaptureError": RuntimeError,
    "DataError": ValueError,
    "CheckpointError": ValueError,
    "ArgumentError": ValueError,
    "NotFiniteError": ArithmeticError,
    "MissingPackageError": ImportError,
}


def error_classes():
    return {n: c for n, c in vars(errors).items() if inspect.isclass(c) and issubclass(c, TinynetError)}


def test_every_class_has_its_built_in_parent():
    assert set(error_classes()) == {*BUILT_IN, "TinynetError"}


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_error_is_caught_as_tinynets_and_as_pythons(name):
    error = error_classes()[name]("something")
    assert isinstance(error, TinynetError)
    assert isinstance(error, BUILT_IN[name])
    assert str(error) == "something"


def test_the_layer_stands_in_front_once_it_is_known():
    error = ShapeError("got 3, want 4")
    error.layer = "net.conv1 (Conv2D)"
    assert str(error) == "in net.conv1 (Conv2D): got 3, want 4"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sdg", "Did you mean 'sgd'?"),
        ("adamm", "Did you mean 'adam' or 'adamw'?"),
        ("ADAM", "Did you mean 'adam'?"),
        ("zzz", "Known: adam, adamw, sgd."),
    ],
)
def test_near_names_are_offered_and_all_names_when_none_is_near(name, text):
    assert did_you_mean(name, {"sgd", "adam", "adamw"}) == text


def test_unknown_name_says_what_kind_of_name_it_was():
    error = unknown_name("optimiser", "sdg", ["sgd", "adam"])
    assert isinstance(error, ArgumentError)
    assert str(error) == "unknown optimiser 'sdg'. Did you mean 'sgd'?"


def test_unknown_name_takes_anything_a_user_may_pass():
    assert str(unknown_name("loss", 3, ["mse"])) == "unknown loss 3. Known: mse."


@pytest.mark.parametrize(("shape", "text"), [((28, 28, 1), "28x28x1"), ((5,), "5"), ((), "a single number")])
def test_shapes_are_written_as_people_write_them(shape, text):
    assert by_x(shape) == text
