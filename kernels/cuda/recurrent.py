"""Recurrent layers: one kernel for all time steps, or a loop of a product and a kernel for each step.

What does not depend on the state is one large product: the inputs times w_ih beforehand, the gradients of x
and of the weights afterwards. A small w_hh stays on the card's processors while one kernel walks through all
steps (walk.cu). For a large one the host goes through the steps (recurrent.cu); this can be recorded, and
then costs the host nothing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import tinynet.kernels.cuda.cublas as cublas
from tinynet.kernels.arrays._library import xp_of
from tinynet.kernels.cuda.dense import bias_grad
from tinynet.kernels.cuda.loader import blocks, contiguous, float32_kernel, launch
from tinynet.kernels.cuda.matmul import gemm, in_line

Array = Any
Needs = tuple[bool, ...]

_HELD = 32  # numbers of w_hh that a thread of a walk keeps; walk.cu knows it too
_MOST_THREADS = 1024  # of a block, which has to keep the whole w_hh


@float32_kernel
def rnn(x: Array, w_ih: Array, w_hh: Array, bias: Array, h0: Array, activation: str) -> Array:
    """Simple recurrent layer: h = act(x @ w_ih + h @ w_hh + bias)."""
    hs, h = _project(x, w_ih, bias), contiguous(h0)  # first the sums over the inputs, then the states
    if _is_small(w_hh):
        _walk("rnn_walk", x, w_hh, h, hs, is_tanh=activation == "tanh")
        return hs
    for t in range(x.shape[1]):
        h = gemm(h, w_hh, hs[:, t], add=True, activation=activation)
    return hs


@float32_kernel
def rnn_backward(
    grad_hs: Array, x: Array, w_ih: Array, w_hh: Array, h0: Array, hs: Array, activation: str, needs: Needs
) -> tuple[Array | None, ...]:
    """Gradients of :func:`rnn` in x, w_ih, w_hh, bias and h0."""
    grad_hs, hs, grad_sums, grad_h = contiguous(grad_hs), contiguous(hs), _like(hs), _zeros(h0)
    is_tanh = activation == "tanh"
    if _is_small(w_hh):
        _walk("rnn_walk_back", x, w_hh.T, grad_hs, hs, grad_sums, grad_h, is_tanh=is_tanh)
    else:
        for t in reversed(range(x.shape[1])):
            _step("rnn_step_back", hs, t, grad_hs, hs, grad_h, grad_sums, last=(is_tanh,))
            gemm(grad_sums[:, t], w_hh.T, grad_h)
    grad_x, grad_w_ih, grad_bias = _project_grad(grad_sums, x, w_ih, needs)
    return grad_x, grad_w_ih, _state_grad(h0, hs, grad_sums, needs), grad_bias, grad_h


@float32_kernel
def lstm(x: Array, w_ih: Array, w_hh: Array, bias: Array, h0: Array, c0: Array) -> tuple[Array, Array, Array]:
    """Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000)."""
    gates, h, c0 = _project(x, w_ih, bias), contiguous(h0), contiguous(c0)
    hs, cs = _sequences(x, h0.shape[1]), _sequences(x, h0.shape[1])
    if _is_small(w_hh):
        _walk("lstm_walk", x, w_hh, h, c0, gates, hs, cs)
        return hs, cs, gates
    for t in range(x.shape[1]):
        gemm(h, w_hh, gates[:, t], add=True)
        _step("lstm_step", hs, t, gates, c0, hs, cs)
        h = hs[:, t]
    return hs, cs, gates


@float32_kernel
def lstm_backward(
    grad_hs: Array, grad_cs: Array, x: Array, w_ih: Array, w_hh: Array, h0: Array, c0: Array,
    hs: Array, cs: Array, gates: Array, needs: Needs,
) -> tuple[Array | None, ...]:  # fmt: skip
    """Gradients of :func:`lstm` in x, w_ih, w_hh, bias, h0 and c0."""
    hs, known = contiguous(hs), [contiguous(array) for array in (grad_hs, grad_cs, gates, c0, cs)]
    grad_sums, grad_h, grad_c = _like(gates), _zeros(h0), _zeros(c0)
    if _is_small(w_hh):
        _walk("lstm_walk_back", x, w_hh.T, *known, grad_sums, grad_h, grad_c)
    else:
        for t in reversed(range(x.shape[1])):
            _step("lstm_step_back", hs, t, *known, grad_h, grad_c, grad_sums)
            gemm(grad_sums[:, t], w_hh.T, grad_h)
    grad_x, grad_w_ih, grad_bias = _project_grad(grad_sums, x, w_ih, needs)
    return grad_x, grad_w_ih, _state_grad(h0, hs, grad_sums, needs), grad_bias, grad_h, grad_c


@float32_kernel
def gru(x: Array, w_ih: Array, w_hh: Array, bias_ih: Array, bias_hh: Array, h0: Array) -> tuple[Array, Array]:
    """Gated recurrent unit (Cho et al. 2014), the reset gate after the product."""
    inputs, h0 = _project(x, w_ih, bias_ih), contiguous(h0)
    hs, gates, h = _sequences(x, h0.shape[1]), _sequences(x, 4 * h0.shape[1]), h0
    if _is_small(w_hh):
        _walk("gru_walk", x, w_hh, inputs, contiguous(bias_hh), h0, hs, gates)
        return hs, gates
    for t in range(x.shape[1]):
        states = gemm(h, w_hh, bias=bias_hh)
        _step("gru_step", hs, t, inputs, states, h0, hs, gates)
        h = hs[:, t]
    return hs, gates


@float32_kernel
def gru_backward(
    grad_hs: Array, x: Array, w_ih: Array, w_hh: Array, h0: Array, hs: Array, gates: Array, needs: Needs
) -> tuple[Array | None, ...]:
    """Gradients of :func:`gru` in x, w_ih, w_hh, bias_ih, bias_hh and h0."""
    hs, known = contiguous(hs), [contiguous(array) for array in (grad_hs, gates, h0, hs)]
    grad_inputs, grad_h = _sequences(x, 3 * h0.shape[1]), _zeros(h0)
    grad_states = _like(grad_inputs)
    if _is_small(w_hh):
        _walk("gru_walk_back", x, w_hh.T, *known, grad_inputs, grad_states, grad_h)
    else:
        for t in reversed(range(x.shape[1])):
            _step("gru_step_back", hs, t, *known, grad_h, grad_inputs, grad_states)
            gemm(grad_states[:, t], w_hh.T, grad_h, add=True)
    grad_x, grad_w_ih, grad_bias_ih = _project_grad(grad_inputs, x, w_ih, needs)
    grad_bias_hh = bias_grad(grad_states) if needs[4] else None
    grad_w_hh = _state_grad(h0, hs, grad_states, needs)
    return grad_x, grad_w_ih, grad_w_hh, grad_bias_ih, grad_bias_hh, grad_h


# --- the walk, and the single step ---


def _block(rows: int, columns: int) -> tuple[int, int]:
    """Threads of a block for a matrix: one for each column and each _HELD of its rows; whole warps."""
    return -(-columns // 32) * 32, -(-rows // _HELD)


def _is_small(w_hh: Array) -> bool:
    """Whether a block can keep the whole matrix, and its transpose."""
    return max(math.prod(_block(*shape)) for shape in (w_hh.shape, w_hh.shape[::-1])) <= _MOST_THREADS


def _walk(name: str, x: Array, weight: Array, *arrays: Array, is_tanh: bool = False) -> None:
    """Kernel ``name`` for all steps, one block for each sample of x (N, T, F)."""
    (samples, steps, _), weight, block = x.shape, in_line(weight), _block(*weight.shape)
    walk = np.array((steps, min(weight.shape), *cublas.steps(weight), is_tanh), np.int32)
    shared = 4 * (_HELD * block[1] + math.prod(block))
    launch(name, "walk.cu", (samples,), block, weight, *arrays, walk, shared=shared)


def _step(name: str, hs: Array, t: int, *arrays: Any, last: tuple = ()) -> None:
    """Kernel ``name`` for step ``t``, one thread for each unit of each sample; hs (N, T, U)."""
    samples, steps, units = hs.shape
    cell = np.array((samples, steps, units, t), np.int32)
    launch(name, "recurrent.cu", blocks(samples * units), (256,), *arrays, cell, *last)


# --- shared by all three ---


def _project(x: Array, w_ih: Array, bias: Array) -> Array:
    """x @ w_ih + bias for all steps in one product: (N, T, F) to (N, T, gates * U)."""
    return gemm(_rows(x), w_ih, bias=bias).reshape(*x.shape[:2], w_ih.shape[1])


def _project_grad(grad: Array, x: Array, w_ih: Array, needs: Needs) -> tuple[Array | None, ...]:
    """Gradients of :func:`_project` in x, w_ih and bias, those that ``needs`` asks for at 0, 1 and 3."""
    return (
        gemm(_rows(grad), w_ih.T).reshape(x.shape) if needs[0] else None,
        gemm(_rows(x).T, _rows(grad)) if needs[1] else None,
        bias_grad(grad) if needs[3] else None,
    )


def _state_grad(first: Array, states: Array, grad: Array, needs: Needs) -> Array | None:
    """Gradient of w_hh (if needs[2]): what the state before each step contributed, as one product."""
    if not needs[2]:
        return None
    earlier = _like(states)
    args = contiguous(first), states, earlier, *states.shape
    launch("shift_states", "recurrent.cu", blocks(states.size), (256,), *args)
    return gemm(_rows(earlier).T, _rows(grad))


def _rows(x: Array) -> Array:
    """A sequence (N, T, F) as the rows of a matrix (N * T, F)."""
    n, t, f = x.shape
    return contiguous(x).reshape(n * t, f)


def _sequences(x: Array, width: int) -> Array:
    return xp_of(x).empty((*x.shape[:2], width), np.float32)


def _like(array: Array) -> Array:
    return xp_of(array).empty(array.shape, np.float32)


def _zeros(array: Array) -> Array:
    return xp_of(array).zeros(array.shape, np.float32)
