// Batches out of a data set that lies on the card as a whole. In which order, and from where on, is read
// from memory: so a recorded step takes another batch each time.
#include "common.cuh"

typedef unsigned long long Word;

#ifndef BYTES
#define BYTES 1  // of a pixel: 1 for 8-bit numbers, which are divided by 255, 4 for float32
#endif
#if BYTES == 1
typedef unsigned char Pixel;
#else
typedef float Pixel;
#endif

// What a net wants to see of a pixel.
__device__ __forceinline__ float seen(Pixel value) { return BYTES == 1 ? value / 255.0f : (float)value; }

// gather_scaled: out[b] = images[order[offset + b]] as float32. A thread: one pixel.
// images (n, size), order (m,), numbers (1,): the offset, out (count, size); total = count * size
extern "C" __global__ void gather_scaled(const Pixel* __restrict__ images, const int* __restrict__ order,
                                         const Word* __restrict__ numbers, float* __restrict__ out, int size,
                                         int total) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= total) return;
    int sample = order[numbers[0] + i / size];
    out[i] = seen(images[(long long)sample * size + i % size]);
}

// gather_bytes: out[b] = rows[order[offset + b]] as it is. A thread: one piece of BYTES bytes.
// rows (n, size) pieces, order (m,), numbers (1,): the offset, out (count, size); total = count * size
extern "C" __global__ void gather_bytes(const Pixel* __restrict__ rows, const int* __restrict__ order,
                                        const Word* __restrict__ numbers, Pixel* __restrict__ out, int size,
                                        int total) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= total) return;
    int sample = order[numbers[0] + i / size];
    out[i] = rows[(long long)sample * size + i % size];
}

// Every bit of the result depends on every bit that goes in (SplitMix64; Steele, Lea and Flood 2014).
__device__ __forceinline__ Word scramble(Word bits) {
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9ull;
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBull;
    return bits ^ (bits >> 31);
}

// Number i of a key: 24 random bits as a number from -1 to 1.
__device__ __forceinline__ double chance(Word key, int i) {
    return (double)(scramble(key + (i + 1) * 0x9E3779B97F4A7C15ull) >> 40) / 8388608.0 - 1.0;
}

// From which place a pixel at (row, column) is taken: row a + row * b + column * c, and so on.
struct Way {
    double row[3], column[3];
};

// How far at most: rotation in degrees, shear in columns per row, scale as a share, shift in pixels.
struct Amounts {
    float rotation, shear, scale, shift;
};

__device__ Way way_back(Word key, Amounts most, int height, int width) {
    double angle = most.rotation * chance(key, 0) * 0.017453292519943295;
    double lean = most.shear * chance(key, 1), factor = 1.0 + most.scale * chance(key, 2);
    double middle_row = (height - 1) / 2.0, middle_column = (width - 1) / 2.0;
    double from_row = middle_row + most.shift * chance(key, 3);
    double from_column = middle_column + most.shift * chance(key, 4);
    double a = cos(angle) / factor, b = sin(angle) / factor;
    double c = -lean * a - b, d = a - lean * b;
    return {{middle_row - a * from_row - b * from_column, a, b},
            {middle_column - c * from_row - d * from_column, c, d}};
}

// gather_warped: as gather_scaled, each image turned, leant, scaled and shifted by chance. A block: one image;
// its first thread finds the way back, then each thread blends pixel after pixel from the four around its place.
// images (n, height, width, channels), order (m,), numbers (2,): offset and key, out (count, height, width, channels)
extern "C" __global__ void gather_warped(const Pixel* __restrict__ images, const int* __restrict__ order,
                                         const Word* __restrict__ numbers, float* __restrict__ out, int height,
                                         int width, int channels, Amounts most, float fill) {
    __shared__ Way way;
    int sample = order[numbers[0] + blockIdx.x];
    if (threadIdx.x == 0)
        way = way_back(scramble(numbers[1] + (sample + 1) * 0x9E3779B97F4A7C15ull), most, height, width);
    __syncthreads();
    int size = height * width * channels;
    const Pixel* image = images + (long long)sample * size;
    for (int i = threadIdx.x; i < size; i += blockDim.x) {
        int r = i / (width * channels), c = i / channels % width, k = i % channels;
        double row = way.row[0] + way.row[1] * r + way.row[2] * c;
        double column = way.column[0] + way.column[1] * r + way.column[2] * c;
        float value = fill;
        if (row > -1 && row < height && column > -1 && column < width) {
            int top = (int)floor(row), left = (int)floor(column);
            float corner[2][2], down = (float)(row - top), right = (float)(column - left);
            for (int u = 0; u < 2; ++u)
                for (int v = 0; v < 2; ++v) {
                    bool inside = top + u >= 0 && top + u < height && left + v >= 0 && left + v < width;
                    corner[u][v] = inside ? seen(image[((top + u) * width + left + v) * channels + k]) : fill;
                }
            value = (corner[0][0] * (1 - right) + corner[0][1] * right) * (1 - down) +
                    (corner[1][0] * (1 - right) + corner[1][1] * right) * down;
        }
        out[(long long)blockIdx.x * size + i] = value;
    }
}
