/* quantizer.h - a quantizer: format + rounding + overflow + granularity + scale rule.
 *
 * Text form (EBNF; canonical printing leaves defaults out):
 *   quantizer   = "-" | element [ ":" rounding ] [ ":" overflow ]
 *                        [ "/" granularity [ ":" scale ] { "+" flag } ] ;
 *   rounding    = "rne" | "rna" | "rtz" | "rup" | "rdn" | "rto" | "sr" [ digits ] [ "a" | "b" | "c" ] ;
 *   overflow    = "sat" | "satp" | "ovf" ;
 *   granularity = "tensor" | "row" | "col" | digits "x" digits ;
 *   scale       = "fp32" | "mul" | "e8m0" | "floor" | "rceil" | "ceil" | "even" | "p3109" | format
 *               | "delayed" [ digits ] [ "m" digits ] ;
 *   flag        = "t" | "z" | "mse" | "46" ;      each at most once, printed in this order
 * for example  e4m3fn   e2m1/1x32:e8m0   e2m1/1x16:e4m3fn+t   e3m2:sr/row   e4m3/128x128
 *              uint4/1x32+z   nf4/1x64   codebook(my.txt)/row   e4m3fn/tensor:delayed16m1.
 * `element` is format.h's: a format or a codebook.  "-" is the identity (high precision).
 * A codebook refuses rto, and rtz where it has no zero.
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
 * delayed<H>m<K> (H 1 to 1024, default 16; K 0 to 31, default 0; tensor only): the amax is the
 *   largest of the H steps before this one, not this step's own, and
 *       s = fl(fl(amax/largest) 2^K), clamped as fp32's.
 *   Who runs the steps keeps the history and writes plan.delayed_amax; while nothing is known
 *   (0) the operand's own amax serves.  (Transformer Engine's DelayedScaling.)
 *
 * +z, zero point: for the integers uint1 .. uint16 = ue0m1 .. ue0m16 of largest L = 2^n - 1.
 *   low = min(0, finite values), high = max(0, finite values), amax = fl(high - low), at most
 *   FLT_MAX; s from the rule;  z = clamp(rne(fl(-low/s)), 0, L);
 *       r = round(fl(x/s)) to an integer,  q = clamp(r, -z, L - z),  out = fl(q s).
 *   The stored code is q + z; ties of `rne` go to even r.  A single code means zero, so a zero
 *   is +0.  int<n> codes -2^(n-1) .. with a zero point are the same values, shifted by 2^(n-1).
 *
 * +mse, the scale with the least squared error (not with delayed): the rule's scale is tried
 *   with fl(amax/largest) (before rounding and clamping; where the rule has no such quotient,
 *   amax) times j/32 for j = 32, 31, .. 4, then 33, .. 48, and the first of the least sum of
 *   (x - out)^2 is taken: double, row by row over the group's finite x, out without `post`.
 *   The trials round to nearest even where the quantizer's own rounding is stochastic.
 *
 * +46, "four over six" (arXiv 2512.02010; e2m1, scale fp32 or a format, with +t or without): as
 *   +mse with the factors 1 and 3/2, which map amax to 6 and to 4; 4 needs the smaller error.
 *   With +t the largest scale in s_enc is the largest power of two p with 3/2 p <= the format's
 *   largest (256 for e4m3fn, not 448), so that the larger scale exists.  (The authors' program
 *   tries with random bits when rounding is stochastic; here trials are to nearest.)
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
    FPL_SCALE_DELAYED,
    FPL_SCALE_RULES
};

enum fpl_search { FPL_SEARCH_NONE, FPL_SEARCH_MSE, FPL_SEARCH_46, FPL_SEARCHES };

enum { FPL_HISTORY_MOST = 1024, FPL_MARGIN_MOST = 31 };

/* Words of the grammar with their meaning, for help and `fplaw formats`; index = enum value,
 * the last row has name NULL.  Unscaled has the name "none", which the grammar leaves out. */
struct fpl_word {
    const char *name, *meaning;
};
extern const struct fpl_word fpl_rounding_words[FPL_ROUNDINGS + 1];
extern const struct fpl_word fpl_overflow_words[FPL_OVERFLOWS + 1];
extern const struct fpl_word fpl_granularity_words[FPL_GRANULARITIES + 1];
extern const struct fpl_word fpl_scale_words[FPL_SCALE_RULES + 1];
extern const struct fpl_word fpl_flag_words[5];

