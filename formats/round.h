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
 *   srb  floor(f 2^(r+1)) + 2 R + 1 >= 2^(r+1)   (StochasticB: P(away) is f 2^r to nearest,
 *        halves up, over 2^r)
 *   src  rne(f 2^r) + R >= 2^r                   (StochasticC: to nearest, halves to even)
 *        Both after the IEEE P3109 interim reports; `StochasticFast` and `Stochastic` of gfloat.
 *
 * Overflow: sat clamps, infinities too; satp clamps finite inputs only; ovf as IEEE 754:
 * rtz, rto and the inward directions give the largest, others Inf, else NaN, else the
 * largest (no special codes).  NaN stays NaN, also where the format has no code for it:
 * hiding it would hide divergence.
 *
 * Codebooks (codebook.h) are `count` ascending values; the neighbours of x come from bisection.
 *   rne  nearest, ties to the value of even index   rna  nearest, ties away from zero
 *   rtz  rup  rdn  as above; sr as above with f = fl64(fl64(x - near) / fl64(far - near)), far
 *        being the neighbour away from zero (where the neighbours have different signs, the one
 *        of x's sign).  Nearest is decided exactly.  `rto` has no meaning and is refused.
 * Beyond both ends the end is the result, under ovf too; satp keeps infinities.  Zero is +0.
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

enum fpl_rounding {
    FPL_RNE,
    FPL_RNA,
    FPL_RTZ,
    FPL_RUP,
    FPL_RDN,
    FPL_RTO,
    FPL_SR,
    FPL_SRB,
    FPL_SRC,
    FPL_ROUNDINGS
};
enum fpl_overflow { FPL_SAT, FPL_SATP, FPL_OVF, FPL_OVERFLOWS };

/* An element format, rounding and overflow, lowered (fpl_round_lower in format.c). */
struct fpl_round {
    int32_t identity;   /* 1: fp32, every bit pattern unchanged */
    int32_t mode;       /* enum fpl_rounding */
    int32_t overflow;   /* enum fpl_overflow */
    int32_t sr_bits;    /* r of sr, srb, src: 1..32 */
    int32_t mbits;      /* M */
    int32_t emin;       /* exponent of the smallest normal; E = 0: M + log2(step) */
    int32_t subnormals; /* 0: none */
    int32_t is_signed, one_zero, no_zero, has_inf, has_nan;
    float largest;  /* largest finite */
    float smallest; /* smallest positive value: what no_zero formats give instead of 0 */
    /* A codebook's ascending values, NULL otherwise.  Host memory that lives as long as the
     * process; a backend with its own memory uploads the table once per `codebook` and puts
     * its address here in its copy of the struct. */
    const float *values;
    uint64_t codebook; /* content hash, names the table; 0: none */
    int32_t count;     /* of values; 0 with codebook != 0: content unknown, everything is NaN */
    int32_t unused;
};

/* The mode draws random bits. */
FPL_HD int fpl_is_stochastic(int mode) { return mode == FPL_SR || mode == FPL_SRB || mode == FPL_SRC; }

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

/* Does a fraction of `rest` / 2^s go away from zero under a stochastic mode?  rest < 2^24. */
FPL_HD int fpl_stochastic_up(const struct fpl_round *p, uint64_t rest, int s, uint32_t random) {
    const int r = p->sr_bits;
    const uint64_t one = (uint64_t)1 << r, scaled = rest << r;
    if (p->mode == FPL_SR) return (scaled >> s) + random >= one;
    if (p->mode == FPL_SRB) return ((rest << (r + 1)) >> s) + 2u * (uint64_t)random + 1u >= 2u * one;
    const uint64_t whole = scaled >> s, left = scaled & (((uint64_t)1 << s) - 1u),
                   half = ((uint64_t)1 << s) >> 1;
    const int up = left > half || (left == half && left != 0 && (whole & 1u));
    return whole + (uint64_t)up + random >= one;
}

/* The magnitude of a finite x rounded as if the exponent were unbounded above; it may be Inf
 * where that is beyond float32.  negative: x's sign. */
FPL_HD float fpl_round_unbounded(const struct fpl_round *p, float x, int negative, uint32_t random) {
    const uint32_t a = fpl_float_bits(x) & 0x7fffffffu;
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
    if (s > 60) s = 60; /* beyond that only "not zero" matters: sig 2^33 < 2^57 */
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
        up = rest != 0 && !negative;
        break;
    case FPL_RDN:
        up = rest != 0 && negative;
        break;
    case FPL_RTO:
        up = rest != 0 && !odd;
        break;
    case FPL_RTZ:
        break;
    default:
        up = fpl_stochastic_up(p, rest, s, random);
        break;
    }

    const uint32_t units = (uint32_t)q + (uint32_t)up; /* <= 2^24 */
    /* k + 24 may pass 127 only where the result overflows float32: then Inf > largest. */
    return (float)units * fpl_power_of_two(k);
}

/* Is 2 x above (1), below (-1) or equal to (0) a + b, exactly?  s = fl64(a + b), and e is what
 * the sum lost (Knuth's TwoSum); 2 x is a double, so only equality with s needs e. */
