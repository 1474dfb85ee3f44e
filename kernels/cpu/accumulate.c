/* accumulate.c - sums under an emulated accumulator, one product at a time.
 *
 * The order and the chunks of accumulator.h over its scalar steps: what every vector kernel is
 * compared with, and what computes the rest: stochastic rounding, roundings and formats that no
 * vector kernel covers, tiles that met a non-finite value.
 */
#include "accumulate.h"

#include <math.h>

#include "../../formats/random.h"

/* One element of the result: its factors along k, and its place in the layer. */
struct element {
    const struct fpl_sum_job *job;
    const float *a, *b;
    int64_t b_row, i, j;
};

/* The random bits of the rounding that follows product k. */
static uint32_t random_of(const struct element *e, int64_t k) {
    const struct fpl_sum_job *job = e->job;
    const struct fpl_round *f = &job->plan->round;
    if (!fpl_is_stochastic(f->mode)) return 0;
    k += job->first_k;
    int64_t t = e->i, o = e->j, i = k; /* forward */
    if (job->role == FPL_DGRAD)
        o = k, i = e->j;
    else if (job->role == FPL_WGRAD)
        t = k, o = e->i, i = e->j;
    /* at->element is the index of operand a's first element in a tensor of so many columns. */
    const uint64_t first = job->at->element / (uint64_t)(job->role == FPL_FORWARD ? job->I : job->O);
    const uint64_t index =
        ((first + (uint64_t)t) * (uint64_t)job->O + (uint64_t)o) * (uint64_t)job->I + (uint64_t)i;
    return fpl_random_bits(job->at->seed, job->at->step, fpl_stream(FPL_STREAM_ACCUMULATE, job->at->stream),
                           index, f->sr_bits);
}

static float sum_each(const struct element *e, int64_t first, int64_t last) {
    const struct fpl_sum_job *job = e->job;
    float acc = 0.0f;
    for (int64_t k = first; k < last; k++)
        acc = fpl_accumulate_each(&job->plan->round, acc, e->a[k * job->a_col], e->b[k * e->b_row],
                                  random_of(e, k));
    return acc;
}

static float sum_chain(const struct element *e, int64_t first, int64_t last) {
    const struct fpl_sum_job *job = e->job;
    float acc = 0.0f;
    for (int64_t k = first; k < last; k++) acc = fmaf(e->a[k * job->a_col], e->b[k * e->b_row], acc);
    if (job->plan->kind == FPL_ACC_FP32) return fpl_one_nan(acc);
    return fpl_round_double(&job->plan->round, (double)acc, random_of(e, last - 1));
}

static float sum_align(const struct element *e, int64_t first, int64_t last) {
    const struct fpl_sum_job *job = e->job;
    const int64_t n = job->plan->terms;
    float acc = 0.0f;
    for (int64_t k = first; k < last; k += n)
        acc = fpl_accumulate_align(job->plan->fraction, acc, (int)(last - k < n ? last - k : n),
                                   e->a + k * job->a_col, job->a_col, e->b + k * e->b_row, e->b_row);
    return acc;
}

static float sum_range(const struct element *e, int64_t first, int64_t last) {
    switch (e->job->plan->kind) {
    case FPL_ACC_EACH:
        return sum_each(e, first, last);
    case FPL_ACC_ALIGN:
        return sum_align(e, first, last);
    default:
        return sum_chain(e, first, last);
    }
}

static float sum_element(const struct element *e) {
    const int64_t K = e->job->K, chunk = e->job->plan->chunk;
    if (chunk == 0) return sum_range(e, 0, K);
    float sum = 0.0f;
    for (int64_t k = 0; k < K; k += chunk)
        sum = fpl_accumulate_chunk(sum, sum_range(e, k, K - k < chunk ? K : k + chunk));
    return sum;
}

void fpl_cpu_sum_scalar(const struct fpl_sum_job *job, int64_t row, int64_t rows, int64_t col, int64_t cols,
                        const float *b, int64_t b_row, float *out, int64_t out_row) {
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < cols; j++) {
            const struct element e = {job, job->a + (row + i) * job->a_row, b + j, b_row, row + i, col + j};
            out[i * out_row + j] = sum_element(&e);
        }
    }
}
