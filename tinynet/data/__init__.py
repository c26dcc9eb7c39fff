"""Data for nets: datasets and loaders, drawn digits, MNIST, pictures from files, transforms.

Everything here is NumPy arrays; pictures have their channels last. Reading or drawing starts when it is
asked for, and importing this package loads neither Numba nor Pillow.
"""

from __future__ import annotations

from typing import Any

from tinynet.data import transforms
from tinynet.data.dataset import Dataset, Subset
from tinynet.data.device import DeviceLoader
from tinynet.data.digits import DrawnDigits, digits
from tinynet.data.images import as_mnist, as_mnist_stages, read_image
from tinynet.data.loader import Loader
from tinynet.data.mnist import mnist
from tinynet.data.splits import split
from tinynet.data.style import READABLE, WIDE, DigitStyle
from tinynet.errors import did_you_mean

__all__ = [
    "READABLE", "WIDE", "Dataset", "DeviceLoader", "DigitStyle", "DrawnDigits", "Loader", "Subset",
    "as_mnist", "as_mnist_stages", "digits", "mnist", "read_image", "split", "transforms",
]  # fmt: skip

_ELSEWHERE = {  # names of other packages, and what they are called here
    "DataLoader": "Loader(dataset, batch_size)",
    "TensorDataset": "Dataset(x, y)",
    "random_split": "split(dataset, ...)",
    "train_test_split": "split(dataset, ...)",
    "MNIST": "mnist(folder)",
}


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        raise AttributeError(f"tinynet.data has no {name!r}; it is called {_ELSEWHERE[name]}")
    raise AttributeError(f"tinynet.data has no {name!r}. {did_you_mean(name, __all__)}")
