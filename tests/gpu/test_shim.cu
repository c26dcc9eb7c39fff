// Kernels for test_shim.py: each asks the shim one question.
#include "shim.h"

struct Sizes {
    int rows, columns;
    float factor;
};

// extern "C" __global__ void in_a_comment(int)
#if __CUDA_ARCH__ < 800
extern "C" __global__ void for_an_old_card(float* y) { y[0] = 1.0f; }
#endif

extern "C" __global__ void indexes(int* y) {
    const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    y[block * blockDim.x * blockDim.y * blockDim.z + thread] = 1000 * block + thread;
}

extern "C" __global__ void last_one_wins(int* y) { y[0] = 1000 * blockIdx.x + threadIdx.x; }

// Reverse each block's part of x: a thread reads what another one wrote.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    reverse(const float* __restrict__ x, float* __restrict__ y) {
    __shared__ float tile[THREADS];
    const int first = blockIdx.x * THREADS;
    tile[threadIdx.x] = x[first + threadIdx.x];
    if (WITH_BARRIER) __syncthreads();
    y[first + threadIdx.x] = tile[THREADS - 1 - threadIdx.x];
}

// The sums of x and of 10 x over the block: within each warp by shuffles, then over warps by shared
// memory. Without the second barrier a warp can bring its second sum where another has not read the first.
extern "C" __global__ void sums_of_warps(const float* x, float* y) {
    __shared__ float warps[THREADS / 32];
    for (int turn = 0; turn < 2; ++turn) {
        float sum = (1 + 9 * turn) * x[threadIdx.x];
        for (int by = 16; by > 0; by /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, by);
        if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
        __syncthreads();
        y[turn * THREADS + threadIdx.x] = warps[0] + warps[1];
        if (WITH_BARRIER) __syncthreads();
    }
}

extern "C" __global__ void scale(const float* x, float* y, Sizes sizes, double extra, unsigned char on,
                                 long long n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < sizes.rows * sizes.columns && i < n && on) y[i] = sizes.factor * x[i] + (float)extra;
}

extern "C" __global__ void some_return_early(float* y) {
    __shared__ int count;
    if (threadIdx.x == 0) count = 0;
    __syncthreads();
    if (threadIdx.x % 3 == 0) return;
    atomicAdd(&count, 1);
    __syncthreads();
    y[threadIdx.x] = count;
}

extern "C" __global__ void two_barriers(int odd_one) {
    if (threadIdx.x == odd_one) {
        __syncthreads();
    } else {
        __syncthreads();
    }
}

extern "C" __global__ void wrong_mask() { __syncwarp(1u << (threadIdx.x + 1) % 32); }

extern "C" __global__ void spoilt(float* y, int count) {
    __shared__ float tile[8];
    DYN_SHARED(float, more);
    y[3 * blockIdx.x] = tile[3];
    y[3 * blockIdx.x + 1] = more[count - 1];
    y[3 * blockIdx.x + 2] = __int_as_float(-1);
    for (int i = 0; i < 8; ++i) tile[i] = 0.0f;
    for (int i = 0; i < count; ++i) more[i] = 0.0f;
}

extern "C" __global__ void unset_local(float* y) {
    float sums[4];
    for (int i = 0; i < 3; ++i) sums[i] = y[i];
    y[3] = sums[threadIdx.x + 3];
}

extern "C" __global__ void shuffles(int* y, int by, int width) {
    const int i = threadIdx.x, n = blockDim.x;
    y[i] = __shfl_sync(0xffffffffu, i, by, width);
    y[n + i] = __shfl_up_sync(0xffffffffu, i, by, width);
    y[2 * n + i] = __shfl_down_sync(0xffffffffu, i, by, width);
    y[3 * n + i] = __shfl_xor_sync(0xffffffffu, i, by, width);
}

extern "C" __global__ void wide_shuffle(double* y) {
    y[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1e-9 + threadIdx.x, 1);
}

extern "C" __global__ void halves(int* y) {
    const unsigned half = threadIdx.x < 16 ? 0x0000ffffu : 0xffff0000u;
    int sum = threadIdx.x;
    for (int turn = 0; turn < (threadIdx.x < 16 ? 1 : 3); ++turn) sum += __shfl_xor_sync(half, sum, 1);
    y[threadIdx.x] = sum;
}

