// Functions of single numbers that CuPy itself does not have.
#include "common.cuh"

#define EACH 4  // elements of a thread: all are loaded first, so that they are on their way at the same time

typedef unsigned long long Word;

// erf: the Gauss error function of each element.
// A thread: EACH elements, blockDim apart, so that neighbouring threads always read neighbouring numbers.
// x and y (count,)
extern "C" __global__ void erf_of(const float* __restrict__ x, float* __restrict__ y, Word count) {
    Word first = (Word)blockIdx.x * blockDim.x * EACH + threadIdx.x;
    float value[EACH];
    for (int k = 0; k < EACH; ++k) {
        Word i = first + k * blockDim.x;
        value[k] = i < count ? x[i] : 0.0f;
    }
    for (int k = 0; k < EACH; ++k) {
        Word i = first + k * blockDim.x;
        if (i < count) y[i] = erff(value[k]);
    }
}
