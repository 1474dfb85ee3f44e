/* carrier.cu - in which carriers a quantizer's values travel, and how (carried.h), proven from its plan
 * alone.
 *
 * An element q is an integer of at most M + 1 bits times a power of two, at least its quantum 2^(emin - M),
 * below 2^(t + 1), t the exponent of the largest.  Its value q s then fits a carrier of `bits` significant
 * bits whose numbers are the multiples of 2^quantum below 2^(top + 1):
 *   no scale            M + 1 <= bits, quantum and t within the carrier's
 *   s a power of two    the same for the least and the largest s that the rule can give, 2^-127 and, since
 *                       amax < 2^128, 2^(128 - t), by `floor` 2^(127 - t)
 *   s of a format       the significant bits of both together, the quanta and the ends added
 *   rounded afterwards  (`post`) the format of that rounding alone
 * NaN and Inf have codes in every carrier.  Other scales are any float32: elements travel without them where
 * they are constant along the reduction, else there is no narrow carrier.  Blocks of powers of two that the
 * ends of float32 alone keep from fitting are checked.  A group of zeros, and one whose scale rounds to zero,
 * holds zeros.
 */
#include "carried.h"

const enum fpl_cuda_carrier fpl_cuda_carrier_order[FPL_CARRIERS] = {FPL_CARRIER_BF16, FPL_CARRIER_FP16,
                                                                    FPL_CARRIER_TF32, FPL_CARRIER_FP32};
const char *const fpl_cuda_carrier_names[FPL_CARRIERS] = {"fp32", "bf16", "fp16", "tf32"};

enum { ORDINARY = 60 };

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

/* The elements alone, or with their block's scale of a format. */
static struct grid elements(const struct fpl_quantizer_plan *p) { return grid_of(&p->round); }

static struct grid with_scale(const struct fpl_quantizer_plan *p) {
    const struct grid s = grid_of(&p->scale);
    struct grid g = grid_of(&p->round);
    g.bits += s.bits;
    g.quantum += s.quantum;
    g.top += s.top + 1; /* two significands below 2 each */
    return g;
}

static struct grid with_power(const struct fpl_quantizer_plan *p) {
    struct grid g = grid_of(&p->round);
    g.top += largest_power(p);
    g.quantum += -127;
    return g;
}

static float power(int k) { return fpl_power_of_two(k < -149 ? -149 : k > 127 ? 127 : k); }

enum fpl_cuda_passage fpl_cuda_passage_of(const struct fpl_quantizer_plan *p, enum fpl_cuda_carrier c,
                                          float *low, float *high) {
    const struct grid carrier = carriers[c], q = elements(p);
    const int constant = p->granularity == FPL_TENSOR || p->granularity == FPL_ROW;
    const int format = !p->scale.identity && p->scale.codebook == 0;
    if (c == FPL_CARRIER_FP32) return FPL_PASSAGE_WHOLE;
    if (!p->post.identity && p->post.codebook == 0)
        return holds(carrier, grid_of(&p->post)) ? FPL_PASSAGE_WHOLE : FPL_PASSAGE_NONE;
    if (!p->post.identity || p->identity || p->round.identity || p->round.codebook != 0 || p->zero_point ||
        p->search)
        return FPL_PASSAGE_NONE;
    if (p->two_level)
        return p->granularity != FPL_UNSCALED && format && holds(carrier, with_scale(p)) ? FPL_PASSAGE_TENSOR
                                                                                         : FPL_PASSAGE_NONE;
    if (p->granularity == FPL_UNSCALED) return holds(carrier, q) ? FPL_PASSAGE_WHOLE : FPL_PASSAGE_NONE;
    if (is_power_of_two(p) && holds(carrier, with_power(p))) return FPL_PASSAGE_WHOLE;
    if (p->scale_rule == FPL_SCALE_FORMAT && format && holds(carrier, with_scale(p)))
        return FPL_PASSAGE_WHOLE;
    if (constant) return holds(carrier, q) ? FPL_PASSAGE_RAW : FPL_PASSAGE_NONE;
    /* Blocks of amax 2^-ORDINARY to 2^ORDINARY must fit, or whole trainings would be made again: fp16 has too
     * few exponents, and so has any carrier for formats as wide as itself. */
    const int fits = carrier.quantum - q.quantum <= -ORDINARY - q.top && carrier.top >= ORDINARY;
    if (!is_power_of_two(p) || q.bits > carrier.bits || !fits) return FPL_PASSAGE_NONE;
    *low = power(carrier.quantum - q.quantum);
    *high = power(carrier.top - q.top);
    return FPL_PASSAGE_CHECKED;
}

int fpl_cuda_travels(const struct fpl_quantizer_plan *p, enum fpl_cuda_carrier c) {
    float low, high;
    return fpl_cuda_passage_of(p, c, &low, &high) == FPL_PASSAGE_WHOLE;
}

enum fpl_cuda_carrier fpl_cuda_carrier_of(const struct fpl_quantizer_plan *p) {
    int i = 0;
    while (!fpl_cuda_travels(p, fpl_cuda_carrier_order[i])) i++;
    return fpl_cuda_carrier_order[i];
}
