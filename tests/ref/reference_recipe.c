/* reference_recipe.c - Hadamard transform and clip mask as plain loops (see reference.h).
 *
 * The transform in double is the dense matrix of formats/hadamard.h's formula, (1/sqrt n) H D with
 * H[i][j] = (-1)^popcount(i & j): no butterflies.  Operands that are quantized after it are
 * transformed in float32 by fpl_hadamard, because a quantizer's decisions turn on every bit;
 * fpl_hadamard itself is held to the dense form in tests/formats/test_hadamard.c.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/hadamard.h"
#include "reference.h"

static int is_odd(unsigned bits) {
    int odd = 0;
    for (; bits; bits >>= 1) odd ^= (int)(bits & 1u);
    return odd;
}

/* (1/sqrt n) H D, or its transpose, times the group whose elements lie `stride` apart. */
static void dense(int n, int transposed, int64_t stride, double *x) {
    double y[FPL_HADAMARD_MOST];
    for (int i = 0; i < n; i++) {
        double sum = 0;
        for (int j = 0; j < n; j++) {
            const int flipped = (int)(FPL_HADAMARD_SIGNS >> (transposed ? i : j) & 1u);
            sum += is_odd((unsigned)(i & j)) ^ flipped ? -x[j * stride] : x[j * stride];
        }
        y[i] = sum / sqrt((double)n);
    }
    for (int i = 0; i < n; i++) x[i * stride] = y[i];
}

void ref_hadamard(int n, int transposed, int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride,
                  double *x) {
    for (int64_t i = 0; n && i < rows; i++)
        for (int64_t j = 0; j + n <= cols; j += n)
            dense(n, transposed, col_stride, x + i * row_stride + j * col_stride);
}

void ref_hadamard_float(int n, int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride, float *x) {
    for (int64_t i = 0; n && i < rows; i++) {
        for (int64_t j = 0; j + n <= cols; j += n) {
            float group[FPL_HADAMARD_MOST], *at = x + i * row_stride + j * col_stride;
            for (int k = 0; k < n; k++) group[k] = at[k * col_stride];
            fpl_hadamard(n, group);
            for (int k = 0; k < n; k++) at[k * col_stride] = group[k];
        }
    }
}

static void clip_one(int64_t rows, int64_t cols, const struct fpl_operand *q, const double *x, double *g) {
    const int64_t size = rows * cols;
    float *f = calloc(size ? (size_t)size : 1, sizeof *f);
    uint8_t *clips = calloc(size ? (size_t)size : 1, 1);
    if (!f || !clips) abort();
    struct fpl_quantizer_plan plan = q->plan;
    if (plan.history > 0 && q->delay) plan.delayed_amax = q->delay[1];
    for (int64_t i = 0; i < size; i++) f[i] = (float)x[i];
    ref_hadamard_float(q->hadamard, rows, cols, cols, 1, f);
    fpl_clips_reference(&plan, rows, cols, cols, 1, f, clips, &q->at);
    ref_hadamard(q->hadamard, 0, rows, cols, cols, 1, g);
    for (int64_t i = 0; i < size; i++)
        if (clips[i]) g[i] = 0;
    ref_hadamard(q->hadamard, 1, rows, cols, cols, 1, g);
    free(f);
    free(clips);
}

void ref_clip_mask(int R, int64_t rows, int64_t cols, const struct fpl_operand *q, const double *x,
                   double *gradient) {
    for (int r = 0; r < R; r++)
        if (!q[r].plan.identity) clip_one(rows, cols, &q[r], x + r * rows * cols, gradient + r * rows * cols);
}
