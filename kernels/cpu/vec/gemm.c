/* gemm.c - the three products of a linear layer.
 *
 * In terms of C[M, N] = A B, B's rows contiguous (kernels.h, struct fpl_gemm):
 *
 *   role      M  N  K   A(i, k)      B(k, j)
 *   forward   n  O  I   x[i, k]      w[j, k]   w is transposed while it is packed
 *   dgrad     n  I  O   dy[i, k]     w[k, j]
 *   wgrad     O  I  n   dy[k, i]     x[k, j]
 *
 * B is quantized and packed into panels of up to three units of sixteen columns, zero
 * padded, so that a tile streams it in order; panels of weights are kept between calls
 * (gemm_cache.c).  A is read in place by broadcasts, or from scratch where it is quantized.
 * Long products are blocked over k so that a panel stays in the first cache; the chain goes
 * on from the stored value, which is the same chain (gemm_tile.h).
 *
 * Threads share out panels times bands of rows; each element is one thread's, and no sum is
 * split, so their number does not matter.
 */
#include "ops.h"

#include "accumulate.h"
#include "gemm_tile.h"
#include "hadamard.h"
#include "operand.h"
#include "quantize.h"
#include "rows.h"

/* Steps of k between stores of C: a panel of three units by this is 3/4 of a 48 KiB cache. */
enum { K_BLOCK = 192, BAND = 96 };

/* C[M, N] (+)= A B with B packed: panel after panel, each K rows of its own width. */
struct product {
    int64_t M, N, K;
    const float *a;
    int64_t a_row, a_col;
    const float *b;
    float *c;
    int accumulate;
};

static int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }

/* The rows [first, first + rows) of one panel that starts at column j. */
static void multiply_band(const struct product *p, int64_t j, int64_t first, int64_t rows) {
    const int units = panel_units(p->N - j);
    const int64_t width = 16 * units, cols = p->N - j < width ? p->N - j : width;
    const float *panel = p->b + j * p->K;
    for (int64_t k = 0; k < p->K || k == 0; k += K_BLOCK) {
        const struct tile t = {.K = p->K - k < K_BLOCK ? p->K - k : K_BLOCK,
                               .cols = cols,
                               .a = p->a + first * p->a_row + k * p->a_col,
                               .a_row = p->a_row,
                               .a_col = p->a_col,
                               .b = panel + k * width,
                               .b_row = width,
                               .c = p->c + first * p->N + j,
                               .c_row = p->N,
                               .accumulate = p->accumulate || k > 0};
        FPL_VEC(gemm_panel)(t, rows, units);
    }
}

static void multiply(const struct product *p, int threads) {
    if (threads == 1) {
        for (int64_t j = 0; j < p->N; j += 16 * panel_units(p->N - j)) multiply_band(p, j, 0, p->M);
        return;
    }
    const int64_t bands = (p->M + BAND - 1) / BAND;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t band = 0; band < bands; band++) {
        const int64_t first = band * BAND, rows = p->M - first < BAND ? p->M - first : BAND;
        for (int64_t j = 0; j < p->N; j += 16 * panel_units(p->N - j)) multiply_band(p, j, first, rows);
    }
}

/* ---- packing ----------------------------------------------------------------------------- */

/* B[K, N], rows contiguous, into panels. */
static void pack_rows(int64_t K, int64_t N, const float *b, float *out) {
    for (int64_t j = 0; j < N;) {
        const int64_t width = 16 * panel_units(N - j);
        for (int64_t k = 0; k < K; k++, out += width)
            for (int64_t v = 0; v < width; v += NL) nstore(out + v, nload_n(b + k * N + j + v, N - j - v));
        j += width;
    }
}

/* B[K, N] given as its transpose w[N, K], into panels. */
static void pack_transposed(int64_t K, int64_t N, const float *w, float *out) {
    for (int64_t j = 0; j < N;) {
        const int64_t width = 16 * panel_units(N - j);
        for (int64_t v = 0; v < width; v += 16) {
            int64_t k = 0;
            for (; j + v + 16 <= N && k + 16 <= K; k += 16)
                transpose_16x16(w + (j + v) * K + k, K, out + k * width + v, width);
            for (; k < K; k++)
                for (int64_t u = v; u < v + 16; u++)
                    out[k * width + u] = j + u < N ? w[(j + u) * K + k] : 0.0f;
        }
        out += K * width;
        j += width;
    }
}

