/* optimizer.cu - squared norms, and AdamW (arXiv 1711.05101) with the clip factor on the fly.
 *
 *   g' = g min(1, clip / norm)
 *   m  = m + (1 - beta1) (g' - m)                 v  = beta2 v + (1 - beta2) g'^2
 *   p  = p (1 - lr decay) - a m / (sqrt v + e)    a = lr sqrt(1 - beta2^t) / (1 - beta1^t),
 *                                                 e = eps sqrt(1 - beta2^t)
 *
 * The constants are formed in double and rounded once, and the operations are those of the CPU
 * backend in its order, so from equal norms the updates are equal to the bit.  The clip factor is
 * made on the device: no step waits for the host.
 *
 * A buffer is cut into tiles of 4096 elements, each inside one segment; a block takes one tile of
 * one replica.  sqnorm adds a tile's squares in double (thread t takes elements t, t + 256, ...,
 * then reduce.h), then one block per replica adds the tiles the same way.
 */
#include "operand.h"
#include "operations.h"
#include "reduce.h"

#include <stdlib.h>

enum { TILE = 4096, THREADS = 256 };

struct tiled_segment {
    int64_t offset, size, first_tile;
    int32_t decay;
};

/* The segment that a tile lies in: the last whose first tile is not beyond it. */
__device__ static inline const struct tiled_segment *segment_of(const struct tiled_segment *s, int count,
                                                                int64_t tile) {
    int low = 0, high = count - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (s[middle].first_tile <= tile)
            low = middle;
        else
            high = middle - 1;
    }
    return s + low;
}

__global__ void square_tiles(const struct tiled_segment *segments, int count, const float *g,
                             double *partial) {
    FPL_SHARED(double, part, THREADS / FPL_WARP);
    const struct tiled_segment *s = segment_of(segments, count, blockIdx.x);
    const int64_t begin = ((int64_t)blockIdx.x - s->first_tile) * TILE;
    const int64_t end = begin + TILE < s->size ? begin + TILE : s->size;
    const float *x = g + s->offset + (int64_t)blockIdx.y * s->size;
    double sum = 0.0;
    for (int64_t i = begin + threadIdx.x; i < end; i += THREADS) sum += (double)x[i] * (double)x[i];
    sum = fpl_block_sum(sum, part);
    if (threadIdx.x == 0) partial[(int64_t)blockIdx.y * gridDim.x + blockIdx.x] = sum;
}

