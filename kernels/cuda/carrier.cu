/* carrier.cu - which carriers hold every value of a quantizer (carrier.h), proven from its plan alone.
 *
 * An element q is an integer of at most M + 1 bits times a power of two, at least its quantum 2^(emin - M),
 * below 2^(t + 1), t the exponent of the largest.  Its value q s then fits a carrier of `bits` significant
 * bits whose numbers are the multiples of 2^quantum below 2^(top + 1):
 *   no scale            M + 1 <= bits, quantum and t within the carrier's
 *   s a power of two    the same for the least and the largest s that the rule can give, 2^-127 and, since
 *                       amax < 2^128, 2^(128 - t), by `floor` 2^(127 - t)
 *   s of a format       the significant bits of both together, the quanta and the ends added
 *   rounded afterwards  (`post`) the format of that rounding alone
 * NaN and Inf have codes in every carrier.  Other scales are any float32: no narrow carrier.  A group of
 * zeros, and one whose scale rounds to zero, holds zeros.
 */
#include "operand.h"

const enum fpl_cuda_carrier fpl_cuda_carrier_order[FPL_CARRIERS] = {FPL_CARRIER_BF16, FPL_CARRIER_FP16,
                                                                    FPL_CARRIER_TF32, FPL_CARRIER_FP32};
const char *const fpl_cuda_carrier_names[FPL_CARRIERS] = {"fp32", "bf16", "fp16", "tf32"};

/* A set of numbers: significant bits, exponent of the quantum, exponent of the largest. */
struct grid {
    int bits, quantum, top;
};

static const struct grid carriers[FPL_CARRIERS] = {
    {24, -149, 127}, {8, -133, 127}, {11, -24, 15}, {11, -136, 127}};

static struct grid grid_of(const struct fpl_round *f) {
    const struct grid g = {f->mbits + 1, f->emin - f->mbits, fpl_exponent(f->largest)};
    return g;
}

static int holds(struct grid carrier, struct grid g) {
    return g.bits <= carrier.bits && g.quantum >= carrier.quantum && g.top <= carrier.top;
}

static int is_power_of_two(const struct fpl_quantizer_plan *p) {
    return p->scale_rule == FPL_SCALE_FLOOR || p->scale_rule == FPL_SCALE_RCEIL ||
           p->scale_rule == FPL_SCALE_CEIL || p->scale_rule == FPL_SCALE_EVEN ||
           p->scale_rule == FPL_SCALE_P3109;
}

/* Exponent of the largest scale of a power-of-two rule. */
static int largest_power(const struct fpl_quantizer_plan *p) {
    if (p->scale_rule == FPL_SCALE_P3109) return 127;
    const int k = (p->scale_rule == FPL_SCALE_FLOOR ? 127 : 128) - p->largest_exponent;
    return k < 127 ? k : 127;
}

int fpl_cuda_travels(const struct fpl_quantizer_plan *p, enum fpl_cuda_carrier c) {
    if (c == FPL_CARRIER_FP32) return 1;
    if (!p->post.identity && p->post.codebook == 0) return holds(carriers[c], grid_of(&p->post));
    if (p->identity || p->round.identity || p->round.codebook != 0 || p->zero_point || p->search ||
        p->two_level)
        return 0;
    struct grid g = grid_of(&p->round);
    if (p->granularity == FPL_UNSCALED) return holds(carriers[c], g);
    if (is_power_of_two(p)) {
        g.top += largest_power(p);
        g.quantum += -127;
        return holds(carriers[c], g);
    }
    if (p->scale_rule != FPL_SCALE_FORMAT || p->scale.identity || p->scale.codebook != 0) return 0;
    const struct grid s = grid_of(&p->scale);
    g.bits += s.bits;
    g.quantum += s.quantum;
    g.top += s.top + 1; /* two significands below 2 each */
    return holds(carriers[c], g);
}

enum fpl_cuda_carrier fpl_cuda_carrier_of(const struct fpl_quantizer_plan *p) {
    int i = 0;
    while (!fpl_cuda_travels(p, fpl_cuda_carrier_order[i])) i++;
    return fpl_cuda_carrier_order[i];
}