#define FPL_QUANTIZER_TEXT 512 /* any canonical text fits, terminator included, and file names */

struct fpl_quantizer {
    uint8_t identity; /* 1: "-", all else ignored */
    uint8_t rounding; /* enum fpl_rounding (round.h) */
    uint8_t sr_bits;  /* random bits of sr, srb, src: 1..32, default 16 */
    uint8_t overflow; /* enum fpl_overflow (round.h) */
    uint8_t granularity;
    uint8_t scale_rule;
    uint8_t two_level;  /* "+t" */
    uint8_t zero_point; /* "+z" */
    uint8_t search;     /* enum fpl_search: "+mse", "+46" */
    uint8_t margin;     /* FPL_SCALE_DELAYED: K */
    uint16_t history;   /* FPL_SCALE_DELAYED: H, else 0 */
    struct fpl_format format;
    struct fpl_format scale_format; /* FPL_SCALE_FORMAT and two_level only */
    int32_t block_rows, block_cols; /* FPL_BLOCK only, each >= 1 */
};

/* A quantizer lowered once: constants and masks, so that loops have no branch on the
 * format.  Plain data: copied to devices, per replica; its one pointer, round.values, is NULL
 * but for codebooks (round.h says what a device makes of it).  No padding: plans are compared
 * byte by byte.  `post` rounds the dequantized value once more, unscaled (capybara's bf16
 * operands); post.identity if unused. */
struct fpl_quantizer_plan {
    int32_t identity; /* 1: no quantizer; `post` still applies */
    int32_t granularity, scale_rule, two_level;
    int32_t block_rows, block_cols;
    float largest;            /* of the element format */
    int32_t largest_exponent; /* floor(log2 largest) */
    struct fpl_round round;   /* elements */
    struct fpl_round scale;   /* scale format, rne, sat; identity if unused */
    float scale_largest;      /* two-level: what s_enc maps the tensor's largest scale to */
    int32_t zero_point, search;
    int32_t history, margin; /* delayed scaling; history 0: off */
    float delayed_amax;      /* written by the caller, step by step; 0: the operand's own amax */
    struct fpl_round post;   /* extra unscaled rounding of the result */
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

/* The amax that delayed scaling uses: the largest of the last steps' (entries of steps that have
 * not been are 0; entries that are not finite do not count). */
float fpl_delayed_amax(const float *history, int length);

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

/* A part of it: groups first .. first + count - 1, counted group rows outermost; arguments as
 * above but `scales`, which is that of group `first`, and s_enc (scale.h), from
 * fpl_quantize_tensor_scale.  x == out allowed.  Groups are independent of each other. */
int64_t fpl_quantize_groups(const struct fpl_quantizer_plan *plan, int64_t rows, int64_t cols,
                            int64_t row_stride, int64_t col_stride, const float *x, float *out, float *scales,
                            const struct fpl_random_at *at, float s_enc, int64_t first, int64_t count);
float fpl_quantize_tensor_scale(const struct fpl_quantizer_plan *plan, int64_t rows, int64_t cols,
                                int64_t row_stride, int64_t col_stride, const float *x);
int64_t fpl_quantizer_groups(const struct fpl_quantizer_plan *plan, int64_t rows, int64_t cols);

/* Which elements' rounding, unclamped, lies beyond the format's ends (fpl_element_clips): clips
 * has x's strides, 1 where it does.  Returns their number. */
int64_t fpl_clips_reference(const struct fpl_quantizer_plan *plan, int64_t rows, int64_t cols,
                            int64_t row_stride, int64_t col_stride, const float *x, uint8_t *clips,
                            const struct fpl_random_at *at);

/* The scale (scale.h) of every group of a row-major operand, group rows outermost; and of one,
 * with s_enc as above. */
struct fpl_group_scale;
void fpl_quantizer_group_scales(const struct fpl_quantizer_plan *plan, int64_t rows, int64_t cols,
                                const float *x, struct fpl_group_scale *scales);
void fpl_quantizer_group_scale(const struct fpl_quantizer_plan *plan, int64_t rows, int64_t cols,
                               const float *x, float s_enc, int64_t n, struct fpl_group_scale *out);

#ifdef __cplusplus
}
#endif
#endif
