/* optimizer.c - AdamW (arXiv 1711.05101) with the clip factor applied on the fly, and the
 * squared norm that the factor comes from.
 *
 *   g' = g min(1, clip / norm)
 *   m  = m + (1 - beta1) (g' - m)                 v  = beta2 v + (1 - beta2) g'^2
 *   p  = p - lr decay p - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
 *
 * The last line is computed as p (1 - lr decay) - a m / (sqrt v + e) with the per-step
 * constants a = lr sqrt(1 - beta2^t) / (1 - beta1^t), e = eps sqrt(1 - beta2^t), formed in
 * double: one square root and one division per element.  Elements stand alone.
 *
 * What a recipe rounds (gradients, moments, master weights; order in kernels.h) is rounded in
 * place by the quantizer of quantize.c, a tensor at a time, after the plain update: without such
 * a recipe the update is the plain one.
 *
 * sqnorm: tiles of 4096 elements counted from the start of a segment; inside a tile 32 double
 * lanes (element i to lane i mod 32; squares of floats are exact in double), combined
 * (0+1)+(2+3) by vectors of eight, then by halves; tiles in order, segments in order.
 */
#include "operand.h"
#include "ops.h"
#include "parallel.h"
#include "quantize.h"
#include "vexp.h"

enum { TILE = 4096, PARTIALS = 3 };

typedef double nd __attribute__((vector_size(4 * NL)));
enum { WIDE = NL / 2, SUMS = 32 / WIDE }; /* doubles in a register, registers in 32 lanes */

VINLINE nd widen(const float *x) {
#if defined(FPL_LEVEL_avx512)
    return (nd)_mm512_cvtps_pd(_mm256_loadu_ps(x));
#elif defined(FPL_LEVEL_avx2)
    return (nd)_mm256_cvtps_pd(_mm_loadu_ps(x));
#else
    return (nd){(double)x[0], (double)x[1]};
#endif
}

VINLINE void add_squares(nd sums[SUMS], const float *x) {
    UNROLL(16)
    for (int k = 0; k < SUMS; k++) {
        nd v = widen(x + k * WIDE);
        sums[k] += v * v;
    }
}

static double tile_square(const float *x, int64_t size) {
    nd sums[SUMS];
    UNROLL(16)
    for (int k = 0; k < SUMS; k++) sums[k] = (nd){0};
    int64_t i = 0;
    for (; i + 32 <= size; i += 32) add_squares(sums, x + i);
    if (i < size) {
        float rest[32] = {0};
        memcpy(rest, x + i, (size_t)(size - i) * sizeof(float));
        add_squares(sums, rest);
    }
    double s[32], a[8];
    UNROLL(16)
    for (int k = 0; k < SUMS; k++) memcpy(s + k * WIDE, &sums[k], sizeof sums[k]);
    for (int k = 0; k < 8; k++) a[k] = (s[k] + s[k + 8]) + (s[k + 16] + s[k + 24]);
    for (int half = 4; half > 0; half /= 2)
        for (int k = 0; k < half; k++) a[k] += a[k + half];
    return a[0];
}

struct sqnorm {
    const float *x; /* one replica's part of one segment */
    int64_t size;
    double *partial;
};

static void sqnorm_tile(const void *job, int64_t tile, int thread) {
    (void)thread;
    const struct sqnorm *s = job;
    int64_t begin = tile * TILE;
    s->partial[tile] = tile_square(s->x + begin, smaller(TILE, s->size - begin));
}

void FPL_VEC(sqnorm)(struct fpl_device *dev, int R, const struct fpl_segment *segments, int count,
                     const float *g, double *out) {
    if (dev->error.code != FPL_OK) return;
    int64_t most = 1;
    for (int i = 0; i < count; i++)
        if (tiles_of(segments[i].size, TILE) > most) most = tiles_of(segments[i].size, TILE);
    double *partial = fpl_cpu_scratch(dev, PARTIALS, (size_t)most * sizeof(double));
    if (partial == NULL) return;
    for (int r = 0; r < R; r++) {
        double sum = 0.0;
        for (int i = 0; i < count; i++) {
            const int64_t size = segments[i].size, tiles = tiles_of(size, TILE);
            struct sqnorm s = {.x = g + segments[i].offset + r * size, .size = size, .partial = partial};
            for_tiles(dev, tiles, sqnorm_tile, &s);
            for (int64_t t = 0; t < tiles; t++) sum += partial[t];
        }
        out[r] = sum;
    }
}

/* ---- formats of the optimizer's tensors ---------------------------------------------------- */

