// The matrix product out (m, n) = a (m, k) @ b (k, n): in tiles, on tensor cores, and for narrow results.
//
// A tile is a square of results that one block of threads computes. It walks along k in slices: the block brings a
// slice of a and one of b to shared memory, once, and there every number is used by a whole row or column of
// threads. Each thread keeps a small square of results in registers, because a number that comes from shared
// memory should be worth more than one multiplication.
//
// A small result with a long k has few tiles, and most of the card would have nothing to do. Then several blocks
// share a tile: each walks along its own stretch of k (blockIdx.z) and leaves a partial product, and another kernel
// adds these up, always in the same order, so that every run gives the same last bit.
#include "common.cuh"
#include "mma.cuh"

const int TILE = 64;      // results along each side of a tile
const int EACH = 4;       // results along each side of a thread's square
const int THREADS = 256;  // 16 x 16 of them make a tile
const int DEPTH = 16;     // length of a slice along k
const int ROW = TILE + 8; // of a slice in shared memory; the 8 spread a warp's reads over the memory banks

// Sizes, and distances in memory (in floats) of neighbouring rows and columns. A transposed matrix is the same
// memory with the two distances exchanged; one of them is 1.
struct Product {
    int m, n, k;
    int a_row, a_col, b_row, b_col, out_row;
    int stretch;                    // of k, for one block
    int add, has_bias, activation;  // see finish()
};

// The end of every product: add to what is there, add the bias (n,), apply ReLU (1) or tanh (2).
__device__ __forceinline__ void finish(float* out, const float* bias, const Product& p, int row, int column,
                                       float value) {
    if (row >= p.m || column >= p.n) return;
    float* place = out + (size_t)row * p.out_row + column;
    if (p.add) value += *place;
    if (p.has_bias) value += bias[column];
    if (p.activation == 1) value = relu(value);
    if (p.activation == 2) value = tanhf(value);
    *place = value;
}

// What one thread carries to each slice: 4 numbers. Neighbouring threads take neighbouring numbers in memory,
// whichever way the matrix lies. A line is a row of a, or a column of b.
const int CARRIED = TILE * DEPTH / THREADS;

struct Carrier {
    const float* from;      // its first number of the next slice
    int line, k;            // where in the slice that belongs
    int line_jump, k_jump;  // from one of its numbers to the next, there
    int jump, slice_jump;   // from one number to the next in memory, and to the next slice
    int lines, ks;          // how many there are from the begin of the next slice on
};

__device__ __forceinline__ Carrier carrier(const float* matrix, int line_step, int k_step, int first_line, int lines,
                                           int first_k, int last_k) {
    const int t = threadIdx.x;
    const bool along_k = k_step == 1;
    Carrier c;
    c.line = along_k ? t / DEPTH : t % TILE;
    c.k = along_k ? t % DEPTH : t / TILE;
    c.line_jump = along_k ? THREADS / DEPTH : 0;
    c.k_jump = along_k ? 0 : THREADS / TILE;
    c.jump = c.line_jump * line_step + c.k_jump * k_step;
    c.slice_jump = DEPTH * k_step;
    c.lines = lines - first_line;
    c.ks = last_k - first_k;
    c.from = matrix + (long long)(first_line + c.line) * line_step + (long long)(first_k + c.k) * k_step;
    return c;
}

// Bring the thread's numbers of the next slice to registers, zeros where the matrix ends.
__device__ __forceinline__ void fetch(Carrier& c, float (&held)[CARRIED]) {
#pragma unroll
    for (int i = 0; i < CARRIED; ++i) {
        const bool inside = c.line + i * c.line_jump < c.lines && c.k + i * c.k_jump < c.ks;
        held[i] = inside ? c.from[(long long)i * c.jump] : 0.0f;
    }
    c.from += c.slice_jump;
    c.ks -= DEPTH;
}

// Put them down in shared memory, as floats or in the form that tensor cores take.
__device__ __forceinline__ void keep(float* place, float value) { *place = value; }
__device__ __forceinline__ void keep(unsigned* place, float value) { *place = to_tf32(value); }

