"""Pictures from files, and pictures of digits made like MNIST's."""

import numpy as np
import pytest
from PIL import Image

from tinynet import data
from tinynet.errors import DataError, ShapeError


def save(path, values, **options):
    Image.fromarray(values).save(path, **options)
    return path


def digit(height=60, width=40):
    """A thick 7 in ink 1 on 0, (height, width)."""
    ink = np.zeros((height, width), np.float32)
    ink[5:12, 5:-5] = 1
    for row in range(12, height - 5):
        column = int(width - 12 - (row - 12) * (width - 24) / height)
        ink[row, column : column + 7] = 1
    return ink


# --- read_image ---


def test_8_bit_levels_are_kept(tmp_path):
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = data.read_image(save(tmp_path / "ramp.png", ramp))
    assert image.shape == (16, 16, 1) and image.dtype == np.float32
    np.testing.assert_array_equal(image[..., 0], ramp / np.float32(255))


@pytest.mark.parametrize("name", ["ramp.png", "ramp.tif", "ramp.pgm"])
def test_16_bit_levels_are_kept(tmp_path, name):
    ramp = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    ramp[-1, -1] = 65535
    image = data.read_image(save(tmp_path / name, ramp))
    assert len(np.unique(image)) == 4096 and image.max() == 1
    np.testing.assert_array_equal(image[..., 0], ramp / np.float32(65535))


def test_big_endian_tiff(tmp_path):
    values = np.array([[0, 1000], [40000, 65535]], ">u2")
    image = Image.frombytes("I;16B", (2, 2), values.tobytes())
    image.save(tmp_path / "big.tif")
    np.testing.assert_allclose(
        data.read_image(tmp_path / "big.tif")[..., 0], values / np.float32(65535), rtol=1e-6
    )


def test_one_bit(tmp_path):
    save(tmp_path / "mask.png", np.array([[True, False], [False, True]]))
    np.testing.assert_array_equal(data.read_image(tmp_path / "mask.png")[..., 0], [[1, 0], [0, 1]])


def test_colours_become_their_luma(tmp_path):
    colours = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [100, 100, 100]]], np.uint8)
    image = data.read_image(save(tmp_path / "colour.png", colours))
    np.testing.assert_allclose(image[..., 0], [[0.299, 0.587], [0.114, 100 / 255]], rtol=1e-5)


def test_palette(tmp_path):
    Image.fromarray(np.array([[[250, 250, 250], [10, 10, 10]]], np.uint8)).quantize(4).save(
        tmp_path / "palette.gif"
    )
    np.testing.assert_allclose(
        data.read_image(tmp_path / "palette.gif").ravel(), [250 / 255, 10 / 255], atol=0.02
    )


@pytest.mark.parametrize("ink", [0, 255])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_background_does_not_swallow_the_ink(tmp_path, ink, mode):
    """Black ink is laid on white, white ink on black; half-transparent ink is blended."""
    pixels = np.zeros((4, 4, len(mode)), np.uint8)
    pixels[1, 1], pixels[2, 2] = ink, ink
    pixels[1, 1, -1], pixels[2, 2, -1] = 255, 51
    image = data.read_image(save(tmp_path / "alpha.png", pixels))[..., 0]
    paper = 0 if ink else 1
    assert image[0, 0] == paper and image[1, 1] == 1 - paper
    assert image[2, 2] == pytest.approx(0.2 if ink else 0.8)


