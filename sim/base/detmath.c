/* detmath.c - see detmath.h.
 *
 * log: x = 2^e m with m in [sqrt(1/2), sqrt(2)); with f = (m - 1)/(m + 1), |f| < 0.1716,
 *   log m = 2 atanh f = 2f + 2f^3/3 + 2f^5/5 + ...; the series is cut after f^23, where
 *   the next term is below 2^-64 of the first.
 * exp: x = n log 2 + r with |r| <= log(2)/2 + tiny; e^r by Taylor's series to r^13, whose
 *   next term is below 2^-57; the scaling by 2^n is exact.
 * sin, cos: x = k pi/2 + r with |r| <= pi/4 + tiny; pi/2 in three parts of which the first two
 *   have 33 significant bits, so that k times them is exact (W. J. Cody and W. Waite, "Software
 *   manual for the elementary functions", 1980); Taylor's series to r^17 and r^18.
 * log 2 is split in a high part of 32 significant bits, so that n times it is exact, and the
 * rest (the split of fdlibm's e_log.c, recomputed: high = 0x1.62e42feep-1).
 */
#include "detmath.h"

#include <stdint.h>
#include <string.h>

#define LN2_HIGH 0x1.62e42feep-1
#define LN2_LOW 0x1.a39ef35793c76p-33

static const double factorial_inverse[] = {1.0 / 1.0,
                                           1.0 / 1.0,
                                           1.0 / 2.0,
                                           1.0 / 6.0,
                                           1.0 / 24.0,
                                           1.0 / 120.0,
                                           1.0 / 720.0,
                                           1.0 / 5040.0,
                                           1.0 / 40320.0,
                                           1.0 / 362880.0,
                                           1.0 / 3628800.0,
                                           1.0 / 39916800.0,
                                           1.0 / 479001600.0,
                                           1.0 / 6227020800.0,
                                           1.0 / 87178291200.0,
                                           1.0 / 1307674368000.0,
                                           1.0 / 20922789888000.0,
                                           1.0 / 355687428096000.0,
                                           1.0 / 6402373705728000.0};

double fpl_det_log(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int64_t e = (int64_t)(bits >> 52) - 1023;
    bits = (bits & 0x000fffffffffffffu) | 0x3ff0000000000000u;
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m >= 0x1.6a09e667f3bcdp+0) m *= 0.5, e++;
    double f = (m - 1.0) / (m + 1.0), s = f * f, series = 0.0;
    for (int k = 23; k >= 3; k -= 2) series = series * s + 2.0 / (double)k;
    series *= s * f;
    double n = (double)e;
    return n * LN2_HIGH + (2.0 * f + (series + n * LN2_LOW));
}

double fpl_det_exp(double x) {
    double scaled = x * 0x1.71547652b82fep+0; /* x / log 2 */
    int64_t n = (int64_t)(scaled + (scaled < 0.0 ? -0.5 : 0.5));
    double r = (x - (double)n * LN2_HIGH) - (double)n * LN2_LOW, sum = 1.0;
    for (int k = 13; k >= 2; k--) sum = 1.0 + sum * r / (double)k;
    sum = 1.0 + r * sum;
    /* |n| <= 1010: 2^n is normal. */
    uint64_t bits = (uint64_t)(n + 1023) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return sum * power;
}

void fpl_det_sincos(double x, double *sine, double *cosine) {
    if (!(x <= 0x1p20 && x >= -0x1p20)) {
        const uint64_t bits = 0x7ff8000000000000u;
        memcpy(sine, &bits, sizeof bits);
        memcpy(cosine, &bits, sizeof bits);
        return;
    }
    const double turns = x * 0x1.45f306dc9c883p-1; /* x / (pi/2) */
    const int64_t k = (int64_t)(turns + (turns < 0.0 ? -0.5 : 0.5));
    const double q = (double)k;
    const double r = ((x - q * 0x1.921fb544p+0) - q * 0x1.0b4611a6p-34) - q * 0x1.3198a2e037073p-69;
    const double z = r * r;
    double s = 0.0, c = 0.0; /* sin r = r + r z s, cos r = 1 - z/2 + z^2 c */
    for (int n = 17; n >= 3; n -= 2) s = (n % 4 == 1 ? 1.0 : -1.0) * factorial_inverse[n] + z * s;
    for (int n = 18; n >= 4; n -= 2) c = (n % 4 == 0 ? 1.0 : -1.0) * factorial_inverse[n] + z * c;
    s = r + r * z * s;
    c = 1.0 + (z * z * c - 0.5 * z);
    switch ((uint64_t)k & 3u) {
    case 0:
        *sine = s, *cosine = c;
        break;
    case 1:
        *sine = c, *cosine = -s;
        break;
    case 2:
        *sine = -s, *cosine = -c;
        break;
    default:
        *sine = -c, *cosine = s;
        break;
    }
}
