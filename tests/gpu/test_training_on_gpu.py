"""Training, evaluation and prediction on a GPU: the same as on the CPU from the same weights."""

import numpy as np
import pytest
from measure import relative_error

import tinynet as tn
from tinynet import metrics, nn
from tinynet.errors import DataError, DTypeError, NotFiniteError
from tinynet.models import UNet
from tinynet.training import Trainer

RNG = np.random.default_rng(4)
PICTURES = RNG.random((20, 8, 8, 1), np.float32), RNG.integers(0, 3, 20)
ROWS = RNG.random((12, 5, 4), np.float32), RNG.integers(0, 2, 12)
MASKS = RNG.random((4, 9, 8, 1), np.float32), RNG.integers(0, 2, (4, 9, 8))


def cnn():
    return nn.Sequential(
        nn.Conv2D(4, 3, padding="same", activation="relu"), nn.MaxPool2D(2),
        nn.Conv2D(6, 3), nn.BatchNorm(), nn.ReLU(), nn.Flatten(), nn.Dropout(0.25), nn.Dense(3),
    )  # fmt: skip


def recurrent(layer):
    return lambda: nn.Sequential(layer(6), nn.Dense(2))


NETS = {
    "cnn": (cnn, PICTURES, "sgd", "cross_entropy", ("accuracy",)),
    "rnn": (recurrent(nn.SimpleRNN), ROWS, "adam", "cross_entropy", ("accuracy", "auc")),
    "lstm": (recurrent(nn.LSTM), ROWS, "adamw", "cross_entropy", ("accuracy",)),
    "gru": (recurrent(nn.GRU), ROWS, "adam", "cross_entropy", ("accuracy",)),
    "unet": (lambda: UNet(2, 2), MASKS, "adam", nn.DiceCrossEntropy(), ("dice", "iou")),
}


@pytest.fixture(autouse=True)
def numpy_on_the_cpu():
    """The other side is NumPy's, which needs no compilation."""
    with tn.kernels.use("numpy"):
        yield


def compiled(name, device="cpu", lr=0.01):
    make, (x, _), optimizer, loss, watched = NETS[name]
    tn.seed(5)
    model = make().build(x.shape[1:]).to(device)
    return model.compile(optimizer, loss, watched, lr=lr)


def fitted(name, device, epochs=2, **settings):
    model = compiled(name, device)
    history = model.fit(*NETS[name][1], epochs=epochs, batch_size=8, seed=1, verbose=0, **settings)
    return model, history


def weights(model):
    return {name: tn.backend.host(array) for name, array in model.state_dict().items()}


def assert_alike(a, b, bound=1e-4):
    a, b = weights(a), weights(b)
    assert list(a) == list(b)
    for name in a:
        assert np.abs(a[name] - b[name]).max() < bound, name


@pytest.mark.parametrize("name", NETS)
def test_training_follows_the_cpu(gpu, name):
    there, history = fitted(name, "cuda")
    here, truth = fitted(name, "cpu")
    assert all(p.device == "cuda:0" for p in there.parameters())
    for epoch, expected in zip(history.epochs, truth.epochs, strict=True):
        assert abs(epoch["loss"] - expected["loss"]) < 1e-4
    assert_alike(there, here, 2e-3)
    report, expected = (model.evaluate(*NETS[name][1]) for model in (there, here))
    assert abs(report.loss - expected.loss) < 1e-3
    assert report.n == expected.n
    x = NETS[name][1][0]
    got, expected = there.predict(x), here.predict(x)
    assert type(got) is np.ndarray
    assert relative_error(got, expected) < 2e-3


def transfers_of_one_more_batch(gpu, model, batches):
    """Copies to the host and to the device, in ``batches + 1`` batches less those in ``batches``."""
    x, y = (np.resize(a, (4 * (batches + 1), *a.shape[1:])) for a in PICTURES)
    counts = []
    for n in (4 * batches, 4 * batches + 4):
        gpu.transfers.reset()
        model.fit(x[:n], y[:n], batch_size=4, verbose=0)
        counts.append((gpu.transfers.to_host, gpu.transfers.to_device))
    return tuple(np.subtract(*reversed(counts)).tolist())


def test_a_step_that_is_not_recorded_waits_for_single_numbers_only(standin_gpu):
    """The loss and its sum; whether gradients are finite; labels in range; logits that look like shares.

    To the card go the place in the data for x and y, the learning rate, and dropout's key for forward and
    backward.
    """
    to_host, to_device = transfers_of_one_more_batch(standin_gpu, compiled("cnn", "cuda"), 1)
    assert to_host <= 7
    assert to_device <= 5


def test_a_recorded_step_waits_for_nothing(standin_gpu):
    """The numbers that change from step to step go to the card in one copy."""
    to_host, to_device = transfers_of_one_more_batch(standin_gpu, compiled("cnn", "cuda"), 20)
    assert to_host == 0
    assert to_device == 1


def test_forward_and_backward_copy_nothing(standin_gpu):
    model = compiled("unet", "cuda")
    x = standin_gpu.asarray(MASKS[0])
    standin_gpu.transfers.reset()
    loss = (model(x) ** 2).mean()
    loss.backward()
    assert standin_gpu.transfers.to_host == standin_gpu.transfers.to_device == 0
    float(loss)
    assert standin_gpu.transfers.to_host == 1


def test_data_on_the_gpu_fit_models_on_either_side(standin_gpu):
    x, y = PICTURES
    there = standin_gpu.asarray(x), standin_gpu.asarray(y)
    for device in ("cpu", "cuda"):
        model = compiled("cnn", device)
        model.fit(*there, batch_size=8, seed=1, verbose=0)
        again, _ = fitted("cnn", device, epochs=1)
        assert_alike(model, again, 1e-6)
        np.testing.assert_array_equal(model.predict(there[0]), model.predict(x))
        assert model.evaluate(*there).loss == model.evaluate(x, y).loss


