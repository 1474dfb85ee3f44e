/* accumulate_block.c - block:S, partial sums of elements scaled by their groups' scales.
 *
 * Operands become matrices of elements [rows, K], reduction axis contiguous, with a scale per
 * group; the reduction is cut wherever a group of either operand ends; S sums each piece; the
 * scales multiply the partial sums:  acc = fma(p, fl(s_a s_b), acc)  (accumulator.h).  This is
 * how kernels with block scales compute: partial sums leave the matrix unit and meet the scales
 * in float32 (arXiv 2412.19437, section 3.3.2).
 *
 * Elements are made in scalars, by the functions of scale.h, and are not kept between calls:
 * their cost is that of the operands, not of the product.
 */
#include "accumulate.h"

#include "../../../formats/random.h"
#include "../../../formats/scale.h"
#include "gemm_tile.h"
#include "hadamard.h"
#include "operand.h"
#include "ops.h"

/* An operand in memory: `lines` of `width`; the reduction axis is a line, or runs over lines. */
struct elements {
    const struct fpl_operand *q;
    struct fpl_quantizer_plan plan;
    int64_t lines, width;
    int along_lines;
    int64_t rows, cols, group_rows, group_cols; /* as the quantizer sees it */
    float *value;                               /* [rows, cols] */
    struct fpl_group_scale *scale;              /* group rows outermost */
    float tensor;                               /* the tensor's factor of two-level scales, or 1 */
};

static struct elements elements_of(const struct fpl_operand *q, int64_t lines, int64_t width,
                                   int along_lines) {
    struct elements e = {.q = q,
                         .plan = operand_plan(q),
                         .lines = lines,
                         .width = width,
                         .along_lines = along_lines,
                         .tensor = 1.0f};
    e.rows = along_lines ? width : lines;
    e.cols = along_lines ? lines : width;
    /* Values that are rounded once more after scaling are elements of scale 1. */
    if (e.plan.identity || !e.plan.post.identity) {
        e.group_rows = e.rows;
        e.group_cols = e.cols;
    } else {
        fpl_quantizer_group_shape(&e.plan, e.rows, e.cols, &e.group_rows, &e.group_cols);
    }
    return e;
}

static int64_t groups_of(const struct elements *e) {
    return ((e->rows - 1) / e->group_rows + 1) * ((e->cols - 1) / e->group_cols + 1);
}

static const struct fpl_group_scale *scale_at(const struct elements *e, int64_t row, int64_t col) {
    return &e->scale[row / e->group_rows * ((e->cols - 1) / e->group_cols + 1) + col / e->group_cols];
}

/* x (already transformed) into value, reduction axis contiguous. */
static void gather(struct elements *e, const float *x) {
    for (int64_t i = 0; i < e->rows; i++)
        for (int64_t k = 0; k < e->cols; k++)
            e->value[i * e->cols + k] = e->along_lines ? x[k * e->width + i] : x[i * e->width + k];
}

/* Elements in place of values; returns the number of non-finite inputs. */
static int64_t make_elements(struct elements *e) {
    const struct fpl_quantizer_plan *p = &e->plan;
    const struct fpl_random_at *at = &e->q->at;
    int64_t nonfinite = 0;
    if (p->identity || !p->post.identity) {
        e->scale[0] = (struct fpl_group_scale){.quant = 1.0f, .dequant = 1.0f, .dequant_2 = 1.0f};
        if (p->identity && p->post.identity) return 0;
        return fpl_quantize_reference(p, e->rows, e->cols, e->cols, 1, e->value, e->value, NULL, at);
    }
    if (p->two_level) e->tensor = 1.0f / fpl_quantize_tensor_scale(p, e->rows, e->cols, e->cols, 1, e->value);
    fpl_quantizer_group_scales(p, e->rows, e->cols, e->value, e->scale);
    for (int64_t i = 0; i < e->rows; i++) {
        for (int64_t k = 0; k < e->cols; k++) {
            float *x = &e->value[i * e->cols + k];
            const struct fpl_group_scale *g = scale_at(e, i, k);
            const uint64_t index =
                at->element + (uint64_t)(e->along_lines ? k * e->width + i : i * e->width + k);
            const uint32_t random =
                fpl_is_stochastic(p->round.mode)
                    ? fpl_random_bits(at->seed, at->step, at->stream, index, p->round.sr_bits)
                    : 0;
            nonfinite += (fpl_float_bits(*x) & 0x7f800000u) == 0x7f800000u;
            *x = fpl_round_scaled(p, g, fpl_scaled(g, *x), random);
        }
    }
    return nonfinite;
}

/* Columns [k, k + n) of b's elements, [N, K], into panels of B[n, N]. */
static void pack_piece(const struct elements *b, int64_t k, int64_t n, float *out) {
    for (int64_t j = 0; j < b->rows;) {
        const int64_t width = 16 * panel_units(b->rows - j);
        for (int64_t v = 0; v < width; v++)
            for (int64_t i = 0; i < n; i++)
                out[i * width + v] = j + v < b->rows ? b->value[(j + v) * b->cols + k + i] : 0.0f;
        out += n * width;
        j += width;
    }
}

