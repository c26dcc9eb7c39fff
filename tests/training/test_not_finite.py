"""NaN and infinity: fit stops, says where they came from, and keeps good weights."""

import warnings

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn, ops, optim
from tinynet.autograd import Op
from tinynet.data import Dataset
from tinynet.errors import NotFiniteError
from tinynet.training import LambdaCallback, Trainer
from tinynet.training.guard import LastGood, gradients_finite


class Unchecked:
    """A dataset of one's own that hands out what it has."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def batch(self, indices):
        return self.x[indices], self.y[indices]

    def start_epoch(self, epoch):
        pass


def fit(trainer, *data, **settings):
    """fit, with every RuntimeWarning of NumPy as an error: the user gets one message, not twenty."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return trainer.fit(*data, verbose=0, **settings)


def test_a_dataset_in_memory_is_checked_when_it_is_made(make_trainer, data):
    x, y = data
    x[41, 2] = np.nan
    with pytest.raises(NotFiniteError, match="x holds nan in sample 41"):
        fit(make_trainer(), x, y)
    with pytest.raises(NotFiniteError, match="x holds nan in sample 41"):
        Dataset(x, y)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_inputs_that_are_not_finite_are_named_and_the_weights_are_those_before_the_step(
    make_trainer, data, same_weights, value
):
    x, y = data
    x = x.copy()
    x[70, 2] = value
    trainer, kept = make_trainer(), []
    note = LambdaCallback(on_batch_end=lambda t: kept.append((t.model.state_dict(), tn.random.get_state())))
    with pytest.raises(NotFiniteError) as caught:
        fit(trainer, Unchecked(x, y), batch_size=10, shuffle=False, callbacks=[note])
    assert "epoch 1, batch 8 of 10: the loss is nan. The input of sample 70 holds NaN or inf" in str(
        caught.value
    )
    assert len(kept) == 7 and same_weights(trainer.model, kept[-1][0])  # running statistics, too
    assert tn.random.get_state() == kept[-1][1]


def test_several_bad_samples_are_listed(make_trainer, data):
    x, y = data
    x = x.copy()
    x[[5, 2, 9, 50, 30, 80, 81]] = np.inf
    with pytest.raises(NotFiniteError, match=r"input of samples (\d+, ){4}\d+ and 2 more holds"):
        fit(make_trainer(), Unchecked(x, y), batch_size=96)


def test_targets_that_are_not_finite_are_named(data):
    x = data[0]
    y = x[:, :1].copy()
    y[33] = np.nan
    with pytest.raises(NotFiniteError, match="the loss is nan. The target of sample 33 holds NaN"):  # noqa: RUF043
        fit(Trainer(nn.Sequential(nn.Dense(1)), "adam", "mse"), Unchecked(x, y))


class Log(nn.Module):
    """The logarithm of what may be negative."""

    def forward(self, x):
        return ops.log(x)


class Net(nn.Module):
    def __init__(self):
        self.first = nn.Dense(4)
        self.block = nn.Sequential(nn.ReLU(), Log())
        self.last = nn.Dense(3)

    def forward(self, x):
        return self.last(self.block(self.first(x)))


def test_the_first_layer_that_made_a_nan_is_named_and_no_step_is_taken(data, same_weights):
    tn.seed(0)
    trainer = Trainer(Net(), "adam", "cross_entropy")
    trainer.model.build((6,))
    before = trainer.model.state_dict()
    with pytest.raises(NotFiniteError) as caught:
        fit(trainer, *data)
    text = str(caught.value)
    assert (
        text.startswith("epoch 1, batch 1 of 3: the loss is ") and "first came out of block.1 (Log)" in text
    )
    assert "It is the first batch, so no step of this fit was taken" in text
    assert same_weights(trainer.model, before)
    assert all(module._hooks == () for module in trainer.model.modules())


