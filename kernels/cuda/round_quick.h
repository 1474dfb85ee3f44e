/* round_quick.h - scaling, rounding and scaling back in about ten instructions, for finite elements of the
 * formats and scales that training uses.
 *
 * Same meaning, same bits as formats/round.h and formats/scale.h (tests/host/test_host_quantize.cc), no
 * branch on data.  struct fpl_quick is made on the host from a plan; kind NONE sends every element the long
 * way (fpl_quantize_element), as does, for one group, fpl_group_is_quick.
 *
 *   NEAREST, DOWN   y = |x| scaled, at most the largest value.  Adding the power of two M' = 2^(k + 23 -
 * extra) to it, 2^k the format's quantum at y, moves the quantum to bit `extra` of the sum, by the addition's
 * own rounding.  NEAREST: extra = 0, to nearest even, and the parities agree because M >= 1.  DOWN: the sum
 * is truncated, then `add` goes on in integers and the bits below the quantum are cleared: extra = 1, add = 1
 * is rna; extra = r, add = R is sr (round.h: floor(f 2^r) + R >= 2^r carries exactly then); extra = 0 is rtz.
 * Subtracting M' is exact.  M + extra <= 22 keeps the sum in one binade.  Clamping first is right: rounding
 * is monotone and keeps the largest value. BITS   formats with the exponents of float32 (bf16, tf32): units
 * are the upper bits, subnormals too, and a carry out of the largest value is infinity by itself.
 *
 * Division by a scale is one multiplication and two fused multiply-adds with z = fl(1/s): q = fl(x z),
 * fl(q + fl(x - q s) z) is fl(x/s) (Markstein 1990; Brisebarre, Muller, IEEE TC 53, 2004, section 3) where
 * nothing underflows: |x| >= 2^-102 and s between 2^-100 and 2^100.  Smaller |x| give quotients which are
 * off, but so far below the format's quantum that they round to zero all the same (fpl_group_is_quick).
 */
#ifndef FPL_CUDA_ROUND_QUICK_H
#define FPL_CUDA_ROUND_QUICK_H

#include "launch.h"

#include "../../formats/scale.h"

enum fpl_quick_kind {
    FPL_QUICK_NONE,
    FPL_QUICK_NEAREST,
    FPL_QUICK_DOWN,
    FPL_QUICK_BITS,
    FPL_QUICK_KINDS,
    FPL_QUICK_POST = 8 /* added to a kind: the result is rounded once more, by `post` */
};

/* BITS: (u + add + (u >> drop & parity) + random) & mask, at most `most`. */
struct fpl_quick_bits {
    uint32_t add, parity, mask;
    int32_t drop;
    float most;
};

struct fpl_quick {
    int32_t kind, random_bits; /* random_bits: r of sr, else 0 */
    int32_t divides;           /* the scale rule divides */
    int32_t reach;             /* exponent below which a scaled value is certainly rounded to zero */
    uint32_t least, lift;      /* exponent bits of the smallest normal; (23 - M - extra) << 23 */
    uint32_t add, mask;
    float before;        /* y is clamped to this */
    float largest, over; /* results above largest become over */
    float zero;          /* -0, or +0 where the format has one zero: added to the result */
    int32_t raw;         /* results are not scaled back */
    struct fpl_quick_bits bits, post;
};

/* ---- made on the host -------------------------------------------------------------------------------- */

static inline int fpl_quick_bits_of(const struct fpl_round *p, struct fpl_quick_bits *b) {
    const int mode = p->mode == FPL_RNE || p->mode == FPL_RNA || p->mode == FPL_RTZ ||
                     (p->mode == FPL_SR && p->sr_bits <= 16);
    const int ieee = p->overflow == FPL_OVF && p->has_inf && p->largest > 0x1.8p127f;
    if (p->identity || p->codebook != 0 || !p->is_signed || !p->subnormals || p->one_zero || p->no_zero ||
        p->mbits < 1 || p->mbits > 22 || p->emin != -126 || !mode || !ieee)
        return 0;
    const int drop = 23 - p->mbits;
    b->drop = drop;
    b->parity = p->mode == FPL_RNE;
    b->add = p->mode == FPL_RNE ? (1u << (drop - 1)) - 1u : p->mode == FPL_RNA ? 1u << (drop - 1) : 0u;
    b->mask = ~((1u << drop) - 1u);
    b->most = p->mode == FPL_RTZ ? p->largest : fpl_bits_float(0x7f800000u);
    return 1;
}

