"""Accuracy, sensitivity, specificity, confusion matrix, mean squared error: against counts by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinynet as tn
from tinynet import metrics
from tinynet.errors import ArgumentError, DataError

SCORES = np.array([[0.1, 0.7, 0.2], [2.0, -1.0, 0.0], [0.0, 1.0, 5.0], [3.0, 2.0, 1.0]])
LABELS = np.array([1, 0, 1, 0])  # predicted: 1 0 2 0


def measured(metric, *batches):
    for pred, target in batches:
        metric.update(pred, target)
    return metric.result()


@pytest.mark.parametrize(
    "pred, target, expected",
    [
        (SCORES, LABELS, 0.75),
        (SCORES, LABELS[:, None], 0.75),
        (SCORES, np.eye(3)[LABELS], 0.75),
        (np.array([1, 0, 2, 0]), LABELS, 0.75),
        (np.array([2.0, -1.0, 0.5, -0.5]), LABELS, 1.0),
        (np.array([[2.0], [-1.0], [-0.5], [-0.5]]), LABELS, 0.75),
        (np.array([[2.0], [-1.0], [-0.5], [-0.5]]), LABELS[:, None].astype("float32"), 0.75),
        (np.stack([SCORES, SCORES]), np.stack([LABELS, 1 - LABELS]), 0.375),
    ],
)
def test_accuracy_of_all_kinds_of_predictions(pred, target, expected):
    assert measured(metrics.Accuracy(), (pred, target)) == expected
    assert measured(metrics.Accuracy(), (tn.tensor(pred), tn.tensor(target))) == expected
    assert measured(metrics.Accuracy(), (pred.tolist(), target.tolist())) == expected


def test_accuracy_of_probabilities_needs_the_threshold():
    pred, target = np.array([0.9, 0.2, 0.4, 0.6]), np.array([1, 0, 0, 1])
    assert measured(metrics.Accuracy(), (pred, target)) == 0.5
    assert measured(metrics.Accuracy(threshold=0.5), (pred, target)) == 1.0


def test_a_tensor_in_a_graph_is_welcome():
    x = tn.tensor(SCORES.astype("float32"), requires_grad=True)
    assert measured(metrics.Accuracy(), (x * 1, LABELS)) == 0.75


def test_batches_add_up_and_reset_forgets():
    metric = metrics.Accuracy()
    assert measured(metric, (SCORES[:1], LABELS[:1]), (SCORES[1:], LABELS[1:])) == 0.75
    metric.reset()
    assert np.isnan(metric.result())
    assert measured(metric, (SCORES[2:3], LABELS[2:3])) == 0.0


@given(st.integers(1, 5), st.integers(1, 30), st.integers(0, 9))
def test_confusion_matrix_and_all_that_follows_from_it(k, n, seed):
    rng = np.random.default_rng(seed)
    scores, labels = rng.random((n, k + 1)), rng.integers(0, k + 1, n)
    matrix = measured(
        metrics.ConfusionMatrix(k + 1),
        (scores[: n // 2], labels[: n // 2]),
        (scores[n // 2 :], labels[n // 2 :]),
    )
    predicted = scores.argmax(1)
    expected = [[np.sum((labels == i) & (predicted == j)) for j in range(k + 1)] for i in range(k + 1)]
    assert np.array_equal(matrix, expected)
    assert np.isclose(measured(metrics.Accuracy(), (scores, labels)), np.trace(matrix) / n)
    rest = np.delete(matrix, 1, axis=0)
    for metric, right, wrong in (
        (metrics.Sensitivity(), matrix[1, 1], matrix[1].sum() - matrix[1, 1]),
        (metrics.Specificity(), rest.sum() - rest[:, 1].sum(), rest[:, 1].sum()),
    ):
        value = measured(metric, (scores, labels))
        assert np.isnan(value) if right + wrong == 0 else np.isclose(value, right / (right + wrong))


def test_the_confusion_matrix_grows():
    metric = metrics.ConfusionMatrix()
    assert metric.result().shape == (0, 0)
    metric.update(np.array([0, 1]), np.array([1, 1]))
    metric.update(np.array([2]), np.array([0]))
    assert metric.result().tolist() == [[0, 0, 1], [1, 1, 0], [0, 0, 0]]


def test_labels_out_of_range_are_named():
    with pytest.raises(DataError, match=r"label 3 is outside of 0\.\.2"):
        metrics.ConfusionMatrix(3).update(np.array([0, 1]), np.array([0, 3]))
    with pytest.raises(DataError, match=r"label -1 is outside"):
        metrics.ConfusionMatrix().update(np.array([0, 1]), np.array([0, -1]))


def test_sensitivity_and_specificity_of_one_class():
    predicted, true = np.array([2, 2, 0, 1]), np.array([2, 0, 2, 1])
    assert measured(metrics.Sensitivity(positive=2), (predicted, true)) == 0.5
    assert measured(metrics.Specificity(positive=2), (predicted, true)) == 0.5


def test_sensitivity_at_a_threshold():
    scores, true = np.array([0.9, 0.4, 0.6, 0.1]), np.array([1, 1, 0, 0])
    assert measured(metrics.Sensitivity(threshold=0.5), (scores, true)) == 0.5
    assert measured(metrics.Sensitivity(threshold=0.3), (scores, true)) == 1.0
    assert measured(metrics.Specificity(threshold=0.3), (scores, true)) == 0.5


def test_mean_squared_error():
    a, b = np.random.rand(5, 2).astype("float32"), np.random.rand(5, 2).astype("float32")
    value = measured(metrics.MeanSquaredError(), (a[:2], b[:2]), (a[2:], b[2:]))
    assert np.isclose(value, ((a - b) ** 2).mean())
    with pytest.raises(DataError, match=r"predictions of shape \(5, 2\) and targets of shape \(5,\) differ"):
        metrics.MeanSquaredError().update(a, b[:, 0])


@pytest.mark.parametrize(
    "pred, target, text",
    [
        (
            SCORES,
            LABELS[:3],
            r"shape \(4, 3\) and targets of shape \(3,\): the first axis is the number of samples",
        ),
        (SCORES, np.zeros((4, 5), int), r"scores of shape .* do not fit targets of shape \(4, 5\)"),
        (np.float32(1), LABELS, "the first axis"),
    ],
)
def test_shapes_that_do_not_fit(pred, target, text):
    with pytest.raises(DataError, match=text):
        metrics.Accuracy().update(pred, target)


def test_names():
    for name in ("accuracy", "auc", "sensitivity", "specificity", "confusion_matrix", "dice", "iou", "mse"):
        assert metrics.get(name).name == name
    metric = metrics.Accuracy(0.5)
    assert metrics.get(metric) is metric


@pytest.mark.parametrize(
    "name, text",
    [
        ("acuracy", "Did you mean 'accuracy'"),
        (metrics.AUC, r"write AUC\(\) with brackets"),
        (3, "unknown metric 3"),
        (len, "a function is no metric: write a subclass"),
    ],
)
def test_wrong_names(name, text):
    with pytest.raises(ArgumentError, match=text):
        metrics.get(name)


def test_names_of_the_other_school():
    with pytest.raises(
        AttributeError, match=r"tinynet.metrics has no 'Recall'; it is called Sensitivity\(\)"
    ):
        metrics.Recall  # noqa: B018
    with pytest.raises(AttributeError, match="Did you mean 'Accuracy'"):
        metrics.Acuracy  # noqa: B018


@pytest.mark.parametrize("metric", [metrics.Accuracy(), metrics.AUC(), metrics.Sensitivity()])
def test_quantities_are_no_classes(metric):
    with pytest.raises(DataError, match=r"targets that are no shares between 0 and 1.*the metric mse"):
        metric.update(np.zeros((3, 1)), np.array([[0.5], [1.5], [-2.0]]))
