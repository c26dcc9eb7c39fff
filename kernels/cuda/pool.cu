// Pooling: the largest value, or the mean, of each window over (N, D, H, W, C). Images and sequences come
// with axes of size 1 in front.
//
// Forward and backward are both gathers: a thread owns the place that it writes and looks up what belongs
// there. The other way round, threads giving to places that they share, would need atomics, and floats added
// in an order that nobody fixes do not give the same sum twice.
//
// A thread takes PACK neighbouring channels, which lie side by side in memory: four of them are one load of
// 16 bytes, and the arithmetic of finding the place is done once for all four.
#include "common.cuh"

#ifndef PACK
#define PACK 1  // 1 or 4; must divide the number of channels
#endif
#ifndef WIDE
#define WIDE 0  // whether a window has more places than a byte can count
#endif

#if WIDE
typedef int Index;
#else
typedef unsigned char Index;
#endif

struct alignas(4 * PACK) Values {
    float at[PACK];
};

struct alignas(sizeof(Index) * PACK) Indices {
    Index at[PACK];
};

struct Axis {
    int in, out;                         // places of the input, and windows
    int size, stride, before, dilation;  // of the window; before: padding at this end
};

struct Geometry {
    Axis d, h, w;
    int samples, packs;  // packs: channels / PACK
};

struct Place {
    int d, h, w, pack;
};

// Element i of a sample (D, H, W, packs), as a place.
__device__ __forceinline__ Place place_of(int i, int height, int width, int packs) {
    Place p;
    p.pack = i % packs, i /= packs;
    p.w = i % width, i /= width;
    p.h = i % height, p.d = i / height;
    return p;
}

__device__ __forceinline__ int in_of_sample(const Geometry& g) {
    return g.d.in * g.h.in * g.w.in * g.packs;
}

__device__ __forceinline__ int out_of_sample(const Geometry& g) {
    return g.d.out * g.h.out * g.w.out * g.packs;
}

__device__ __forceinline__ int element() { return blockIdx.x * blockDim.x + threadIdx.x; }

__device__ __forceinline__ int first_sample() { return blockIdx.y * blockDim.y + threadIdx.y; }

__device__ __forceinline__ int next_sample(int n) { return n + gridDim.y * blockDim.y; }

// Where tap k of window o falls; outside of 0..in-1 that is padding.
__device__ __forceinline__ int seen_by(const Axis& a, int o, int k) {
    return o * a.stride + k * a.dilation - a.before;
}

__device__ __forceinline__ bool inside(const Axis& a, int i) { return i >= 0 && i < a.in; }

// The window that sees place i through its tap k, or -1.
__device__ __forceinline__ int window_at(const Axis& a, int i, int k) {
    int start = i + a.before - k * a.dilation;
    int o = start / a.stride;
    return start >= 0 && o * a.stride == start && o < a.out ? o : -1;
}

// Whether a value takes over from the best so far: a larger one does, and the first NaN, for good.
__device__ __forceinline__ bool beats(float value, float best) { return best == best && !(value <= best); }

// max_pool: y = the largest value of each window, where = its index inside the window, row by row.
// A thread: PACK channels of one window, of one sample or a few.
// x (N, D, H, W, C), y and where (N, D', H', W', C)
extern "C" __global__ void max_pool(const Values* __restrict__ x, Values* __restrict__ y,
                                    Indices* __restrict__ where, Geometry g) {
    int i = element();
    if (i >= out_of_sample(g)) return;
    Place o = place_of(i, g.h.out, g.w.out, g.packs);
    for (int n = first_sample(); n < g.samples; n = next_sample(n)) {
        const Values* sample = x + (size_t)n * in_of_sample(g);
        Values best;
        Indices index;
        for (int c = 0; c < PACK; ++c) best.at[c] = -INFINITY, index.at[c] = 0;
        bool first = true;  // the first value wins whatever it is, even another -inf
        for (int kd = 0; kd < g.d.size; ++kd) {
            int d = seen_by(g.d, o.d, kd);
            if (!inside(g.d, d)) continue;
            for (int kh = 0; kh < g.h.size; ++kh) {
                int h = seen_by(g.h, o.h, kh);
                if (!inside(g.h, h)) continue;
                for (int kw = 0; kw < g.w.size; ++kw) {
                    int w = seen_by(g.w, o.w, kw);
                    if (!inside(g.w, w)) continue;
                    Values value = sample[((d * g.h.in + h) * g.w.in + w) * g.packs + o.pack];
                    int tap = (kd * g.h.size + kh) * g.w.size + kw;
                    for (int c = 0; c < PACK; ++c) {
                        bool wins = first || beats(value.at[c], best.at[c]);
                        if (wins) best.at[c] = value.at[c], index.at[c] = tap;
                    }
                    first = false;
                }
            }
        }
        y[(size_t)n * out_of_sample(g) + i] = best;
        where[(size_t)n * out_of_sample(g) + i] = index;
    }
}

