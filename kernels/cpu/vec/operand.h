/* operand.h - an operand as its operation sees it at this step: delayed scaling resolved.
 *
 * The plan that is applied takes its amax from the operand's history (struct fpl_delay,
 * kernels.h); the amax that is met is kept for later steps.  Magnitudes order as their bits
 * do, so raising is an integer maximum, which threads may do in any order.
 */
#ifndef FPL_VEC_OPERAND_H
#define FPL_VEC_OPERAND_H

#include "../cpu.h"
#include "quantize_scale.h"

static inline int operand_is_identity(const struct fpl_operand *q) {
    return q->plan.identity && q->plan.post.identity;
}

static inline struct fpl_quantizer_plan operand_plan(const struct fpl_operand *q) {
    struct fpl_quantizer_plan plan = q->plan;
    if (plan.history > 0 && q->delay != NULL) plan.delayed_amax = q->delay[1];
    return plan;
}

static inline void operand_raise(float *amax, uint32_t bits) {
    uint32_t old, *at = (uint32_t *)(void *)amax;
    __atomic_load(at, &old, __ATOMIC_RELAXED);
    while (bits > old && !__atomic_compare_exchange(at, &old, &bits, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

/* Keep the largest finite magnitude of `lines` by n floats, `stride` apart. */
static inline void operand_observe(const struct fpl_operand *q, int64_t lines, int64_t stride, int64_t n,
                                   const float *x) {
    if (q->plan.history > 0 && q->delay != NULL && q->observe)
        operand_raise(q->delay, FPL_VEC(largest_finite_bits)(lines, stride, n, x));
}

#endif