static inline int fpl_quick_extra(const struct fpl_round *p) {
    return p->mode == FPL_SR ? p->sr_bits : p->mode == FPL_RNA ? 1 : 0;
}

static inline int fpl_quick_adds(const struct fpl_round *p) {
    const int mode = p->mode == FPL_RNE || p->mode == FPL_RNA || p->mode == FPL_RTZ ||
                     (p->mode == FPL_SR && p->sr_bits <= 16);
    const int over = p->overflow != FPL_OVF || (p->has_inf && p->mode != FPL_RTZ);
    if (p->identity || p->codebook != 0 || !p->is_signed || !p->subnormals || p->no_zero || p->mbits < 1 ||
        p->emin < -126 || !mode || !over)
        return 0;
    return p->mbits + fpl_quick_extra(p) <= 22 &&
           fpl_exponent(p->largest) + 1 + 23 - p->mbits - fpl_quick_extra(p) <= 126;
}

static inline struct fpl_quick fpl_quick_of(const struct fpl_quantizer_plan *p) {
    const struct fpl_round *f = &p->round;
    const int extra = fpl_quick_extra(f);
    struct fpl_quick q;
    memset(&q, 0, sizeof q);
    const int post = p->post.identity ? 0 : FPL_QUICK_POST;
    if (post && !(p->post.mode == FPL_RNE && fpl_quick_bits_of(&p->post, &q.post))) return q;
    if (p->identity && post) { /* the only rounding */
        q.bits = q.post;
        q.kind = FPL_QUICK_BITS;
        q.largest = 1.0f;
        q.zero = -0.0f;
        return q;
    }
    if (p->identity || p->zero_point || p->search) return q;
    q.divides = p->granularity != FPL_UNSCALED && !p->two_level &&
                (p->scale_rule == FPL_SCALE_FP32 || p->scale_rule == FPL_SCALE_DELAYED ||
                 p->scale_rule == FPL_SCALE_FORMAT);
    q.random_bits = f->mode == FPL_SR && f->sr_bits <= 16 ? f->sr_bits : 0;
    q.reach = f->emin - f->mbits - q.random_bits - 2;
    q.largest = q.before = p->largest;
    q.zero = f->one_zero ? 0.0f : -0.0f;
    if (fpl_quick_bits_of(f, &q.bits)) {
        q.kind = q.divides ? FPL_QUICK_NONE : FPL_QUICK_BITS + post;
    } else if (fpl_quick_adds(f)) {
        q.kind = (f->mode == FPL_RNE ? FPL_QUICK_NEAREST : FPL_QUICK_DOWN) + post;
        q.least = (uint32_t)(f->emin + 127) << 23;
        q.lift = (uint32_t)(23 - f->mbits - extra) << 23;
        q.add = f->mode == FPL_RNA;
        q.mask = ~((1u << extra) - 1u);
        q.over = f->overflow == FPL_OVF ? fpl_bits_float(0x7f800000u) : p->largest;
        if (f->overflow == FPL_OVF) q.before = fpl_power_of_two(fpl_exponent(p->largest) + 1);
    }
    return q;
}

/* ---- one group -------------------------------------------------------------------------------------------
 */

/* A group's scale as elements meet it: multiply by `forward` (1/s where the rule divides by s = back), round,
 * multiply by back, then by back_2. */
struct fpl_quick_scale {
    float forward, back, back_2;
    int32_t quick;
};

