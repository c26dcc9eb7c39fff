"""Loaders whose data lie on a device; here that is the CPU, in tests/gpu it is a GPU."""

import numpy as np
import pytest

from tinynet.data import Dataset, DeviceLoader, Loader, digits, split
from tinynet.data.transforms import Brightness, RandomAffine
from tinynet.errors import ArgumentError


def pictures(count=23):
    random = np.random.default_rng(0)
    return random.integers(0, 256, (count, 5, 6, 2)).astype(np.uint8), random.integers(0, 4, count)


def same(a, b):
    return all(p.dtype == q.dtype and p.tobytes() == q.tobytes() for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "int16"])
def test_batches_are_those_of_a_loader(dtype, drop_last):
    x, y = pictures()
    settings = {"batch_size": 4, "shuffle": True, "drop_last": drop_last, "seed": 9}
    plain = Loader((x.astype(dtype), y), **settings)
    there = DeviceLoader((x.astype(dtype), y), **settings, device="cpu")
    for epoch in range(2):
        assert all(same(a, b) for a, b in zip(plain, there, strict=True))
        assert there.epoch == plain.epoch == epoch + 1
    assert len(there) == len(plain) and sum(there.sizes()) == (20 if drop_last else 23)
    assert same(there.take(np.array([3, 1])), plain.take(np.array([3, 1])))


def test_it_can_begin_in_the_middle_of_a_pass():
    settings = {"batch_size": 4, "shuffle": True, "seed": 9}
    plain, there = Loader(pictures(), **settings), DeviceLoader(pictures(), **settings, device="cpu")
    plain.epoch = 3
    there.start(3, batch=2)
    rest = [there.next_batch(count) for count in there.sizes(2)]
    assert all(same(a, b) for a, b in zip(list(plain)[2:], rest, strict=True))


def test_pictures_are_moved_by_the_same_random_numbers():
    move = RandomAffine(rotation=15, shear=0.1, scale=0.1, shift=1.5, fill=0.25)
    data = Dataset(*pictures()).with_transform(move, seed=4)
    settings = {"batch_size": 8, "shuffle": True, "seed": 9}
    plain, there = Loader(data, **settings), DeviceLoader(data, **settings, device="cpu")
    for _ in range(2):
        for (a, _), (b, _) in zip(plain, there, strict=True):
            np.testing.assert_allclose(b, a, atol=5e-6)
            assert np.ptp(a) > 0.5


def test_like_takes_over_order_and_place():
    loader = Loader(pictures(), 4, shuffle=True, seed=9)
    list(loader)
    other = DeviceLoader.like(loader, "cpu")
    assert all(same(a, b) for a, b in zip(loader, other, strict=True))


def test_a_part_of_the_data():
    part, _ = split(Dataset(*pictures()), (0.5, 0.5))
    assert all(same(a, b) for a, b in zip(Loader(part, 4), DeviceLoader(part, 4, device="cpu"), strict=True))


@pytest.mark.parametrize(
    "data, text",
    [
        (lambda: digits(10), "a DrawnDigits makes its samples one by one"),
        (lambda: Dataset(*pictures()).with_transform(Brightness(0.1)), "only RandomAffine of pictures"),
        (
            lambda: Dataset(pictures()[0], pictures()[0][..., 0]).with_transform(RandomAffine(5)),
            "not that of masks",
        ),
    ],
)
def test_what_cannot_lie_on_a_device(data, text):
    with pytest.raises(ArgumentError, match=f"DeviceLoader: .*{text}"):
        DeviceLoader(data(), device="cpu")
