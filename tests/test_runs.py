"""Run folders: written whole, opened again, and clear about what is wrong with them."""

import json

import numpy as np
import pytest

import tinynet as tn
from tinynet import runs, training
from tinynet.errors import ArgumentError, CheckpointError, DataError


@pytest.fixture
def trained(tmp_path):
    """A run folder after one short epoch, and the trainer that made it."""
    model = runs.make_model("small_cnn").build((28, 28, 1))
    record = runs.Recorder(tmp_path / "run", "small_cnn", {"data": "digits"})
    trainer = training.Trainer(model, "adam", "cross_entropy", ["accuracy", "confusion_matrix"], [record])
    trainer.fit(runs.open_data("digits", n=256), epochs=1, batch_size=64, verbose="silent")
    return record, trainer


def test_a_run_opens_with_the_same_weights_and_facts(trained):
    record, trainer = trained
    run = runs.load_run(record.folder)
    assert run.facts["model"] == "small_cnn"
    assert run.facts["data"] == "digits"
    assert run.facts["epochs"] == 1
    assert not run.model.training
    for name, array in trainer.model.state_dict().items():
        np.testing.assert_array_equal(run.model.state_dict()[name], array)


def test_the_history_lies_beside_the_weights(trained):
    record, trainer = trained
    assert training.History.load(record.folder / runs.HISTORY) == trainer.history


def test_speed_is_samples_by_seconds(trained):
    facts = trained[0].facts
    assert facts["train_samples_per_second"] == pytest.approx(256 / facts["train_seconds"])


def test_speed_counts_what_this_fit_trained_not_what_it_resumed(trained, tmp_path):
    record, trainer = trained
    training.save_checkpoint(tmp_path / "c.safetensors", trainer)
    trainer.fit(
        runs.open_data("digits", n=256),
        epochs=3,
        batch_size=64,
        verbose="silent",
        resume=tmp_path / "c.safetensors",
    )
    facts = record.facts
    assert facts["epochs"] == 3
    assert facts["train_samples_per_second"] == pytest.approx(512 / facts["train_seconds"])


def test_finish_adds_the_figures_to_the_file(trained):
    record, trainer = trained
    facts = record.finish(trainer.evaluate(runs.open_data("digits", "test", 100)))
    stored = json.loads((record.folder / runs.FACTS).read_text())
    assert stored == {"model": "small_cnn", "input_shape": [28, 28, 1], **facts}
    assert stored["test_n"] == 100
    assert np.trace(stored["test_confusion"]) == pytest.approx(100 * stored["test_accuracy"])


def test_evaluate_and_predict_agree(trained):
    model, held_out = trained[1].model, runs.open_data("digits", "test", 200)
    x, y = held_out[:]
    chances = runs.predict(model, x)
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-5)
    assert runs.evaluate(model, held_out)["accuracy"] == pytest.approx((chances.argmax(1) == y).mean())


# --- data by name ---


def test_drawn_digits_by_name():
    assert len(runs.open_data("digits")) == 60_000
    assert len(runs.open_data("digits", "test")) == 10_000


def test_the_held_out_digits_are_the_same_for_every_seed():
    one, two = (runs.open_data("digits", "test", 8, seed=seed)[:] for seed in (1, 2))
    np.testing.assert_array_equal(one[0], two[0])
    one, two = (runs.open_data("digits", "train", 8, seed=seed)[:] for seed in (1, 2))
    assert not np.array_equal(one[0], two[0])


def test_a_folder_without_mnist_is_named(tmp_path):
    with pytest.raises(DataError, match=f"train-images-idx3-ubyte.gz is not in {tmp_path}"):
        runs.open_data(str(tmp_path))


def test_the_real_set_by_its_folder(shared_data):
    held_out = runs.open_data(str(shared_data / "mnist"), "test", 50)
    assert len(held_out) == 50
    assert held_out[:][1][:5].tolist() == [7, 2, 1, 0, 4]  # as everybody knows them
    assert len(runs.open_data(str(shared_data / "mnist"), "test")) == 10_000


# --- what can be wrong with a run folder ---


def test_a_model_of_another_name():
    with pytest.raises(ArgumentError, match=r"unknown model 'small_cnm'\. Did you mean 'small_cnn'\?"):
        runs.make_model("small_cnm")


def test_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"nowhere does not exist\. A training makes one: tinynet train mnist"
    ):
        runs.load_run(tmp_path / "nowhere")


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(CheckpointError, match=r"is no run folder: it holds no run\.json"):
        runs.load_run(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"model": "small_cnn"}', "\udcff"])
def test_a_damaged_description(trained, content):
    path = trained[0].folder / runs.FACTS
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=r"run\.json (is damaged|does not say which model)"):
        runs.load_run(path.parent)


def test_a_description_that_cannot_be_read(tmp_path):
    (tmp_path / runs.FACTS).mkdir()
    with pytest.raises(CheckpointError, match=r"cannot read .*run\.json"):
        runs.load_run(tmp_path)


def test_weights_of_another_model(trained):
    folder = trained[0].folder
    runs.write_json(folder / runs.FACTS, {"model": "wide_cnn", "input_shape": [28, 28, 1]})
    with pytest.raises(CheckpointError, match="weights belong to another model"):
        runs.load_run(folder)


def test_weights_that_are_missing_or_cut_off(trained):
    path = trained[0].folder / runs.WEIGHTS
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"weights\.safetensors is no complete safetensors file"):
        runs.load_run(path.parent)
    path.unlink()
    with pytest.raises(CheckpointError, match="there is no file"):
        runs.load_run(path.parent)


def test_a_run_folder_where_a_file_stands(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot create the folder"):
        runs.Recorder(tmp_path / "file", "small_cnn", {})


# --- text ---


def test_the_confusion_table():
    table = ["is\\read     0    1", "      0    12    .", "      1     3 1005"]
    assert runs.confusion_table([[12, 0], [3, 1005]]) == "\n".join(table)


@pytest.mark.parametrize("facts", [{"a": 1, "b": [[1, 2], [3, 4]]}, [{"x": None}, 2], {}, []])
def test_json_with_one_line_per_entry(facts):
    text = runs.as_json(facts)
    assert json.loads(text) == facts
    assert len(text.splitlines()) == max(len(facts), 1) + 2


def test_a_random_model_guesses():
    tn.seed(3)
    model = runs.make_model("row_rnn").build((28, 28, 1))
    assert runs.evaluate(model, runs.open_data("digits", "test", 500))["accuracy"] < 0.3
