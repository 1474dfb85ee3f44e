/* quantize_fused.c - absmax scale and round, in one pass over NL groups at a time.
 *
 * For rne with M >= 1 and for stochastic rounding with 16 or 32 bits, saturating, scaled by the
 * fp32 rule, `mul`, a power of two or in two levels: what training does; stochastic rounding
 * without a scale too.  Everything else is quantize.c's.
 *
 *   amax    of NL groups at once: down the lines where groups are columns, otherwise by a
 *           transposition of maxima (quantize_lanes.h)
 *   scales  one group per lane; those of the next batch are made before this batch is rounded,
 *           so that divisions have finished when they are wanted
 *   round   four vectors at a time, without a branch
 *
 * Rounding to nearest, y = x/s: with low < 1/s < high, fl(x/s) lies between the exact products
 * x low and x high if those differ from x/s by 2^-24 of it or more; fl(y + c) (quantize_round.h)
 * is monotone in y, so where it is the same for both, it is that of fl(x/s).  They differ for
 * about one element in 2^(20-M): a batch that has one is done again with divisions, as is
 * everything where M > 4.  c may be that of the next binade: so close to its bound both
 * quanta round to the bound.  Nothing exceeds the largest value by the rules that divide by
 * it: x/s is above it by two roundings at most, which rounding undoes.
 *
 * Stochastically, with c = 2^(k + 7), k the exponent of the quantum: y + c rounded toward zero
 * is c plus floor(y/2^k 2^16) units of 2^(k-16), so that adding R to its bits and clearing 16
 * of them leaves c plus the result.  M <= 5 keeps the sum within c's binade.
 *
 * Scales and magnitudes are kept from the ends of float32's range by LEAST and MOST, beyond
 * which a batch is left to the general path.
 */
#include "quantize_fused.h"

#include "quantize_lanes.h"
#include "stream.h"

#define LEAST (67u << 23) /* bits of 2^-60 */
#define MOST (187u << 23) /* bits of 2^60 */

enum scaled { BY_PRODUCT, BY_LEVELS, BY_BRACKET, BY_DIVISION };

/* How a batch lies: groups of 1, 2 or 4 k vectors one after the other, or columns. */
enum layout { ONE = 1, TWO = 2, FOURS = 4, COLUMNS = 0 };

/* Scales of one batch, NL each of a, low, b: y = x a, or x / a; BY_BRACKET: low and a enclose
 * the multiplier; out = q b, BY_LEVELS (q b) low. */
struct batch_scales {
    _Alignas(64) float a[3 * NL];
};

/* ---- amax and scales ------------------------------------------------------------------------- */

