/* accumulate_sum.h - sums under emulated accumulators (formats/accumulator.h): what kernels know of one, and
 * one element of the result by the definition itself.
 *
 * accumulate.cu        operands, the way each replica's sum is made, launches
 * accumulate_step.h    ways: one product, or one group of products, in few instructions
 * accumulate_tile.h    the kernel: tiles in shared memory, several outputs a thread
 *
 * A way restates the definition for the plans that it takes (fpl_sum_way_of) and for finite operands.  Where
 * a tile meets something else (a non-finite operand, a result beyond what the way handles) all of its
 * elements are summed again by fpl_sum_element, which takes everything, from global memory.
 */
#ifndef FPL_CUDA_ACCUMULATE_SUM_H
#define FPL_CUDA_ACCUMULATE_SUM_H

#include "operand.h"
#include "product.h"

#include "../../formats/accumulator.h"
#include "../../formats/random.h"

enum fpl_sum_way {
    FPL_SUM_CHAIN,         /* float32 fused multiply-adds; chunks may be rounded at their end */
    FPL_SUM_TRUNCATED,     /* rtz of formats with float32's exponents */
    FPL_SUM_BITS,          /* rne of these */
    FPL_SUM_CLAMPED,       /* rne, sat */
    FPL_SUM_WATCHED,       /* rne, other overflows */
    FPL_SUM_DOWN,          /* rtz, rna */
    FPL_SUM_RANDOM_BITS,   /* sr of formats with float32's exponents */
    FPL_SUM_RANDOM_DOUBLE, /* sr of others */
    FPL_SUM_ALIGN_FLOAT,   /* align, where a group's sum fits float32 */
    FPL_SUM_ALIGN_DOUBLE,
    FPL_SUM_EACH,  /* any rounding at every product, one output a thread */
    FPL_SUM_ALONE, /* everything: elements from global memory */
    FPL_SUM_WAYS
};

/* Constants of a way; which are used, and for what, says accumulate_step.h. */
struct fpl_sum_fast {
    float largest;
    uint32_t low, shift, add, keep, most;
    int32_t drop, clamp, scale;
};

/* One replica's sum; seed .. stream of operand a, for stochastic rounding. */
struct fpl_sum {
    struct fpl_accumulator_plan plan;
    struct fpl_sum_fast fast;
    uint64_t seed, first_row; /* first_row: the token of the step that the call starts with */
    uint32_t step, stream;
    int32_t rounds; /* chunks are rounded at their end */
};

struct fpl_sum_layer {
    int role;
    int64_t O, I;
};

/* An operand of block:S: elements in the layout of its source, scales by groups. */
struct fpl_sum_blocks {
    struct fpl_cuda_groups groups;
    const struct fpl_group_scale *scales; /* NULL: 1 */
    const float *s_enc;                   /* NULL: 1 */
};

struct fpl_sum_job {
    struct fpl_cuda_product p;
    struct fpl_sum_layer layer;
    const struct fpl_sum *sums; /* device, of each matrix of p */
    int block;                  /* block:S, one replica: a and b hold */
    struct fpl_sum_blocks a, b;
};

/* One element of the result: its factors along k, and its place in the layer. */
struct fpl_sum_at {
    const float *a, *b;
    int64_t a_step, b_step, i, j;
    const struct fpl_sum *sum;
    struct fpl_sum_layer layer;
};

/* ---- the definition on one element -------------------------------------------------------------------- */

/* The number of product k of element (i, j) in the layer. */
__device__ static inline uint64_t fpl_sum_index(const struct fpl_sum *s, const struct fpl_sum_layer *layer,
                                                int64_t row, int64_t col, int64_t k) {
    int64_t t = row, o = col, i = k; /* forward */
    if (layer->role == FPL_DGRAD)
        o = k, i = col;
    else if (layer->role == FPL_WGRAD)
        t = k, o = row, i = col;
    return ((s->first_row + (uint64_t)t) * (uint64_t)layer->O + (uint64_t)o) * (uint64_t)layer->I +
           (uint64_t)i;
}

/* The random bits of the rounding that follows product k. */
__device__ static inline uint32_t fpl_sum_random(const struct fpl_sum *s, const struct fpl_sum_layer *layer,
                                                 int64_t row, int64_t col, int64_t k) {
    const struct fpl_round *f = &s->plan.round;
    if (!fpl_is_stochastic(f->mode)) return 0;
    return fpl_random_bits(s->seed, s->step, s->stream, fpl_sum_index(s, layer, row, col, k), f->sr_bits);
}

