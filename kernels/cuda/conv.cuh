// How a convolution lies on its arrays: what the files conv.cu, conv_weight.cu and im2col.cu share.
//
// Every image has three axes here, depth, height and width; of images with fewer, the first are 1 long.
struct Geometry {  // conv.py fills it in, in this order
    int images, groups, channels, filters;  // channels and filters of one group
    int size[3], out[3];                    // of x, and of y before it is pooled
    int kernel[3], stride[3], before[3], dilation[3];
};

// A place on a stack of images.
struct Place {
    int image, d, h, w;
};

// The place that has number ``index`` when all places are counted, row by row and image by image.
__device__ __forceinline__ Place place_of(int index, int depth, int height, int width) {
    Place place;
    place.w = index % width, index /= width;
    place.h = index % height, index /= height;
    place.d = index % depth, place.image = index / depth;
    return place;
}

// Go ``by`` further, like the wheels of an odometer: this needs no division.
__device__ __forceinline__ void advance(Place& place, const Place& by, int depth, int height, int width) {
    place.w += by.w;
    int carry = place.w >= width;
    place.w -= carry ? width : 0;
    place.h += by.h + carry;
    carry = place.h >= height;
    place.h -= carry ? height : 0;
    place.d += by.d + carry;
    carry = place.d >= depth;
    place.d -= carry ? depth : 0;
    place.image += by.image + carry;
}

// Is 0 <= i < size? One comparison, because a negative number read as unsigned is huge.
__device__ __forceinline__ bool inside(int i, int size) { return (unsigned)i < (unsigned)size; }

// N neighbours in one read: 16 bytes are the most that a thread can ask for at once.
template <int N>
__device__ __forceinline__ void read(const float* __restrict__ from, float (&to)[N]) {
    if constexpr (N == 4) {
        const float4 four = *reinterpret_cast<const float4*>(from);
        to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
    } else {
        to[0] = *from;
    }
}
template <int N>
__device__ __forceinline__ void read(const unsigned char* __restrict__ from, unsigned char (&to)[N]) {
    if constexpr (N == 4) {
        const uchar4 four = *reinterpret_cast<const uchar4*>(from);
        to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
    } else {
        to[0] = *from;
    }
}

// --- the gradient of what a convolution gave, before ReLU and pool: made while it is read, stored nowhere ---

#ifndef MASK
#define MASK 0  // what came after the convolution: 0 nothing, 1 a ReLU, 2 a pool of 2 x 2 (or ReLU and pool)
#endif

struct Gradient {
    const float* values;         // of what the block returned
    const float* y;              // MASK 1: what the block returned
    const unsigned char* where;  // MASK 2: the place, 0 to 3, that each value came from; 4 for none
};

// N channels of it, which stand at ``index`` in the block's result; with a pool, those at ``place`` there.
template <int N>
__device__ __forceinline__ void read(const Gradient& gradient, long long index, int place, float (&to)[N]) {
    read<N>(gradient.values + index, to);
#if MASK == 1
    float y[N];
    read<N>(gradient.y + index, y);
#pragma unroll
    for (int i = 0; i < N; ++i) to[i] = y[i] > 0.0f ? to[i] : 0.0f;
#elif MASK == 2
    unsigned char where[N];
    read<N>(gradient.where + index, where);
#pragma unroll
    for (int i = 0; i < N; ++i) to[i] = where[i] == place ? to[i] : 0.0f;
#endif
}
