/* scales.cu - the scale of every group, one by one, and the quantizers that need it so.
 *
 * Most quantizing kernels make a group's scale and use it at once (quantize.cu).  Here scales are written
 * down: for clip masks and for block accumulators, which need them apart from the elements, and for zero
 * points and searched scales (+z, +mse, +46), which look at more of a group than its amax.
 *
 * The definition is formats/reference.c.  A search tries its factors in parallel, one per thread, each
 * adding the squared errors of its trial in the definition's order; then the first of the least wins.  The
 * definition passes over a trial whose scale equals the last one's and gives one up that has got
 * worse: neither changes which is the first of the least.
 */
#include "element.h"
#include "operations.h"
#include "reduce.h"

enum { THREADS = 64, TRIALS = 45 }; /* TRIALS <= THREADS: j/32 for j = 32 .. 4, then 33 .. 48 */

/* What scales are made from: low and high count zero in. */
struct extent {
    float amax, low, high;
};

struct rectangle {
    int64_t i0, i1, j0, j1;
};

__device__ static inline float negated_max(float v, float *part) { return -fpl_block_max(-v, part); }

/* By the whole block; low and high where they are asked for. */
__device__ static struct extent extent_of(const struct fpl_cuda_view *v, const float *x,
                                          const struct rectangle *g, int with_ends, float *part) {
    struct extent e = {0.0f, 0.0f, 0.0f};
    const int64_t width = g->j1 - g->j0, count = (g->i1 - g->i0) * width;
    for (int64_t k = threadIdx.x; k < count; k += blockDim.x) {
        const float y = x[(g->i0 + k / width) * v->row_stride + (g->j0 + k % width) * v->col_stride];
        const float a = fpl_finite_magnitude(y);
        if (a > e.amax) e.amax = a;
        if (a == 0.0f) continue;
        if (y < e.low) e.low = y;
        if (y > e.high) e.high = y;
    }
    e.amax = fpl_block_max(e.amax, part);
    if (!with_ends) return e;
    e.low = negated_max(e.low, part);
    e.high = fpl_block_max(e.high, part);
    return e;
}

__device__ static float basis(const struct fpl_quantizer_plan *p, const struct extent *e) {
    return p->zero_point ? fpl_group_range(e->low, e->high) : e->amax;
}

__device__ static struct fpl_group_scale scale_times(const struct fpl_quantizer_plan *p,
                                                     const struct extent *e, float s_enc, float factor) {
    struct fpl_group_scale g = fpl_group_scale_times(p, basis(p, e), s_enc, factor);
    if (p->zero_point) g.zero = fpl_zero_point(p, &g, e->low);
    return g;
}

__device__ static double squared_error(const struct fpl_quantizer_plan *p, const struct fpl_group_scale *s,
                                       const struct fpl_cuda_view *v, const float *x,
                                       const struct rectangle *g) {
    double sum = 0.0;
    for (int64_t i = g->i0; i < g->i1; i++)
        for (int64_t j = g->j0; j < g->j1; j++) {
            const float y = x[i * v->row_stride + j * v->col_stride];
            if (!fpl_is_finite(y)) continue;
            const double d = (double)y - (double)fpl_quantize_element(p, s, y, 0);
            sum += d * d;
        }
    return sum;
}

/* The factor of a trial; 0 where there is none. */
__device__ static float trial_factor(int search, int trial) {
    if (search == FPL_SEARCH_46) return trial == 0 ? 1.0f : trial == 1 ? 1.5f : 0.0f;
    const int j = trial <= 28 ? 32 - trial : trial + 4;
    return j <= 48 ? (float)j / 32.0f : 0.0f;
}