/* ---- operands ---------------------------------------------------------------------------- */

/* An operand as it lies in memory (lines of `width` floats) and as its quantizer sees it:
 * with the reduction axis as columns. */
struct source {
    const float *x;
    int64_t lines, width;
    int along_lines; /* the reduction axis runs over lines, not within them */
    const struct fpl_operand *q;
    int64_t *nonfinite;
};

static int is_identity(const struct fpl_quantizer_plan *p) { return p->identity && p->post.identity; }

/* The operand's values: x itself, or scratch with the same layout. */
static const float *quantized(struct fpl_device *dev, int slot, const struct source *s) {
    const int n = s->q->hadamard;
    if (is_identity(&s->q->plan) && n == 0) return s->x;
    float *out = fpl_cpu_scratch(dev, slot, (size_t)(s->lines * s->width) * sizeof(float));
    if (out == NULL) return NULL;
    if (n != 0) FPL_VEC(hadamard)(dev, n, s->lines, s->width, s->along_lines, s->x, out);
    if (is_identity(&s->q->plan)) return out;
    const int64_t rows = s->along_lines ? s->width : s->lines, cols = s->along_lines ? s->lines : s->width;
    const struct fpl_quantizer_plan plan = operand_plan(s->q);
    operand_observe(s->q, s->lines, s->width, s->width, n != 0 ? out : s->x);
    const int64_t bad =
        FPL_VEC(quantize_matrix)(dev, &plan, &s->q->at, rows, cols, s->along_lines ? 1 : s->width,
                                 s->along_lines ? s->width : 1, n != 0 ? out : s->x, out);
    if (s->nonfinite != NULL) *s->nonfinite += bad;
    return out;
}

/* w of replica r into panels, as the role needs it. */
static int pack_weights(struct fpl_device *dev, const struct fpl_gemm *g, const struct source *w,
                        float *out) {
    const float *values = quantized(dev, 4, w);
    if (values == NULL) return 0;
    if (g->role == FPL_FORWARD)
        pack_transposed(g->I, g->O, values, out);
    else
        pack_rows(g->O, g->I, values, out);
    return 1;
}

static const float *packed_weights(struct fpl_device *dev, const struct fpl_gemm *g, int r) {
    const int64_t N = g->role == FPL_FORWARD ? g->O : g->I, K = g->role == FPL_FORWARD ? g->I : g->O;
    const size_t bytes = (size_t)(padded(N) * K) * sizeof(float);
    int64_t uncounted = 0, *count = g->nonfinite != NULL ? g->nonfinite + r : &uncounted;
    struct source w = {g->b + r * g->O * g->I, g->O, g->I, g->role == FPL_DGRAD, &g->qb[r], count};
    if (g->weights_version == 0) {
        float *out = fpl_cpu_scratch(dev, 1, bytes);
        return out != NULL && pack_weights(dev, g, &w, out) ? out : NULL;
    }
    const struct fpl_pack_key key = {.w = w.x,
                                     .role = (int)g->role,
                                     .replica = r,
                                     .rows = g->O,
                                     .cols = g->I,
                                     .version = g->weights_version,
                                     .operand = *w.q};
    struct fpl_pack *pack = fpl_cpu_pack(dev, &key, bytes);
    if (pack == NULL) return NULL;
    if (!pack->valid) {
        /* What a later step must know of this pack is kept with it, whoever asked first. */
        const int delayed = w.q->plan.history > 0 && w.q->delay != NULL;
        float seen[FPL_DELAY_HEAD] = {0.0f, delayed ? w.q->delay[1] : 0.0f};
        struct fpl_operand watched = *w.q;
        watched.delay = delayed ? seen : NULL;
        watched.observe = 1;
        w.q = &watched;
        w.nonfinite = &pack->nonfinite;
        if (!pack_weights(dev, g, &w, pack->data)) return NULL;
        pack->amax = seen[0];
        pack->valid = 1;
    }
    if (g->qb[r].delay != NULL && g->qb[r].observe) operand_raise(g->qb[r].delay, fpl_float_bits(pack->amax));
    *count += pack->nonfinite;
    return pack->data;
}

