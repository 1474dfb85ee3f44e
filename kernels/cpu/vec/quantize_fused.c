/* quantize_fused.c - absmax scale and round, in one pass over NL groups at a time.
 *
 * For rne with M >= 1 and for stochastic rounding with 16 or 32 bits, saturating, scaled by the
 * fp32 rule, `mul`, a power of two or in two levels: what training does; stochastic rounding
 * without a scale too.  Everything else is quantize.c's.
 *
 *   quantize_batch.h       amax and scales; those of the next batch are made before this batch is
 *                          rounded, so that divisions have finished when they are wanted
 *   quantize_nearest.h     rounding to nearest
 *   quantize_stochastic.h  stochastic rounding, with the random bits of what comes next
 */
#include "quantize_fused.h"

#include "quantize_batch.h"
#include "quantize_nearest.h"
#include "quantize_stochastic.h"

/* Rounds the batch at x, by whichever way. */
VINLINE void round_batch(const struct batches *t, struct batch_scales *s, const float *x, float *out,
                         const enum layout layout, const enum scaled scaled, const int clamped) {
    const int done = t->past ? apply(t, s, x, out, layout, scaled, clamped, 1)
                             : apply(t, s, x, out, layout, scaled, clamped, 0);
    if (__builtin_expect(!done, 0)) divide_batch(t, s, x, out, layout);
}

