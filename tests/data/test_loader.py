"""The loader: every sample once, in an order that depends on seed and epoch alone."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynet import data
from tinynet.errors import ArgumentError, DataError


def labels(loader):
    return np.concatenate([y for _, y in loader])


def numbered(n):
    return data.Dataset(np.arange(n, dtype=np.float32)[:, None], np.arange(n))


@given(st.integers(1, 40), st.integers(1, 12), st.booleans(), st.booleans())
def test_every_sample_comes_once(n, batch_size, shuffle, drop_last):
    if drop_last and n < batch_size:
        return
    loader = data.Loader(numbered(n), batch_size, shuffle=shuffle, drop_last=drop_last)
    batches = list(loader)
    seen = np.concatenate([y for _, y in batches])
    kept = n - n % batch_size if drop_last else n
    assert len(batches) == len(loader) == (n // batch_size if drop_last else -(-n // batch_size))
    assert len(seen) == len(set(seen.tolist())) == kept
    assert all(len(x) == len(y) for x, y in batches)
    assert all(len(y) == batch_size for _, y in batches[:-1])
    if not shuffle:
        np.testing.assert_array_equal(seen, np.arange(kept))


def test_order_depends_on_seed_and_epoch_alone():
    a, b = (data.Loader(numbered(50), 8, shuffle=True, seed=3) for _ in range(2))
    first, second = labels(a), labels(a)
    assert not np.array_equal(first, second)
    b.epoch = 1
    np.testing.assert_array_equal(labels(b), second)
    assert a.epoch == b.epoch == 2
    assert not np.array_equal(first, labels(data.Loader(numbered(50), 8, shuffle=True, seed=4)))


def test_a_pass_that_was_broken_off_does_not_count():
    loader = data.Loader(numbered(50), 8, shuffle=True)
    head = next(iter(loader))[1]
    assert loader.epoch == 0
    np.testing.assert_array_equal(labels(loader)[:8], head)
    assert loader.epoch == 1


def test_resumed_run_sees_the_same_batches():
    def run(epochs, start=0):
        wiggle = data.transforms.Brightness(0.5)
        d = data.Dataset(np.zeros((20, 2, 2, 1)), np.arange(20), transform=wiggle, seed=2)
        loader = data.Loader(d, 6, shuffle=True, seed=1)
        loader.epoch = start
        return [x for _ in range(epochs) for x, _ in loader]

    whole, rest = run(4), run(2, start=2)
    for a, b in zip(whole[8:], rest, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(whole[0], whole[4])


def test_start_epoch_is_called_with_the_epoch():
    class Watching(data.Dataset):
        calls: tuple = ()

        def start_epoch(self, epoch):
            self.calls += (epoch,)

    d = Watching(np.zeros((3, 1)), [0, 1, 2])
    loader = data.Loader(d)
    for _ in range(3):
        list(loader)
    assert d.calls == (0, 1, 2)


def test_a_pair_of_arrays_is_enough():
    x, y = next(iter(data.Loader((np.ones((5, 2)), [0, 1, 0, 1, 0]), batch_size=5)))
    assert x.shape == (5, 2) and y.tolist() == [0, 1, 0, 1, 0]


def test_same_order_in_another_process():
    code = (
        "from tinynet import data\n"
        "print(data.Loader(((range(12)), range(12)), shuffle=True, seed=5).order(7).tolist())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == str(data.Loader((range(12), range(12)), shuffle=True, seed=5).order(7).tolist())


@pytest.mark.parametrize("size", [0, -3, 2.5, True, "32"])
def test_batch_size_must_be_a_positive_integer(size):
    with pytest.raises(ArgumentError, match=r"batch_size=.*a batch has at least 1 sample"):
        data.Loader(numbered(4), batch_size=size)


def test_no_batch_at_all_is_an_error():
    with pytest.raises(DataError, match="drop_last leaves no batch: 4 samples, fewer than batch_size=8"):
        data.Loader(numbered(4), batch_size=8, drop_last=True)

    class Empty(data.Dataset):
        def __init__(self):
            pass

        def __len__(self):
            return 0

    with pytest.raises(DataError, match="the dataset is empty"):
        data.Loader(Empty())


def test_seed_must_be_a_natural_number():
    with pytest.raises(ArgumentError, match="seed=-1: a seed is an integer of at least 0"):
        data.Loader(numbered(4), seed=-1)


def test_errors_inside_a_batch_name_the_samples():
    class Broken(data.Dataset):
        def batch(self, indices):
            raise KeyError("pixels")

    loader = data.Loader(Broken(np.zeros((9, 1)), np.zeros(9, int)), batch_size=6)
    with pytest.raises(DataError, match=r"samples 0, 1, 2, 3, \.\.\. in epoch 0: KeyError: 'pixels'"):
        next(iter(loader))
