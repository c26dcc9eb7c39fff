"""Clipping by norm and by value."""

import numpy as np
import pytest

from tinynet import nn, optim
from tinynet.errors import ArgumentError, NotFiniteError


def parameters(*grads):
    found = []
    for grad in grads:
        p = nn.Parameter(np.zeros(3, np.float32))
        p.grad = None if grad is None else np.array(grad, np.float32)
        found.append(p)
    return found


def test_the_norm_of_all_together_is_limited():
    params = parameters([3, 0, 0], None, [0, 4, 12])
    assert optim.clip_grad_norm(params, 6.5) == pytest.approx(13)
    np.testing.assert_allclose(params[0].grad, [1.5, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(params[2].grad, [0, 2, 6], rtol=1e-6)
    assert params[0].grad.dtype == np.float32


def test_a_small_norm_is_left_alone():
    params = parameters([3, 4, 0])
    assert optim.clip_grad_norm(params, 10) == 5
    assert params[0].grad.tolist() == [3, 4, 0]


def test_shared_parameters_count_once():
    (p,) = parameters([3, 4, 0])
    assert optim.clip_grad_norm([p, p], 1) == 5
    np.testing.assert_allclose(p.grad, [0.6, 0.8, 0], rtol=1e-6)


def test_large_gradients_do_not_overflow():
    assert optim.clip_grad_norm(parameters([1e30, 0, 0]), 1) == pytest.approx(1e30)


def test_without_gradients_the_norm_is_nothing():
    assert optim.clip_grad_norm(parameters(None), 1) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_named_and_nothing_changed(bad):
    params = parameters([30, 0, 0], [0, bad, 0])
    with pytest.raises(NotFiniteError, match=r"gradient 1 of 2, of shape \(3,\), holds a NaN or an infinity"):
        optim.clip_grad_norm(params, 1)
    assert params[0].grad.tolist() == [30, 0, 0]


def test_values_are_limited_one_by_one():
    params = parameters([3, -7, 0.5], None)
    optim.clip_grad_value(params, 2)
    assert params[0].grad.tolist() == [2, -2, 0.5]


@pytest.mark.parametrize("clip", [optim.clip_grad_norm, optim.clip_grad_value])
@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_the_limit_is_positive(clip, limit):
    with pytest.raises(ArgumentError, match="give a number above 0"):
        clip(parameters([1, 2, 3]), limit)
