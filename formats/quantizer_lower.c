/* quantizer_lower.c - from a quantizer to the plan that loops work with.
 *
 * Every field of the plan is set whatever the quantizer, unused ones to what changes nothing, and
 * padding does not exist (quantizer.h), so that equal quantizers have equal bytes.
 */
#include "quantizer.h"

#include <string.h>

/* A rounder that changes nothing: fp32's. */
static void lower_identity(struct fpl_round *out) {
    const struct fpl_format fp32 = {1, 8, 23, 1, FPL_IEEE, 0, 127, 0};
    fpl_round_lower(&fp32, FPL_RNE, 16, FPL_OVF, out);
}

/* Elements; with a zero point they are integers of both signs, clamped afterwards (scale.h). */
static void lower_elements(const struct fpl_quantizer *q, struct fpl_round *out) {
    struct fpl_format f = q->format;
    if (q->zero_point) f.is_signed = 1;
    fpl_round_lower(&f, q->rounding, q->sr_bits, q->overflow, out);
}

/* What s_enc maps the tensor's amax to: the scale format's largest value, or with four over six
 * the largest power of two that leaves room for 3/2 of it. */
static float top_scale(const struct fpl_quantizer *q, float largest) {
    if (q->search != FPL_SEARCH_46) return largest;
    float p = fpl_power_of_two(fpl_exponent(largest));
    return 1.5f * p <= largest ? p : p / 2.0f;
}

void fpl_quantizer_lower(const struct fpl_quantizer *q, const struct fpl_format *post,
                         struct fpl_quantizer_plan *plan) {
    memset(plan, 0, sizeof *plan);
    lower_identity(&plan->round);
    lower_identity(&plan->scale);
    lower_identity(&plan->post);
    plan->largest = plan->scale_largest = 1.0f;
    plan->block_rows = plan->block_cols = 1;
    if (post != NULL) fpl_round_lower(post, FPL_RNE, 16, fpl_format_default_overflow(post), &plan->post);
    plan->identity = 1;
    if (q->identity) return;

    lower_elements(q, &plan->round);
    plan->identity = q->granularity == FPL_UNSCALED && plan->round.identity;
    plan->granularity = q->granularity;
    plan->scale_rule = q->scale_rule;
    plan->two_level = q->two_level;
    plan->zero_point = q->zero_point;
    plan->search = q->search;
    plan->history = q->history;
    plan->margin = q->margin;
    plan->largest = plan->round.largest;
    plan->largest_exponent = fpl_exponent(plan->largest);
    if (q->granularity == FPL_BLOCK) {
        plan->block_rows = q->block_rows;
        plan->block_cols = q->block_cols;
    }
    if (q->granularity != FPL_UNSCALED && q->scale_rule == FPL_SCALE_FORMAT) {
        fpl_round_lower(&q->scale_format, FPL_RNE, 16, FPL_SAT, &plan->scale);
        plan->scale_largest = top_scale(q, plan->scale.largest);
    }
}

float fpl_delayed_amax(const float *history, int length) {
    float amax = 0.0f;
    for (int i = 0; i < length; i++) {
        const uint32_t bits = fpl_float_bits(history[i]) & 0x7fffffffu;
        if (bits < 0x7f800000u && bits > fpl_float_bits(amax)) amax = fpl_bits_float(bits);
    }
    return amax;
}
