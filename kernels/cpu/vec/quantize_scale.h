/* quantize_scale.h - amax and scales of many groups at once. */
#ifndef FPL_VEC_QUANTIZE_SCALE_H
#define FPL_VEC_QUANTIZE_SCALE_H

#include "../../../formats/scale.h"
#include "quantize_round.h"

/* How a rule is computed with one group per lane. */
enum scale_kind {
    SCALE_SCALAR,        /* not at all: by scale.h */
    SCALE_RATIO,         /* fp32 */
    SCALE_MUL,           /* mul */
    SCALE_POWER,         /* of amax' bits: e8m0, rceil, ceil, even, p3109 */
    SCALE_NEAREST_POWER, /* of those of amax/largest: ue8m0 as a format */
    SCALE_FORMAT         /* other formats, one level or two */
};

/* What turns a float's bits into a power's exponent field: add, take the field, one more where
 * the mantissa, raised by `tie` times the field's parity, exceeds the threshold. */
struct power_rule {
    uint32_t add, threshold, tie;
    int32_t top; /* exponent of the largest value, or 0 */
};

/* How elements of one plan meet their scale: y = x / quant or x * quant (scale.h); out =
 * q * dequant * dequant_2.  divide and dequant_2 are those of the whole operand, quant and
 * dequant those of a group. */
struct scaling {
    const struct fpl_quantizer_plan *plan;
    float s_enc;
    int divide;
    float dequant_2;
    enum scale_kind kind;
    struct power_rule power; /* SCALE_POWER, SCALE_NEAREST_POWER */
    struct vround format;    /* SCALE_FORMAT */
};

struct scaling FPL_VEC(scaling)(const struct fpl_quantizer_plan *plan, float amax_tensor);

/* quant and dequant of n groups from their amax (finite magnitudes); arrays have room for
 * whole vectors. */
void FPL_VEC(group_scales)(const struct scaling *s, int64_t n, const float *amax, float *quant,
                           float *dequant);

/* The float below fl(1/quant), which is below 1/quant; the second float above it is above
 * (quantize_apply.c).  A NaN where quant is infinite. */
void FPL_VEC(inverses)(int64_t n, const float *quant, float *out);

/* The largest magnitude's bits (0x7f800000 or more: something is not finite). */
uint32_t FPL_VEC(largest_bits)(int64_t lines, int64_t stride, int64_t n, const float *x);
/* The same over finite elements only. */
uint32_t FPL_VEC(largest_finite_bits)(int64_t lines, int64_t stride, int64_t n, const float *x);

/* Per column over `lines` lines: magnitude bits, as floats; finite_only: others count as 0.
 * Returns the largest of all. */
uint32_t FPL_VEC(column_largest)(int64_t lines, int64_t stride, int64_t n, const float *x, int finite_only,
                                 float *out);

/* Largest magnitude bits of each group of `width` consecutive floats of x[n] (the last may be
 * shorter); returns the largest of all. */
uint32_t FPL_VEC(group_largest)(int64_t n, int64_t width, const float *x, float *out);

/* out[i] = groups[i / width] for i < n, and 1 up to the end of the last vector */
void FPL_VEC(spread)(int64_t n, int64_t width, const float *groups, float *out);

#endif
