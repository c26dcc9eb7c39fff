// Normalisation of a matrix (R, C): down its columns (batch norm, one channel each) or along its rows (layer
// norm), and what belongs to it.
//
// Down the columns: neighbouring threads take neighbouring channels, so that they read neighbouring
// numbers, and each thread walks down its channel, with what it has to know of the channel in registers.
// When there are few channels, several rows stand side by side in a block.
//     blockDim (channels of the tile, rows side by side), gridDim (blocks down the rows, tiles of channels)
// Sums over millions of rows would lose digits in float32. So a thread adds up CHUNK numbers in float32,
// which is fast, and these sums in float64, which is exact enough; blocks leave their sums in an array
// (blocks, 2, C), and a second, small kernel adds those. The order never changes, nor does the result.
#include "common.cuh"

#define CHUNK 32     // numbers that are added in float32 before their sum goes into a float64
#define THREADS 512  // most threads in a block that walks down; norm.py knows it too

// --- walking down the columns ---

__device__ __forceinline__ int my_channel() { return blockIdx.y * blockDim.x + threadIdx.x; }

// What a thread visits in one go: rows row, row + step, ..., count of them, in its own channel; of an array
// (R, C) those are the elements first, first + stride, ...
struct Run {
    size_t row, step, first, stride;
    int count;
};

// Calls visit(run) for all that this thread has to visit, CHUNK rows at a time.
template <class Visit>
__device__ __forceinline__ void walk_down(int rows, int channels, Visit visit) {
    size_t step = (size_t)gridDim.x * blockDim.y, end = rows;
    for (size_t row = (size_t)blockIdx.x * blockDim.y + threadIdx.y; row < end; row += step * CHUNK) {
        size_t left = (end - row + step - 1) / step;
        int count = left < CHUNK ? (int)left : CHUNK;
        visit(Run{row, step, row * channels + my_channel(), step * channels, count});
    }
}

// Sums of a and of b over the threads of a block that share a channel; they arrive in row 0 of the block.
__device__ __forceinline__ void add_up_rows(double& a, double& b) {
    __shared__ double sums[2][THREADS];
    int me = threadIdx.y * blockDim.x + threadIdx.x;
    sums[0][me] = a, sums[1][me] = b;
    for (int rows = blockDim.y; rows > 1;) {  // the upper half is added to the lower one, until one is left
        int half = (rows + 1) / 2, other = me + half * blockDim.x;
        __syncthreads();
        if (threadIdx.y + half < rows) sums[0][me] += sums[0][other], sums[1][me] += sums[1][other];
        rows = half;
    }
    a = sums[0][me], b = sums[1][me];
}

// Leaves the sums of this block in partial (blocks, 2, C).
__device__ __forceinline__ void leave_sums(double a, double b, double* partial, int channels) {
    add_up_rows(a, b);
    int c = my_channel();
    if (threadIdx.y > 0 || c >= channels) return;
    partial[(size_t)(2 * blockIdx.x) * channels + c] = a;
    partial[(size_t)(2 * blockIdx.x + 1) * channels + c] = b;
}

// The sums over all blocks, in row 0; true for a thread that has those of a channel.
__device__ __forceinline__ bool collect_sums(const double* partial, int blocks, int channels, double& a,
                                             double& b) {
    int c = my_channel();
    a = 0, b = 0;
    #pragma unroll 4
    for (int i = c < channels ? threadIdx.y : blocks; i < blocks; i += blockDim.y) {
        a += partial[(size_t)(2 * i) * channels + c];
        b += partial[(size_t)(2 * i + 1) * channels + c];
    }
    add_up_rows(a, b);
    return threadIdx.y == 0 && c < channels;
}

// --- batch norm ---

