"""Fixed numbers without a seed: the inputs of the values that were computed once with PyTorch."""

import numpy as np


def wave(*shape, k=0.7):
    """sin(k i + 1) for i = 0, 1, 2, ... in the given shape."""
    return np.sin(k * np.arange(np.prod(shape, dtype=int)) + 1).reshape(shape)
