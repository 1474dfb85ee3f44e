/* quantize_scale.c - amax and scales of many groups at once.
 *
 * Maxima are taken on the bits of magnitudes, as signed integers: the order of finite floats
 * is that of their bits, infinities and NaNs come out on top, so that one comparison at the
 * end finds them, and the order of maxima does not matter.
 *
 * Scales restate scale.h for the common rules, one group per lane, and call it for the rest.
 * A power-of-two scale is an exponent field: that of amax, one more where the rule rounds up,
 * less that of the format's largest value; subnormal amax and scales go through scale.h.
 */
#include "quantize_scale.h"

#include "quantize_lanes.h"

/* ---- largest magnitudes -------------------------------------------------------------------- */

VINLINE nu finite_magnitude(nf x) {
    const nu a = magnitude(x);
    return nselect(nmore_i(nsetu(0x7f800000u), a), a, nsetu(0));
}

VINLINE uint32_t largest(int64_t lines, int64_t stride, int64_t n, const float *x, const int finite_only) {
    nu m[4] = {nsetu(0), nsetu(0), nsetu(0), nsetu(0)};
    for (int64_t l = 0; l < lines; l++, x += stride) {
        int64_t i = 0;
        for (; i + 4 * NL <= n; i += 4 * NL) {
            UNROLL(4)
            for (int u = 0; u < 4; u++) {
                const nf v = nload(x + i + u * NL);
                m[u] = nmax_i(m[u], finite_only ? finite_magnitude(v) : magnitude(v));
            }
        }
        for (; i < n; i += NL) {
            const nf v = nload_n(x + i, n - i);
            m[0] = nmax_i(m[0], finite_only ? finite_magnitude(v) : magnitude(v));
        }
    }
    return nlargest(nmax_i(nmax_i(m[0], m[1]), nmax_i(m[2], m[3])));
}

uint32_t FPL_VEC(largest_bits)(int64_t lines, int64_t stride, int64_t n, const float *x) {
    return largest(lines, stride, n, x, 0);
}

uint32_t FPL_VEC(largest_finite_bits)(int64_t lines, int64_t stride, int64_t n, const float *x) {
    return largest(lines, stride, n, x, 1);
}

/* `wide` vectors of columns at once: a cache line or more of every line. */
VINLINE nu columns(int64_t lines, int64_t stride, int64_t n, const float *x, const int finite_only,
                   float *out, const int wide) {
    nu m[4];
    UNROLL(4)
    for (int u = 0; u < wide; u++) m[u] = nsetu(0);
    for (int64_t l = 0; l < lines; l++, x += stride) {
        UNROLL(4)
        for (int u = 0; u < wide; u++) {
            const nf v = n >= (u + 1) * NL ? nload(x + u * NL) : nload_n(x + u * NL, n - u * NL);
            m[u] = nmax_i(m[u], finite_only ? finite_magnitude(v) : magnitude(v));
        }
    }
    nu all = nsetu(0);
    UNROLL(4)
    for (int u = 0; u < wide; u++) {
        nstore(out + u * NL, (nf)m[u]);
        all = nmax_i(all, m[u]);
    }
    return all;
}

VINLINE uint32_t all_columns(int64_t lines, int64_t stride, int64_t n, const float *x, const int finite_only,
                             float *out) {
    nu all = nsetu(0);
    int64_t i = 0;
    for (; i + 4 * NL <= n; i += 4 * NL)
        all = nmax_i(all, columns(lines, stride, 4 * NL, x + i, finite_only, out + i, 4));
    for (; i < n; i += NL) all = nmax_i(all, columns(lines, stride, n - i, x + i, finite_only, out + i, 1));
    return nlargest(all);
}

uint32_t FPL_VEC(column_largest)(int64_t lines, int64_t stride, int64_t n, const float *x, int finite_only,
                                 float *out) {
    return finite_only ? all_columns(lines, stride, n, x, 1, out) : all_columns(lines, stride, n, x, 0, out);
}

