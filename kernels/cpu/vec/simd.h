/* simd.h - sixteen float32 lanes, whatever the instruction set.
 *
 * Files in kernels/cpu/vec are compiled once per level (baseline, avx2, avx512) with
 * FPL_LEVEL set.  They are written with the compiler's generic vectors of 64 bytes, which
 * become one, two or four registers; the lane count never changes, so every sum over lanes
 * has the same order, and the three builds give the same bits.  Multiply-add is fused only
 * where it is written as vfma().
 *
 * FPL_VEC(name) is the level's symbol: fpl_name_avx512.
 */
#ifndef FPL_SIMD_H
#define FPL_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef FPL_X86
#include <immintrin.h>
#endif

#define FPL_CAT3(a, b, c) a##b##_##c
#define FPL_CAT2(a, b, c) FPL_CAT3(a, b, c)
#define FPL_VEC(name) FPL_CAT2(fpl_, name, FPL_LEVEL)

#define LANES 16

/* Levels without AVX-512 pass 64-byte vectors in memory; every function that takes one is
 * inlined, so the calling convention that gcc warns about is never used. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

typedef float vf __attribute__((vector_size(64), aligned(64)));
typedef int32_t vi __attribute__((vector_size(64), aligned(64)));
typedef uint32_t vu __attribute__((vector_size(64), aligned(64)));
typedef float vf_unaligned __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t vu_unaligned __attribute__((vector_size(64), aligned(4), may_alias));

#define VINLINE static inline __attribute__((always_inline))

VINLINE vf vload(const float *p) { return (vf) * (const vf_unaligned *)p; }
VINLINE void vstore(float *p, vf x) { *(vf_unaligned *)p = x; }
VINLINE vf vset(float x) { return (vf){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
VINLINE vu vsetu(uint32_t x) { return (vu){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
VINLINE vu vbits(vf x) { return (vu)x; }
VINLINE vf vfrom_bits(vu x) { return (vf)x; }

/* The first n lanes (n in 0..16) from memory, zeros beyond; reads no further than n. */
VINLINE vf vload_n(const float *p, int64_t n) {
#ifdef FPL_LEVEL_avx512
    return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1u), p);
#else
    vf x = vset(0.0f);
    memcpy(&x, p, (size_t)n * sizeof(float));
    return x;
#endif
}

VINLINE void vstore_n(float *p, vf x, int64_t n) {
#ifdef FPL_LEVEL_avx512
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1u), (__m512)x);
#else
    memcpy(p, &x, (size_t)n * sizeof(float));
#endif
}

/* fused a * b + c, one rounding */
VINLINE vf vfma(vf a, vf b, vf c) {
#if defined(FPL_LEVEL_avx512)
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(FPL_LEVEL_avx2)
    union { vf v; __m256 h[2]; } ua = {a}, ub = {b}, uc = {c};
    uc.h[0] = _mm256_fmadd_ps(ua.h[0], ub.h[0], uc.h[0]);
    uc.h[1] = _mm256_fmadd_ps(ua.h[1], ub.h[1], uc.h[1]);
    return uc.v;
#else
    vf r;
    for (int i = 0; i < LANES; i++) r[i] = fmaf(a[i], b[i], c[i]);
    return r;
#endif
}

/* lane-wise mask ? a : b, the mask's lanes all ones or all zeros (result of a comparison) */
VINLINE vf vselect(vi mask, vf a, vf b) { return (vf)(((vi)a & mask) | ((vi)b & ~mask)); }
VINLINE vu vselectu(vi mask, vu a, vu b) { return (vu)(((vi)a & mask) | ((vi)b & ~mask)); }
VINLINE vf vmax(vf a, vf b) { return vselect(a > b, a, b); }
VINLINE vf vmin(vf a, vf b) { return vselect(a < b, a, b); }
VINLINE vf vabs(vf x) { return (vf)((vu)x & vsetu(0x7fffffffu)); }

VINLINE vf vsqrt(vf x) {
#if defined(FPL_LEVEL_avx512)
    return (vf)_mm512_sqrt_ps((__m512)x);
#else
    vf r;
    for (int i = 0; i < LANES; i++) r[i] = __builtin_sqrtf(x[i]);
    return r;
#endif
}

/* Sum of the lanes in a fixed tree: i + (i+8), then +4, +2, +1. */
VINLINE float vsum(vf x) {
    float a[8], b[4];
    for (int i = 0; i < 8; i++) a[i] = x[i] + x[i + 8];
    for (int i = 0; i < 4; i++) b[i] = a[i] + a[i + 4];
    return (b[0] + b[2]) + (b[1] + b[3]);
}

VINLINE uint32_t vmaxu_lanes(vu x) {
#if defined(FPL_LEVEL_avx512)
    return _mm512_reduce_max_epu32((__m512i)x);
#else
    uint32_t m = 0;
    for (int i = 0; i < LANES; i++) m = x[i] > m ? x[i] : m;
    return m;
#endif
}

#endif
