"""The networks in JAX on a GPU: each whole step compiled by XLA, or twenty steps in one program."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu.device import Cpu
from benchmarks.gpu.job import CHUNK, NEARLY_NONE, Job, Turn

HOWS = ("jit", "scan")


def load(threads: int) -> None:
    """Import JAX."""
    import jax  # noqa: F401


def prove(device: str) -> None:
    """Fail where this JAX cannot use the device."""
    import jax

    jax.devices(device)


class JaxDevice(Cpu):
    """JAX shows no events: the host's clock, once the last result is there."""

    def __init__(self) -> None:
        self.last: Any = ()

    def wait(self) -> None:
        import jax

        jax.block_until_ready(self.last)

    def event(self) -> Any:
        return None

    def between(self, begin: Any, end: Any) -> Any:
        return None


def open_device(kind: str) -> Cpu:
    """The device by its kind; what it does is in the engine."""
    return JaxDevice()


class Engine:
    """One network; see benchmarks/gpu/job.py."""

    def __init__(self, job: Job):
        import jax
        import jax.numpy as jnp

        from benchmarks.engines import jax_nets

        self.device, self.chunk = JaxDevice(), CHUNK if job.how == "scan" else 1
        self.turn, self.precision = (
            Turn(self.chunk),
            "tensorfloat32" if job.precision == "tf32" else "highest",
        )
        place = jax.devices(job.device)[0]
        put = lambda array: jax.device_put(jnp.asarray(array), place)  # noqa: E731
        self.data = [put(array) for array in (job.images, job.labels.astype("int32"), job.order)]
        weights = [put(w) for w in job.weights]
        moments = [[jnp.zeros_like(w) for w in weights] for _ in range(2)]
        stats = [put(s) for s in jax_nets.first_stats(job.net.name)]
        self.state = (weights, moments, stats, jnp.float32(0), jax.random.key(0))
        self.program = jax.jit(_program(job.net.name, self.chunk), donate_argnums=0)

    def advance(self) -> Any:
        """The next ``chunk`` steps."""
        import jax

        with jax.default_matmul_precision(self.precision):
            self.state, losses = self.program(self.state, self.turn.take(), *self.data)
        self.device.last = losses, self.state[0]
        return losses

    def losses(self, result: Any) -> list[float]:
        """The losses, waited for."""
        return [float(loss) for loss in result]


def _program(name: str, chunk: int) -> Any:
    """(state, first batch, images, labels, order) to (state, losses of ``chunk`` steps)."""
    from jax import lax
    from jax import numpy as jnp

    from benchmarks.engines import jax_nets

    def step(state: Any, rows: Any, images: Any, labels: Any) -> Any:
        x = images[rows].astype(jnp.float32) / 255
        loss, state = jax_nets.train_step(name, "sgd", NEARLY_NONE, x, labels[rows], state)
        return state, loss

    def several(state: Any, first: Any, images: Any, labels: Any, order: Any) -> Any:
        rows = lax.dynamic_slice_in_dim(order, first, chunk)
        return lax.scan(lambda state, here: step(state, here, images, labels), state, rows)

    def one(state: Any, first: Any, images: Any, labels: Any, order: Any) -> Any:
        state, loss = step(state, lax.dynamic_index_in_dim(order, first, keepdims=False), images, labels)
        return state, loss[None]

    return one if chunk == 1 else several