/* x of wgrad, quantized and packed. */
static const float *packed_rows(struct fpl_device *dev, const struct source *s) {
    const float *values = quantized(dev, 4, s);
    if (s->width % 16 == 0 && s->width == 16 * panel_units(s->width)) return values; /* they are one panel */
    float *out = fpl_cpu_scratch(dev, 1, (size_t)(padded(s->width) * s->lines) * sizeof(float));
    if (values == NULL || out == NULL) return NULL;
    pack_rows(s->lines, s->width, values, out);
    return out;
}

/* The product under the replica's accumulator. */
static void sum_products(struct fpl_device *dev, const struct fpl_gemm *g, int r, const struct product *p) {
    if (g->accumulator == NULL || g->accumulator[r].kind == FPL_ACC_FP32) {
        multiply(p, dev->threads);
        return;
    }
    const struct fpl_sum_job job = {.plan = &g->accumulator[r],
                                    .M = p->M,
                                    .N = p->N,
                                    .K = p->K,
                                    .a = p->a,
                                    .a_row = p->a_row,
                                    .a_col = p->a_col,
                                    .b = p->b,
                                    .c = p->c,
                                    .accumulate = p->accumulate,
                                    .at = &g->qa[r].at,
                                    .role = g->role,
                                    .O = g->O,
                                    .I = g->I};
    FPL_VEC(accumulate)(dev, &job);
}

/* Forward and dgrad of one replica. */
static void rows_product(struct fpl_device *dev, const struct fpl_gemm *g, int r) {
    const int forward = g->role == FPL_FORWARD;
    const int64_t K = forward ? g->I : g->O, N = forward ? g->O : g->I;
    const struct source left = {
        g->a + r * g->n * K, g->n, K, 0, &g->qa[r], g->nonfinite != NULL ? g->nonfinite + r : NULL};
    const float *a = quantized(dev, 0, &left), *b = packed_weights(dev, g, r);
    if (a == NULL || b == NULL) return;
    const struct product p = {.M = g->n,
                              .N = N,
                              .K = K,
                              .a = a,
                              .a_row = K,
                              .a_col = 1,
                              .b = b,
                              .c = g->out + r * g->n * N,
                              .accumulate = g->accumulate};
    sum_products(dev, g, r, &p);
}

/* Wgrad of one replica. */
static void weights_product(struct fpl_device *dev, const struct fpl_gemm *g, int r) {
    int64_t *nonfinite = g->nonfinite != NULL ? g->nonfinite + r : NULL;
    const struct source left = {g->a + r * g->n * g->O, g->n, g->O, 1, &g->qa[r], nonfinite};
    const struct source right = {g->b + r * g->n * g->I, g->n, g->I, 1, &g->qb[r], nonfinite};
    const float *a = quantized(dev, 0, &left), *b = packed_rows(dev, &right);
    if (a == NULL || b == NULL) return;
    const struct product p = {.M = g->O,
                              .N = g->I,
                              .K = g->n,
                              .a = a,
                              .a_row = 1,
                              .a_col = g->O,
                              .b = b,
                              .c = g->out + r * g->O * g->I,
                              .accumulate = g->accumulate};
    sum_products(dev, g, r, &p);
}

void FPL_VEC(gemm)(struct fpl_device *dev, const struct fpl_gemm *g) {
    for (int r = 0; r < g->R && dev->error.code == FPL_OK; r++) {
        if (g->accumulator != NULL && g->accumulator[r].block)
            FPL_VEC(accumulate_blocks)(dev, g, r);
        else if (g->role == FPL_WGRAD)
            weights_product(dev, g, r);
        else
            rows_product(dev, g, r);
    }
}
