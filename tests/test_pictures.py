"""The picture of the mistakes and the picture of the curves."""

import sys

import numpy as np
import pytest
from PIL import Image

from tinynet.errors import CheckpointError, ShapeError
from tinynet.pictures import draw_bars, draw_curves, draw_mistakes, worst_mistakes
from tinynet.training import History

LABELS = np.array([0, 1, 2, 1, 0])
CHANCES = np.array(
    [
        [0.9, 0.1, 0.0],  # right
        [0.3, 0.1, 0.6],  # wrong, 60 % sure
        [0.8, 0.1, 0.1],  # wrong, 80 % sure
        [0.1, 0.8, 0.1],  # right
        [0.2, 0.3, 0.5],  # wrong, 50 % sure
    ]
)


def digits(n=5, side=28):
    """Pictures whose grey level tells which one it is."""
    return (
        np.full((n, side, side, 1), 1.0, np.float32)
        * np.linspace(0.2, 1, n, dtype=np.float32)[:, None, None, None]
    )


def test_the_surest_mistake_comes_first():
    assert worst_mistakes(CHANCES, LABELS).tolist() == [2, 1, 4]


def test_no_more_mistakes_than_asked_for():
    assert worst_mistakes(CHANCES, LABELS, 2).tolist() == [2, 1]


def test_equal_mistakes_stay_in_their_order():
    assert worst_mistakes(np.array([[0.0, 1.0]] * 3), np.zeros(3, int)).tolist() == [0, 1, 2]


@pytest.mark.parametrize(("chances", "labels"), [(CHANCES[0], LABELS), (CHANCES, LABELS[:3])])
def test_shapes_that_do_not_fit_are_shown(chances, labels):
    with pytest.raises(ShapeError, match=r"need probabilities \(n, classes\) and labels \(n,\), got"):
        worst_mistakes(chances, labels)


def test_the_picture_shows_the_mistakes_in_their_order(tmp_path):
    assert draw_mistakes(tmp_path / "m.png", digits(), LABELS, CHANCES) == 3
    page = np.asarray(Image.open(tmp_path / "m.png").convert("L"))
    row = page[100]  # through the first row of tiles
    greys = [int(np.rint(255 * g)) for g in np.linspace(0.2, 1, 5)[[2, 1, 4]]]
    found = [int(g) for g in row[np.flatnonzero(np.diff(row, prepend=row[:1]))] if g != 255]
    assert found == greys[:2]  # the third is white like the paper


def test_each_tile_is_large_enough_to_read(tmp_path):
    draw_mistakes(tmp_path / "m.png", digits(), LABELS, CHANCES, columns=3)
    page = np.asarray(Image.open(tmp_path / "m.png").convert("L"))
    assert (page == 153).sum() >= 140 * 140  # 28 pixels, five times as large: the picture of grey 0.6


def test_captions_do_not_run_into_the_next_tile(tmp_path):
    """White columns stay between the tiles from top to bottom, also below "read as 0, 100 %"."""
    draw_mistakes(tmp_path / "m.png", digits(12), np.ones(12, int), np.eye(10)[np.zeros(12, int)])
    page = np.asarray(Image.open(tmp_path / "m.png").convert("L"))
    below_headline = page[40:]
    for tile in range(1, 6):
        assert (below_headline[:, tile * 156 + 4 : tile * 156 + 14] == 255).all()


def test_a_classifier_without_mistakes_gets_a_picture_that_says_so(tmp_path):
    assert draw_mistakes(tmp_path / "m.png", digits(), LABELS, np.eye(3)[LABELS]) == 0
    assert (np.asarray(Image.open(tmp_path / "m.png").convert("L")) < 128).any()


def test_a_folder_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        draw_mistakes(tmp_path / "nowhere" / "m.png", digits(), LABELS, CHANCES)


HISTORIES = {
    "with validation": [{"loss": 2.0, "accuracy": 0.5, "val_loss": 2.1, "val_accuracy": 0.4, "lr": 0.1}] * 3,
    "one epoch": [{"loss": 1.0}],
    "no epoch": [],
    "not finite": [{"loss": 1.0}, {"loss": float("nan")}],
}


@pytest.mark.parametrize("name", HISTORIES)
def test_every_history_has_curves(name, tmp_path):
    pytest.importorskip("matplotlib", reason="curves need matplotlib")
    assert draw_curves(tmp_path / "c.png", History(HISTORIES[name]))
    panels = len({n.removeprefix("val_") for numbers in HISTORIES[name] for n in numbers}) or 1
    width, height = Image.open(tmp_path / "c.png").size
    assert (width, height) == (506 * panels, 396)


def test_without_matplotlib_there_are_no_curves_and_no_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert not draw_curves(tmp_path / "c.png", History())
    assert not list(tmp_path.iterdir())


def test_bars_are_drawn_one_below_the_other(tmp_path):
    pytest.importorskip("matplotlib", reason="bars need matplotlib")
    assert draw_bars(tmp_path / "two.png", {"a": 1e-3, "b": 50.0}, "title", "GFLOP/s")
    assert draw_bars(tmp_path / "three.png", {"a": 1e-3, "b": 50.0, "c": 1.0}, "title", "GFLOP/s")
    two, three = (Image.open(tmp_path / f"{name}.png").size for name in ("two", "three"))
    assert two[0] == three[0] and two[1] < three[1]
