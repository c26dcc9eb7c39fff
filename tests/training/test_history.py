"""History: columns and epochs, and the JSON file."""

import json
import math

import pytest

from tinynet.errors import ArgumentError, CheckpointError, DataError
from tinynet.training import History
from tinynet.training.history import short


@pytest.fixture
def history():
    return History([{"loss": 1.5, "accuracy": 0.25}, {"loss": 0.5, "accuracy": 0.75, "val_loss": 0.125}])


def test_columns_and_epochs(history):
    assert history["loss"] == [1.5, 0.5] and history[-1]["accuracy"] == 0.75
    assert history.columns == ["loss", "accuracy", "val_loss"] and len(history) == 2
    assert math.isnan(history["val_loss"][0])  # an epoch without this number
    assert "val_loss" in history and "auc" not in history


def test_a_wrong_column_lists_the_nearest(history):
    with pytest.raises(ArgumentError, match=r"unknown column 'val_los'\. Did you mean 'val_loss'"):
        history["val_los"]


def test_save_and_load(history, tmp_path):
    history.append({"loss": math.nan, "accuracy": 1 / 3})
    history.save(tmp_path / "history.json")
    loaded = History.load(tmp_path / "history.json")
    assert loaded.epochs[:2] == history.epochs[:2]
    assert loaded["accuracy"][2] == 1 / 3 and math.isnan(loaded["loss"][2])
    assert json.loads((tmp_path / "history.json").read_text())[2] == {"loss": None, "accuracy": 1 / 3}


@pytest.mark.parametrize(
    "content", ['[{"loss": 1.0}', '{"loss": 1}', '[{"loss": "small"}]', "[1, 2]", "\xff"]
)
def test_a_damaged_file_is_refused(content, tmp_path):
    path = tmp_path / "history.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(DataError, match=r"history\.json is no history of a training run, or damaged"):
        History.load(path)


def test_a_missing_file_or_folder_is_named(history, tmp_path):
    with pytest.raises(DataError, match=r"cannot read the history .*nowhere"):
        History.load(tmp_path / "nowhere.json")
    with pytest.raises(CheckpointError, match=r"the folder .*nowhere does not exist"):
        history.save(tmp_path / "nowhere" / "history.json")


@pytest.mark.parametrize(
    "value, text",
    [(0.07123, "0.0712"), (0.0, "0.0000"), (1e-5, "1.000e-05"), (123456.0, "1.235e+05"), (math.nan, "nan")],
)
def test_numbers_are_short(value, text):
    assert short(value) == text
