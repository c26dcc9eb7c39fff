"""Finite differences."""

import numpy as np


def assert_gradients(function, inputs, grad_outputs, grads, step=1e-5, tolerance=1e-7):
    """Check each element of ``grads`` by a central difference of sum(grad_output * output) in float64."""

    def value():
        return sum(np.vdot(g, y) for g, y in zip(grad_outputs, function(*inputs), strict=True))

    for i, (x, grad) in enumerate(zip(inputs, grads, strict=True)):
        for index in np.ndindex(*x.shape):
            middle = x[index]
            x[index] = middle + step
            above = value()
            x[index] = middle - step
            below = value()
            x[index] = middle
            difference = (above - below) / (2 * step)
            assert abs(difference - grad[index]) <= tolerance * (1 + abs(difference)), f"input {i} at {index}"