/* Groups of `wide` whole vectors. */
VINLINE uint32_t whole_groups(int64_t groups, const int64_t wide, const float *x, float *out) {
    nu all = nsetu(0);
    int64_t g = 0;
    for (; g + NL <= groups; g += NL) {
        nu m[NL];
        UNROLL(16)
        for (int i = 0; i < NL; i++) m[i] = group_magnitude(wide, x + (g + i) * wide * NL);
        const nu a = largest_of_each(m);
        nstore(out + g, (nf)a);
        all = nmax_i(all, a);
    }
    uint32_t most = nlargest(all);
    for (; g < groups; g++) {
        const uint32_t a = nlargest(group_magnitude(wide, x + g * wide * NL));
        out[g] = fpl_bits_float(a);
        most = a > most ? a : most;
    }
    return most;
}

uint32_t FPL_VEC(group_largest)(int64_t n, int64_t width, const float *x, float *out) {
    const int64_t groups = width % NL == 0 ? n / width : 0;
    uint32_t all;
    if (width == 32)
        all = whole_groups(groups, 32 / NL, x, out);
    else if (width == 16)
        all = whole_groups(groups, 16 / NL, x, out);
    else
        all = whole_groups(groups, width / NL, x, out);
    for (int64_t first = groups * width; first < n; first += width) {
        const int64_t end = first + width < n ? first + width : n;
        uint32_t m = 0;
        int64_t i = first;
        if (end - first >= NL) {
            m = nlargest(group_magnitude((end - first) / NL, x + first));
            i += (end - first) / NL * NL;
        }
        for (; i < end; i++) {
            const uint32_t a = fpl_float_bits(x[i]) & 0x7fffffffu;
            m = a > m ? a : m;
        }
        out[first / width] = fpl_bits_float(m);
        all = m > all ? m : all;
    }
    return all;
}

void FPL_VEC(spread)(int64_t n, int64_t width, const float *groups, float *out) {
    const int64_t padded = (n + NL - 1) / NL * NL;
    int64_t i = 0;
    if (width % NL == 0)
        for (; i < n; groups++)
            for (const int64_t end = i + width < padded ? i + width : padded; i < end; i += NL)
                nstore(out + i, nset(*groups));
    for (; i < n; groups++)
        for (const int64_t end = i + width < n ? i + width : n; i < end; i++) out[i] = *groups;
    for (; i < padded; i++) out[i] = 1.0f;
}

/* ---- scales ---------------------------------------------------------------------------------- */

/* SCALE_POWER, or of the quotient SCALE_NEAREST_POWER: to nearest, a tie to the even field. */
static struct power_rule power_rule(const struct fpl_quantizer_plan *p) {
    struct power_rule r = {0, 0x7fffffu, 0, p->largest_exponent};
    if (p->scale_rule == FPL_SCALE_RCEIL) r.threshold = fpl_significand(p->largest) & 0x7fffffu;
    if (p->scale_rule == FPL_SCALE_CEIL) r.threshold = 0;
    if (p->scale_rule == FPL_SCALE_EVEN) r.add = p->round.mbits > 22 ? 0u : 1u << (22 - p->round.mbits);
    if (p->scale_rule == FPL_SCALE_P3109 || p->scale_rule == FPL_SCALE_FORMAT) {
        r.threshold = 0x400000u;
        r.tie = 1;
        r.top = 0;
    }
    return r;
}

static enum scale_kind scale_kind(const struct fpl_quantizer_plan *p, const struct vround *format) {
    if (p->two_level) return format->way == WAY_SCALAR ? SCALE_SCALAR : SCALE_FORMAT;
    switch (p->scale_rule) {
    case FPL_SCALE_FP32:
        return SCALE_RATIO;
    case FPL_SCALE_MUL:
        return SCALE_MUL;
    case FPL_SCALE_FLOOR:
    case FPL_SCALE_RCEIL:
    case FPL_SCALE_CEIL:
    case FPL_SCALE_EVEN:
    case FPL_SCALE_P3109:
        return SCALE_POWER;
    case FPL_SCALE_FORMAT:
        if (p->scale.no_zero && p->scale.mbits == 0 && p->scale.emin == -127) return SCALE_NEAREST_POWER;
        return format->way == WAY_SCALAR ? SCALE_SCALAR : SCALE_FORMAT;
    default:
        return SCALE_SCALAR;
    }
}

