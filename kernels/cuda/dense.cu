// What a fully connected layer needs besides its products: the way back through the ReLU, and the bias gradient.
#include "common.cuh"

const int THREADS = 256;

// The sum of ``value`` over the threads of a block that have the same column, t % width; in the first row of
// threads. Half of the rows hand over to the other half, until one is left: a fixed order, so a fixed result.
__device__ __forceinline__ double down_the_rows(double value, int width) {
    __shared__ double values[THREADS];
    const int t = threadIdx.x;
    values[t] = value;
    for (int half = THREADS / 2; half >= width; half /= 2) {
        __syncthreads();
        if (t < half) values[t] += values[t + half];
    }
    return values[t];
}

// The gradient through a ReLU, masked = grad where y > 0, if has_y; and the sums of its columns. In float64, because
// over a million rows a float32 sum would lose four of its seven digits.
// One block takes ``width`` columns (a power of 2) and ``height`` rows; its threads stand in rows of that width, and
// each walks down one column in large steps, beside its neighbours.
// grad, y, masked (rows, columns); sums (columns,), or with several blocks below each other parts (blocks, columns).
extern "C" __global__ void __launch_bounds__(THREADS)
    mask_and_sum(const float* grad, const float* y, float* masked, double* parts, float* sums, int rows, int columns,
                 int width, int height, int has_y) {
    const int column = blockIdx.x * width + threadIdx.x % width;
    const int first = blockIdx.y * height, last = min(rows, first + height);
    double sum = 0;
    if (column < columns) {
#pragma unroll 4
        for (int row = first + threadIdx.x / width; row < last; row += THREADS / width) {
            const size_t at = (size_t)row * columns + column;
            float value = grad[at];
            if (has_y) masked[at] = value *= y[at] > 0.0f ? 1.0f : 0.0f;  // not a choice: NaN times 0 is NaN
            sum += value;
        }
    }
    sum = down_the_rows(sum, width);
    if (threadIdx.x >= width || column >= columns) return;
    if (gridDim.y == 1)
        sums[column] = (float)sum;
    else
        parts[(size_t)blockIdx.y * columns + column] = sum;
}

// The sums of these parts.
// One block takes 32 columns, one warp some of their parts.
// parts (count, columns), sums (columns,).
extern "C" __global__ void __launch_bounds__(THREADS)
    add_parts(const double* parts, float* sums, int count, int columns) {
    const int column = blockIdx.x * 32 + threadIdx.x % 32;
    double sum = 0;
    if (column < columns)
        for (int part = threadIdx.x / 32; part < count; part += THREADS / 32)
            sum += parts[(size_t)part * columns + column];
    sum = down_the_rows(sum, 32);
    if (threadIdx.x < 32 && column < columns) sums[column] = (float)sum;
}
