/* elementary.h - eight doubles at a time, whatever the instruction set: exponential, logarithm and the bend
 * of a bowl.
 *
 *   exp_of(x)   Taylor polynomial of degree 13 on |r| <= ln(2)/2 (remainder 4e-18), x = n ln 2 + r with ln 2
 *               in two parts; |x| > 700 counts as 700, so that nothing overflows; NaN stays NaN
 *   log_of(x)   n ln 2 + 2 artanh(s), its series to s^21, |s| <= 0.1716 (remainder 3e-18); x normal and
 *               positive; NaN for NaN, 0 and negative x
 *   log1p_of(x) log(u) + (x - (u - 1))/u with u = 1 + x rounded; 0 <= x <= 1e15; also 1/(1 + x)
 *   phi_of(z)   2 (e^z - z - 1)/z^2 and its derivative: the series sum of 2 z^k/(k+2)! where the closed form
 *               cancels, |z| < 0.5 (remainder 2e-17)
 *
 * Relative errors, in units of 2^-53 against long double (tests/sim/test_law_elementary.c): exp 2.5, log 4,
 * log1p 5, phi 24 and its derivative 423, both at z = -1/2.  The compiler's generic vectors
 * of 64 bytes become one, two or four registers (clones.h makes a loop for each); there are no branches and
 * nothing is fused, so every instruction set gives the same bits.
 */
#ifndef FPL_LAW_ELEMENTARY_H
#define FPL_LAW_ELEMENTARY_H

#include <math.h>
#include <stdint.h>

enum { FPL_LANES = 8 };

/* Every function that takes lanes is inlined, so that how a level without AVX-512 would pass them does not
 * matter (-Wno-psabi). */
#define FPL_LANES_TYPE vector_size(8 * FPL_LANES), aligned(8 * FPL_LANES)
typedef double lanes __attribute__((FPL_LANES_TYPE, may_alias));
typedef int64_t lane_mask __attribute__((FPL_LANES_TYPE)); /* a comparison: all ones or 0 */
typedef uint64_t lane_bits __attribute__((FPL_LANES_TYPE));

#define FPL_INLINE static inline __attribute__((always_inline))
#define FPL_SHIFTER 0x1.8p52 /* adding it rounds to an integer, which is then in the low bits */

FPL_INLINE lanes all_of(double x) { return (lanes){x, x, x, x, x, x, x, x}; }
FPL_INLINE lanes lanes_if(lane_mask mask, lanes yes, lanes no) {
    return (lanes)(((lane_mask)yes & mask) | ((lane_mask)no & ~mask));
}
FPL_INLINE lanes max_of(lanes a, lanes b) { return lanes_if(a > b, a, b); }
FPL_INLINE lanes abs_of(lanes x) { return (lanes)((lane_bits)x & 0x7fffffffffffffffu); }
/* In order. */
FPL_INLINE double sum_of(lanes x) {
    double sum = x[0];
    for (int i = 1; i < FPL_LANES; i++) sum += x[i];
    return sum;
}

/* Polynomials by Estrin's scheme: fewer steps wait for each other. */
FPL_INLINE lanes exp_of(lanes x) {
    x = lanes_if(x < -700.0, all_of(-700.0), lanes_if(x > 700.0, all_of(700.0), x));
    const lanes shifted = x * 0x1.71547652b82fep0 + FPL_SHIFTER, n = shifted - FPL_SHIFTER;
    const lanes r = (x - n * 0x1.62e42fefa3800p-1) - n * 0x1.ef35793c76730p-45, r2 = r * r, r4 = r2 * r2;
    const lanes low = (0.5 + r * (1.0 / 6)) + r2 * (1.0 / 24 + r * (1.0 / 120)),
                middle = (1.0 / 720 + r * (1.0 / 5040)) + r2 * (1.0 / 40320 + r * (1.0 / 362880)),
                high =
                    (1.0 / 3628800 + r * (1.0 / 39916800)) + r2 * (1.0 / 479001600 + r * (1.0 / 6227020800));
    const lanes p = 1.0 + (r + r2 * (low + r4 * (middle + r4 * high)));
    return (lanes)((lane_bits)p + ((lane_bits)shifted << 52));
}

FPL_INLINE lanes log_of(lanes x) {
    /* k: exponent that leaves a mantissa in [sqrt(1/2), sqrt(2)), plus 1023 */
    const lane_bits bits = (lane_bits)x, k = (bits - (0x3fe6a09e667f3bcdu - ((uint64_t)1023 << 52))) >> 52;
    const lanes m = (lanes)(bits - ((k - 1023) << 52)),
                n = (lanes)(k | 0x4330000000000000u) - (0x1p52 + 1023.0);
    const lanes f = m - 1.0, s = f / (2.0 + f), z = s * s, z2 = z * z, z4 = z2 * z2;
    const lanes low = (1.0 / 3 + z * (1.0 / 5)) + z2 * (1.0 / 7 + z * (1.0 / 9)),
                middle = (1.0 / 11 + z * (1.0 / 13)) + z2 * (1.0 / 15 + z * (1.0 / 17)),
                high = 1.0 / 19 + z * (1.0 / 21);
    const lanes p = low + z4 * (middle + z4 * high);
    const lanes log = n * 0x1.62e42fefa3800p-1 + (2.0 * s + (2.0 * s * z * p + n * 0x1.ef35793c76730p-45));
    return lanes_if(x > 0.0, log, all_of((double)NAN));
}

FPL_INLINE lanes log1p_of(lanes x, lanes *by) {
    const lanes u = 1.0 + x;
    *by = 1.0 / u;
    return log_of(u) + (x - (u - 1.0)) * *by;
}

FPL_INLINE lanes phi_of(lanes z, lanes *slope) {
    /* 2/(k+2)!, k = 13 down to 0 */
    static const double c[] = {2.0 / 1307674368000,
                               2.0 / 87178291200,
                               2.0 / 6227020800,
                               2.0 / 479001600,
                               2.0 / 39916800,
                               2.0 / 3628800,
                               2.0 / 362880,
                               2.0 / 40320,
                               2.0 / 5040,
                               2.0 / 720,
                               2.0 / 120,
                               2.0 / 24,
                               2.0 / 6,
                               1.0};
    lanes near = all_of(c[0]), near_slope = all_of(0.0);
    for (int k = 1; k < 14; k++) {
        near_slope = near_slope * z + near;
        near = near * z + c[k];
    }
    const lanes by = 1.0 / z, far = 2.0 * (exp_of(z) - z - 1.0) * by * by;
    /* z phi' = 2 (e^z - 1)/z - 2 phi and (e^z - 1)/z = 1 + z phi/2 */
    const lanes far_slope = (2.0 + z * far - 2.0 * far) * by;
    const lane_mask series = abs_of(z) < 0.5;
    *slope = lanes_if(series, near_slope, far_slope);
    return lanes_if(series, near, far);
}

#endif
