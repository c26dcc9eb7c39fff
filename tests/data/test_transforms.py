"""Transforms: repeatable, sample by sample; geometry against slow loops; masks move with their pictures."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynet import data
from tinynet.data.seeding import sample_keys
from tinynet.data.transforms import (
    Brightness,
    Compose,
    Contrast,
    ElasticDeformation,
    Normalize,
    RandomAffine,
    Transform,
    _warp,
)
from tinynet.errors import ArgumentError, DTypeError, ShapeError

RANDOM = [
    Brightness(0.3),
    Contrast(0.5),
    RandomAffine(rotation=20, shear=0.2, scale=0.2, shift=2),
    ElasticDeformation(),
    Compose([RandomAffine(rotation=10), ElasticDeformation(), Contrast(0.2), RandomAffine(shift=3)]),
]


def pictures(n=6, height=12, width=10, channels=2, seed=0):
    return np.random.default_rng(seed).random((n, height, width, channels)).astype(np.float32)


def bilinear_by_hand(picture, row, col, fill):
    """One value from a picture (H, W) at a place between its pixels."""
    value = 0.0
    for r in (math.floor(row), math.floor(row) + 1):
        for c in (math.floor(col), math.floor(col) + 1):
            inside = 0 <= r < picture.shape[0] and 0 <= c < picture.shape[1]
            value += (1 - abs(row - r)) * (1 - abs(col - c)) * (picture[r, c] if inside else fill)
    return value


# --- repeatable ---


@pytest.mark.parametrize("transform", RANDOM, ids=lambda t: type(t).__name__)
def test_same_seed_same_result_another_seed_another(transform):
    x = pictures()
    before = x.copy()
    np.testing.assert_array_equal(transform(x, seed=4), transform(x, seed=4))
    assert np.abs(transform(x, seed=4) - transform(x, seed=5)).mean() > 0.01
    np.testing.assert_array_equal(x, before)
    assert transform(x).dtype == np.float32 and transform(x).shape == x.shape


@pytest.mark.parametrize("transform", RANDOM, ids=lambda t: type(t).__name__)
def test_a_sample_does_not_depend_on_its_batch(transform):
    d = data.Dataset(pictures(8), np.arange(8), transform, seed=1)
    whole, _ = d.batch(np.arange(8))
    few, _ = d.batch([6, 2])
    np.testing.assert_allclose(few, whole[[6, 2]], atol=1e-5)
    d.start_epoch(1)
    assert np.abs(d.batch([6, 2])[0] - few).mean() > 0.01
    d.start_epoch(0)
    np.testing.assert_array_equal(d.batch([6, 2])[0], few)


def test_two_of_a_kind_do_not_repeat_each_other():
    x = pictures(3)
    once = Brightness(0.3)(x) - x
    twice = Compose([Brightness(0.3), Brightness(0.3)])(x) - x
    assert not np.allclose(twice, 2 * once, atol=1e-3)


# --- parameters that change nothing ---


@pytest.mark.parametrize(
    "transform",
    [
        Normalize(0, 1), Brightness(0), Contrast(0), RandomAffine(), ElasticDeformation(alpha=0), Compose([]),
        Compose([RandomAffine(), ElasticDeformation(alpha=0), Brightness(0)]),
    ],
    ids=lambda t: type(t).__name__,
)  # fmt: skip
def test_identity_gives_back_the_input_itself(transform):
    x, mask = pictures(), np.ones((6, 12, 10), np.uint8)
    new_x, new_mask = transform(x, mask)
    assert new_x is x and new_mask is mask


def test_a_tiny_move_changes_little():
    x = pictures()
    np.testing.assert_allclose(RandomAffine(rotation=1e-4)(x), x, atol=1e-3)


# --- light ---


def test_normalize():
    x = pictures(channels=3)
    mean, std = x.mean((0, 1, 2)), x.std((0, 1, 2))
    got = Normalize(mean, std)(x)
    np.testing.assert_allclose(got.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(got.std((0, 1, 2)), 1, atol=1e-5)
    np.testing.assert_allclose(Normalize(0.5, 0.25)(x), (x - 0.5) / 0.25, rtol=1e-6)


def test_brightness_adds_one_number_to_each_picture():
    x = pictures(500, 4, 4, 1)
    shift = (Brightness(0.3)(x) - x).reshape(500, -1)
    np.testing.assert_allclose(shift, shift[:, :1].repeat(16, 1), atol=1e-6)
    assert -0.3 <= shift.min() < -0.28 and 0.28 < shift.max() <= 0.3 + 1e-6


def test_contrast_keeps_the_mean_and_scales_the_spread():
    x = pictures(500, 4, 4, 2)
    got = Contrast(0.5)(x)
    np.testing.assert_allclose(got.mean((1, 2)), x.mean((1, 2)), atol=1e-5)
    factors = got.std((1, 2)) / x.std((1, 2))
    np.testing.assert_allclose(factors[:, 0], factors[:, 1], rtol=1e-4)
    assert factors.min() + 1e-4 >= 0.5 and factors.min() < 0.52 and 1.48 < factors.max() < 1.5 + 1e-4


# --- geometry ---


@settings(max_examples=15)
@given(
    st.integers(3, 9), st.integers(3, 9), st.integers(1, 3), st.floats(0, 90), st.floats(0, 0.5),
    st.floats(0, 0.5), st.floats(0, 3), st.sampled_from([0.0, 0.7]),
)  # fmt: skip
def test_affine_against_loops(height, width, channels, rotation, shear, scale, shift, fill):
    transform = RandomAffine(rotation, shear, scale, shift, fill)
    x = pictures(2, height, width, channels)
    keys = sample_keys(7, 0, np.arange(2))
    matrices, shifts = transform.matrices(keys)
    got, _ = transform.apply(x, None, keys)
    if transform.is_identity():
        assert got is x
        return
    middle = np.array([(height - 1) / 2, (width - 1) / 2])
    for n in range(2):
        back = np.linalg.inv(matrices[n].astype(float))
        for r in range(height):
            for c in range(width):
                row, col = back @ (np.array([r, c]) - middle - shifts[n]) + middle
                for k in range(channels):
                    want = bilinear_by_hand(x[n, :, :, k].astype(float), row, col, fill)
                    assert got[n, r, c, k] == pytest.approx(want, abs=2e-5)


def test_affine_stays_within_its_ranges():
    transform = RandomAffine(rotation=30, shift=2)
    matrices, shifts = transform.matrices(sample_keys(0, 0, np.arange(2000)))
    angles = np.rad2deg(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    np.testing.assert_allclose(np.linalg.det(matrices), 1, rtol=1e-5)
    assert -30 <= angles.min() < -29 and 29 < angles.max() <= 30
    assert -2 <= shifts.min() < -1.95 and 1.95 < shifts.max() <= 2
    sizes = np.linalg.det(RandomAffine(scale=0.2).matrices(sample_keys(0, 0, np.arange(2000)))[0]) ** 0.5
    assert sizes.min() + 1e-6 >= 0.8 and sizes.min() < 0.81 and 1.19 < sizes.max() <= 1.2 + 1e-6
    leans = RandomAffine(shear=0.3).matrices(sample_keys(0, 0, np.arange(2000)))[0]
    assert -0.3 <= leans[:, 1, 0].min() < -0.29 and (leans[:, 0, 1] == 0).all()


def test_a_whole_pixel_shift_moves_pixels_and_fills_the_rest():
    class Shift(RandomAffine):
        def matrices(self, keys):
            return np.tile(np.eye(2, dtype=np.float32), (len(keys), 1, 1)), np.tile(
                np.float32([2, -1]), (len(keys), 1)
            )

    x = pictures(2, 6, 5, 1)
    got = Shift(shift=2, fill=0.25)(x)
    np.testing.assert_allclose(got[:, 2:, :4], x[:, :4, 1:], atol=1e-6)
    assert (got[:, :2] == 0.25).all() and (got[:, :, 4] == 0.25).all()


def test_elastic_field_against_scipy_like_smoothing():
    """Simard's field: uniform noise, Gaussian smoothing with zeros outside, times alpha."""
    from tinynet.data.seeding import uniform

    keys, sigma, alpha = sample_keys(0, 0, np.arange(1)), 2.0, 8.0
    field = ElasticDeformation(alpha, sigma).field(keys, 9, 7)
    rough = (2 * uniform(keys, 2 * 9 * 7) - 1).reshape(2, 9, 7)
    reach = np.arange(-8, 9)
    kernel = np.exp(-0.5 * (reach / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in range(2):
        for r in range(9):
            for c in range(7):
                want = sum(
                    kernel[8 + i - r] * kernel[8 + j - c] * rough[axis, i, j]
                    for i in range(9)
                    for j in range(7)
                )
                assert field[0, r, c, axis] == pytest.approx(alpha * want, abs=1e-5)


def test_elastic_is_smooth_and_as_strong_as_said():
    field = ElasticDeformation().field(sample_keys(0, 0, np.arange(200)), 64, 64)[:, 16:-16, 16:-16]
    assert field.std() == pytest.approx(1.38, rel=0.1)  # 34 * sqrt(1/3) / (2 sqrt(pi) 4)
    assert abs(np.diff(field, axis=1)).mean() < 0.3 * abs(field).mean()


def test_elastic_without_smoothing_moves_each_pixel_on_its_own():
    field = ElasticDeformation(alpha=1.0, sigma=0.0).field(sample_keys(0, 0, np.arange(50)), 8, 8)
    assert field.std() == pytest.approx(3**-0.5, rel=0.05)


def test_neighbouring_moves_are_resampled_once():
    """Affine, then elastic: a pixel goes by its displacement, then back through the matrix."""
    affine, elastic = RandomAffine(rotation=25, shift=1), ElasticDeformation(alpha=10, sigma=3)
    x, keys = pictures(2, 9, 9, 1), [sample_keys(s, 0, np.arange(2)) for s in (1, 2)]
    got, _ = _warp([(affine, keys[0]), (elastic, keys[1])], x, None)
    matrices, shifts = affine.matrices(keys[0])
    field = elastic.field(keys[1], 9, 9)
    for n, r, c in [(0, 4, 4), (1, 2, 6), (1, 7, 3)]:
        place = np.array([r, c]) + field[n, r, c]
        row, col = np.linalg.inv(matrices[n].astype(float)) @ (place - 4 - shifts[n]) + 4
        assert got[n, r, c, 0] == pytest.approx(
            bilinear_by_hand(x[n, :, :, 0].astype(float), row, col, 0), abs=2e-5
        )


# --- masks ---


@pytest.mark.parametrize("transform", RANDOM[2:], ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("with_channel", [False, True])
def test_mask_moves_with_its_picture(transform, with_channel):
    blobs = np.zeros((8, 32, 32, 1), np.float32)
    for n in range(8):
        blobs[n, 8 + n : 20 + n, 6:24] = 1
    mask = blobs.astype(np.uint8) * 3
    mask = mask if with_channel else mask[..., 0]
    quiet = Compose([t for t in getattr(transform, "transforms", [transform]) if not isinstance(t, Contrast)])
    new_x, new_mask = quiet(blobs, mask)
    assert new_mask.shape == mask.shape and new_mask.dtype == np.uint8
    assert set(np.unique(new_mask)) == {0, 3}
    both = new_mask.reshape(blobs.shape) == 3
    assert (both == (new_x > 0.5)).mean() > 0.97
    assert (both == (blobs > 0.5)).mean() < 0.97


def test_datasets_move_masks_but_not_labels():
    x = pictures(4, 8, 8, 1)
    masks = (x[..., 0] > 0.5).astype(np.int64)
    turn = RandomAffine(rotation=90)
    _, moved = data.Dataset(x, masks, turn)[:]
    assert moved.shape == masks.shape and not np.array_equal(moved, masks)
    _, y = data.Dataset(x, np.arange(4), turn)[:]
    np.testing.assert_array_equal(y, np.arange(4))


# --- wrong use ---


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Normalize(0, 0), ArgumentError, "need finite numbers and std > 0"),
        (
            lambda: Brightness(-0.1),
            ArgumentError,
            r"Brightness\(amount=-0.1\): need a finite number of at least 0",
        ),
        (lambda: Contrast(1.5), ArgumentError, "above 1 some pictures would turn into their negatives"),
        (lambda: RandomAffine(scale=1), ArgumentError, "need less than 1"),
        (lambda: RandomAffine(rotation=math.nan), ArgumentError, r"RandomAffine\(rotation=nan\)"),
        (lambda: ElasticDeformation(sigma=-1), ArgumentError, r"ElasticDeformation\(sigma=-1\)"),
        (lambda: Compose([len]), DTypeError, "Compose takes transforms, got <built-in function len>"),
        (lambda: Normalize([0, 1], 1)(pictures(channels=3)), ShapeError, "2 means and 1 stds for 3 channels"),
        (
            lambda: RandomAffine(9)(pictures()[0]),
            ShapeError,
            r"take pictures \(N, H, W, C\), got shape \(12, 10, 2\)",
        ),
        (
            lambda: RandomAffine(9)(np.zeros((1, 4, 4, 1), np.uint8)),
            DTypeError,
            "divide 8-bit pictures by 255",
        ),
        (
            lambda: RandomAffine(9)(pictures(), np.zeros((6, 12, 9))),
            ShapeError,
            r"mask's shape \(6, 12, 9\) does not fit the pictures' \(6, 12, 10, 2\)",
        ),
        (lambda: Transform()(pictures()), TypeError, r"Transform does not define apply\(x, mask, keys\)"),
    ],
)
def test_wrong_use(make, error, text):
    with pytest.raises(error, match=text):
        make()
