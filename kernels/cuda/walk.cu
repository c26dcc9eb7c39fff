// Recurrent layers whose weight is small: a whole sequence in one launch.
//
// Launching a product and a cell for each time step takes longer than computing them. Here one block takes one sample
// through all its steps. The weight of the state stays where it costs nothing to read: every thread keeps a piece of
// it in its registers from the first step to the last. The state goes around in shared memory.
#include "common.cuh"
#include "cells.cuh"

const int HELD = 32;  // numbers of the weight that a thread keeps

struct Walk {
    int steps, units;
    int row, column;  // distances in memory (in floats) of neighbouring rows and columns of the weight
    int is_tanh;
};

// A product vector (rows,) @ weight (rows, columns), shared by the threads of a block. Thread (x, y) has column x, and
// of it the rows from y * HELD on.
struct Product {
    float weight[HELD];
    float *vector, *parts;  // in shared memory
    int unit;               // number of this thread; those below ``units`` also have a unit each

    __device__ __forceinline__ Product(float* shared, const float* matrix, int rows, int columns, int row_step,
                                       int column_step) {
        vector = shared, parts = shared + blockDim.y * HELD;
        unit = threadIdx.y * blockDim.x + threadIdx.x;
        const int first = threadIdx.y * HELD, count = threadIdx.x < columns ? rows - first : 0;
        const float* from = matrix + (size_t)first * row_step + (size_t)threadIdx.x * column_step;
#pragma unroll
        for (int i = 0; i < HELD; ++i, from += row_step) weight[i] = i < count ? *from : 0.0f;
        for (int i = unit; i < blockDim.y * HELD; i += blockDim.x * blockDim.y) vector[i] = 0.0f;
        __syncthreads();
    }

    // What the vector holds now is multiplied; afterwards it may be written again.
    __device__ __forceinline__ void multiply() {
        __syncthreads();
        const float4* four = reinterpret_cast<const float4*>(vector + threadIdx.y * HELD);
        float sums[4] = {};
#pragma unroll
        for (int i = 0; i < HELD; i += 4) {
            const float4 v = four[i / 4];  // the same for all threads of a warp, so read once
            sums[0] = fmaf(v.x, weight[i], sums[0]), sums[1] = fmaf(v.y, weight[i + 1], sums[1]);
            sums[2] = fmaf(v.z, weight[i + 2], sums[2]), sums[3] = fmaf(v.w, weight[i + 3], sums[3]);
        }
        parts[unit] = (sums[0] + sums[1]) + (sums[2] + sums[3]);
        __syncthreads();
    }

    // A number of the product.
    __device__ __forceinline__ float operator[](int column) const {
        float sum = 0.0f;
        for (int part = 0; part < blockDim.y; ++part) sum += parts[part * blockDim.x + column];
        return sum;
    }
};

// Where the sample of this block stands in (samples, steps, gates * units) at step t, number u.
__device__ __forceinline__ size_t at(const Walk& w, int t, int gates, int u) {
    return ((size_t)blockIdx.x * w.steps + t) * gates * w.units + u;
}
__device__ __forceinline__ size_t at_state(const Walk& w, int u) { return (size_t)blockIdx.x * w.units + u; }

// Simple layer: h = activation(sums + h before @ weight).
// One block takes one sample; thread (x, y) as in Product.
// weight (units, units), h0 (samples, units), hs (samples, steps, units): the sums over the input, then the states.
extern "C" __global__ void __launch_bounds__(1024) rnn_walk(const float* weight, const float* h0, float* hs, Walk w) {
    DYN_SHARED(float, shared);
    Product product(shared, weight, w.units, w.units, w.row, w.column);
    const int u = product.unit;
    const bool has_unit = u < w.units;
    if (has_unit) product.vector[u] = h0[at_state(w, u)];
    for (int t = 0; t < w.steps; ++t) {
        const float sum = has_unit ? hs[at(w, t, 1, u)] : 0.0f;  // on its way while the state is multiplied
        product.multiply();
        if (!has_unit) continue;
        const float h = rnn_cell(sum + product[u], w.is_tanh);
        hs[at(w, t, 1, u)] = product.vector[u] = h;
    }
}