/* random: 0, or the bits of random numbers that an element takes. */
VINLINE int64_t run(const struct batches *t, const enum layout layout, const enum scaled scaled,
                    const int clamped, const int random) {
    const int64_t pitch = layout == COLUMNS ? 1 : group_pitch(t, layout), distance = NL * pitch;
    const int64_t out_distance = layout == LINES ? NL * t->out_stride : distance;
    /* from the last batch of a band to the first of the next */
    const int64_t back = t->across * distance;
    const int64_t x_jump = t->vectors * t->stride - back, out_jump = t->vectors * t->out_stride - back;
    const float *x = t->x;
    float *out = t->out;
    uint64_t at = t->at;
    int64_t left = t->across;
    struct batch_scales scales[2];
    if (t->count == 0 || !prepare(t, x, layout, scaled, &scales[0])) return 0;
#if defined(FPL_LEVEL_avx512)
    struct random_bits bits;
    if (random) first_bits(t, layout, random == 32, &bits);
#else
    (void)random;
    (void)at;
#endif
    for (int64_t i = 0;;) {
        struct batch_scales *now = &scales[i & 1];
        int64_t move = distance, out_move = out_distance;
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
                             &bits);
        else
#endif
            round_batch(t, now, x, out, layout, scaled, clamped);
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
    POWER,
    POWER_CLAMPED,
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
    FORM(layout, name, POWER, BY_POWER, 0, 0) FORM(layout, name, POWER_CLAMPED, BY_POWER, 1, 0)                \
    FORM(layout, name, BRACKET, BY_BRACKET, 0, 0) FORM(layout, name, DIVISION, BY_DIVISION, 0, 0)              \
    FORM(layout, name, LEVELS, BY_LEVELS, 1, 0)                                                                \
    FORM(layout, name, SR_PRODUCT, BY_PRODUCT, 0, 16) FORM(layout, name, SR_PRODUCT_CLAMPED, BY_PRODUCT, 1, 16) \
    FORM(layout, name, SR_DIVISION, BY_DIVISION, 0, 16) FORM(layout, name, SR_LEVELS, BY_LEVELS, 1, 16)        \
    FORM(layout, name, SR32_PRODUCT, BY_PRODUCT, 0, 32) FORM(layout, name, SR32_PRODUCT_CLAMPED, BY_PRODUCT, 1, 32) \
    FORM(layout, name, SR32_DIVISION, BY_DIVISION, 0, 32) FORM(layout, name, SR32_LEVELS, BY_LEVELS, 1, 32)
#define ONE_OF(name, variant) [variant] = name##_##variant
#define FORM_ROW(name)                                                                                         \
    {ONE_OF(name, PRODUCT), ONE_OF(name, PRODUCT_CLAMPED), ONE_OF(name, POWER), ONE_OF(name, POWER_CLAMPED), ONE_OF(name, BRACKET), ONE_OF(name, DIVISION),      \
     ONE_OF(name, LEVELS), ONE_OF(name, SR_PRODUCT), ONE_OF(name, SR_PRODUCT_CLAMPED),                         \
     ONE_OF(name, SR_DIVISION), ONE_OF(name, SR_LEVELS), ONE_OF(name, SR32_PRODUCT),                           \
     ONE_OF(name, SR32_PRODUCT_CLAMPED), ONE_OF(name, SR32_DIVISION), ONE_OF(name, SR32_LEVELS)}

FORMS(COLUMNS, columns)
FORMS(LINES, lines)
FORMS(TWO, two)
FORMS(FOURS, fours)
/* clang-format on */

static const fused_fn forms[4][VARIANTS] = {FORM_ROW(columns), FORM_ROW(lines), FORM_ROW(two),
                                            FORM_ROW(fours)};

/* Whether x may be rounded at quanta times any scale that a batch has: the least quantum times the
 * least scale, 2^-60 / 2^(exponent of the largest value + 1), is a normal float. */
static int power_fits(const struct fpl_quantizer_plan *p) {
    return p->round.emin - p->round.mbits - 61 - p->largest_exponent >= -126;
}

/* The variant that rounds to nearest by this plan's rule; VARIANTS if none does. */
static enum variant nearest_variant(const struct fpl_quantizer_plan *p, int in_place) {
    const int power = power_fits(p);
    switch (p->scale_rule) {
    case FPL_SCALE_FP32:
        return p->round.mbits <= 4 && !in_place ? BRACKET : DIVISION;
    case FPL_SCALE_MUL:
        return PRODUCT;
    case FPL_SCALE_RCEIL:
    case FPL_SCALE_CEIL:
        return power ? POWER : PRODUCT;
    case FPL_SCALE_FLOOR:
    case FPL_SCALE_EVEN:
        return power ? POWER_CLAMPED : PRODUCT_CLAMPED;
    default:
        return VARIANTS;
    }
}

/* The same for stochastic rounding with 16 bits. */
static enum variant stochastic_variant(const struct fpl_quantizer_plan *p) {
    if (p->granularity == FPL_UNSCALED) return SR_PRODUCT_CLAMPED;
    switch (p->scale_rule) {
    case FPL_SCALE_FP32:
        return SR_DIVISION;
    case FPL_SCALE_MUL:
    case FPL_SCALE_RCEIL:
    case FPL_SCALE_CEIL:
        return SR_PRODUCT;
    case FPL_SCALE_FLOOR:
    case FPL_SCALE_EVEN:
        return SR_PRODUCT_CLAMPED;
    default:
        return VARIANTS;
    }
}

/* Bits that an element takes, where the random numbers of a batch can be made together; 0 if not. */
static int random_width(const struct rounding *r, const struct fused_shape *s) {
    const struct fpl_round *p = &r->plan->round;
    const int words = r->round.way == WAY_SR_WIDE && p->sr_bits == 32;
    const int halves = r->round.way == WAY_SR && p->sr_bits == 16 && p->mbits <= 5;
    if (NL < 16 || (!words && !halves) || !p->subnormals) return 0;
    if (s->at % 8 != 0 || s->at >> 33 != 0) return 0;
    if (s->layout != FUSED_ROWS && s->stride % 8 != 0) return 0;
    if ((s->layout == FUSED_COLUMNS || (s->layout == FUSED_ROWS && s->vectors % 4 == 0)) &&
        s->vectors % 16 != 0)
        return 0;
    return words ? 32 : 16;
}

fused_fn FPL_VEC(fused)(const struct rounding *r, const struct fused_shape *s) {
    const struct fpl_quantizer_plan *p = r->plan;
    const int two = s->layout == FUSED_ROWS && s->vectors == 2;
    const int row = s->layout == FUSED_COLUMNS ? 0 : s->layout == FUSED_LINES ? 1 : two ? 2 : 3;
    const int levels = p->two_level && r->scaling.kind == SCALE_FORMAT && p->round.is_signed &&
                       !p->round.one_zero && p->post.identity;
    if (row == 3 && s->vectors % 4 != 0) return NULL;
    if ((r->careful && !levels) || !r->round.exact_sat) return NULL;
    if (p->largest < 1.0f || p->largest > 0x1p40f || p->round.emin < -60) return NULL;
    if (r->stochastic) {
        const int width = random_width(r, s);
        const enum variant variant = levels ? SR_LEVELS : stochastic_variant(p);
        if (width == 0 || variant == VARIANTS) return NULL;
        return forms[row][width == 16 ? variant : variant + SR32_PRODUCT - SR_PRODUCT];
    }
    if (r->round.way != WAY_MAGIC || p->round.mbits > 20 || p->granularity == FPL_UNSCALED) return NULL;
    const enum variant variant = levels ? LEVELS : nearest_variant(p, s->in_place);
    return variant == VARIANTS ? NULL : forms[row][variant];
}
