"""The stream of random numbers: repeatable, restartable, and its position fits into JSON."""

import json

import numpy as np
import pytest

import tinynet as tn
from tinynet import random
from tinynet.errors import ArgumentError


def test_the_same_seed_gives_the_same_stream():
    tn.seed(7)
    first = random.generator().normal(size=5)
    tn.seed(7)
    np.testing.assert_array_equal(random.generator().normal(size=5), first)


def test_another_seed_gives_another_stream():
    tn.seed(7)
    first = random.generator().normal(size=5)
    tn.seed(8)
    assert not np.array_equal(random.generator().normal(size=5), first)


def test_seed_restarts_the_generator_that_is_looked_up_later():
    before = random.generator()
    tn.seed(1)
    assert random.generator() is not before


def test_the_stream_does_not_depend_on_numpys_global_one():
    tn.seed(3)
    np.random.seed(0)
    first = random.generator().random()
    tn.seed(3)
    np.random.seed(1)
    assert random.generator().random() == first


@pytest.mark.parametrize("steps", [0, 1, 17])
def test_state_survives_json_and_the_stream_goes_on_from_there(steps):
    tn.seed(11)
    random.generator().random(steps)
    state = json.loads(json.dumps(random.get_state()))
    following = random.generator().normal(size=4)
    tn.seed(99)
    random.set_state(state)
    np.testing.assert_array_equal(random.generator().normal(size=4), following)


def test_state_is_a_snapshot_not_a_view():
    tn.seed(0)
    state = random.get_state()
    text = json.dumps(state)
    random.generator().random(100)
    assert json.dumps(state) == text


def test_keys_are_fresh_and_fit_into_62_bits():
    keys = [random.draw_key() for _ in range(1000)]
    assert len(set(keys)) == 1000
    assert all(0 <= key < 1 << 62 for key in keys)
    assert max(keys) > 1 << 61  # the upper bits are used


@pytest.mark.parametrize("value", [-1, 1.5, "7", None, True])
def test_a_seed_is_a_whole_number_of_at_least_0(value):
    with pytest.raises(ArgumentError, match="a seed is an integer of at least 0"):
        tn.seed(value)


def test_numpys_integers_are_integers():
    tn.seed(np.int64(7))
    first = random.generator().random()
    tn.seed(7)
    assert random.generator().random() == first