__device__ static inline struct fpl_quick_scale fpl_quick_scale_of(const struct fpl_quick *q,
                                                                   const struct fpl_group_scale *g) {
    struct fpl_quick_scale s;
    s.forward = g->divide ? 1.0f / g->quant : g->quant;
    s.back = g->dequant;
    s.back_2 = g->dequant_2;
    const int e = (int)(fpl_float_bits(g->quant) >> 23) - 127; /* of a positive number */
    const int divisible = !q->divides || (e < 100 && e >= -100 && e >= -100 - q->reach);
    s.quick = q->kind != FPL_QUICK_NONE && divisible && q->largest * s.back * s.back_2 <= FPL_FLOAT_MAX;
    return s;
}

/* The same as formats/scale.h knows it. */
__device__ static inline struct fpl_group_scale fpl_quick_full(const struct fpl_quick *q,
                                                               const struct fpl_quick_scale *s) {
    struct fpl_group_scale g;
    g.divide = q->divides && s->back != 0.0f;
    g.quant = g.divide ? s->back : s->forward;
    g.dequant = q->raw ? 1.0f : s->back;
    g.dequant_2 = q->raw ? 1.0f : s->back_2;
    g.zero = 0.0f;
    return g;
}

/* May elements of at most `most` in magnitude (NaN where one is) go the short way? */
__device__ static inline int fpl_quick_reaches(const struct fpl_quick_scale *s, float most) {
    return s->quick && most * s->forward <= 0x1p60f;
}

/* ---- one element -----------------------------------------------------------------------------------------
 */

#if FPL_HOST_EXECUTION
/* a + b truncated, a, b >= 0 and normal or zero: the nearest sum, less one unit where it is too large. */
static inline float fpl_add_down(float a, float b) {
    const float s = a + b;
    return (double)s > (double)a + (double)b ? fpl_bits_float(fpl_float_bits(s) - 1u) : s;
}
#else
__device__ static inline float fpl_add_down(float a, float b) { return __fadd_rz(a, b); }
#endif

__device__ static inline float fpl_quick_round_bits(const struct fpl_quick_bits *b, float y,
                                                    uint32_t random) {
    const uint32_t u = fpl_float_bits(y);
    return fminf(fpl_bits_float((u + b->add + (u >> b->drop & b->parity) + random) & b->mask), b->most);
}

/* KIND: q->kind without FPL_QUICK_POST. */
template <int KIND>
__device__ static inline float fpl_quick_element(const struct fpl_quick *q, const struct fpl_quick_scale *s,
                                                 float x, uint32_t random) {
    const float a = fabsf(x);
    float y = a * s->forward, r;
    if (q->divides) y = fmaf(fmaf(-y, s->back, a), s->forward, y);
    if (KIND == FPL_QUICK_BITS) {
        const int drop = q->bits.drop, more = drop - q->random_bits;
        r = fpl_quick_round_bits(&q->bits, y, more >= 0 ? random << more : random >> -more);
    } else {
        y = fminf(y, q->before);
        const uint32_t e = fpl_float_bits(y) & 0x7f800000u;
        const float lift = fpl_bits_float((e > q->least ? e : q->least) + q->lift);
        r = KIND == FPL_QUICK_NEAREST
                ? y + lift
                : fpl_bits_float((fpl_float_bits(fpl_add_down(y, lift)) + q->add + random) & q->mask);
        r -= lift;
        r = r > q->largest ? q->over : r;
    }
    r = fpl_bits_float(fpl_float_bits(r) | (fpl_float_bits(x) & 0x80000000u)) + q->zero;
    if (!q->raw) r = r * s->back * s->back_2;
    if (q->kind < FPL_QUICK_POST) return r;
    const float post = fpl_quick_round_bits(&q->post, fabsf(r), 0);
    return fpl_bits_float(fpl_float_bits(post) | (fpl_float_bits(r) & 0x80000000u));
}

#endif
