"""Datasets: what a batch looks like, own datasets, and data that cannot be used."""

import numpy as np
import pytest

from tinynet import data
from tinynet.data.dataset import as_dataset
from tinynet.errors import DataError, DTypeError, NotFiniteError, ShapeError


class Squares(data.Dataset):
    """A dataset of the user's own, sample by sample."""

    def __init__(self, broken=None):
        self.broken = broken or {}

    def __len__(self):
        return 10

    def __getitem__(self, i):
        if i in self.broken:
            return self.broken[i]()
        return np.full((2, 2, 1), i, np.uint8), i * i


def fail():
    raise FileNotFoundError("no file scan_007.png")


def test_batch_scales_8_bit_pictures_and_keeps_the_store():
    pictures = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)
    d = data.Dataset(pictures, [0, 1, 2, 3])
    x, y = d.batch([3, 0])
    assert x.dtype == np.float32 and y.dtype == np.int64
    np.testing.assert_array_equal(x, pictures[[3, 0]].astype(np.float32) / np.float32(255))
    assert x.max() == 1.0 and d.x is pictures
    np.testing.assert_array_equal(y, [3, 0])


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.int16, np.uint16, bool])
def test_other_numbers_become_float32_as_they_are(kind):
    x = np.array([[0, 1], [1, 0]], kind)
    got, _ = data.Dataset(x, [0, 1])[:]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, x.astype(np.float32))


def test_single_samples_slices_and_iteration():
    d = data.Dataset(np.arange(6.0).reshape(3, 2), [5, 6, 7])
    x, y = d[-1]
    np.testing.assert_array_equal(x, [4, 5])
    assert y == 7 and len(d) == 3 and repr(d) == "Dataset(3 samples)"
    assert d[1:][0].shape == (2, 2) and d[np.array([True, False, True])][1].tolist() == [5, 7]
    assert [int(label) for _, label in d] == [5, 6, 7]
    with pytest.raises(IndexError, match="sample 3 of a dataset of 3"):
        d[3]


def test_targets_keep_their_shape_and_kind():
    masks = np.zeros((2, 4, 4), np.uint8)
    assert data.Dataset(np.zeros((2, 4, 4, 1)), masks).batch([0])[1].dtype == np.uint8
    assert data.Dataset(np.zeros((2, 1)), np.array([0.5, 1], np.float32)).batch([0])[1].dtype == np.float32
    assert data.Dataset(np.zeros((2, 1)), np.array([3, 4], np.uint8)).y.dtype == np.int64


@pytest.mark.parametrize(
    ("x", "y", "error", "text"),
    [
        (np.zeros((3, 2)), np.zeros(2), ShapeError, "x has 3 samples and y has 2"),
        (np.zeros((0, 2)), np.zeros(0), DataError, r"x holds no samples: its shape is \(0, 2\)"),
        (np.float32(3), [1], ShapeError, "need an array with one entry per sample"),
        (np.array([[1], ["a"]], object), [0, 1], DTypeError, "x holds object .*type int.* sample 0"),
        ([[1, 2], [3]], [0, 1], ShapeError, "x is no array: its samples differ in shape"),
        (np.zeros((2, 1)), ["cat", "dog"], DTypeError, r"y holds <U3 .*np.unique\(y, return_inverse=True\)"),
        (np.zeros((2, 1), complex), [0, 1], DTypeError, "x holds complex128.*need real numbers"),
        (np.zeros((2, 1)), [0.0, np.nan], NotFiniteError, "y holds nan in sample 1"),
    ],
)
def test_data_that_cannot_be_used(x, y, error, text):
    with pytest.raises(error, match=text):
        data.Dataset(x, y)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("index", [0, 1500, 2999])
def test_numbers_that_are_not_finite_are_found_and_named(bad, index):
    x = np.zeros((3000, 4, 1), np.float32)
    x[index, 2] = bad
    with pytest.raises(NotFiniteError, match=f"x holds {bad} in sample {index};"):
        data.Dataset(x, np.zeros(3000, int))


def test_own_dataset_with_single_samples_is_gathered():
    x, y = Squares().batch([1, 3])
    assert x.shape == (2, 2, 2, 1) and x.dtype == np.float32
    np.testing.assert_array_equal(x[1], np.full((2, 2, 1), np.float32(3) / np.float32(255)))
    np.testing.assert_array_equal(y, [1, 9])


def test_overriding_getitem_of_a_dataset_in_memory_is_respected():
    class Negative(data.Dataset):
        def __getitem__(self, i):
            return -self.x[i], self.y[i]

    x, _ = Negative(np.ones((2, 3)), [0, 1]).batch([0, 1])
    np.testing.assert_array_equal(x, -np.ones((2, 3)))


@pytest.mark.parametrize(
    ("item", "error", "text"),
    [
        (fail, DataError, "sample 7 cannot be read: FileNotFoundError: no file scan_007.png"),
        (lambda: (np.zeros((2, 3, 1)), 0), ShapeError, r"sample 7: its input has shape \(2, 3, 1\)"),
        (lambda: (np.full((2, 2, 1), np.nan), 0), NotFiniteError, "its input holds nan in sample 7"),
        (lambda: (np.zeros((2, 2, 1)), "seven"), DTypeError, "its target holds <U5"),
        (lambda: np.zeros(3), DataError, r"sample 7: __getitem__ must return a pair \(x, y\)"),
        (lambda: (np.zeros((2, 2, 1)), [1, 2]), ShapeError, r"sample 7: its target has shape \(2,\)"),
    ],
)
def test_errors_of_an_own_dataset_name_the_sample(item, error, text):
    with pytest.raises(error, match=text):
        Squares({7: item}).batch([2, 7])


def test_transform_may_be_any_function_and_leaves_the_original_alone():
    d = data.Dataset(np.ones((4, 2, 2, 1)), np.arange(4))
    doubled = d.with_transform(lambda x: 2 * x)
    assert doubled[0][0].max() == 2 and d[0][0].max() == 1 and doubled.x is d.x


def test_as_dataset_refuses_what_it_cannot_use():
    assert len(as_dataset((np.zeros((3, 1)), np.zeros(3)))) == 3
    with pytest.raises(
        DTypeError, match=r"need a Dataset or a pair of arrays \(x, y\), got a value of type list"
    ):
        as_dataset([1, 2])


@pytest.mark.parametrize("broken, got", [(lambda x: x[:2], r"shape \(2, 1\)"), (lambda x: None, "NoneType")])
def test_a_transform_must_give_back_as_many_samples(broken, got):
    dataset = data.Dataset(np.ones((3, 1)), np.zeros(3), transform=broken)
    with pytest.raises(ShapeError, match=rf"got a batch of shape \(3, 1\) and returned .*{got}"):
        dataset[:]
