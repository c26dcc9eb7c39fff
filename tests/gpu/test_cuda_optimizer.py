"""Optimiser steps on the GPU, against the plain loops in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from measure import relative_error

from tinynet.kernels import reference
from tinynet.kernels.cuda import optimizer as cuda
from tinynet.kernels.live import Table, live, record_into

FEW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SHAPES = [(3,), (1023,), (1024,), (1025,), (2, 3, 4), (0,), (40, 60), (), (1,)]

SGD = {"lr": 0.1, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
ADAM = {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0, "decoupled": False}


def normal(shapes: list[tuple[int, ...]], seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32).reshape(shape) for shape in shapes]


def host(arrays: list) -> list[np.ndarray]:
    return [a.get() for a in arrays]


def line(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([a.ravel() for a in arrays])


class Setting:
    """Parameters, gradients and states, on the card and in float64 for the plain loops."""

    def __init__(self, gpu, shapes: list[tuple[int, ...]]):
        lists = [normal(shapes, seed) for seed in range(4)]
        lists[3] = [np.asarray(a * a) for a in lists[3]]
        self.lists = [[gpu.asarray(a) for a in arrays] for arrays in lists]
        self.truths = [[a.astype(np.float64) for a in arrays] for arrays in lists]

    def sgd(self, **changes) -> None:
        rest = [*{**SGD, **changes}.values()]
        moving = rest[1] > 0
        for room, (params, grads, states, _) in ((cuda, self.lists), (reference, self.truths)):
            room.sgd_step(params, grads, states if moving else None, *rest)

    def adam(self, steps: list[int], **changes) -> None:
        for room, lists in ((cuda, self.lists), (reference, self.truths)):
            room.adam_step(*lists, *{**ADAM, **changes}.values(), steps)

    def check(self, limit: float = 1e-6) -> None:
        """All tensors of a kind as one line of numbers: a single one may be the small rest of large terms."""
        for got, truth in zip(self.lists, self.truths):
            assert [g.shape for g in got] == [t.shape for t in truth]
            assert relative_error(line(host(got)), line(truth)) < limit


SGDS = {
    "plain": {},
    "decay": {"weight_decay": 0.1},
    "momentum": {"momentum": 0.9},
    "nesterov": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
}
ADAMS = {
    "adam": {},
    "decay": {"weight_decay": 0.1},
    "decoupled": {"weight_decay": 0.1, "decoupled": True},
    "other betas": {"beta1": 0.5, "beta2": 0.9, "eps": 1e-3},
}


@pytest.mark.parametrize("changes", SGDS.values(), ids=SGDS)
def test_sgd(gpu, changes):
    setting = Setting(gpu, SHAPES)
    for _ in range(2):
        setting.sgd(**changes)
    setting.check()


@pytest.mark.parametrize("changes", ADAMS.values(), ids=ADAMS)
def test_adam(gpu, changes):
    setting = Setting(gpu, SHAPES)
    for step in (1, 2):
        setting.adam([step] * len(SHAPES), **changes)
    setting.check()


def test_adam_from_nothing(gpu):
    """The first steps are all correction of the start: 1 - beta must have its digits, also that of 0.999."""
    setting = Setting(gpu, [(50,)])
    for arrays in (*setting.lists[:1], *setting.lists[2:], *setting.truths[:1], *setting.truths[2:]):
        arrays[0][...] = 0
    for step in (1, 2, 3):
        setting.adam([step], lr=1, beta1=0.999)
        setting.check()


def test_each_parameter_has_its_own_step(gpu):
    """Also one whose bias is nearly all of the number, and one where it has long gone."""
    setting = Setting(gpu, [(50,)] * 6)
    setting.adam([1, 2, 3, 1000, 123456, 2**40])
    setting.check()


@pytest.mark.parametrize("tensors", [79, 80, 81, 163])
def test_more_tensors_than_a_table_holds(gpu, tensors):
    setting = Setting(gpu, [(i % 7,) for i in range(tensors)])
    setting.sgd(momentum=0.9)
    setting.adam([1 + i % 7 for i in range(tensors)])
    setting.check()


@FEW
@given(st.lists(st.integers(0, 2100), min_size=1, max_size=6), st.integers(1, 50), st.booleans())
def test_any_sizes(gpu, sizes, step, decoupled):
    setting = Setting(gpu, [(size,) for size in sizes])
    setting.sgd(momentum=0.5, nesterov=decoupled)
    setting.adam([step + i for i in range(len(sizes))], weight_decay=0.02, decoupled=decoupled)
    setting.check()


def test_one_launch_for_a_net(gpu, monkeypatch):
    launched = []
    monkeypatch.setattr(cuda, "launch", lambda *args, **more: launched.append(args[:3]))
    setting = Setting(gpu, [(5000,), (3,), (1025,)])
    cuda.sgd_step(*setting.lists[:2], None, *SGD.values())
    cuda.adam_step(*setting.lists, *ADAM.values(), [1, 1, 1])
    assert launched == [("sgd_step", "optimizer.cu", (8,)), ("adam_step", "optimizer.cu", (8,))]


def test_the_arguments_of_a_launch_fit():
    assert cuda._TENSORS * cuda._ENTRY * 8 <= 4000


def test_a_gradient_out_of_order_is_copied(gpu):
    setting = Setting(gpu, [(4, 5)])
    setting.lists[1] = [gpu.asarray(setting.lists[1][0].get().T.copy()).T]
    assert not setting.lists[1][0].flags.c_contiguous
    setting.adam([1])
    setting.sgd()
    setting.check()


def test_parameters_that_the_kernel_cannot_take(gpu):
    """One in float64 and one out of order, among others: the whole-array room takes their step, in place."""
    setting = Setting(gpu, [(4, 5), (6,), (7,)])
    setting.lists = [[a[0].T, a[1].astype(np.float64), a[2]] for a in setting.lists]
    setting.truths = [[a[0].T, *a[1:]] for a in setting.truths]
    setting.adam([1, 2, 3], weight_decay=0.1)
    setting.sgd(momentum=0.9)
    setting.check()
    assert setting.lists[0][1].dtype == np.float64


def test_no_weight_decay_of_infinite_weights(gpu):
    """0 times infinity would be NaN."""
    param, grad = gpu.asarray(np.array([np.inf, 1], np.float32)), gpu.asarray(np.ones(2, np.float32))
    cuda.sgd_step([param], [grad], None, *SGD.values())
    np.testing.assert_allclose(param.get(), [np.inf, 0.9], rtol=1e-6)
    mean, square = gpu.zeros(2, np.float32), gpu.zeros(2, np.float32)
    cuda.adam_step([param], [grad], [mean], [square], *ADAM.values(), [1])
    np.testing.assert_allclose(param.get(), [np.inf, 0.89], rtol=1e-6)


def test_nan_in_a_gradient_is_not_lost(gpu):
    setting = Setting(gpu, [(3,)])
    setting.lists[1][0][1] = math.nan
    cuda.adam_step(*setting.lists, *ADAM.values(), [1])
    np.testing.assert_array_equal(np.isnan(setting.lists[0][0].get()), [False, True, False])


def test_a_learning_rate_that_is_an_integer(gpu):
    setting = Setting(gpu, [(3,)])
    setting.sgd(lr=1)
    setting.adam([1], lr=1)
    setting.check()


def test_live_numbers_give_the_same_bits(gpu):
    """A recorded step reads them from its table, an eager one from an array made for the call."""
    eager, recorded = Setting(gpu, [(5,), (1030,)]), Setting(gpu, [(5,), (1030,)])
    rest = [*ADAM.values()][1:]
    numbers = {"lr": 0.1, "first": 1, "second": 7}
    cuda.adam_step(*eager.lists, 0.1, *rest, [1, 7])
    cuda.sgd_step(*eager.lists[:2], None, 0.1, 0.0, False, 0.01)
    table = Table()
    with record_into(table):
        lr, *steps = (live(lambda name=name: numbers[name]) for name in numbers)
        table.refill(gpu.cuda.get_current_stream())
        cuda.adam_step(*recorded.lists, lr, *rest, steps)
        cuda.sgd_step(*recorded.lists[:2], None, lr, 0.0, False, 0.01)
    same_bits(eager, recorded)


def same_bits(one: Setting, other: Setting) -> None:
    for got, expected in zip(one.lists, other.lists):
        for a, b in zip(got, expected):
            np.testing.assert_array_equal(a.get(), b.get())


def test_the_same_bits_every_time(gpu):
    first, second = (Setting(gpu, SHAPES) for _ in range(2))
    for setting in (first, second):
        setting.adam([3] * len(SHAPES), weight_decay=0.01)
    same_bits(first, second)
