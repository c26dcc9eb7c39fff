// The second half of conv_weight.cu: sums of few numbers each, from many blocks.
#include "common.cuh"

#define ADDERS 16

// Add up the parts of each result: first all whose number leaves the same rest by ADDERS, then those sums in a tree.
// Thread (x, y) of a block adds parts y, y + ADDERS, ... of result 32 * block + x.
// parts (count, weights + biases), grad_weight (weights,), grad_bias (results - weights,).
extern "C" __global__ void __launch_bounds__(32 * ADDERS)
    add_parts(const float* parts, float* grad_weight, float* grad_bias, int count, int weights, int results) {
    __shared__ float sums[ADDERS][32];
    const int result = blockIdx.x * 32 + threadIdx.x, y = threadIdx.y;
    float sum = 0.0f;
    if (result < results)
        for (int part = y; part < count; part += ADDERS) sum += parts[(long long)part * results + result];
    sums[y][threadIdx.x] = sum;
    for (int half = ADDERS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (y < half) sums[y][threadIdx.x] += sums[y + half][threadIdx.x];
    }
    if (y > 0 || result >= results) return;
    if (result < weights) grad_weight[result] = sums[0][threadIdx.x];
    else grad_bias[result - weights] = sums[0][threadIdx.x];
}
