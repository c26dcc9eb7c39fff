"""Dice and IoU by hand, with the rule for empty masks."""

import numpy as np
import pytest

from tinynet import metrics
from tinynet.errors import ArgumentError

TRUE = np.array([[[1, 1], [0, 0]], [[0, 0], [0, 0]]])  # (N, H, W)
FOUND = np.array([[[1, 0], [1, 0]], [[0, 0], [0, 0]]])


def onehot(labels, k):
    return np.eye(k)[labels] * 8 - 4.0


def measured(metric, pred, target):
    metric.update(pred, target)
    return metric.result()


def test_per_sample_then_averaged():
    # first sample: 1 pixel in common of 2 and 2; second: both masks empty, which counts as 1
    assert measured(metrics.DiceScore(), onehot(FOUND, 2), TRUE) == (0.5 + 1) / 2
    assert measured(metrics.IoU(), onehot(FOUND, 2), TRUE) == pytest.approx((1 / 3 + 1) / 2)


def test_a_single_score_per_pixel():
    logits = np.where(FOUND == 1, 2.0, -2.0)
    for pred in (logits, logits[..., None]):
        assert measured(metrics.DiceScore(), pred, TRUE) == 0.75
    assert measured(metrics.DiceScore(threshold=0.5), FOUND[..., None] * 0.9, TRUE) == 0.75


def test_a_mask_that_is_empty_on_one_side_counts_as_nothing():
    assert measured(metrics.DiceScore(), onehot(FOUND[:1], 2), TRUE[1:]) == 0
    assert measured(metrics.IoU(), onehot(FOUND[1:], 2), TRUE[:1]) == 0


def test_the_value_of_empty_masks_can_be_chosen():
    assert measured(metrics.DiceScore(empty=0.0), onehot(FOUND, 2), TRUE) == 0.25


def test_background_and_several_classes():
    found, true = np.array([[0, 1, 2, 2]]), np.array([[0, 1, 1, 2]])
    dice = [1.0, 2 / 3, 2 / 3]
    assert measured(metrics.DiceScore(), onehot(found, 3), true) == pytest.approx(np.mean(dice[1:]))
    assert measured(metrics.DiceScore(background=True), onehot(found, 3), true) == pytest.approx(
        np.mean(dice)
    )
    assert measured(metrics.DiceScore(3), found, true) == pytest.approx(np.mean(dice[1:]))
    iou = [1.0, 0.5, 0.5]
    assert measured(metrics.IoU(background=True), onehot(found, 3), true) == pytest.approx(np.mean(iou))


def test_volumes_and_batches():
    rng = np.random.default_rng(0)
    found, true = rng.integers(0, 3, (5, 3, 4, 2)), rng.integers(0, 3, (5, 3, 4, 2))
    metric = metrics.DiceScore()
    metric.update(onehot(found[:2], 3), true[:2])
    metric.update(onehot(found[2:], 3), true[2:])
    expected = [
        2 * ((f == c) & (t == c)).sum() / ((f == c).sum() + (t == c).sum())
        for f, t in zip(found, true)
        for c in (1, 2)
    ]
    assert metric.result() == pytest.approx(np.mean(expected))


def test_nothing_is_not_a_number():
    assert np.isnan(metrics.IoU().result())


def test_labels_alone_do_not_say_how_many_classes():
    with pytest.raises(ArgumentError, match=r"the number of classes is unknown: DiceScore\(classes=...\)"):
        metrics.DiceScore().update(FOUND, TRUE)
