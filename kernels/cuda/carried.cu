/* carried.cu - products of operands that travel in carriers: factors that stayed behind, and replicas whose
 * values do not fit (carried.h). */
#include "carried.h"

#include "cublaslt.h"
#include "element.h"

static const int THREADS = 128;

/* ---- factors ------------------------------------------------------------------------------------------ */

__global__ void tensor_factors(int R, const struct fpl_cuda_operand *operands, const unsigned *tensor,
                               float *factor) {
    const int r = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (r >= R) return;
    const struct fpl_cuda_operand *q = operands + r;
    const struct fpl_quantizer_plan p = fpl_plan_now(q);
    const float amax = __uint_as_float(tensor[r]);
    const struct fpl_group_scale g = fpl_group_scale(&p, amax, 1.0f);
    factor[r] = q->carriage.tensor ? 1.0f / fpl_tensor_scale(&p, amax) : g.dequant;
}

void fpl_cuda_tensor_factors(struct fpl_device *dev, int R, const struct fpl_cuda_operand *operands,
                             const unsigned *tensor, float *factor) {
    if (fpl_cuda_failed(dev)) return;
    FPL_LAUNCH(tensor_factors, dim3(fpl_cuda_blocks(R, THREADS)), dim3(THREADS), 0, dev, R, operands, tensor,
               factor);
}

__global__ void row_factors(int64_t count, const struct fpl_group_scale *scales, float *factor) {
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) factor[i] = scales[i].dequant;
}

void fpl_cuda_row_factors(struct fpl_device *dev, int R, const struct fpl_cuda_view *view,
                          const struct fpl_operand *q, const float *x, float *factor) {
    const struct fpl_group_scale *scales =
        fpl_cuda_group_scales(dev, FPL_CUDA_SCRATCH_SCALES, R, view, q, x, NULL);
    if (scales == NULL || fpl_cuda_failed(dev)) return;
    FPL_LAUNCH(row_factors, dim3(fpl_cuda_blocks(R * view->rows, THREADS)), dim3(THREADS), 0, dev,
               R * view->rows, scales, factor);
}

/* ---- the finished sums ----------------------------------------------------------------------------------
 */

struct factors {
    const float *value;   /* NULL: 1 */
    int64_t replica, row; /* strides */
};

struct finish {
    int64_t M, N;
    struct factors a, b;
    const int32_t *misfit_a, *misfit_b; /* of flagged replicas the sums are whole */
    int accumulate;
    const float *sums;
    float *out;
};

__device__ static inline int flagged(const int32_t *a, const int32_t *b, int64_t r) {
    return (a != NULL && a[r] != 0) || (b != NULL && b[r] != 0);
}

/* out may be sums. */
__global__ void finish_products(struct finish f) {
    const int64_t r = blockIdx.y, size = f.M * f.N;
    const int whole = flagged(f.misfit_a, f.misfit_b, r);
    for (int64_t e = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; e < size;
         e += (int64_t)gridDim.x * blockDim.x) {
        const float a = f.a.value != NULL ? f.a.value[r * f.a.replica + e / f.N * f.a.row] : 1.0f;
        const float b = f.b.value != NULL ? f.b.value[r * f.b.replica + e % f.N * f.b.row] : 1.0f;
        const float sum = whole ? f.sums[r * size + e] : f.sums[r * size + e] * (a * b);
        f.out[r * size + e] = f.accumulate ? f.out[r * size + e] + sum : sum;
    }
}

/* ---- replicas that do not fit -----------------------------------------------------------------------------
 */

/* Q(x) of flagged replicas in float32, a block of threads per group; out may be x. */
__global__ void quantize_flagged(struct fpl_cuda_groups groups, struct fpl_cuda_view v,
                                 const struct fpl_cuda_operand *operands, struct fpl_cuda_at at,
                                 const int32_t *misfit_a, const int32_t *misfit_b, const float *x,
                                 float *out) {
    FPL_SHARED(uint32_t, most, 1);
    const int64_t r = blockIdx.y;
    if (!flagged(misfit_a, misfit_b, r)) return;
    const struct fpl_cuda_operand *q = operands + r;
    for (int64_t g = blockIdx.x; g < groups.count; g += gridDim.x) {
        const int64_t i0 = g / groups.across * groups.rows, j0 = g % groups.across * groups.cols;
        const int64_t height = i0 + groups.rows < v.rows ? groups.rows : v.rows - i0;
        const int64_t width = j0 + groups.cols < v.cols ? groups.cols : v.cols - j0;
        if (threadIdx.x == 0) most[0] = 0;
        __syncthreads();
        uint32_t amax = 0;
        for (int64_t e = threadIdx.x; e < height * width; e += blockDim.x) {
            const int64_t at_x = (i0 + e / width) * v.row_stride + (j0 + e % width) * v.col_stride;
            const uint32_t bits = fpl_float_bits(fpl_finite_magnitude(x[r * v.replica + at_x]));
            amax = bits > amax ? bits : amax;
        }
        atomicMax(&most[0], amax);
        __syncthreads();
        const struct fpl_group_scale s = fpl_group_scale(&q->plan, fpl_bits_float(most[0]), 1.0f);
        for (int64_t e = threadIdx.x; e < height * width; e += blockDim.x) {
            const int64_t k = (i0 + e / width) * v.row_stride + (j0 + e % width) * v.col_stride;
            const float value = x[r * v.replica + k];
            out[r * v.replica + k] = q->plan.identity ? fpl_round_value(&q->plan.post, value, 0)
                                                      : fpl_element_quantized(&q->plan, &s, 0, value,
                                                                              fpl_element_random(q, &at, k));
        }
        __syncthreads();
    }
}

