/* accumulate.cu - products under emulated accumulators (formats/accumulator.h), the same bits as the CPU.
 *
 * Every replica's plan is given its way (accumulate_step.h); runs of replicas that go one way are summed by
 * one launch (accumulate_tiles.cu).  block:S first makes elements and scales (scales.cu), then sums every
 * piece of the reduction between two cuts and multiplies the partial sum by the two scales, a replica at a
 * time.
 */
#include "accumulate.h"
#include "accumulate_step.h"
#include "element.h"
#include "gemm.h"
#include "operations.h"

#include <stdlib.h>

/* Elements under their groups' scales: rounded, not scaled back. */
__global__ void make_elements(struct fpl_cuda_groups groups, struct fpl_cuda_view v,
                              const struct fpl_cuda_operand *operands, struct fpl_cuda_at at,
                              const struct fpl_group_scale *scales, const float *x, float *out,
                              int64_t *nonfinite) {
    const int64_t r = blockIdx.y, e = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    const struct fpl_quantizer_plan p = fpl_plan_now(operands + r);
    int bad = 0;
    if (e < v.rows * v.cols) {
        const int64_t i = v.col_stride == 1 ? e / v.cols : e % v.rows,
                      j = v.col_stride == 1 ? e % v.cols : e / v.rows;
        const int64_t k = i * v.row_stride + j * v.col_stride;
        const float value = x[r * v.replica + k];
        const struct fpl_group_scale s =
            scales[r * groups.count + i / groups.rows * groups.across + j / groups.cols];
        bad = !fpl_is_finite(value);
        out[r * v.replica + k] =
            fpl_round_scaled(&p, &s, fpl_scaled(&s, value), fpl_element_random(operands + r, &at, k));
    }
    fpl_count_nonfinite(nonfinite, r, bad);
}

/* ---- entries ------------------------------------------------------------------------------------------- */

/* ways: host [R], receives each replica's. */
static const struct fpl_sum *replica_sums(struct fpl_device *dev, const struct fpl_gemm *g,
                                          enum fpl_sum_way *ways) {
    struct fpl_sum *s = (struct fpl_sum *)calloc((size_t)g->R, sizeof *s);
    if (s == NULL) {
        fpl_fail(&dev->error, FPL_SYSTEM, "cuda: out of host memory");
        return NULL;
    }
    int changes = 0; /* from step to step */
    for (int r = 0; r < g->R; r++) {
        s[r].plan = g->accumulator[r];
        s[r].rounds = s[r].plan.kind == FPL_ACC_CHUNK;
        ways[r] = fpl_sum_way_of(&s[r].plan, g->I, &s[r].fast);
        if (!fpl_is_stochastic(s[r].plan.round.mode)) continue;
        changes = 1;
        const struct fpl_random_at *at = &g->qa[r].at;
        s[r].seed = at->seed;
        s[r].step = at->step;
        s[r].stream = fpl_stream(FPL_STREAM_ACCUMULATE, at->stream);
        /* at->element is the index of operand a's first element in a tensor of so many columns. */
        s[r].first_row = at->element / (uint64_t)(g->role == FPL_FORWARD ? g->I : g->O);
    }
    const size_t bytes = (size_t)g->R * sizeof *s;
    const void *device = changes ? fpl_cuda_transient(dev, s, bytes) : fpl_cuda_parameter(dev, s, bytes);
    free(s);
    return (const struct fpl_sum *)device;
}

/* The replicas of `job` by runs that go one way. */
static void sum_by_ways(struct fpl_device *dev, const struct fpl_gemm *g, struct fpl_sum_job job) {
    enum fpl_sum_way *ways = (enum fpl_sum_way *)calloc((size_t)g->R, sizeof *ways);
    if (ways == NULL) {
        fpl_fail(&dev->error, FPL_SYSTEM, "cuda: out of host memory");
        return;
    }
    const struct fpl_sum *sums = replica_sums(dev, g, ways);
    for (int first = 0, end; sums != NULL && first < g->R; first = end) {
        for (end = first + 1; end < g->R && ways[end] == ways[first];) end++;
        struct fpl_sum_job run = job;
        run.sums = sums + first;
        run.p.batch = end - first;
        run.p.a += first * job.p.a_at.outer;
        run.p.b += first * job.p.b_at.outer;
        run.p.c += first * job.p.c_at.outer;
        fpl_cuda_sum(dev, &run, ways[first]);
    }
    free(ways);
}

