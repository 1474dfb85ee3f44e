/* accumulate.h - products under an emulated accumulator: the job, and its scalar form.
 *
 * gemm.c quantizes and packs; what is left is C[M, N] (+)= A B with a sum that is not a float32
 * chain.  The scalar form is fpl_accumulate_* of formats/accumulator.h product by product and
 * covers everything; vector kernels (vec/accumulate_*.c) cover the common cases and hand single
 * tiles back to it where a value leaves what they handle.
 */
#ifndef FPL_CPU_ACCUMULATE_H
#define FPL_CPU_ACCUMULATE_H

#include "cpu.h"

/* B is packed into panels of one to three units of sixteen columns (vec/gemm.c). */
struct fpl_sum_job {
    const struct fpl_accumulator_plan *plan;
    int64_t M, N, K;
    int64_t first_k; /* of the layer's reduction: where a piece of it starts (block:S) */
    const float *a;
    int64_t a_row, a_col; /* A(i, k) at a[i * a_row + k * a_col] */
    const float *b;
    float *c; /* [M, N] */
    int accumulate;
    /* stochastic rounding: `at` of operand a, the shape of the layer */
    const struct fpl_random_at *at;
    enum fpl_role role;
    int64_t O, I;
};

/* The finished product of rows [row, row + rows) with columns [col, col + cols), whose first
 * stands at b[k * b_row]; out[i * out_row + j].  Does not read job->b, job->c. */
void fpl_cpu_sum_scalar(const struct fpl_sum_job *job, int64_t row, int64_t rows, int64_t col, int64_t cols,
                        const float *b, int64_t b_row, float *out, int64_t out_row);

#endif