// Back: gradients of the sums of all steps, and of h0.
// One block takes one sample; thread (x, y) as in Product.
// weight (units, units), transposed; grad_hs, hs, grad_sums (samples, steps, units), grad_h0 (samples, units).
extern "C" __global__ void __launch_bounds__(1024)
    rnn_walk_back(const float* weight, const float* grad_hs, const float* hs, float* grad_sums, float* grad_h0, Walk w) {
    DYN_SHARED(float, shared);
    Product product(shared, weight, w.units, w.units, w.row, w.column);
    const int u = product.unit;
    const bool has_unit = u < w.units;
    float dh = 0.0f;
    for (int t = w.steps - 1; t >= 0; --t) {
        if (has_unit) {
            const size_t here = at(w, t, 1, u);
            const float grad = (grad_hs[here] + dh) * rnn_slope(hs[here], w.is_tanh);
            grad_sums[here] = product.vector[u] = grad;
        }
        product.multiply();
        if (has_unit) dh = product[u];
    }
    if (has_unit) grad_h0[at_state(w, u)] = dh;
}

// Long short-term memory.
// One block takes one sample; thread (x, y) as in Product.
// weight (units, 4 * units), h0, c0 (samples, units), hs, cs (samples, steps, units), gates (samples, steps,
// 4 * units): the sums over the input, then the activated gates.
extern "C" __global__ void __launch_bounds__(1024)
    lstm_walk(const float* weight, const float* h0, const float* c0, float* gates, float* hs, float* cs, Walk w) {
    DYN_SHARED(float, shared);
    Product product(shared, weight, w.units, 4 * w.units, w.row, w.column);
    const int u = product.unit;
    const bool has_unit = u < w.units;
    float c = has_unit ? c0[at_state(w, u)] : 0.0f;
    if (has_unit) product.vector[u] = h0[at_state(w, u)];
    for (int t = 0; t < w.steps; ++t) {
        float* here = gates + at(w, t, 4, u);
        Lstm sums = {};
        if (has_unit) sums = lstm_read(here, w.units);
        product.multiply();
        if (!has_unit) continue;
        sums.i += product[u], sums.f += product[w.units + u];
        sums.g += product[2 * w.units + u], sums.o += product[3 * w.units + u];
        const Lstm gate = lstm_gates(sums);
        lstm_write(here, w.units, gate);
        c = gate.f * c + gate.i * gate.g;
        cs[at(w, t, 1, u)] = c;
        hs[at(w, t, 1, u)] = product.vector[u] = gate.o * tanhf(c);
    }
}

// Back: gradients of the gates' sums of all steps, of h0 and of c0.
// One block takes one sample; thread (x, y) as in Product.
// weight (4 * units, units), transposed; grad_hs, grad_cs, cs (samples, steps, units), gates, grad_sums (samples,
// steps, 4 * units), c0, grad_h0, grad_c0 (samples, units).
extern "C" __global__ void __launch_bounds__(1024)
    lstm_walk_back(const float* weight, const float* grad_hs, const float* grad_cs, const float* gates, const float* c0,
                   const float* cs, float* grad_sums, float* grad_h0, float* grad_c0, Walk w) {
    DYN_SHARED(float, shared);
    Product product(shared, weight, 4 * w.units, w.units, w.row, w.column);
    const int u = product.unit;
    const bool has_unit = u < w.units;
    float dh = 0.0f, dc = 0.0f;
    for (int t = w.steps - 1; t >= 0; --t) {
        if (has_unit) {
            const size_t here = at(w, t, 1, u), sums = at(w, t, 4, u);
            const float c_before = t == 0 ? c0[at_state(w, u)] : cs[here - w.units];
            dc += grad_cs[here];
            const Lstm grad = lstm_back(lstm_read(gates + sums, w.units), cs[here], c_before, dh + grad_hs[here], dc);
            lstm_write(grad_sums + sums, w.units, grad);
            lstm_write(product.vector + u, w.units, grad);
        }
        product.multiply();
        if (has_unit) dh = product[u];
    }
    if (!has_unit) return;
    grad_h0[at_state(w, u)] = dh;
    grad_c0[at_state(w, u)] = dc;
}