VINLINE nu amax_rows(const float *x, const int64_t vectors) {
    nu m[NL];
    UNROLL(16)
    for (int g = 0; g < NL; g++) m[g] = group_magnitude(vectors, x + g * vectors * NL);
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

/* Scales of the batch at x; 0 where it is not covered. */
VINLINE int prepare(const struct batches *t, const float *x, const enum layout layout,
                    const enum scaled scaled, struct batch_scales *s) {
    const int64_t vectors = layout == ONE ? 1 : layout == TWO ? 2 : t->vectors;
    if (t->ahead > 0 && (layout == COLUMNS || !t->past)) {
        const int64_t lines = layout == COLUMNS ? t->vectors : NL * vectors;
        const int64_t step = layout == COLUMNS ? t->stride : NL;
        for (int64_t l = 0; l < lines; l++) nprefetch(x + t->ahead + l * step);
    }
    const nu amax = layout == COLUMNS ? amax_columns(x, t->vectors, t->stride) : amax_rows(x, vectors);
    if (__builtin_expect(!covered(amax), 0)) return 0;
    nf a = nset(1.0f), b = a;
    if (t->r->plan->granularity != FPL_UNSCALED) lane_scales(&t->r->scaling, (nf)amax, &a, &b);
    if (scaled == BY_LEVELS) nstore(s->a + NL, nset(t->r->scaling.dequant_2));
    if (scaled == BY_BRACKET) {
        const nu inverse = (nu)(1.0f / a);
        nstore(s->a + NL, (nf)(inverse - 2u));
        a = (nf)(inverse + 3u);
    }
    nstore(s->a, a);
    nstore(s->a + 2 * NL, b);
    return 1;
}

/* ---- rounding ---------------------------------------------------------------------------------- */

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

/* To nearest; differ: gathers the bits in which the bounds' sums differ. */
VINLINE nf nearest(const struct vround *v, nf x, nf a, nf low, nf b, const enum scaled scaled,
                   const int clamped, nu *differ) {
    nf y = scaled == BY_DIVISION ? x / a : x * a;
    if (clamped) y = nclamp(y, v->largest);
    const nf c = magic(v, y);
    const nf sum = y + c;
    if (scaled == BY_BRACKET) *differ = ngather(*differ, (nu)sum, (nu)bound(x, low, c));
    nf back = (sum - c) * b;
    if (scaled == BY_LEVELS) back = back * low;
    return nsigned(back, x);
}

/* `count` vectors; scales: of the first of them, where layout has more than one group here. */
VINLINE void unit(const struct vround *v, const float *x, int64_t step, float *out, int64_t out_step,
                  const int past, const int64_t ahead, const int count, const enum layout layout,
                  const float *scales, nf a, nf low, nf b, const enum scaled scaled, const int clamped,
                  nu *differ) {
    nf to[4];
    UNROLL(4)
    for (int u = 0; u < count; u++) {
        if (layout == ONE || (layout == TWO && u % 2 == 0)) {
            const float *one = scales + (layout == ONE ? u : u / 2);
            a = nset(one[0]), low = nset(one[NL]), b = nset(one[2 * NL]);
        }
        /* Half of the divisions for real: the divider would be idle otherwise. */
        const int divided = scaled == BY_BRACKET && u % 2 == 1;
        const nf from = nload(x + u * step);
        to[u] = divided ? nearest(v, from, b, low, b, BY_DIVISION, clamped, differ)
                        : nearest(v, from, a, low, b, scaled, clamped, differ);
    }
    if (past) {
        UNROLL(4)
        for (int u = 0; u < count; u++) {
            if (layout != COLUMNS) nprefetch(x + u * step + ahead);
            nput(out + u * out_step, to[u], 1);
        }
    } else {
        UNROLL(4)
        for (int u = 0; u < count; u++) nstore(out + u * out_step, to[u]);
    }
}

/* Rows that go past the caches: x is asked for while an earlier batch is rounded, the next one
 * having been read for its scales. */
VINLINE int64_t flat_ahead(const struct batches *t, const enum layout layout) {
    return NL * NL * (layout == FOURS ? t->vectors : (int64_t)layout) + t->ahead;
}

/* One batch; returns 0 where bounds differ, so that it must be divided. */
VINLINE int apply(const struct batches *t, const struct batch_scales *s, const float *x, float *out,
                  const enum layout layout, const enum scaled scaled, const int clamped) {
    const struct vround v = t->r->round;
    const float *a = s->a;
    const int past = t->past;
    const int64_t ahead = flat_ahead(t, layout);
    nu differ = nsetu(0);
    const nf none = nset(0.0f);
    if (layout == COLUMNS) {
        const nf ca = nload(a), low = nload(a + NL), b = nload(a + 2 * NL);
        const int64_t step = t->stride, out_step = t->out_stride;
        int64_t l = t->vectors;
        for (; l >= 4; l -= 4, x += 4 * step, out += 4 * out_step)
            unit(&v, x, step, out, out_step, past, 0, 4, layout, a, ca, low, b, scaled, clamped, &differ);
        for (; l > 0; l--, x += step, out += out_step)
            unit(&v, x, step, out, out_step, past, 0, 1, layout, a, ca, low, b, scaled, clamped, &differ);
    } else if (layout == FOURS) {
        for (int g = 0; g < NL; g++) {
            const nf ga = nset(a[g]), low = nset(a[NL + g]), b = nset(a[2 * NL + g]);
            for (int64_t i = 0; i < t->vectors; i += 4, x += 4 * NL, out += 4 * NL)
                unit(&v, x, NL, out, NL, past, ahead, 4, layout, a, ga, low, b, scaled, clamped, &differ);
        }
    } else {
        for (int i = 0; i < NL * (int)layout; i += 4, x += 4 * NL, out += 4 * NL)
            unit(&v, x, NL, out, NL, past, ahead, 4, layout, a + i / (int)layout, none, none, none, scaled,
                 clamped, &differ);
    }
    return scaled != BY_BRACKET || nlanes(nequal_u(differ, nsetu(0))) == (1u << NL) - 1u;
}

/* ---- stochastic rounding ------------------------------------------------------------------------ */

#if defined(FPL_LEVEL_avx512)
/* floor((floor(f 2^32) + R) / 2^32) of the fraction f of y in quanta: one more where f's first 32
 * bits and R carry.  Multiplying by powers of two, floor and what it leaves are exact. */
VINLINE nf carried(const struct vround *v, nf y, nu random) {
    const nu k = nmax_i((nu)y & 0x7f800000u, nsetu(v->emin_bits)) - v->mantissa;
    const __m512 t = (__m512)(y * (nf)(nsetu(254u << 23) - k));
    const __m512 fraction = _mm512_reduce_ps(t, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    const __m512 whole = _mm512_sub_ps(t, fraction);
    const __m512i first = _mm512_cvttps_epu32(_mm512_mul_ps(fraction, _mm512_set1_ps(0x1p32f)));
    const __mmask16 carry = _mm512_cmpgt_epu32_mask(first, (__m512i)~random);
    return (nf)_mm512_mask_add_ps(whole, carry, whole, _mm512_set1_ps(1.0f)) * (nf)k;
}

VINLINE nf stochastic(const struct vround *v, nf x, nf a, nf low, nf b, nu random, const enum scaled scaled,
                      const int clamped, const int words) {
    const nf m = (nf)magnitude(x);
    nf y = scaled == BY_DIVISION ? m / a : m * a;
    if (clamped) y = nmin(y, nset(v->largest));
    nf q;
    if (words) {
        q = carried(v, y, random);
    } else {
        const nf c = (nf)(nmax_i((nu)y & 0x7f800000u, nsetu(v->emin_bits)) + v->random_shift);
        const nu sum = (nu)_mm512_add_round_ps((__m512)y, (__m512)c, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
        q = (nf)((sum + random) & 0xffff0000u) - c;
    }
    nf back = q * b;
    if (scaled == BY_LEVELS) back = back * low;
    return nsigned(back, x);
}

/* The next vectors, as many as `random` has bits for, while those of as many more, from element
 * `at`, are made. */
VINLINE void stochastic_unit(const struct batches *t, const struct vround *v, const float *x, float *out,
                             int64_t step, int64_t out_step, const enum layout layout, const float *scales,
                             nf a, nf low, nf b, const enum scaled scaled, const int clamped, const int words,
                             const uint16_t *random, __m512i pattern, uint64_t at, uint16_t *next) {
    const int past = t->past, per = words ? 1 : 2;
    const int64_t ahead = flat_ahead(t, layout);
    struct philox_state s;
    philox_start(t->keys, pattern, at, step, words, &s);
    UNROLL(8)
    for (int i = 0; i < 8; i++) {
        if (i < 6) philox_round(t->keys, i + 3, &s);
        UNROLL(2)
        for (int u = per * i; u < per * (i + 1); u++) {
            if (layout == ONE || (layout == TWO && u % 2 == 0)) {
                const float *one = scales + (layout == ONE ? u : u / 2);
                a = nset(one[0]), b = nset(one[2 * NL]);
            }
            const nu bits =
                words ? (nu)_mm512_load_si512(random + 32 * u)
                      : (nu)_mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *)(random + 16 * u)));
            if (past && layout != COLUMNS) nprefetch(x + u * step + ahead);
            nput(out + u * out_step,
                 stochastic(v, nload(x + u * step), a, low, b, bits, scaled, clamped, words), past);
        }
    }
    philox_end(t->keys, &s, next);
}

