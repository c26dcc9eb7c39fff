// What all kernels of this folder share. loader.py puts the text of a header in place of its #include.
//
// The same files are compiled by NVRTC (for the card that is there), by nvcc (a test, for three generations
// of cards) and by g++ (a test, where every CUDA thread is a fiber and real numbers come out).
#pragma once

#ifdef TINYNET_SHIM
#include "shim.h"  // tests/gpu/shim.h: CUDA's words in plain C++
#else
// Shared memory whose size is chosen at the launch.
#define DYN_SHARED(type, name)                                            \
    extern __shared__ __align__(16) unsigned char dynamic_shared_bytes[]; \
    type* name = reinterpret_cast<type*>(dynamic_shared_bytes)
#endif

#define FULL_WARP 0xffffffffu

#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)  // NVRTC has no math.h
#endif

// Sum over the 32 lanes of a warp; every lane gets it. Adding in a fixed tree keeps it deterministic.
__device__ __forceinline__ float warp_sum(float value) {
    for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(FULL_WARP, value, distance);
    return value;
}

__device__ __forceinline__ float warp_max(float value) {
    for (int distance = 16; distance > 0; distance /= 2)
        value = fmaxf(value, __shfl_xor_sync(FULL_WARP, value, distance));
    return value;
}

// ReLU that lets NaN through, as NumPy's maximum does.
__device__ __forceinline__ float relu(float value) { return value < 0.0f ? 0.0f : value; }
