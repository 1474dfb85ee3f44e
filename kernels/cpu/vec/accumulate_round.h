/* accumulate_round.h - one rounding of an accumulator on vectors, in float32 or in double.
 *
 * x comes in rounded to odd (accumulator.h) or exact, and a value of F at x's binade has the
 * quantum q = 2^(max(e, emin) - M).
 *
 *   MAGIC  adding c = 1.5 2^(P - M) 2^max(e, emin), P = 23 (float32) or 52, leaves a sum whose
 *          last bit is q, so the addition rounds once, in the rounding of the instruction:
 *          (x + c) - c.  It needs |x| < 2^(e+1) <= c/3, that is M <= P - 2.  c is finite in
 *          float32 where largest < 2^(104 + M); beyond `largest` e is cut off at its exponent
 *          plus one, where x + c loses bits of x but stays above `largest`.
 *   BITS   for emin = -126 (bf16, tf32: float32's own exponents and subnormals): to nearest even
 *          on the bits; a carry out of the largest exponent makes the infinity.
 *
 *   POWER  M = 0, rne and rto, where the parity of a code is that of the exponent: on the bits above
 *          2^emin; below it, where 0 and 2^emin are the neighbours, as MAGIC with a constant
 *
 * What exceeds the largest value is, by `style`:
 *   CLAMP  sat: x is clamped before it is rounded, infinities too; rounding is monotone and the
 *          largest value is one of F's
 *   INFINITE  rne under ovf with infinities: multiplied by 2^(127 - emax), which makes an
 *          infinity of everything from 2^(emax + 1) on, and back
 *   WATCH  everything else: the caller tests |r| <= largest and repeats the tile in scalars
 * NaN stays NaN throughout (the operand order of minima and maxima), and since operands are
 * finite a NaN is the default one, whose low bits are zero, so that BITS cannot disturb it.
 */
#ifndef FPL_VEC_ACCUMULATE_ROUND_H
#define FPL_VEC_ACCUMULATE_ROUND_H

#include "../../../formats/accumulator.h"
#include "native.h"

enum sum_way { SUM_MAGIC, SUM_BITS, SUM_POWER, SUM_NONE };
enum sum_style { SUM_CLAMP, SUM_INFINITE, SUM_WATCH };

struct sum_round {
    enum sum_way way;
    enum sum_style style;
    int mode;
    float largest, up, down;   /* up = 2^(127 - emax), down = 1/up */
    uint32_t low, high, shift; /* bits of 2^emin, of 2^(emax + 1); what makes c of an exponent */
    uint32_t drop, half, keep; /* BITS */
    uint32_t flip;             /* POWER: exponent parity of odd codes is that of field ^ flip */
    float below;               /* POWER: 1.5 2^23 quanta of the range below 2^emin */
    uint32_t sign;             /* 0x80000000, or 0 where there is one zero */
};

/* F is float32 itself: nothing to round. */
static inline int sum_is_float32(const struct fpl_round *f) {
    return f->mbits == 23 && f->emin == -126 && f->subnormals && f->has_inf && f->mode == FPL_RNE &&
           f->overflow == FPL_OVF;
}

