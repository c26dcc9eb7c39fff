"""Loss, dropout, error function and optimiser steps."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import DTYPES, ROOMS, TESTED, assert_same, expected, normal, run, wave

KEY = 0x1234567_89ABCDEF
KEYS = st.integers(0, 2**62 - 1)

# --- softmax and cross-entropy ---


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", TESTED)
@given(
    rows=st.integers(1, 20),
    classes=st.sampled_from([1, 2, 5, 10, 16, 37]),
    scale=st.sampled_from([0.1, 3, 50]),
)
@settings(max_examples=25)
def test_softmax_cross_entropy(room, dtype, rows, classes, scale):
    logits = scale * normal(rows, classes, dtype=dtype)
    labels = np.random.default_rng(rows).integers(0, classes, rows)
    args = (logits.astype(dtype), labels)
    assert_same(run(room, "softmax_cross_entropy", *args), expected("softmax_cross_entropy", *args), dtype)


@pytest.mark.parametrize("room", ROOMS)
def test_loss_by_hand(room):
    logits = np.log(np.array([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]], np.float32)) + np.float32(5)
    losses, probabilities = run(room, "softmax_cross_entropy", logits, np.array([2, 0]))
    np.testing.assert_allclose(losses, [-math.log(0.5), -math.log(0.1)], rtol=1e-5)
    np.testing.assert_allclose(probabilities, [[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]], rtol=1e-5)


@pytest.mark.parametrize("labels", [np.uint8, np.int32, np.int64])
@pytest.mark.parametrize("room", ROOMS)
def test_labels_of_any_integer_kind(room, labels):
    losses, _ = run(room, "softmax_cross_entropy", np.zeros((3, 4), np.float32), np.array([0, 3, 1], labels))
    np.testing.assert_allclose(losses, math.log(4), rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", ROOMS)
def test_large_logits_do_not_overflow(room, dtype):
    logits = np.array([[1e30, 0, -1e30], [-1e30, -1e30, -1e30]], dtype)
    losses, probabilities = run(room, "softmax_cross_entropy", logits, np.array([0, 1]))
    np.testing.assert_allclose(losses, [0, math.log(3)], rtol=1e-6)
    np.testing.assert_allclose(probabilities, [[1, 0, 0], [1 / 3] * 3], rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("room", ROOMS)
def test_a_row_with_infinity_or_nan_gives_nan_and_only_that_row(room, place, bad, dtype):
    logits = normal(3, 3, dtype=dtype)
    logits[1, place] = bad
    losses, probabilities = run(room, "softmax_cross_entropy", logits, np.array([0, 1, 2]))
    np.testing.assert_array_equal(np.isnan(losses), [False, True, False])
    np.testing.assert_array_equal(np.isnan(probabilities).all(1), [False, True, False])
    assert np.isfinite(probabilities[[0, 2]]).all()


@pytest.mark.parametrize("room", ROOMS)
def test_minus_infinity_is_a_class_that_cannot_be(room):
    logits = np.array([[0, -np.inf], [0, -np.inf]], np.float32)
    losses, probabilities = run(room, "softmax_cross_entropy", logits, np.array([0, 1]))
    np.testing.assert_array_equal(losses, [0, np.inf])
    np.testing.assert_array_equal(probabilities, [[1, 0], [1, 0]])


# --- dropout ---


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", TESTED)
@given(key=KEYS, rate=st.floats(0, 0.99), shape=st.sampled_from([(1,), (7,), (3, 5), (4, 1, 50), (1001,)]))
@settings(max_examples=25)
def test_the_mask_is_the_same_in_every_room(room, dtype, key, rate, shape):
    x = normal(*shape, dtype=dtype) + 10
    (y,), (wanted,) = run(room, "dropout", x, rate, key), expected("dropout", x, rate, key)
    np.testing.assert_array_equal(y == 0, wanted == 0)
    np.testing.assert_allclose(y, wanted, rtol=1e-6)


@pytest.mark.parametrize("room", ROOMS)
def test_the_hash_stays_what_it_is(room):
    """Runs that were saved must go on with the same masks."""
    from tinynet.kernels.reference.elementwise import hash32

    hashes = [0x1C62A4A3, 0xD166D3BC, 0xB4FCB6DA, 0xB5CD237B]
    assert [hash32(i, KEY) for i in range(4)] == hashes
    for h in hashes:  # the rate that just keeps the element, and the next one, which drops it
        (kept,) = run(room, "dropout", np.ones(4), h / 2**32, KEY)
        (dropped,) = run(room, "dropout", np.ones(4), (h + 1) / 2**32, KEY)
        assert (kept > 0).sum() == (dropped > 0).sum() + 1


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("key", [0, 1, 2**32, KEY, 2**62 - 1])
@pytest.mark.parametrize("room", TESTED)
def test_the_kept_fraction_is_one_minus_the_rate(room, key, rate):
    count = 200_000
    (y,) = run(room, "dropout", np.ones(count, np.float32), rate, key)
    deviation = math.sqrt(rate * (1 - rate) / count)
    assert abs((y > 0).mean() - (1 - rate)) < 4.5 * deviation
    np.testing.assert_allclose(y[y > 0], 1 / (1 - rate), rtol=1e-6)


@pytest.mark.parametrize("room", TESTED)
def test_masks_of_neighbouring_keys_and_elements_are_independent(room):
    count = 200_000
    masks = [run(room, "dropout", np.ones(count, np.float32), 0.5, k)[0] > 0 for k in (5, 6, 5 + 2**32)]
    pairs = [(masks[0], masks[1]), (masks[0], masks[2]), (masks[0][1:], masks[0][:-1])]
    for a, b in pairs:
        assert abs((a == b).mean() - 0.5) < 4.5 * 0.5 / math.sqrt(count)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", ROOMS)
def test_rate_zero_keeps_everything(room, dtype):
    x = normal(50, dtype=dtype)
    np.testing.assert_array_equal(run(room, "dropout", x, 0.0, 0)[0], x)


@pytest.mark.parametrize("room", ROOMS)
def test_what_is_dropped_is_zero_even_if_it_was_no_number(room):
    (y,) = run(room, "dropout", np.full(100, np.nan, np.float32), 0.5, KEY)
    assert set(np.isnan(y)) == {True, False} and (y[~np.isnan(y)] == 0).all()


# --- erf ---


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", ROOMS)
def test_erf_of_table_values(room, dtype):
    """Abramowitz and Stegun (1964), table 7.1."""
    x = np.array([0, 0.5, 1, 2, -1, 10, -10, np.inf, -np.inf, np.nan], dtype)
    wanted = [0, 0.5204998778, 0.8427007929, 0.9953222650, -0.8427007929, 1, -1, 1, -1, np.nan]
    (y,) = run(room, "erf", x)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, wanted, atol=1e-9 if dtype == np.float64 else 2e-7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", TESTED)
def test_erf_everywhere(room, dtype):
    x = np.concatenate([np.linspace(-7, 7, 999), [1e-30, -1e-5, 1e-3]]).astype(dtype)
    wanted = [math.erf(v) for v in x]
    np.testing.assert_allclose(run(room, "erf", x)[0], wanted, rtol=2e-6 if dtype == np.float32 else 1e-13)


# --- optimiser steps ---

START = [1.0, -2.0, 0.5]
FIVE_STEPS_OF_PYTORCH = {
    "adam": [0.6108459310924985, -2.0954930060436743, 0.852313439494075],
    "adamw": [0.6918126745226135, -2.075386616586363, 0.8373951738224512],
    "sgd": [0.3958379601037316, -1.8900285937760801, 0.9494316543731587],
    "nesterov": [0.3134330555436427, -1.7260233573265733, 0.9568913980839859],
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FIVE_STEPS_OF_PYTORCH)
@pytest.mark.parametrize("room", ROOMS)
def test_five_steps_of_pytorch(room, name, dtype):
    param, first, second = np.array(START, dtype), np.zeros(3, dtype), np.zeros(3, dtype)
    for i in range(5):
        grad = wave(3, phase=i).astype(dtype)
        if name.startswith("adam"):
            args = (first, second, 0.1, 0.9, 0.999, 1e-8, 0.1, name == "adamw", i + 1)
            run(room, "adam_step", param, grad, *args)
        else:
            run(room, "sgd_step", param, grad, first, 0.1, 0.9, name == "nesterov", 0.1)
    np.testing.assert_allclose(
        param, FIVE_STEPS_OF_PYTORCH[name], rtol=1e-12 if dtype == np.float64 else 1e-5
    )


@pytest.mark.parametrize("room", ROOMS)
def test_plain_descent_needs_no_velocity(room):
    param = np.array(START, np.float32)
    run(room, "sgd_step", param, np.array([1, 2, 3], np.float32), None, 0.5, 0.0, False, 0.0)
    np.testing.assert_array_equal(param, [0.5, -3, -1])


@pytest.mark.parametrize("size", [1, 15, 16, 1000, 100_003])
@pytest.mark.parametrize("room", TESTED)
def test_steps_of_any_size_agree_with_the_formula(room, size):
    param, grad, mean, square = (normal(size, dtype=np.float32, seed=i) for i in range(4))
    square **= 2
    m, v = 0.9 * mean.astype(float) + 0.1 * grad, 0.99 * square.astype(float) + 0.01 * grad.astype(float) ** 2
    wanted = param - 0.1 * (m / (1 - 0.9**3)) / (np.sqrt(v / (1 - 0.99**3)) + 1e-8)
    run(room, "adam_step", param, grad, mean, square, 0.1, 0.9, 0.99, 1e-8, 0.0, False, 3)
    assert_same([param, mean, square], [wanted, m, v], np.float32)


@pytest.mark.parametrize("name", ["sgd_step", "adam_step"])
@pytest.mark.parametrize("room", ROOMS)
def test_a_parameter_may_be_a_single_number(room, name):
    param, grad, first, second = (np.array(v, np.float32) for v in (1.0, 2.0, 0.0, 0.0))
    if name == "sgd_step":
        run(room, name, param, grad, first, 0.25, 0.9, False, 0.0)
        assert param == 0.5
    else:
        run(room, name, param, grad, first, second, 0.25, 0.9, 0.999, 0.0, 0.0, False, 1)
        assert param == pytest.approx(0.75)
