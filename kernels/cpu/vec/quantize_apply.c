/* quantize_apply.c - floats whose scales are known: scale, round, scale back.
 *
 * Every way of quantize_round.h has a plain form (finite elements, `sat`) and a careful one,
 * which also knows second roundings, single zeros, two-level scales, and finds the lanes
 * that only the scalar definition covers.
 *
 * The fast forms are for the common case, rne with M >= 1 and saturation.  They do not divide:
 * with the floats a < 1/s < b next to each other but one, fl(x a) and fl(x b) enclose fl(x/s),
 * because rounding is monotone; and where both round to one value of the format, so does
 * whatever is between them.  They differ for about one element in 2^(20-M), whose vectors are
 * then divided.  (Fused multiply-adds would save two multiplications and cost more: on Zen 5
 * each occupies an adder too.)  Where no element can exceed the largest value, nothing is
 * clamped: by the rules that divide by the largest value, x/s exceeds it by two roundings at
 * most, which rounding to M <= 20 bits undoes.
 */
#include "quantize_apply.h"

#include "../../../formats/random.h"
#include "quantize_lanes.h"
#include "stream.h"

struct rounding FPL_VEC(rounding)(const struct fpl_quantizer_plan *plan, float amax_tensor) {
    struct rounding r = {.plan = plan};
    const struct fpl_round *post = &plan->post;
    r.scaling = FPL_VEC(scaling)(plan, amax_tensor);
    r.round = lower_vround(&plan->round, plan->round.is_signed);
    r.post = lower_vround(post, post->is_signed);
    if (plan->identity) {
        r.round.way = WAY_NONE;
        r.round.largest = FPL_FLOAT_MAX;
    }
    if (!post->identity && (r.post.way == WAY_SCALAR || post->mode != FPL_RNE || post->one_zero))
        r.round.way = WAY_SCALAR;
    r.stochastic = !plan->identity && fpl_is_stochastic(plan->round.mode);
    r.careful = !r.round.exact_sat || plan->round.one_zero || plan->two_level || !post->identity;
    r.overflows = r.careful && !plan->round.one_zero && !plan->two_level && post->identity;
    return r;
}

/* ---- by the definition -------------------------------------------------------------------------- */

/* The element at x[at] under scales number g. */
static float scalar_element(const struct rectangle *t, int64_t at, int64_t g) {
    const struct rounding *r = t->r;
    struct fpl_group_scale scale = {.divide = r->scaling.divide,
                                    .quant = t->quant[g],
                                    .dequant = t->dequant[g],
                                    .dequant_2 = r->scaling.dequant_2};
    if (r->plan->two_level && scale.quant == ZERO_GROUP && scale.dequant != 0.0f)
        scale.quant = scale.dequant_2 = 1.0f; /* a group of zeros and of what is not finite */
    float y = t->x[at];
    uint32_t random = 0;
    if (r->stochastic)
        random = fpl_random_bits(r->at->seed, r->at->step, r->at->stream,
                                 r->at->element + (uint64_t)(t->x + at - r->x), r->plan->round.sr_bits);
    if (!r->plan->identity) y = fpl_quantize_element(r->plan, &scale, y, random);
    return fpl_round_value(&r->plan->post, y, 0);
}

static void scalar_rectangle(const struct rectangle *t) {
    for (int64_t l = 0; l < t->lines; l++)
        for (int64_t i = 0; i < t->n; i++)
            t->out[l * t->out_stride + i] = scalar_element(t, l * t->stride + i, i / t->wide);
}

/* ---- every way ------------------------------------------------------------------------------------ */

VINLINE nu random_lanes(const uint16_t *random, const int way) {
    if (way == WAY_SR_WIDE) {
        nu words;
        memcpy(&words, random, sizeof words);
        return words;
    }
    typedef uint16_t halves __attribute__((vector_size(2 * NL)));
    halves h;
    memcpy(&h, random, sizeof h);
    return __builtin_convertvector(h, nu);
}

/* What a careful line adds. q: rounded magnitude before scaling back, out: after; lanes: left
 * to scalar_element. */
VINLINE nf careful_steps(const struct rounding *r, nu magnitude, nf y, nf q, nf out, nu *sign,
                         uint32_t *lanes) {
    *lanes = ~nlanes(nmore_i(nsetu(0x7f800000u), magnitude));
    if (!r->round.exact_sat) *lanes |= nlanes(nmore(y, nset(r->round.largest)));
    if (r->plan->round.one_zero && !r->plan->identity)
        *sign = nselect(nequal_u((nu)q, nsetu(0)), nsetu(0), *sign);
    if (!r->plan->post.identity) {
        *lanes |= nlanes(nmore(out, nset(r->post.largest)));
        out = vround_magnitude(&r->post, WAY_RNE, out, *sign, nsetu(0));
    }
    *lanes &= (1u << NL) - 1u;
    return out;
}