/* Where no scale is shared, lines are groups: there is nothing to find out about them. */
static struct fpl_cuda_groups groups_of(const struct fpl_quantizer_plan *p, const struct fpl_cuda_view *v) {
    const struct fpl_cuda_groups lines = {1, v->cols, 1, v->rows};
    return p->identity || p->granularity == FPL_UNSCALED ? lines : fpl_cuda_groups_of(p, v);
}

/* An operand of all replicas; those that are not flagged keep whatever scratch holds.  x after its transform.
 */
static const float *in_float(struct fpl_device *dev, const struct fpl_gemm *g,
                             const struct fpl_cuda_source *s, int slot, const int32_t *misfit_a,
                             const int32_t *misfit_b) {
    const struct fpl_cuda_view view = fpl_cuda_source_view(s);
    const size_t bytes = (size_t)g->R * (size_t)(s->lines * s->width) * sizeof(float);
    float *out = (float *)fpl_cuda_scratch(dev, slot, bytes);
    if (out == NULL) return NULL;
    const float *x = fpl_cuda_transformed(dev, g->R, s, out);
    for (int first = 0, end; first < g->R; first = end) {
        const struct fpl_quantizer_plan *p = &s->q[first].plan;
        const struct fpl_cuda_groups groups = groups_of(p, &view);
        for (end = first + 1; end < g->R; end++) {
            const struct fpl_cuda_groups other = groups_of(&s->q[end].plan, &view);
            if (memcmp(&groups, &other, sizeof groups) != 0) break;
        }
        const struct fpl_cuda_operand *operands = fpl_cuda_operands(dev, end - first, s->q + first);
        const struct fpl_cuda_at at = fpl_cuda_at_of(end - first, s->q + first);
        if (operands == NULL) return NULL;
        FPL_LAUNCH(
            quantize_flagged, dim3((unsigned)fpl_cuda_smaller(groups.count, 1024), (unsigned)(end - first)),
            dim3(THREADS), 0, dev, groups, view, operands, at, misfit_a != NULL ? misfit_a + first : NULL,
            misfit_b != NULL ? misfit_b + first : NULL, x + first * view.replica, out + first * view.replica);
    }
    return out;
}

static void repeat_flagged(struct fpl_device *dev, const struct fpl_gemm *g, const struct fpl_cuda_product *p,
                           const int32_t *misfit_a, const int32_t *misfit_b) {
    const struct fpl_cuda_source a = fpl_cuda_gemm_a(g), b = fpl_cuda_gemm_b(g);
    struct fpl_cuda_product whole = *p;
    whole.a = in_float(dev, g, &a, FPL_CUDA_SCRATCH_TURNED_A, misfit_a, misfit_b);
    whole.b = in_float(dev, g, &b, FPL_CUDA_SCRATCH_TURNED_B, misfit_a, misfit_b);
    whole.carrier = FPL_CARRIER_FP32;
    whole.only[0] = misfit_a;
    whole.only[1] = misfit_b;
    if (!fpl_cuda_failed(dev)) fpl_cuda_multiply(dev, &whole);
}

/* ---- the product
 * -------------------------------------------------------------------------------------------- */

static struct factors factors_of(const struct fpl_cuda_carried_operand *o, int64_t rows) {
    const struct factors f = {o->factor, o->per_row ? rows : 1, o->per_row};
    return f;
}

static void finish(struct fpl_device *dev, const struct fpl_gemm *g, const struct fpl_cuda_product *p,
                   const struct fpl_cuda_carried_operand *a, const struct fpl_cuda_carried_operand *b) {
    const struct finish f = {p->M,      p->N,      factors_of(a, p->M), factors_of(b, p->N),
                             a->misfit, b->misfit, g->accumulate,       p->c,
                             g->out};
    if (fpl_cuda_failed(dev)) return;
    FPL_LAUNCH(finish_products,
               dim3((unsigned)fpl_cuda_smaller((p->M * p->N + 255) / 256, 4096), (unsigned)g->R), dim3(256),
               0, dev, f);
}

void fpl_cuda_multiply_carried(struct fpl_device *dev, const struct fpl_gemm *g, struct fpl_cuda_product *p,
                               const struct fpl_cuda_carried_operand *a,
                               const struct fpl_cuda_carried_operand *b) {
    const int factored = a->factor != NULL || b->factor != NULL;
    const int checked = a->misfit != NULL || b->misfit != NULL;
    /* Sums that are still to be changed may not meet the old values yet. */
    const int apart = g->accumulate && (factored || checked);
    p->a = (const float *)a->values;
    p->b = (const float *)b->values;
    p->accumulate = g->accumulate && !apart;
    if (apart) {
        p->c = (float *)fpl_cuda_scratch(dev, FPL_CUDA_SCRATCH_OUT,
                                         (size_t)g->R * (size_t)(p->M * p->N) * sizeof(float));
        if (p->c == NULL) return;
    }
    fpl_cuda_lt_multiply(dev, p);
    if (checked) repeat_flagged(dev, g, p, a->misfit, b->misfit);
    if (factored || apart) finish(dev, g, p, a, b);
}
