// Gradient of a convolution in its weight and bias, as one large product whose left factor is never stored:
//
//     grad_weight (taps * channels, filters) = columns^T (taps * channels, positions) @ grad_y (positions, filters)
//
// The result is small and the sum over positions is long. So many blocks share a tile of the result: each sums a
// stretch of positions of its own, and add_parts.cu adds what they found, always in the same order. (Adding
// to one place with atomics would add in the order in which blocks happen to end: other last digits in each run.)
//
// The bias is the weight of an input that is always 1: its gradient is one more row of the same product.
#include "common.cuh"
#include "mma.cuh"
#include "tile.cuh"
#include "conv.cuh"

#ifndef WIDTH
#define WIDTH 4  // how many channels of x are read at once: 4 where their number is a multiple of 4, else 1
#endif
#ifndef WIDTH_B
#define WIDTH_B 4  // the same for filters
#endif

#define QUADS (TILE_M / WIDTH)             // reads for each position, along the rows of the result
#define EACH (TILE_K * QUADS / THREADS)    // positions of a thread, one after the other
#define QUADS_B (TILE_N / WIDTH_B)
#define PIECES_B ((TILE_K * QUADS_B + THREADS - 1) / THREADS)
static_assert(EACH * THREADS == TILE_K * QUADS && TILE_K % SLICES == 0, "each thread reads as much as the others");
static_assert(MASK != 2 || TILE_K % 4 == 0, "a tile ends with a window of the pool");

// How a block brings the next TILE_K positions to shared memory. A thread always reads the same channels under the
// same tap, at one position after the other.
struct Loader {
    Geometry g;
    const float* x;
    Gradient gradient;
    int d, h, w;    // how many positions along each axis; of a pooled block how many windows
    Place place, turn;  // of the position that is read next; TILE_K positions as a distance
    int corner;     // of the window, if pooled
    int by_d, by_h, by_w, channel;  // what this thread reads: tap and channel ...
    bool reads, is_bias;            // ... or nothing, or the input that is always 1
    int group, first_filter, end;   // end of the stretch of positions

    float a[EACH][WIDTH], b[PIECES_B][WIDTH_B];

    __device__ __forceinline__ void begin(int first_row, int first_position) {
        const int taps = g.kernel[0] * g.kernel[1] * g.kernel[2];
        const int m = first_row + threadIdx.x % QUADS * WIDTH, tap = m / g.channels;
        const Place under = place_of(tap, g.kernel[0], g.kernel[1], g.kernel[2]);
        by_d = under.d * g.dilation[0] - g.before[0], by_h = under.h * g.dilation[1] - g.before[1];
        by_w = under.w * g.dilation[2] - g.before[2];
        channel = group * g.channels + m - tap * g.channels;
        reads = tap < taps, is_bias = m == taps * g.channels;

        const int step = MASK == 2 ? 4 : 1, first = first_position + threadIdx.x / QUADS * EACH;
        d = g.out[0], h = MASK == 2 ? g.out[1] / 2 : g.out[1], w = MASK == 2 ? g.out[2] / 2 : g.out[2];
        place = place_of(first / step, d, h, w), corner = first % step;
        turn = place_of(TILE_K / step, d, h, w);
    }

    // Start reading TILE_K positions from ``position`` on.
    __device__ __forceinline__ void fetch(int position) {
        const Place one = {0, 0, 0, 1};
        Place here = place;
        int at = corner;
#pragma unroll
        for (int i = 0; i < EACH; ++i) {
            fetch_a(here, at, position + threadIdx.x / QUADS * EACH + i < end, a[i]);
            if (MASK != 2 || ++at == 4) advance(here, one, d, h, w), at = 0;
        }
        advance(place, turn, d, h, w);
        const int pitch = g.filters * g.groups, step = MASK == 2 ? 4 : 1;  // ``position`` is a multiple of step
        const long long base = (long long)(position / step) * pitch + group * g.filters;
#pragma unroll
        for (int i = 0; i < PIECES_B; ++i) {
            const int read = threadIdx.x + i * THREADS, p = read / QUADS_B;
            const int filter = first_filter + read % QUADS_B * WIDTH_B;
            const bool valid = position + p < end && read < TILE_K * QUADS_B && filter < g.filters;
            fetch_b(base + (p / step * pitch + filter), p % step, valid, b[i]);
        }
    }

