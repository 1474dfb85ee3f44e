/* scale.h - from a group's amax to its scale, and one element through it.
 *
 * The only definition of the scale rules in fplaw (quantizer.h lists them): the scalar
 * reference, vector kernels and CUDA kernels call fpl_group_scale once per group.  Powers of
 * two and logarithms come from exponent bits, never from libm, so that all give the same bits.
 *
 * An element goes through  y = fl(x a) or fl(x / a),  q = round(y),  out = fl(fl(q b) c).
 *   fp32, format   divide by s;            b = s
 *   powers of two  multiply by 1/s, which is a float32 and gives the bits of the division
 *   mul            a = fl(largest/amax),   b = fl(amax/largest)           (arXiv 2501.02423)
 *   two-level      a = fl(1/fl(s_b d)), b = s_b, c = d = fl(1/s_enc)      (arXiv 2509.25149, B)
 *   zero point     q = clamp(round(y), -z, largest - z), z = clamp(rne(fl(-min scaled)), 0, largest)
 * c = 1 but for two levels.  Reciprocals that overflow are clamped to FLT_MAX, so that a
 * zero never meets an infinity; a scale of zero has a = b = 0 and keeps the sign of x.  A group
 * of zeros has a = b = c = 1.
 * Non-finite x is rounded unscaled and passes through.
 */
#ifndef FPL_SCALE_H
#define FPL_SCALE_H

#include <stdint.h>

#include "quantizer.h"

#define FPL_FLOAT_MAX 0x1.fffffep127f /* FLT_MAX */
#define FPL_FLOAT_MIN 0x1p-126f       /* the smallest normal */

struct fpl_group_scale {
    int32_t divide;  /* 1: y = fl(x / quant), 0: y = fl(x * quant) */
    float quant;     /* a */
    float dequant;   /* b: the scale s; 1 where there is none */
    float dequant_2; /* c */
    float zero;      /* z, an integer: the code that means 0; 0 where there is none */
};

/* |x|, or 0 where x is not finite: amax is the largest of these. */
FPL_HD float fpl_finite_magnitude(float x) {
    const uint32_t a = fpl_float_bits(x) & 0x7fffffffu;
    return fpl_bits_float(a < 0x7f800000u ? a : 0u);
}

FPL_HD float fpl_clamp_finite(float positive) { return positive > FPL_FLOAT_MAX ? FPL_FLOAT_MAX : positive; }

FPL_HD float fpl_clamp_normal(float positive) {
    return positive < FPL_FLOAT_MIN ? FPL_FLOAT_MIN : fpl_clamp_finite(positive);
}

/* 2^23 .. 2^24 - 1: significand of a positive float32, subnormals normalized. */
FPL_HD uint32_t fpl_significand(float x) {
    uint32_t u = fpl_float_bits(x) & 0x7fffffffu;
    if (u >= 0x00800000u) return (u & 0x7fffffu) | 0x800000u;
    while (u != 0 && u < 0x800000u) u <<= 1;
    return u;
}

/* Exponent of a power-of-two scale; amax > 0. */
FPL_HD int fpl_scale_exponent(const struct fpl_quantizer_plan *p, float amax) {
    const int e = fpl_exponent(amax), top = p->largest_exponent;
    int k;
    switch (p->scale_rule) {
    case FPL_SCALE_RCEIL:
        k = e - top + (fpl_significand(amax) > fpl_significand(p->largest));
        break;
    case FPL_SCALE_CEIL:
        k = e - top + (fpl_significand(amax) > 0x800000u);
        break;
    case FPL_SCALE_EVEN: {
        const uint32_t half = p->round.mbits > 22 ? 0u : 1u << (22 - p->round.mbits);
        k = fpl_exponent(fpl_bits_float(fpl_float_bits(amax) + half)) - top;
        break;
    }
    case FPL_SCALE_P3109: {
        const uint32_t sig = fpl_significand(amax); /* to nearest; a tie to the even code of e8m0 */
        k = e + (sig > 0xc00000u || (sig == 0xc00000u && ((e + 127) & 1)));
        break;
    }
    default:
        k = e - top;
        break; /* floor */
    }
    return k < -127 ? -127 : k > 127 ? 127 : k;
}

/* s_enc of the two-level rule, from the tensor's amax; 1 for one level. */
FPL_HD float fpl_tensor_scale(const struct fpl_quantizer_plan *p, float amax_tensor) {
    if (!p->two_level || amax_tensor == 0.0f) return 1.0f;
    return fpl_clamp_normal(p->largest * p->scale_largest / amax_tensor);
}

FPL_HD struct fpl_group_scale fpl_group_scale_two_level(const struct fpl_quantizer_plan *p, float amax,
                                                        float s_enc, float factor) {
    struct fpl_group_scale g;
    g.divide = 0;
    g.dequant = fpl_round_value(&p->scale, amax / p->largest * s_enc * factor, 0);
    g.dequant_2 = 1.0f / s_enc;
    g.zero = 0.0f;
    const float both = g.dequant * g.dequant_2;
    g.quant = both == 0.0f ? 0.0f : fpl_clamp_finite(1.0f / both);
    if (g.quant == 0.0f) g.dequant = 0.0f;
    return g;
}

/* The scale of a group from its amax (largest finite magnitude, >= 0), widened by a factor:
 * it multiplies fl(amax/largest) before the scale is rounded or clamped, or, by the rules that
 * do not form that quotient (mul, powers of two), amax itself.  1 changes no bit. */
