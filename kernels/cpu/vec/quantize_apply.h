/* quantize_apply.h - floats whose scales are known: scale, round, scale back. */
#ifndef FPL_VEC_QUANTIZE_APPLY_H
#define FPL_VEC_QUANTIZE_APPLY_H

#include "quantize_round.h"
#include "quantize_scale.h"

/* What is the same for all of one operand. */
struct rounding {
    const struct fpl_quantizer_plan *plan;
    const struct fpl_random_at *at;
    const float *x; /* the operand's first element */
    struct scaling scaling;
    struct vround round, post;
    int stochastic;
    int careful;   /* more is needed than scaling and clamped rounding */
    int overflows; /* only that: what exceeds the largest value does not become it */
};

/* 16-bit pieces of random bits that an element takes. */
#define HALVES(way) ((way) == WAY_SR ? 1 : (way) == WAY_SR_WIDE ? 2 : 0)

/* Without x and at, which the caller sets. */
struct rounding FPL_VEC(rounding)(const struct fpl_quantizer_plan *plan, float amax_tensor);

/* A rectangle, `lines` by n floats, from x to out (which may be x); lines lie stride and
 * out_stride apart.  One quant and dequant per
 * `wide` columns, where wide and n are multiples of NL, or per column (wide 1: arrays up to
 * the end of the last vector).  Fast forms that divide take FPL_VEC(inverses) for quant. */
struct rectangle {
    const struct rounding *r;
    const float *x;
    float *out;
    int64_t stride, out_stride, lines, n, wide;
    int64_t ahead; /* every line is read this many floats before its turn */
    int past;      /* out passes the caches by; out and out_stride are whole vectors */
    const float *quant, *dequant;
    const uint16_t *random; /* HALVES(way) n for each line, random_stride apart */
    int64_t random_stride;
};

typedef void (*rectangle_fn)(const struct rectangle *t);

/* Any plan, for magnitudes up to `largest_bits`: some infinite or NaN from 0x7f800000 on. */
rectangle_fn FPL_VEC(any_rectangle)(const struct rounding *r, uint32_t largest_bits, int64_t wide);

/* The fast form for this plan and magnitudes up to `largest_bits`; NULL where there is none. */
rectangle_fn FPL_VEC(fast_rectangle)(const struct rounding *r, uint32_t largest_bits, int64_t wide);

#endif