/* The float32 form; way SUM_NONE where there is none. */
static inline struct sum_round lower_sum_round(const struct fpl_round *f) {
    const int M = f->mbits, emax = fpl_exponent(f->largest), quantum = f->emin - M;
    struct sum_round v = {.way = SUM_NONE, .mode = f->mode, .largest = f->largest};
    /* Values rounded to odd in float32 have the quantum 2^-149 at least: four of them in q. */
    if (M > 21 || !f->subnormals || !f->is_signed || f->no_zero || quantum < -147) return v;
    /* No code is missing between the largest value and 2^(emax + 1). */
    const int full =
        (double)f->largest == (double)fpl_power_of_two(emax) * (2.0 - (double)fpl_power_of_two(-M));
    const int infinite = full && f->overflow == FPL_OVF && f->has_inf && f->mode == FPL_RNE;
    v.style = f->overflow == FPL_SAT ? SUM_CLAMP : infinite ? SUM_INFINITE : SUM_WATCH;
    v.sign = f->one_zero ? 0u : 0x80000000u;
    if (M == 0 && (f->mode == FPL_RNE || f->mode == FPL_RTO)) {
        if (f->emin > 100) return v;
        if (v.style == SUM_INFINITE) v.style = SUM_WATCH;
        v.way = SUM_POWER;
        v.low = (uint32_t)(f->emin + 127) << 23;
        v.flip = (uint32_t)(f->emin + 127 + 1) & 1u;
        v.below = 1.5f * fpl_power_of_two(f->emin + 23);
        return v;
    }
    if (f->emin == -126 && emax == 127 && v.style == SUM_INFINITE && v.sign != 0) {
        v.way = SUM_BITS;
        v.drop = (uint32_t)(23 - M);
        v.half = (1u << (22 - M)) - 1u;
        v.keep = ~((1u << (23 - M)) - 1u);
        return v;
    }
    if (emax + 1 > 103 + M || f->emin > emax + 1 || f->emin < -126) return v;
    v.way = SUM_MAGIC;
    v.low = (uint32_t)(f->emin + 127) << 23;
    v.high = (uint32_t)(emax + 1 + 127) << 23;
    v.shift = ((uint32_t)(23 - M) << 23) + 0x400000u;
    v.up = fpl_power_of_two(127 - emax < 127 ? 127 - emax : 127);
    v.down = 1.0f / v.up;
    if (emax < 0 && v.style == SUM_INFINITE) v.style = SUM_WATCH; /* up is out of range */
    return v;
}

VINLINE nf sum_min(nf a, nf b) { return nmin(a, b); } /* b where one is NaN */

