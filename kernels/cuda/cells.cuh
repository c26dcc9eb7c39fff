// One time step of one unit of a recurrent layer, and the way back through it. What stands in the comments in
// capitals is the sum that the products have left for a gate.
#pragma once

__device__ __forceinline__ float sigmoid(float x) { return 0.5f * tanhf(0.5f * x) + 0.5f; }  // nothing overflows
__device__ __forceinline__ float sigmoid_slope(float y) { return y * (1.0f - y); }
__device__ __forceinline__ float tanh_slope(float y) { return 1.0f - y * y; }

// Simple layer: h = tanh(SUM) or relu(SUM).
__device__ __forceinline__ float rnn_cell(float sum, bool is_tanh) { return is_tanh ? tanhf(sum) : relu(sum); }
__device__ __forceinline__ float rnn_slope(float h, bool is_tanh) {
    return is_tanh ? tanh_slope(h) : h > 0.0f ? 1.0f : 0.0f;
}

// Long short-term memory: i, f, o = sigmoid(I, F, O), g = tanh(G); c = f * c before + i * g; h = o * tanh(c).
struct Lstm {
    float i, f, g, o;
};

__device__ __forceinline__ Lstm lstm_gates(const Lstm& sums) {
    return {sigmoid(sums.i), sigmoid(sums.f), tanhf(sums.g), sigmoid(sums.o)};
}

// Gradients of I, F, G, O from those of h and c; dc becomes that of c before.
__device__ __forceinline__ Lstm lstm_back(const Lstm& gates, float c, float c_before, float dh, float& dc) {
    const float tanh_c = tanhf(c);
    dc += dh * gates.o * tanh_slope(tanh_c);
    const Lstm grads = {dc * gates.g * sigmoid_slope(gates.i), dc * c_before * sigmoid_slope(gates.f),
                        dc * gates.i * tanh_slope(gates.g), dh * tanh_c * sigmoid_slope(gates.o)};
    dc *= gates.f;
    return grads;
}

// Four numbers of a unit lie ``units`` apart.
__device__ __forceinline__ Lstm lstm_read(const float* from, int units) {
    return {from[0], from[units], from[2 * units], from[3 * units]};
}
__device__ __forceinline__ void lstm_write(float* to, int units, const Lstm& values) {
    to[0] = values.i, to[units] = values.f, to[2 * units] = values.g, to[3 * units] = values.o;
}

// Gated recurrent unit: r, z = sigmoid(R, Z), n = tanh(N + r * STATE); h = (1 - z) * n + z * h before. R and Z are
// sums over the input and the state; N is one over the input, and STATE one over the state.
struct Gru {
    float r, z, n, state;
};

__device__ __forceinline__ Gru gru_gates(const Gru& sums) {
    const float r = sigmoid(sums.r);
    return {r, sigmoid(sums.z), tanhf(sums.n + r * sums.state), sums.state};
}

__device__ __forceinline__ float gru_state(const Gru& gates, float h_before) {
    return (1.0f - gates.z) * gates.n + gates.z * h_before;
}

// Gradients of R, Z, N and STATE from that of h; dh becomes the part of h before's that goes past the gates.
__device__ __forceinline__ Gru gru_back(const Gru& gates, float h_before, float& dh) {
    const float dn = dh * (1.0f - gates.z) * tanh_slope(gates.n);
    const Gru grads = {dn * gates.state * sigmoid_slope(gates.r),
                       dh * (h_before - gates.n) * sigmoid_slope(gates.z), dn, dn * gates.r};
    dh *= gates.z;
    return grads;
}

__device__ __forceinline__ Gru gru_read(const float* from, int units) {
    return {from[0], from[units], from[2 * units], from[3 * units]};
}
__device__ __forceinline__ void gru_write(float* to, int units, const Gru& values) {
    to[0] = values.r, to[units] = values.z, to[2 * units] = values.n, to[3 * units] = values.state;
}
