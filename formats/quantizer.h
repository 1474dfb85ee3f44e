/* quantizer.h - a quantizer: format + rounding + overflow + granularity + scale rule.
 *
 * Text form (EBNF; canonical printing leaves defaults out):
 *   quantizer   = "-" | format [ ":" rounding ] [ ":" overflow ]
 *                        [ "/" granularity [ ":" scale ] [ "+t" ] ] ;
 *   rounding    = "rne" | "rna" | "rtz" | "rup" | "rdn" | "rto" | "sr" [ digits ] ;
 *   overflow    = "sat" | "satp" | "ovf" ;
 *   granularity = "tensor" | "row" | "col" | digits "x" digits ;
 *   scale       = "fp32" | "mul" | "e8m0" | "floor" | "rceil" | "ceil" | "even" | "p3109" | format ;
 * for example  e4m3fn   e2m1/1x32:e8m0   e2m1/1x16:e4m3fn+t   e3m2:sr/row   e4m3/128x128.
 * "-" is the identity (high precision).
 *
 * Meaning on an operand seen as a matrix whose columns run along the reduction axis:
 *   groups of one scale: tensor, row (one per line), col, RxC (R lines by C columns,
 *   ragged at the edges); no granularity: no scaling, values are rounded as they are.
 *   amax = largest finite magnitude of the group; s from the rule; then
 *       y = fl(x / s),  q = round(y),  out = fl(q s)        (fl = float32, to nearest even)
 *   `mul` (arXiv 2501.02423): y = fl(x fl(largest/amax)), out = fl(q fl(amax/largest)).
 *   A group of zeros has scale 1 and stays zero; a scale that rounds to 0 makes its group
 *   zeros of the same sign; dequantized overflow clamps to FLT_MAX; NaN and Inf do not
 *   touch their neighbours.
 *
 * Scale rules, from amax: fp32  s = fl(amax/largest) clamped to [2^-126, FLT_MAX];
 *   e8m0 = floor  2^(floor(log2 amax) - floor(log2 largest)); rceil  smallest power of two
 *   with largest*s >= amax; ceil; even; p3109; any unsigned format name: fl(amax/largest)
 *   rounded into it (rne); +t: two-level, NVFP4 formulas (arXiv 2509.25149, appendix B).
 *   Powers of two are clamped to [2^-127, 2^127].
 *
 * Determinism: a pure function of (values, quantizer, random-bit coordinates).
 */
#ifndef FPL_QUANTIZER_H
#define FPL_QUANTIZER_H

#include <stdint.h>

#include "format.h"
#include "round.h"

#ifdef __cplusplus
extern "C" {
#endif

enum fpl_granularity { FPL_UNSCALED, FPL_TENSOR, FPL_ROW, FPL_COL, FPL_BLOCK, FPL_GRANULARITIES };

enum fpl_scale_rule {
    FPL_SCALE_FP32,
    FPL_SCALE_MUL,
    FPL_SCALE_FLOOR, /* printed "e8m0" */
    FPL_SCALE_RCEIL,
    FPL_SCALE_CEIL,
    FPL_SCALE_EVEN,
    FPL_SCALE_P3109,
    FPL_SCALE_FORMAT,
    FPL_SCALE_RULES
};

/* Words of the grammar with their meaning, for help and `fplaw formats`; index = enum value,
 * the last row has name NULL.  Unscaled has the name "none", which the grammar leaves out. */
struct fpl_word {
    const char *name, *meaning;
};
extern const struct fpl_word fpl_rounding_words[FPL_ROUNDINGS + 1];
extern const struct fpl_word fpl_overflow_words[FPL_OVERFLOWS + 1];
extern const struct fpl_word fpl_granularity_words[FPL_GRANULARITIES + 1];
extern const struct fpl_word fpl_scale_words[FPL_SCALE_RULES + 1];

#define FPL_QUANTIZER_TEXT 96 /* any canonical text fits, terminator included */

struct fpl_quantizer {
    uint8_t identity; /* 1: "-", all else ignored */
    uint8_t rounding; /* enum fpl_rounding (round.h) */
    uint8_t sr_bits;  /* random bits of sr, 1..32, default 16 */
    uint8_t overflow; /* enum fpl_overflow (round.h) */
    uint8_t granularity;
    uint8_t scale_rule;
    uint8_t two_level; /* "+t" */
    struct fpl_format format;
    struct fpl_format scale_format; /* FPL_SCALE_FORMAT and two_level only */
    int32_t block_rows, block_cols; /* FPL_BLOCK only, each >= 1 */
};

/* A quantizer lowered once: constants and masks, so that loops have no branch on the
 * format.  Plain data: copied to devices, per replica.  `post` rounds the dequantized
 * value once more, unscaled (capybara's bf16 operands); post.identity if unused. */
struct fpl_quantizer_plan {
    int32_t identity; /* 1: no quantizer; `post` still applies */
    int32_t granularity, scale_rule, two_level;
    int32_t block_rows, block_cols;
    float largest;            /* of the element format */
    int32_t largest_exponent; /* floor(log2 largest) */
    struct fpl_round round;   /* elements */
    struct fpl_round scale;   /* scale format, rne, sat; identity if unused */
    float scale_largest;      /* of the scale format (two-level) */
    struct fpl_round post;    /* extra unscaled rounding of the result */
};

/* Where the random bits of a stochastic quantizer come from (random.h). */
struct fpl_random_at {
    uint64_t seed;
    uint32_t step, stream;
    uint64_t element; /* index of the operand's first element in the untransposed tensor of the step */
};

enum fpl_code fpl_quantizer_parse(const char *text, struct fpl_quantizer *out, struct fpl_error *err);
int fpl_quantizer_print(const struct fpl_quantizer *q, char *buf, size_t size);

/* Lower; post may be NULL. A valid quantizer always lowers. */
void fpl_quantizer_lower(const struct fpl_quantizer *q, const struct fpl_format *post,
                         struct fpl_quantizer_plan *plan);

/* Rows and columns of one whole group of an operand of rows x cols (both >= 1). */
void fpl_quantizer_group_shape(const struct fpl_quantizer_plan *plan, int64_t rows, int64_t cols,
                               int64_t *group_rows, int64_t *group_cols);

/* The meaning, scalar and slow: reads an operand of rows x cols whose element (i, j) lies
 * at x[i*row_stride + j*col_stride] (so a transposed view costs nothing) and writes out
 * with the same strides; x == out allowed.  Random bits use element index
 * at->element + i*row_stride + j*col_stride: the index in the untransposed tensor.
 * Returns the number of non-finite inputs.  scales (may be NULL): one per group, group
 * rows outermost, 1 for a group of zeros; of two levels the block's, s_b.  at may be NULL:
 * all zero.  Every backend's quantizer is tested for equality with this one. */
int64_t fpl_quantize_reference(const struct fpl_quantizer_plan *plan, int64_t rows, int64_t cols,
                               int64_t row_stride, int64_t col_stride, const float *x, float *out,
                               float *scales, const struct fpl_random_at *at);

#ifdef __cplusplus
}
#endif
#endif
