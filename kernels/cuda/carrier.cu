/* carrier.cu - which carrier holds every value of a quantizer (carrier.h), from its plan alone. */
#include "operand.h"

/* Exponent of the finest bit that a value may have, and of the largest value, after scaling. */
enum fpl_cuda_carrier fpl_cuda_carrier_of(const struct fpl_quantizer_plan *p) {
    const int power_of_two =
        p->granularity == FPL_UNSCALED ||
        (!p->two_level && (p->scale_rule == FPL_SCALE_FLOOR || p->scale_rule == FPL_SCALE_RCEIL ||
                           p->scale_rule == FPL_SCALE_CEIL || p->scale_rule == FPL_SCALE_EVEN ||
                           p->scale_rule == FPL_SCALE_P3109));
    if (!p->post.identity && p->post.mbits <= 7) return FPL_CARRIER_BF16; /* every value is rounded to it */
    /* Scaled values stay multiples of 2^-133 or become float32's own zeros only if the scale cannot
     * push the smallest quantum below it; unscaled formats say so themselves. */
    if (p->identity || p->round.codebook != 0 || p->zero_point || p->search || !power_of_two ||
        p->round.mbits > 7)
        return FPL_CARRIER_FP32;
    if (p->granularity != FPL_UNSCALED) return FPL_CARRIER_FP32;
    return p->round.emin - p->round.mbits >= -133 ? FPL_CARRIER_BF16 : FPL_CARRIER_FP32;
}