// moments: sums of x and of x^2, for each block and channel.
// A thread: the numbers of one channel, every so many rows.
// x (R, C), partial (blocks, 2, C)
//
// Numbers are taken relative to the first of their chunk, as x = o + d. However far from zero they lie, there
// is little to lose in the sum of d^2, and the sums of x and x^2 follow in float64.
extern "C" __global__ void moments(const float* __restrict__ x, double* __restrict__ partial, int rows,
                                   int channels) {
    double total = 0, squares = 0;
    if (my_channel() < channels)
        walk_down(rows, channels, [&](Run run) {
            float origin = x[run.first], sum = 0, square = 0;
            #pragma unroll 4
            for (int i = 0; i < run.count; ++i) {
                float d = x[run.first + i * run.stride] - origin;
                sum += d;
                square += d * d;
            }
            double o = origin;
            total += run.count * o + sum;
            squares += square + o * (2.0 * sum + run.count * o);
        });
    leave_sums(total, squares, partial, channels);
}

// finish_moments: mean and population variance of each channel, and what `normalise` needs.
// A thread: a share of one channel's partial sums; row 0 of the block puts them together.
// partial (blocks, 2, C); weight, mean and var (C,); table (2, C): the digits of the mean that a float cannot
// hold, and the slope weight / std
extern "C" __global__ void finish_moments(const double* __restrict__ partial,
                                          const float* __restrict__ weight, float* __restrict__ mean,
                                          float* __restrict__ var, float* __restrict__ table, int blocks,
                                          int rows, int channels, float eps) {
    double total, squares;
    if (!collect_sums(partial, blocks, channels, total, squares)) return;
    int c = my_channel();
    double centre = total / rows, spread = squares / rows - centre * centre;
    if (spread < 0) spread = 0;
    mean[c] = centre;
    var[c] = spread;
    table[c] = centre - mean[c];
    table[channels + c] = weight[c] / sqrt(spread + eps);
}

// normalise: y = (x - mean) * slope + bias, then ReLU if asked.
// A thread: the numbers of one channel, every so many rows.
// x and y (R, C); mean and bias (C,); table (2, C) of finish_moments
extern "C" __global__ void normalise(const float* __restrict__ x, const float* __restrict__ mean,
                                     const float* __restrict__ table, const float* __restrict__ bias,
                                     float* __restrict__ y, int rows, int channels, int with_relu) {
    int c = my_channel();
    if (c >= channels) return;
    float high = mean[c], low = table[c], slope = table[channels + c], shift = bias[c];
    walk_down(rows, channels, [&](Run run) {
        #pragma unroll 4
        for (int i = 0; i < run.count; ++i) {
            float value = ((x[run.first + i * run.stride] - high) - low) * slope + shift;
            y[run.first + i * run.stride] = with_relu ? relu(value) : value;
        }
    });
}

// scale_shift: y = x * scale + shift, then ReLU if asked.
// A thread: the numbers of one channel, every so many rows.
// x and y (R, C); scale and shift (C,)
extern "C" __global__ void scale_shift(const float* __restrict__ x, const float* __restrict__ scale,
                                       const float* __restrict__ shift, float* __restrict__ y, int rows,
                                       int channels, int with_relu) {
    int c = my_channel();
    if (c >= channels) return;
    float factor = scale[c], summand = shift[c];
    walk_down(rows, channels, [&](Run run) {
        #pragma unroll 4
        for (int i = 0; i < run.count; ++i) {
            float value = x[run.first + i * run.stride] * factor + summand;
            y[run.first + i * run.stride] = with_relu ? relu(value) : value;
        }
    });
}

// What comes back through the ReLU behind the normalisation: nothing where y was not above zero.
__device__ __forceinline__ float through_relu(const float* grad_y, const float* y, size_t i, int with_relu) {
    float g = grad_y[i];
    if (with_relu) g = y[i] > 0 ? g : 0.0f;
    return g;
}

