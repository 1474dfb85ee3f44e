/* reference.c - what a quantizer means: every group, every element, in order, in float32.
 *
 * Groups are rectangles of the operand: all of it, a row, a column, or a block of
 * block_rows x block_cols that is cut off at the edges.  For each: amax over its finite
 * elements, a scale (scale.h), then element by element.  Two-level scaling takes the whole
 * operand's amax first.  Speed is not a concern here: backends are compared with this.
 */
#include "scale.h"

#include "random.h"

struct view {
    int64_t rows, cols, row_stride, col_stride;
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* amax of rows [i0, i1) and columns [j0, j1). */
static float group_amax(const struct view *v, const float *x, int64_t i0, int64_t i1, int64_t j0,
                        int64_t j1) {
    float amax = 0.0f;
    for (int64_t i = i0; i < i1; i++) {
        for (int64_t j = j0; j < j1; j++) {
            const float a = fpl_finite_magnitude(x[i * v->row_stride + j * v->col_stride]);
            if (a > amax) amax = a;
        }
    }
    return amax;
}

static int64_t quantize_group(const struct fpl_quantizer_plan *plan, const struct fpl_group_scale *g,
                              const struct view *v, const float *x, float *out, int64_t i0, int64_t i1,
                              int64_t j0, int64_t j1, const struct fpl_random_at *at) {
    const int stochastic = !plan->identity && plan->round.mode == FPL_SR;
    int64_t nonfinite = 0;
    for (int64_t i = i0; i < i1; i++) {
        for (int64_t j = j0; j < j1; j++) {
            const int64_t k = i * v->row_stride + j * v->col_stride;
            float y = x[k];
            uint32_t random = 0;
            nonfinite += (fpl_float_bits(y) & 0x7f800000u) == 0x7f800000u;
            if (stochastic)
                random = fpl_random_bits(at->seed, at->step, at->stream, at->element + (uint64_t)k,
                                         plan->round.sr_bits);
            if (!plan->identity) y = fpl_quantize_element(plan, g, y, random);
            out[k] = fpl_round_value(&plan->post, y, 0);
        }
    }
    return nonfinite;
}

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

int64_t fpl_quantize_reference(const struct fpl_quantizer_plan *plan, int64_t rows, int64_t cols,
                               int64_t row_stride, int64_t col_stride, const float *x, float *out,
                               float *scales, const struct fpl_random_at *at) {
    static const struct fpl_random_at origin = {0, 0, 0, 0};
    const struct view v = {rows, cols, row_stride, col_stride};
    if (rows <= 0 || cols <= 0) return 0;
    if (at == NULL) at = &origin;
    const float s_enc = plan->two_level ? fpl_tensor_scale(plan, group_amax(&v, x, 0, rows, 0, cols)) : 1.0f;
    const int scaled = !plan->identity && plan->granularity != FPL_UNSCALED;
    int64_t group_rows, group_cols, nonfinite = 0;
    fpl_quantizer_group_shape(plan, rows, cols, &group_rows, &group_cols);
    for (int64_t i = 0; i < rows; i += group_rows) {
        for (int64_t j = 0; j < cols; j += group_cols) {
            const int64_t i1 = i + least(group_rows, rows - i), j1 = j + least(group_cols, cols - j);
            const float amax = scaled ? group_amax(&v, x, i, i1, j, j1) : 0.0f;
            const struct fpl_group_scale g = fpl_group_scale(plan, amax, s_enc);
            if (scales != NULL) *scales++ = g.dequant;
            nonfinite += quantize_group(plan, &g, &v, x, out, i, i1, j, j1, at);
        }
    }
    return nonfinite;
}
