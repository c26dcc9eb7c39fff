// CUDA's words in plain C++, so that g++ compiles a .cu file and its kernels run on the CPU with real
// numbers.
//
// fibers.h plays the threads and their barriers, launch.h the blocks and the launch. Here are the names that
// a kernel may use; what is missing is added when a kernel needs it. Not to be seen this way: speed, bank
// conflicts, memory ordering, threads of two blocks at the same time.
#pragma once

#include <math.h>
#include <stdint.h>

#include "launch.h"

// --- keywords ---

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __constant__ static
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
// One copy for all threads, in a section that launch.h fills with NaN before every block.
#define __shared__ static __attribute__((section("shared_memory")))
#define DYN_SHARED(type, name) type* name = reinterpret_cast<type*>(shim::dynamic_shared)

// --- vectors. A card refuses a float4 whose address is no multiple of 16; so does the sanitizer ---

#ifdef __SANITIZE_ADDRESS__
#define SHIM_ALIGN(bytes) __attribute__((aligned(bytes)))
#else
#define SHIM_ALIGN(bytes)
#endif

#define SHIM_VECTORS(type, name)                                                                     \
    struct SHIM_ALIGN(2 * sizeof(type)) name##2 { type x, y; };                                      \
    struct name##3 { type x, y, z; };                                                                \
    struct SHIM_ALIGN(4 * sizeof(type)) name##4 { type x, y, z, w; };                                \
    static inline name##2 make_##name##2(type x, type y) { return {x, y}; }                          \
    static inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }               \
    static inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }

struct SHIM_ALIGN(8) uint2 { unsigned x, y; };
struct SHIM_ALIGN(16) uint4 { unsigned x, y, z, w; };
SHIM_VECTORS(float, float)
SHIM_VECTORS(int, int)
SHIM_VECTORS(unsigned char, uchar)
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

// --- the same bits, read as another type ---

template <typename To, typename From>
static inline To shim_bits(From value) {
    static_assert(sizeof(To) == sizeof(From));
    To result;
    memcpy(&result, &value, sizeof result);
    return result;
}
static inline int __float_as_int(float x) { return shim_bits<int>(x); }
static inline unsigned __float_as_uint(float x) { return shim_bits<unsigned>(x); }
static inline float __int_as_float(int x) { return shim_bits<float>(x); }
static inline float __uint_as_float(unsigned x) { return shim_bits<float>(x); }
static inline double __longlong_as_double(long long x) { return shim_bits<double>(x); }
static inline long long __double_as_longlong(double x) { return shim_bits<long long>(x); }

// --- arithmetic. Of NaN and a number, fminf and fmaxf take the number, here as there ---

#define SHIM_MIN_MAX(type)                                                  \
    static inline type min(type a, type b) { return b < a ? b : a; }        \
    static inline type max(type a, type b) { return a < b ? b : a; }
SHIM_MIN_MAX(int)
SHIM_MIN_MAX(unsigned)
SHIM_MIN_MAX(long long)
SHIM_MIN_MAX(unsigned long long)
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }

// Macros, because the C library has these names for itself.
#define __expf expf
#define __logf logf
#define __powf powf
#define __sinf sinf
#define __cosf cosf
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __saturatef(float x) { return fminf(fmaxf(x, 0.0f), 1.0f); }
// The compiler may not fuse these two into one multiply-add.
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __int2float_rn(int x) { return (float)x; }
static inline float __uint2float_rn(unsigned x) { return (float)x; }
static inline int __float2int_rn(float x) { return (int)rintf(x); }
static inline int __mulhi(int a, int b) { return (int)((long long)a * b >> 32); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz((unsigned)x); }

// --- memory. Fibers switch only at barriers, so that reading and writing is atomic by itself ---

template <typename T>
static inline T __ldg(const T* address) {
    return *address;
}
static inline void __threadfence() {}
static inline void __threadfence_block() {}

template <typename T>
static inline T shim_exchange(T* address, T value) {
    const T before = *address;
    *address = value;
    return before;
}
template <typename T>
static inline T atomicAdd(T* address, T value) { return shim_exchange(address, (T)(*address + value)); }
template <typename T>
static inline T atomicMax(T* address, T value) { return shim_exchange(address, max(*address, value)); }
template <typename T>
static inline T atomicMin(T* address, T value) { return shim_exchange(address, min(*address, value)); }
template <typename T>
static inline T atomicOr(T* address, T value) { return shim_exchange(address, (T)(*address | value)); }
template <typename T>
static inline T atomicExch(T* address, T value) { return shim_exchange(address, value); }
template <typename T>
static inline T atomicCAS(T* address, T expected, T value) {
    return shim_exchange(address, *address == expected ? value : *address);
}