/* One batch; random: two buffers of bits, of which number *which holds those of this batch's
 * first vectors; next_at: the first element of the next batch. */
VINLINE void apply_stochastic(const struct batches *t, const struct batch_scales *s, const float *x,
                              float *out, uint64_t at, uint64_t next_at, const enum layout layout,
                              const enum scaled scaled, const int clamped, const int words,
                              uint16_t random[2][256], int *which) {
    const struct vround v = t->r->round;
    const int64_t vectors = layout == COLUMNS ? t->vectors : NL * (layout == FOURS ? t->vectors : layout);
    const int64_t step = layout == COLUMNS ? t->stride : NL,
                  out_step = layout == COLUMNS ? t->out_stride : NL, per = words ? 8 : 16;
    const __m512i pattern = philox_pattern(step, words);
    const float *scales = s->a;
    nf a = nload(s->a), b = nload(s->a + 2 * NL);
    const nf low = nload(s->a + NL);
    for (int64_t i = 0; i < vectors; i += per, x += per * step, out += per * out_step) {
        if (layout == FOURS && i % t->vectors == 0) {
            a = nset(s->a[i / t->vectors]), b = nset(s->a[2 * NL + i / t->vectors]);
        }
        at += (uint64_t)(per * step);
        stochastic_unit(t, &v, x, out, step, out_step, layout, scales, a, low, b, scaled, clamped, words,
                        random[*which], pattern, i + per < vectors ? at : next_at, random[*which ^ 1]);
        *which ^= 1;
        if (layout == ONE || layout == TWO) scales += per / (int)layout;
    }
}