/* The vector i of line l, of n lanes, under scales a and b, the first of them number g. */
VINLINE void any_vector(const struct rectangle *t, int64_t l, int64_t i, const int64_t n, nf a, nf b,
                        int64_t g, const uint16_t *random, const int way, const int divide,
                        const int careful) {
    const struct rounding *r = t->r;
    const int64_t at = l * t->stride + i;
    float *to = t->out + l * t->out_stride + i;
    nprefetch(t->x + at + t->ahead);
    const nu bits = (nu)(n == NL ? nload(t->x + at) : nload_n(t->x + at, n));
    const nu magnitude = bits & 0x7fffffffu;
    nu sign = bits & 0x80000000u;
    const nf y = divide ? (nf)magnitude / a : (nf)magnitude * a;
    const nf q = vround_magnitude(&r->round, way, nmin(y, nset(r->round.largest)), sign,
                                  HALVES(way) > 0 ? random_lanes(random, way) : nsetu(0));
    nf out = q * b;
    uint32_t lanes = 0;
    if (careful) out = out * r->scaling.dequant_2;
    out = nmin(out, nset(FPL_FLOAT_MAX));
    if (careful) out = careful_steps(r, magnitude, y, q, out, &sign, &lanes);
    out = (nf)((nu)out | sign);
    if (careful)
        for (; lanes != 0; lanes &= lanes - 1) {
            const int lane = __builtin_ctz(lanes);
            if (lane < n) out[lane] = scalar_element(t, at + lane, t->wide > 1 ? g : g + lane);
        }
    if (n == NL)
        nput(to, out, t->past);
    else
        nstore_n(to, out, n);
}

/* One scale per column: down the lines, with the scales of NL columns in registers. */
VINLINE void any_columns(const struct rectangle *t, const int way, const int divide, const int careful) {
    for (int64_t i = 0; i < t->n; i += NL) {
        const nf a = nload(t->quant + i), b = nload(t->dequant + i);
        const int whole = i + NL <= t->n;
        for (int64_t l = 0; l < t->lines; l++) {
            const uint16_t *random = t->random + l * t->random_stride + i * HALVES(way);
            if (whole)
                any_vector(t, l, i, NL, a, b, i, random, way, divide, careful);
            else
                any_vector(t, l, i, t->n - i, a, b, i, random, way, divide, careful);
        }
    }
}

VINLINE void any_groups(const struct rectangle *t, const int way, const int divide, const int careful) {
    for (int64_t l = 0; l < t->lines; l++) {
        const uint16_t *random = t->random + l * t->random_stride;
        for (int64_t g = 0, i = 0; i < t->n; g++) {
            const nf a = nset(t->quant[g]), b = nset(t->dequant[g]);
            const int64_t end = i + t->wide < t->n ? i + t->wide : t->n;
            for (; i < end; i += NL)
                any_vector(t, l, i, NL, a, b, g, random + i * HALVES(way), way, divide, careful);
        }
    }
}

/* Eight forms of a way: [4 * grouped + 2 * divide + careful] */
/* clang-format off */
#define FORM(way, layout, divide, careful)                                                                   \
    static void layout##_##way##_##divide##careful(const struct rectangle *t) { any_##layout(t, way, divide, careful); }
#define FORMS(way)                                                                                           \
    FORM(way, columns, 0, 0) FORM(way, columns, 0, 1) FORM(way, columns, 1, 0) FORM(way, columns, 1, 1)      \
    FORM(way, groups, 0, 0) FORM(way, groups, 0, 1) FORM(way, groups, 1, 0) FORM(way, groups, 1, 1)
