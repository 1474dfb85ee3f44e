/* reference_gemm.c - the three products of a linear layer with quantized operands.
 *
 * All three are out[i, j] = sum_k A[i, k] B[j, k] with k the reduction axis:
 *   forward  A = x[n, I]      B = w[O, I]     k over I
 *   dgrad    A = dy[n, O]     B = w^T[I, O]   k over O
 *   wgrad    A = dy^T[O, n]   B = x^T[I, n]   k over n
 * A transposed operand is the same memory with its strides swapped, which is also how the
 * quantizer sees it.
 */
#include "reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct ref_product ref_product_shape(enum fpl_role role, int64_t n, int64_t O, int64_t I) {
    switch (role) {
    case FPL_FORWARD:
        return (struct ref_product){n, O, I, I, 1, I, 1, n * I, O * I, n * O};
    case FPL_DGRAD:
        return (struct ref_product){n, I, O, O, 1, 1, I, n * O, O * I, n * I};
    default:
        return (struct ref_product){O, I, n, 1, O, 1, I, n * O, n * I, O * I};
    }
}

static void *grab(int64_t n, size_t size) {
    void *p = calloc(n ? (size_t)n : 1, size);
    if (!p) abort();
    return p;
}

/* Q(x) of one replica's operand, as doubles; the identity plan keeps double precision. */
static double *operand(const struct fpl_operand *q, const double *x, int64_t size, int64_t rows,
                       int64_t depth, int64_t row_stride, int64_t col_stride, int64_t *nonfinite) {
    double *out = grab(size, sizeof *out);
    if (!q || (q->plan.identity && q->plan.post.identity)) {
        memcpy(out, x, (size_t)size * sizeof *out);
        if (q) ref_hadamard(q->hadamard, 0, rows, depth, row_stride, col_stride, out);
        return out;
    }
    float *f = grab(size, sizeof *f);
    for (int64_t i = 0; i < size; i++) f[i] = (float)x[i];
    ref_hadamard_float(q->hadamard, rows, depth, row_stride, col_stride, f);
    const int64_t bad =
        fpl_quantize_reference(&q->plan, rows, depth, row_stride, col_stride, f, f, NULL, &q->at);
    if (nonfinite && !q->plan.identity) *nonfinite += bad;
    for (int64_t i = 0; i < size; i++) out[i] = (double)f[i];
    free(f);
    return out;
}

void ref_gemm(enum fpl_role role, int R, int64_t n, int64_t O, int64_t I, const double *a, const double *b,
              double *out, int accumulate, const struct fpl_operand *qa, const struct fpl_operand *qb,
              int64_t *nonfinite) {
    const struct ref_product p = ref_product_shape(role, n, O, I);
    for (int r = 0; r < R; r++) {
        int64_t *count = nonfinite ? nonfinite + r : NULL;
        double *A =
            operand(qa ? qa + r : NULL, a + r * p.a_size, p.a_size, p.rows, p.depth, p.a_row, p.a_col, count);
        double *B =
            operand(qb ? qb + r : NULL, b + r * p.b_size, p.b_size, p.cols, p.depth, p.b_row, p.b_col, count);
        double *to = out + r * p.out_size;
        for (int64_t i = 0; i < p.rows; i++) {
            for (int64_t j = 0; j < p.cols; j++) {
                double sum = accumulate ? to[i * p.cols + j] : 0;
                for (int64_t k = 0; k < p.depth; k++)
                    sum += A[i * p.a_row + k * p.a_col] * B[j * p.b_row + k * p.b_col];
                to[i * p.cols + j] = sum;
            }
        }
        free(A);
        free(B);
    }
}
