"""Weights by name: taking them over, strictly or not, and their files."""

import numpy as np
import pytest

from tinynet import nn
from tinynet.errors import CheckpointError


def net(units=3, filters=4):
    return nn.Sequential(nn.Conv2D(filters, 3), nn.BatchNorm(), nn.Flatten(), nn.Dense(units)).build(
        (5, 5, 1)
    )


X = np.random.default_rng(0).random((2, 5, 5, 1), dtype=np.float32)


def test_names_in_order():
    assert list(net().state_dict()) == [
        "0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias", "1.running_mean", "1.running_var",
    ]  # fmt: skip


def test_a_state_is_a_copy():
    model = net()
    state = model.state_dict()
    model[0].weight.data[:] = 0
    assert state["0.weight"].any()


def test_a_state_makes_models_equal():
    a, b = net(), net()
    a(X)  # running statistics change
    report = b.load_state_dict(a.state_dict())
    assert report.complete
    assert len(report.loaded) == 8
    assert np.array_equal(a.eval()(X).numpy(), b.eval()(X).numpy())


def test_parameters_stay_the_same_objects():
    a, b = net(), net()
    parameters, arrays = b.parameters(), [p.data for p in b.parameters()]
    b.load_state_dict(a.state_dict())
    assert all(p is q and p.data is array for p, q, array in zip(parameters, b.parameters(), arrays))


def test_other_weights_are_refused_with_all_that_does_not_fit():
    model = net()
    before = model.state_dict()
    state = net(units=4).state_dict()
    state["head.weight"] = state.pop("1.bias")
    with pytest.raises(CheckpointError) as error:
        model.load_state_dict(state)
    assert str(error.value) == (
        "these weights belong to another model, 5 of 8 arrays fit\n"
        "  missing: 1.bias\n"
        "  unexpected: head.weight\n"
        "  another shape: 3.weight: (36, 4) in the weights, (36, 3) in the model\n"
        "  another shape: 3.bias: (4,) in the weights, (3,) in the model"
    )
    assert all(np.array_equal(before[n], a) for n, a in model.state_dict().items())


def test_without_strict_what_fits_is_loaded():
    model, other = net(), net(units=4)
    report = model.load_state_dict(other.state_dict(), strict=False)
    assert not report.complete
    assert set(report.shape_mismatch) == {"3.weight", "3.bias"}
    assert np.array_equal(model[0].weight.data, other[0].weight.data)
    assert str(report).startswith("loaded 6 of 8 arrays")


def test_an_unbuilt_model_has_no_state():
    with pytest.raises(
        CheckpointError, match=r"the model has no sizes yet \(0.weight, 0.bias\).*model.build\("
    ):
        nn.Sequential(nn.Dense(3)).state_dict()
    with pytest.raises(CheckpointError, match="no sizes yet"):
        nn.Sequential(nn.Dense(3)).load_state_dict({})


def test_a_file_brings_everything_back(tmp_path):
    a, b = net(), net()
    a(X)
    a.save_weights(tmp_path / "w.safetensors")
    b.load_weights(tmp_path / "w.safetensors")
    assert np.array_equal(a.eval()(X).numpy(), b.eval()(X).numpy())


def test_errors_of_a_file_name_it(tmp_path):
    path = tmp_path / "w.safetensors"
    net(units=4).save_weights(path)
    with pytest.raises(CheckpointError, match=r"w.safetensors: these weights belong to another model"):
        net().load_weights(path)
    assert net().load_weights(path, strict=False).missing == []
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match=r"w.safetensors is no complete safetensors file"):
        net().load_weights(path)
    with pytest.raises(CheckpointError, match="there is no file"):
        net().load_weights(tmp_path / "other")


def test_saving_into_a_missing_folder(tmp_path):
    with pytest.raises(CheckpointError, match=r"the folder .*runs does not exist"):
        net().save_weights(tmp_path / "runs" / "w.safetensors")