/* The bits of the first vectors. */
VINLINE void first_bits(const struct batches *t, const enum layout layout, const int words, uint16_t *out) {
    const int64_t step = layout == COLUMNS ? t->stride : NL;
    struct philox_state s;
    philox_start(t->keys, philox_pattern(step, words), t->at, step, words, &s);
    UNROLL(6)
    for (int round = 3; round < 9; round++) philox_round(t->keys, round, &s);
    philox_end(t->keys, &s, out);
}
#endif

/* ---- batches --------------------------------------------------------------------------------- */

/* Again, with divisions. */
static __attribute__((noinline)) void divide_batch(const struct batches *t, struct batch_scales *s,
                                                   const float *x, float *out, const enum layout layout) {
    nstore(s->a, nload(s->a + 2 * NL));
    if (layout == COLUMNS)
        apply(t, s, x, out, COLUMNS, BY_DIVISION, 0);
    else if (layout == ONE)
        apply(t, s, x, out, ONE, BY_DIVISION, 0);
    else if (layout == TWO)
        apply(t, s, x, out, TWO, BY_DIVISION, 0);
    else
        apply(t, s, x, out, FOURS, BY_DIVISION, 0);
}

/* random: 0, or the bits of random numbers that an element takes. */
VINLINE int64_t run(const struct batches *t, const enum layout layout, const enum scaled scaled,
                    const int clamped, const int random) {
    const int64_t distance = layout == COLUMNS ? NL : NL * NL * t->vectors;
    /* from the last batch of a band to the first of the next */
    const int64_t back = t->across * distance;
    const int64_t x_jump = t->vectors * t->stride - back, out_jump = t->vectors * t->out_stride - back;
    const float *x = t->x;
    float *out = t->out;
    uint64_t at = t->at;
    int64_t left = t->across;
    struct batch_scales scales[2];
#if defined(FPL_LEVEL_avx512)
    _Alignas(64) uint16_t bits[2][256];
    int which = 0;
#else
    (void)random;
    (void)at; /* set, and read with random bits only */
#endif
    if (t->count == 0 || !prepare(t, x, layout, scaled, &scales[0])) return 0;
#if defined(FPL_LEVEL_avx512)
    if (random) first_bits(t, layout, random == 32, bits[0]);
#endif
    for (int64_t i = 0;;) {
        struct batch_scales *now = &scales[i & 1];
        int64_t move = distance, out_move = distance;
        if (layout == COLUMNS && --left == 0) {
            left = t->across;
            move += x_jump;
            out_move += out_jump;
        }
        int more = i + 1 < t->count;
        if (more) more = prepare(t, x + move, layout, scaled, &scales[(i + 1) & 1]);
#if defined(FPL_LEVEL_avx512)
        if (random)
            apply_stochastic(t, now, x, out, at, at + (uint64_t)move, layout, scaled, clamped, random == 32,
                             bits, &which);
        else
#endif
            if (__builtin_expect(!apply(t, now, x, out, layout, scaled, clamped), 0))
            divide_batch(t, now, x, out, layout);
        i++;
        if (!more) return i;
        x += move;
        out += out_move;
        at += (uint64_t)move;
    }
}

/* ---- choice ---------------------------------------------------------------------------------- */

enum variant {
    PRODUCT,
    PRODUCT_CLAMPED,
    BRACKET,
    DIVISION,
    LEVELS,
    SR_PRODUCT,
    SR_PRODUCT_CLAMPED,
    SR_DIVISION,
    SR_LEVELS,
    SR32_PRODUCT,
    SR32_PRODUCT_CLAMPED,
    SR32_DIVISION,
    SR32_LEVELS,
    VARIANTS
};

/* clang-format off */
#define FORM(layout, name, variant, scaled, clamped, random)                                                  \
    static int64_t name##_##variant(const struct batches *t) { return run(t, layout, scaled, clamped, random); }
