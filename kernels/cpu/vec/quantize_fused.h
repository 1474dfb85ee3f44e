/* quantize_fused.h - the common quantizers in one pass, NL groups of one scale at a time. */
#ifndef FPL_VEC_QUANTIZE_FUSED_H
#define FPL_VEC_QUANTIZE_FUSED_H

#include "quantize_apply.h"
#include "quantize_random.h"

/* Batches of NL groups of one scale each:
 *   rows     a group is `vectors` consecutive vectors, 2 or a multiple of 4; groups follow each other
 *   lines    a group is `vectors` consecutive vectors; from one to the next it is `stride`
 *   columns  a group is a column of `vectors` lines, `stride` apart; NL columns per batch
 * at: index of x[0] in the operand, for random bits. */
enum fused_layout { FUSED_ROWS, FUSED_LINES, FUSED_COLUMNS };

struct batches {
    const struct rounding *r;
    const struct philox *keys;
    const float *x;
    float *out;
    int64_t vectors, stride, out_stride; /* strides: not of rows */
    int64_t count;                       /* batches, all in all */
    int64_t across; /* columns: batches side by side; then `vectors` lines further down */
    int64_t ahead;  /* 0, or x is asked for this many floats before its turn */
    int far;        /* that goes into the second cache, not the first */
    int past;       /* out passes the caches by; out and out_stride are whole vectors */
    uint64_t at;
};

typedef int64_t (*fused_fn)(const struct batches *b);

/* What a choice depends on, the same for all batches of an operand. */
struct fused_shape {
    enum fused_layout layout;
    int64_t vectors, stride;
    uint64_t at;
    int in_place;
};

/* The function that quantizes whole batches of this plan, NULL where there is none.  It returns
 * how many it did: fewer than `count` where the next one holds a group that only the general
 * path does (not finite, tiny, huge). */
fused_fn FPL_VEC(fused)(const struct rounding *r, const struct fused_shape *shape);

#endif
