/* oracle_quantizer.c - whole quantizers by the text of formats.md, section 2 (see oracle.h).
 *
 * Groups are found element by element from the granularity, largest magnitudes by a scan,
 * scales by the formulas in double with one final rounding to float32 (written fl).  Nothing
 * is fused or cached.  Group values are recomputed for every group; rows x cols are small.
 *
 * Not covered: the p3109 scale rule, whose target format section 2 does not name.
 */
#include "oracle.h"

#include "../../formats/random.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

struct job {
    const struct fpl_quantizer *q;
    struct oracle element, scale, post;
    int has_post;
    int64_t rows, cols, row_stride, col_stride;
    const float *x;
    double amax_all; /* of the whole operand, for two-level scales */
};

static float fl(double v) { return (float)v; }

/* floor(log2 v), v > 0 */
static int log2_floor(double v) {
    int e;
    frexp(v, &e);
    return e - 1;
}

static double power(int k) { return ldexp(1.0, k < -127 ? -127 : k > 127 ? 127 : k); }

static double clamp_finite(double v) { return v > (double)FLT_MAX ? (double)FLT_MAX : v; }

/* The inputs of one rule: amax > 0 and the element format's largest value. */
static double scale_of(const struct job *job, double amax) {
    const struct fpl_quantizer *q = job->q;
    const double largest = job->element.value[job->element.count - 1];
    const int top = log2_floor(largest);
    switch (q->scale_rule) {
    case FPL_SCALE_FLOOR:
        return power(log2_floor(amax) - top);
    case FPL_SCALE_CEIL: {
        const int e = log2_floor(amax);
        return power(e + (ldexp(1.0, e) < amax) - top);
    }
    case FPL_SCALE_RCEIL: {
        int k = -400;
        while (ldexp(largest, k) < amax) k++;
        return power(k);
    }
    case FPL_SCALE_EVEN: {
        /* 1 << (22 - M) of amax's bits: half a unit of its M-bit rounding */
        const int e = amax < 0x1p-126 ? -126 : log2_floor(amax);
        return power(log2_floor(amax + ldexp(1.0, e - 1 - q->format.mbits)) - top);
    }
    case FPL_SCALE_FORMAT:
        return (double)oracle_round(&job->scale, FPL_RNE, 0, FPL_SAT, fl(amax / largest), 0);
    default: {
        const double s = clamp_finite((double)fl(amax / largest));
        return s < 0x1p-126 ? 0x1p-126 : s;
    }
    }
}

/* One element of a group with largest finite magnitude amax. */
static float element_of(const struct job *job, double amax, float x, uint32_t random, double *scale) {
    const struct fpl_quantizer *q = job->q;
    const double largest = job->element.value[job->element.count - 1];
    double multiplier = 1.0, divisor = 1.0, back = 1.0, back2 = 1.0;
    if (q->granularity != FPL_UNSCALED && amax > 0.0) {
        if (q->two_level) {
            const double scale_largest = job->scale.value[job->scale.count - 1];
            const double s_enc =
                clamp_finite((double)fl((double)fl(largest * scale_largest) / job->amax_all));
            const double inverse = (double)fl(1.0 / s_enc);
            const float wanted = fl((double)fl(amax / largest) * s_enc);
            back = (double)oracle_round(&job->scale, FPL_RNE, 0, FPL_SAT, wanted, 0);
            back2 = inverse;
            multiplier = back == 0.0 ? 0.0 : clamp_finite((double)fl(1.0 / (double)fl(back * inverse)));
        } else if (q->scale_rule == FPL_SCALE_MUL) {
            multiplier = clamp_finite((double)fl(largest / amax));
            back = (double)fl(amax / largest);
        } else {
            back = divisor = scale_of(job, amax);
        }
    }
    *scale = back;
    float y;
    if (back == 0.0 && isfinite(x)) {
        y = copysignf(0.0f, x);
    } else if (divisor != 1.0) {
        y = fl((double)x / divisor);
    } else {
        y = isinf(x) ? x : fl((double)x * multiplier);
    }
    const float code = oracle_round(&job->element, q->rounding, q->sr_bits, q->overflow, y, random);
    /* Inf and NaN that section 1 lets through are no multiples of a scale. */
    float out = isfinite(code) ? fl((double)code * back) : code;
    if (back2 != 1.0) out = fl((double)out * back2);
    if (isinf(out) && !isinf(code)) out = copysignf(FLT_MAX, out);
    if (job->has_post)
        out = oracle_round(&job->post, FPL_RNE, 0, fpl_format_default_overflow(&job->post.format), out, 0);
    return out;
}

static double amax_of(const struct job *job, int64_t r0, int64_t r1, int64_t c0, int64_t c1) {
    double amax = 0.0;
    for (int64_t i = r0; i < r1; i++) {
        for (int64_t j = c0; j < c1; j++) {
            const double v = fabs((double)job->x[i * job->row_stride + j * job->col_stride]);
            if (isfinite(v) && v > amax) amax = v;
        }
    }
    return amax;
}

int64_t oracle_quantize(const struct fpl_quantizer *q, const struct fpl_format *post, int64_t rows,
                        int64_t cols, int64_t row_stride, int64_t col_stride, const float *x, float *out,
                        float *scales, const struct fpl_random_at *at) {
    struct job job = {.q = q, .rows = rows, .cols = cols, .row_stride = row_stride, .col_stride = col_stride};
    const int64_t span = rows && cols ? (rows - 1) * row_stride + (cols - 1) * col_stride + 1 : 0;
    float *copy = calloc((size_t)span + 1, sizeof *copy);
    if (!copy) abort();
    for (int64_t i = 0; i < span; i++) copy[i] = x[i];
    job.x = copy;
    oracle_open(&job.element, &q->format);
    if (q->two_level || q->scale_rule == FPL_SCALE_FORMAT) oracle_open(&job.scale, &q->scale_format);
    job.has_post = post != NULL;
    if (post) oracle_open(&job.post, post);
    job.amax_all = amax_of(&job, 0, rows, 0, cols);

    int64_t height = 1, width = 1; /* of a group */
    switch (q->granularity) {
    case FPL_TENSOR:
        height = rows, width = cols;
        break;
    case FPL_ROW:
        width = cols;
        break;
    case FPL_COL:
        height = rows;
        break;
    case FPL_BLOCK:
        height = q->block_rows, width = q->block_cols;
        break;
    default:
        break;
    }
    int64_t nonfinite = 0, group = 0;
    for (int64_t r0 = 0; r0 < rows; r0 += height) {
        const int64_t r1 = r0 + height < rows ? r0 + height : rows;
        for (int64_t c0 = 0; c0 < cols; c0 += width) {
            const int64_t c1 = c0 + width < cols ? c0 + width : cols;
            const double amax = amax_of(&job, r0, r1, c0, c1);
            double scale = 1.0;
            for (int64_t i = r0; i < r1; i++) {
                for (int64_t j = c0; j < c1; j++) {
                    const int64_t at_ij = i * row_stride + j * col_stride;
                    uint32_t random = 0;
                    if (q->rounding == FPL_SR)
                        random = fpl_random_bits(at->seed, at->step, at->stream,
                                                 at->element + (uint64_t)at_ij, q->sr_bits);
                    nonfinite += !isfinite(copy[at_ij]);
                    out[at_ij] = element_of(&job, amax, copy[at_ij], random, &scale);
                }
            }
            if (scales) scales[group++] = (float)scale;
        }
    }
    free(copy);
    oracle_close(&job.element);
    oracle_close(&job.scale);
    oracle_close(&job.post);
    return nonfinite;
}