def test_the_cameras_orientation_is_obeyed(tmp_path):
    wide = np.zeros((4, 8), np.uint8)
    wide[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    image = data.read_image(save(tmp_path / "phone.png", wide, exif=exif))
    assert image.shape == (8, 4, 1) and image[0, 3, 0] == 1


def test_files_that_cannot_be_read(tmp_path):
    text = tmp_path / "notes.png"
    text.write_text("no picture")
    cut = save(tmp_path / "cut.png", np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
    cut.write_bytes(cut.read_bytes()[:-500])
    with pytest.raises(DataError, match=r"there is no file .*missing.png"):
        data.read_image(tmp_path / "missing.png")
    for path in (text, cut, tmp_path):
        with pytest.raises(DataError, match=rf"cannot read .*{path.name} as a picture"):
            data.read_image(path)


def test_kinds_of_pixels_without_a_known_range(tmp_path):
    with pytest.raises(DataError, match="pixels of kind F, whose range is not known"):
        data.read_image(save(tmp_path / "float.tif", np.ones((3, 3), np.float32)))
    with pytest.raises(DataError, match="holds integers above 65535"):
        data.read_image(save(tmp_path / "long.tif", np.full((3, 3), 70000, np.int32)))


# --- as_mnist ---


def centre_of_mass(image):
    image = image[..., 0]
    places = np.arange(28)
    return image.sum(1) @ places / image.sum(), image.sum(0) @ places / image.sum()


def box(image):
    rows, columns = np.flatnonzero(image.max((1, 2))), np.flatnonzero(image.max((0, 2)))
    return rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1


def test_the_real_digits_stay_as_they_are(shared_data):
    x, _ = data.mnist(shared_data / "mnist", "test")[:500]
    change = np.array([np.abs(data.as_mnist(picture) - picture).max() for picture in x])
    assert (change < 0.03).mean() > 0.99


@pytest.mark.parametrize("size", [(60, 40), (300, 200), (18, 12 + 12), (40, 90)])
@pytest.mark.parametrize("light_on_dark", [True, False])
def test_box_centre_and_colours(size, light_on_dark):
    ink = np.pad(digit(*size), ((10, 50), (30, 5)))
    image = data.as_mnist(ink if light_on_dark else 1 - ink)
    assert image.shape == (28, 28, 1) and image.dtype == np.float32
    assert max(box(image)) == 20
    np.testing.assert_allclose(centre_of_mass(image), 14, atol=0.51)
    assert image[0, 0] == 0 and image.max() == 1


def test_faint_ink_on_grey_noisy_shaded_paper():
    clean = data.as_mnist(np.pad(digit(180, 120), 30))
    photo = 0.7 - 0.4 * np.pad(digit(180, 120), 30)
    photo += np.linspace(-0.15, 0.15, photo.shape[1]) + np.random.default_rng(0).normal(0, 0.01, photo.shape)
    assert np.corrcoef(data.as_mnist(photo).ravel(), clean.ravel())[0, 1] > 0.97


def test_tight_crops_work():
    ink = digit()[5:-5, 5:-5]
    assert max(box(data.as_mnist(ink))) == 20


def test_lopsided_ink_is_kept_inside():
    ink = np.zeros((100, 100))
    ink[10:90, 10:12] = 0.3
    ink[80:95, 10:95] = 1
    image = data.as_mnist(ink)
    assert image.max() == 1 and max(box(image)) == 20


def test_stages_for_the_lesson():
    stages = data.as_mnist_stages(1 - digit())
    assert list(stages) == ["ink", "cropped", "scaled", "centred"]
    assert stages["ink"].shape == (60, 40, 1) and stages["cropped"].shape == (50, 30, 1)
    assert stages["scaled"].shape == (20, 12, 1) and stages["centred"].shape == (28, 28, 1)
    np.testing.assert_array_equal(stages["centred"], data.as_mnist(1 - digit()))


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((28, 28)),
        np.ones((28, 28, 1)),
        np.full((50, 50), 0.7) + np.random.default_rng(0).normal(0, 0.02, (50, 50)),
        np.linspace(0.4, 0.8, 2500).reshape(50, 50),
    ],
    ids=["black", "white", "noise", "shadow"],
)
def test_blank_pictures(picture):
    with pytest.raises(DataError, match="the picture is blank"):
        data.as_mnist(picture)


@pytest.mark.parametrize("shape", [(28,), (28, 28, 3), (1, 28, 28, 1), (0, 5)])
def test_wrong_shapes(shape):
    with pytest.raises(ShapeError, match=r"as_mnist takes a grey picture \(H, W\) or \(H, W, 1\), got shape"):
        data.as_mnist(np.zeros(shape))


def test_not_finite():
    with pytest.raises(DataError, match="NaN or infinite"):
        data.as_mnist(np.full((5, 5), np.nan))