VINLINE nf sum_max(nf a, nf b) {
#if defined(FPL_LEVEL_avx512)
    return (nf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(FPL_LEVEL_avx2)
    return (nf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return nselect_f(nmore(a, b), a, b);
#endif
}

/* max(x, low) of bits below 2^31, then min with high. */
VINLINE nu sum_exponent(const struct sum_round *v, nf x) {
    const nu e = (nu)x & 0x7f800000u;
#if defined(FPL_LEVEL_avx512)
    return (nu)_mm512_min_epu32(_mm512_max_epu32((__m512i)e, (__m512i)nsetu(v->low)),
                                (__m512i)nsetu(v->high));
#elif defined(FPL_LEVEL_avx2)
    return (nu)_mm256_min_epu32(_mm256_max_epu32((__m256i)e, (__m256i)nsetu(v->low)),
                                (__m256i)nsetu(v->high));
#else
    const nu up = nselect(nmore_i(e, nsetu(v->low)), e, nsetu(v->low));
    return nselect(nmore_i(up, nsetu(v->high)), nsetu(v->high), up);
#endif
}

VINLINE nf sum_sign(const struct sum_round *v, nf r, nf x) { return (nf)((nu)r | ((nu)x & v->sign)); }

/* POWER, finite x, exact or rounded to odd.  Infinities and NaNs come out as such: the caller
 * watches, or has clamped. */
VINLINE nf sum_round_power(const struct sum_round *v, const int mode, const enum sum_style style, nf x) {
    if (style == SUM_CLAMP) x = sum_max(nset(-v->largest), sum_min(nset(v->largest), x));
    const nu bits = (nu)x, odd = (bits >> 23 ^ v->flip) & 1u;
    const nf c = (nf)((bits & 0x80000000u) | fpl_float_bits(v->below));
    nu above;
    nf below;
    if (mode == FPL_RNE) {
        above = (bits + 0x3fffffu + odd) & 0xff800000u;
        below = (x + c) - c;
    } else {
        const nu inexact = nselect(nequal_u(bits & 0x7fffffu, nsetu(0)), nsetu(0), nsetu(0x800000u));
        above = (bits & 0xff800000u) + (inexact & (odd - 1u));
        below = (nf)nselect(nequal_u(bits & 0x7fffffffu, nsetu(0)), nsetu(0), nsetu(v->low));
    }
    const nmask small = nmore_i(nsetu(v->low), bits & 0x7fffffffu);
    return sum_sign(v, nselect_f(small, below, (nf)above), x);
}

/* To nearest even; x exact or rounded to odd.  way and style: constants where inlined. */
VINLINE nf sum_round_nearest(const struct sum_round *v, const enum sum_way way, const enum sum_style style,
                             nf x) {
    if (way == SUM_BITS) return (nf)(((nu)x + v->half + ((nu)x >> v->drop & 1u)) & v->keep);
    if (style == SUM_CLAMP) x = sum_max(nset(-v->largest), sum_min(nset(v->largest), x));
    const nf c = (nf)(sum_exponent(v, x) + v->shift);
    nf r = (x + c) - c;
    if (style == SUM_INFINITE) r = r * nset(v->up) * nset(v->down);
    return sum_sign(v, r, x);
}

/* Lanes whose value is no finite value of F. */
VINLINE nmask sum_beyond(const struct sum_round *v, nf r) {
    const nf a = (nf)((nu)r & 0x7fffffffu);
#if defined(FPL_LEVEL_avx512)
    return _mm512_cmp_ps_mask((__m512)a, (__m512)nset(v->largest), _CMP_NLE_UQ);
#else
    return (nmask)(~(a <= nset(v->largest)));
#endif
}

#if defined(FPL_LEVEL_avx512)

#define SUM_DOWN (_MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)
#define SUM_UP (_MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC)
#define SUM_ZERO (_MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC)

/* Of the two neighbours of an inexact value the odd one; the value itself where it is exact.
 * An exact zero is +0, or -0 where both terms are -0: the sign of `up`. */
VINLINE __m512 sum_odd_of(__m512 down, __m512 up) {
    return _mm512_mask_mov_ps(up, _mm512_test_epi32_mask((__m512i)down, _mm512_set1_epi32(1)), down);
}

/* a b + acc rounded to odd. */
VINLINE nf sum_fma_odd(nf a, nf b, nf acc) {
    return (nf)sum_odd_of(_mm512_fmadd_round_ps((__m512)a, (__m512)b, (__m512)acc, SUM_DOWN),
                          _mm512_fmadd_round_ps((__m512)a, (__m512)b, (__m512)acc, SUM_UP));
}

/* The other modes, by the rounding of the instruction; MAGIC only. */
VINLINE nf sum_round_directed(const struct sum_round *v, const int mode, const enum sum_style style, nf x) {
    if (style == SUM_CLAMP) x = sum_max(nset(-v->largest), sum_min(nset(v->largest), x));
    const nu e = sum_exponent(v, x), sign = (nu)x & 0x80000000u;
    const __m512 c = (__m512)(e + v->shift);
    const __m512 signed_c = (__m512)((e + v->shift) | sign);
    __m512 y = (__m512)x, r;
    switch (mode) {
    case FPL_RUP:
        r = _mm512_sub_ps(_mm512_add_round_ps(y, c, SUM_UP), c);
        break;
    case FPL_RDN:
        r = _mm512_sub_ps(_mm512_add_round_ps(y, c, SUM_DOWN), c);
        break;
    case FPL_RTO:
        r = _mm512_sub_ps(sum_odd_of(_mm512_add_round_ps(y, c, SUM_DOWN), _mm512_add_round_ps(y, c, SUM_UP)),
                          c);
        break;
    case FPL_RNA: {
        /* Half a quantum is added first, truncated; truncations to ever coarser grids are one. */
        const nf power = (nf)(e + (v->shift - 0x400000u)); /* 2^24 times that half */
        const __m512 half = (__m512)((nu)(power * nset(0x1p-24f)) | sign);
        y = _mm512_add_round_ps(y, half, SUM_ZERO);
        r = _mm512_sub_ps(_mm512_add_round_ps(y, signed_c, SUM_ZERO), signed_c);
        break;
    }
    default:
        r = _mm512_sub_ps(_mm512_add_round_ps(y, signed_c, SUM_ZERO), signed_c);
        break;
    }
    return sum_sign(v, (nf)r, x);
}

#endif

#endif
