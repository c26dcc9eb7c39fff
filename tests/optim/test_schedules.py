"""Schedules: every rate by hand, and going on from a saved position."""

import json
import math

import numpy as np
import pytest

from tinynet import nn, optim
from tinynet.errors import ArgumentError, CheckpointError


def optimizer(lr=0.2):
    return optim.SGD([nn.Parameter([1.0])], lr)


def rates(schedule, n):
    """The rate of step 0, 1, ... n - 1."""
    seen = []
    for _ in range(n):
        seen.append(schedule.optimizer.lr)
        schedule.step()
    return seen


def test_step():
    assert np.allclose(rates(optim.StepLR(optimizer(), every=2, gamma=0.5), 5), [0.2, 0.2, 0.1, 0.1, 0.05])


def test_cosine_ends_at_nothing():
    seen = rates(optim.CosineLR(optimizer(), steps=4), 7)
    s = math.sqrt(0.5)
    assert np.allclose(seen, [0.2, 0.1 * (1 + s), 0.1, 0.1 * (1 - s), 0, 0, 0], atol=1e-12)


def test_cosine_with_a_final_rate():
    seen = rates(optim.CosineLR(optimizer(), steps=2, final_lr=0.1), 4)
    assert np.allclose(seen, [0.2, 0.15, 0.1, 0.1])


def test_a_warm_up_of_a_tenth_then_half_a_cosine():
    seen = rates(optim.CosineLR(optimizer(), steps=40, warmup=0.1), 41)
    assert np.allclose(seen[:5], [0.05, 0.1, 0.15, 0.2, 0.2])
    expected = [0.1 * (1 + math.cos(math.pi * k / 36)) for k in range(37)]
    assert np.allclose(seen[4:], expected)
    assert seen[-1] == 0


def test_one_cycle():
    schedule = optim.OneCycleLR(optimizer(), steps=11, warmup=0.5, start_divisor=4, final_divisor=10)
    seen = rates(schedule, 12)
    assert np.isclose(seen[0], 0.05)
    assert np.isclose(seen[10], 0.005)
    assert seen[11] == seen[10]
    assert (np.diff(seen[:6]) > 0).all()
    assert (np.diff(seen[6:11]) < 0).all()
    assert np.isclose(schedule.rate(5.5), 0.2)


def test_one_cycle_against_pytorch():
    # torch 2.13: OneCycleLR(optimizer, max_lr=0.1, total_steps=11, pct_start=4 / 11), with the peak at 4 - 1
    expected = [
        0.004, 0.028, 0.076, 0.1, 0.09504846320134738, 0.0811745653949763, 0.06112620219362893,
        0.03887419780637107, 0.0188258346050237, 0.004951936798652629, 4e-07,
    ]  # fmt: skip
    seen = rates(optim.OneCycleLR(optimizer(0.1), steps=11, warmup=3 / 11), 11)
    assert np.allclose(seen, expected, rtol=0, atol=1e-14)


MAKERS = [
    lambda o: optim.StepLR(o, 3),
    lambda o: optim.CosineLR(o, 10, warmup=0.2),
    lambda o: optim.OneCycleLR(o, 10),
]


@pytest.mark.parametrize("make", MAKERS)
def test_a_position_is_kept(make):
    whole = rates(make(optimizer()), 10)
    first = make(optimizer())
    rates(first, 4)
    second = make(optimizer(0.7))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert rates(second, 6) == whole[4:]


def test_the_rate_of_the_first_step_is_set_at_once():
    o = optimizer()
    optim.CosineLR(o, 100, warmup=0.1)
    assert np.isclose(o.lr, 0.02)


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda o: optim.StepLR(o, 0), "every=0: give a whole number of at least 1"),
        (lambda o: optim.CosineLR(o, 0), "steps=0"),
        (lambda o: optim.CosineLR(o, 10, warmup=1), "warmup=1: give a number from 0 up to"),
        (lambda o: optim.CosineLR(o, 10, final_lr=-1), "final_lr=-1"),
        (lambda o: optim.OneCycleLR(o, 2.5), "steps=2.5"),
        (lambda o: optim.OneCycleLR(o, 9, start_divisor=0), "start_divisor=0.*at least 1"),
    ],
)
def test_wrong_numbers(make, text):
    with pytest.raises(ArgumentError, match=text):
        make(optimizer())


def test_another_state_is_refused():
    with pytest.raises(CheckpointError, match="no state of a schedule: it holds epoch"):
        optim.StepLR(optimizer(), 2).load_state_dict({"epoch": 3})


def test_a_schedule_needs_an_optimiser():
    with pytest.raises(ArgumentError, match=r"the first argument is the optimiser, got 0\.1"):
        optim.CosineLR(0.1, 100)
