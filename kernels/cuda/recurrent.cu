// Recurrent layers, step by step: what happens at one time step after the product with the state. A kernel looks at
// the sums that the product has left for the gates, activates them and moves the state on, all in one pass.
//
// Sequences are (samples, steps, ...), and a step of them is found by t.
#include "common.cuh"
#include "cells.cuh"

struct Cell {
    int samples, steps, units, t;
};

struct Unit {
    int n, u;
    bool inside;
    size_t flat;  // in (samples, units)
};

__device__ __forceinline__ Unit own_unit(const Cell& c) {
    const size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    return {(int)(i / c.units), (int)(i % c.units), i < (size_t)c.samples * c.units, i};
}

// Where the first number of this unit at step t stands in (samples, steps, gates * units).
__device__ __forceinline__ size_t at(const Cell& c, const Unit& own, int t, int gates = 1) {
    return ((size_t)own.n * c.steps + t) * gates * c.units + own.u;
}

// The state of this unit one step earlier: in ``states`` (samples, steps, units), or at the begin in ``first``.
__device__ __forceinline__ float before(const float* first, const float* states, const Cell& c, const Unit& own) {
    return c.t == 0 ? first[own.flat] : states[at(c, own, c.t - 1)];
}

// Simple layer: gradient of the sums, from those of h and of the step after. (Its forward is a product that ends
// with the activation.)
// One thread has one unit of one sample.
// grad_hs, hs, grad_sums (samples, steps, units), grad_h (samples, units) from the step after.
extern "C" __global__ void __launch_bounds__(256)
    rnn_step_back(const float* grad_hs, const float* hs, const float* grad_h, float* grad_sums, Cell c, int is_tanh) {
    const Unit own = own_unit(c);
    if (!own.inside) return;
    const size_t here = at(c, own, c.t);
    grad_sums[here] = (grad_hs[here] + grad_h[own.flat]) * rnn_slope(hs[here], is_tanh);
}

// Long short-term memory: activate the gates, compute c and h.
// One thread has one unit of one sample.
// gates (samples, steps, 4 * units): sums, then activated; c0 (samples, units), hs, cs (samples, steps, units).
extern "C" __global__ void __launch_bounds__(256) lstm_step(float* gates, const float* c0, float* hs, float* cs, Cell c) {
    const Unit own = own_unit(c);
    if (!own.inside) return;
    float* sums = gates + at(c, own, c.t, 4);
    const Lstm gate = lstm_gates(lstm_read(sums, c.units));
    lstm_write(sums, c.units, gate);
    const float state = gate.f * before(c0, cs, c, own) + gate.i * gate.g;
    cs[at(c, own, c.t)] = state;
    hs[at(c, own, c.t)] = gate.o * tanhf(state);
}

// Gradients of the gates' sums, from those of h and c and of the step after.
// One thread has one unit of one sample.
// grad_hs, grad_cs, cs (samples, steps, units), gates, grad_sums (samples, steps, 4 * units), c0 (samples, units);
// grad_h, grad_c (samples, units) come from the step after, and grad_c goes on to the step before.
extern "C" __global__ void __launch_bounds__(256)
    lstm_step_back(const float* grad_hs, const float* grad_cs, const float* gates, const float* c0, const float* cs,
                   const float* grad_h, float* grad_c, float* grad_sums, Cell c) {
    const Unit own = own_unit(c);
    if (!own.inside) return;
    const size_t here = at(c, own, c.t), sums = at(c, own, c.t, 4);
    float dc = grad_c[own.flat] + grad_cs[here];
    const float dh = grad_h[own.flat] + grad_hs[here];
    const Lstm gate = lstm_read(gates + sums, c.units);
    lstm_write(grad_sums + sums, c.units, lstm_back(gate, cs[here], before(c0, cs, c, own), dh, dc));
    grad_c[own.flat] = dc;
}

// Gated recurrent unit: activate the gates, compute h.
// One thread has one unit of one sample.
// inputs (samples, steps, 3 * units) and states (samples, 3 * units): sums over the input and over the state;
// h0 (samples, units), hs (samples, steps, units), gates (samples, steps, 4 * units).
extern "C" __global__ void __launch_bounds__(256)
    gru_step(const float* inputs, const float* states, const float* h0, float* hs, float* gates, Cell c) {
    const Unit own = own_unit(c);
    if (!own.inside) return;
    const float *x = inputs + at(c, own, c.t, 3), *h = states + (size_t)own.n * 3 * c.units + own.u;
    const Gru gate = gru_gates({x[0] + h[0], x[c.units] + h[c.units], x[2 * c.units], h[2 * c.units]});
    gru_write(gates + at(c, own, c.t, 4), c.units, gate);
    hs[at(c, own, c.t)] = gru_state(gate, before(h0, hs, c, own));
}

// Gradients of the sums over the input and over the state, and the part of h's that goes past them.
// One thread has one unit of one sample.
// grad_hs, hs (samples, steps, units), gates (samples, steps, 4 * units), h0 (samples, units); grad_inputs,
// grad_states (samples, steps, 3 * units); grad_h (samples, units) from the step after, then for the step before.
extern "C" __global__ void __launch_bounds__(256)
    gru_step_back(const float* grad_hs, const float* gates, const float* h0, const float* hs, float* grad_h,
                  float* grad_inputs, float* grad_states, Cell c) {
    const Unit own = own_unit(c);
    if (!own.inside) return;
    float dh = grad_h[own.flat] + grad_hs[at(c, own, c.t)];
    const Gru grad = gru_back(gru_read(gates + at(c, own, c.t, 4), c.units), before(h0, hs, c, own), dh);
    float *x = grad_inputs + at(c, own, c.t, 3), *h = grad_states + at(c, own, c.t, 3);
    x[0] = h[0] = grad.r;
    x[c.units] = h[c.units] = grad.z;
    x[2 * c.units] = grad.n;
    h[2 * c.units] = grad.state;
    grad_h[own.flat] = dh;
}

// For the gradient of the recurrent weight, the state before each step: ``first``, then all of ``states`` but the last.
// One thread copies one number.
// first (samples, units), states, earlier (samples, steps, units).
extern "C" __global__ void __launch_bounds__(256)
    shift_states(const float* first, const float* states, float* earlier, int samples, int steps, int units) {
    const size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x, row = i / units;
    if (row >= (size_t)samples * steps) return;
    earlier[i] = row % steps == 0 ? first[row / steps * units + i % units] : states[i - units];
}