static struct fpl_sum_job job_of(const struct fpl_gemm *g, const struct fpl_cuda_product *p) {
    struct fpl_sum_job job;
    memset(&job, 0, sizeof job);
    job.p = *p;
    job.layer.role = (int)g->role;
    job.layer.O = g->O;
    job.layer.I = g->I;
    return job;
}

void fpl_cuda_accumulate(struct fpl_device *dev, const struct fpl_gemm *g, const struct fpl_cuda_product *p) {
    sum_by_ways(dev, g, job_of(g, p));
}

/* The elements of one replica's operand; those without scales, and those rounded once more after scaling, are
 * their values. */
static const float *elements_of(struct fpl_device *dev, const struct fpl_cuda_source *s, int slot,
                                int scale_slot, struct fpl_sum_blocks *b) {
    const struct fpl_cuda_view view = fpl_cuda_source_view(s);
    const struct fpl_quantizer_plan *p = &s->q->plan;
    float *out = (float *)fpl_cuda_scratch(dev, slot, (size_t)(s->lines * s->width) * sizeof(float));
    if (out == NULL) return NULL;
    const float *x = fpl_cuda_transformed(dev, 1, s, out);
    memset(b, 0, sizeof *b);
    b->groups.rows = view.rows;
    b->groups.cols = view.cols;
    b->groups.across = b->groups.count = 1;
    if (p->identity && p->post.identity) return x;
    if (p->identity || !p->post.identity) {
        fpl_cuda_quantize_view(dev, 1, &view, s->q, x, out, FPL_CARRIER_FP32, s->nonfinite);
        return out;
    }
    b->groups = fpl_cuda_groups_of(p, &view);
    b->scales = fpl_cuda_group_scales(dev, scale_slot, 1, &view, s->q, x, &b->s_enc);
    if (p->history > 0 && s->q->delay != NULL && s->q->observe) fpl_cuda_observe_values(dev, &view, s->q, x);
    const struct fpl_cuda_operand *operand = fpl_cuda_operands(dev, 1, s->q);
    if (operand == NULL || b->scales == NULL) return NULL;
    const struct fpl_cuda_at at = fpl_cuda_at_of(1, s->q);
    FPL_LAUNCH(make_elements, dim3(fpl_cuda_blocks(view.rows * view.cols, 256), 1), dim3(256), 0, dev,
               b->groups, view, operand, at, b->scales, x, out, s->nonfinite);
    return out;
}

static void blocks_of_one(struct fpl_device *dev, const struct fpl_gemm *g) {
    const struct fpl_cuda_source sa = fpl_cuda_gemm_a(g), sb = fpl_cuda_gemm_b(g);
    const struct fpl_cuda_product p = fpl_cuda_gemm_product(g);
    struct fpl_sum_job job = job_of(g, &p);
    job.block = 1;
    job.p.a = elements_of(dev, &sa, FPL_CUDA_SCRATCH_A, FPL_CUDA_SCRATCH_SCALES, &job.a);
    job.p.b = elements_of(dev, &sb, FPL_CUDA_SCRATCH_B, FPL_CUDA_SCRATCH_SCALES_B, &job.b);
    if (job.p.a == NULL || job.p.b == NULL || fpl_cuda_failed(dev)) return;
    sum_by_ways(dev, g, job);
}

void fpl_cuda_accumulate_blocks(struct fpl_device *dev, const struct fpl_gemm *g) {
    const struct fpl_cuda_product p = fpl_cuda_gemm_product(g);
    for (int r = 0; r < g->R && !fpl_cuda_failed(dev); r++) {
        struct fpl_gemm one = *g;
        one.R = 1;
        one.a += r * p.a_at.outer;
        one.b += r * p.b_at.outer;
        one.out += r * p.c_at.outer;
        one.qa += r;
        one.qb += r;
        one.accumulator += r;
        if (one.nonfinite != NULL) one.nonfinite += r;
        blocks_of_one(dev, &one);
    }
}