# --- files: the same from either side ---


def test_weights_are_the_same_file_from_cpu_and_gpu(standin_gpu, tmp_path):
    model = compiled("unet", "cuda")
    model.save_weights(tmp_path / "gpu.safetensors")
    model.to("cpu").save_weights(tmp_path / "cpu.safetensors")
    assert (tmp_path / "gpu.safetensors").read_bytes() == (tmp_path / "cpu.safetensors").read_bytes()


@pytest.mark.parametrize(("saved_on", "loaded_on"), [("cpu", "cuda"), ("cuda", "cpu"), ("cuda", "cuda")])
def test_weights_load_on_the_other_side(standin_gpu, tmp_path, saved_on, loaded_on):
    model, other = compiled("cnn", saved_on), compiled("cnn", loaded_on)
    for p in other.parameters():
        p.data[...] = 0
    model.save_weights(tmp_path / "net.safetensors")
    other.load_weights(tmp_path / "net.safetensors")
    assert_alike(model, other, 1e-12)
    other.load_state_dict(model.state_dict())
    assert {p.device[:4] for p in other.parameters()} == {loaded_on}


@pytest.mark.parametrize(("first", "second"), [("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda")])
def test_training_resumes_on_another_device(standin_gpu, tmp_path, first, second):
    path = tmp_path / "run.safetensors"
    fitted("cnn", first, epochs=1, checkpoint=path)
    resumed, history = fitted("cnn", second, epochs=2, resume=path)
    whole, expected = fitted("cnn", "cpu", epochs=2)
    assert {p.device[:4] for p in resumed.parameters()} == {second}
    assert abs(history.epochs[1]["loss"] - expected.epochs[1]["loss"]) < 1e-4
    assert_alike(resumed, whole, 2e-3)


def test_a_resumed_gpu_training_goes_on_bit_for_bit(standin_gpu, tmp_path):
    path = tmp_path / "run.safetensors"
    fitted("cnn", "cuda", epochs=1, checkpoint=path)
    resumed, _ = fitted("cnn", "cuda", epochs=2, resume=path)
    whole, _ = fitted("cnn", "cuda", epochs=2)
    for a, b in zip(weights(resumed).values(), weights(whole).values(), strict=True):
        np.testing.assert_array_equal(a, b)


# --- what goes wrong ---


def test_a_nan_in_the_data_is_named_and_the_weights_stay(standin_gpu):
    model = compiled("cnn", "cuda")
    before, x = weights(model), PICTURES[0].copy()
    dataset = tn.data.Dataset(x, PICTURES[1])
    x_inside = dataset.x
    x_inside[13, 2, 2] = np.nan
    with pytest.raises(NotFiniteError, match="The input of sample 13 holds NaN"):
        model.fit(dataset, batch_size=20, verbose=0)
    for name, array in weights(model).items():
        np.testing.assert_array_equal(array, before[name])


def test_a_diverging_training_stops_with_the_last_good_weights(standin_gpu):
    model = compiled("cnn", "cuda", lr=1e30)
    with pytest.raises(NotFiniteError, match=r"learning rate|gradient"):
        model.fit(*PICTURES, epochs=3, batch_size=8, verbose=0)
    assert all(np.isfinite(array).all() for array in weights(model).values())


def test_a_label_out_of_range_is_named_on_the_gpu_as_on_the_cpu(standin_gpu):
    x, y = PICTURES
    wrong = np.where(np.arange(20) == 9, 3, y)
    texts = []
    for device in ("cpu", "cuda"):
        with pytest.raises(DataError) as caught:
            compiled("cnn", device).fit(x, wrong, batch_size=8, shuffle=False, verbose=0)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    assert "sample 9 of the data" in texts[0]


@pytest.mark.parametrize("dtype", ["float64", "int32"])
def test_a_wrong_dtype_is_refused_on_the_gpu_as_on_the_cpu(standin_gpu, dtype):
    x, texts = PICTURES[0].astype(dtype), []
    for device in ("cpu", "cuda"):
        model = compiled("cnn", device)
        with pytest.raises(DTypeError) as caught:
            model(tn.backend.to_device(x, device))
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    assert ".astype('float32')" in texts[0]


@pytest.mark.parametrize(
    "name", ["accuracy", "auc", "sensitivity", "specificity", "confusion_matrix", "dice", "iou"]
)
def test_metrics_take_arrays_on_the_gpu(standin_gpu, name):
    rng = np.random.default_rng(3)
    shape = (4, 3, 3) if name in ("dice", "iou") else (30,)
    pred, true = rng.normal(size=(*shape, 2)).astype(np.float32), rng.integers(0, 2, shape)
    here, there = metrics.get(name), metrics.get(name)
    here.update(pred, true)
    there.update(standin_gpu.asarray(pred), standin_gpu.asarray(true))
    np.testing.assert_allclose(there.result(), here.result(), rtol=1e-6)


def test_gradients_are_clipped_on_the_gpu(standin_gpu):
    norms = []
    for device in ("cpu", "cuda"):
        model = compiled("cnn", device)
        trainer = Trainer(model, tn.optim.SGD(model.parameters(), lr=0.1), "cross_entropy", clip_norm=0.01)
        trainer.fit(*PICTURES, batch_size=20, verbose=0, seed=1)
        norms.append(np.sqrt(sum((tn.backend.host(p.grad) ** 2).sum() for p in model.parameters())))
    assert norms[0] == pytest.approx(0.01, rel=1e-4)
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)
