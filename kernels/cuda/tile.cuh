// The product of two tiles that lie in shared memory: a (TILE_K, TILE_M) and b (TILE_K, TILE_N), k by k,
//
//     sum[m, n] += a[k, m] * b[k, n]    for all k.
//
// A thread keeps ROWS x COLUMNS of the sums in registers. With TF32=0 it multiplies by itself; with TF32=1 the
// 32 threads of a warp do it together on the tensor cores. Which rows and columns a thread has differs, and
// row() and column() tell. With SLICES > 1 several groups of threads have the same sums, each for a part of k.
#ifndef TILE_M
#define TILE_M 128
#define TILE_N 64
#define TILE_K 16
#define ROWS 8     // a multiple of 4
#define COLUMNS 4  // likewise
#endif
#ifndef SLICES
#define SLICES 1
#endif
#ifndef TF32
#define TF32 0
#endif

#define TEAM (TILE_M / ROWS * (TILE_N / COLUMNS))  // threads that share a slice
#define THREADS (TEAM * SLICES)
#define BLOCKS (512 / THREADS)  // that must fit on a multiprocessor: the compiler then gives a thread 128 registers
#define PITCH_A (TILE_M + 8)  // 8 more than needed, so that tensor cores read from 32 different banks
#define PITCH_B (TILE_N + 8)

// Where column m of row k stands in its row. Shared memory has 32 banks, and threads of a warp should use
// different ones. Threads that read 4 values of k at once write them to 4 rows, so neighbouring threads would
// meet in a bank; an exclusive or that depends on k / 4 moves them apart, and leaves each 4 values together.
__device__ __forceinline__ int swizzle(int k, int m, int width) {
    const int step = TILE_K <= 8 ? 16 : TILE_K <= 16 ? 8 : 4;
    return m ^ (k / 4 * step & (width < 32 ? width - 1 : 31));
}
__device__ __forceinline__ int at_a(int k, int m) { return k * PITCH_A + swizzle(k, m, TILE_M); }
__device__ __forceinline__ int at_b(int k, int n) { return k * PITCH_B + swizzle(k, n, TILE_N); }

__device__ __forceinline__ int slice() { return threadIdx.x / TEAM; }

#if TF32

#define RUN 2  // this many columns of a thread are neighbours

// A tile of a warp is 8 * ROWS x 4 * COLUMNS; of each 8 rows a thread has one, of each 8 columns two.
__device__ __forceinline__ int row(int i) {
    const int warp = threadIdx.x % TEAM / 32, lane = threadIdx.x % 32;
    return warp / (TILE_N / (4 * COLUMNS)) * 8 * ROWS + 8 * i + lane / 4;
}
__device__ __forceinline__ int column(int j) {
    const int warp = threadIdx.x % TEAM / 32, lane = threadIdx.x % 32;
    return warp % (TILE_N / (4 * COLUMNS)) * 4 * COLUMNS + j / 2 * 8 + lane % 4 * 2 + j % 2;
}

// What is kept in shared memory: rounded once, when it is written.
__device__ __forceinline__ float rounded(float value) { return __uint_as_float(to_tf32(value)); }

__device__ __forceinline__ void multiply(const float* a, const float* b, float (&sum)[ROWS][COLUMNS]) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const int m0 = row(0) - g, n0 = column(0) - 2 * t, k0 = slice() * (TILE_K / SLICES);
#pragma unroll
    for (int k = 0; k < TILE_K / SLICES; k += 8) {
        const int low = k0 + k + t, high = low + 4;
        unsigned left[ROWS / 2][4], right[COLUMNS / 2][2];
#pragma unroll
        for (int i = 0; i < ROWS / 2; ++i) {
            const int m = m0 + 16 * i + g;
            left[i][0] = __float_as_uint(a[at_a(low, m)]), left[i][1] = __float_as_uint(a[at_a(low, m + 8)]);
            left[i][2] = __float_as_uint(a[at_a(high, m)]), left[i][3] = __float_as_uint(a[at_a(high, m + 8)]);
        }
#pragma unroll
        for (int j = 0; j < COLUMNS / 2; ++j) {
            const int n = n0 + 8 * j + g;
            right[j][0] = __float_as_uint(b[at_b(low, n)]), right[j][1] = __float_as_uint(b[at_b(high, n)]);
        }
#pragma unroll
        for (int i = 0; i < ROWS; i += 2)
#pragma unroll
            for (int j = 0; j < COLUMNS; j += 2) {
                float d[4] = {sum[i][j], sum[i][j + 1], sum[i + 1][j], sum[i + 1][j + 1]};
                mma_tf32(d, left[i / 2], right[j / 2]);
                sum[i][j] = d[0], sum[i][j + 1] = d[1], sum[i + 1][j] = d[2], sum[i + 1][j + 1] = d[3];
            }
    }
}

#else

#define RUN 4

// A thread has 4 neighbouring rows (and columns) of each so many, and reads 4 values at a time.
__device__ __forceinline__ int row(int i) {
    const int y = threadIdx.x % TEAM / (TILE_N / COLUMNS);
    return i / 4 * (4 * TILE_M / ROWS) + 4 * y + i % 4;
}
__device__ __forceinline__ int column(int j) {
    const int x = threadIdx.x % TEAM % (TILE_N / COLUMNS);
    return j / 4 * (4 * TILE_N / COLUMNS) + 4 * x + j % 4;
}

__device__ __forceinline__ float rounded(float value) { return value; }

__device__ __forceinline__ void multiply(const float* a, const float* b, float (&sum)[ROWS][COLUMNS]) {
    const int k0 = slice() * (TILE_K / SLICES);
#pragma unroll
    for (int k = 0; k < TILE_K / SLICES; ++k) {
        float left[ROWS], right[COLUMNS];
#pragma unroll
        for (int i = 0; i < ROWS; i += 4) {
            const float4 four = *reinterpret_cast<const float4*>(a + at_a(k0 + k, row(i)));
            left[i] = four.x, left[i + 1] = four.y, left[i + 2] = four.z, left[i + 3] = four.w;
        }
#pragma unroll
        for (int j = 0; j < COLUMNS; j += 4) {
            const float4 four = *reinterpret_cast<const float4*>(b + at_b(k0 + k, column(j)));
            right[j] = four.x, right[j + 1] = four.y, right[j + 2] = four.z, right[j + 3] = four.w;
        }
#pragma unroll
        for (int i = 0; i < ROWS; ++i)
#pragma unroll
            for (int j = 0; j < COLUMNS; ++j) sum[i][j] = fmaf(left[i], right[j], sum[i][j]);
    }
}

#endif

// Write N neighbours of a row of a tile, all at once: the swizzle leaves 4 of them together.
template <int N>
__device__ __forceinline__ void put_row(float* to, const float (&values)[N]) {
    if constexpr (N == 4) {
        *reinterpret_cast<float4*>(to) =
            make_float4(rounded(values[0]), rounded(values[1]), rounded(values[2]), rounded(values[3]));
    } else {
        *to = rounded(values[0]);
    }
}