/* By the whole block: the best scale of group g. */
__device__ static struct fpl_group_scale best_scale(struct fpl_quantizer_plan p, const struct extent *e,
                                                    float s_enc, const struct fpl_cuda_view *v,
                                                    const float *x, const struct rectangle *g,
                                                    double *error) {
    if (fpl_is_stochastic(p.round.mode)) p.round.mode = FPL_RNE;
    if (basis(&p, e) == 0.0f) return scale_times(&p, e, s_enc, 1.0f);
    const float factor = threadIdx.x < TRIALS ? trial_factor(p.search, (int)threadIdx.x) : 0.0f;
    if (threadIdx.x < TRIALS) {
        const struct fpl_group_scale s = scale_times(&p, e, s_enc, factor == 0.0f ? 1.0f : factor);
        error[threadIdx.x] = factor == 0.0f ? (double)INFINITY : squared_error(&p, &s, v, x, g);
    }
    __syncthreads();
    int best = 0;
    for (int t = 1; t < TRIALS; t++)
        if (error[t] < error[best]) best = t;
    __syncthreads();
    return scale_times(&p, e, s_enc, trial_factor(p.search, best));
}

/* s_enc[z] of two-level scales, 1 elsewhere: one block per matrix. */
__global__ void tensor_scales(struct fpl_cuda_view v, const struct fpl_cuda_operand *operands, const float *x,
                              float *s_enc) {
    FPL_SHARED(float, part, THREADS / FPL_WARP);
    const int64_t z = blockIdx.x;
    const struct fpl_quantizer_plan p = fpl_plan_now(operands + z / v.heads);
    float scale = 1.0f;
    if (!p.identity && p.two_level) {
        const struct rectangle all = {0, v.rows, 0, v.cols};
        const struct extent e = extent_of(&v, x + z * v.replica, &all, p.zero_point, part);
        scale = fpl_tensor_scale(&p, basis(&p, &e));
    }
    if (threadIdx.x == 0) s_enc[z] = scale;
}

__global__ void group_scales(struct fpl_cuda_groups groups, struct fpl_cuda_view v,
                             const struct fpl_cuda_operand *operands, const float *s_enc, const float *x,
                             struct fpl_group_scale *scales) {
    FPL_SHARED(float, part, THREADS / FPL_WARP);
    FPL_SHARED(double, error, TRIALS);
    const int64_t z = blockIdx.y, n = blockIdx.x;
    const struct fpl_quantizer_plan p = fpl_plan_now(operands + z / v.heads);
    const int64_t i = n / groups.across * groups.rows, j = n % groups.across * groups.cols;
    const struct rectangle g = {i, i + groups.rows < v.rows ? i + groups.rows : v.rows, j,
                                j + groups.cols < v.cols ? j + groups.cols : v.cols};
    struct extent e = {0.0f, 0.0f, 0.0f};
    const int scaled = !p.identity && p.granularity != FPL_UNSCALED;
    if (scaled) e = extent_of(&v, x + z * v.replica, &g, p.zero_point, part);
    const struct fpl_group_scale s = scaled && p.search != FPL_SEARCH_NONE
                                         ? best_scale(p, &e, s_enc[z], &v, x + z * v.replica, &g, error)
                                         : scale_times(&p, &e, s_enc[z], 1.0f);
    if (threadIdx.x == 0) scales[z * groups.count + n] = s;
}

template <typename Out>
__global__ void quantize_by_scales(struct fpl_cuda_groups groups, struct fpl_cuda_view v,
                                   const struct fpl_cuda_operand *operands, struct fpl_cuda_at at,
                                   const struct fpl_group_scale *scales, const float *x, Out out,
                                   int64_t *nonfinite) {
    const int64_t z = blockIdx.y, r = fpl_replica_of(v.heads, v.rows * v.cols, z, &at);
    const struct fpl_cuda_operand *q = operands + r;
    const struct fpl_quantizer_plan p = fpl_plan_now(q);
    const int64_t e = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    int bad = 0;
    if (e < v.rows * v.cols) {
        const int64_t i = v.col_stride == 1 ? e / v.cols : e % v.rows,
                      j = v.col_stride == 1 ? e % v.cols : e / v.rows;
        const int64_t k = i * v.row_stride + j * v.col_stride;
        const float value = x[z * v.replica + k];
        const struct fpl_group_scale s =
            scales[z * groups.count + i / groups.rows * groups.across + j / groups.cols];
        bad = !fpl_is_finite(value);
        fpl_store(out, z * v.replica + k,
                  fpl_element_quantized(&p, &s, 0, value, fpl_element_random(q, &at, k)));
    }
    fpl_count_nonfinite(nonfinite, r, bad);
}