FPL_HD struct fpl_group_scale fpl_group_scale_times(const struct fpl_quantizer_plan *p, float amax,
                                                    float s_enc, float factor) {
    struct fpl_group_scale g;
    g.divide = 0;
    g.quant = g.dequant = g.dequant_2 = 1.0f;
    g.zero = 0.0f;
    if (p->granularity == FPL_UNSCALED) return g;
    if (p->history > 0 && p->delayed_amax > 0.0f) amax = p->delayed_amax;
    if (amax == 0.0f) return g;
    if (p->two_level) return fpl_group_scale_two_level(p, amax, s_enc, factor);
    switch (p->scale_rule) {
    case FPL_SCALE_FP32:
        g.divide = 1;
        g.quant = g.dequant = fpl_clamp_normal(amax / p->largest * factor);
        break;
    case FPL_SCALE_DELAYED:
        g.divide = 1;
        g.quant = g.dequant = fpl_clamp_normal(amax / p->largest * fpl_power_of_two(p->margin));
        break;
    case FPL_SCALE_MUL:
        amax = fpl_clamp_finite(amax * factor);
        g.quant = fpl_clamp_finite(p->largest / amax);
        g.dequant = fpl_clamp_finite(amax / p->largest);
        break;
    case FPL_SCALE_FORMAT:
        g.dequant = fpl_round_value(&p->scale, amax / p->largest * factor, 0);
        g.divide = g.dequant != 0.0f;
        g.quant = g.dequant;
        break;
    default: {
        const int k = fpl_scale_exponent(p, fpl_clamp_finite(amax * factor));
        g.quant = fpl_power_of_two(-k);
        g.dequant = fpl_power_of_two(k);
        break;
    }
    }
    return g;
}

FPL_HD struct fpl_group_scale fpl_group_scale(const struct fpl_quantizer_plan *p, float amax, float s_enc) {
    return fpl_group_scale_times(p, amax, s_enc, 1.0f);
}

/* The value that is rounded: x under the group's scale. */
FPL_HD float fpl_scaled(const struct fpl_group_scale *g, float x) {
    if ((fpl_float_bits(x) & 0x7f800000u) == 0x7f800000u) return x;
    return g->divide ? x / g->quant : x * g->quant;
}

/* The zero point of a group whose least finite value, or 0, is `low`. */
FPL_HD float fpl_zero_point(const struct fpl_quantizer_plan *p, const struct fpl_group_scale *g, float low) {
    const float y = fpl_scaled(g, -low);
    if (!(y < p->largest)) return p->largest;
    return (y + 0x1p23f) - 0x1p23f; /* to the nearest integer, ties to even: y < 2^16 */
}

/* max - min of a group, both taken with 0: the amax of rules with a zero point. */
FPL_HD float fpl_group_range(float low, float high) { return fpl_clamp_finite(high - low); }

/* What a scaled value rounds to. */
FPL_HD float fpl_round_scaled(const struct fpl_quantizer_plan *p, const struct fpl_group_scale *g, float y,
                              uint32_t random) {
    const float q = fpl_round_value(&p->round, y, random);
    if (!p->zero_point || (fpl_float_bits(q) & 0x7f800000u) == 0x7f800000u) return q;
    const float high = p->largest - g->zero;
    if (q == 0.0f) return 0.0f; /* one code means zero */
    return q < -g->zero ? 0.0f - g->zero : q > high ? high : q;
}

/* One element: scaled, rounded, scaled back.  Not post-rounded. */
FPL_HD float fpl_quantize_element(const struct fpl_quantizer_plan *p, const struct fpl_group_scale *g,
                                  float x, uint32_t random) {
    const float q = fpl_round_scaled(p, g, fpl_scaled(g, x), random);
    if ((fpl_float_bits(q) & 0x7f800000u) == 0x7f800000u) return q;
    const float out = q * g->dequant * g->dequant_2;
    const uint32_t bits = fpl_float_bits(out);
    /* A finite q overflows float32 only upwards: clamp, keeping the sign. */
    return (bits & 0x7fffffffu) >= 0x7f800000u ? fpl_bits_float((bits & 0x80000000u) | 0x7f7fffffu) : out;
}

/* 1 where a scaled, finite value lies beyond the least or the largest value. */
FPL_HD int fpl_scaled_beyond(const struct fpl_quantizer_plan *p, const struct fpl_group_scale *g, float y) {
    if (p->zero_point) return y < -g->zero || y > p->largest - g->zero;
    if (p->round.codebook != 0)
        return p->round.count > 0 && (y < p->round.values[0] || y > p->round.values[p->round.count - 1]);
    return y < -p->largest || y > p->largest;
}

/* 1 where the rounding of x, before any clamping, lies beyond the format's ends: where
 * straight-through gradients with a clip mask (ste:clip) are cut off. */
FPL_HD int fpl_element_clips(const struct fpl_quantizer_plan *p, const struct fpl_group_scale *g, float x,
                             uint32_t random) {
    const float y = fpl_scaled(g, x);
    if (p->identity) return 0;
    if (fpl_rounds_beyond(&p->round, y, random)) return 1;
    if (!p->zero_point || (fpl_float_bits(y) & 0x7f800000u) == 0x7f800000u) return 0;
    const float q = fpl_round_value(&p->round, y, random);
    return q < -g->zero || q > p->largest - g->zero;
}

#endif