    __device__ __forceinline__ void fetch_a(const Place& p, int corner, bool valid, float (&to)[WIDTH]) {
#pragma unroll
        for (int e = 0; e < WIDTH; ++e) to[e] = 0.0f;
        if (is_bias) to[0] = 1.0f;
        const int row = MASK == 2 ? 2 * p.h + corner / 2 : p.h, column = MASK == 2 ? 2 * p.w + corner % 2 : p.w;
        const int at_d = p.d * g.stride[0] + by_d, at_h = row * g.stride[1] + by_h, at_w = column * g.stride[2] + by_w;
        if (!(valid && reads && inside(at_d, g.size[0]) && inside(at_h, g.size[1]) && inside(at_w, g.size[2]))) return;
        const int pixel = ((p.image * g.size[0] + at_d) * g.size[1] + at_h) * g.size[2] + at_w;
        read<WIDTH>(x + (long long)pixel * (g.channels * g.groups) + channel, to);
    }

    __device__ __forceinline__ void fetch_b(long long index, int corner, bool valid, float (&to)[WIDTH_B]) {
#pragma unroll
        for (int e = 0; e < WIDTH_B; ++e) to[e] = 0.0f;
        if (valid) read<WIDTH_B>(gradient, index, corner, to);
    }

    // Put what was read into shared memory.
    __device__ __forceinline__ void keep(float* tile_a, float* tile_b) const {
        const int k = threadIdx.x / QUADS * EACH, m = threadIdx.x % QUADS * WIDTH;
#pragma unroll
        for (int i = 0; i < EACH; ++i) put_row(tile_a + at_a(k + i, m), a[i]);
#pragma unroll
        for (int i = 0; i < PIECES_B; ++i) {
            const int read = threadIdx.x + i * THREADS;
            if (read < TILE_K * QUADS_B) put_row(tile_b + at_b(read / QUADS_B, read % QUADS_B * WIDTH_B), b[i]);
        }
    }
};

// The sums of all slices of a block (see tile.cuh), to the threads of the first one: half of those that are
// left hand theirs over to the other half, until one is left.
__device__ __forceinline__ void join(float (&sum)[ROWS][COLUMNS]) {
#if SLICES > 1
    __shared__ float given[SLICES / 2 * TEAM * ROWS * COLUMNS];
    for (int half = SLICES / 2; half > 0; half /= 2) {
        const bool gives = slice() >= half && slice() < 2 * half;
        float* mine = given + threadIdx.x - (gives ? half * TEAM : 0);
#pragma unroll
        for (int i = 0; i < ROWS * COLUMNS; ++i)
            if (gives) mine[i * half * TEAM] = sum[i / COLUMNS][i % COLUMNS];
        __syncthreads();
#pragma unroll
        for (int i = 0; i < ROWS * COLUMNS; ++i)
            if (slice() < half) sum[i / COLUMNS][i % COLUMNS] += mine[i * half * TEAM];
        __syncthreads();
    }
#endif
}

// One stretch of positions of the gradient in the weight (and in the bias: the last of ``rows``, if it is wanted).
// One block computes a tile of TILE_M x TILE_N results for its stretch, one thread ROWS x COLUMNS of these sums.
// x (N, size, channels), grad_y (N, out or out / 2, filters), parts (stretches, rows, filters);
// grid (tiles of rows, tiles of filters, groups * stretches).
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    weight_grad_parts(const float* x, const float* grad_y, const float* mask_y, const unsigned char* mask_where,
                      float* parts, Geometry g, int positions, int stretch, int rows) {
    __shared__ __align__(16) float tile_a[2][TILE_K * PITCH_A], tile_b[2][TILE_K * PITCH_B];
    const int group = blockIdx.z % g.groups, part = blockIdx.z / g.groups;
    const int first_row = blockIdx.x * TILE_M, first_filter = blockIdx.y * TILE_N, first = part * stretch;

    Loader loader = {g, x, {grad_y, mask_y, mask_where}};
    loader.group = group, loader.first_filter = first_filter, loader.end = min(positions, first + stretch);
    loader.begin(first_row, first);

    float sum[ROWS][COLUMNS] = {};
    loader.fetch(first);
    loader.keep(tile_a[0], tile_b[0]);
    __syncthreads();
    // While one pair of tiles is multiplied, the next values are on their way; one barrier for each pair.
    for (int k = first + TILE_K, now = 0; k < loader.end + TILE_K; k += TILE_K, now ^= 1) {
        const bool more = k < loader.end;
        if (more) loader.fetch(k);
        multiply(tile_a[now], tile_b[now], sum);
        if (more) loader.keep(tile_a[now ^ 1], tile_b[now ^ 1]);
        __syncthreads();
    }

    join(sum);
    if (slice() > 0) return;
#pragma unroll
    for (int i = 0; i < ROWS; ++i)
#pragma unroll
        for (int j = 0; j < COLUMNS; ++j) {
            const int m = first_row + row(i), filter = first_filter + column(j);
            if (m >= rows || filter >= g.filters) continue;
            parts[((long long)part * rows + m) * (g.filters * g.groups) + group * g.filters + filter] = sum[i][j];
        }
}
