/* measure.c - error, underflow, clipping and size of a quantized operand.
 *
 * Sums run in double, row by row inside each group and group after group, so that they do
 * not depend on how the operand was quantized.  Clipping is judged on what was rounded, the
 * scaled value of scale.h; a high-precision operand clips nothing.
 */
#include "measure.h"

#include <math.h>

#include "scale.h"

struct sums {
    double signal, noise;
    int64_t nonzero, finite, underflown, clipped;
};

static void add_group(struct sums *s, const struct fpl_quantizer_plan *p, const struct fpl_group_scale *g,
                      const float *x, const float *out, int64_t cols, int64_t i0, int64_t i1, int64_t j0,
                      int64_t j1) {
    for (int64_t i = i0; i < i1; i++) {
        for (int64_t j = j0; j < j1; j++) {
            const double v = (double)x[i * cols + j], w = (double)out[i * cols + j];
            if (!isfinite(v)) continue;
            s->finite++;
            s->nonzero += v != 0.0;
            s->underflown += v != 0.0 && w == 0.0;
            s->clipped += !p->identity && fabsf(fpl_scaled(g, x[i * cols + j])) > p->largest;
            s->signal += v * v;
            s->noise += (v - w) * (v - w);
        }
    }
}

static float amax_of(const float *x, int64_t cols, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
    float amax = 0.0f;
    for (int64_t i = i0; i < i1; i++)
        for (int64_t j = j0; j < j1; j++) amax = fmaxf(amax, fpl_finite_magnitude(x[i * cols + j]));
    return amax;
}

static int scale_bits(const struct fpl_quantizer *q) {
    struct fpl_format_limits limits;
    switch (q->scale_rule) {
    case FPL_SCALE_FP32:
    case FPL_SCALE_MUL:
        return 32;
    case FPL_SCALE_FORMAT:
        fpl_format_limits(&q->scale_format, &limits);
        return limits.bits;
    default:
        return 8;
    }
}

static double share(int64_t part, int64_t all) { return all == 0 ? 0.0 : (double)part / (double)all; }

void fpl_quantizer_measure(const struct fpl_quantizer *q, int64_t rows, int64_t cols, const float *x,
                           const float *out, struct fpl_quantizer_measure *m) {
    struct fpl_quantizer_plan plan;
    struct sums s = {0.0, 0.0, 0, 0, 0, 0};
    int64_t group_rows, group_cols, groups = 0;
    fpl_quantizer_lower(q, NULL, &plan);
    fpl_quantizer_group_shape(&plan, rows, cols, &group_rows, &group_cols);
    const float amax = amax_of(x, cols, 0, rows, 0, cols), s_enc = fpl_tensor_scale(&plan, amax);
    for (int64_t i = 0; i < rows; i += group_rows) {
        for (int64_t j = 0; j < cols; j += group_cols, groups++) {
            const int64_t i1 = rows - i < group_rows ? rows : i + group_rows;
            const int64_t j1 = cols - j < group_cols ? cols : j + group_cols;
            const struct fpl_group_scale g = fpl_group_scale(&plan, amax_of(x, cols, i, i1, j, j1), s_enc);
            add_group(&s, &plan, &g, x, out, cols, i, i1, j, j1);
        }
    }
    struct fpl_format_limits limits = {.bits = 32};
    if (!q->identity) fpl_format_limits(&q->format, &limits);
    m->elements = rows * cols;
    m->nonfinite = m->elements - s.finite;
    m->bits_per_value = limits.bits;
    if (!q->identity && q->granularity != FPL_UNSCALED && m->elements > 0)
        m->bits_per_value +=
            ((double)groups * scale_bits(q) + (q->two_level ? 32.0 : 0.0)) / (double)m->elements;
    m->sqnr_db = 10.0 * log10(s.signal / s.noise);
    m->underflow = share(s.underflown, s.nonzero);
    m->clipped = share(s.clipped, s.finite);
    m->amax = (double)amax;
}
