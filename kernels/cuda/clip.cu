// The norm of many arrays together, and making them shorter by it: one launch for all of them.
#include "common.cuh"

#define ARRAYS 160   // in a table
#define CHUNK 4096   // elements of a block
#define THREADS 256

// Where the arrays are. Blocks are counted through all of them; first is the number of an array's first block.
struct Table {
    long long address[ARRAYS], size[ARRAYS], first[ARRAYS];
};

// A double goes by value in a struct: Python's floats arrive as float.
struct Limit {
    double value;
};

// The array that a block works on, and the part of it.
struct Part {
    float* numbers;
    long long count;
};

__device__ __forceinline__ Part part_of(const Table& table, int arrays) {
    int low = 0, high = arrays - 1;  // the last array whose first block is not beyond this one
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (table.first[middle] <= blockIdx.x) low = middle;
        else high = middle - 1;
    }
    long long start = (blockIdx.x - table.first[low]) * CHUNK, rest = table.size[low] - start;
    return {(float*)table.address[low] + start, rest < CHUNK ? rest : CHUNK};
}

// Sum over a block of THREADS, in a fixed tree; thread 0 gets it.
__device__ __forceinline__ double block_sum(double value) {
    __shared__ double sums[THREADS];
    sums[threadIdx.x] = value;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    return sums[0];
}

// square_sums: the sum of squares of each part. A block: one part of one array.
// partial (grid,)
extern "C" __global__ void square_sums(Table table, int arrays, double* __restrict__ partial) {
    Part part = part_of(table, arrays);
    double total = 0;
    for (int i = threadIdx.x; i < part.count; i += THREADS) {
        double value = part.numbers[i];
        total += value * value;
    }
    total = block_sum(total);
    if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

// root_of_sum: the square root of the sum of all parts. One block; a thread: every 256th part.
// partial (count,), norm ()
extern "C" __global__ void root_of_sum(const double* __restrict__ partial, double* __restrict__ norm, int count) {
    double total = 0;
    for (int i = threadIdx.x; i < count; i += THREADS) total += partial[i];
    total = block_sum(total);
    if (threadIdx.x == 0) norm[0] = sqrt(total);
}

// limit_norm: all arrays times limit / max(norm, limit). A block: one part of one array.
// A norm that is NaN makes all NaN, and an infinite one makes zeros, and NaN of infinities.
extern "C" __global__ void limit_norm(Table table, int arrays, const double* __restrict__ norm, Limit limit) {
    Part part = part_of(table, arrays);
    float factor = (float)(limit.value / (norm[0] <= limit.value ? limit.value : norm[0]));
    for (int i = threadIdx.x; i < part.count; i += THREADS) part.numbers[i] *= factor;
}