// grad_moments: sums of dy and of dy * (x - mean), for each block and channel.
// A thread: the numbers of one channel, every so many rows.
// grad_y, x and y (R, C); mean (C,); partial (blocks, 2, C). y is looked at only with_relu.
extern "C" __global__ void grad_moments(const float* __restrict__ grad_y, const float* __restrict__ x,
                                        const float* __restrict__ y, const float* __restrict__ mean,
                                        double* __restrict__ partial, int rows, int channels, int with_relu) {
    int c = my_channel();
    double total = 0, product = 0;
    if (c < channels) {
        float centre = mean[c];
        walk_down(rows, channels, [&](Run run) {
            float sum = 0, sum_of_products = 0;
            #pragma unroll 4
            for (int i = 0; i < run.count; ++i) {
                float g = through_relu(grad_y, y, run.first + i * run.stride, with_relu);
                sum += g;
                sum_of_products += g * (x[run.first + i * run.stride] - centre);
            }
            total += sum;
            product += sum_of_products;
        });
    }
    leave_sums(total, product, partial, channels);
}

// finish_grad_moments: gradients of the weight and of the bias, and what `normalise_grad` needs.
// A thread: a share of one channel's partial sums; row 0 of the block puts them together.
// partial (blocks, 2, C); weight, var, grad_weight and grad_bias (C,); table (3, C)
//
// Ioffe and Szegedy 2015; with n = (x - mean) / std:  dx = weight / std * (dy - mean(dy) - n * mean(dy * n))
extern "C" __global__ void finish_grad_moments(const double* __restrict__ partial,
                                               const float* __restrict__ weight,
                                               const float* __restrict__ var, float* __restrict__ grad_weight,
                                               float* __restrict__ grad_bias, float* __restrict__ table,
                                               int blocks, int rows, int channels, float eps) {
    double total, product;
    if (!collect_sums(partial, blocks, channels, total, product)) return;
    int c = my_channel();
    double inverse = 1 / sqrt((double)var[c] + eps);
    grad_weight[c] = product * inverse;
    grad_bias[c] = total;
    table[c] = weight[c] * inverse;
    table[channels + c] = total / rows;
    table[2 * channels + c] = inverse * inverse * product / rows;
}

// normalise_grad: grad_x = slope * (dy - level - tilt * (x - mean)).
// A thread: the numbers of one channel, every so many rows.
// grad_y, x, y and grad_x (R, C); mean (C,); table (3, C) of finish_grad_moments: slope, level, tilt
extern "C" __global__ void normalise_grad(const float* __restrict__ grad_y, const float* __restrict__ x,
                                          const float* __restrict__ y, const float* __restrict__ mean,
                                          const float* __restrict__ table, float* __restrict__ grad_x,
                                          int rows, int channels, int with_relu) {
    int c = my_channel();
    if (c >= channels) return;
    float centre = mean[c], slope = table[c], level = table[channels + c], tilt = table[2 * channels + c];
    walk_down(rows, channels, [&](Run run) {
        #pragma unroll 4
        for (int i = 0; i < run.count; ++i) {
            size_t at = run.first + i * run.stride;
            float g = through_relu(grad_y, y, at, with_relu);
            grad_x[at] = slope * ((g - level) - tilt * (x[at] - centre));
        }
    });
}

// --- layer norm ---
//
// The threads of a team share a row: a warp, or for long rows a whole block.
//     blockDim (threads of a team, a multiple of 32; rows of the block, 1 when a team is more than a warp)

__device__ __forceinline__ int my_row() { return blockIdx.x * blockDim.y + threadIdx.y; }

// Sum over the team, for each of its threads.
__device__ __forceinline__ float team_sum(float value) {
    __shared__ float warps[32];
    value = warp_sum(value);
    if (blockDim.x == 32) return value;
    __syncthreads();  // the last sum has been read by all
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
    __syncthreads();
    int lane = threadIdx.x % 32;
    return warp_sum(lane < blockDim.x / 32 ? warps[lane] : 0.0f);
}

