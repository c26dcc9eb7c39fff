// Convolution, and its gradient in x, as one large product whose left factor is never stored ("implicit GEMM"):
//
//     y (positions, filters) = columns (positions, taps * channels) @ weight (taps * channels, filters)
//
// im2col.cu writes these columns out, each value of x as often as there are taps. Here a block brings the part of
// them that it needs next straight from x to shared memory, multiplies, and adds bias, ReLU and pool at the end.
// ADJOINT=1 is the gradient in x, in gather form: each value of x sums over the outputs that saw it. It is the
// same product with y and x exchanged, the weight turned and the taps walked backwards.
#include "common.cuh"
#include "mma.cuh"
#include "tile.cuh"
#include "conv.cuh"
#include "epilogue.cuh"

#ifndef ADJOINT
#define ADJOINT 0
#endif
#ifndef STRIDED
#define STRIDED 0  // ADJOINT: is any stride larger than 1?
#endif
#ifndef WIDTH
#define WIDTH 4  // how many channels are read at once: 4 where their number is a multiple of 4, else 1
#endif
#ifndef WIDTH_B
#define WIDTH_B WIDTH  // the same for filters of the weight, when it is not turned
#endif

// --- the taps of the window along one axis ---

// Tap first + i * step of the kernel lies offset + i * gap after the start of a window.
struct Taps {
    int first, step, count, offset, gap;
};

// The output that sees input p through tap t is (p + before - t * dilation) / stride, if that is a whole number.
// Inputs p = phase + stride * i have the same taps in common, and see outputs i + offset, i + offset + gap, ...
__device__ __forceinline__ Taps taps_of(const Geometry& g, int axis, int phase) {
    const int stride = g.stride[axis], before = g.before[axis], dilation = g.dilation[axis];
    if (!ADJOINT) return {0, 1, g.kernel[axis], -before, dilation};
    if (!STRIDED) return {0, 1, g.kernel[axis], before, -dilation};
    Taps taps = {0, 1, 0, 0, 0};
    for (int tap = 0; tap < g.kernel[axis]; ++tap) {
        const int distance = phase + before - tap * dilation;
        if (distance % stride != 0) continue;
        if (taps.count == 0) taps.first = tap, taps.offset = distance / stride;
        if (taps.count == 1) taps.step = tap - taps.first, taps.gap = distance / stride - taps.offset;
        ++taps.count;
    }
    return taps;
}

// --- the rows of the product ---

// What the rows stand for: the positions of y, in windows of 2 x 2 if it is pooled; or those inputs of one phase.
struct Rows {
    int count, d, h, w;  // how many, and how many along each axis
    int phase[3];
    bool pool;
};

__device__ __forceinline__ Rows rows_of(const Geometry& g, int phase, bool pool) {
    Rows rows = {0, g.out[0], g.out[1], g.out[2], {0, 0, 0}, pool};
    if (ADJOINT && !STRIDED) {
        rows.d = g.size[0], rows.h = g.size[1], rows.w = g.size[2];
    } else if (ADJOINT) {
        rows.phase[2] = phase % g.stride[2], phase /= g.stride[2];
        rows.phase[1] = phase % g.stride[1], rows.phase[0] = phase / g.stride[1];
        rows.d = (g.size[0] - rows.phase[0] + g.stride[0] - 1) / g.stride[0];
        rows.h = (g.size[1] - rows.phase[1] + g.stride[1] - 1) / g.stride[1];
        rows.w = (g.size[2] - rows.phase[2] + g.stride[2] - 1) / g.stride[2];
    } else if (pool) {
        rows.h /= 2, rows.w /= 2;  // in windows; what is left over at the edge is not computed
    }
    rows.count = g.images * rows.d * rows.h * rows.w;
    return rows;
}

// Where in the source the window of row m starts. What is behind the last row starts outside of everything.
__device__ __forceinline__ Place start_of(const Geometry& g, const Rows& rows, int m) {
    const int index = rows.pool ? window_of(m) : m;
    if (index >= rows.count) return {0, -(1 << 30), 0, 0};
    Place place = place_of(index, rows.d, rows.h, rows.w);
    if (rows.pool) place.h = 2 * place.h + corner_of(m) / 2, place.w = 2 * place.w + corner_of(m) % 2;
    if (!ADJOINT) place.d *= g.stride[0], place.h *= g.stride[1], place.w *= g.stride[2];
    return place;
}

// The row of the result, as an array of pixels, that row m is.
__device__ __forceinline__ long long target_of(const Geometry& g, const Rows& rows, int m) {
    if (!STRIDED) return m;
    const Place place = place_of(m, rows.d, rows.h, rows.w);
    const int d = rows.phase[0] + place.d * g.stride[0], h = rows.phase[1] + place.h * g.stride[1];
    const int w = rows.phase[2] + place.w * g.stride[2];
    return (((long long)place.image * g.size[0] + d) * g.size[1] + h) * g.size[2] + w;
}

// --- how a block brings the next TILE_K values of k of its rows and columns to shared memory ---