FPL_HD int fpl_side_of_middle(float x, float a, float b) {
    const double da = (double)a, db = (double)b, twice = 2.0 * (double)x;
    const double s = da + db, t = s - da, e = (da - (s - t)) + (db - t);
    if (twice != s) return twice > s ? 1 : -1;
    return e < 0.0 ? 1 : e > 0.0 ? -1 : 0;
}

/* Stochastic rounding between the neighbours of a codebook: 1 away from zero. */
FPL_HD int fpl_codebook_away(const struct fpl_round *p, float x, float near, float far, uint32_t random) {
    const double f = ((double)x - (double)near) / ((double)far - (double)near);
    const double one = (double)((uint64_t)1 << p->sr_bits);
    if (p->mode == FPL_SR) return (double)(uint64_t)(f * one) + (double)random >= one;
    if (p->mode == FPL_SRB)
        return (double)(uint64_t)(f * one * 2.0) + 2.0 * (double)random + 1.0 >= 2.0 * one;
    const uint64_t whole = (uint64_t)(f * one);
    const double left = f * one - (double)whole;
    const int up = left > 0.5 || (left == 0.5 && (whole & 1u));
    return (double)whole + (double)up + (double)random >= one;
}

/* A finite x to a codebook of at least one value. */
FPL_HD float fpl_round_codebook(const struct fpl_round *p, float x, uint32_t random) {
    const float *v = p->values;
    int32_t lo = 0, hi = p->count - 1;
    if (x <= v[lo]) return v[lo] == 0.0f ? 0.0f : v[lo];
    if (x >= v[hi]) return v[hi] == 0.0f ? 0.0f : v[hi];
    while (hi - lo > 1) { /* v[lo] <= x < v[hi] */
        const int32_t mid = lo + (hi - lo) / 2;
        if (v[mid] <= x)
            lo = mid;
        else
            hi = mid;
    }
    if (v[lo] == x) return v[lo];
    const int outward = !(fpl_float_bits(x) & 0x80000000u); /* away from zero is up */
    int up;
    switch (p->mode) {
    case FPL_RTZ:
        up = !outward;
        break;
    case FPL_RUP:
        up = 1;
        break;
    case FPL_RDN:
        up = 0;
        break;
    case FPL_SR:
    case FPL_SRB:
    case FPL_SRC:
        up = fpl_codebook_away(p, x, outward ? v[lo] : v[hi], outward ? v[hi] : v[lo], random) == outward;
        break;
    default: {
        const int side = fpl_side_of_middle(x, v[lo], v[hi]);
        up = side > 0 || (side == 0 && (p->mode == FPL_RNA ? outward : !(hi & 1)));
        break;
    }
    }
    return v[up ? hi : lo];
}

/* Round one value. random: the element's random bits (stochastic modes), in [0, 2^sr_bits). */
FPL_HD float fpl_round_value(const struct fpl_round *p, float x, uint32_t random) {
    const uint32_t bits = fpl_float_bits(x), a = bits & 0x7fffffffu, sign = bits & 0x80000000u;
    if (p->identity) return x;
    if (a > 0x7f800000u) return x; /* NaN, payload kept */
    if (p->codebook != 0) {
        if (p->count <= 0) return fpl_bits_float(0x7fc00000u);
        if (a == 0x7f800000u && p->overflow == FPL_SATP) return x;
        return fpl_round_codebook(p, x, random);
    }
    if (!p->is_signed && sign) {
        if (a != 0 && p->overflow == FPL_OVF && p->has_nan) return fpl_bits_float(0x7fc00000u);
        return p->no_zero ? p->smallest : 0.0f;
    }
    if (a == 0x7f800000u) return fpl_round_overflow(p, sign, 1);
    const float r = fpl_round_unbounded(p, x, sign != 0, random);
    if (r > p->largest) return fpl_round_overflow(p, sign, 0);
    if (r == 0.0f) {
        if (p->no_zero) return p->smallest;
        if (p->one_zero) return 0.0f;
    }
    return fpl_bits_float(fpl_float_bits(r) | sign);
}

/* 1 where rounding x leaves the format's range: what clamping hides.  A codebook goes on
 * beyond its ends by half of its last gap; negative values of unsigned formats count. */
FPL_HD int fpl_rounds_beyond(const struct fpl_round *p, float x, uint32_t random) {
    const uint32_t a = fpl_float_bits(x) & 0x7fffffffu, sign = fpl_float_bits(x) & 0x80000000u;
    if (p->identity || a > 0x7f800000u) return 0;
    if (a == 0x7f800000u) return 1;
    if (p->codebook != 0) {
        const float *v = p->values;
        const int32_t n = p->count;
        if (n < 2) return n == 1 && x != v[0];
        const double y = (double)x, low = (double)v[0], high = (double)v[n - 1];
        return y > high + (high - (double)v[n - 2]) / 2.0 || y < low - ((double)v[1] - low) / 2.0;
    }
    if (!p->is_signed && sign) return a != 0;
    return fpl_round_unbounded(p, x, sign != 0, random) > p->largest;
}

#endif