// layer_norm: y = (x - mean) / std * weight + bias along each row; mean and population variance of the rows.
// A team: one row; a thread of it every so many features. The row is read once, later from the cache.
// x and y (R, F), weight and bias (F,), mean and var (R,)
//
// All is taken relative to the row's first number, so that rows far from zero keep their digits.
extern "C" __global__ void layer_norm(const float* __restrict__ x, const float* __restrict__ weight,
                                      const float* __restrict__ bias, float* __restrict__ y,
                                      float* __restrict__ mean, float* __restrict__ var, int rows,
                                      int features, float eps) {
    int r = my_row();
    if (r >= rows) return;  // the whole team leaves
    const float* row = x + (size_t)r * features;
    float origin = row[0], total = 0, squares = 0;
    #pragma unroll 4
    for (int c = threadIdx.x; c < features; c += blockDim.x) total += row[c] - origin;
    float centre = team_sum(total) / features;
    #pragma unroll 4
    for (int c = threadIdx.x; c < features; c += blockDim.x) {
        float d = (row[c] - origin) - centre;
        squares += d * d;
    }
    float spread = team_sum(squares) / features, inverse = 1 / sqrtf(spread + eps);
    #pragma unroll 4
    for (int c = threadIdx.x; c < features; c += blockDim.x)
        y[(size_t)r * features + c] = ((row[c] - origin) - centre) * inverse * weight[c] + bias[c];
    if (threadIdx.x == 0) mean[r] = origin + centre, var[r] = spread;
}

// layer_norm_grad: grad_x of each row, and 1 / std of the rows, which `feature_grads` needs.
// A team: one row; a thread of it every so many features.
// grad_y, x and grad_x (R, F); weight (F,); mean, var and inverses (R,)
//
// With n = (x - mean) / std and g = dy * weight:  dx = (g - mean(g) - n * mean(g * n)) / std
extern "C" __global__ void layer_norm_grad(const float* __restrict__ grad_y, const float* __restrict__ x,
                                           const float* __restrict__ weight, const float* __restrict__ mean,
                                           const float* __restrict__ var, float* __restrict__ grad_x,
                                           float* __restrict__ inverses, int rows, int features, float eps) {
    int r = my_row();
    if (r >= rows) return;  // the whole team leaves
    size_t row = (size_t)r * features;
    float centre = mean[r], inverse = 1 / sqrtf(var[r] + eps), total = 0, product = 0;
    #pragma unroll 4
    for (int c = threadIdx.x; c < features; c += blockDim.x) {
        float g = grad_y[row + c] * weight[c];
        total += g;
        product += g * ((x[row + c] - centre) * inverse);
    }
    total = team_sum(total) / features;
    product = team_sum(product) / features;
    #pragma unroll 4
    for (int c = threadIdx.x; c < features; c += blockDim.x) {
        float g = grad_y[row + c] * weight[c], normal = (x[row + c] - centre) * inverse;
        grad_x[row + c] = (g - total - normal * product) * inverse;
    }
    if (threadIdx.x == 0) inverses[r] = inverse;
}

// feature_grads: sums of dy * n and of dy down each column, for each block, with n = (x - mean) / std.
// A thread: the numbers of one feature, every so many rows.
// grad_y and x (R, F), mean and inverses (R,), partial (blocks, 2, F)
extern "C" __global__ void feature_grads(const float* __restrict__ grad_y, const float* __restrict__ x,
                                         const float* __restrict__ mean, const float* __restrict__ inverses,
                                         double* __restrict__ partial, int rows, int features) {
    double product = 0, total = 0;
    if (my_channel() < features)
        walk_down(rows, features, [&](Run run) {
            float sum = 0, sum_of_products = 0;
            #pragma unroll 4
            for (int i = 0; i < run.count; ++i) {
                size_t at = run.first + i * run.stride, r = run.row + i * run.step;
                sum += grad_y[at];
                sum_of_products += grad_y[at] * ((x[at] - mean[r]) * inverses[r]);
            }
            product += sum_of_products;
            total += sum;
        });
    leave_sums(product, total, partial, features);
}

// finish_feature_grads: gradients of weight and bias from the partial sums.
// A thread: a share of one feature's partial sums; row 0 of the block puts them together.
// partial (blocks, 2, F), grad_weight and grad_bias (F,)
extern "C" __global__ void finish_feature_grads(const double* __restrict__ partial,
                                                float* __restrict__ grad_weight,
                                                float* __restrict__ grad_bias, int blocks, int features) {
    double product, total;
    if (!collect_sums(partial, blocks, features, product, total)) return;
    grad_weight[my_channel()] = product;
    grad_bias[my_channel()] = total;
}
