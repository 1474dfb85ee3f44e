/* round.h - the rounder: one float32 to one value of an element format, rounded once.
 *
 * This header is the only definition of rounding in fplaw.  C11, C++17 and CUDA compile it;
 * vector kernels restate it and are tested for equality with it, bit for bit.
 *
 * Method.  A finite x is sig * 2^(e-23) with a 24-bit integer sig.  The format's quantum at
 * x is 2^k, k = max(e, emin) - M, so s = k - (e - 23) low bits of sig are dropped; the rest
 * and the dropped bits decide the rounding in integers.  The result (q + up) * 2^k is exact
 * in float32.  Rounding is as if the exponent were unbounded above; only then a result above
 * the largest finite value overflows.
 *
 *   rne  nearest, ties to the even code.  For M = 0 a code's parity is that of its exponent
 *        field, which adding half a unit to the bits gets wrong.
 *   rna  nearest, ties away from zero       rtz  toward zero
 *   rup  toward +Inf                        rdn  toward -Inf
 *   rto  to odd: inexact results get an odd code (M = 0: odd exponent field)
 *   sr   with r random bits R and fraction f: away from zero when floor(f 2^r) + R >= 2^r
 *        (P3109 StochasticA), so P(away) = floor(f 2^r) / 2^r exactly
 *
 * Overflow: sat clamps, infinities too; satp clamps finite inputs only; ovf as IEEE 754:
 * rtz, rto and the inward directions give the largest, others Inf, else NaN, else the
 * largest (no special codes).  NaN stays NaN, also where the format has no code for it:
 * hiding it would hide divergence.
 *
 * Without subnormals ("ns") magnitudes below the smallest normal round to it or to zero, a
 * tie under rne to zero.  Negative inputs of unsigned formats become zero (ovf: NaN where
 * the format has one).
 */
#ifndef FPL_ROUND_H
#define FPL_ROUND_H

#include <stdint.h>
#include <string.h>

#if defined(__CUDACC__)
#define FPL_HD __host__ __device__ static inline
#else
#define FPL_HD static inline
#endif

enum fpl_rounding { FPL_RNE, FPL_RNA, FPL_RTZ, FPL_RUP, FPL_RDN, FPL_RTO, FPL_SR, FPL_ROUNDINGS };
enum fpl_overflow { FPL_SAT, FPL_SATP, FPL_OVF, FPL_OVERFLOWS };

/* An element format, rounding and overflow, lowered (fpl_round_lower in format.c). */
struct fpl_round {
    int32_t identity;   /* 1: fp32, every bit pattern unchanged */
    int32_t mode;       /* enum fpl_rounding */
    int32_t overflow;   /* enum fpl_overflow */
    int32_t sr_bits;    /* r of sr, 1..32 */
    int32_t mbits;      /* M */
    int32_t emin;       /* exponent of the smallest normal; E = 0: M + log2(step) */
    int32_t subnormals; /* 0: none */
    int32_t is_signed, one_zero, no_zero, has_inf, has_nan;
    float largest;  /* largest finite */
    float smallest; /* smallest positive value: what no_zero formats give instead of 0 */
};