struct sums {
    float *packed, *partial, *acc, *scale; /* scale: of one piece, per column */
};

/* acc = fma(partial, fl(s_a s_b), acc) for the piece that starts at k. */
static void add_piece(const struct elements *a, const struct elements *b, int64_t k, const struct sums *s) {
    const int64_t N = b->rows;
    for (int64_t j = 0; j < N; j++) s->scale[j] = scale_at(b, j, k)->dequant;
    for (int64_t i = 0; i < a->rows; i++) {
        const nf own = nset(scale_at(a, i, k)->dequant);
        for (int64_t j = 0; j < N; j += NL) {
            const nf both = own * nload_n(s->scale + j, N - j);
            float *acc = s->acc + i * N + j;
            nstore_n(acc, nfma(nload_n(s->partial + i * N + j, N - j), both, nload_n(acc, N - j)), N - j);
        }
    }
}

static int64_t next_cut(int64_t k, int64_t step) { return (k / step + 1) * step; }

static void sum_pieces(struct fpl_device *dev, const struct fpl_gemm *g, int r, const struct elements *a,
                       const struct elements *b, const struct sums *s) {
    const int64_t K = a->cols;
    for (int64_t k = 0, end; k < K && dev->error.code == FPL_OK; k = end) {
        end = next_cut(k, a->group_cols);
        if (next_cut(k, b->group_cols) < end) end = next_cut(k, b->group_cols);
        if (end > K) end = K;
        pack_piece(b, k, end - k, s->packed);
        const struct fpl_sum_job job = {.plan = &g->accumulator[r],
                                        .M = a->rows,
                                        .N = b->rows,
                                        .K = end - k,
                                        .first_k = k,
                                        .a = a->value + k,
                                        .a_row = K,
                                        .a_col = 1,
                                        .b = s->packed,
                                        .c = s->partial,
                                        .at = &g->qa[r].at,
                                        .role = g->role,
                                        .O = g->O,
                                        .I = g->I};
        FPL_VEC(accumulate)(dev, &job);
        add_piece(a, b, k, s);
    }
}

static void finish(const struct fpl_gemm *g, const struct elements *a, const struct elements *b,
                   const struct sums *s, float *out) {
    const float tensors = a->tensor * b->tensor;
    for (int64_t i = 0; i < a->rows * b->rows; i++) {
        float x = s->acc[i];
        if (tensors != 1.0f) x *= tensors;
        out[i] = fpl_one_nan(g->accumulate ? out[i] + x : x);
    }
}

/* The operand's elements from its values in memory. */
static int prepare(struct fpl_device *dev, struct elements *e, const float *x, int64_t *nonfinite) {
    const int n = e->q->hadamard;
    if (n != 0) {
        float *turned = fpl_cpu_scratch(dev, 0, (size_t)(e->lines * e->width) * sizeof *turned);
        if (turned == NULL) return 0;
        FPL_VEC(hadamard)(dev, n, e->lines, e->width, e->along_lines, x, turned);
        x = turned;
    }
    operand_observe(e->q, e->lines, e->width, e->width, x);
    gather(e, x);
    const int64_t bad = make_elements(e);
    if (nonfinite != NULL) *nonfinite += bad;
    return 1;
}

void FPL_VEC(accumulate_blocks)(struct fpl_device *dev, const struct fpl_gemm *g, int r) {
    const int forward = g->role == FPL_FORWARD, wgrad = g->role == FPL_WGRAD;
    struct elements a = elements_of(&g->qa[r], g->n, forward ? g->I : g->O, wgrad);
    struct elements b = elements_of(&g->qb[r], wgrad ? g->n : g->O, g->I, !forward);
    const int64_t M = a.rows, N = b.rows, K = a.cols;
    if (M == 0 || N == 0) return;
    int64_t *nonfinite = g->nonfinite != NULL ? g->nonfinite + r : NULL;
    float *out = g->out + r * M * N;
    const int64_t padded = (N + 15) / 16 * 16;
    const size_t floats = (size_t)(M * K + N * K + padded * K + 2 * M * N + padded);
    const size_t groups = K == 0 ? 2 : (size_t)(groups_of(&a) + groups_of(&b));
    float *memory = fpl_cpu_scratch(dev, FPL_CPU_PIECES, floats * sizeof(float) + groups * sizeof *a.scale);
    if (memory == NULL) return;
    struct sums s = {.packed = memory};
    s.partial = s.packed + padded * K;
    s.acc = s.partial + M * N;
    s.scale = s.acc + M * N;
    a.value = s.scale + padded;
    b.value = a.value + M * K;
    a.scale = (struct fpl_group_scale *)(void *)(b.value + N * K);
    memset(s.acc, 0, (size_t)(M * N) * sizeof(float));
    if (K == 0) {
        finish(g, &a, &b, &s, out);
        return;
    }
    b.scale = a.scale + groups_of(&a);
    if (!prepare(dev, &a, g->a + r * g->n * a.width, nonfinite) ||
        !prepare(dev, &b, g->b + r * b.lines * b.width, nonfinite))
        return;
    sum_pieces(dev, g, r, &a, &b, &s);
    finish(g, &a, &b, &s, out);
}
