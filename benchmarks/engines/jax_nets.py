"""Twins in JAX of the networks in tinynet.models: functions of their weights, in tinynet's order and layout.

A network is ``net(layers, x)``; ``layers`` hands out the weights one after another, and knows whether it is
trained, so that dropout and batch normalisation know as well.
"""

from __future__ import annotations

from typing import Any

import jax
from jax import lax
from jax import numpy as jnp

from benchmarks.engines import ADAM, SGD

Array = Any


class Layers:
    """The layers of one forward pass; each takes its weights from the front of the list."""

    def __init__(
        self,
        weights: list[Array],
        stats: list[Array],
        training: bool,
        key: Array | None,
        rate: float | None = None,
    ):
        self.weights, self.stats = iter(weights), iter(stats)
        self.training, self.key = training, key  # without a key, dropout does nothing
        self.rate = rate  # of all dropout, in place of the network's own
        self.new_stats: list[Array] = []

    def conv(self, x: Array, padding: str, bias: bool = True) -> Array:
        """Convolution (N, H, W, C), stride 1."""
        weight = next(self.weights)
        y = lax.conv_general_dilated(x, weight, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y + next(self.weights) if bias else y

    def dense(self, x: Array) -> Array:
        """x @ weight + bias."""
        return x @ next(self.weights) + next(self.weights)

    def dropout(self, x: Array, rate: float) -> Array:
        """Zero a part of the elements, scale up the others."""
        if not self.training or self.key is None:
            return x
        rate = rate if self.rate is None else self.rate
        self.key, here = jax.random.split(self.key)
        return jnp.where(jax.random.bernoulli(here, 1 - rate, x.shape), x / (1 - rate), 0)

    def batch_norm(self, x: Array) -> Array:
        """Statistics of the batch when trained, the running ones (mean, then variance) otherwise."""
        weight, bias = next(self.weights), next(self.weights)
        running = next(self.stats), next(self.stats)
        mean, var = (x.mean((0, 1, 2)), x.var((0, 1, 2))) if self.training else running
        if self.training:
            self.new_stats += [0.9 * old + 0.1 * new for old, new in zip(running, (mean, var))]
        return (x - mean) * (weight * lax.rsqrt(var + 1e-5)) + bias

    def rnn(self, x: Array) -> Array:
        """The last state of a simple recurrent layer over (N, T, F)."""
        w_ih, w_hh, bias = (next(self.weights) for _ in range(3))
        rows = jnp.swapaxes(x @ w_ih + bias, 0, 1)  # (T, N, U)
        start = jnp.zeros((x.shape[0], w_hh.shape[0]))
        return lax.scan(lambda h, row: (jnp.tanh(row + h @ w_hh), None), start, rows)[0]


def max_pool(x: Array) -> Array:
    """2 x 2, stride 2."""
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def flatten(x: Array) -> Array:
    """(N, ...) to (N, everything)."""
    return x.reshape(x.shape[0], -1)


def small_cnn(layers: Layers, x: Array) -> Array:
    """Network (a)."""
    for _ in range(2):
        x = max_pool(jax.nn.relu(layers.conv(x, "SAME")))
    return layers.dense(jax.nn.relu(layers.dense(flatten(x))))


def wide_cnn(layers: Layers, x: Array) -> Array:
    """Network (b)."""
    for _ in range(2):
        x = jax.nn.relu(layers.conv(x, "VALID"))
    x = flatten(layers.dropout(max_pool(x), 0.25))
    return layers.dense(layers.dropout(jax.nn.relu(layers.dense(x)), 0.5))


def row_rnn(layers: Layers, x: Array) -> Array:
    """Network (d)."""
    return layers.dense(layers.rnn(x))


def unet(layers: Layers, x: Array) -> Array:
    """Network (c). Weights come level by level: down, bottom, all of the way up, all of the merging, out."""
    skips = []
    for _ in range(3):
        skips.append(_double_conv(layers, x))
        x = max_pool(skips[-1])
    x = _double_conv(layers, x)
    ups = [(next(layers.weights), next(layers.weights)) for _ in skips]
    for (weight, bias), skip in zip(ups, reversed(skips)):
        x = _double_conv(layers, jnp.concatenate([skip, enlarge(x, weight) + bias], -1))
    return layers.conv(x, "VALID")


def _double_conv(layers: Layers, x: Array) -> Array:
    for _ in range(2):
        x = jax.nn.relu(layers.batch_norm(layers.conv(x, "SAME", bias=False)))
    return x


def enlarge(x: Array, weight: Array) -> Array:
    """Transposed convolution, 2 x 2 and stride 2: each pixel becomes a square of four."""
    n, h, w, _ = x.shape
    return jnp.einsum("nhwc,abco->nhawbo", x, weight).reshape(n, 2 * h, 2 * w, -1)


NETS = {"a": small_cnn, "b": wide_cnn, "c": unet, "d": row_rnn}


def first_stats(name: str) -> list[Array]:
    """Running mean 0 and variance 1 for each batch normalisation; only network (c) has any."""
    filters = (16, 32, 64, 128, 64, 32, 16) if name == "c" else ()
    return [make(f) for f in filters for _ in range(2) for make in (jnp.zeros, jnp.ones)]


def infer(name: str, weights: list[Array], stats: list[Array], x: Array) -> Array:
    """The logits of a trained network."""
    return NETS[name](Layers(weights, stats, False, None), x)


def train_step(
    name: str, mode: str, dropout: bool | float, x: Array, labels: Array, state: tuple
) -> tuple[Array, tuple]:
    """Loss, gradients and one step of the mode's optimiser.

    The state is weights, moments, statistics, step count, key. ``dropout`` is whether there is any, or the
    rate of all of it.
    """
    rate = None if isinstance(dropout, bool) else dropout
    weights, moments, stats, count, key = state
    key, here = jax.random.split(key)

    def loss_of(weights: list[Array]) -> tuple[Array, list[Array]]:
        layers = Layers(weights, stats, True, here if dropout else None, rate)
        logs = jax.nn.log_softmax(NETS[name](layers, x))
        return -jnp.take_along_axis(logs, labels[..., None], -1).mean(), layers.new_stats

    (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(weights)
    weights, moments = OPTIMIZERS[mode](weights, grads, moments, count + 1)
    return loss, (weights, moments, stats, count + 1, key)


def adam(weights: list[Array], grads: list[Array], moments: list[list[Array]], count: Array) -> tuple:
    """Adam (Kingma and Ba 2015)."""
    means = [0.9 * m + 0.1 * g for m, g in zip(moments[0], grads)]
    squares = [0.999 * v + 0.001 * g * g for v, g in zip(moments[1], grads)]
    rate, root = ADAM["lr"] / (1 - 0.9**count), jnp.sqrt(1 - 0.999**count)
    stepped = [w - rate * m / (jnp.sqrt(v) / root + 1e-8) for w, m, v in zip(weights, means, squares)]
    return stepped, [means, squares]


def sgd(weights: list[Array], grads: list[Array], moments: list[list[Array]], count: Array) -> tuple:
    """Gradient descent with momentum; the first of the moments is the velocity."""
    velocities = [SGD["momentum"] * v + g for v, g in zip(moments[0], grads)]
    return [w - SGD["lr"] * v for w, v in zip(weights, velocities)], [velocities, moments[1]]


OPTIMIZERS = {"adam": adam, "sgd": sgd}
