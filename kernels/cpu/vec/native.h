/* native.h - vectors of the register's own width: 16, 8 or 4 float32 lanes.
 *
 * simd.h fixes the lane count at sixteen, because sums over lanes depend on it.  The product
 * and the quantizer have no such sums: a product element is one chain of its own, and
 * maxima, comparisons and roundings are exact in any order.  So they use whatever one
 * register holds, and sixteen accumulators on AVX2 are sixteen registers, not thirty-two
 * halves in memory.
 *
 *   nf, nu   NL lanes of float32, of uint32
 *   nmask    one truth value per lane (a mask register, or lanes of all ones or zeros)
 */
#ifndef FPL_VEC_NATIVE_H
#define FPL_VEC_NATIVE_H

#include "simd.h"

#if defined(FPL_LEVEL_avx512)
#define NL 16
#elif defined(FPL_LEVEL_avx2)
#define NL 8
#else
#define NL 4
#endif

typedef float nf __attribute__((vector_size(4 * NL)));
typedef int32_t ni __attribute__((vector_size(4 * NL)));
typedef uint32_t nu __attribute__((vector_size(4 * NL)));
typedef float nf_unaligned __attribute__((vector_size(4 * NL), aligned(4), may_alias));

#define FPL_PRAGMA(x) _Pragma(#x)
#ifdef __clang__
#define UNROLL(n) FPL_PRAGMA(clang loop unroll(full)) /* plain `unroll` keeps tiles in memory */
#else
#define UNROLL(n) FPL_PRAGMA(GCC unroll n)
#endif

VINLINE nf nload(const float *p) { return (nf) * (const nf_unaligned *)p; }
VINLINE void nstore(float *p, nf x) { *(nf_unaligned *)p = x; }

VINLINE nu nsetu(uint32_t x) { return (nu){0} + x; }

VINLINE nf nset(float x) {
#if defined(FPL_LEVEL_avx512)
    return (nf)_mm512_set1_ps(x);
#elif defined(FPL_LEVEL_avx2)
    return (nf)_mm256_set1_ps(x);
#else
    return (nf){x, x, x, x};
#endif
}

/* fused a * b + c, one rounding */
VINLINE nf nfma(nf a, nf b, nf c) {
#if defined(FPL_LEVEL_avx512)
    return (nf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(FPL_LEVEL_avx2)
    return (nf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    nf r;
    for (int i = 0; i < NL; i++) r[i] = fmaf(a[i], b[i], c[i]);
    return r;
#endif
}

/* The first n lanes (n <= 0: none, n >= NL: all) from memory, zeros beyond. */
VINLINE nf nload_n(const float *p, int64_t n) {
    if (n >= NL) return nload(p);
#if defined(FPL_LEVEL_avx512)
    return (nf)_mm512_maskz_loadu_ps((__mmask16)(n <= 0 ? 0 : (1u << n) - 1u), p);
#else
    nf x = nset(0.0f);
    if (n > 0) memcpy(&x, p, (size_t)n * sizeof(float));
    return x;
#endif
}

VINLINE void nstore_n(float *p, nf x, int64_t n) {
    if (n >= NL) {
        nstore(p, x);
        return;
    }
#if defined(FPL_LEVEL_avx512)
    _mm512_mask_storeu_ps(p, (__mmask16)(n <= 0 ? 0 : (1u << n) - 1u), (__m512)x);
#else
    if (n > 0) memcpy(p, &x, (size_t)n * sizeof(float));
#endif
}

/* ---- truth values: comparisons, choice --------------------------------------------------- */

#if defined(FPL_LEVEL_avx512)
typedef __mmask16 nmask;
VINLINE nmask nless(nf a, nf b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ); }
VINLINE nmask nmore(nf a, nf b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ); }
VINLINE nmask nequal_u(nu a, nu b) { return _mm512_cmpeq_epi32_mask((__m512i)a, (__m512i)b); }
VINLINE nmask nmore_i(nu a, nu b) { return _mm512_cmpgt_epi32_mask((__m512i)a, (__m512i)b); }
VINLINE nmask nmore_u(nu a, nu b) { return _mm512_cmpgt_epu32_mask((__m512i)a, (__m512i)b); }
VINLINE nu nselect(nmask m, nu a, nu b) { return (nu)_mm512_mask_blend_epi32(m, (__m512i)b, (__m512i)a); }
VINLINE uint32_t nlanes(nmask m) { return m; }
#else
typedef ni nmask;
VINLINE nmask nless(nf a, nf b) { return a < b; }
VINLINE nmask nmore(nf a, nf b) { return a > b; }
VINLINE nmask nequal_u(nu a, nu b) { return a == b; }
VINLINE nmask nmore_i(nu a, nu b) { return (ni)a > (ni)b; }
VINLINE nmask nmore_u(nu a, nu b) { return a > b; }
VINLINE nu nselect(nmask m, nu a, nu b) { return (a & (nu)m) | (b & ~(nu)m); }
/* One bit per lane. */
VINLINE uint32_t nlanes(nmask m) {
#if defined(FPL_LEVEL_avx2)
    return (uint32_t)_mm256_movemask_ps((__m256)m);
#elif defined(FPL_X86)
    return (uint32_t)_mm_movemask_ps((__m128)m);
#else
    uint32_t bits = 0;
    for (int i = 0; i < NL; i++) bits |= (m[i] != 0 ? 1u : 0u) << i;
    return bits;
#endif
}
#endif