// Gated recurrent unit.
// One block takes one sample; thread (x, y) as in Product.
// weight (units, 3 * units), inputs (samples, steps, 3 * units): the sums over the input; bias (3 * units,), h0
// (samples, units), hs (samples, steps, units), gates (samples, steps, 4 * units).
extern "C" __global__ void __launch_bounds__(1024)
    gru_walk(const float* weight, const float* inputs, const float* bias, const float* h0, float* hs, float* gates,
             Walk w) {
    DYN_SHARED(float, shared);
    Product product(shared, weight, w.units, 3 * w.units, w.row, w.column);
    const int u = product.unit;
    const bool has_unit = u < w.units;
    float h = 0.0f, bias_r = 0.0f, bias_z = 0.0f, bias_n = 0.0f;
    if (has_unit) {
        product.vector[u] = h = h0[at_state(w, u)];
        bias_r = bias[u], bias_z = bias[w.units + u], bias_n = bias[2 * w.units + u];
    }
    for (int t = 0; t < w.steps; ++t) {
        const float* x = inputs + at(w, t, 3, u);
        Gru sums = {};
        if (has_unit) sums = {x[0] + bias_r, x[w.units] + bias_z, x[2 * w.units], bias_n};
        product.multiply();
        if (!has_unit) continue;
        sums.r += product[u], sums.z += product[w.units + u], sums.state += product[2 * w.units + u];
        const Gru gate = gru_gates(sums);
        gru_write(gates + at(w, t, 4, u), w.units, gate);
        hs[at(w, t, 1, u)] = product.vector[u] = h = gru_state(gate, h);
    }
}

// Back: gradients of the sums over the input and over the state of all steps, and of h0.
// One block takes one sample; thread (x, y) as in Product.
// weight (3 * units, units), transposed; grad_hs, hs (samples, steps, units), gates (samples, steps, 4 * units), h0,
// grad_h0 (samples, units), grad_inputs, grad_states (samples, steps, 3 * units).
extern "C" __global__ void __launch_bounds__(1024)
    gru_walk_back(const float* weight, const float* grad_hs, const float* gates, const float* h0, const float* hs,
                  float* grad_inputs, float* grad_states, float* grad_h0, Walk w) {
    DYN_SHARED(float, shared);
    Product product(shared, weight, 3 * w.units, w.units, w.row, w.column);
    const int u = product.unit;
    const bool has_unit = u < w.units;
    float dh = 0.0f;
    for (int t = w.steps - 1; t >= 0; --t) {
        if (has_unit) {
            const size_t here = at(w, t, 1, u), sums = at(w, t, 3, u);
            const float h_before = t == 0 ? h0[at_state(w, u)] : hs[here - w.units];
            dh += grad_hs[here];
            const Gru grad = gru_back(gru_read(gates + at(w, t, 4, u), w.units), h_before, dh);
            float *x = grad_inputs + sums, *h = grad_states + sums, *to = product.vector + u;
            x[0] = h[0] = to[0] = grad.r;
            x[w.units] = h[w.units] = to[w.units] = grad.z;
            x[2 * w.units] = grad.n;
            h[2 * w.units] = to[2 * w.units] = grad.state;
        }
        product.multiply();
        if (has_unit) dh += product[u];
    }
    if (has_unit) grad_h0[at_state(w, u)] = dh;
}
