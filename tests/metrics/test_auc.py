"""AUC against the definition: all pairs of a positive and a negative sample, ties counted half."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynet import metrics
from tinynet.errors import DataError


def all_pairs(scores, positive):
    """The share of pairs that are in the right order: O(n^2)."""
    wins = [(p > n) + 0.5 * (p == n) for p in scores[positive] for n in scores[~positive]]
    return sum(wins) / len(wins) if wins else float("nan")


def auc(scores, labels, parts=1):
    metric = metrics.AUC()
    for s, y in zip(np.array_split(scores, parts), np.array_split(labels, parts)):
        metric.update(s, y)
    return metric.result()


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=40), st.integers(1, 3))
def test_against_all_pairs_with_many_ties(samples, parts):
    scores = np.array([s for s, _ in samples], np.float32) / 2
    labels = np.array([y for _, y in samples], np.int64)
    value, expected = auc(scores, labels, parts), all_pairs(scores, labels == 1)
    assert np.isnan(value) if np.isnan(expected) else abs(value - expected) < 1e-12


@settings(max_examples=20)
@given(st.integers(3, 5), st.integers(0, 99))
def test_several_classes_are_the_mean_of_one_against_the_rest(k, seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.standard_normal((30, k)), rng.integers(0, k, 30)
    p = softmax(logits)
    each = [all_pairs(p[:, i], labels == i) for i in range(k)]
    expected = np.mean([a for a in each if not np.isnan(a)])
    assert abs(auc(logits, labels, 3) - expected) < 1e-12
    assert abs(auc(p, labels, 2) - expected) < 1e-9


def test_the_textbook():
    assert auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])) == 0.75


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_a_single_score(shape):
    scores, labels = np.array([3.0, 1, 2, 0, 5, 4]), np.array([1, 0, 0, 0, 1, 0])
    expected = all_pairs(scores, labels == 1)
    assert auc(scores.reshape(shape), labels) == expected
    assert auc(scores.reshape(shape), labels.reshape(shape)) == expected
    assert auc(scores.reshape(shape), labels.astype("float32").reshape(shape)) == expected


def test_two_classes_are_one_score():
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((20, 2)), rng.integers(0, 2, 20)
    expected = all_pairs(logits[:, 1] - logits[:, 0], labels == 1)
    assert auc(logits, labels) == expected
    assert abs(auc(softmax(logits), labels) - expected) < 1e-12
    assert auc(logits, np.eye(2)[labels]) == expected


def test_sure_logits_do_not_become_ties():
    logits = np.zeros((3, 3))
    logits[:, 0] = [100.0, 200.0, 300.0]  # their softmax is 1.0, all three
    assert (
        metrics.ranking.mann_whitney(
            metrics.ranking._against_the_rest(logits)[0], np.array([False, True, True])
        )
        == 1
    )


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_a_single_class_has_no_area(labels):
    assert np.isnan(auc(np.array([0.1, 0.2, 0.3]), np.array(labels)))


def test_a_class_that_is_absent_does_not_count():
    logits, labels = np.random.default_rng(1).standard_normal((20, 3)), np.arange(20) % 2
    p = softmax(logits)
    expected = (all_pairs(p[:, 0], labels == 0) + all_pairs(p[:, 1], labels == 1)) / 2
    assert abs(auc(logits, labels) - expected) < 1e-12


def test_nothing_and_not_a_number():
    assert np.isnan(metrics.AUC().result())
    assert np.isnan(auc(np.array([0.1, np.nan, 0.3]), np.array([0, 1, 1])))


def test_shapes_that_do_not_fit():
    with pytest.raises(DataError, match="do not fit"):
        metrics.AUC().update(np.zeros((4, 3)), np.zeros((4, 2), int))


def test_a_large_set_is_quick():
    rng = np.random.default_rng(0)
    scores, labels = rng.random(200_000), rng.integers(0, 2, 200_000)
    assert abs(auc(scores, labels, 10) - 0.5) < 0.01


def test_one_score_is_for_two_classes():
    with pytest.raises(DataError, match="one score per sample, but labels above 1"):
        metrics.AUC().update(np.zeros(3), np.array([0, 1, 2]))