__global__ void add_squares(int64_t tiles, const double *partial, double *out) {
    FPL_SHARED(double, part, THREADS / FPL_WARP);
    double sum = 0.0;
    for (int64_t t = threadIdx.x; t < tiles; t += THREADS) sum += partial[blockIdx.x * tiles + t];
    sum = fpl_block_sum(sum, part);
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

/* What one replica brings to a step, and what all share. */
struct adamw_replica {
    float lr, decay;
    int32_t active;
};
struct adamw_step {
    double bias1, root2, eps, clip;
    float keep1, keep2, add2;
};

__global__ void adamw_tiles(struct adamw_step step, const struct adamw_replica *replicas,
                            const struct tiled_segment *segments, int count, const double *sqnorm, float *p,
                            const float *g, float *m, float *v) {
    const struct adamw_replica replica = replicas[blockIdx.y];
    if (!replica.active) return;
    const struct tiled_segment *s = segment_of(segments, count, blockIdx.x);
    const double lr = (double)replica.lr;
    double clip = 1.0;
    if (step.clip > 0.0) {
        const double norm = sqrt(sqnorm[blockIdx.y]);
        if (norm > step.clip) clip = step.clip / norm;
    }
    const float factor = (float)clip, rate = (float)(lr * step.root2 / step.bias1),
                floor = (float)(step.eps * step.root2);
    const float shrink = (float)(s->decay ? 1.0 - lr * (double)replica.decay : 1.0);
    const int64_t begin = ((int64_t)blockIdx.x - s->first_tile) * TILE,
                  at = s->offset + (int64_t)blockIdx.y * s->size;
    const int64_t end = begin + TILE < s->size ? begin + TILE : s->size;
    for (int64_t i = begin + threadIdx.x; i < end; i += THREADS) {
        const float d = g[at + i] * factor, old = m[at + i];
        const float first = fmaf(step.keep1, d - old, old);
        const float second = fmaf(step.keep2, v[at + i], step.add2 * d * d);
        m[at + i] = first;
        v[at + i] = second;
        p[at + i] = fmaf(shrink, p[at + i], -(rate * first / (sqrtf(second) + floor)));
    }
}

/* ---- entries ------------------------------------------------------------------------------------- */

/* Device copy of the segments with their tiles counted; *tiles is the total. */
static const struct tiled_segment *tile_segments(struct fpl_device *dev, const struct fpl_segment *segments,
                                                 int count, int64_t *tiles) {
    const size_t bytes = (size_t)count * sizeof(struct tiled_segment);
    *tiles = 0;
    if (fpl_cuda_failed(dev)) return NULL;
    struct tiled_segment *t = (struct tiled_segment *)calloc((size_t)count, sizeof *t);
    if (t == NULL) {
        fpl_fail(&dev->error, FPL_SYSTEM, "cuda: out of host memory");
        return NULL;
    }
    for (int i = 0; i < count; i++) {
        t[i].offset = segments[i].offset;
        t[i].size = segments[i].size;
        t[i].first_tile = *tiles;
        t[i].decay = segments[i].decay;
        *tiles += (segments[i].size + TILE - 1) / TILE;
    }
    const void *device = fpl_cuda_parameter(dev, t, bytes);
    free(t);
    return (const struct tiled_segment *)device;
}

void fpl_cuda_sqnorm(struct fpl_device *dev, int R, const struct fpl_segment *segments, int count,
                     const float *g, double *out) {
    int64_t tiles;
    const struct tiled_segment *s = tile_segments(dev, segments, count, &tiles);
    double *partial =
        (double *)fpl_cuda_scratch(dev, FPL_CUDA_SCRATCH_SUMS, (size_t)R * (size_t)tiles * sizeof *partial);
    if (s == NULL || partial == NULL) return;
    if (tiles > 0) {
        FPL_LAUNCH(square_tiles, dim3((unsigned)tiles, (unsigned)R), dim3(THREADS), 0, dev, s, count, g,
                   partial);
    }
    FPL_LAUNCH(add_squares, dim3((unsigned)R), dim3(THREADS), 0, dev, tiles, partial, out);
}

static double power(double x, int64_t n) {
    double y = 1.0;
    for (; n > 0; n >>= 1, x *= x)
        if (n & 1) y *= x;
    return y;
}

static const struct adamw_replica *adamw_replicas(struct fpl_device *dev, const struct fpl_adamw *a) {
    const size_t bytes = (size_t)a->R * sizeof(struct adamw_replica);
    struct adamw_replica *r = (struct adamw_replica *)calloc((size_t)a->R, sizeof *r);
    if (r == NULL) {
        fpl_fail(&dev->error, FPL_SYSTEM, "cuda: out of host memory");
        return NULL;
    }
    for (int i = 0; i < a->R; i++) {
        r[i].lr = a->lr[i];
        r[i].decay = a->decay[i];
        r[i].active = a->active == NULL || a->active[i];
    }
    const void *device = fpl_cuda_transient(dev, r, bytes);
    free(r);
    return (const struct adamw_replica *)device;
}

/* ---- formats of the optimizer's tensors ------------------------------------------------------------ */

/* Segment i of the replicas [first, first + R), in place. */
static void quantize_segment(struct fpl_device *dev, int first, int R, const struct fpl_segment *s, int i,
                             struct fpl_operand *of, float *x, int64_t *nonfinite) {
    const int64_t cols = s->cols > 0 ? s->cols : s->size;
    const struct fpl_cuda_view view = {s->size / cols, cols, cols, 1, s->size, 1};
    float *tensors = x + s->offset + first * s->size;
    if (s->size == 0) return;
    for (int r = 0; r < R; r++) {
        of[r].at.stream += (uint32_t)i << 8;
        if (of[r].delay != NULL) of[r].delay += (int64_t)i * (FPL_DELAY_HEAD + of[r].plan.history);
    }
    fpl_cuda_quantize_view(dev, R, &view, of, tensors, tensors, FPL_CARRIER_FP32,
                           nonfinite != NULL ? nonfinite + first : NULL);
}

static int is_rounded(const int32_t *active, const struct fpl_operand *q, int r) {
    return (active == NULL || active[r]) && !(q[r].plan.identity && q[r].plan.post.identity);
}

static void quantize_active(struct fpl_device *dev, int R, const int32_t *active,
                            const struct fpl_segment *segments, int count, const struct fpl_operand *q,
                            float *x, int64_t *nonfinite) {
    struct fpl_operand *of = (struct fpl_operand *)malloc((size_t)R * sizeof *of);
    if (of == NULL) {
        fpl_fail(&dev->error, FPL_SYSTEM, "cuda: out of host memory");
        return;
    }
    for (int first = 0, end; first < R; first = end) {
        end = first + 1;
        if (!is_rounded(active, q, first)) continue;
        while (end < R && is_rounded(active, q, end)) end++;
        for (int i = 0; i < count && !fpl_cuda_failed(dev); i++) {
            memcpy(of, q + first, (size_t)(end - first) * sizeof *of);
            quantize_segment(dev, first, end - first, &segments[i], i, of, x, nonfinite);
        }
    }
    free(of);
}

void fpl_cuda_quantize_tensors(struct fpl_device *dev, int R, const struct fpl_segment *segments, int count,
                               const struct fpl_operand *q, float *x, int64_t *nonfinite) {
    quantize_active(dev, R, NULL, segments, count, q, x, nonfinite);
}

/* ---- the step -------------------------------------------------------------------------------------- */

void fpl_cuda_adamw(struct fpl_device *dev, const struct fpl_adamw *a, const struct fpl_segment *segments,
                    int count, float *p, const float *g, float *m, float *v) {
    int64_t tiles;
    const struct tiled_segment *s = tile_segments(dev, segments, count, &tiles);
    if (s == NULL || tiles == 0) return;
    const struct adamw_replica *replicas = adamw_replicas(dev, a);
    if (replicas == NULL) return;
    struct adamw_step step;
    step.bias1 = 1.0 - power(a->beta1, a->step);
    step.root2 = sqrt(1.0 - power(a->beta2, a->step));
    step.eps = a->eps;
    step.clip = a->clip;
    step.keep1 = (float)(1.0 - a->beta1);
    step.keep2 = (float)a->beta2;
    step.add2 = (float)(1.0 - a->beta2);
    FPL_LAUNCH(adamw_tiles, dim3((unsigned)tiles, (unsigned)a->R), dim3(THREADS), 0, dev, step, replicas, s,
               count, a->sqnorm, p, g, m, v);
    const struct fpl_operand *const rounded[] = {a->qm, a->qv, a->qmaster};
    float *const tensors[] = {m, v, p};
    for (int k = 0; k < 3; k++)
        if (rounded[k] != NULL)
            quantize_active(dev, a->R, a->active, segments, count, rounded[k], tensors[k], a->nonfinite);
}
