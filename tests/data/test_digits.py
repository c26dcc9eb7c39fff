"""Drawn digits: the same from the same seed, shaped like the real ones."""

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from tinynet import data
from tinynet.data import READABLE, WIDE, DigitStyle, jit
from tinynet.data.digits import draw
from tinynet.data.seeding import sample_keys
from tinynet.errors import ArgumentError, MissingPackageError


@pytest.fixture(scope="module")
def wide():
    return draw(sample_keys(0, 0, np.arange(6000)), WIDE)


@pytest.fixture(scope="module")
def readable():
    return draw(sample_keys(0, 0, np.arange(6000)), READABLE)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(jit, "_warned", set())
    return tmp_path / "tinynet" / "digits"


def centre_of_mass(x):
    mass, places = x.sum(axis=(1, 2), dtype=np.float64), np.arange(28)
    return x.sum(axis=2, dtype=np.float64) @ places / mass, x.sum(axis=1, dtype=np.float64) @ places / mass


def slants(x):
    """Lean to the right of each picture, from its second moments."""
    (rows, columns), mass = centre_of_mass(x), x.sum(axis=(1, 2), dtype=np.float64)
    down = np.arange(28) - rows[:, None]
    right = np.arange(28) - columns[:, None]
    both = np.einsum("nij,ni,nj->n", x.astype(float), down, right) / mass
    return -both / (np.einsum("nij,ni->n", x.astype(float), down**2) / mass)


def stroke_widths(x):
    """Twice the area over the outline's length: what a long straight stroke would measure."""
    ink = x > 127
    outline = (ink[:, 1:] != ink[:, :-1]).sum((1, 2)) + (ink[:, :, 1:] != ink[:, :, :-1]).sum((1, 2))
    return 2 * ink.sum((1, 2)) / outline


def box(x):
    rows, columns = (x > 0).any(axis=2), (x > 0).any(axis=1)
    return tuple(28 - b.argmax(1) - b[:, ::-1].argmax(1) for b in (rows, columns))


# --- what the pictures look like; the numbers are those of MNIST's 60,000 training pictures ---


def test_ink_of_the_real_digits(wide):
    x = wide[0]
    assert x.mean() / 255 == pytest.approx(0.131, rel=0.1)
    assert x.std() / 255 == pytest.approx(0.308, rel=0.1)
    assert (x > 0).mean() == pytest.approx(0.191, rel=0.1)
    assert (x > 127).mean() == pytest.approx(0.132, rel=0.1)


def test_grey_levels_of_the_real_digits(wide):
    ink = wide[0][wide[0] > 0]
    shares = np.histogram(ink, [0, 64, 192, 256])[0] / len(ink)
    np.testing.assert_allclose(shares, [0.18, 0.26, 0.56], rtol=0.1)


def test_box_and_centre_of_the_real_digits(wide, readable):
    height, width = box(wide[0][..., 0])
    assert height.mean() == pytest.approx(19.6, rel=0.1) and width.mean() == pytest.approx(15.8, rel=0.1)
    assert np.maximum(height, width).mean() == pytest.approx(20, rel=0.05)
    for x, _ in (wide, readable):
        for place in centre_of_mass(x[..., 0]):
            assert place.mean() == pytest.approx(14, abs=0.02)
            assert place.std() == pytest.approx(0.29, abs=0.02)
            assert abs(place - 14).max() < 0.6


def test_strokes_of_the_real_digits(wide):
    x = wide[0][..., 0]
    assert stroke_widths(x).mean() == pytest.approx(2.05, rel=0.1)
    assert slants(x).mean() == pytest.approx(0.12, abs=0.03)
    assert 0.28 < slants(x).std() < 0.38  # wider than the real 0.28 on purpose


def test_against_the_real_digits_themselves(shared_data, wide):
    real = data.mnist(shared_data / "mnist").x[:6000, ..., 0]
    x = wide[0][..., 0]
    for measure in (np.mean, np.std, lambda p: (p > 0).mean(), lambda p: stroke_widths(p).mean()):
        assert measure(x) == pytest.approx(measure(real), rel=0.1)
    for drawn, true in zip(box(x), box(real), strict=True):
        assert drawn.mean() == pytest.approx(true.mean(), rel=0.1)


def test_all_labels_come_alike(wide):
    assert abs(np.bincount(wide[1], minlength=10) - 600).max() < 100  # four standard deviations


