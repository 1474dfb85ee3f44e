/* scalar_math.h - exp of a float and log of a double, to the bounds of the CPU backend.
 *
 * The same reductions and polynomials as kernels/cpu/vec/vexp.h, one value at a time and with
 * explicit fused multiply-adds, so that the results are those of the CPU backend to the bit and
 * do not change with a toolkit's library.
 *   fpl_exp   at most 0.92 ulp; gradual underflow; +infinity above log FLT_MAX; NaN gives NaN
 *   fpl_log   absolute error at most 2.3e-16 max(1, |log x|) for normal positive x; infinity and
 *             NaN give NaN
 */
#ifndef FPL_CUDA_SCALAR_MATH_H
#define FPL_CUDA_SCALAR_MATH_H

#include "launch.h"

#include "../../formats/round.h"

__device__ static inline float fpl_exp(float x) {
    const float shift = 0x1.8p23f; /* adding it rounds to an integer, to nearest even */
    x = x > -105.0f ? x : (x == x ? -105.0f : x);
    x = x < 89.0f ? x : (x == x ? 89.0f : x);
    const float t = fmaf(x, 0x1.715476p0f, shift), k = t - shift;
    float r = fmaf(k, -0x1.62e4p-1f, x);
    r = fmaf(k, -0x1.7f7d1cp-20f, r);
    float q = fmaf(0x1.6a244cp-10f, r, 0x1.1239d4p-7f);
    q = fmaf(q, r, 0x1.5558f2p-5f);
    q = fmaf(q, r, 0x1.555492p-3f);
    q = fmaf(q, r, 0x1.fffffcp-2f);
    q = fmaf(q, r, 1.0f);
    const float p = fmaf(q, r, 1.0f);
    if (x != x) return x;
    /* Two factors, each a normal number: the first product is exact, the second rounds once. */
    const int n = (int)(fpl_float_bits(t) - fpl_float_bits(shift)), half = n >> 1;
    return p * fpl_bits_float((uint32_t)(half + 127) << 23) *
           fpl_bits_float((uint32_t)(n - half + 127) << 23);
}

__device__ static inline double fpl_log(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    /* Subtracting the bits of sqrt(1/2) carries into the exponent exactly when m >= sqrt(1/2). */
    const uint64_t shifted = bits - 0x3fe6a09e667f3bcdu;
    const uint64_t m_bits = bits - (shifted & 0xfff0000000000000u);
    double m;
    memcpy(&m, &m_bits, sizeof m);
    const double e = (double)((int64_t)shifted >> 52);
    const double s = (m - 1.0) / (m + 1.0), z = s * s, w = z * z;
    const double odd = z * (1.0 / 23.0) + 1.0 / 21.0;
    double p = odd * w + (z * (1.0 / 19.0) + 1.0 / 17.0);
    p = p * w + (z * (1.0 / 15.0) + 1.0 / 13.0);
    p = p * w + (z * (1.0 / 11.0) + 1.0 / 9.0);
    p = p * w + (z * (1.0 / 7.0) + 1.0 / 5.0);
    p = p * w + z * (1.0 / 3.0);
    const double tail = e * 0x1.ef35793c7673p-45 + 2.0 * s * p;
    return (e * 0x1.62e42fefa38p-1 + (2.0 * s + tail)) + (x - x);
}

#endif
