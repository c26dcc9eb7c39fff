"""Losses: values from PyTorch, weights and ignored labels, stability, and what people pass by mistake."""

import warnings

import numpy as np
import pytest
from waves import wave

import tinynet as tn
from tinynet import ops
from tinynet.errors import ArgumentError, DataError, DTypeError, GraphError, ShapeError
from tinynet.ops import targets

LABELS = np.array([2, 0, 1])


def logits(n=3, k=3):
    return tn.tensor(2 * wave(n, k), requires_grad=True)


def rows(x):
    """-log softmax, the plain way."""
    return np.log(np.exp(x).sum(axis=-1, keepdims=True)) - x


# --- cross-entropy ---


def test_cross_entropy_with_everything_has_pytorchs_value_and_gradient():
    x = logits(4)
    how = {"class_weight": [1.0, 2.0, 0.5], "ignore_index": -100, "label_smoothing": 0.1}
    loss = ops.cross_entropy(x, np.array([2, 0, 1, -100]), **how)
    loss.backward()
    assert loss.item() == pytest.approx(1.26896572, rel=1e-7)
    expected = [
        [0.04325071, 0.05221816, -0.09546887],
        [-0.05932055, 0.03707351, 0.02224704],
        [0.02776911, -0.43000005, 0.40223094],
        [0, 0, 0],
    ]
    np.testing.assert_allclose(x.grad, expected, atol=1e-8)


def test_cross_entropy_is_minus_the_log_of_the_softmax_at_the_label():
    x = logits()
    expected = rows(x.data)[np.arange(3), LABELS]
    np.testing.assert_allclose(ops.cross_entropy(x, LABELS, reduction="none").data, expected)
    assert ops.cross_entropy(x, LABELS).item() == pytest.approx(expected.mean())
    assert ops.cross_entropy(x, LABELS, reduction="sum").item() == pytest.approx(expected.sum())


@pytest.mark.parametrize("target", [LABELS, np.eye(3)[LABELS]])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_cross_entropy_and_its_reduction_are_one_operation(target, reduction):
    x = logits()
    node = ops.cross_entropy(x, target, reduction=reduction).node
    assert node.name.endswith("CrossEntropy") and node.sources[0][0] is x


def test_labels_may_have_any_integer_dtype_and_any_shape():
    x = np.stack([logits().data] * 2)
    for dtype in ("uint8", "int16", "int32", "int64"):
        loss = ops.cross_entropy(x, np.stack([LABELS] * 2).astype(dtype), reduction="none")
        assert loss.shape == (2, 3)
    assert ops.cross_entropy(logits(), [2, 0, 1]).item() == pytest.approx(loss.data[0].mean())
    assert ops.cross_entropy(logits().data[0], 2).item() == pytest.approx(loss.data[0, 0])


def test_one_hot_probabilities_and_labels_agree_also_when_smoothed_and_weighted():
    onehot, weight = np.eye(3)[LABELS], np.array([1.0, 2.0, 0.5])
    for how in ({}, {"label_smoothing": 0.3}, {"class_weight": weight, "reduction": "sum"}):
        a, b = logits(), logits()
        first, second = ops.cross_entropy(a, LABELS, **how), ops.cross_entropy(b, onehot, **how)
        first.backward()
        second.backward()
        assert first.item() == pytest.approx(second.item())
        np.testing.assert_allclose(a.grad, b.grad, atol=1e-15)


def test_ignored_rows_count_nowhere():
    x = logits(4)
    loss = ops.cross_entropy(x, np.array([2, 255, 1, 255]), ignore_index=255)
    loss.backward()
    expected = rows(x.data)[[0, 2], [2, 1]].mean()
    assert loss.item() == pytest.approx(expected) and not x.grad[[1, 3]].any()
    none = ops.cross_entropy(x, np.array([2, 255, 1, 255]), ignore_index=255, reduction="none")
    assert none.data[[1, 3]].tolist() == [0, 0]


