// The end of a convolution: bias, ReLU and pool are applied to the sums while these are still in registers.

// All four rows of a pool's window belong to one thread: they are its rows i to i + 3 (see row() in tile.cuh).
__device__ __forceinline__ int window_of(int m) { return TF32 ? m / 32 * 8 + m % 8 : m / 4; }
__device__ __forceinline__ int corner_of(int m) { return TF32 ? m / 8 % 4 : m % 4; }

__device__ __forceinline__ float finish(float sum, float bias, int with_relu) {
    return with_relu ? relu(sum + bias) : sum + bias;
}

// RUN neighbouring channels of the result, of which ``count`` exist.
struct Run {
    int channel, count, pitch;  // pitch: from one pixel to the next
    bool aligned;
};

__device__ __forceinline__ void write(float* to, const float (&values)[RUN], const Run& run) {
    if (run.aligned) {
#if RUN == 4
        *reinterpret_cast<float4*>(to) = make_float4(values[0], values[1], values[2], values[3]);
#else
        *reinterpret_cast<float2*>(to) = make_float2(values[0], values[1]);
#endif
        return;
    }
#pragma unroll
    for (int e = 0; e < RUN; ++e)
        if (e < run.count) to[e] = values[e];
}

// One pixel of the result, from sums j to j + RUN - 1 of one row.
__device__ __forceinline__ void put(const Run& run, float* pixel, const float (&sum)[COLUMNS], int j,
                                    const float (&shift)[RUN], int with_relu) {
    float values[RUN];
#pragma unroll
    for (int e = 0; e < RUN; ++e) values[e] = finish(sum[j + e], shift[e], with_relu);
    write(pixel + run.channel, values, run);
}

// One window of the pool, from rows i to i + 3: the largest value, and which it is. Of equals it is the first; NaN
// comes before all numbers; 4 says that a ReLU lets nothing through.
__device__ __forceinline__ void put_pooled(const Run& run, float* y, unsigned char* where, int window,
                                           const float (&sum)[ROWS][COLUMNS], int i, int j,
                                           const float (&shift)[RUN], int with_relu) {
    const long long to = (long long)window * run.pitch + run.channel;
    float best[RUN];
#pragma unroll
    for (int e = 0; e < RUN; ++e) {
        int place = 3;
        best[e] = finish(sum[i + 3][j + e], shift[e], with_relu);
#pragma unroll
        for (int c = 2; c >= 0; --c) {
            const float value = finish(sum[i + c][j + e], shift[e], with_relu);
            if (value >= best[e] || value != value) best[e] = value, place = c;
        }
        if (with_relu && !(best[e] > 0.0f)) place = 4;
        if (e < run.count) where[to + e] = place;
    }
    write(y + to, best, run);
}
