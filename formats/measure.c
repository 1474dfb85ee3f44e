/* measure.c - error, underflow, clipping and size of a quantized operand.
 *
 * Sums of values are measure_sum.c's, over the operand in memory order, so that they do not
 * depend on how it was quantized.  Clipping is judged on what was rounded, the scaled value of
 * scale.h; a high-precision operand clips nothing.
 */
#include "measure.h"

#include <math.h>

#include "scale.h"

int64_t fpl_count_clipped(const struct fpl_quantizer_plan *plan, const struct fpl_group_scale *g, int64_t n,
                          const float *x) {
    int64_t clipped = 0;
    if (plan->identity) return 0;
    for (int64_t i = 0; i < n; i++)
        clipped += isfinite(x[i]) && fpl_scaled_beyond(plan, g, fpl_scaled(g, x[i]));
    return clipped;
}

int fpl_quantizer_scale_bits(const struct fpl_quantizer *q) {
    struct fpl_format_limits limits;
    int bits;
    if (q->identity || q->granularity == FPL_UNSCALED) return 0;
    switch (q->scale_rule) {
    case FPL_SCALE_FP32:
    case FPL_SCALE_MUL:
    case FPL_SCALE_DELAYED:
        bits = 32;
        break;
    case FPL_SCALE_FORMAT:
        fpl_format_limits(&q->scale_format, &limits);
        bits = limits.bits;
        break;
    default:
        bits = 8;
        break;
    }
    return bits + (q->zero_point ? q->format.mbits : 0); /* a zero point is a code */
}

static double share(int64_t part, int64_t all) { return all == 0 ? 0.0 : (double)part / (double)all; }

void fpl_measure_finish(const struct fpl_measure *m, const struct fpl_quantizer *q,
                        struct fpl_quantizer_measure *out) {
    struct fpl_format_limits limits = {.bits = 32};
    if (!q->identity) fpl_format_limits(&q->format, &limits);
    out->elements = m->elements;
    out->nonfinite = m->elements - m->finite;
    out->bits_per_value = limits.bits;
    if (m->elements > 0)
        out->bits_per_value += ((double)m->groups * fpl_quantizer_scale_bits(q) +
                                (!q->identity && q->two_level ? 32.0 * (double)m->tensors : 0.0)) /
                               (double)m->elements;
    out->sqnr_db = 10.0 * log10(m->signal / m->noise);
    out->sqnr_db_per_bit = out->sqnr_db / out->bits_per_value;
    out->underflow = share(m->underflown, m->nonzero);
    out->clipped = share(m->clipped, m->finite);
    out->relative_mean = m->nonzero == 0 ? 0.0 : m->relative / (double)m->nonzero;
    out->relative_max = m->relative_max;
    out->amax = (double)m->amax;
}

/* Clipped elements of group n, of which whole ones have group_rows x group_cols. */
static int64_t group_clipped(const struct fpl_quantizer_plan *plan, float s_enc, const float *x, int64_t rows,
                             int64_t cols, int64_t n, int64_t group_rows, int64_t group_cols) {
    const int64_t across = (cols - 1) / group_cols + 1, i = n / across * group_rows,
                  j = n % across * group_cols;
    const int64_t last = rows - i < group_rows ? rows : i + group_rows;
    const int64_t width = cols - j < group_cols ? cols - j : group_cols;
    struct fpl_group_scale g;
    int64_t clipped = 0;
    fpl_quantizer_group_scale(plan, rows, cols, x, s_enc, n, &g);
    for (int64_t l = i; l < last; l++) clipped += fpl_count_clipped(plan, &g, width, x + l * cols + j);
    return clipped;
}

void fpl_quantizer_measure(const struct fpl_quantizer *q, int64_t rows, int64_t cols, const float *x,
                           const float *out, struct fpl_quantizer_measure *m) {
    struct fpl_quantizer_plan plan;
    struct fpl_measure sums = {.tensors = 1};
    int64_t group_rows, group_cols;
    fpl_quantizer_lower(q, NULL, &plan);
    fpl_quantizer_group_shape(&plan, rows, cols, &group_rows, &group_cols);
    fpl_measure_values(&sums, rows * cols, x, out);
    const float s_enc = fpl_quantize_tensor_scale(&plan, rows, cols, cols, 1, x);
    sums.groups = fpl_quantizer_groups(&plan, rows, cols);
    for (int64_t n = 0; n < sums.groups; n++)
        sums.clipped += group_clipped(&plan, s_enc, x, rows, cols, n, group_rows, group_cols);
    fpl_measure_finish(&sums, q, m);
}
