/* quantize_lanes.h - amax and scales of NL groups, one group per lane, for inlining.
 *
 * Maxima are taken on the bits of magnitudes, as signed integers: the order of finite floats
 * is that of their bits, infinities and NaNs come out on top, so that one comparison at the
 * end finds them, and the order of maxima does not matter.
 *
 * Scales restate scale.h, for normal amax and scales; a power-of-two scale is an exponent
 * field: that of amax, one more where the rule rounds up, less that of the format's largest
 * value.
 */
#ifndef FPL_VEC_QUANTIZE_LANES_H
#define FPL_VEC_QUANTIZE_LANES_H

#include "quantize_round.h"
#include "quantize_scale.h"

/* ---- amax -------------------------------------------------------------------------------------- */

VINLINE nu magnitude(nf x) { return (nu)x & 0x7fffffffu; }

VINLINE nu group_magnitude(const int64_t wide, const float *x) {
    nu m = magnitude(nload(x));
    for (int64_t u = 1; u < wide; u++) m = nmax_i(m, magnitude(nload(x + u * NL)));
    return m;
}

/* The largest lanes of NL vectors, in order.  AVX-512: four rounds of pairing vectors off,
 * each of which halves the vectors and the lanes that belong to one of them. */
VINLINE nu largest_of_each(const nu *m) {
#if defined(FPL_LEVEL_avx512)
    __m512i a[8], b[4], c[2];
    UNROLL(8)
    for (int i = 0; i < 8; i++) {
        const __m512i p = (__m512i)m[2 * i], q = (__m512i)m[2 * i + 1];
        a[i] = _mm512_max_epi32(_mm512_shuffle_i32x4(p, q, 0x44), _mm512_shuffle_i32x4(p, q, 0xee));
    }
    UNROLL(4)
    for (int i = 0; i < 4; i++)
        b[i] = _mm512_max_epi32(_mm512_shuffle_i32x4(a[2 * i], a[2 * i + 1], 0x88),
                                _mm512_shuffle_i32x4(a[2 * i], a[2 * i + 1], 0xdd));
    UNROLL(2)
    for (int i = 0; i < 2; i++)
        c[i] = _mm512_max_epi32(_mm512_unpacklo_epi64(b[2 * i], b[2 * i + 1]),
                                _mm512_unpackhi_epi64(b[2 * i], b[2 * i + 1]));
    const __m512 p = _mm512_castsi512_ps(c[0]), q = _mm512_castsi512_ps(c[1]);
    const __m512i d = _mm512_max_epi32(_mm512_castps_si512(_mm512_shuffle_ps(p, q, 0x88)),
                                       _mm512_castps_si512(_mm512_shuffle_ps(p, q, 0xdd)));
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return (nu)_mm512_permutexvar_epi32(order, d);
#else
    nu all;
    for (int i = 0; i < NL; i++) all[i] = nlargest(m[i]);
    return all;
#endif
}

/* ---- scales ------------------------------------------------------------------------------------ */

/* fp32 and mul: the ratio and its inverse, clamped. */
VINLINE void ratio_scales(const struct scaling *s, const int mul, nf amax, nf *quant, nf *dequant) {
    const nf most = nset(FPL_FLOAT_MAX), largest_value = nset(s->plan->largest);
    nf d = nmin(amax / largest_value, most);
    *quant = mul ? nmin(largest_value / amax, most) : d;
    if (!mul) *quant = d = nselect_f(nless(d, nset(FPL_FLOAT_MIN)), nset(FPL_FLOAT_MIN), d);
    *dequant = d;
}

/* Bits of 2^(field - 127), field in 0..254; field 0 is the subnormal 2^-127. */
VINLINE nf power(nu field) { return (nf)nselect(nequal_u(field, nsetu(0)), nsetu(1u << 22), field << 23); }

/* Exponent field of a power of two by the rule. */
VINLINE nu power_field(const struct power_rule *r, nf amax) {
    const nu bits = (nu)amax + r->add, field = bits >> 23;
    const nu mantissa = (bits & 0x7fffffu) + (field & r->tie);
    const nu up = nselect(nmore_i(mantissa, nsetu(r->threshold)), nsetu(1), nsetu(0));
    const nu at_least = nmax_i(field + up - (uint32_t)r->top, nsetu(0));
    return nselect(nmore_i(at_least, nsetu(254)), nsetu(254), at_least);
}

/* quant of a group of zeros under two levels, where dequant is 1: infinities in it know neither
 * level (quantize_apply.c). */
#define ZERO_GROUP 0.0f

/* quant and dequant of NL groups; amax finite, zeros included.  Power-of-two rules: normal. */
VINLINE void lane_scales(const struct scaling *s, nf amax, nf *quant, nf *dequant) {
    const nmask zero = nequal_u((nu)amax, nsetu(0));
    if (s->kind == SCALE_RATIO || s->kind == SCALE_MUL) {
        ratio_scales(s, s->kind == SCALE_MUL, amax, quant, dequant);
    } else if (s->kind == SCALE_POWER) {
        const nu field = power_field(&s->power, amax);
        *quant = power(254 - field);
        *dequant = power(field);
    } else if (s->kind == SCALE_NEAREST_POWER) {
        *quant = *dequant = power(power_field(&s->power, amax / nset(s->plan->largest)));
    } else {
        nf d = amax / nset(s->plan->largest);
        if (s->plan->two_level) d = d * nset(s->s_enc);
        d = vround_magnitude(&s->format, WAY_RNE, nmin(d, nset(s->format.largest)), nsetu(0), nsetu(0));
        nf q = d;
        if (s->plan->two_level) q = nmin(1.0f / (d * nset(s->dequant_2)), nset(FPL_FLOAT_MAX));
        /* a scale of zero: x/inf and x 0 are the zero of x's sign */
        const nmask none = nequal_u((nu)(s->plan->two_level ? d * nset(s->dequant_2) : d), nsetu(0));
        q = nselect_f(none, nset(s->plan->two_level ? 0.0f : INFINITY), q);
        *dequant = nselect_f(nequal_u((nu)q, nsetu(0)), nset(0.0f), d);
        *quant = q;
    }
    *quant = nselect_f(zero, nset(s->plan->two_level ? ZERO_GROUP : 1.0f), *quant);
    *dequant = nselect_f(zero, nset(1.0f), *dequant);
}

#endif