#define FORM_ROW(way)                                                                                        \
    [way] = {columns_##way##_00, columns_##way##_01, columns_##way##_10, columns_##way##_11,                 \
             groups_##way##_00,  groups_##way##_01,  groups_##way##_10,  groups_##way##_11}

FORMS(WAY_NONE)
FORMS(WAY_MAGIC)
FORMS(WAY_RNE)
FORMS(WAY_RNA)
FORMS(WAY_RTZ)
FORMS(WAY_RUP)
FORMS(WAY_RDN)
FORMS(WAY_RTO)
FORMS(WAY_RTO_POWER)
FORMS(WAY_SR)
FORMS(WAY_SR_WIDE)

static const rectangle_fn forms[WAYS][8] = {
    FORM_ROW(WAY_NONE), FORM_ROW(WAY_MAGIC), FORM_ROW(WAY_RNE), FORM_ROW(WAY_RNA), FORM_ROW(WAY_RTZ),
    FORM_ROW(WAY_RUP),  FORM_ROW(WAY_RDN),   FORM_ROW(WAY_RTO), FORM_ROW(WAY_RTO_POWER), FORM_ROW(WAY_SR), FORM_ROW(WAY_SR_WIDE),
};
/* clang-format on */

rectangle_fn FPL_VEC(any_rectangle)(const struct rounding *r, uint32_t largest_bits, int64_t wide) {
    if (r->round.way == WAY_SCALAR) return scalar_rectangle;
    /* what lies within the format without a scale does not overflow: most of bf16's and fp16's */
    const int within = r->overflows && r->plan->granularity == FPL_UNSCALED &&
                       largest_bits <= fpl_float_bits(r->round.largest);
    const int careful = (r->careful && !within) || largest_bits >= 0x7f800000u;
    return forms[r->round.way][4 * (wide > 1) + 2 * r->scaling.divide + careful];
}

/* ---- the common case -------------------------------------------------------------------------------- */

/* How far ahead x is asked for, and whether out passes the caches by. */
struct stores {
    int64_t ahead;
    int past;
};

/* One or two vectors (count) under scales a (the multiplier, or the lower inverse) and b (what scales
 * back), from x to out, `stride` apart. */
VINLINE void fast_vectors(const struct vround *v, struct stores how, const int count, const float *x,
                          int64_t stride, float *out, int64_t out_stride, nf a, nf b, const int divide,
                          const int clamped) {
    const nf above = (nf)((nu)a + 2u);
    nf from[2], c[2], sum[2];
    nmask unsure[2];
    UNROLL(2)
    for (int u = 0; u < count; u++) {
        nprefetch(x + u * stride + how.ahead);
        from[u] = nload(x + u * stride);
        nf y = from[u] * (divide ? above : a);
        if (clamped) y = nclamp(y, v->largest);
        c[u] = magic(v, y);
        sum[u] = y + c[u];
        if (divide) {
            const nf low = clamped ? nclamp(from[u] * a, v->largest) : from[u] * a;
            unsure[u] = ndifferent(sum[u], low + c[u]);
        }
    }
    if (divide && __builtin_expect(nany(unsure[0], unsure[count - 1]), 0)) {
        const nf s = nselect_f(nequal_u((nu)b, nsetu(0)), nset(INFINITY), b);
        UNROLL(2)
        for (int u = 0; u < count; u++) {
            const nf y = clamped ? nclamp(from[u] / s, v->largest) : from[u] / s;
            c[u] = magic(v, y);
            sum[u] = y + c[u];
        }
    }
    UNROLL(2)
    for (int u = 0; u < count; u++) {
        nf back = (sum[u] - c[u]) * b;
        if (clamped) back = nclamp(back, FPL_FLOAT_MAX);
        nput(out + u * out_stride, nsigned(back, from[u]), how.past);
    }
}

/* The same for the first n lanes of one vector. */
VINLINE void fast_tail(const struct vround *v, int64_t n, const float *x, float *out, nf a, nf b,
                       const int divide, const int clamped) {
    float lanes[NL];
    nstore(lanes, nload_n(x, n));
    fast_vectors(v, (struct stores){0, 0}, 1, lanes, 0, lanes, 0, a, b, divide, clamped);
    nstore_n(out, nload(lanes), n);
}

VINLINE void fast_columns(const struct rectangle *t, const int divide, const int clamped) {
    const struct vround v = t->r->round;
    const struct stores how = {t->ahead, t->past};
    const int64_t stride = t->stride, out_stride = t->out_stride;
    for (int64_t i = 0; i < t->n; i += NL) {
        const nf a = nload(t->quant + i), b = nload(t->dequant + i);
        const float *x = t->x + i;
        float *out = t->out + i;
        int64_t l = t->lines;
        if (i + NL > t->n) {
            for (; l > 0; l--, x += stride, out += out_stride)
                fast_tail(&v, t->n - i, x, out, a, b, divide, clamped);
            break;
        }
        for (; l >= 2; l -= 2, x += 2 * stride, out += 2 * out_stride)
            fast_vectors(&v, how, 2, x, stride, out, out_stride, a, b, divide, clamped);
        if (l > 0) fast_vectors(&v, how, 1, x, stride, out, out_stride, a, b, divide, clamped);
    }
}

/* Groups of `vectors` vectors. */
VINLINE void fast_group(const struct vround *v, struct stores how, const float *x, float *out, float quant,
                        float dequant, const int64_t vectors, const int divide, const int clamped) {
    const nf a = nset(quant), b = nset(dequant);
    int64_t u = 0;
    for (; u + 2 <= vectors; u += 2)
        fast_vectors(v, how, 2, x + u * NL, NL, out + u * NL, NL, a, b, divide, clamped);
    if (u < vectors) fast_vectors(v, how, 1, x + u * NL, NL, out + u * NL, NL, a, b, divide, clamped);
}

/* Lines of groups of `vectors` vectors, the last of which may be cut off; n a multiple of NL. */
VINLINE void fast_groups(const struct rectangle *t, const int divide, const int clamped,
                         const int64_t vectors) {
    const struct vround v = t->r->round;
    const struct stores how = {t->ahead, t->past};
    for (int64_t l = 0; l < t->lines; l++) {
        const float *x = t->x + l * t->stride, *quant = t->quant, *dequant = t->dequant;
        const float *last = x + t->n / NL / vectors * vectors * NL, *end = x + t->n;
        float *out = t->out + l * t->out_stride;
        for (; x < last; x += vectors * NL, out += vectors * NL)
            fast_group(&v, how, x, out, *quant++, *dequant++, vectors, divide, clamped);
        if (x < end) fast_group(&v, how, x, out, *quant, *dequant, (end - x) / NL, divide, clamped);
    }
}

#define VECTORS_32 (32 / NL)

static void fast_columns_0(const struct rectangle *t) { fast_columns(t, 0, 0); }
static void fast_columns_1(const struct rectangle *t) { fast_columns(t, 0, 1); }
static void fast_columns_2(const struct rectangle *t) { fast_columns(t, 1, 0); }
static void fast_columns_3(const struct rectangle *t) { fast_columns(t, 1, 1); }
static void fast_groups_0(const struct rectangle *t) { fast_groups(t, 0, 0, t->wide / NL); }
static void fast_groups_1(const struct rectangle *t) { fast_groups(t, 0, 1, t->wide / NL); }
static void fast_groups_2(const struct rectangle *t) { fast_groups(t, 1, 0, t->wide / NL); }
static void fast_groups_3(const struct rectangle *t) { fast_groups(t, 1, 1, t->wide / NL); }

static void fast_32_0(const struct rectangle *t) { fast_groups(t, 0, 0, VECTORS_32); }
static void fast_32_1(const struct rectangle *t) { fast_groups(t, 0, 1, VECTORS_32); }
static void fast_32_2(const struct rectangle *t) { fast_groups(t, 1, 0, VECTORS_32); }
static void fast_32_3(const struct rectangle *t) { fast_groups(t, 1, 1, VECTORS_32); }

/* No element leaves the format's range, no result float32's. */
static int in_range(const struct rounding *r, uint32_t largest_bits) {
    const struct fpl_quantizer_plan *p = r->plan;
    if (largest_bits >= 252u << 23 || p->largest < 1.0f || r->round.mbits > 20) return 0;
    return p->granularity != FPL_UNSCALED && !p->two_level &&
           (p->scale_rule == FPL_SCALE_FP32 || p->scale_rule == FPL_SCALE_MUL ||
            p->scale_rule == FPL_SCALE_RCEIL || p->scale_rule == FPL_SCALE_CEIL);
}

rectangle_fn FPL_VEC(fast_rectangle)(const struct rounding *r, uint32_t largest_bits, int64_t wide) {
    static const rectangle_fn columns[4] = {fast_columns_0, fast_columns_1, fast_columns_2, fast_columns_3};
    static const rectangle_fn groups[4] = {fast_groups_0, fast_groups_1, fast_groups_2, fast_groups_3};
    static const rectangle_fn groups_32[4] = {fast_32_0, fast_32_1, fast_32_2, fast_32_3};
    if (r->round.way != WAY_MAGIC || r->careful || largest_bits >= 0x7f800000u) return NULL;
    const int variant = 2 * r->scaling.divide + !in_range(r, largest_bits);
    return wide == 1 ? columns[variant] : wide == 32 ? groups_32[variant] : groups[variant];
}
