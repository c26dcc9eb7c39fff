"""Splits: parts of the right size that have nothing in common."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynet import data
from tinynet.data.splits import check_overlap
from tinynet.errors import ArgumentError, DataError, ShapeError


def numbered(n):
    return data.Dataset(np.arange(n, dtype=np.float32)[:, None], np.arange(n))


def test_parts_cover_the_whole_and_share_nothing():
    parts = data.split(numbered(100), (0.7, 0.2, 0.1))
    assert [len(p) for p in parts] == [70, 20, 10]
    numbers = np.concatenate([p[:][1] for p in parts])
    np.testing.assert_array_equal(np.sort(numbers), np.arange(100))
    again, other = data.split(numbered(100), (0.7, 0.3)), data.split(numbered(100), (0.7, 0.3), seed=1)
    np.testing.assert_array_equal(parts[0].indices, again[0].indices)
    assert not np.array_equal(again[0].indices, other[0].indices)


def test_fractions_below_one_leave_some_out():
    assert [len(p) for p in data.split(numbered(100), (0.25, 0.25))] == [25, 25]


@given(st.lists(st.integers(0, 12), min_size=30, max_size=80), st.integers(0, 5))
def test_groups_stay_together(groups, seed):
    groups = np.array([f"patient {g}" for g in groups])
    try:
        parts = data.split(numbered(len(groups)), (0.6, 0.4), seed, groups)
    except DataError as error:
        assert "would be empty" in str(error)
        return
    assert sum(len(p) for p in parts) == len(groups)
    assert not set(groups[parts[0].indices]) & set(groups[parts[1].indices])


def test_group_sizes_come_near_the_fractions():
    groups = np.repeat(np.arange(50), 4)
    train, test = data.split(numbered(200), (0.8, 0.2), groups=groups)
    assert len(train) == 160 and len(test) == 40


def test_a_part_is_a_dataset():
    train, test = data.split((np.arange(20, dtype=np.uint8).reshape(20, 1) * 10, np.arange(20)), (0.5, 0.5))
    x, y = train.batch([0, 3])
    np.testing.assert_allclose(x[:, 0] * 25.5, y, rtol=1e-6)
    np.testing.assert_array_equal(y, train.indices[[0, 3]])
    brighter = train.with_transform(lambda x: x + 1)
    assert brighter[0][0] == train[0][0] + 1
    assert sum(len(y) for _, y in data.Loader(test, 4)) == 10


def test_epochs_reach_the_whole_dataset():
    train, _ = data.split(data.digits(20), (0.5, 0.5))
    before, _ = train[:]
    train.start_epoch(1)
    assert not np.array_equal(before, train[:][0])


@pytest.mark.parametrize("fractions", [(), (0.8, 0.3), (1.0, 0.0), (-0.1, 0.5)])
def test_bad_fractions(fractions):
    with pytest.raises(ArgumentError, match="need positive numbers that sum to 1 at most"):
        data.split(numbered(10), fractions)


def test_parts_that_would_be_empty():
    with pytest.raises(DataError, match=r"part 1 of .* would be empty: there are only 1 groups"):
        data.split(numbered(10), (0.9, 0.1), groups=["a"] * 10)


def test_groups_of_another_length():
    with pytest.raises(ShapeError, match=r"groups has shape \(3,\), need one group for each of 10 samples"):
        data.split(numbered(10), (0.5, 0.5), groups=[1, 2, 3])


def test_overlap_is_found():
    with pytest.raises(DataError, match="group 'b' has samples in part 0 and in part 1"):
        check_overlap([np.array([0, 1]), np.array([2])], np.array(["a", "b", "b"]))


def test_equal_samples_in_different_parts_are_reported():
    x = np.arange(40.0).reshape(20, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.split((x, np.arange(20)), (0.5, 0.5))
    first, second = (part.indices[0] for part in data.split((x, np.arange(20)), (0.5, 0.5)))
    x[second] = x[first]
    with pytest.warns(
        UserWarning, match=f"samples {first} and {second} are equal but lie in different parts"
    ):
        data.split((x, np.arange(20)), (0.5, 0.5))


def test_one_number_is_no_list_of_fractions():
    with pytest.raises(
        ArgumentError, match=r"fractions=0\.8: give one for each part, such as \(0\.8, 0\.2\)"
    ):
        data.split(numbered(10), 0.8)
