// Dropout without a mask: whether an element stays is a hash of its number and of a key, the same on every
// device. Nothing has to be drawn, kept or read: the backward computes the same hash again.
#include "common.cuh"

#define EACH 4  // elements of a thread: all are loaded first, so that they are on their way at the same time

typedef unsigned long long Word;

// lowbias32 (Wellons 2018): every bit of h comes to act on every bit of the result.
__device__ __forceinline__ unsigned mix(unsigned h) {
    h = (h ^ (h >> 16)) * 0x7FEB352Du;
    h = (h ^ (h >> 15)) * 0x846CA68Bu;
    return h ^ (h >> 16);
}

// The hash of element i, as tinynet.kernels.dropout defines it.
__device__ __forceinline__ unsigned hash(unsigned i, Word key) {
    return mix(mix(i * 0x9E3779B1u + (unsigned)key) ^ (unsigned)(key >> 32));
}

// dropout: y = x * scale where the hash is high enough, else 0.
// A thread: EACH elements, blockDim apart, so that neighbouring threads always read neighbouring numbers.
// x and y (count,), key (1,)
extern "C" __global__ void dropout(const float* __restrict__ x, float* __restrict__ y,
                                   const Word* __restrict__ key, Word count, unsigned threshold,
                                   float scale) {
    Word first = (Word)blockIdx.x * blockDim.x * EACH + threadIdx.x, secret = key[0];
    float value[EACH];
    for (int k = 0; k < EACH; ++k) {
        Word i = first + k * blockDim.x;
        value[k] = i < count ? x[i] : 0.0f;
    }
    for (int k = 0; k < EACH; ++k) {
        Word i = first + k * blockDim.x;
        if (i < count) y[i] = hash((unsigned)i, secret) >= threshold ? value[k] * scale : 0.0f;
    }
}