__device__ static inline float fpl_sum_range(const struct fpl_sum_at *e, int64_t first, int64_t last) {
    const struct fpl_accumulator_plan *p = &e->sum->plan;
    const float *a = e->a, *b = e->b;
    float acc = 0.0f;
    if (p->kind == FPL_ACC_EACH) {
        for (int64_t k = first; k < last; k++)
            acc = fpl_accumulate_each(&p->round, acc, a[k * e->a_step], b[k * e->b_step],
                                      fpl_sum_random(e->sum, &e->layer, e->i, e->j, k));
        return acc;
    }
    if (p->kind == FPL_ACC_ALIGN) {
        for (int64_t k = first; k < last; k += p->terms) {
            const int count = (int)(last - k < p->terms ? last - k : p->terms);
            acc = fpl_accumulate_align(p->fraction, acc, count, a + k * e->a_step, e->a_step,
                                       b + k * e->b_step, e->b_step);
        }
        return acc;
    }
    for (int64_t k = first; k < last; k++) acc = fmaf(a[k * e->a_step], b[k * e->b_step], acc);
    if (p->kind == FPL_ACC_FP32) return fpl_one_nan(acc);
    return fpl_round_double(&p->round, (double)acc, fpl_sum_random(e->sum, &e->layer, e->i, e->j, last - 1));
}

/* Products [first, last) with chunks counted from `first`. */
__device__ static inline float fpl_sum_piece(const struct fpl_sum_at *e, int64_t first, int64_t last) {
    const int64_t chunk = e->sum->plan.chunk;
    if (chunk == 0) return fpl_sum_range(e, first, last);
    float sum = 0.0f;
    for (int64_t k = first; k < last; k += chunk)
        sum = fpl_accumulate_chunk(sum, fpl_sum_range(e, k, last - k < chunk ? last : k + chunk));
    return sum;
}

/* ---- pieces of block:S --------------------------------------------------------------------------------- */

__device__ static inline float fpl_sum_scale(const struct fpl_sum_blocks *b, int64_t z, int64_t row,
                                             int64_t k) {
    if (b->scales == NULL) return 1.0f;
    return b->scales[z * b->groups.count + row / b->groups.rows * b->groups.across + k / b->groups.cols]
        .dequant;
}

__device__ static inline int64_t fpl_sum_smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Where the piece that starts at k ends. */
__device__ static inline int64_t fpl_sum_cut(const struct fpl_sum_job *job, int64_t k) {
    const int64_t K = job->p.K;
    if (!job->block) return K;
    const int64_t a = (k / job->a.groups.cols + 1) * job->a.groups.cols,
                  b = (k / job->b.groups.cols + 1) * job->b.groups.cols;
    return fpl_sum_smaller(K, fpl_sum_smaller(a, b));
}

/* acc and the piece from k on, whose sum is `partial`. */
__device__ static inline float fpl_sum_add_piece(const struct fpl_sum_job *job, int64_t z, int64_t i,
                                                 int64_t j, int64_t k, float partial, float acc) {
    const float both = fpl_sum_scale(&job->a, z, i, k) * fpl_sum_scale(&job->b, z, j, k);
    return fmaf(fpl_one_nan(partial), both, acc);
}

/* The factors of the tensors, which enter at the end. */
__device__ static inline float fpl_sum_finish(const struct fpl_sum_job *job, int64_t z, float acc) {
    const float tensors = (job->a.s_enc != NULL ? 1.0f / job->a.s_enc[z] : 1.0f) *
                          (job->b.s_enc != NULL ? 1.0f / job->b.s_enc[z] : 1.0f);
    return tensors != 1.0f ? acc * tensors : acc;
}

/* The finished product of element (i, j) of matrix z. */
__device__ static inline float fpl_sum_element(const struct fpl_sum_job *job, int64_t z, int64_t i,
                                               int64_t j) {
    const struct fpl_cuda_product *p = &job->p;
    const struct fpl_sum_at e = {p->a + z * p->a_at.outer + i * p->a_at.row,
                                 p->b + z * p->b_at.outer + j * p->b_at.col,
                                 p->a_at.col,
                                 p->b_at.row,
                                 i,
                                 j,
                                 job->sums + z,
                                 job->layer};
    if (!job->block) return fpl_sum_piece(&e, 0, p->K);
    float acc = 0.0f;
    for (int64_t k = 0, end; k < p->K; k = end) {
        end = fpl_sum_cut(job, k);
        acc = fpl_sum_add_piece(job, z, i, j, k, fpl_sum_piece(&e, k, end), acc);
    }
    return fpl_sum_finish(job, z, acc);
}

/* To where it belongs. */
__device__ static inline void fpl_sum_store(const struct fpl_cuda_product *p, int64_t z, int64_t i, int64_t j,
                                            float sum) {
    float *c = p->c + z * p->c_at.outer + i * p->N + j;
    *c = fpl_one_nan(p->accumulate ? *c + sum : sum);
}

#endif