#define FORMS(layout, name)                                                                                    \
    FORM(layout, name, PRODUCT, BY_PRODUCT, 0, 0) FORM(layout, name, PRODUCT_CLAMPED, BY_PRODUCT, 1, 0)        \
    FORM(layout, name, BRACKET, BY_BRACKET, 0, 0) FORM(layout, name, DIVISION, BY_DIVISION, 0, 0)              \
    FORM(layout, name, LEVELS, BY_LEVELS, 1, 0)                                                                \
    FORM(layout, name, SR_PRODUCT, BY_PRODUCT, 0, 16) FORM(layout, name, SR_PRODUCT_CLAMPED, BY_PRODUCT, 1, 16) \
    FORM(layout, name, SR_DIVISION, BY_DIVISION, 0, 16) FORM(layout, name, SR_LEVELS, BY_LEVELS, 1, 16)        \
    FORM(layout, name, SR32_PRODUCT, BY_PRODUCT, 0, 32) FORM(layout, name, SR32_PRODUCT_CLAMPED, BY_PRODUCT, 1, 32) \
    FORM(layout, name, SR32_DIVISION, BY_DIVISION, 0, 32) FORM(layout, name, SR32_LEVELS, BY_LEVELS, 1, 32)
#define ONE_OF(name, variant) [variant] = name##_##variant
#define FORM_ROW(name)                                                                                         \
    {ONE_OF(name, PRODUCT), ONE_OF(name, PRODUCT_CLAMPED), ONE_OF(name, BRACKET), ONE_OF(name, DIVISION),      \
     ONE_OF(name, LEVELS), ONE_OF(name, SR_PRODUCT), ONE_OF(name, SR_PRODUCT_CLAMPED),                         \
     ONE_OF(name, SR_DIVISION), ONE_OF(name, SR_LEVELS), ONE_OF(name, SR32_PRODUCT),                           \
     ONE_OF(name, SR32_PRODUCT_CLAMPED), ONE_OF(name, SR32_DIVISION), ONE_OF(name, SR32_LEVELS)}

FORMS(COLUMNS, columns)
FORMS(ONE, one)
FORMS(TWO, two)
FORMS(FOURS, fours)
/* clang-format on */

static const fused_fn forms[4][VARIANTS] = {FORM_ROW(columns), FORM_ROW(one), FORM_ROW(two), FORM_ROW(fours)};

fused_fn FPL_VEC(fused)(const struct rounding *r, int by_columns, int64_t vectors, int64_t stride,
                        uint64_t at, int in_place) {
    const struct fpl_quantizer_plan *p = r->plan;
    const int M = p->round.mbits, random = r->stochastic;
    int set = SR_PRODUCT;
    const int row = by_columns ? 0 : vectors % 4 == 0 ? 3 : vectors <= 2 ? (int)vectors : 4; /* 4: none */
    const int levels = p->two_level && r->scaling.kind == SCALE_FORMAT && p->round.is_signed &&
                       !p->round.one_zero && p->post.identity;
    if (row > 3 || (r->careful && !levels) || !r->round.exact_sat) return NULL;
    if (p->largest < 1.0f || p->largest > 0x1p40f || p->round.emin < -60) return NULL;
    if (!random && (r->round.way != WAY_MAGIC || M > 20 || p->granularity == FPL_UNSCALED)) return NULL;
    if (random) {
        const int words = r->round.way == WAY_SR_WIDE && p->round.sr_bits == 32;
        const int halves = r->round.way == WAY_SR && p->round.sr_bits == 16 && M <= 5 && p->round.subnormals;
        if (NL < 16 || (!words && !halves) || !p->round.subnormals) return NULL;
        if (at % 8 != 0 || at >> 33 != 0 ||
            (by_columns ? stride % 8 != 0 || vectors % 16 != 0 : row == 3 && vectors % 16 != 0))
            return NULL;
        set = words ? SR32_PRODUCT : SR_PRODUCT;
        if (p->granularity == FPL_UNSCALED) return forms[row][set + SR_PRODUCT_CLAMPED - SR_PRODUCT];
    }
    if (levels) return forms[row][random ? set + SR_LEVELS - SR_PRODUCT : LEVELS];
    switch (p->scale_rule) {
    case FPL_SCALE_FP32:
        if (random) return forms[row][set + SR_DIVISION - SR_PRODUCT];
        return forms[row][M <= 4 && !in_place ? BRACKET : DIVISION];
    case FPL_SCALE_MUL:
    case FPL_SCALE_RCEIL:
    case FPL_SCALE_CEIL:
        return forms[row][random ? set : PRODUCT];
    case FPL_SCALE_FLOOR:
    case FPL_SCALE_EVEN:
        return forms[row][random ? set + SR_PRODUCT_CLAMPED - SR_PRODUCT : PRODUCT_CLAMPED];
    default:
        return NULL;
    }
}
