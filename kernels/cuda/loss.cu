// Softmax and cross-entropy in one, because together they are simpler and safer than apart.
#include "common.cuh"

// softmax_cross_entropy: losses = -log softmax(row)[label], probabilities = softmax(row).
// A warp: one row; lane l takes the classes l, l + 32, l + 64, ...
// logits and probabilities (R, K), labels and losses (R,); blockDim (32, rows of the block)
//
// The row's maximum is subtracted first: the result is the same, and exp cannot overflow. The three passes
// over the row read it from memory once; afterwards it is in the cache. From +inf comes inf - inf, which is
// the NaN that is wanted. A row whose label is out of range becomes NaN: nobody can look at labels on the
// host inside of a recorded step, and what lies outside of the row must not be read.
extern "C" __global__ void softmax_cross_entropy(const float* __restrict__ logits,
                                                 const long long* __restrict__ labels,
                                                 float* __restrict__ losses,
                                                 float* __restrict__ probabilities, int rows, int classes) {
    int r = blockIdx.x * blockDim.y + threadIdx.y, lane = threadIdx.x;
    if (r >= rows) return;  // the whole warp leaves
    const float* row = logits + (size_t)r * classes;
    float* p = probabilities + (size_t)r * classes;

    float top = -INFINITY;
    #pragma unroll 4  // four loads are on their way at the same time
    for (int k = lane; k < classes; k += 32) top = fmaxf(top, row[k]);
    top = warp_max(top);

    float total = 0;
    #pragma unroll 4
    for (int k = lane; k < classes; k += 32) total += expf(row[k] - top);
    total = warp_sum(total);

    long long label = labels[r];
    bool valid = label >= 0 && label < classes;
    if (!valid) total = nanf("");
    for (int k = lane; k < classes; k += 32) p[k] = expf(row[k] - top) / total;
    // Large logits cancel in the difference; added to the small logarithm they would swallow it.
    if (lane == 0) losses[r] = logf(total) - (row[valid ? label : 0] - top);
}

// softmax_cross_entropy_grad: the gradient in the logits, (probabilities - onehot) * grad / divisor.
// A thread: one logit.
// probabilities and out (R, K), labels (R,), grad (R,) or, if not each, (); total = R * K
extern "C" __global__ void softmax_cross_entropy_grad(const float* __restrict__ probabilities,
                                                      const long long* __restrict__ labels,
                                                      const float* __restrict__ grad, float* __restrict__ out,
                                                      float divisor, int each, int classes, long long total) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= total) return;
    long long r = i / classes;
    float scale = grad[each ? r : 0] / divisor, p = probabilities[i];
    out[i] = (i % classes == labels[r] ? p - 1.0f : p) * scale;
}

// scaled_sum: the sum of a block's share of the values over a divisor; with a single block, of all of them.
// A thread of 256: every so many values.
// values (count,), out (blocks,)
extern "C" __global__ void scaled_sum(const float* __restrict__ values, float* __restrict__ out, float divisor,
                                      int count) {
    __shared__ double sums[256];
    double total = 0;
    #pragma unroll 4
    for (long long i = blockIdx.x * 256 + threadIdx.x; i < count; i += gridDim.x * 256) total += values[i];
    sums[threadIdx.x] = total;
    for (int half = 128; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x == 0) out[blockIdx.x] = (float)(sums[0] / divisor);
}

// add_scaled: total += value * factor. One thread.
extern "C" __global__ void add_scaled(double* total, const float* value, float factor) {
    total[0] += (double)value[0] * factor;
}
