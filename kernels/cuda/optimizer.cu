// Optimiser steps: one launch for all parameters of a net, each in one pass over memory.
//
// A net has dozens of small parameters, and a launch for each would take longer than the work. So the kernel
// gets a table of addresses, by value, among its arguments: the arrays may lie anywhere, and be others at the
// next step. Numbers that change from step to step, the learning rate and the count of the steps, come from
// memory, because a recorded step would repeat its arguments for ever.
#include "common.cuh"

#define TENSORS 80   // in a table: all arguments of a kernel may have 4 kB. optimizer.py knows it too
#define THREADS 256  // in a block, and
#define EACH 4       // elements for each thread of it, which makes a chunk. A thread loads all that it needs
                     // before it computes, so that the loads are on their way at the same time

typedef unsigned long long Word;  // 8 bytes that hold a double or an integer

struct Tensor {
    float* param;
    const float* grad;
    float *first, *second;  // what the optimiser keeps: velocity; or mean and square
    long long size, first_block;
};

struct Table {
    Tensor at[TENSORS];
};

// The tensor that this block works on: the last one that does not begin behind it.
__device__ __forceinline__ int my_tensor(const Table& table, int tensors) {
    int low = 0, high = tensors;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        (table.at[middle].first_block <= blockIdx.x ? low : high) = middle;
    }
    return low;
}

// The first of this thread's elements; the others follow, THREADS apart, so that neighbouring threads always
// read neighbouring numbers.
__device__ __forceinline__ long long my_element(const Tensor& tensor) {
    return (blockIdx.x - tensor.first_block) * THREADS * EACH + threadIdx.x;
}

// sgd_step: g = grad + weight_decay * p;  v = momentum * v + g;  p -= lr * v
// (with nesterov p -= lr * (g + momentum * v), without momentum p -= lr * g).
// A thread: EACH elements of one tensor, THREADS apart.
// table: param, grad and, if moving, velocity of each tensor; numbers (1,): lr
extern "C" __global__ void __launch_bounds__(THREADS)
sgd_step(Table table, int tensors, const Word* __restrict__ numbers, float momentum, float weight_decay,
         int moving, int nesterov) {
    Tensor tensor = table.at[my_tensor(table, tensors)];
    long long begin = my_element(tensor);
    float lr = __longlong_as_double(numbers[0]), p[EACH], update[EACH], v[EACH];
    for (int k = 0; k < EACH; ++k) {
        long long i = begin + k * THREADS;
        if (i >= tensor.size) continue;
        p[k] = tensor.param[i], update[k] = tensor.grad[i];
        if (moving) v[k] = tensor.first[i];
    }
    for (int k = 0; k < EACH; ++k) {
        long long i = begin + k * THREADS;
        if (i >= tensor.size) continue;
        if (weight_decay != 0) update[k] += weight_decay * p[k];  // not always: 0 * infinity is no number
        if (moving) {
            tensor.first[i] = v[k] = momentum * v[k] + update[k];
            update[k] = nesterov ? update[k] + momentum * v[k] : v[k];
        }
        tensor.param[i] = p[k] - lr * update[k];
    }
}

struct AdamSettings {
    double beta1, beta2, eps, weight_decay;
};

// The numbers of Adam's formula as they are in this step, for this tensor.
struct AdamRates {
    float beta1, rest1, beta2, rest2, eps, decay, keep, rate, spread;
};

__device__ __forceinline__ double power(double base, Word exponent) {
    double result = 1;
    for (; exponent > 0; exponent /= 2, base *= base)
        if (exponent % 2 == 1) result *= base;
    return result;
}

// In float64: of 1 - beta^step, at first a small difference, a float32 would keep four digits.
__device__ __forceinline__ AdamRates rates_of(const AdamSettings& s, double lr, Word step, bool decoupled) {
    AdamRates r;
    r.beta1 = s.beta1, r.rest1 = 1 - s.beta1;
    r.beta2 = s.beta2, r.rest2 = 1 - s.beta2;
    r.eps = s.eps;
    r.decay = decoupled ? 0 : s.weight_decay;
    r.keep = decoupled ? 1 - lr * s.weight_decay : 1;
    r.rate = lr / (1 - power(s.beta1, step));
    r.spread = 1 / sqrt(1 - power(s.beta2, step));
    return r;
}

// adam_step: m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;
// p = keep p - rate m / (spread sqrt(v) + eps)
// A thread: EACH elements of one tensor, THREADS apart; the first one of a block also finds its rates.
// table: param, grad, mean and square of each tensor; numbers (1 + all tensors,): lr, and the step of each;
// before: how many tensors came in other tables
extern "C" __global__ void __launch_bounds__(THREADS)
adam_step(Table table, int tensors, const Word* __restrict__ numbers, int before, AdamSettings settings,
          int decoupled) {
    __shared__ AdamRates rates;
    int mine = my_tensor(table, tensors);
    if (threadIdx.x == 0)
        rates = rates_of(settings, __longlong_as_double(numbers[0]), numbers[1 + before + mine], decoupled);
    __syncthreads();
    AdamRates r = rates;
    Tensor tensor = table.at[mine];
    long long begin = my_element(tensor);
    float p[EACH], g[EACH], m[EACH], v[EACH];
    for (int k = 0; k < EACH; ++k) {
        long long i = begin + k * THREADS;
        if (i >= tensor.size) continue;
        p[k] = tensor.param[i], g[k] = tensor.grad[i], m[k] = tensor.first[i], v[k] = tensor.second[i];
    }
    for (int k = 0; k < EACH; ++k) {
        long long i = begin + k * THREADS;
        if (i >= tensor.size) continue;
        if (r.decay != 0) g[k] += r.decay * p[k];  // not always: 0 * infinity is no number
        tensor.first[i] = m[k] = r.beta1 * m[k] + r.rest1 * g[k];
        tensor.second[i] = v[k] = r.beta2 * v[k] + r.rest2 * g[k] * g[k];
        tensor.param[i] = r.keep * p[k] - r.rate * m[k] / (sqrtf(v[k]) * r.spread + r.eps);
    }
}
