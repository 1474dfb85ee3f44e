/* accumulate.cu - products under emulated accumulators (formats/accumulator.h), the same bits as the CPU.
 *
 * One thread sums one element of the result by the steps of accumulator.h, in the order and the chunks that
 * the header states.  A rounding costs a few dozen instructions, so operands are read where they lie: a
 * warp reads one line of B and one element of A per step, both out of the first cache.
 *
 * block:S first makes elements and scales (scales.cu), then sums every piece of the reduction between two
 * cuts and multiplies the partial sum by the two scales.
 */
#include "element.h"
#include "gemm.h"
#include "operations.h"

#include <stdlib.h>

static const int THREADS = 128;

/* One replica's sum; `at` of operand a, for stochastic rounding. */
struct replica_sum {
    struct fpl_accumulator_plan plan;
    uint64_t seed, first_row; /* first_row: the token of the step that the call starts with */
    uint32_t step, stream;
};

struct layer {
    int role;
    int64_t O, I;
};

/* One element of the result: its factors along k, and its place in the layer. */
struct element {
    const float *a, *b;
    int64_t a_step, b_step, i, j;
    const struct replica_sum *sum;
    struct layer layer;
};

/* ---- steps ------------------------------------------------------------------------------------------ */

/* The random bits of the rounding that follows product k. */
__device__ static uint32_t random_of(const struct element *e, int64_t k) {
    const struct fpl_round *f = &e->sum->plan.round;
    if (!fpl_is_stochastic(f->mode)) return 0;
    int64_t t = e->i, o = e->j, i = k; /* forward */
    if (e->layer.role == FPL_DGRAD)
        o = k, i = e->j;
    else if (e->layer.role == FPL_WGRAD)
        t = k, o = e->i, i = e->j;
    const uint64_t index =
        ((e->sum->first_row + (uint64_t)t) * (uint64_t)e->layer.O + (uint64_t)o) * (uint64_t)e->layer.I +
        (uint64_t)i;
    return fpl_random_bits(e->sum->seed, e->sum->step, e->sum->stream, index, f->sr_bits);
}