/* One replica's tensors, in place. */
static void quantize_replica(struct fpl_device *dev, int r, const struct fpl_segment *segments, int count,
                             const struct fpl_operand *q, float *x, int64_t *nonfinite) {
    if (operand_is_identity(q)) return;
    for (int i = 0; i < count && dev->error.code == FPL_OK; i++) {
        const int64_t size = segments[i].size, cols = segments[i].cols > 0 ? segments[i].cols : size;
        float *tensor = x + segments[i].offset + r * size;
        struct fpl_operand of = *q;
        if (size == 0) continue;
        of.at.stream += (uint32_t)i << 8;
        if (of.delay != NULL) of.delay += (int64_t)i * (FPL_DELAY_HEAD + of.plan.history);
        const struct fpl_quantizer_plan plan = operand_plan(&of);
        operand_observe(&of, 1, size, size, tensor);
        const int64_t bad =
            FPL_VEC(quantize_matrix)(dev, &plan, &of.at, size / cols, cols, cols, 1, tensor, tensor);
        if (nonfinite != NULL) nonfinite[r] += bad;
    }
}

void FPL_VEC(quantize_tensors)(struct fpl_device *dev, int R, const struct fpl_segment *segments, int count,
                               const struct fpl_operand *q, float *x, int64_t *nonfinite) {
    for (int r = 0; r < R; r++) quantize_replica(dev, r, segments, count, &q[r], x, nonfinite);
}

/* ---- AdamW --------------------------------------------------------------------------------- */

/* One replica's constants of one step, rounded to float once. */
struct adamw {
    float clip, keep1, keep2, add2, rate, floor, shrink;
    float *p, *m, *v;
    const float *g;
    int64_t size;
};

static double power(double x, int64_t n) {
    double y = 1.0;
    for (; n > 0; n >>= 1, x *= x)
        if (n & 1) y *= x;
    return y;
}

VINLINE void adamw_lanes(const struct adamw *s, int64_t i, int64_t lanes) {
    nf g = nload_n(s->g + i, lanes) * nset(s->clip);
    nf m = nload_n(s->m + i, lanes), v = nload_n(s->v + i, lanes), p = nload_n(s->p + i, lanes);
    m = nfma(nset(s->keep1), g - m, m);
    v = nfma(nset(s->keep2), v, nset(s->add2) * g * g);
    nf step = nset(s->rate) * m / (nsqrt(v) + nset(s->floor));
    nstore_n(s->m + i, m, lanes);
    nstore_n(s->v + i, v, lanes);
    nstore_n(s->p + i, nfma(nset(s->shrink), p, -step), lanes);
}

static void adamw_tile(const void *job, int64_t tile, int thread) {
    (void)thread;
    const struct adamw *s = job;
    int64_t i = tile * TILE, end = smaller(i + TILE, s->size);
    for (; i + NL <= end; i += NL) adamw_lanes(s, i, NL);
    if (i < end) adamw_lanes(s, i, end - i);
}

void FPL_VEC(adamw)(struct fpl_device *dev, const struct fpl_adamw *a, const struct fpl_segment *segments,
                    int count, float *p, const float *g, float *m, float *v) {
    if (dev->error.code != FPL_OK) return;
    const double bias1 = 1.0 - power(a->beta1, a->step),
                 root2 = __builtin_sqrt(1.0 - power(a->beta2, a->step));
    for (int r = 0; r < a->R; r++) {
        if (a->active != NULL && !a->active[r]) continue;
        double clip = 1.0, lr = (double)a->lr[r], decay = (double)a->decay[r];
        if (a->clip > 0.0) {
            double norm = __builtin_sqrt(a->sqnorm[r]);
            if (norm > a->clip) clip = a->clip / norm;
        }
        for (int i = 0; i < count; i++) {
            const int64_t size = segments[i].size, at = segments[i].offset + r * size;
            struct adamw s = {.clip = (float)clip,
                              .keep1 = (float)(1.0 - a->beta1),
                              .keep2 = (float)a->beta2,
                              .add2 = (float)(1.0 - a->beta2),
                              .rate = (float)(lr * root2 / bias1),
                              .floor = (float)(a->eps * root2),
                              .shrink = (float)(segments[i].decay ? 1.0 - lr * decay : 1.0),
                              .p = p + at,
                              .m = m + at,
                              .v = v + at,
                              .g = g + at,
                              .size = size};
            for_tiles(dev, tiles_of(size, TILE), adamw_tile, &s);
        }
        const struct fpl_operand *const rounded[] = {a->qm, a->qv, a->qmaster};
        float *const tensors[] = {m, v, p};
        for (int k = 0; k < 3; k++)
            if (rounded[k] != NULL)
                quantize_replica(dev, r, segments, count, &rounded[k][r], tensors[k], a->nonfinite);
    }
}
