"""Mistakes that the tests must find: each changes one place of a ``.cu`` file.

A table rather than code: the file, what stands there, what stands there instead, and the case of cases.py
that must then go wrong, by its numbers or under AddressSanitizer.
"""

from __future__ import annotations

from typing import NamedTuple

from tinynet.kernels.cuda import loader


class Mutant(NamedTuple):
    """``old`` must occur once in the file and becomes ``new``; ``case`` must notice."""

    file: str
    old: str
    new: str
    case: str

    def install(self) -> None:
        """From now on the loader reads the file with the mistake in it."""
        read = loader.source
        text = (loader.FOLDER / self.file).read_text(encoding="utf-8")
        assert text.count(self.old) == 1, f"{self.old!r} stands {text.count(self.old)} times in {self.file}"
        loader.source = lambda file: (
            read(file).replace(self.old, self.new) if file == self.file else read(file)
        )


# Wrong numbers, with the threads of a block in one order at least.
NUMBERS = {
    "conv: no barrier between two tiles": Mutant(
        "conv.cu",
        "tile_b[now ^ 1]);\n        __syncthreads();",
        "tile_b[now ^ 1]);",
        "conv, many channels",
    ),
    "conv: the padding is not looked at": Mutant(
        "conv.cuh", "return (unsigned)i < (unsigned)size;", "return i < size;", "conv of an image"
    ),
    "conv: the shares of a block are added too early": Mutant(
        "conv_weight.cu",
        "sum[i / COLUMNS][i % COLUMNS];\n        __syncthreads();",
        "sum[i / COLUMNS][i % COLUMNS];",
        "conv of an image",
    ),
    "conv: no barrier before parts are added": Mutant(
        "add_parts.cu",
        "half /= 2) {\n        __syncthreads();",
        "half /= 2) {",
        "conv of an image",
    ),
    "col2im: only every second window gives back": Mutant(
        "im2col.cu", "distance % g.stride[axis] == 0", "distance % 2 == 0", "im2col"
    ),
    "tensor cores: the same half of a column twice": Mutant(
        "tile.cuh",
        "__float_as_uint(b[at_b(high, n)])",
        "__float_as_uint(b[at_b(low, n)])",
        "conv, ReLU, TF32",
    ),
    "matmul: no barrier before a slice is used": Mutant(
        "matmul.cu",
        "__syncthreads();\n        fetch(a_carrier, a_held);  // the next",
        "fetch(a_carrier, a_held);  // the next",
        "matmul",
    ),
    "matmul: no barrier before a slice is replaced": Mutant(
        "matmul.cu",
        "&b_slice[0][column]);\n        __syncthreads();",
        "&b_slice[0][column]);",
        "matmul",
    ),
    "tensor cores: no barrier before a slice is replaced": Mutant(
        "matmul.cu",
        "&b_slice[lane][column + group]);\n        __syncthreads();",
        "&b_slice[lane][column + group]);",
        "matmul, TF32",
    ),
    "matmul: a narrow product loses its last column": Mutant(
        "matmul.cu", "if (j >= p.n) break;", "if (j >= p.n - 1) break;", "dense"
    ),
    "dense: no barrier before sums are added": Mutant(
        "dense.cu",
        "half /= 2) {\n        __syncthreads();",
        "half /= 2) {",
        "dense, many rows",
    ),
    "batch norm: no barrier before sums are added": Mutant(
        "norm.cu",
        "other = me + half * blockDim.x;\n        __syncthreads();",
        "other = me + half * blockDim.x;",
        "batch norm",
    ),
    "batch norm: a sum that nobody has set": Mutant(
        "norm.cu", "sums[0][me] = a, sums[1][me] = b;", "sums[0][me] = a;", "batch norm, ReLU"
    ),
    "layer norm: no barrier before the warps' sums are read": Mutant(
        "norm.cu",
        "warps[threadIdx.x / 32] = value;\n    __syncthreads();",
        "warps[threadIdx.x / 32] = value;",
        "layer norm, long rows",
    ),
    "lstm: the state of the step before last": Mutant(
        "recurrent.cu", "states[at(c, own, c.t - 1)]", "states[at(c, own, max(c.t - 2, 0))]", "lstm, wide"
    ),
    "rnn: no barrier before a state is multiplied": Mutant(
        "walk.cu",
        "void multiply() {\n        __syncthreads();",
        "void multiply() {",
        "rnn, ReLU",
    ),
    "gru: no barrier before the parts of a product are added": Mutant(
        "walk.cu", "(sums[2] + sums[3]);\n        __syncthreads();", "(sums[2] + sums[3]);", "gru"
    ),
    "rnn: a state that another sample left": Mutant(
        "recurrent.cu", "earlier[i] = row % steps == 0 ?", "earlier[i] = row == 0 ?", "rnn"
    ),
    "clipping: no barrier before sums are added": Mutant(
        "clip.cu",
        "half /= 2) {\n        __syncthreads();",
        "half /= 2) {",
        "clipping",
    ),
    "layer norm: a sum is replaced before all warps have read it": Mutant(
        "norm.cu", "__syncthreads();  // the last sum has been read by all", "", "layer norm, long rows"
    ),
    "max_pool: the windows of the row below": Mutant(
        "pool.cu", "int o = start / a.stride;", "int o = start / a.stride + 1;", "max_pool"
    ),
    "cross-entropy: a shuffle that starts too late": Mutant(
        "common.cuh",
        "int distance = 16; distance > 0; distance /= 2) value +=",
        "int distance = 8; distance > 0; distance /= 2) value +=",
        "cross-entropy, many classes",
    ),
    "loss: no barrier before sums are added": Mutant(
        "loss.cu",
        "half /= 2) {\n        __syncthreads();",
        "half /= 2) {",
        "cross-entropy, many rows",
    ),
    "adam: no barrier after the rates": Mutant(
        "optimizer.cu", "decoupled);\n    __syncthreads();", "decoupled);", "adam"
    ),
    "dropout: half of the key": Mutant(
        "dropout.cu", "(unsigned)(key >> 32)", "(unsigned)(key >> 33)", "dropout"
    ),
    "gather: no barrier before the way is gone": Mutant(
        "gather.cu", "height, width);\n    __syncthreads();", "height, width);", "gather"
    ),
    "gather: an image that goes on in the next one": Mutant(
        "gather.cu", "top + u < height", "top + u <= height", "gather"
    ),
}