__device__ static float sum_range(const struct element *e, int64_t first, int64_t last) {
    const struct fpl_accumulator_plan *p = &e->sum->plan;
    const float *a = e->a, *b = e->b;
    float acc = 0.0f;
    if (p->kind == FPL_ACC_EACH) {
        for (int64_t k = first; k < last; k++)
            acc = fpl_accumulate_each(&p->round, acc, a[k * e->a_step], b[k * e->b_step], random_of(e, k));
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
    return fpl_round_double(&p->round, (double)acc, random_of(e, last - 1));
}

/* Products [first, last) with chunks counted from `first`. */
__device__ static float sum_piece(const struct element *e, int64_t first, int64_t last) {
    const int64_t chunk = e->sum->plan.chunk;
    if (chunk == 0) return sum_range(e, first, last);
    float sum = 0.0f;
    for (int64_t k = first; k < last; k += chunk)
        sum = fpl_accumulate_chunk(sum, sum_range(e, k, last - k < chunk ? last : k + chunk));
    return sum;
}

/* ---- kernels ------------------------------------------------------------------------------------------- */

__global__ void sum_emulated(struct fpl_cuda_product p, struct layer layer, const struct replica_sum *sums) {
    const int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, z = blockIdx.y;
    if (at >= p.M * p.N) return;
    const int64_t i = at / p.N, j = at % p.N;
    const struct element e = {p.a + z * p.a_at.outer + i * p.a_at.row,
                              p.b + z * p.b_at.outer + j * p.b_at.col,
                              p.a_at.col,
                              p.b_at.row,
                              i,
                              j,
                              sums + z,
                              layer};
    float *c = p.c + z * p.c_at.outer + at;
    const float sum = sum_piece(&e, 0, p.K);
    *c = fpl_one_nan(p.accumulate ? *c + sum : sum);
}

/* An operand of block:S, the elements in the layout of its source. */
struct blocks {
    struct fpl_cuda_groups groups;
    const struct fpl_group_scale *scales; /* NULL: 1 */
    const float *s_enc;                   /* NULL: 1 */
};

__device__ static inline float scale_at(const struct blocks *b, int64_t z, int64_t row, int64_t k) {
    if (b->scales == NULL) return 1.0f;
    return b->scales[z * b->groups.count + row / b->groups.rows * b->groups.across + k / b->groups.cols]
        .dequant;
}

__device__ static inline int64_t next_cut(int64_t k, int64_t step) { return (k / step + 1) * step; }

__global__ void sum_blocks(struct fpl_cuda_product p, struct layer layer, const struct replica_sum *sums,
                           struct blocks a, struct blocks b) {
    const int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, z = blockIdx.y;
    if (at >= p.M * p.N) return;
    const int64_t i = at / p.N, j = at % p.N;
    const struct element e = {p.a + z * p.a_at.outer + i * p.a_at.row,
                              p.b + z * p.b_at.outer + j * p.b_at.col,
                              p.a_at.col,
                              p.b_at.row,
                              i,
                              j,
                              sums + z,
                              layer};
    float acc = 0.0f;
    for (int64_t k = 0, end; k < p.K; k = end) {
        end = next_cut(k, a.groups.cols);
        if (next_cut(k, b.groups.cols) < end) end = next_cut(k, b.groups.cols);
        if (end > p.K) end = p.K;
        const float both = scale_at(&a, z, i, k) * scale_at(&b, z, j, k);
        acc = fmaf(fpl_one_nan(sum_piece(&e, k, end)), both, acc);
    }
    const float tensors =
        (a.s_enc != NULL ? 1.0f / a.s_enc[z] : 1.0f) * (b.s_enc != NULL ? 1.0f / b.s_enc[z] : 1.0f);
    if (tensors != 1.0f) acc *= tensors;
    float *c = p.c + z * p.c_at.outer + at;
    *c = fpl_one_nan(p.accumulate ? *c + acc : acc);
}

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

static const struct replica_sum *replica_sums(struct fpl_device *dev, const struct fpl_gemm *g) {
    struct replica_sum *s = (struct replica_sum *)calloc((size_t)g->R, sizeof *s);
    if (s == NULL) {
        fpl_fail(&dev->error, FPL_SYSTEM, "cuda: out of host memory");
        return NULL;
    }
    int changes = 0; /* from step to step */
    for (int r = 0; r < g->R; r++) {
        s[r].plan = g->accumulator[r];
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
    return (const struct replica_sum *)device;
}

void fpl_cuda_accumulate(struct fpl_device *dev, const struct fpl_gemm *g, const struct fpl_cuda_product *p) {
    const struct replica_sum *sums = replica_sums(dev, g);
    const struct layer layer = {(int)g->role, g->O, g->I};
    if (sums == NULL) return;
    FPL_LAUNCH(sum_emulated, dim3(fpl_cuda_blocks(p->M * p->N, THREADS), (unsigned)g->R), dim3(THREADS), 0,
               dev->stream, *p, layer, sums);
    fpl_cuda_launched(dev, "sum_emulated");
}

/* The elements of one replica's operand; those without scales, and those rounded once more after scaling, are
 * their values. */
static const float *elements_of(struct fpl_device *dev, const struct fpl_cuda_source *s, int slot,
                                int scale_slot, struct blocks *b) {
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
    const struct fpl_cuda_at at = {s->q->at.step, s->q->at.stream, s->q->at.element};
    FPL_LAUNCH(make_elements, dim3(fpl_cuda_blocks(view.rows * view.cols, 256), 1), dim3(256), 0, dev->stream,
               b->groups, view, operand, at, b->scales, x, out, s->nonfinite);
    fpl_cuda_launched(dev, "make_elements");
    return out;
}

static void blocks_of_one(struct fpl_device *dev, const struct fpl_gemm *g) {
    const struct fpl_cuda_source sa = fpl_cuda_gemm_a(g), sb = fpl_cuda_gemm_b(g);
    const struct layer layer = {(int)g->role, g->O, g->I};
    struct fpl_cuda_product p = fpl_cuda_gemm_product(g);
    struct blocks a, b;
    p.a = elements_of(dev, &sa, FPL_CUDA_SCRATCH_A, FPL_CUDA_SCRATCH_SCALES, &a);
    p.b = elements_of(dev, &sb, FPL_CUDA_SCRATCH_B, FPL_CUDA_SCRATCH_SCALES_B, &b);
    const struct replica_sum *sums = replica_sums(dev, g);
    if (p.a == NULL || p.b == NULL || sums == NULL || fpl_cuda_failed(dev)) return;
    FPL_LAUNCH(sum_blocks, dim3(fpl_cuda_blocks(p.M * p.N, THREADS), 1), dim3(THREADS), 0, dev->stream, p,
               layer, sums, a, b);
    fpl_cuda_launched(dev, "sum_blocks");
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