/* The scale format as SCALE_FORMAT rounds with it: rne, sat, magnitudes only. */
static struct vround scale_round(const struct fpl_round *p) {
    struct vround v = {.way = WAY_SCALAR};
    if (p->identity || p->mode != FPL_RNE || p->overflow != FPL_SAT) return v;
    v = lower_vround(p, 1);
    if (v.way == WAY_MAGIC) v.way = WAY_RNE;
    return v;
}

struct scaling FPL_VEC(scaling)(const struct fpl_quantizer_plan *plan, float amax_tensor) {
    struct scaling s = {.plan = plan, .s_enc = 1.0f, .dequant_2 = 1.0f};
    if (plan->identity || plan->granularity == FPL_UNSCALED) return s;
    if (plan->two_level || plan->scale_rule == FPL_SCALE_FORMAT) s.format = scale_round(&plan->scale);
    s.kind = scale_kind(plan, &s.format);
    if (s.kind == SCALE_POWER || s.kind == SCALE_NEAREST_POWER) s.power = power_rule(plan);
    if (plan->two_level) {
        s.s_enc = fpl_tensor_scale(plan, amax_tensor);
        s.dequant_2 = 1.0f / s.s_enc;
    } else {
        s.divide = plan->scale_rule == FPL_SCALE_FP32 || plan->scale_rule == FPL_SCALE_FORMAT ||
                   plan->scale_rule == FPL_SCALE_DELAYED;
    }
    return s;
}

/* Any rule, one group after the other. */
static void scalar_scales(const struct scaling *s, int64_t n, const float *amax, float *quant,
                          float *dequant) {
    for (int64_t g = 0; g < n; g++) {
        const struct fpl_group_scale one = fpl_group_scale(s->plan, amax[g], s->s_enc);
        quant[g] = one.quant;
        dequant[g] = one.dequant;
        /* a scale of zero: x / inf is the zero of x's sign, as x * 0 is */
        if (s->divide && one.quant == 0.0f) quant[g] = INFINITY;
        if (s->plan->two_level && amax[g] == 0.0f) quant[g] = ZERO_GROUP;
    }
}

void FPL_VEC(group_scales)(const struct scaling *s, int64_t n, const float *amax, float *quant,
                           float *dequant) {
    if (s->kind == SCALE_SCALAR) {
        scalar_scales(s, n, amax, quant, dequant);
        return;
    }
    const int normal_only = s->kind == SCALE_POWER || s->kind == SCALE_NEAREST_POWER;
    for (int64_t g = 0; g < n; g += NL) {
        const nf a = nload(amax + g);
        nf q, d;
        lane_scales(s, a, &q, &d);
        nstore(quant + g, q);
        nstore(dequant + g, d);
        if (!normal_only) continue;
        const nf from = s->kind == SCALE_POWER ? a : a / nset(s->plan->largest);
        const nmask small = nmore_i(nsetu(0x00800000u), (nu)from), none = nequal_u((nu)a, nsetu(0));
        for (uint32_t lanes = nlanes(small) & ~nlanes(none); lanes != 0; lanes &= lanes - 1) {
            const int64_t i = g + __builtin_ctz(lanes);
            if (i < n) scalar_scales(s, 1, amax + i, quant + i, dequant + i);
        }
    }
}

void FPL_VEC(inverses)(int64_t n, const float *quant, float *out) {
    for (int64_t g = 0; g < n; g += NL) nstore(out + g, (nf)((nu)(1.0f / nload(quant + g)) - 1u));
}
