// Tensor cores: the 32 lanes of a warp multiply two small matrices together.
#pragma once

// An NVIDIA card from compute capability 8.0 on has them for TF32, a float with 10 bits of mantissa instead of
// 23. (In the tests these two functions come from shim.h, in plain C++.)
#ifndef TINYNET_SHIM

// Round to TF32. It stays a float whose lower 13 bits are zero; the tensor cores would cut them off otherwise.
__device__ __forceinline__ unsigned to_tf32(float value) {
#if __CUDA_ARCH__ >= 800
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
    return bits;
#else
    return __float_as_uint(value);
#endif
}

// d (16, 8) += a (16, 8) @ b (8, 8) with factors in TF32 and sums in float32. The matrices are spread over the
// warp: with g = lane / 4 and t = lane % 4, this lane holds
//   a[0] (row g, column t)   a[1] (g + 8, t)       a[2] (g, t + 4)   a[3] (g + 8, t + 4)
//   b[0] (row t, column g)   b[1] (t + 4, g)
//   d[0] (row g, column 2t)  d[1] (g, 2t + 1)      d[2] (g + 8, 2t)  d[3] (g + 8, 2t + 1)
__device__ __forceinline__ void mma_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    __trap();  // an older card has no such instruction: the wrapper chooses another kernel
#endif
}

#endif
