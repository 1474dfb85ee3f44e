/* quantize_nearest.h - a batch rounded to nearest, four vectors at a time, without a branch.
 *
 * By division's rule, y = x/s: with low < 1/s < high, fl(x/s) lies between the exact products
 * x low and x high if those differ from x/s by 2^-24 of it or more; fl(y + c) (quantize_round.h)
 * is monotone in y, so where it is the same for both, it is that of fl(x/s).  They differ for
 * about one element in 2^(20-M): a batch that has one is done again with divisions, as is
 * everything where M > 4.  c may be that of the next binade: so close to its bound both
 * quanta round to the bound.  Nothing exceeds the largest value by the rules that divide by
 * it: x/s is above it by two roundings at most, which rounding undoes.
 *
 * By powers of two, s = 2^k, x itself is rounded at the quantum times s: all of emin, c and the
 * largest value times s are floats, and out is a multiple of the least quantum times s, a normal
 * float (power_fits()), so that fl(q s) does not round.  Where x/s would be subnormal, it and
 * x are far below half a quantum, and both come to zero.
 */
#ifndef FPL_VEC_QUANTIZE_NEAREST_H
#define FPL_VEC_QUANTIZE_NEAREST_H

#include "quantize_batch.h"

/* fl(x low + c); a float below or equal to fl(fl(x/s) + c) for positive x. */
VINLINE nf bound(nf x, nf low, nf c) {
#if defined(FPL_LEVEL_baseline)
    return x * low + c; /* fused here is a call; rounding twice is monotone too */
#else
    return nfma(x, low, c);
#endif
}

/* all | (a ^ b) */
VINLINE nu ngather(nu all, nu a, nu b) {
#if defined(FPL_LEVEL_avx512)
    return (nu)_mm512_ternarylogic_epi32((__m512i)all, (__m512i)a, (__m512i)b, 0xf6);
#else
    return all | (a ^ b);
#endif
}

/* Scales of the vectors at hand. */
struct lanes {
    nf a, low, b;
};

VINLINE nf power_nearest(const struct vround *v, nf x, struct lanes s, const int clamped) {
    const nf y = clamped ? nwithin(x, s.low) : x;
    const nf c = (nf)(nmax_i((nu)y & 0x7f800000u, (nu)s.a) + v->shift);
    return nsigned((y + c) - c, x);
}

/* differ: gathers the bits in which the bounds' sums differ. */
VINLINE nf nearest(const struct vround *v, nf x, struct lanes s, const enum scaled scaled, const int clamped,
                   nu *differ) {
    if (scaled == BY_POWER) return power_nearest(v, x, s, clamped);
    nf y = scaled == BY_DIVISION ? x / s.a : x * s.a;
    if (clamped) y = nclamp(y, v->largest);
    const nf c = magic(v, y);
    const nf sum = y + c;
    if (scaled == BY_BRACKET) *differ = ngather(*differ, (nu)sum, (nu)bound(x, s.low, c));
    nf back = (sum - c) * s.b;
    if (scaled == BY_LEVELS) back = back * s.low;
    return nsigned(back, x);
}

/* Where vectors lie and go: from one to the next, and how far ahead x is asked for. */
struct way_through {
    int64_t step, out_step, ahead;
};

/* `count` vectors; groups: scales of the first of them, where layout has more than one group
 * here. */
VINLINE void unit(const struct vround *v, const float *x, float *out, struct way_through w, const int past,
                  const int count, const enum layout layout, const float *groups, struct lanes s,
                  const enum scaled scaled, const int clamped, nu *differ) {
    nf to[4];
    UNROLL(4)
    for (int u = 0; u < count; u++) {
        if (layout == LINES || (layout == TWO && u % 2 == 0)) {
            const float *one = groups + (layout == LINES ? u : u / 2);
            s = (struct lanes){nset(one[0]), nset(one[NL]), nset(one[2 * NL])};
        }
        /* Half of the divisions for real: the divider would be idle otherwise. */
        const int divided = scaled == BY_BRACKET && u % 2 == 1;
        const nf from = nload(x + u * w.step);
        to[u] = divided ? nearest(v, from, (struct lanes){s.b, s.low, s.b}, BY_DIVISION, clamped, differ)
                        : nearest(v, from, s, scaled, clamped, differ);
    }
    UNROLL(4)
    for (int u = 0; u < count; u++) {
        if (past && layout != COLUMNS) nprefetch(x + u * w.step + w.ahead);
        nput(out + u * w.out_step, to[u], past);
    }
}

/* One batch; returns 0 where bounds differ, so that it must be divided.  past: t->past. */
VINLINE int apply(const struct batches *t, const struct batch_scales *scales, const float *x, float *out,
                  const enum layout layout, const enum scaled scaled, const int clamped, const int past) {
    const struct vround v = t->r->round;
    const float *a = scales->a;
    struct way_through w = {NL, NL, flat_ahead(t, layout)};
    struct lanes s = {nload(a), nload(a + NL), nload(a + 2 * NL)};
    nu differ = nsetu(0);
    if (layout == COLUMNS || layout == LINES) {
        w.step = t->stride;
        w.out_step = t->out_stride;
    }
    if (layout == COLUMNS) {
        int64_t l = t->vectors;
        for (; l >= 4; l -= 4, x += 4 * w.step, out += 4 * w.out_step)
            unit(&v, x, out, w, past, 4, layout, a, s, scaled, clamped, &differ);
        for (; l > 0; l--, x += w.step, out += w.out_step)
            unit(&v, x, out, w, past, 1, layout, a, s, scaled, clamped, &differ);
    } else if (layout == LINES) {
        for (int64_t i = 0; i < t->vectors; i++, x += NL, out += NL)
            for (int g = 0; g < NL; g += 4)
                unit(&v, x + g * w.step, out + g * w.out_step, w, past, 4, layout, a + g, s, scaled, clamped,
                     &differ);
    } else if (layout == FOURS) {
        for (int g = 0; g < NL; g++) {
            s = (struct lanes){nset(a[g]), nset(a[NL + g]), nset(a[2 * NL + g])};
            for (int64_t i = 0; i < t->vectors; i += 4, x += 4 * NL, out += 4 * NL)
                unit(&v, x, out, w, past, 4, layout, a, s, scaled, clamped, &differ);
        }
    } else {
        for (int g = 0; g < NL; g += 2, x += 4 * NL, out += 4 * NL)
            unit(&v, x, out, w, past, 4, layout, a + g, s, scaled, clamped, &differ);
    }
    return scaled != BY_BRACKET || nlanes(nequal_u(differ, nsetu(0))) == (1u << NL) - 1u;
}

/* Again, with divisions. */
static __attribute__((noinline)) void divide_batch(const struct batches *t, struct batch_scales *s,
                                                   const float *x, float *out, const enum layout layout) {
    nstore(s->a, nload(s->a + 2 * NL));
    if (layout == COLUMNS)
        apply(t, s, x, out, COLUMNS, BY_DIVISION, 0, t->past);
    else if (layout == LINES)
        apply(t, s, x, out, LINES, BY_DIVISION, 0, t->past);
    else if (layout == TWO)
        apply(t, s, x, out, TWO, BY_DIVISION, 0, t->past);
    else
        apply(t, s, x, out, FOURS, BY_DIVISION, 0, t->past);
}

#endif