#define PARTS (WIDTH == 4 ? TILE_K / 4 : 1)      // threads that share a row
#define PIECES (WIDTH == 4 ? 1 : TILE_K)         // reads that each of them does
#define LANES (THREADS / PARTS)                  // rows at a time
#define ROWS_A ((TILE_M + LANES - 1) / LANES)    // rows of a thread
#define ROWS_B ((TILE_N + LANES - 1) / LANES)    // columns of a thread, when the weight is turned
#define QUADS_B (TILE_N / WIDTH_B)               // reads along a row of the weight, when it is not
#define PIECES_B ((TILE_K * QUADS_B + THREADS - 1) / THREADS)
static_assert(PARTS * WIDTH * PIECES == TILE_K && LANES * PARTS == THREADS, "threads share a row without a rest");

// In the order of k the taps come one after the other, and within a tap the channels. A thread knows where it is
// by counting along: no division, and no table.
struct Loader {
    Geometry g;
    Gradient source;      // x in the forward pass
    const float* weight;  // of this group
    Taps d, h, w;
    int size_d, size_h, size_w;  // of the source
    int channels, pitch;         // that are summed over, and from one pixel to the next
    int outer, outer_pitch;      // columns of the result of this group, and of all
    int first_column, total;     // of this block; length of k
    int group_start;             // the first channel

    int image[ROWS_A], at_d[ROWS_A], at_h[ROWS_A], at_w[ROWS_A];
    int channel, tap_d, tap_h, tap_w;  // of the value that is read next
    float a[PIECES][ROWS_A][WIDTH];
#if ADJOINT
    float b[PIECES][ROWS_B][WIDTH];
#else
    float b[PIECES_B][WIDTH_B];
#endif

    __device__ __forceinline__ void begin(const Rows& rows, int first_row) {
        const int pixels = size_d * (MASK == 2 ? size_h / 2 * (size_w / 2) : size_h * size_w);
#pragma unroll
        for (int i = 0; i < ROWS_A; ++i) {
            const Place start = start_of(g, rows, first_row + threadIdx.x / PARTS + i * LANES);
            image[i] = start.image * pixels;
            at_d[i] = start.d, at_h[i] = start.h, at_w[i] = start.w;
        }
        channel = tap_d = tap_h = tap_w = 0;
        step(WIDTH * (threadIdx.x % PARTS));
    }

    __device__ __forceinline__ void step(int by) {
        channel += by;
        while (channel >= channels) {
            channel -= channels;
            if (++tap_w < w.count) continue;
            tap_w = 0;
            if (++tap_h < h.count) continue;
            tap_h = 0, ++tap_d;
        }
    }

    // Start reading; nobody waits for the values before keep().
    __device__ __forceinline__ void fetch(int k) {
#pragma unroll
        for (int piece = 0; piece < PIECES; ++piece) {
            const bool valid = tap_d < d.count;
            const int by_d = d.offset + tap_d * d.gap, by_h = h.offset + tap_h * h.gap, by_w = w.offset + tap_w * w.gap;
#pragma unroll
            for (int i = 0; i < ROWS_A; ++i)
                fetch_a(image[i], at_d[i] + by_d, at_h[i] + by_h, at_w[i] + by_w, valid, a[piece][i]);
#if ADJOINT
            const int kernel_d = d.first + tap_d * d.step, kernel_h = h.first + tap_h * h.step;
            const int tap = (kernel_d * g.kernel[1] + kernel_h) * g.kernel[2] + w.first + tap_w * w.step;
#pragma unroll
            for (int i = 0; i < ROWS_B; ++i) {
                const int n = first_column + threadIdx.x / PARTS + i * LANES;
                fetch_b((tap * outer + n) * pitch + channel, valid && n < outer, b[piece][i]);
            }
#endif
            step(WIDTH);
        }
        step(TILE_K - WIDTH * PIECES);
#if !ADJOINT
#pragma unroll
        for (int i = 0; i < PIECES_B; ++i) {
            const int at = threadIdx.x + i * THREADS, n = first_column + at % QUADS_B * WIDTH_B;
            const int row = k + at / QUADS_B;
            fetch_b(row * outer_pitch + n, row < total && n < outer, b[i]);
        }
#endif
    }

    __device__ __forceinline__ void fetch_a(int image, int d, int h, int w, bool valid, float (&to)[WIDTH]) {
#pragma unroll
        for (int e = 0; e < WIDTH; ++e) to[e] = 0.0f;
        if (!(valid && inside(d, size_d) && inside(h, size_h) && inside(w, size_w))) return;
#if MASK == 2
        const int pixel = (d * (size_h / 2) + h / 2) * (size_w / 2) + w / 2;
#else
        const int pixel = (d * size_h + h) * size_w + w;
#endif
        read<WIDTH>(source, (long long)(image + pixel) * pitch + group_start + channel, h % 2 * 2 + w % 2, to);
    }

    template <int N>
    __device__ __forceinline__ void fetch_b(int index, bool valid, float (&to)[N]) {
#pragma unroll
        for (int e = 0; e < N; ++e) to[e] = 0.0f;
        if (valid) read<N>(weight + index, to);
    }