// max_pool_backward: grad_x = the gradients of those windows that this place has won.
// A thread: PACK channels of one place of x, of one sample or a few.
// grad_y and where (N, D', H', W', C), grad_x (N, D, H, W, C)
extern "C" __global__ void max_pool_backward(const Values* __restrict__ grad_y,
                                             const Indices* __restrict__ where, Values* __restrict__ grad_x,
                                             Geometry g) {
    int i = element();
    if (i >= in_of_sample(g)) return;
    Place p = place_of(i, g.h.in, g.w.in, g.packs);
    for (int n = first_sample(); n < g.samples; n = next_sample(n)) {
        size_t sample = (size_t)n * out_of_sample(g);
        Values sum = {};
        for (int kd = 0; kd < g.d.size; ++kd) {
            int d = window_at(g.d, p.d, kd);
            if (d < 0) continue;
            for (int kh = 0; kh < g.h.size; ++kh) {
                int h = window_at(g.h, p.h, kh);
                if (h < 0) continue;
                for (int kw = 0; kw < g.w.size; ++kw) {
                    int w = window_at(g.w, p.w, kw);
                    if (w < 0) continue;
                    size_t o = sample + ((d * g.h.out + h) * g.w.out + w) * g.packs + p.pack;
                    int tap = (kd * g.h.size + kh) * g.w.size + kw;
                    Indices winner = where[o];
                    Values grad = grad_y[o];
                    for (int c = 0; c < PACK; ++c)
                        if (winner.at[c] == tap) sum.at[c] += grad.at[c];
                }
            }
        }
        grad_x[(size_t)n * in_of_sample(g) + i] = sum;
    }
}

// How many taps of window o fall on the input.
__device__ __forceinline__ int taps_inside(const Axis& a, int o) {
    int count = 0;
    for (int k = 0; k < a.size; ++k) count += inside(a, seen_by(a, o, k));
    return count;
}

// avg_pool: y = the mean of each window, over all its taps (count_padding) or those that fall on x.
// A thread: PACK channels of one window, of one sample or a few.
// x (N, D, H, W, C), y (N, D', H', W', C)
extern "C" __global__ void avg_pool(const Values* __restrict__ x, Values* __restrict__ y, Geometry g,
                                    int count_padding) {
    int i = element();
    if (i >= out_of_sample(g)) return;
    Place o = place_of(i, g.h.out, g.w.out, g.packs);
    int taps = count_padding ? g.d.size * g.h.size * g.w.size
                             : taps_inside(g.d, o.d) * taps_inside(g.h, o.h) * taps_inside(g.w, o.w);
    float divisor = max(taps, 1);  // a window that sees padding alone gives 0
    for (int n = first_sample(); n < g.samples; n = next_sample(n)) {
        const Values* sample = x + (size_t)n * in_of_sample(g);
        Values sum = {};
        for (int kd = 0; kd < g.d.size; ++kd) {
            int d = seen_by(g.d, o.d, kd);
            if (!inside(g.d, d)) continue;
            for (int kh = 0; kh < g.h.size; ++kh) {
                int h = seen_by(g.h, o.h, kh);
                if (!inside(g.h, h)) continue;
                for (int kw = 0; kw < g.w.size; ++kw) {
                    int w = seen_by(g.w, o.w, kw);
                    if (!inside(g.w, w)) continue;
                    Values value = sample[((d * g.h.in + h) * g.w.in + w) * g.packs + o.pack];
                    for (int c = 0; c < PACK; ++c) sum.at[c] += value.at[c];
                }
            }
        }
        for (int c = 0; c < PACK; ++c) sum.at[c] /= divisor;
        y[(size_t)n * out_of_sample(g) + i] = sum;
    }
}

// avg_pool_backward: grad_x = the gradients of the windows that see this place, each by its divisor.
// A thread: PACK channels of one place of x, of one sample or a few.
// grad_y (N, D', H', W', C), grad_x (N, D, H, W, C)
extern "C" __global__ void avg_pool_backward(const Values* __restrict__ grad_y, Values* __restrict__ grad_x,
                                             Geometry g, int count_padding) {
    int i = element();
    if (i >= in_of_sample(g)) return;
    Place p = place_of(i, g.h.in, g.w.in, g.packs);
    for (int n = first_sample(); n < g.samples; n = next_sample(n)) {
        const Values* sample = grad_y + (size_t)n * out_of_sample(g);
        Values sum = {};
        for (int kd = 0; kd < g.d.size; ++kd) {
            int d = window_at(g.d, p.d, kd);
            if (d < 0) continue;
            int deep = count_padding ? g.d.size : taps_inside(g.d, d);
            for (int kh = 0; kh < g.h.size; ++kh) {
                int h = window_at(g.h, p.h, kh);
                if (h < 0) continue;
                int high = count_padding ? g.h.size : taps_inside(g.h, h);
                for (int kw = 0; kw < g.w.size; ++kw) {
                    int w = window_at(g.w, p.w, kw);
                    if (w < 0) continue;
                    float divisor = deep * high * (count_padding ? g.w.size : taps_inside(g.w, w));
                    Values grad = sample[((d * g.h.out + h) * g.w.out + w) * g.packs + p.pack];
                    for (int c = 0; c < PACK; ++c) sum.at[c] += grad.at[c] / divisor;
                }
            }
        }
        grad_x[(size_t)n * in_of_sample(g) + i] = sum;
    }
}