template <typename T>
__device__ __forceinline__ void put(const Carrier& c, const float (&held)[CARRIED], T (*slice)[ROW]) {
    T* to = &slice[c.k][c.line];
#pragma unroll
    for (int i = 0; i < CARRIED; ++i) keep(to + i * (c.k_jump * ROW + c.line_jump), held[i]);
}

// How much of k this block walks along.
struct Stretch {
    int first, last;
};
__device__ __forceinline__ Stretch own_stretch(const Product& p) {
    const int first = blockIdx.z * p.stretch;
    return {first, min(p.k, first + p.stretch)};
}

// sums (4, 4) += left (4, DEPTH) @ right (DEPTH, 4), from two slices.
__device__ __forceinline__ void multiply(float (&sums)[EACH][EACH], const float* left, const float* right) {
#pragma unroll
    for (int k = 0; k < DEPTH; ++k) {
        const float4 a = *reinterpret_cast<const float4*>(left + k * ROW);  // 16 bytes at once
        const float4 b = *reinterpret_cast<const float4*>(right + k * ROW);
        const float as[EACH] = {a.x, a.y, a.z, a.w}, bs[EACH] = {b.x, b.y, b.z, b.w};
#pragma unroll
        for (int i = 0; i < EACH; ++i)
#pragma unroll
            for (int j = 0; j < EACH; ++j) sums[i][j] = fmaf(as[i], bs[j], sums[i][j]);
    }
}

// Product in float32.
// One thread computes 4 x 4 results of a tile, for one stretch of k.
// a (m, k), b (k, n), bias (n,); out (m, n), or (stretches, m, n) of partial products. Blocks: (m, n, stretches).
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    product(const float* a, const float* b, const float* bias, float* out, Product p) {
    __shared__ __align__(16) float a_slice[DEPTH][ROW], b_slice[DEPTH][ROW];
    const int first_row = blockIdx.x * TILE, first_column = blockIdx.y * TILE;
    const Stretch k = own_stretch(p);
    Carrier a_carrier = carrier(a, p.a_row, p.a_col, first_row, p.m, k.first, k.last);
    Carrier b_carrier = carrier(b, p.b_col, p.b_row, first_column, p.n, k.first, k.last);
    const int row = threadIdx.x / 16 * EACH, column = threadIdx.x % 16 * EACH;
    float sums[EACH][EACH] = {}, a_held[CARRIED], b_held[CARRIED];
    fetch(a_carrier, a_held);
    fetch(b_carrier, b_held);
    for (int at = k.first; at < k.last; at += DEPTH) {
        put(a_carrier, a_held, a_slice);
        put(b_carrier, b_held, b_slice);
        __syncthreads();
        fetch(a_carrier, a_held);  // the next slice is on its way while this one is multiplied
        fetch(b_carrier, b_held);
        multiply(sums, &a_slice[0][row], &b_slice[0][column]);
        __syncthreads();
    }
    out += (size_t)blockIdx.z * p.m * p.n;
#pragma unroll
    for (int i = 0; i < EACH; ++i)
#pragma unroll
        for (int j = 0; j < EACH; ++j)
            finish(out, bias, p, first_row + row + i, first_column + column + j, sums[i][j]);
}

// sums (32, 16) += left (32, DEPTH) @ right (DEPTH, 16) by a warp, from two slices; mma.cuh says which lane holds
// what. ``left`` and ``right`` point at the first numbers of this lane.
__device__ __forceinline__ void multiply_tf32(float (&sums)[2][2][4], const unsigned* left, const unsigned* right) {
#pragma unroll
    for (int k = 0; k < DEPTH; k += 8, left += 8 * ROW, right += 8 * ROW) {
        unsigned a[2][4], b[2][2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            a[i][0] = left[16 * i], a[i][1] = left[16 * i + 8];
            a[i][2] = left[4 * ROW + 16 * i], a[i][3] = left[4 * ROW + 16 * i + 8];
            b[i][0] = right[8 * i], b[i][1] = right[4 * ROW + 8 * i];
        }
#pragma unroll
        for (int i = 0; i < 2; ++i)
#pragma unroll
            for (int j = 0; j < 2; ++j) mma_tf32(sums[i][j], a[i], b[j]);
    }
}