def test_a_batch_in_which_every_row_is_ignored_has_loss_zero_and_no_gradient():
    for smoothing in (0.0, 0.1):
        x = logits()
        loss = ops.cross_entropy(x, np.full(3, 255), ignore_index=255, label_smoothing=smoothing)
        loss.backward()
        assert loss.item() == 0 and not x.grad.any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cross_entropy_of_huge_and_masked_logits(dtype):
    x = tn.tensor(np.array([[1e4, 0, -1e4], [0, -np.inf, 1]], dtype), requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss = ops.cross_entropy(x, np.array([2, 0]), reduction="sum")
        loss.backward()
    assert loss.item() == pytest.approx(2e4 + np.log(1 + np.e), rel=1e-6)
    assert np.isfinite(x.grad).all() and loss.dtype == dtype


def test_the_first_label_out_of_range_is_named():
    with pytest.raises(DataError, match=r"label 7 at index 1 is out of range: there are 3 classes, 0 to 2"):
        ops.cross_entropy(logits(), np.array([0, 7, 9]))
    with pytest.raises(DataError, match=r"label -1 at index 0, 2 is out of range"):
        ops.cross_entropy(np.zeros((2, 3, 4)), np.array([[0, 1, -1], [0, 0, 5]]))
    with pytest.raises(DataError, match=r"label 3 at index 2 .* Labels that count from 1\? Subtract 1"):
        ops.cross_entropy(logits(), np.array([1, 2, 3]))
    with pytest.raises(DataError, match="label 5 at index 2"):
        ops.cross_entropy(logits(), np.array([0, 255, 5]), ignore_index=255)


def test_labels_of_the_wrong_kind():
    with pytest.raises(
        DTypeError, match=r"needs integer class labels, got float64\. Convert: \.astype\('int64'\)"
    ):
        ops.cross_entropy(logits(), LABELS.astype(float))
    with pytest.raises(DTypeError, match="needs integer class labels, got bool"):
        ops.cross_entropy(logits(), LABELS > 0)
    with pytest.raises(
        ShapeError, match=r"logits of shape \(3, 3\) and a target of float64 and shape \(3, 4\)"
    ):
        ops.cross_entropy(logits(), np.ones((3, 4)))
    with pytest.raises(
        ShapeError, match=r"One-hot rows\? .*astype\('float32'\), or the labels: target\.argmax\(-1\)"
    ):
        ops.cross_entropy(logits(), np.eye(3, dtype=int)[LABELS])
    with pytest.raises(ShapeError, match=r"Leave out the last axis: target\[\.\.\., 0\]"):
        ops.cross_entropy(logits(), LABELS[:, None])
    with pytest.raises(ShapeError, match=r"target of int64 and shape \(2,\)"):
        ops.cross_entropy(logits(), LABELS[:2])


def test_probabilities_are_checked():
    good = np.full((3, 3), 1 / 3)
    with pytest.raises(
        DataError, match=r"row 1 of the target is no set of probabilities: its smallest entry is -1, its sum"
    ):
        ops.cross_entropy(logits(), good + np.array([[0], [-4 / 3], [0]]))
    with pytest.raises(DataError, match=r"row 0 .* its sum 2\."):
        ops.cross_entropy(logits(), 2 * good)
    with pytest.raises(DataError, match="its sum nan"):
        ops.cross_entropy(logits(), good * np.nan)
    with pytest.raises(ArgumentError, match="ignore_index goes with integer labels"):
        ops.cross_entropy(logits(), good, ignore_index=1)


def test_swapped_arguments_are_recognised():
    text = r"swapped\? It is cross_entropy\(logits, target\)"
    with pytest.raises(ArgumentError, match=text):
        ops.cross_entropy(LABELS, logits().detach())
    with pytest.raises(DataError, match=r"may be swapped: it is cross_entropy\(logits, target\)"):
        ops.cross_entropy(np.eye(3), logits().detach())
    with pytest.raises(ArgumentError, match=r"swapped\? It is bce_with_logits\(logits, target\)"):
        ops.bce_with_logits(np.array([0, 1]), np.array([0.3, -2.0]))


def test_probabilities_instead_of_logits_warn_once():
    targets._told.clear()
    p = ops.softmax(logits())
    with pytest.warns(UserWarning, match="every row of its input is positive and sums to 1"):
        ops.cross_entropy(p, LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ops.cross_entropy(p, LABELS)
        targets._told.clear()
        ops.cross_entropy(logits(), LABELS)
        ops.cross_entropy(tn.tensor(np.array([[0.5, 0.5], [0.5, 0.7]])), [0, 1])  # one row only
    targets._told.clear()


def test_no_gradient_passes_to_a_target():
    with pytest.raises(GraphError, match=r"no gradient passes through the target; use target\.detach\(\)"):
        ops.cross_entropy(logits(), ops.softmax(logits()))


@pytest.mark.parametrize(
    ("how", "text"),
    [
        (
            {"class_weight": [1.0, 2.0]},
            r"one number of at least 0 for each of 3 classes, got \[1\.0, 2\.0\]",
        ),
        ({"class_weight": [1.0, 2.0, -1.0]}, "one number of at least 0 for each of 3 classes"),
        ({"label_smoothing": 1.5}, r"label_smoothing=1\.5 must lie between 0 and 1"),
        ({"reduction": "avg"}, r"unknown reduction 'avg'. Known: mean, none, sum\."),
    ],
)
def test_cross_entropy_settings(how, text):
    with pytest.raises(ArgumentError, match=text):
        ops.cross_entropy(logits(), LABELS, **how)


def test_one_class_is_no_choice():
    with pytest.raises(
        ShapeError, match=r"with one class the loss is always 0\. For yes or no use bce_with_logits"
    ):
        ops.cross_entropy(np.ones((3, 1)), np.zeros(3, int))


@pytest.mark.parametrize("name", ["cross_entropy", "bce_with_logits", "dice", "focal", "mse"])
def test_an_empty_batch_has_no_loss(name):
    x = np.zeros((0, 4, 3), "float32")
    target = np.zeros(
        (0, 4, 3) if name in ("bce_with_logits", "mse") else (0, 4), "float32" if name == "mse" else int
    )
    with pytest.raises(ShapeError, match=rf"{name} of an empty batch: the \w+ ha(s|ve) shape \(0, 4, 3\)"):
        getattr(ops, name)(x, target)


# --- mean squared error ---


def test_mse_values_and_gradients_go_both_ways():
    a, b = tn.tensor([1.0, 2.0], requires_grad=True), tn.tensor([3.0, 2.5], requires_grad=True)
    loss = ops.mse(a, b)
    loss.backward()
    assert loss.item() == 2.125
    assert a.grad.tolist() == [-2.0, -0.5] and b.grad.tolist() == [2.0, 0.5]
    assert ops.mse(a, b, "sum").item() == 4.25 and ops.mse(a, b, "none").data.tolist() == [4.0, 0.25]


def test_mse_takes_an_array_in_the_dtype_of_the_prediction_but_mixes_no_tensors():
    pred = tn.tensor([1.0, 2.0])
    for target in (np.array([1.0, 2.5]), [1.0, 2.5], np.array([1.0, 2.5], "float32")):
        assert ops.mse(pred, target).dtype == "float32"
    with pytest.raises(DTypeError, match="SquaredError got float32 and float64"):
        ops.mse(pred, tn.tensor(np.array([1.0, 2.5])))


def test_mse_refuses_labels_and_never_broadcasts():
    pred = tn.tensor(np.zeros((3, 1)))
    with pytest.raises(
        DTypeError,
        match=r"integer targets \(int64\)\. Class labels are names, not quantities: use cross_entropy",
    ):
        ops.mse(pred, LABELS[:, None])
    with pytest.raises(
        ShapeError, match=r"mse got \(3, 1\) and \(3,\); the shapes must be equal.*target\[\.\.\., None\]"
    ):
        ops.mse(pred, np.zeros(3))
    with pytest.raises(ShapeError, match=r"target\[\.\.\., 0\]"):
        ops.mse(tn.tensor(np.zeros(3)), np.zeros((3, 1)))


# --- binary cross-entropy ---


def test_bce_value_from_pytorch():
    target = (wave(3, 4, k=0.3) > 0) * 1.0
    loss = ops.bce_with_logits(3 * wave(3, 4), target, pos_weight=[1.0, 2.0, 0.5, 3.0])
    assert loss.item() == pytest.approx(2.05725188, rel=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bce_is_stable(dtype):
    x = tn.tensor(np.array([1000, -1000, 1000, -1000, 0], dtype), requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss = ops.bce_with_logits(x, np.array([1, 0, 0, 1, 1]), reduction="none")
        loss.sum().backward()
    np.testing.assert_allclose(loss.data, [0, 0, 1000, 1000, np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(x.grad, [0, 0, 1, -1, -0.5])
    assert loss.dtype == dtype


def test_bce_targets_are_checked():
    x = tn.tensor(np.zeros((2, 2)))
    assert ops.bce_with_logits(x, np.array([[True, False], [True, True]])).item() == pytest.approx(np.log(2))
    with pytest.raises(
        DataError, match=r"needs a target between 0 and 1, got 255 at index 0, 1\. A mask of 0 and 255\?"
    ):
        ops.bce_with_logits(x, np.array([[0, 255], [255, 0]]))
    with pytest.raises(DataError, match=r"got nan at index 1, 0"):
        ops.bce_with_logits(x, np.array([[0, 1], [np.nan, 0]]))
    with pytest.raises(
        ShapeError, match=r"logits of shape \(2, 2\) and a target of shape \(2,\); they must be equal"
    ):
        ops.bce_with_logits(x, np.zeros(2))
    with pytest.raises(ShapeError, match=r"Give the target its last axis: target\[\.\.\., None\]"):
        ops.bce_with_logits(tn.tensor(np.zeros((2, 1))), np.zeros(2))


# --- segmentation and imbalance ---


def test_dice_by_hand():
    x = np.array([20.0, 20.0, -20.0, -20.0]).reshape(1, 4, 1)  # prediction 1 1 0 0
    assert ops.dice(x, np.array([[1, 0, 1, 0]]), smooth=0.0).item() == pytest.approx(0.5, abs=1e-6)
    assert ops.dice(x, np.array([[1, 1, 0, 0]])).item() == pytest.approx(0, abs=1e-6)
    assert ops.dice(-np.abs(x), np.zeros((1, 4, 1))).item() == pytest.approx(
        0, abs=1e-6
    )  # nothing on nothing


def test_dice_of_classes_takes_labels_or_probabilities():
    x, labels = wave(2, 3, 4, 3), np.arange(24).reshape(2, 3, 4) % 3
    assert ops.dice(x, labels).item() == pytest.approx(ops.dice(x, np.eye(3)[labels]).item())
    perfect = 50 * np.eye(3)[labels]
    assert ops.dice(perfect, labels).item() == pytest.approx(0, abs=1e-9)
    with pytest.raises(ShapeError, match=r"dice compares images: .* got \(2, 3\)"):
        ops.dice(wave(2, 3), np.array([0, 1]))
    with pytest.raises(DataError, match="dice: label 3 at index 0, 0, 2"):
        ops.dice(x, labels + 1)


def test_focal_with_gamma_zero_is_cross_entropy():
    x = logits()
    assert ops.focal(x, LABELS, gamma=0.0).item() == pytest.approx(ops.cross_entropy(x, LABELS).item())
    mask = np.array([1, 0, 1])
    binary = ops.focal(x[:, :1], mask, gamma=0.0).item()
    assert binary == pytest.approx(ops.bce_with_logits(x[:, :1], mask[:, None]).item())


def test_focal_formula_and_certain_predictions():
    x = logits()
    p = np.exp(-rows(x.data))[np.arange(3), LABELS]
    np.testing.assert_allclose(
        ops.focal(x, LABELS, gamma=1.5, reduction="none").data, -((1 - p) ** 1.5) * np.log(p)
    )
    sure = tn.tensor(np.array([[1000.0, 0.0]]), requires_grad=True)
    for gamma in (0.5, 2.0):
        ops.focal(sure, np.array([0]), gamma=gamma).backward()
    assert np.isfinite(sure.grad).all()
    with pytest.raises(ArgumentError, match="gamma=-1 must be at least 0"):
        ops.focal(x, LABELS, gamma=-1)


def test_focal_shapes():
    assert ops.focal(wave(2, 3, 4, 5), np.zeros((2, 3, 4), int), reduction="none").shape == (2, 3, 4)
    assert ops.focal(wave(2, 3, 4, 1), np.zeros((2, 3, 4), int), reduction="none").shape == (2, 3, 4)


@pytest.mark.parametrize("weight", [-1.0, float("nan")])
def test_weights_of_a_loss_are_numbers_of_at_least_0(weight):
    with pytest.raises(ArgumentError, match="pos_weight must be at least 0"):
        ops.bce_with_logits(logits(), np.ones((3, 3), np.float32), pos_weight=weight)
    with pytest.raises(ArgumentError, match="class_weight needs one number of at least 0"):
        ops.cross_entropy(logits(), LABELS, class_weight=[1.0, weight, 1.0])
