"""Random numbers by counting."""

import numpy as np
import pytest

from tinynet.data.seeding import between, branch, sample_keys, scramble, uniform
from tinynet.errors import ArgumentError


def test_scramble_is_splitmix64():
    """The first outputs of SplitMix64 from seed 1234567 (the reference implementation by Vigna)."""
    step = 0x9E3779B97F4A7C15
    states = np.array([(1234567 + (i + 1) * step) % 2**64 for i in range(3)], np.uint64)
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert scramble(states).tolist() == expected


def test_a_sample_does_not_depend_on_its_neighbours():
    whole = uniform(sample_keys(1, 2, np.arange(100)), 7)
    np.testing.assert_array_equal(uniform(sample_keys(1, 2, np.array([63, 5])), 7), whole[[63, 5]])
    np.testing.assert_array_equal(uniform(sample_keys(1, 2, np.arange(100)), 3), whole[:, :3])


def test_seeds_epochs_and_branches_differ():
    keys = [sample_keys(s, e, np.arange(50)) for s in (0, 1) for e in (0, 1)]
    keys += [branch(keys[0], 0), branch(keys[0], 1)]
    assert len(set(np.concatenate(keys).tolist())) == 300


def test_uniform_looks_uniform():
    u = uniform(sample_keys(0, 0, np.arange(2000)), 50)
    assert u.dtype == np.float32 and u.min() >= 0 and u.max() < 1
    counts = np.histogram(u, 10, (0, 1))[0]
    assert abs(counts - 10_000).max() < 400  # four standard deviations
    assert abs(np.corrcoef(u.T) - np.eye(50)).max() < 0.11
    assert abs(np.corrcoef(u[:-1, 0], u[1:, 0])[0, 1]) < 0.1


def test_between():
    b = between(sample_keys(0, 0, np.arange(1000)), -2, 3)
    assert b.shape == (1000, 1) and -2 <= b.min() < -1.9 and 2.9 < b.max() <= 3


@pytest.mark.parametrize("seed", [-1, 0.5, True, "0", None])
def test_bad_seeds(seed):
    with pytest.raises(ArgumentError, match="a seed is an integer of at least 0"):
        sample_keys(seed, 0, np.arange(2))
