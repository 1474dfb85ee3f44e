/* accumulate.h - vector kernels of emulated accumulators, at this level.
 *
 * A kernel computes the finished product of a band: at most BAND rows with one panel of one to
 * three units of sixteen columns, into out[rows][16 units].  Columns of the last unit beyond
 * job->N hold anything.
 */
#ifndef FPL_VEC_ACCUMULATE_H
#define FPL_VEC_ACCUMULATE_H

#include "../accumulate.h"
#include "native.h"

enum { SUM_BAND = 48, SUM_WIDTH = 48 };

struct sum_band {
    const struct fpl_sum_job *job;
    int64_t first, rows;  /* rows <= SUM_BAND */
    int64_t col, cols;    /* columns of c that exist */
    int units;            /* of the panel */
    const float *b;       /* the panel, K rows of 16 units floats */
    const void *prepared; /* of the kernel, NULL if it needs nothing */
    float *out;
};

/* A tile again, in scalars: rows [first, first + rows) of the band by one unit. */
static inline void sum_again(const struct sum_band *p, int64_t first, int64_t rows, int unit) {
    const int64_t width = 16 * p->units, left = p->cols - 16 * unit;
    fpl_cpu_sum_scalar(p->job, p->first + first, rows, p->col + 16 * unit, left < 16 ? left : 16,
                       p->b + 16 * unit, width, p->out + first * width + 16 * unit, width);
}

typedef void (*sum_band_fn)(const struct sum_band *band);

/* The kernel for every-product rounding, or NULL where only scalars do. */
sum_band_fn FPL_VEC(sum_each_kernel)(const struct fpl_round *f);
/* Stochastic rounding at every product, of the formats that `covers` says (AVX-512). */
void FPL_VEC(sum_random)(const struct sum_band *band);
int FPL_VEC(sum_random_covers)(const struct fpl_round *f);
void FPL_VEC(sum_chunk)(const struct sum_band *band);
void FPL_VEC(sum_align)(const struct sum_band *band);
/* What sum_align needs of a job; 0: no memory (kept in dev). */
int FPL_VEC(sum_align_prepare)(struct fpl_device *dev, const struct fpl_sum_job *job, const void **prepared);

/* C (+)= A B of one job. */
void FPL_VEC(accumulate)(struct fpl_device *dev, const struct fpl_sum_job *job);

/* One replica of a product whose accumulator is block:S, operands and all. */
void FPL_VEC(accumulate_blocks)(struct fpl_device *dev, const struct fpl_gemm *g, int r);

#endif