def test_readable_digits_vary_less(wide, readable):
    def spread(drawn):
        return np.mean([(drawn[0][drawn[1] == k] / 255).std(axis=0).mean() for k in range(10)])

    assert spread(readable) < 0.97 * spread(wide)
    assert not np.array_equal(wide[0], readable[0])


# --- repeatable ---


def test_drawings_are_what_they_were():
    """A change of the recipe must be wanted: it changes every number that was measured with drawn digits."""
    x, y = draw(sample_keys(0, 0, np.arange(8)))
    assert y.tolist() == [1, 1, 0, 8, 8, 1, 3, 7]
    np.testing.assert_allclose(
        x.reshape(8, -1).mean(axis=1), [38.38, 19.37, 41.35, 30.69, 38.28, 17.86, 18.08, 30.94], atol=0.02
    )


def test_digit_depends_neither_on_how_many_nor_on_threads():
    many = data.digits(2000, fresh=False)
    few = data.digits(10, fresh=False)
    np.testing.assert_array_equal(many.x[:10], few.x)
    np.testing.assert_array_equal(many.y[:10], few.y)
    keys = sample_keys(3, 0, np.arange(1500))
    for threads in (2, 5):
        np.testing.assert_array_equal(draw(keys, threads=1)[0], draw(keys, threads=threads)[0])
    np.testing.assert_array_equal(draw(keys[[700, 2]])[0], draw(keys)[0][[700, 2]])


def test_same_digits_in_another_process():
    code = (
        "import hashlib\nfrom tinynet import data\n"
        "d = data.digits(40, seed=9)\nd.start_epoch(2)\nprint(hashlib.sha256(d.x.tobytes()).hexdigest())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    here = data.digits(40, seed=9)
    here.start_epoch(2)
    assert told.strip() == hashlib.sha256(here.x.tobytes()).hexdigest()


def test_training_digits_are_drawn_afresh_and_held_out_ones_are_not():
    for d, fixed in [
        (data.digits(20), False),
        (data.digits(20, fresh=False), True),
        (data.digits(20, split="test"), True),
    ]:
        first = d.x
        d.start_epoch(1)
        assert np.array_equal(first, d.x) == fixed
        d.start_epoch(0)
        np.testing.assert_array_equal(first, d.x)


def test_seeds_and_splits_differ():
    sets = [data.digits(5), data.digits(5, seed=1), data.digits(5, split="test", setting=WIDE)]
    assert len({d.x.tobytes() for d in sets}) == 3


def test_loader_redraws_each_epoch():
    loader = data.Loader(data.digits(30), 30)
    (first,), (second,) = list(loader), list(loader)
    assert first[0].shape == (30, 28, 28, 1) and first[0].dtype == np.float32 and first[1].dtype == np.int64
    assert 0.9 < first[0].max() <= 1 and first[0].min() == 0
    assert not np.array_equal(first[0], second[0])
    resumed = data.Loader(data.digits(30), 30)
    resumed.epoch = 1
    np.testing.assert_array_equal(next(iter(resumed))[0], second[0])


def test_nothing_is_drawn_before_it_is_asked_for():
    d = data.digits(10**9)
    assert (
        len(d) == 10**9
        and repr(d) == "DrawnDigits(1000000000 digits, split='train', drawn afresh each epoch)"
    )


# --- styles ---


def test_a_lesson_switches_one_thing_off():
    keys = sample_keys(0, 0, np.arange(1000))
    upright = replace(READABLE, slant=0.0, slant_of_one=0.0, slant_spread=0.0, rotation=0.0)
    assert slants(draw(keys, upright)[0][..., 0]).std() < 0.6 * slants(draw(keys, READABLE)[0][..., 0]).std()
    thin = replace(WIDE, width=1.5, width_spread=0.0, pressure=0.0, rough_width=0.0)
    assert stroke_widths(draw(keys, thin)[0][..., 0]).std() < 0.6 * stroke_widths(draw(keys)[0][..., 0]).std()
    uncentred = replace(WIDE, centre_by_mass=0.0)
    assert centre_of_mass(draw(keys, uncentred)[0][..., 0])[0].std() > 0.6
    large = replace(WIDE, box=24.0)
    assert box(draw(keys, large)[0][..., 0])[0].mean() > 22.5


def test_without_chance_only_the_forms_remain():
    still = {
        name: 0.0
        for name in WIDE.__dataclass_fields__
        if name.endswith("spread") or name.startswith("balance")
    }
    zero = dict.fromkeys(
        ["jitter", "stroke_shift", "trim", "warp", "rotation", "pressure", "rough_width", "rough_edge"], 0.0
    )
    style = DigitStyle(**still, **zero, gain_low=1.0, gain_high=1.0)
    x, y = draw(sample_keys(0, 0, np.arange(3000)), style)
    # the plain stroke stands five times among the 20 forms of the 1, so that it comes more often
    assert [len(np.unique(x[y == k], axis=0)) for k in range(10)] == [18, 16, 30, 17, 10, 18, 13, 23, 22, 20]


def test_setting_by_name():
    assert data.digits(5, setting="readable").style is READABLE and data.digits(5, setting=WIDE).style is WIDE
    assert data.digits(5).style is WIDE and data.digits(5, split="test").style is READABLE


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: data.digits(0), "n=0: need at least 1 digit"),
        (lambda: data.digits(2.5), "n=2.5: need at least 1 digit"),
        (lambda: data.digits(split="tset"), "unknown split 'tset'. Did you mean 'test'"),
        (lambda: data.digits(setting="readible"), "unknown setting 'readible'. Did you mean 'readable'"),
        (lambda: data.digits(seed=-2), "seed=-2: a seed is an integer of at least 0"),
        (lambda: data.digits(fresh=True, cache=True), "with fresh=True leave out cache=True"),
        (lambda: data.digits(fresh=True, split="test"), 'with fresh=True leave out split="test"'),
        (lambda: DigitStyle(warp=-1), r"DigitStyle\(warp=-1\): need a finite number of at least 0"),
        (lambda: DigitStyle(width=float("nan")), r"DigitStyle\(width=nan\)"),
        (lambda: DigitStyle(box=40.0), "box=40.0.*need 4 <= box <= 28"),
    ],
)
def test_bad_arguments(call, text):
    with pytest.raises(ArgumentError, match=text):
        call()


