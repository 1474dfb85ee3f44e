/* accumulate.c - C[M, N] (+)= A B under an emulated accumulator.
 *
 * Bands of rows times panels of columns; a kernel makes the finished product of one such piece
 * in a buffer, and it is written or added to C.  Each element is one thread's and no sum is
 * split, so bits depend on nothing but the operands.
 *
 * Vector kernels assume finite operands: one pass over A and B decides.  With a NaN or an
 * infinity among them everything is summed in scalars, which is slow and rare: a run that gets
 * there has diverged.
 */
#include "accumulate.h"

#include "accumulate_round.h"
#include "gemm_tile.h"
#include "parallel.h"

static int all_finite(const float *x, int64_t n) {
    nu seen = nsetu(0);
    int64_t i = 0;
    for (; i + NL <= n; i += NL) seen = nmax_i(seen, (nu)nload(x + i) & 0x7fffffffu);
    uint32_t most = nlargest(seen);
    for (; i < n; i++) {
        const uint32_t a = fpl_float_bits(x[i]) & 0x7fffffffu;
        most = a > most ? a : most;
    }
    return most < 0x7f800000u;
}

static void band_scalar(const struct sum_band *p) {
    for (int unit = 0; unit < p->units; unit++) sum_again(p, 0, p->rows, unit);
}

static void merge(const struct sum_band *p) {
    const struct fpl_sum_job *job = p->job;
    const int64_t width = 16 * p->units;
    for (int64_t i = 0; i < p->rows; i++) {
        float *c = job->c + (p->first + i) * job->N + p->col;
        const float *out = p->out + i * width;
        for (int64_t j = 0; j < p->cols; j += NL) {
            nf x = nload(out + j);
            if (job->accumulate) x = nload_n(c + j, p->cols - j) + x;
            x = nselect_f(ndifferent(x, x), (nf)nsetu(0x7fc00000u), x);
            nstore_n(c + j, x, p->cols - j);
        }
    }
}

struct whole {
    const struct fpl_sum_job *job;
    sum_band_fn run;
    const void *prepared;
};

static void run_band(const void *context, int64_t tile, int thread) {
    (void)thread;
    const struct whole *w = context;
    const struct fpl_sum_job *job = w->job;
    float out[SUM_BAND * SUM_WIDTH] __attribute__((aligned(64)));
    struct sum_band p = {.job = job, .first = tile * SUM_BAND, .prepared = w->prepared, .out = out};
    p.rows = smaller(SUM_BAND, job->M - p.first);
    for (; p.col < job->N; p.col += 16 * p.units) {
        p.units = panel_units(job->N - p.col);
        p.cols = smaller(16 * p.units, job->N - p.col);
        p.b = job->b + p.col * job->K;
        w->run(&p);
        merge(&p);
    }
}

static sum_band_fn choose(struct fpl_device *dev, const struct fpl_sum_job *job, const void **prepared) {
    const struct fpl_accumulator_plan *plan = job->plan;
    const int64_t padded = (job->N + 15) / 16 * 16;
    const int random = fpl_is_stochastic(plan->round.mode);
    if ((random && plan->kind != FPL_ACC_EACH) || !all_finite(job->a, job->M * job->K) ||
        !all_finite(job->b, padded * job->K))
        return band_scalar;
    if (plan->kind == FPL_ACC_ALIGN)
        return FPL_VEC(sum_align_prepare)(dev, job, prepared) ? FPL_VEC(sum_align) : NULL;
    if (plan->kind != FPL_ACC_EACH) return FPL_VEC(sum_chunk);
    if (plan->chunk > 0 && sum_is_float32(&plan->round)) return FPL_VEC(sum_chunk);
    const sum_band_fn each = FPL_VEC(sum_each_kernel)(&plan->round);
    return each != NULL ? each : band_scalar;
}

void FPL_VEC(accumulate)(struct fpl_device *dev, const struct fpl_sum_job *job) {
    struct whole w = {.job = job};
    if (job->M == 0 || job->N == 0) return;
    w.run = choose(dev, job, &w.prepared);
    if (w.run == NULL) return;
    for_tiles(dev, tiles_of(job->M, SUM_BAND), run_band, &w);
}