FPL_HD uint32_t fpl_float_bits(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

FPL_HD float fpl_bits_float(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* 2^k as float32, -149 <= k <= 127. */
FPL_HD float fpl_power_of_two(int k) {
    return fpl_bits_float(k >= -126 ? (uint32_t)(k + 127) << 23 : 1u << (k + 149));
}

/* floor(log2 |x|) of a finite non-zero float32, from its bits. */
FPL_HD int fpl_exponent(float x) {
    uint32_t a = fpl_float_bits(x) & 0x7fffffffu;
    if (a >= 0x00800000u) return (int)(a >> 23) - 127;
    int e = -149;
    while (a >>= 1) e++;
    return e;
}

/* What overflow gives for a magnitude beyond the largest finite value. */
FPL_HD float fpl_round_overflow(const struct fpl_round *p, uint32_t sign, int infinite) {
    const float signed_largest = fpl_bits_float(fpl_float_bits(p->largest) | sign);
    const float infinity = fpl_bits_float(0x7f800000u | sign);
    if (p->overflow == FPL_SAT) return signed_largest;
    if (p->overflow == FPL_SATP) return infinite ? infinity : signed_largest;
    if (!infinite && (p->mode == FPL_RTZ || p->mode == FPL_RTO || (p->mode == FPL_RUP && sign) ||
                      (p->mode == FPL_RDN && !sign)))
        return signed_largest;
    if (p->has_inf) return infinity;
    if (p->has_nan) return fpl_bits_float(0x7fc00000u);
    return signed_largest;
}

/* Round one value. random: the element's random bits (sr only), in [0, 2^sr_bits). */
FPL_HD float fpl_round_value(const struct fpl_round *p, float x, uint32_t random) {
    const uint32_t bits = fpl_float_bits(x), a = bits & 0x7fffffffu;
    uint32_t sign = bits & 0x80000000u;
    if (p->identity) return x;
    if (a > 0x7f800000u) return x; /* NaN, payload kept */
    if (!p->is_signed && sign) {
        if (a != 0 && p->overflow == FPL_OVF && p->has_nan) return fpl_bits_float(0x7fc00000u);
        return p->no_zero ? p->smallest : 0.0f;
    }
    if (a == 0x7f800000u) return fpl_round_overflow(p, sign, 1);

    /* x = sig 2^(e-23), 2^23 <= sig < 2^24 unless x = 0 */
    int e = (int)(a >> 23) - 127;
    uint32_t sig = (a & 0x7fffffu) | 0x800000u;
    if (a < 0x00800000u) {
        e = -126;
        sig = a;
        while (sig != 0 && sig < 0x800000u) {
            sig <<= 1;
            e--;
        }
    }

    const int below = e < p->emin;
    const int k = below ? (p->subnormals ? p->emin - p->mbits : p->emin) : e - p->mbits;
    int s = k - (e - 23);
    if (s > 60) s = 60; /* beyond that only "not zero" matters: sig 2^32 < 2^56 */
    const uint64_t q = (uint64_t)sig >> s, rest = (uint64_t)sig & (((uint64_t)1 << s) - 1u);
    const uint64_t half = ((uint64_t)1 << s) >> 1;
    /* Parity of q's code: its own low bit, or where there is no mantissa the exponent
     * field's, which is 1 at emin, or 0 where no code is spent on zero. */
    const int odd = p->mbits == 0 && !below ? (e - p->emin + !p->no_zero) & 1 : (int)(q & 1u);

    int up = 0;
    switch (p->mode) {
    case FPL_RNE:
        up = rest > half || (rest == half && rest != 0 && odd);
        break;
    case FPL_RNA:
        up = rest >= half && rest != 0;
        break;
    case FPL_RUP:
        up = rest != 0 && !sign;
        break;
    case FPL_RDN:
        up = rest != 0 && sign != 0;
        break;
    case FPL_RTO:
        up = rest != 0 && !odd;
        break;
    case FPL_SR: {
        const uint64_t f = (rest << p->sr_bits) >> s; /* floor(fraction 2^r) */
        up = f + random >= (uint64_t)1 << p->sr_bits;
        break;
    }
    default:
        break; /* rtz */
    }

    const uint32_t units = (uint32_t)q + (uint32_t)up; /* <= 2^24 */
    /* k + 24 may pass 127 only where the result overflows float32: then Inf > largest. */
    const float r = (float)units * fpl_power_of_two(k);
    if (r > p->largest) return fpl_round_overflow(p, sign, 0);
    if (r == 0.0f) {
        if (p->no_zero) return p->smallest;
        if (p->one_zero) return 0.0f;
    }
    return fpl_bits_float(fpl_float_bits(r) | sign);
}

#endif
