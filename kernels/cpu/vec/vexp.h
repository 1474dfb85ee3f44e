/* vexp.h - the exponential of native vectors of float, the logarithm of eight doubles.
 *
 * nexp: Cody and Waite's reduction, x = k ln 2 + r with |r| <= ln 2 / 2 and ln 2 split into
 * two floats, then exp r = 1 + r + r^2 q(r), q of degree 4 by Remez' exchange (relative error
 * 3.1e-9 in exact arithmetic), then the exact or once-rounded scaling by 2^k.
 *   error        at most VEXP_ULP ulp of the float result against the exact value, subnormal
 *                results included (tests/kernels/test_vexp.c)
 *   exact        exp(+-0) = 1
 *   overflow     +infinity for x >= 88.72284, the float above log FLT_MAX, and for +infinity
 *   underflow    gradual, to +0 for x <= -103.9721 and for -infinity
 *   NaN          gives NaN
 * It is monotone within its error bound only.
 *
 * vlog: x = 2^e m with m in [sqrt(1/2), sqrt(2)), s = (m - 1)/(m + 1), log m = 2 atanh s by its
 * Taylor series to s^23.  For normal positive x the absolute error is at most
 * VLOG_BOUND * max(1, |log x|); infinity and NaN give NaN.  Plain double operations without
 * fused multiply-add, one loss per row: every level computes the same bits.
 */
#ifndef FPL_VEC_VEXP_H
#define FPL_VEC_VEXP_H

#include "native.h"

#define VEXP_ULP 0.92
#define VLOG_BOUND 2.3e-16

VINLINE nf nsqrt(nf x) {
#if defined(FPL_LEVEL_avx512)
    return (nf)_mm512_sqrt_ps((__m512)x);
#elif defined(FPL_LEVEL_avx2)
    return (nf)_mm256_sqrt_ps((__m256)x);
#else
    nf r;
    for (int i = 0; i < NL; i++) r[i] = __builtin_sqrtf(x[i]);
    return r;
#endif
}

/* a > b ? a : b: the second where they are equal or one is NaN, as nmin() of native.h */
VINLINE nf nmax(nf a, nf b) {
#if defined(FPL_LEVEL_avx512)
    return (nf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(FPL_LEVEL_avx2)
    return (nf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return nselect_f(nmore(a, b), a, b);
#endif
}

/* exp of x in [-105, 89] or NaN */
VINLINE nf nexp_inside(nf x) {
    const nf shift = nset(0x1.8p23f); /* adding it rounds to an integer, to nearest even */
    nf t = nfma(x, nset(0x1.715476p0f), shift);
    nf k = t - shift;
    nf r = nfma(k, nset(-0x1.62e4p-1f), x); /* k * this is exact: 8 bits, 15 bits */
    r = nfma(k, nset(-0x1.7f7d1cp-20f), r);
    nf q = nfma(nset(0x1.6a244cp-10f), r, nset(0x1.1239d4p-7f));
    q = nfma(q, r, nset(0x1.5558f2p-5f));
    q = nfma(q, r, nset(0x1.555492p-3f));
    q = nfma(q, r, nset(0x1.fffffcp-2f));
    q = nfma(q, r, nset(1.0f));
    nf p = nfma(q, r, nset(1.0f));
#if defined(FPL_LEVEL_avx512)
    return (nf)_mm512_scalef_ps((__m512)p, (__m512)k);
#else
    /* Two factors, each a normal number: the first product is exact, the second rounds once. */
    ni n = (ni)((nu)t - (nu)shift), half = n >> 1;
    nf first = (nf)(((nu)half + 127u) << 23), second = (nf)(((nu)(n - half) + 127u) << 23);
    return p * first * second;
#endif
}

VINLINE nf nexp(nf x) { return nexp_inside(nmin(nset(89.0f), nmax(nset(-105.0f), x))); }

/* exp of x <= 89: softmax subtracts the row's maximum first */
VINLINE nf nexp_below(nf x) { return nexp_inside(nmax(nset(-105.0f), x)); }

typedef double vd __attribute__((vector_size(64), aligned(64)));
typedef int64_t vl __attribute__((vector_size(64), aligned(64)));
typedef double vd_unaligned __attribute__((vector_size(64), aligned(8), may_alias));

VINLINE vd vloadd(const double *p) { return (vd) * (const vd_unaligned *)p; }
VINLINE void vstored(double *p, vd x) { *(vd_unaligned *)p = x; }
VINLINE vd vlog(vd x) {
    /* Subtracting the bits of sqrt(1/2) carries into the exponent exactly when m >= sqrt(1/2). */
    const int64_t root_half = 0x3fe6a09e667f3bcd;
    vl bits = (vl)x - root_half;
    vl exponent = bits >> 52;
    vd m = (vd)((vl)x - (bits & (int64_t)0xfff0000000000000u));
    vd e = __builtin_convertvector(exponent, vd);
    vd s = (m - 1.0) / (m + 1.0), z = s * s, w = z * z;
    vd odd = z * (1.0 / 23.0) + 1.0 / 21.0;
    vd p = odd * w + (z * (1.0 / 19.0) + 1.0 / 17.0);
    p = p * w + (z * (1.0 / 15.0) + 1.0 / 13.0);
    p = p * w + (z * (1.0 / 11.0) + 1.0 / 9.0);
    p = p * w + (z * (1.0 / 7.0) + 1.0 / 5.0);
    p = p * w + z * (1.0 / 3.0);
    /* ln 2 in two parts, the first with 20 trailing zero bits, so that its product is exact. */
    vd tail = e * 0x1.ef35793c7673p-45 + 2.0 * s * p;
    return (e * 0x1.62e42fefa38p-1 + (2.0 * s + tail)) + (x - x);
}

/* The same functions over arrays (vexp.c): what this level's operations compute. */
void FPL_VEC(exp_array)(int64_t n, const float *x, float *out);
void FPL_VEC(log_array)(int64_t n, const double *x, double *out);

#endif