    // Put what was read into shared memory.
    __device__ __forceinline__ void keep(float* tile_a, float* tile_b) const {
        const int lane = threadIdx.x / PARTS, first = WIDTH * (threadIdx.x % PARTS);
#pragma unroll
        for (int piece = 0; piece < PIECES; ++piece)
#pragma unroll
            for (int e = 0; e < WIDTH; ++e) {
                const int k = first + piece * WIDTH + e;
#pragma unroll
                for (int i = 0; i < ROWS_A; ++i)
                    if (lane + i * LANES < TILE_M) tile_a[at_a(k, lane + i * LANES)] = rounded(a[piece][i][e]);
#if ADJOINT
#pragma unroll
                for (int i = 0; i < ROWS_B; ++i)
                    if (lane + i * LANES < TILE_N) tile_b[at_b(k, lane + i * LANES)] = rounded(b[piece][i][e]);
#endif
            }
#if !ADJOINT
#pragma unroll
        for (int i = 0; i < PIECES_B; ++i) {
            const int at = threadIdx.x + i * THREADS;
            if (at < TILE_K * QUADS_B) put_row(tile_b + at_b(at / QUADS_B, at % QUADS_B * WIDTH_B), b[i]);
        }
#endif
    }
};

// y = conv(x, weight) + bias, ReLU, pool, or with ADJOINT=1 the gradient in x from that of y.
// One block computes a tile of TILE_M positions x TILE_N filters, one thread ROWS x COLUMNS of these sums.
// x (N, size, channels), weight (kernel, channels, filters), bias (filters,), y (N, out or out / 2, filters),
// where as y; grid (tiles of positions, tiles of filters, groups * phases).
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    convolve(const float* x, const float* mask_y, const unsigned char* mask_where, const float* weight,
             const float* bias, float* y, unsigned char* where, Geometry g, int with_relu, int with_pool) {
    __shared__ __align__(16) float tile_a[2][TILE_K * PITCH_A], tile_b[2][TILE_K * PITCH_B];
    const int group = blockIdx.z % g.groups, first_row = blockIdx.x * TILE_M;
    const Rows rows = rows_of(g, blockIdx.z / g.groups, with_pool);
    if (first_row >= (with_pool ? 4 * rows.count + 31 : rows.count)) return;  // other phases have more rows

    Loader loader = {g, {x, mask_y, mask_where}};
    loader.d = taps_of(g, 0, rows.phase[0]), loader.h = taps_of(g, 1, rows.phase[1]);
    loader.w = taps_of(g, 2, rows.phase[2]);
    const int* size = ADJOINT ? g.out : g.size;
    const int even = ADJOINT && MASK == 2 ? ~1 : ~0;  // a pool of 2 x 2 never looks at an odd last row or column
    loader.size_d = size[0], loader.size_h = size[1] & even, loader.size_w = size[2] & even;
    loader.channels = ADJOINT ? g.filters : g.channels, loader.pitch = loader.channels * g.groups;
    loader.outer = ADJOINT ? g.channels : g.filters, loader.outer_pitch = loader.outer * g.groups;
    loader.weight = weight + group * g.filters;
    loader.group_start = group * loader.channels, loader.first_column = blockIdx.y * TILE_N;
    loader.total = loader.d.count * loader.h.count * loader.w.count * loader.channels;
    loader.begin(rows, first_row);

    float sum[ROWS][COLUMNS] = {};
    if (loader.total > 0) {
        loader.fetch(0);
        loader.keep(tile_a[0], tile_b[0]);
        __syncthreads();
    }
    // While one pair of tiles is multiplied, the next values are on their way; one barrier for each pair.
    for (int k = TILE_K, now = 0; k < loader.total + TILE_K; k += TILE_K, now ^= 1) {
        const bool more = k < loader.total;
        if (more) loader.fetch(k);
        multiply(tile_a[now], tile_b[now], sum);
        if (more) loader.keep(tile_a[now ^ 1], tile_b[now ^ 1]);
        __syncthreads();
    }

    const int first_channel = group * loader.outer;
#pragma unroll
    for (int j = 0; j < COLUMNS; j += RUN) {
        const int n = loader.first_column + column(j);
        const Run run = {first_channel + n, loader.outer - n, loader.outer_pitch, loader.outer % RUN == 0};
        if (run.count <= 0) continue;
        float shift[RUN];
#pragma unroll
        for (int e = 0; e < RUN; ++e) shift[e] = bias != nullptr && e < run.count ? bias[run.channel + e] : 0.0f;
#pragma unroll
        for (int i = 0; i < ROWS; i += 4) {
            const int m = first_row + row(i), window = window_of(m);
            if (with_pool && window < rows.count) put_pooled(run, y, where, window, sum, i, j, shift, with_relu);
            if (with_pool) continue;
#pragma unroll
            for (int c = i; c < i + 4; ++c) {
                const int m = first_row + row(c);
                if (m < rows.count) put(run, y + target_of(g, rows, m) * run.pitch, sum[c], j, shift, with_relu);
            }
        }
    }
}