/* Lanes that differ, or are NaN. */
VINLINE nmask ndifferent(nf a, nf b) {
#if defined(FPL_LEVEL_avx512)
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_NEQ_UQ);
#else
    return a != b;
#endif
}

/* Whether any lane of two masks is set. */
VINLINE int nany(nmask a, nmask b) {
#if defined(FPL_LEVEL_avx512)
    return !_kortestz_mask16_u8(a, b);
#else
    return nlanes(a | b) != 0;
#endif
}

/* magnitude, with the sign bit of `sign` set where it is set */
VINLINE nf nsigned(nf magnitude, nf sign) {
#if defined(FPL_LEVEL_avx512)
    return (nf)_mm512_ternarylogic_epi32((__m512i)sign, _mm512_set1_epi32((int)0x80000000u),
                                         (__m512i)magnitude, 0xea);
#else
    return (nf)((nu)magnitude | ((nu)sign & 0x80000000u));
#endif
}

VINLINE nf nselect_f(nmask m, nf a, nf b) { return (nf)nselect(m, (nu)a, (nu)b); }

/* min and max of signed integers (magnitude bits are never negative), min of floats: the
 * second operand where one is NaN */
VINLINE nu nmax_i(nu a, nu b) {
#if defined(FPL_LEVEL_avx512)
    return (nu)_mm512_max_epi32((__m512i)a, (__m512i)b);
#elif defined(FPL_LEVEL_avx2)
    return (nu)_mm256_max_epi32((__m256i)a, (__m256i)b);
#else
    return nselect(nmore_i(a, b), a, b);
#endif
}

VINLINE nf nmin(nf a, nf b) {
#if defined(FPL_LEVEL_avx512)
    return (nf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(FPL_LEVEL_avx2)
    return (nf)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return nselect_f(nless(a, b), a, b);
#endif
}

/* x within +-limit */
VINLINE nf nwithin(nf x, nf limit) {
#if defined(FPL_LEVEL_avx512)
    return (nf)_mm512_range_ps((__m512)x, (__m512)limit, 2); /* the smaller magnitude, x's sign */
#else
    return (nf)((nu)nmin((nf)((nu)x & 0x7fffffffu), limit) | ((nu)x & 0x80000000u));
#endif
}

VINLINE nf nclamp(nf x, float limit) { return nwithin(x, nset(limit)); }

/* toward zero; |x| < 2^31 */
VINLINE nu nto_int(nf x) { return (nu) __builtin_convertvector(x, ni); }
VINLINE nf nto_float(nu x) { return __builtin_convertvector((ni)x, nf); }

/* The largest lane, as signed integers. */
VINLINE uint32_t nlargest(nu x) {
#if defined(FPL_LEVEL_avx512)
    return (uint32_t)_mm512_reduce_max_epi32((__m512i)x);
#elif defined(FPL_LEVEL_avx2)
    __m128i h = _mm_max_epi32(_mm256_castsi256_si128((__m256i)x), _mm256_extracti128_si256((__m256i)x, 1));
    h = _mm_max_epi32(h, _mm_shuffle_epi32(h, 0x4e));
    h = _mm_max_epi32(h, _mm_shuffle_epi32(h, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(h);
#else
    uint32_t m = 0;
    for (int i = 0; i < NL; i++) m = x[i] > m ? x[i] : m;
    return m;
#endif
}

/* ---- 64-bit lanes -------------------------------------------------------------------------- */

typedef uint64_t nq __attribute__((vector_size(4 * NL)));

VINLINE nq nsetq(uint64_t x) { return (nq){0} + x; }

/* Products of the low halves of the lanes. */
VINLINE nq nmul_low(nq a, nq b) {
#if defined(FPL_LEVEL_avx512)
    return (nq)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif defined(FPL_LEVEL_avx2)
    return (nq)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(FPL_X86)
    return (nq)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
    return (a & 0xffffffffu) * (b & 0xffffffffu);
#endif
}

#endif
