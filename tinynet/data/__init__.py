"""Data for nets: datasets and loaders, drawn digits, MNIST, pictures from files, transforms.

Everything here is NumPy arrays; pictures have their channels last. Reading or drawing starts when it is
asked for, and importing this package loads neither Numba nor Pillow.
"""

from tinynet.data import transforms
from tinynet.data.dataset import Dataset, Subset
from tinynet.data.digits import DrawnDigits, digits
from tinynet.data.images import as_mnist, as_mnist_stages, read_image
from tinynet.data.loader import Loader
from tinynet.data.mnist import mnist
from tinynet.data.splits import split
from tinynet.data.style import READABLE, WIDE, DigitStyle

__all__ = [
    "READABLE", "WIDE", "Dataset", "DigitStyle", "DrawnDigits", "Loader", "Subset", "as_mnist",
    "as_mnist_stages", "digits", "mnist", "read_image", "split", "transforms",
]  # fmt: skip