// --- barriers and exchange within a warp. A barrier is known by the line in which it stands ---

static inline void __syncthreads(int line = __builtin_LINE()) { shim::block_barrier(line); }

static inline void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE()) {
    shim::exchange({}, mask, line);
}

static inline int shim_lane() { return (int)((shim::current - shim::fibers) % warpSize); }

// All lanes show their value; this one takes what lane ``source`` showed.
template <typename T>
static inline T shim_take(unsigned mask, T value, int source, int line) {
    shim::Words words = {};
    static_assert(sizeof(T) <= sizeof words);
    memcpy(&words, &value, sizeof value);
    memcpy(&value, &shim::exchange(words, mask, line)[source], sizeof value);
    return value;
}

// ``width`` cuts the warp in groups of so many lanes. Whoever would look outside his group gets his own
// value.
template <typename T>
static inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32, int line = __builtin_LINE()) {
    const int first = shim_lane() / width * width;
    return shim_take(mask, value, first + (lane & (width - 1)), line);
}
template <typename T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32,
                               int line = __builtin_LINE()) {
    const int lane = shim_lane(), first = lane / width * width, source = lane - (int)by;
    return shim_take(mask, value, source < first ? lane : source, line);
}
template <typename T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32,
                                 int line = __builtin_LINE()) {
    const int lane = shim_lane(), end = lane / width * width + width, source = lane + (int)by;
    return shim_take(mask, value, source >= end ? lane : source, line);
}
template <typename T>
static inline T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32,
                                int line = __builtin_LINE()) {
    const int lane = shim_lane(), end = lane / width * width + width, source = lane ^ with;
    return shim_take(mask, value, source >= end ? lane : source, line);
}

// One bit for every lane of the mask: is its predicate true? Lanes that have returned count as false.
static inline unsigned __ballot_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    const shim::Words* shown = shim::exchange({{predicate != 0}}, mask, line);
    unsigned ballot = 0;
    for (int lane = 0; lane < warpSize; ++lane)
        if ((mask >> lane & 1) && shown[lane].bits[0] == 1) ballot |= 1u << lane;
    return ballot;
}
static inline int __any_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return __ballot_sync(mask, predicate, line) != 0;
}
static inline int __all_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return __ballot_sync(mask, !predicate, line) == 0;
}

// --- tensor cores: 32 lanes multiply two small matrices together ---

// Round to TF32, a float with 10 bits of mantissa (PTX: cvt.rna.tf32.f32, ties away from zero).
static inline unsigned to_tf32(float value) {
    return isnan(value) ? 0x7fffffffu : (__float_as_uint(value) + 0x1000u) & 0xffffe000u;
}

// d (16, 8) += a (16, 8) @ b (8, 8), spread over the warp as PTX says of mma.m16n8k8 for .tf32: with
// g = lane / 4 and t = lane % 4, this lane holds
//   a[0] (row g, column t)   a[1] (g + 8, t)       a[2] (g, t + 4)   a[3] (g + 8, t + 4)
//   b[0] (row t, column g)   b[1] (t + 4, g)
//   d[0] (row g, column 2t)  d[1] (g, 2t + 1)      d[2] (g + 8, 2t)  d[3] (g + 8, 2t + 1)
// The lower 13 bits of a and b are not looked at, so who forgets to_tf32 gets a worse result.
static inline void mma_tf32(float d[4], const unsigned a[4], const unsigned b[2],
                            int line = __builtin_LINE()) {
    const shim::Words* shown = shim::exchange({{a[0], a[1], a[2], a[3], b[0], b[1]}}, 0xffffffffu, line);
    const auto operand = [=](int lane, int word) {
        return (double)__uint_as_float(shown[lane].bits[word] & 0xffffe000u);
    };
    const int group = shim_lane() / 4, thread = shim_lane() % 4;
    for (int i = 0; i < 4; ++i) {
        const int lower = i / 2, column = 2 * thread + i % 2;
        double sum = d[i];
        for (int k = 0; k < 8; ++k)
            sum += operand(4 * group + k % 4, lower + 2 * (k / 4)) * operand(4 * column + k % 4, 4 + k / 4);
        d[i] = (float)sum;
    }
}
