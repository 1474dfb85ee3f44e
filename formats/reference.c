/* reference.c - what a quantizer means: every group, every element, in order, in float32.
 *
 * Groups are rectangles of the operand: all of it, a row, a column, or a block of
 * block_rows x block_cols that is cut off at the edges.  For each: amax over its finite
 * elements (with a zero point their range), a scale (scale.h) or the best of several, then
 * element by element.  Two-level scaling takes the whole operand's amax first.  Speed is not a
 * concern here: backends are compared with this, and use it for what is rare.
 */
#include "scale.h"

#include <math.h>

#include "random.h"

struct view {
    int64_t rows, cols, row_stride, col_stride;
};

/* Rows [i0, i1) and columns [j0, j1). */
struct rectangle {
    int64_t i0, i1, j0, j1;
};

/* What scales are made from: min and max count zero in. */
struct extent {
    float amax, low, high;
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static struct extent extent_of(const struct view *v, const float *x, const struct rectangle *g) {
    struct extent e = {0.0f, 0.0f, 0.0f};
    for (int64_t i = g->i0; i < g->i1; i++) {
        for (int64_t j = g->j0; j < g->j1; j++) {
            const float y = x[i * v->row_stride + j * v->col_stride], a = fpl_finite_magnitude(y);
            if (a > e.amax) e.amax = a;
            if (a == 0.0f) continue; /* zeros, and what is not finite */
            if (y < e.low) e.low = y;
            if (y > e.high) e.high = y;
        }
    }
    return e;
}

/* What the scale rule takes for amax. */
static float basis(const struct fpl_quantizer_plan *p, const struct extent *e) {
    return p->zero_point ? fpl_group_range(e->low, e->high) : e->amax;
}

static struct fpl_group_scale scale_times(const struct fpl_quantizer_plan *p, const struct extent *e,
                                          float s_enc, float factor) {
    struct fpl_group_scale g = fpl_group_scale_times(p, basis(p, e), s_enc, factor);
    if (p->zero_point) g.zero = fpl_zero_point(p, &g, e->low);
    return g;
}

/* ---- the scale with the least error ------------------------------------------------------------ */

/* Sum of (x - out)^2 over finite x, given up once it is `most` or more. */
static double squared_error(const struct fpl_quantizer_plan *p, const struct fpl_group_scale *s,
                            const struct view *v, const float *x, const struct rectangle *g, double most) {
    double sum = 0.0;
    for (int64_t i = g->i0; i < g->i1; i++) {
        for (int64_t j = g->j0; j < g->j1; j++) {
            const float y = x[i * v->row_stride + j * v->col_stride];
            if ((fpl_float_bits(y) & 0x7f800000u) == 0x7f800000u) continue;
            const double d = (double)y - (double)fpl_quantize_element(p, s, y, 0);
            sum += d * d;
        }
        if (sum >= most) return sum;
    }
    return sum;
}

/* The factors of a search in the order in which they are tried; 0 after the last. */
static float search_factor(int search, int trial) {
    if (search == FPL_SEARCH_46) return trial == 0 ? 1.0f : trial == 1 ? 1.5f : 0.0f;
    const int j = trial <= 28 ? 32 - trial : trial + 4;
    return j <= 48 ? (float)j / 32.0f : 0.0f;
}

static struct fpl_group_scale best_scale(const struct fpl_quantizer_plan *plan, const struct extent *e,
                                         float s_enc, const struct view *v, const float *x,
                                         const struct rectangle *g) {
    struct fpl_quantizer_plan p = *plan;
    if (fpl_is_stochastic(p.round.mode)) p.round.mode = FPL_RNE;
    struct fpl_group_scale best = scale_times(&p, e, s_enc, 1.0f), last = best;
    if (basis(&p, e) == 0.0f) return best;
    double error = squared_error(&p, &best, v, x, g, (double)INFINITY);
    for (int trial = 1;; trial++) {
        const float factor = search_factor(p.search, trial);
        if (factor == 0.0f || error == 0.0) return best;
        const struct fpl_group_scale next = scale_times(&p, e, s_enc, factor);
        if (next.quant == last.quant && next.dequant == last.dequant && next.zero == last.zero) continue;
        const double with_next = squared_error(&p, &next, v, x, g, error);
        if (with_next < error) {
            error = with_next;
            best = next;
        }
        last = next;
    }
}

/* ---- elements ------------------------------------------------------------------------------------ */

static uint32_t random_of(const struct fpl_quantizer_plan *plan, const struct fpl_random_at *at, int64_t k) {
    if (plan->identity || !fpl_is_stochastic(plan->round.mode)) return 0;
    return fpl_random_bits(at->seed, at->step, at->stream, at->element + (uint64_t)k, plan->round.sr_bits);
}

static int64_t quantize_group(const struct fpl_quantizer_plan *plan, const struct fpl_group_scale *s,
                              const struct view *v, const float *x, float *out, const struct rectangle *g,
                              const struct fpl_random_at *at) {
    int64_t nonfinite = 0;
    for (int64_t i = g->i0; i < g->i1; i++) {
        for (int64_t j = g->j0; j < g->j1; j++) {
            const int64_t k = i * v->row_stride + j * v->col_stride;
            float y = x[k];
            nonfinite += (fpl_float_bits(y) & 0x7f800000u) == 0x7f800000u;
            if (!plan->identity) y = fpl_quantize_element(plan, s, y, random_of(plan, at, k));
            out[k] = fpl_round_value(&plan->post, y, 0);
        }
    }
    return nonfinite;
}

static int64_t clip_group(const struct fpl_quantizer_plan *plan, const struct fpl_group_scale *s,
                          const struct view *v, const float *x, uint8_t *clips, const struct rectangle *g,
                          const struct fpl_random_at *at) {
    int64_t count = 0;
    for (int64_t i = g->i0; i < g->i1; i++) {
        for (int64_t j = g->j0; j < g->j1; j++) {
            const int64_t k = i * v->row_stride + j * v->col_stride;
            const int clipped = fpl_element_clips(plan, s, x[k], random_of(plan, at, k));
            clips[k] = (uint8_t)clipped;
            count += clipped;
        }
    }
    return count;
}

/* ---- the operand --------------------------------------------------------------------------------- */

static const struct fpl_random_at origin = {0, 0, 0, 0};

void fpl_quantizer_group_shape(const struct fpl_quantizer_plan *plan, int64_t rows, int64_t cols,
                               int64_t *group_rows, int64_t *group_cols) {
    *group_rows = rows;
    *group_cols = cols;
    switch (plan->granularity) {
    case FPL_ROW:
        *group_rows = 1;
        break;
    case FPL_COL:
        *group_cols = 1;
        break;
    case FPL_BLOCK:
        *group_rows = least(rows, plan->block_rows);
        *group_cols = least(cols, plan->block_cols);
        break;
    default:
        break;
    }
}

int64_t fpl_quantizer_groups(const struct fpl_quantizer_plan *plan, int64_t rows, int64_t cols) {
    int64_t group_rows, group_cols;
    if (rows <= 0 || cols <= 0) return 0;
    fpl_quantizer_group_shape(plan, rows, cols, &group_rows, &group_cols);
    return ((rows - 1) / group_rows + 1) * ((cols - 1) / group_cols + 1);
}

float fpl_quantize_tensor_scale(const struct fpl_quantizer_plan *plan, int64_t rows, int64_t cols,
                                int64_t row_stride, int64_t col_stride, const float *x) {
    const struct view v = {rows, cols, row_stride, col_stride};
    const struct rectangle all = {0, rows, 0, cols};
    if (!plan->two_level) return 1.0f;
    const struct extent e = extent_of(&v, x, &all);
    return fpl_tensor_scale(plan, basis(plan, &e));
}

/* Group n of the operand and its scale. */
static struct fpl_group_scale group_scale(const struct fpl_quantizer_plan *plan, const struct view *v,
                                          const float *x, float s_enc, int64_t n, struct rectangle *g) {
    int64_t group_rows, group_cols;
    fpl_quantizer_group_shape(plan, v->rows, v->cols, &group_rows, &group_cols);
    const int64_t across = (v->cols - 1) / group_cols + 1;
    const int64_t i = n / across * group_rows, j = n % across * group_cols;
    *g = (struct rectangle){i, i + least(group_rows, v->rows - i), j, j + least(group_cols, v->cols - j)};
    struct extent e = {0.0f, 0.0f, 0.0f};
    const int scaled = !plan->identity && plan->granularity != FPL_UNSCALED;
    if (scaled) e = extent_of(v, x, g);
    return scaled && plan->search != FPL_SEARCH_NONE ? best_scale(plan, &e, s_enc, v, x, g)
                                                     : scale_times(plan, &e, s_enc, 1.0f);
}

int64_t fpl_quantize_groups(const struct fpl_quantizer_plan *plan, int64_t rows, int64_t cols,
                            int64_t row_stride, int64_t col_stride, const float *x, float *out, float *scales,
                            const struct fpl_random_at *at, float s_enc, int64_t first, int64_t count) {
    const struct view v = {rows, cols, row_stride, col_stride};
    int64_t nonfinite = 0;
    for (int64_t n = first; n < first + count; n++) {
        struct rectangle g;
        const struct fpl_group_scale s = group_scale(plan, &v, x, s_enc, n, &g);
        if (scales != NULL) *scales++ = s.dequant;
        nonfinite += quantize_group(plan, &s, &v, x, out, &g, at != NULL ? at : &origin);
    }
    return nonfinite;
}

int64_t fpl_quantize_reference(const struct fpl_quantizer_plan *plan, int64_t rows, int64_t cols,
                               int64_t row_stride, int64_t col_stride, const float *x, float *out,
                               float *scales, const struct fpl_random_at *at) {
    const int64_t groups = fpl_quantizer_groups(plan, rows, cols);
    const float s_enc = fpl_quantize_tensor_scale(plan, rows, cols, row_stride, col_stride, x);
    return fpl_quantize_groups(plan, rows, cols, row_stride, col_stride, x, out, scales, at, s_enc, 0,
                               groups);
}

int64_t fpl_clips_reference(const struct fpl_quantizer_plan *plan, int64_t rows, int64_t cols,
                            int64_t row_stride, int64_t col_stride, const float *x, uint8_t *clips,
                            const struct fpl_random_at *at) {
    const struct view v = {rows, cols, row_stride, col_stride};
    const int64_t groups = fpl_quantizer_groups(plan, rows, cols);
    const float s_enc = fpl_quantize_tensor_scale(plan, rows, cols, row_stride, col_stride, x);
    int64_t count = 0;
    for (int64_t n = 0; n < groups; n++) {
        struct rectangle g;
        const struct fpl_group_scale s = group_scale(plan, &v, x, s_enc, n, &g);
        count += clip_group(plan, &s, &v, x, clips, &g, at != NULL ? at : &origin);
    }
    return count;
}

void fpl_quantizer_group_scale(const struct fpl_quantizer_plan *plan, int64_t rows, int64_t cols,
                               const float *x, float s_enc, int64_t n, struct fpl_group_scale *out) {
    const struct view v = {rows, cols, cols, 1};
    struct rectangle g;
    *out = group_scale(plan, &v, x, s_enc, n, &g);
}

void fpl_quantizer_group_scales(const struct fpl_quantizer_plan *plan, int64_t rows, int64_t cols,
                                const float *x, struct fpl_group_scale *scales) {
    const int64_t groups = fpl_quantizer_groups(plan, rows, cols);
    const float s_enc = fpl_quantize_tensor_scale(plan, rows, cols, cols, 1, x);
    for (int64_t n = 0; n < groups; n++) fpl_quantizer_group_scale(plan, rows, cols, x, s_enc, n, &scales[n]);
}
