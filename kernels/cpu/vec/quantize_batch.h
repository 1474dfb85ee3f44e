/* quantize_batch.h - NL groups at a time: how they lie, their amax, their scales.
 *
 *   amax    down the lines where groups are columns, otherwise by a transposition of maxima
 *           (quantize_lanes.h)
 *   scales  one group per lane, stored as what rounding wants to load or broadcast
 *
 * Scales and magnitudes are kept from the ends of float32's range by LEAST and MOST, beyond
 * which a batch is left to the general path.
 */
#ifndef FPL_VEC_QUANTIZE_BATCH_H
#define FPL_VEC_QUANTIZE_BATCH_H

#include "quantize_fused.h"
#include "quantize_lanes.h"
#include "stream.h"

#define LEAST (67u << 23) /* bits of 2^-60 */
#define MOST (187u << 23) /* bits of 2^60 */

/* How an element meets its scale (quantize_nearest.h); the first three and the last as they stand
 * in scale.h. */
enum scaled { BY_PRODUCT, BY_LEVELS, BY_DIVISION, BY_BRACKET, BY_POWER };

/* How a batch lies: a group in each of NL lines, groups of 2 or 4 k vectors one after the other, or
 * columns. */
enum layout { COLUMNS = 0, LINES = 1, TWO = 2, FOURS = 4 };

/* Three numbers for each group of a batch:
 *   a, low, b   y = x a, or x / a, and out = q b; BY_LEVELS (q b) low; BY_BRACKET low and a enclose
 *               the multiplier, and b = s
 *   BY_POWER    a = 2^emin s, low = largest s */
struct batch_scales {
    _Alignas(64) float a[3 * NL];
};

/* Floats from one group to the next in memory, where they are not columns. */
VINLINE int64_t group_pitch(const struct batches *t, const enum layout layout) {
    return layout == LINES ? t->stride : layout == TWO ? 2 * NL : t->vectors * NL;
}

VINLINE nu amax_rows(const float *x, const int64_t vectors, const int64_t pitch, const enum layout layout) {
    nu m[NL];
    UNROLL(16)
    for (int g = 0; g < NL; g++)
        m[g] = layout == LINES ? magnitude(nload(x + g * pitch)) : group_magnitude(vectors, x + g * pitch);
    for (int64_t v = 1; layout == LINES && v < vectors; v++) {
        UNROLL(16)
        for (int g = 0; g < NL; g++) m[g] = nmax_i(m[g], magnitude(nload(x + g * pitch + v * NL)));
    }
    return largest_of_each(m);
}

VINLINE nu amax_columns(const float *x, int64_t lines, int64_t stride) {
    nu m[2] = {nsetu(0), nsetu(0)};
    int64_t l = 0;
    for (; l + 4 <= lines; l += 4, x += 4 * stride) {
        UNROLL(4)
        for (int u = 0; u < 4; u++) m[u & 1] = nmax_i(m[u & 1], magnitude(nload(x + u * stride)));
    }
    for (; l < lines; l++, x += stride) m[0] = nmax_i(m[0], magnitude(nload(x)));
    return nmax_i(m[0], m[1]);
}

/* Whether every group is zero or within bounds. */
VINLINE int covered(nu amax) {
    const nmask outside = nmore_u(amax - LEAST, nsetu(MOST - LEAST));
    return (nlanes(outside) & ~nlanes(nequal_u(amax, nsetu(0)))) == 0;
}

VINLINE void ask_for(const struct batches *t, const float *x, const enum layout layout) {
    const int64_t lines = layout == COLUMNS ? t->vectors : NL * (layout == TWO ? 2 : t->vectors);
    const int64_t step = layout == COLUMNS ? t->stride : NL;
    if (t->far)
        for (int64_t l = 0; l < lines; l++) nprefetch_far(x + t->ahead + l * step);
    else
        for (int64_t l = 0; l < lines; l++) nprefetch(x + t->ahead + l * step);
}

/* Scales of covered groups, by the rules that need no more than this; amax of zeros is LEAST, since
 * zeros are zeros under any scale. */
VINLINE nf ratio_scale(const struct scaling *s, nu amax) {
    return (nf)nmax_i(amax, nsetu(LEAST)) / nset(s->plan->largest);
}

/* amax' exponent, one more where what is added carries into it, less that of the largest value. */
VINLINE nf power_scale(const struct scaling *s, nu amax) {
    const struct power_rule *r = &s->power;
    const nu sum = nmax_i(amax, nsetu(LEAST)) + (r->add + 0x7fffffu - r->threshold);
    return (nf)((sum & 0x7f800000u) - ((uint32_t)r->top << 23));
}

VINLINE void store_scales(struct batch_scales *s, nf a, nf low, nf b) {
    nstore(s->a, a);
    nstore(s->a + NL, low);
    nstore(s->a + 2 * NL, b);
}

VINLINE void make_scales(const struct batches *t, nu amax, const enum scaled scaled, struct batch_scales *s) {
    const struct scaling *scaling = &t->r->scaling;
    nf a = nset(1.0f), b = a;
    if (scaled == BY_BRACKET) {
        b = ratio_scale(scaling, amax);
        const nu inverse = (nu)(1.0f / b);
        store_scales(s, (nf)(inverse + 3u), (nf)(inverse - 2u), b);
    } else if (scaled == BY_DIVISION) {
        b = ratio_scale(scaling, amax);
        store_scales(s, b, b, b);
    } else if (scaled == BY_POWER) {
        b = power_scale(scaling, amax);
        store_scales(s, b * (nf)nsetu(t->r->round.emin_bits), b * nset(t->r->round.largest), b);
    } else {
        if (t->r->plan->granularity != FPL_UNSCALED) lane_scales(scaling, (nf)amax, &a, &b);
        store_scales(s, a, nset(scaling->dequant_2), b);
    }
}

/* Scales of the batch at x; 0 where it is not covered. */
VINLINE int prepare(const struct batches *t, const float *x, const enum layout layout,
                    const enum scaled scaled, struct batch_scales *s) {
    const int64_t vectors = layout == TWO ? 2 : t->vectors;
    if (t->ahead > 0 && (layout == COLUMNS || !t->past)) ask_for(t, x, layout);
    const nu amax = layout == COLUMNS ? amax_columns(x, t->vectors, t->stride)
                                      : amax_rows(x, vectors, group_pitch(t, layout), layout);
    if (__builtin_expect(!covered(amax), 0)) return 0;
    make_scales(t, amax, scaled, s);
    return 1;
}

/* Rows that go past the caches: x is asked for while an earlier batch is rounded, the next one
 * having been read for its scales. */
VINLINE int64_t flat_ahead(const struct batches *t, const enum layout layout) {
    return NL * group_pitch(t, layout) + t->ahead;
}

#endif