def test_a_rate_far_too_high_ends_with_weights_that_give_a_finite_loss(data):
    x, y = data
    tn.seed(0)
    model = nn.Sequential(nn.Dense(8, activation="relu"), nn.BatchNorm(), nn.Dense(3)).build((6,))
    trainer = Trainer(model, optim.SGD(model.parameters(), 1e25), "cross_entropy")
    with pytest.raises(NotFiniteError, match=r"came out of (0|1|2) .*put back.*rate \(1e\+25\) too high"):
        fit(trainer, x, y, epochs=20)
    assert all(np.isfinite(a).all() for a in model.state_dict().values())
    assert np.isfinite(trainer.evaluate(x, y).loss)


def test_weights_are_kept_often_enough_and_with_the_optimisers_state(data, same_weights):
    """After 130 good batches the weights explode: those of batch 100 come back."""
    x, y = data
    tn.seed(0)
    model = nn.Sequential(nn.Dense(3)).build((6,))
    trainer, weights = Trainer(model, optim.Adam(model.parameters(), 1e-3), "cross_entropy"), []

    def explode(trainer):
        weights.append((model.state_dict(), trainer.optimizer.state_dict()))
        if trainer.steps == 130:
            model.parameters()[0].data[...] = np.inf

    with pytest.raises(NotFiniteError, match="epoch 14, batch 1 of 10"):
        fit(trainer, x, y, epochs=20, batch_size=10, callbacks=[LambdaCallback(on_batch_end=explode)])
    assert LastGood.KEEP_EVERY == 50
    assert same_weights(model, weights[99][0])
    assert same_weights(trainer.optimizer.state_dict(), weights[99][1])
    assert len(trainer.history) == 13  # what was finished is kept


def test_a_model_that_was_bad_from_the_beginning_stays_as_it_is(make_trainer, data):
    trainer = make_trainer()
    trainer.model.build((6,))
    trainer.model.parameters()[0].data[0, 0] = np.nan
    with pytest.raises(NotFiniteError, match=r"first came out of 0 \(Dense\)"):
        fit(trainer, *data)
    assert len(trainer.history) == 0


class Steep(Op):
    """The identity, with an infinite slope."""

    def forward(self, x):
        return x

    def backward(self, grad):
        return grad * np.float32(np.inf)


class Cliff(nn.Module):
    def forward(self, x):
        return Steep.apply(x)


def test_a_gradient_that_is_not_finite_is_not_applied(data, same_weights):
    tn.seed(0)
    model = nn.Sequential(nn.Dense(4), Cliff(), nn.Dense(3)).build((6,))
    before = model.state_dict()
    with pytest.raises(
        NotFiniteError, match=r"the loss is \d\.\d+\. The gradient of 0\.bias is NaN or infinite"
    ):
        fit(Trainer(model, "adam", "cross_entropy"), *data)
    assert same_weights(model, before)


def test_a_loss_that_breaks_by_itself_is_named(data):
    broken = Trainer(nn.Sequential(nn.Dense(3)), "adam", lambda pred, target: ops.log(pred.sum() * 0 - 1))
    with pytest.raises(NotFiniteError, match="came from the loss itself: the outputs are finite"):
        fit(broken, *data)


def test_nothing_is_saved_in_place_of_the_last_good_checkpoint(make_trainer, data, tmp_path):
    x, y = data
    x = x.copy()
    x[-1] = np.nan
    path = tmp_path / "run.safetensors"
    trainer = make_trainer()
    fit(trainer, *data, checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(NotFiniteError):
        fit(trainer, Unchecked(x, y), checkpoint=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("size", [3, 100_000])
@pytest.mark.parametrize("value, finite", [(1.0, True), (3e38, True), (np.inf, False), (np.nan, False)])
def test_gradients_finite(size, value, finite):
    """Large numbers, whose squares overflow, are finite as well."""
    t = tn.tensor(np.ones(size, np.float32), requires_grad=True)
    t.grad = np.ones(size, np.float32)
    t.grad[size // 2] = value
    with np.errstate(over="ignore"):
        assert gradients_finite([t, tn.tensor([1.0])]) is finite
