// Convolution with all its steps in sight: im2col lays every window out as a row of a matrix, and the convolution
// is a matrix product; col2im is the way back. Simple, and slow where memory is: a value of x is stored
// as often as there are taps. conv.cu computes the same without storing it.
#include "common.cuh"
#include "conv.cuh"

// Lay out every window of x as a row.
// One thread copies one number of the columns, or writes the zero of the padding.
// x (N, size, groups, channels) to columns (groups, N, out, kernel, channels); geometry in conv.cuh.
extern "C" __global__ void im2col(const float* x, float* columns, Geometry g) {
    const int taps = g.kernel[0] * g.kernel[1] * g.kernel[2], positions = g.images * g.out[0] * g.out[1] * g.out[2];
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (long long)g.groups * positions * taps * g.channels) return;
    const int channel = i % g.channels, tap = i / g.channels % taps;
    const long long row = i / g.channels / taps;
    const int group = row / positions;
    const Place at = place_of(row % positions, g.out[0], g.out[1], g.out[2]);
    const Place under = place_of(tap, g.kernel[0], g.kernel[1], g.kernel[2]);
    const int d = at.d * g.stride[0] + under.d * g.dilation[0] - g.before[0];
    const int h = at.h * g.stride[1] + under.h * g.dilation[1] - g.before[1];
    const int w = at.w * g.stride[2] + under.w * g.dilation[2] - g.before[2];
    const bool on_image = inside(d, g.size[0]) && inside(h, g.size[1]) && inside(w, g.size[2]);
    const long long pixel = (((long long)at.image * g.size[0] + d) * g.size[1] + h) * g.size[2] + w;
    columns[i] = on_image ? x[(pixel * g.groups + group) * g.channels + channel] : 0.0f;
}

// Which output sees input p through a tap? A negative number if none does.
__device__ __forceinline__ int seen_from(int p, int tap, const Geometry& g, int axis) {
    const int distance = p + g.before[axis] - tap * g.dilation[axis];
    const int output = distance / g.stride[axis];
    return distance % g.stride[axis] == 0 && output < g.out[axis] ? output : -1;
}

// Add every number of the columns to the value that it was a copy of: the adjoint of im2col.
// One thread computes one value of x, a sum over the taps: it collects, so that no two threads write to one place.
// columns (groups, N, out, kernel, channels) to x (N, size, groups, channels).
extern "C" __global__ void col2im(const float* columns, float* x, Geometry g) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const long long pixels = (long long)g.images * g.size[0] * g.size[1] * g.size[2];
    if (i >= pixels * g.groups * g.channels) return;
    const int channel = i % g.channels, group = i / g.channels % g.groups;
    const Place at = place_of(i / g.channels / g.groups, g.size[0], g.size[1], g.size[2]);
    const int taps = g.kernel[0] * g.kernel[1] * g.kernel[2];
    float sum = 0.0f;
    for (int tap = 0; tap < taps; ++tap) {
        const Place under = place_of(tap, g.kernel[0], g.kernel[1], g.kernel[2]);
        const int d = seen_from(at.d, under.d, g, 0), h = seen_from(at.h, under.h, g, 1);
        const int w = seen_from(at.w, under.w, g, 2);
        if (d < 0 || h < 0 || w < 0) continue;
        const long long position = (((long long)group * g.images + at.image) * g.out[0] + d) * g.out[1] + h;
        sum += columns[((position * g.out[2] + w) * taps + tap) * g.channels + channel];
    }
    x[i] = sum;
}
