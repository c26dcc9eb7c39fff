"""The networks in JAX: whole training steps compiled by XLA, features last as in tinynet."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from benchmarks.nets import Net


def load(threads: int) -> None:
    """Import JAX on ``threads`` cores: XLA starts as many threads as the process may use cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.devices()


class Engine:
    """One network on one batch; see benchmarks/engines/__init__.py."""

    def __init__(
        self, net: Net, x: np.ndarray, labels: np.ndarray, weights: list[np.ndarray], dropout: bool, mode: str
    ):
        import jax
        import jax.numpy as jnp

        from benchmarks.engines import jax_nets

        self.x, self.labels = jnp.asarray(x), jnp.asarray(labels)
        self.weights = [jnp.asarray(w) for w in weights]
        self.moments = [[jnp.zeros_like(w) for w in self.weights] for _ in range(2)]
        self.stats = jax_nets.first_stats(net.name)
        self.count, self.key, self.dropout = jnp.float32(0), jax.random.key(0), dropout
        self.forward = jax.jit(jax_nets.infer, static_argnums=0)
        self.train = jax.jit(jax_nets.train_step, static_argnums=(0, 1, 2))
        self.name, self.mode = net.name, mode

    def step(self) -> Any:
        """One training step; returns the loss, which is waited for."""
        loss, state = self.train(
            self.name, self.mode, self.dropout, self.x, self.labels,
            (self.weights, self.moments, self.stats, self.count, self.key),
        )  # fmt: skip
        self.weights, self.moments, self.stats, self.count, self.key = state
        loss.block_until_ready()
        self.weights[0].block_until_ready()
        return loss

    def infer(self) -> Any:
        """The forward pass alone, waited for."""
        return self.forward(self.name, self.weights, self.stats, self.x).block_until_ready()

    def logits(self) -> np.ndarray:
        """The forward pass as an array."""
        return np.asarray(self.infer())