struct fpl_cuda_groups fpl_cuda_groups_of(const struct fpl_quantizer_plan *p, const struct fpl_cuda_view *v) {
    struct fpl_cuda_groups g;
    fpl_quantizer_group_shape(p, v->rows, v->cols, &g.rows, &g.cols);
    g.across = (v->cols - 1) / g.cols + 1;
    g.count = fpl_quantizer_groups(p, v->rows, v->cols);
    return g;
}

struct fpl_group_scale *fpl_cuda_group_scales(struct fpl_device *dev, int slot, int R,
                                              const struct fpl_cuda_view *view, const struct fpl_operand *q,
                                              const float *x, const float **s_enc) {
    const struct fpl_cuda_groups groups = fpl_cuda_groups_of(&q[0].plan, view);
    const int64_t matrices = R * view->heads;
    const struct fpl_cuda_operand *operands = fpl_cuda_operands(dev, R, q);
    const size_t bytes = (size_t)(matrices * groups.count) * sizeof(struct fpl_group_scale);
    char *memory = (char *)fpl_cuda_scratch(dev, slot, bytes + (size_t)matrices * sizeof(float));
    if (memory == NULL || operands == NULL) return NULL;
    struct fpl_group_scale *scales = (struct fpl_group_scale *)memory;
    float *tensor = (float *)(memory + bytes);
    FPL_LAUNCH(tensor_scales, dim3((unsigned)matrices), dim3(THREADS), 0, dev, *view, operands, x, tensor);
    FPL_LAUNCH(group_scales, dim3((unsigned)groups.count, (unsigned)matrices), dim3(THREADS), 0, dev, groups,
               *view, operands, tensor, x, scales);
    if (s_enc != NULL) *s_enc = tensor;
    return scales;
}

template <typename Out>
static void launch_by_scales(struct fpl_device *dev, int R, const struct fpl_cuda_view *view,
                             const struct fpl_operand *q, const struct fpl_group_scale *scales,
                             const float *x, Out out, int64_t *nonfinite) {
    const struct fpl_cuda_at at = fpl_cuda_at_of(R, q);
    const struct fpl_cuda_operand *operands = fpl_cuda_operands(dev, R, q);
    if (operands == NULL) return;
    FPL_LAUNCH(quantize_by_scales<Out>,
               dim3(fpl_cuda_blocks(view->rows * view->cols, 256), (unsigned)(R * view->heads)), dim3(256), 0,
               dev, fpl_cuda_groups_of(&q[0].plan, view), *view, operands, at, scales, x, out, nonfinite);
}

void fpl_cuda_quantize_rare(struct fpl_device *dev, int R, const struct fpl_cuda_view *view,
                            const struct fpl_operand *q, const float *x, void *out,
                            enum fpl_cuda_carrier carrier, int64_t *nonfinite) {
    const struct fpl_group_scale *scales =
        fpl_cuda_group_scales(dev, FPL_CUDA_SCRATCH_SCALES, R, view, q, x, NULL);
    if (scales == NULL) return;
    if (fpl_cuda_carrier_bytes(carrier) == 2)
        launch_by_scales(dev, R, view, q, scales, x, fpl_narrow_out(out, carrier), nonfinite);
    else
        launch_by_scales(dev, R, view, q, scales, x, (float *)out, nonfinite);
}