extern "C" __global__ void shuffle_from_the_gone(float* y) {
    if (threadIdx.x == 5) return;
    y[threadIdx.x] = __shfl_sync(0xffffffffu, 1.0f, 5);
}

extern "C" __global__ void votes(unsigned* y, int below) {
    const int yes = threadIdx.x < below;
    const unsigned ballot = __ballot_sync(0xffffffffu, yes);
    const int any = __any_sync(0xffffffffu, yes), all = __all_sync(0xffffffffu, yes);
    if (threadIdx.x == 0) y[0] = ballot, y[1] = any, y[2] = all;
}

extern "C" __global__ void atomics(unsigned* y) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    atomicAdd(&y[0], 1u);
    atomicMax(&y[1], i);
    atomicMin(&y[2], i);
    atomicOr(&y[3], 1u << i % 32);
    atomicCAS(&y[4], 7u, i);
}

// d (16, 8) = a (16, 8) @ b (8, 8) + d, by one warp
extern "C" __global__ void tensor_core(const float* a, const float* b, float* d) {
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    const float *upper_a = a + 8 * g + t, *lower_a = upper_a + 64;
    const unsigned left[4] = {to_tf32(upper_a[0]), to_tf32(lower_a[0]), to_tf32(upper_a[4]),
                              to_tf32(lower_a[4])};
    const unsigned right[2] = {to_tf32(b[8 * t + g]), to_tf32(b[8 * (t + 4) + g])};
    float *upper = d + 8 * g + 2 * t, *lower = upper + 64;
    float sums[4] = {upper[0], upper[1], lower[0], lower[1]};
    mma_tf32(sums, left, right);
    upper[0] = sums[0], upper[1] = sums[1], lower[0] = sums[2], lower[1] = sums[3];
}

extern "C" __global__ void round_to_tf32(const float* x, unsigned* y) {
    y[threadIdx.x] = to_tf32(x[threadIdx.x]);
}

extern "C" __global__ void small_functions(const float* x, float* y) {
    const float4 v = *reinterpret_cast<const float4*>(x);
    y[0] = rsqrtf(v.x), y[1] = __fdividef(v.y, v.z), y[2] = __expf(v.w), y[3] = fmaf(v.x, v.y, v.z);
    y[4] = fmaxf(v.x, NAN), y[5] = min(3, -2), y[6] = max(v.x, v.y), y[7] = __saturatef(v.z);
    y[8] = __uint_as_float(__float_as_uint(v.y)), y[9] = __longlong_as_double(__double_as_longlong(0.25));
    y[10] = __umulhi(1u << 31, 6u), y[11] = __popc(0xf0u), y[12] = __ldg(&x[2]), y[13] = make_float2(1, 2).y;
    y[14] = (float)(__umul64hi(1ull << 63, 10ull)), y[15] = __logf(v.w);
}

extern "C" __global__ void wild(float* y) {
    if (threadIdx.x == 3) y[1ll << 40] = 1.0f;
}

extern "C" __global__ void divide(int* y) { y[threadIdx.x] = 6 / y[threadIdx.x]; }

// For the sanitizers: what a kernel may not do. y has 8 elements.

extern "C" __global__ void past_the_array(float* y) { y[threadIdx.x + 1] = 1.0f; }

__device__ __noinline__ void write_one(float* place) { *place = 1.0f; }

extern "C" __global__ void past_the_tile(float* y) {
    __shared__ float tile[8], other[8];
    other[threadIdx.x] = y[threadIdx.x];
    write_one(tile + threadIdx.x + (int)other[threadIdx.x]);
    y[threadIdx.x] = tile[threadIdx.x];
}

extern "C" __global__ void past_the_dynamic_memory(float* y) {
    DYN_SHARED(float, tile);
    tile[threadIdx.x + 1] = 1.0f;
    y[threadIdx.x] = tile[threadIdx.x];
}

extern "C" __global__ void past_the_row(float* y) {
    float rows[2][4] = {};
    rows[0][threadIdx.x] = 1.0f;
    y[threadIdx.x] = rows[1][threadIdx.x % 4];
}

extern "C" __global__ void crooked_float4(float* y) {
    *reinterpret_cast<float4*>(y + threadIdx.x % 4) = make_float4(1, 2, 3, 4);
}