def test_wild_styles_stay_inside_the_picture():
    wild = DigitStyle(
        jitter=3.0, warp=2.0, trim=1.0, width=30.0, pressure=3.0, rough_edge=2.0, aspect_spread=3.0
    )
    x, _ = draw(sample_keys(0, 0, np.arange(500)), wild)
    assert x.shape == (500, 28, 28, 1) and x.max() == 255


def test_without_numba_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tinynet.data.pen", None)
    with pytest.raises(MissingPackageError, match=r"needs Numba.*pip install numba"):
        draw(sample_keys(0, 0, np.arange(2)))


# --- the cache ---


def test_fixed_set_is_kept_and_found_again(cache, monkeypatch):
    first = data.digits(50, cache=True)
    x = first.x
    (file,) = cache.iterdir()
    assert "afresh" not in repr(first)

    def refuse(*_):
        raise AssertionError("drawn again")

    monkeypatch.setattr(sys.modules["tinynet.data.digits"], "draw", refuse)
    again = data.digits(50, cache=True)
    np.testing.assert_array_equal(again.x, x)
    np.testing.assert_array_equal(again.y, first.y)
    assert again.x.dtype == np.uint8 and again.y.dtype == np.int64
    assert list(cache.iterdir()) == [file]


def test_other_sets_have_other_files(cache):
    for kwargs in ({}, {"seed": 1}, {"split": "test"}, {"setting": READABLE}):
        _ = data.digits(20, cache=True, **kwargs).x
    assert len(list(cache.iterdir())) == 4


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "text"])
def test_damaged_cache_is_drawn_again(cache, damage):
    x = data.digits(50, cache=True).x
    (file,) = cache.iterdir()
    content = file.read_bytes()
    flipped = content[:-100] + bytes([content[-100] ^ 1]) + content[-99:]
    file.write_bytes({"flip": flipped, "cut": content[:-7], "empty": b"", "text": b"hello"}[damage])
    np.testing.assert_array_equal(data.digits(50, cache=True).x, x)
    assert file.read_bytes() == content


def test_cache_folder_that_cannot_be_written_is_said_once(cache):
    cache.parent.mkdir(parents=True)
    cache.write_text("a file stands where the folder should be")
    with pytest.warns(UserWarning, match="cannot be kept in the cache folder.*going on without") as told:
        for _ in range(2):
            assert data.digits(5, cache=True).x.shape == (5, 28, 28, 1)
    assert len(told) == 1