// Product with factors in TF32, on tensor cores.
// One warp, of 2 x 4 in a block, computes 32 x 16 results of a tile, for one stretch of k.
// Shapes as above.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    product_tf32(const float* a, const float* b, const float* bias, float* out, Product p) {
    __shared__ unsigned a_slice[DEPTH][ROW], b_slice[DEPTH][ROW];
    const int first_row = blockIdx.x * TILE, first_column = blockIdx.y * TILE;
    const Stretch k = own_stretch(p);
    Carrier a_carrier = carrier(a, p.a_row, p.a_col, first_row, p.m, k.first, k.last);
    Carrier b_carrier = carrier(b, p.b_col, p.b_row, first_column, p.n, k.first, k.last);
    const int warp = threadIdx.x / 32, group = threadIdx.x % 32 / 4, lane = threadIdx.x % 4;
    const int row = warp / 4 * 32, column = warp % 4 * 16;
    float sums[2][2][4] = {}, a_held[CARRIED], b_held[CARRIED];
    fetch(a_carrier, a_held);
    fetch(b_carrier, b_held);
    for (int at = k.first; at < k.last; at += DEPTH) {
        put(a_carrier, a_held, a_slice);
        put(b_carrier, b_held, b_slice);
        __syncthreads();
        fetch(a_carrier, a_held);
        fetch(b_carrier, b_held);
        multiply_tf32(sums, &a_slice[lane][row + group], &b_slice[lane][column + group]);
        __syncthreads();
    }
    out += (size_t)blockIdx.z * p.m * p.n;
    const int out_row = first_row + row + group, out_column = first_column + column + 2 * lane;
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int j = 0; j < 2; ++j)
#pragma unroll
            for (int part = 0; part < 4; ++part)
                finish(out, bias, p, out_row + 16 * i + part / 2 * 8, out_column + 8 * j + part % 2, sums[i][j][part]);
}

// Sum of partial products, in the order of k.
// One thread computes one result.
// parts (stretches, m, n), bias (n,), out (m, n).
extern "C" __global__ void __launch_bounds__(256)
    sum_parts(const float* parts, const float* bias, float* out, Product p, int stretches) {
    const size_t results = (size_t)p.m * p.n, i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    if (i >= results) return;
    float sum = 0.0f;
#pragma unroll 8
    for (int part = 0; part < stretches; ++part) sum += parts[part * results + i];
    finish(out, bias, p, (int)(i / p.n), (int)(i % p.n), sum);
}

// Product with a narrow result, such as that of a last layer for 10 classes.
// One warp computes one row: its lanes share the numbers of the row of a, and add up at the end.
// a (m, k) with a_col = 1, b (k, n), n <= NARROW, bias (n,), out (m, n).
const int NARROW = 16;

extern "C" __global__ void __launch_bounds__(128)
    product_narrow(const float* a, const float* b, const float* bias, float* out, Product p) {
    const int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= p.m) return;
    float sums[NARROW] = {};
    for (int k = lane; k < p.k; k += 32) {
        const float left = a[(size_t)row * p.a_row + k];
#pragma unroll
        for (int j = 0; j < NARROW; ++j)
            if (j < p.n) sums[j] = fmaf(left, b[(size_t)k * p.b_row + (size_t)j * p.b_col], sums[j]);
    }
#pragma unroll
    for (int j = 0; j < NARROW; ++j) {
        if (j >= p.n) break;
        const float sum = warp_sum(sums[j]);
        if (lane == j) finish(out, bias, p, row, j, sum);
    }
}

// The end of a product that NVIDIA's library has computed: bias and activation.
// One thread finishes one result.
// out (m, n), bias (n,).
extern "C" __global__ void __launch_bounds__(256) finish_all(float* out, const float* bias, Product p) {
    const size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    if (i >= (size_t)p.m * p.n) return;
    const int row = (int)(i / p.n), column = (int)(i % p.n);
    finish(out, bias, p, row, column, out[(size_t)row * p.out_row + column]);
}