# Reads or writes outside of an array: under AddressSanitizer always, in the numbers perhaps never.
SANITIZER = {
    "conv: one row too many is written": Mutant(
        "conv.cu", "if (m < rows.count) put(", "if (m <= rows.count) put(", "conv of an image"
    ),
    "conv: one position too many is read": Mutant(
        "conv_weight.cu",
        "p < end && read < TILE_K * QUADS_B",
        "p <= end && read < TILE_K * QUADS_B",
        "conv of an image",
    ),
    "im2col: one place too many": Mutant(
        "im2col.cu", "taps * g.channels) return;", "taps * g.channels + 1) return;", "im2col"
    ),
    "conv: one part too many is added": Mutant(
        "add_parts.cu", "part < count;", "part <= count;", "conv of an image"
    ),
    "matmul: one line too many is read": Mutant(
        "matmul.cu", "c.line + i * c.line_jump < c.lines", "c.line + i * c.line_jump <= c.lines", "matmul"
    ),
    "matmul: a narrow product reads on": Mutant(
        "matmul.cu", "for (int k = lane; k < p.k; k += 32)", "for (int k = lane; k <= p.k; k += 32)", "dense"
    ),
    "dense: one row too many is read": Mutant(
        "dense.cu", "row < last; row += THREADS", "row <= last; row += THREADS", "dense, many rows"
    ),
    "dropout: no bound": Mutant("dropout.cu", "if (i < count) y[i]", "y[i]", "dropout"),
    "erf: one too many": Mutant("elementwise.cu", "if (i < count)", "if (i <= count)", "erf"),
    "adam: no bound": Mutant(
        "optimizer.cu",
        "if (i >= tensor.size) continue;\n        p[k] = tensor.param[i], g[k] = tensor.grad[i], m",
        "p[k] = tensor.param[i], g[k] = tensor.grad[i], m",
        "adam",
    ),
    "gru: one unit too many": Mutant(
        "recurrent.cu", "i < (size_t)c.samples * c.units", "i <= (size_t)c.samples * c.units", "gru, wide"
    ),
    "lstm: one row of the weight too many": Mutant("walk.cu", "i < count ?", "i <= count ?", "lstm"),
    "clipping: a whole last part": Mutant("clip.cu", "rest < CHUNK ? rest : CHUNK", "CHUNK", "clipping"),
    "batch norm: channels that are not there": Mutant(
        "norm.cu", "if (my_channel() < channels)", "if (my_channel() <= channels)", "batch norm, wide"
    ),
    "avg_pool: one row of the padding is read": Mutant(
        "pool.cu", "return i >= 0 && i < a.in;", "return i >= 0 && i <= a.in;", "avg_pool"
    ),
    "cross-entropy: one class too many is read": Mutant(
        "loss.cu",
        "for (int k = lane; k < classes; k += 32) top",
        "for (int k = lane; k <= classes; k += 32) top",
        "cross-entropy",
    ),
    "gather: no bound": Mutant(
        "gather.cu",
        "if (i >= total) return;\n    int sample = order[numbers[0] + i / size];\n    out[i] = seen",
        "int sample = order[numbers[0] + i / size];\n    out[i] = seen",
        "gather",
    ),
}

MUTANTS = NUMBERS | SANITIZER
