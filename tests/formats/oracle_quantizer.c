/* oracle_quantizer.c - whole quantizers by the text of formats.md, section 2 (see oracle.h).
 *
 * Groups are found element by element from the granularity, largest magnitudes by a scan,
 * scales by the formulas in double with one final rounding to float32 (written fl).  Nothing
 * is fused or cached.  Group values are recomputed for every group; rows x cols are small.
 *
 * A search (+mse, +46) computes every trial's outputs and its error in full and keeps the
 * first least one; a zero point rounds to a wide integer grid before it clamps.
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
    double delayed;  /* amax of earlier steps, 0: none */
    double amax_all; /* of the whole operand, for two-level scales */
    double largest;  /* of the element format */
};

/* What a group's elements meet. */
struct applied {
    double multiplier, divisor, back, back2, zero;
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
static double scale_of(const struct job *job, double amax, double factor) {
    const struct fpl_quantizer *q = job->q;
    const double largest = job->largest, wide = clamp_finite((double)fl(amax * factor));
    const int top = log2_floor(largest);
    switch (q->scale_rule) {
    case FPL_SCALE_FLOOR:
        return power(log2_floor(wide) - top);
    case FPL_SCALE_CEIL: {
        const int e = log2_floor(wide);
        return power(e + (ldexp(1.0, e) < wide) - top);
    }
    case FPL_SCALE_RCEIL: {
        int k = -400;
        while (ldexp(largest, k) < wide) k++;
        return power(k);
    }
    case FPL_SCALE_EVEN: {
        /* 1 << (22 - M) of amax's bits: half a unit of its M-bit rounding */
        const int e = wide < 0x1p-126 ? -126 : log2_floor(wide);
        return power(log2_floor(wide + ldexp(1.0, e - 1 - q->format.mbits)) - top);
    }
    case FPL_SCALE_P3109: {
        /* The nearest power of two; from 3 2^(e-1), the middle, to the even exponent code. */
        const int e = log2_floor(wide);
        const double middle = ldexp(1.5, e);
        return power(e + (wide > middle || (wide == middle && (e + 127) % 2 != 0)));
    }
    case FPL_SCALE_FORMAT:
        return (double)oracle_round(&job->scale, FPL_RNE, 0, FPL_SAT, fl((double)fl(amax / largest) * factor),
                                    0);
    default: {
        const double more = q->scale_rule == FPL_SCALE_DELAYED ? ldexp(1.0, q->margin) : factor;
        const double s = clamp_finite((double)fl((double)fl(amax / largest) * more));
        return s < 0x1p-126 ? 0x1p-126 : s;
    }
    }
}

/* Two levels: the largest scale that the tensor's amax is mapped to. */
static double largest_scale(const struct job *job) {
    const double most = job->scale.value[job->scale.count - 1];
    double p = 0x1p-140;
    if (job->q->search != FPL_SEARCH_46) return most;
    while (2.0 * p * 1.5 <= most) p *= 2.0;
    return p;
}

/* amax: the largest magnitude, or with a zero point high - low. */
static struct applied apply(const struct job *job, double amax, double low, double factor) {
    const struct fpl_quantizer *q = job->q;
    const double largest = job->largest;
    struct applied a = {1.0, 1.0, 1.0, 1.0, 0.0};
    if (q->scale_rule == FPL_SCALE_DELAYED && job->delayed > 0.0) amax = job->delayed;
    if (q->granularity == FPL_UNSCALED || amax == 0.0) return a;
    if (q->two_level) {
        const double s_enc =
            clamp_finite((double)fl((double)fl(largest * largest_scale(job)) / job->amax_all));
        const double inverse = (double)fl(1.0 / s_enc);
        a.back2 = inverse;
        const float wanted = fl((double)fl((double)fl(amax / largest) * s_enc) * factor);
        a.back = (double)oracle_round(&job->scale, FPL_RNE, 0, FPL_SAT, wanted, 0);
        a.multiplier = a.back == 0.0 ? 0.0 : clamp_finite((double)fl(1.0 / (double)fl(a.back * inverse)));
    } else if (q->scale_rule == FPL_SCALE_MUL) {
        const double wide = clamp_finite((double)fl(amax * factor));
        a.multiplier = clamp_finite((double)fl(largest / wide));
        a.back = (double)fl(wide / largest);
    } else {
        a.back = a.divisor = scale_of(job, amax, factor);
    }
    if (q->zero_point && a.back != 0.0) {
        const double y = a.divisor != 1.0 ? (double)fl(-low / a.divisor) : (double)fl(-low * a.multiplier);
        a.zero = fmin(rint(y), largest);
    }
    return a;
}

/* One element. */
static float element_of(const struct job *job, const struct applied *a, int rounding, float x,
                        uint32_t random) {
    const struct fpl_quantizer *q = job->q;
    float y;
    if (a->back == 0.0 && isfinite(x)) {
        y = copysignf(0.0f, x);
    } else if (a->divisor != 1.0) {
        y = fl((double)x / a->divisor);
    } else {
        y = isinf(x) ? x : fl((double)x * a->multiplier);
    }
    float code = oracle_round(&job->element, rounding, q->sr_bits, q->overflow, y, random);
    if (q->zero_point && isfinite(code))
        code = (float)fmax(fmin((double)code, job->largest - a->zero), -a->zero) + 0.0f;
    /* Inf and NaN that section 1 lets through are no multiples of a scale. */
    float out = isfinite(code) ? fl((double)code * a->back) : code;
    if (a->back2 != 1.0) out = fl((double)out * a->back2);
    if (isinf(out) && !isinf(code)) out = copysignf(FLT_MAX, out);
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

struct extremes {
    double low, high;
};

static struct extremes extremes_of(const struct job *job, int64_t r0, int64_t r1, int64_t c0, int64_t c1) {
    struct extremes e = {0.0, 0.0};
    for (int64_t i = r0; i < r1; i++) {
        for (int64_t j = c0; j < c1; j++) {
            const double v = (double)job->x[i * job->row_stride + j * job->col_stride];
            if (!isfinite(v)) continue;
            e.low = fmin(e.low, v);
            e.high = fmax(e.high, v);
        }
    }
    return e;
}

/* What the rule takes for amax. */
static double basis_of(const struct job *job, int64_t r0, int64_t r1, int64_t c0, int64_t c1) {
    if (!job->q->zero_point) return amax_of(job, r0, r1, c0, c1);
    const struct extremes e = extremes_of(job, r0, r1, c0, c1);
    return clamp_finite((double)fl(e.high - e.low));
}

/* The applied scale of a group: of all that may be tried, the first of the least error. */
static struct applied choose(const struct job *job, int64_t r0, int64_t r1, int64_t c0, int64_t c1) {
    const struct fpl_quantizer *q = job->q;
    const double amax = basis_of(job, r0, r1, c0, c1), low = extremes_of(job, r0, r1, c0, c1).low;
    double factors[64] = {1.0}, least = (double)INFINITY;
    int count = 1, best = 0;
    const int random = q->rounding == FPL_SR || q->rounding == FPL_SRB || q->rounding == FPL_SRC;
    if (q->search == FPL_SEARCH_46) factors[count++] = 1.5;
    if (q->search == FPL_SEARCH_MSE) {
        for (int j = 31; j >= 4; j--) factors[count++] = j / 32.0;
        for (int j = 33; j <= 48; j++) factors[count++] = j / 32.0;
    }
    for (int f = 0; count > 1 && amax > 0.0 && f < count; f++) {
        const struct applied a = apply(job, amax, low, factors[f]);
        double error = 0.0;
        for (int64_t i = r0; i < r1; i++) {
            for (int64_t j = c0; j < c1; j++) {
                const float x = job->x[i * job->row_stride + j * job->col_stride];
                if (!isfinite(x)) continue;
                const double d =
                    (double)x - (double)element_of(job, &a, random ? FPL_RNE : q->rounding, x, 0);
                error += d * d;
            }
        }
        if (error < least) {
            least = error;
            best = f;
        }
    }
    return apply(job, amax, low, factors[best]);
}

int64_t oracle_quantize(const struct fpl_quantizer *q, const struct fpl_format *post, double delayed,
                        int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride, const float *x,
                        float *out, float *scales, const struct fpl_random_at *at) {
    struct job job = {.q = q, .rows = rows, .cols = cols, .row_stride = row_stride, .col_stride = col_stride};
    const int64_t span = rows && cols ? (rows - 1) * row_stride + (cols - 1) * col_stride + 1 : 0;
    float *copy = calloc((size_t)span + 1, sizeof *copy);
    if (!copy) abort();
    for (int64_t i = 0; i < span; i++) copy[i] = x[i];
    job.x = copy;
    job.delayed = delayed;
    struct fpl_format element = q->format;
    if (q->zero_point) { /* a grid beyond what is clamped to */
        element.is_signed = 1;
        element.mbits = (uint8_t)(element.mbits + 2);
    }
    oracle_open(&job.element, &element);
    struct fpl_format_limits limits;
    fpl_format_limits(&q->format, &limits);
    job.largest = limits.largest;
    if (q->two_level || q->scale_rule == FPL_SCALE_FORMAT) oracle_open(&job.scale, &q->scale_format);
    job.has_post = post != NULL;
    if (post) oracle_open(&job.post, post);
    job.amax_all = basis_of(&job, 0, rows, 0, cols);

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
            const struct applied a = choose(&job, r0, r1, c0, c1);
            for (int64_t i = r0; i < r1; i++) {
                for (int64_t j = c0; j < c1; j++) {
                    const int64_t at_ij = i * row_stride + j * col_stride;
                    uint32_t random = 0;
                    if (q->rounding == FPL_SR || q->rounding == FPL_SRB || q->rounding == FPL_SRC)
                        random = fpl_random_bits(at->seed, at->step, at->stream,
                                                 at->element + (uint64_t)at_ij, q->sr_bits);
                    nonfinite += !isfinite(copy[at_ij]);
                    float y = element_of(&job, &a, q->rounding, copy[at_ij], random);
                    if (job.has_post)
                        y = oracle_round(&job.post, FPL_RNE, 0, fpl_format_default_overflow(&job.post.format),
                                         y, 0);
                    out[at_ij] = y;
                }
            }
            if (scales) scales[group++] = (float)a.back;
        }
    }
    free(copy);
    oracle_close(&job.element);
    oracle_close(&job.scale);
    oracle_close(&job.post);
    return nonfinite;
}
