"""Losses as layers: their settings reach the formulas."""

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn
from tinynet.errors import ArgumentError

RNG = np.random.default_rng(0)
LOGITS, LABELS = RNG.standard_normal((6, 4)).astype("float32"), np.array([0, 3, 1, 1, 2, 0])
P = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
TRUE = P[np.arange(6), LABELS]


def test_mse():
    pred, target = RNG.random((3, 2)).astype("float32"), RNG.random((3, 2)).astype("float32")
    assert np.isclose(nn.MSE()(pred, target).item(), ((pred - target) ** 2).mean())
    assert np.isclose(nn.MSE(reduction="sum")(pred, target).item(), ((pred - target) ** 2).sum())


def test_cross_entropy():
    assert np.isclose(nn.CrossEntropy()(LOGITS, LABELS).item(), -np.log(TRUE).mean())
    assert nn.CrossEntropy(reduction="none")(LOGITS, LABELS).shape == (6,)


def test_cross_entropy_with_all_its_settings():
    weight = np.array([1.0, 2.0, 3.0, 4.0], np.float32)
    kept = LABELS != 1
    expected = -(weight[LABELS] * np.log(TRUE))[kept].sum() / weight[LABELS][kept].sum()
    assert np.isclose(nn.CrossEntropy(weight, ignore_index=1)(LOGITS, LABELS).item(), expected)
    smooth = -(0.9 * np.log(TRUE) + 0.1 * np.log(P).mean(1)).mean()
    assert np.isclose(nn.CrossEntropy(label_smoothing=0.1)(LOGITS, LABELS).item(), smooth)


def test_bce_with_logits():
    target = (RNG.random((6, 4)) > 0.5).astype("float32")
    p = 1 / (1 + np.exp(-LOGITS))
    expected = -(3 * target * np.log(p) + (1 - target) * np.log(1 - p)).mean()
    assert np.isclose(nn.BCEWithLogits(pos_weight=3.0)(LOGITS, target).item(), expected)


def test_dice_and_its_sum_with_cross_entropy():
    logits, mask = RNG.standard_normal((2, 3, 3, 2)).astype("float32"), RNG.integers(0, 2, (2, 3, 3))
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    onehot = np.eye(2)[mask]
    both, sizes = (p * onehot).sum((1, 2)), p.sum((1, 2)) + onehot.sum((1, 2))
    dice = 1 - ((2 * both + 0.5) / (sizes + 0.5)).mean()
    assert np.isclose(nn.Dice(smooth=0.5)(logits, mask).item(), dice, rtol=1e-5)
    entropy = -np.log((p * onehot).sum(-1)).mean()
    together = nn.DiceCrossEntropy(dice_weight=2.0, cross_entropy_weight=0.5, smooth=0.5)
    assert np.isclose(together(logits, mask).item(), 2 * dice + 0.5 * entropy, rtol=1e-5)


@pytest.mark.parametrize("with_channel", [False, True])
def test_dice_cross_entropy_of_a_binary_mask(with_channel):
    logits, mask = RNG.standard_normal((2, 3, 3, 1)).astype("float32"), RNG.integers(0, 2, (2, 3, 3))
    p = 1 / (1 + np.exp(-logits[..., 0]))
    dice = 1 - ((2 * (p * mask).sum((1, 2)) + 1) / (p.sum((1, 2)) + mask.sum((1, 2)) + 1)).mean()
    entropy = -np.log(np.where(mask, p, 1 - p)).mean()
    target = mask[..., None] if with_channel else mask
    assert np.isclose(nn.DiceCrossEntropy()(logits, target).item(), dice + entropy, rtol=1e-5)
    assert np.isclose(nn.DiceCrossEntropy()(logits, tn.tensor(target)).item(), dice + entropy, rtol=1e-5)


def test_focal():
    expected = -((1 - TRUE) ** 3 * np.log(TRUE)).mean()
    assert np.isclose(nn.Focal(3)(LOGITS, LABELS).item(), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "loss, target",
    [
        (nn.MSE(), LOGITS + 1),
        (nn.CrossEntropy(), LABELS),
        (nn.BCEWithLogits(), (LOGITS > 0).astype("float32")),
        (nn.Focal(), LABELS),
    ],
)
def test_gradients_reach_the_logits(loss, target):
    x = tn.tensor(LOGITS, requires_grad=True)
    loss(x, target).backward()
    assert np.abs(x.grad).max() > 0


def test_errors_name_the_loss():
    with pytest.raises(tn.errors.DataError, match=r"in CrossEntropy: .*label 7 at index 1"):
        nn.CrossEntropy()(LOGITS, np.array([0, 7, 1, 1, 2, 0]))


def test_losses_by_name():
    assert isinstance(nn.losses.get("cross_entropy"), nn.CrossEntropy)
    assert isinstance(nn.losses.get("bce_with_logits"), nn.BCEWithLogits)
    loss = nn.Focal(1)
    assert nn.losses.get(loss) is loss


@pytest.mark.parametrize(
    "loss, text", [("crossentropy", "Did you mean 'cross_entropy'"), (nn.MSE, r"write MSE\(\)")]
)
def test_a_wrong_name_lists_the_nearest(loss, text):
    with pytest.raises(ArgumentError, match=text):
        nn.losses.get(loss)
