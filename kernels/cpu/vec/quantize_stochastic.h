/* quantize_stochastic.h - a batch rounded stochastically with 16 or 32 random bits, AVX-512.
 *
 * With 16 bits and c = 2^(k + 7), k the exponent of the quantum: y + c rounded toward zero is c
 * plus floor(y/2^k 2^16) units of 2^(k-16), so that adding R to its bits and clearing 16 of
 * them leaves c plus the result.  M <= 5 keeps the sum within c's binade.
 *
 * Random bits of the next vectors are made between the roundings of these (quantize_random.h).
 */
#ifndef FPL_VEC_QUANTIZE_STOCHASTIC_H
#define FPL_VEC_QUANTIZE_STOCHASTIC_H

#include "quantize_batch.h"
#include "quantize_nearest.h"

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

VINLINE nf stochastic(const struct vround *v, nf x, struct lanes s, nu random, const enum scaled scaled,
                      const int clamped, const int words) {
    const nf m = (nf)magnitude(x);
    nf y = scaled == BY_DIVISION ? m / s.a : m * s.a;
    if (clamped) y = nmin(y, nset(v->largest));
    nf q;
    if (words) {
        q = carried(v, y, random);
    } else {
        const nf c = (nf)(nmax_i((nu)y & 0x7f800000u, nsetu(v->emin_bits)) + v->random_shift);
        const nu sum = (nu)_mm512_add_round_ps((__m512)y, (__m512)c, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
        q = (nf)((sum + random) & 0xffff0000u) - c;
    }
    nf back = q * s.b;
    if (scaled == BY_LEVELS) back = back * s.low;
    return nsigned(back, x);
}

/* Two buffers of random bits, of which number `which` holds those of the next vectors. */
struct random_bits {
    _Alignas(64) uint16_t bits[2][256];
    __m512i pattern;
    int which;
};

/* Elements from one run of sixteen to the next. */
VINLINE int64_t run_step(const struct batches *t, const enum layout layout) {
    return layout == COLUMNS || layout == LINES ? t->stride : NL;
}

/* The bits of the first vectors. */
VINLINE void first_bits(const struct batches *t, const enum layout layout, const int words,
                        struct random_bits *r) {
    const int64_t step = run_step(t, layout);
    struct philox_state s;
    r->which = 0;
    r->pattern = philox_pattern(step, words);
    philox_start(t->keys, r->pattern, t->at, step, words, &s);
    UNROLL(6)
    for (int round = 3; round < 9; round++) philox_round(t->keys, round, &s);
    philox_end(t->keys, &s, r->bits[0]);
}

/* The next vectors, as many as there are bits for, while those of as many more, from element `at`,
 * are made. */
VINLINE void stochastic_unit(const struct batches *t, const struct vround *v, const float *x, float *out,
                             struct way_through w, const enum layout layout, const float *groups,
                             struct lanes s, const enum scaled scaled, const int clamped, const int words,
                             struct random_bits *r, uint64_t at) {
    const int past = t->past, per = words ? 1 : 2;
    const uint16_t *random = r->bits[r->which];
    struct philox_state p;
    philox_start(t->keys, r->pattern, at, w.step, words, &p);
    UNROLL(8)
    for (int i = 0; i < 8; i++) {
        if (i < 6) philox_round(t->keys, i + 3, &p);
        UNROLL(2)
        for (int u = per * i; u < per * (i + 1); u++) {
            if (layout == LINES || (layout == TWO && u % 2 == 0)) {
                const float *one = groups + (layout == LINES ? u : u / 2);
                s.a = nset(one[0]), s.b = nset(one[2 * NL]);
            }
            const nu bits =
                words ? (nu)_mm512_load_si512(random + 32 * u)
                      : (nu)_mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *)(random + 16 * u)));
            if (past && layout != COLUMNS) nprefetch(x + u * w.step + w.ahead);
            nput(out + u * w.out_step, stochastic(v, nload(x + u * w.step), s, bits, scaled, clamped, words),
                 past);
        }
    }
    r->which ^= 1;
    philox_end(t->keys, &p, r->bits[r->which]);
}

/* `runs` vectors, from element `at`; next_at: the first element of those after them. */
VINLINE void stochastic_runs(const struct batches *t, const float *groups, const float *x, float *out,
                             uint64_t at, uint64_t next_at, int64_t runs, const enum layout layout,
                             const enum scaled scaled, const int clamped, const int words,
                             struct random_bits *r) {
    const struct vround v = t->r->round;
    const int64_t per = words ? 8 : 16;
    const struct way_through w = {run_step(t, layout),
                                  layout == COLUMNS || layout == LINES ? t->out_stride : NL,
                                  flat_ahead(t, layout)};
    struct lanes s = {nload(groups), nload(groups + NL), nload(groups + 2 * NL)};
    const float *first = groups;
    for (int64_t i = 0; i < runs; i += per, x += per * w.step, out += per * w.out_step) {
        if (layout == FOURS && i % t->vectors == 0) {
            s.a = nset(first[i / t->vectors]), s.b = nset(first[2 * NL + i / t->vectors]);
        }
        at += (uint64_t)(per * w.step);
        stochastic_unit(t, &v, x, out, w, layout, groups, s, scaled, clamped, words, r,
                        i + per < runs ? at : next_at);
        if (layout == LINES || layout == TWO) groups += per / (int)layout;
    }
}

/* One batch, from element `at`; next_at: the first element of the next. */
VINLINE void apply_stochastic(const struct batches *t, const struct batch_scales *s, const float *x,
                              float *out, uint64_t at, uint64_t next_at, const enum layout layout,
                              const enum scaled scaled, const int clamped, const int words,
                              struct random_bits *r) {
    const int64_t runs = layout == COLUMNS ? t->vectors
                         : layout == LINES ? NL
                                           : NL * (layout == TWO ? 2 : t->vectors);
    const int64_t pieces = layout == LINES ? t->vectors : 1;
    for (int64_t v = 0; v < pieces; v++, x += NL, out += NL, at += NL)
        stochastic_runs(t, s->a, x, out, at, v + 1 < pieces ? at + NL : next_at, runs, layout, scaled,
                        clamped, words, r);
}
#endif

#endif
