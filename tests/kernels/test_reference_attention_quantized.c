/* test_reference_attention_quantized.c - attention whose products see quantized operands.
 *
 * 1. Bit for bit against the definition (kernels.h, struct fpl_attention) written as scalar
 *    loops: operands through fpl_quantize_reference, then chains of fmaf in the stated order.
 *    The backward pass is restated whole; of the forward pass, what follows the probabilities.
 * 2. The probabilities within running error bounds of softmax(Q(q) Q(k)^T / sqrt D).
 * 3. In double, on the reference operations: with quantizers so fine that they hardly round, the
 *    gradients of every slot's path are those of plain attention, which central differences check
 *    elsewhere; and each slot alone changes only what its product feeds.
 * harness_run adds: the same bits in a pack and alone, on one thread and on two.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../formats/random.h"
#include "../ref/harness.h"
#include "../ref/reference.h"

enum { REPLICAS = 3 };

static struct harness h;

struct job {
    int64_t B, T, H, D, first_sequence;
    struct fpl_operand q[FPL_ATTN_SLOTS][REPLICAS];
    int64_t *nonfinite; /* [REPLICAS], of the last call */
    int backward;
};

static void call(const struct harness *hh, struct fpl_device *dev, int first, int R, void **p,
                 const void *shape) {
    const struct job *j = shape;
    const struct fpl_kernels *k = hh->kernels;
    int64_t *nonfinite = k->alloc(dev, (size_t)R * sizeof *nonfinite);
    struct fpl_attention a = {.first_sequence = j->first_sequence, .nonfinite = nonfinite};
    for (int s = 0; s < FPL_ATTN_SLOTS; s++) a.slot[s] = j->q[s] + first;
    if (j->backward)
        k->attention_backward(dev, R, j->B, j->T, j->H, j->D, p[0], p[1], p[2], p[3], p[4], p[5], p[6], &a);
    else
        k->attention_forward(dev, R, j->B, j->T, j->H, j->D, p[0], p[1], p[2], p[3], p[4], &a);
    k->download(dev, j->nonfinite + first, nonfinite, (size_t)R * sizeof *nonfinite);
    k->release(dev, nonfinite);
}

static struct fpl_operand operand(const char *text, int slot, int replica) {
    struct fpl_quantizer q;
    struct fpl_error err = {FPL_OK, ""};
    struct fpl_operand o = {.observe = 1};
    if (fpl_quantizer_parse(text, &q, &err) != FPL_OK) fail_msg("%s", err.text);
    fpl_quantizer_lower(&q, NULL, &o.plan);
    o.at.seed = 7 + (uint64_t)replica;
    o.at.step = 3;
    o.at.stream = fpl_stream(FPL_STREAM_ATTENTION, 5u << 8 | (uint32_t)slot);
    return o;
}

/* ---- the definition ----------------------------------------------------------------------------- */

/* One head: contiguous float matrices. */
struct definition {
    const struct job *j;
    int replica;
    uint64_t number;
    float *q, *k, *v, *d; /* [T, D] */
    const float *P;       /* [T, T] */
};

static float *quantized(const struct definition *g, int slot, const float *x, int64_t lines, int64_t width,
                        int along) {
    struct fpl_operand o = g->j->q[slot][g->replica];
    float *out = harness_alloc(lines * width, sizeof *out);
    o.at.element = g->number * (uint64_t)(lines * width);
    fpl_quantize_reference(&o.plan, along ? width : lines, along ? lines : width, along ? 1 : width,
                           along ? width : 1, x, out, NULL, &o.at);
    return out;
}

static void define_out(const struct definition *g, float *out) {
    const int64_t T = g->j->T, D = g->j->D;
    float *P = quantized(g, FPL_ATTN_OUT_P, g->P, T, T, 0), *v = quantized(g, FPL_ATTN_OUT_V, g->v, T, D, 1);
    for (int64_t t = 0; t < T; t++)
        for (int64_t i = 0; i < D; i++) {
            float sum = 0;
            for (int64_t k = 0; k <= t; k++) sum = fmaf(P[t * T + k], v[k * D + i], sum);
            out[t * D + i] = sum;
        }
    free(P);
    free(v);
}

/* The lane tree of the backend's row sums. */
static float tree(float *lanes) {
    for (int half = 8; half > 0; half /= 2)
        for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
    return lanes[0];
}

static float *define_scores(const struct definition *g) {
    const int64_t T = g->j->T, D = g->j->D;
    float *d = quantized(g, FPL_ATTN_DP_DOUT, g->d, T, D, 0), *v = quantized(g, FPL_ATTN_DP_V, g->v, T, D, 0);
    float *dS = harness_alloc(T * T, sizeof *dS);
    for (int64_t t = 0; t < T; t++) {
        float lanes[16] = {0};
        for (int64_t k = 0; k <= t; k++) {
            float sum = 0;
            for (int64_t i = 0; i < D; i++) sum = fmaf(d[t * D + i], v[k * D + i], sum);
            dS[t * T + k] = sum;
            lanes[k % 16] = fmaf(g->P[t * T + k], sum, lanes[k % 16]);
        }
        const float mean = tree(lanes);
        for (int64_t k = 0; k < T; k++) dS[t * T + k] = k <= t ? g->P[t * T + k] * (dS[t * T + k] - mean) : 0;
    }
    free(d);
    free(v);
    return dS;
}

/* out[T, D] = a^T b over queries, a lower triangular. */
static void transposed(int64_t T, int64_t D, const float *a, const float *b, float *out) {
    for (int64_t k = 0; k < T; k++)
        for (int64_t i = 0; i < D; i++) {
            float sum = 0;
            for (int64_t t = k; t < T; t++) sum = fmaf(a[t * T + k], b[t * D + i], sum);
            out[k * D + i] = sum;
        }
}

static void rotate_back(int64_t D, const float *c, const float *s, float *x) {
    const float scale = (float)(1 / sqrt((double)D));
    for (int64_t i = 0; i < D / 2; i++) {
        const float a = x[i] * scale, b = x[i + D / 2] * scale, bs = b * s[i], as = a * s[i];
        x[i] = fmaf(a, c[i], bs);
        x[i + D / 2] = fmaf(b, c[i], -as);
    }
}

static void define_gradients(const struct definition *g, const float *cosines, const float *sines, float *dq,
                             float *dk, float *dv) {
    const int64_t T = g->j->T, D = g->j->D;
    float *dS = define_scores(g);
    float *a[6] = {quantized(g, FPL_ATTN_DV_P, g->P, T, T, 1), quantized(g, FPL_ATTN_DV_DOUT, g->d, T, D, 1),
                   quantized(g, FPL_ATTN_DK_DS, dS, T, T, 1),  quantized(g, FPL_ATTN_DK_Q, g->q, T, D, 1),
                   quantized(g, FPL_ATTN_DQ_DS, dS, T, T, 0),  quantized(g, FPL_ATTN_DQ_K, g->k, T, D, 1)};
    transposed(T, D, a[0], a[1], dv);
    transposed(T, D, a[2], a[3], dk);
    for (int64_t t = 0; t < T; t++)
        for (int64_t i = 0; i < D; i++) {
            float sum = 0;
            for (int64_t k = 0; k <= t; k++) sum = fmaf(a[4][t * T + k], a[5][k * D + i], sum);
            dq[t * D + i] = sum;
        }
    for (int64_t t = 0; t < T; t++) {
        rotate_back(D, cosines + t * (D / 2), sines + t * (D / 2), dq + t * D);
        rotate_back(D, cosines + t * (D / 2), sines + t * (D / 2), dk + t * D);
    }
    for (int i = 0; i < 6; i++) free(a[i]);
    free(dS);
}

/* ---- 1 and 2 ------------------------------------------------------------------------------------- */

struct data {
    float *cosines, *sines, *qkv, *probs, *out, *dout, *dqkv;
};

static void check_probabilities(const struct definition *g) {
    const int64_t T = g->j->T, D = g->j->D;
    float *q = quantized(g, FPL_ATTN_S_Q, g->q, T, D, 0), *k = quantized(g, FPL_ATTN_S_K, g->k, T, D, 0);
    const struct bounded scale = rounded(1 / sqrt((double)D), HARNESS_U);
    struct bounded *p = harness_alloc(T, sizeof *p);
    for (int64_t t = 0; t < T; t++) {
        double max = (double)-INFINITY, score_error = 0;
        for (int64_t j = 0; j <= t; j++) {
            struct b_sum sum = {0};
            for (int64_t i = 0; i < D; i++)
                b_sum_add(&sum, b_mul(exactly((double)q[t * D + i]), exactly((double)k[j * D + i])));
            p[j] = b_mul(b_mul(b_sum_result(&sum), scale), exactly(1));
            max = fmax(max, p[j].v);
            score_error = fmax(score_error, p[j].e);
        }
        struct b_sum total = {0};
        for (int64_t j = 0; j <= t; j++) {
            const double shifted = p[j].v - max;
            p[j] = b_exp(
                (struct bounded){shifted, p[j].e + 1.01 * HARNESS_U * (fabs(shifted) + 2 * score_error)});
            b_sum_add(&total, p[j]);
        }
        for (int64_t j = 0; j <= t; j++) {
            struct bounded share = b_div(p[j], b_sum_result(&total));
            share.e += HARNESS_U * (share.v + share.e);
            harness_within("probability", t * T + j, (double)g->P[t * T + j], share.v, share.e);
        }
        for (int64_t j = t + 1; j < T; j++) assert_true(g->P[t * T + j] == 0.0f);
    }
    free(p);
    free(q);
    free(k);
}

static void gather(const struct job *j, const float *rows, int64_t row, float *out) {
    for (int64_t t = 0; t < j->T; t++) memcpy(out + t * j->D, rows + t * row, (size_t)j->D * sizeof *out);
}

static int plain_form_keeps_no_probabilities(const struct job *j) {
    return h.kernels->attention_kept(j->B, j->T, j->H, j->D, 0) != j->B * j->H * j->T * j->T;
}

static void check_head(const struct job *j, const struct data *x, int64_t index) {
    const int64_t T = j->T, D = j->D, C = j->H * D, sequence = index / j->H, head = index % j->H;
    const float *qkv = x->qkv + sequence * T * 3 * C + head * D;
    const float *dqkv = x->dqkv + sequence * T * 3 * C + head * D;
    float *m[8];
    for (int i = 0; i < 8; i++) m[i] = harness_alloc(T * D, sizeof(float));
    struct definition g = {.j = j,
                           .replica = (int)(sequence / j->B),
                           .number = (uint64_t)((j->first_sequence + sequence % j->B) * j->H + head),
                           .q = m[0],
                           .k = m[1],
                           .v = m[2],
                           .d = m[3],
                           .P = x->probs + index * T * T};
    for (int i = 0; i < 3; i++) gather(j, qkv + i * C, 3 * C, m[i]);
    gather(j, x->dout + sequence * T * C + head * D, C, m[3]);
    /* The plain form has a test of its own: it normalises last, and may keep something else. */
    if (g.replica == 1 && plain_form_keeps_no_probabilities(j)) {
        for (int i = 0; i < 8; i++) free(m[i]);
        return;
    }
    check_probabilities(&g);
    if (g.replica != 1) {
        define_out(&g, m[4]);
        gather(j, x->out + sequence * T * C + head * D, C, m[5]);
        harness_same_bits("out", m[5], m[4], T * D);
    }
    define_gradients(&g, x->cosines, x->sines, m[4], m[5], m[6]);
    static const char *const names[] = {"dq", "dk", "dv"};
    for (int i = 0; i < 3; i++) {
        gather(j, dqkv + i * C, 3 * C, m[7]);
        harness_same_bits(names[i], m[7], m[4 + i], T * D);
    }
    for (int i = 0; i < 8; i++) free(m[i]);
}

static struct data make_data(const struct job *j, double size) {
    const int64_t C = j->H * j->D, n = j->B * j->T, angles = j->T * (j->D / 2);
    struct data x = {harness_alloc(angles, 4),
                     harness_alloc(angles, 4),
                     harness_floats(REPLICAS * n * 3 * C, size),
                     harness_nans(REPLICAS * j->B * j->H * j->T * j->T),
                     harness_nans(REPLICAS * n * C),
                     harness_floats(REPLICAS * n * C, 1),
                     harness_nans(REPLICAS * n * 3 * C)};
    for (int64_t i = 0; i < angles; i++) {
        const double angle =
            (double)(i / (j->D / 2)) * pow(10000.0, -2.0 * (double)(i % (j->D / 2)) / (double)j->D);
        x.cosines[i] = (float)cos(angle);
        x.sines[i] = (float)sin(angle);
    }
    return x;
}

static void free_data(struct data *x) {
    float *const owned[] = {x->cosines, x->sines, x->qkv, x->probs, x->out, x->dout, x->dqkv};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
}

/* Both passes, all checks; what was counted in each is left in counts. */
static void run(struct job *j, struct data *x, int64_t counts[2][REPLICAS]) {
    const int64_t C = j->H * j->D, n = j->B * j->T, angles = j->T * (j->D / 2);
    const size_t squares = (size_t)(j->B * j->H * j->T * j->T) * 4;
    struct harness_buffer f[] = {{x->cosines, (size_t)angles * 4, 1},
                                 {x->sines, (size_t)angles * 4, 1},
                                 {x->qkv, (size_t)(n * 3 * C) * 4, 0},
                                 {x->probs, squares, 0},
                                 {x->out, (size_t)(n * C) * 4, 0}};
    j->backward = 0;
    j->nonfinite = counts[0];
    harness_run(&h, "quantized attention forward", call, j, REPLICAS, f, 5);
    struct harness_buffer b[] = {{x->cosines, (size_t)angles * 4, 1},  {x->sines, (size_t)angles * 4, 1},
                                 {x->qkv, (size_t)(n * 3 * C) * 4, 0}, {x->probs, squares, 0},
                                 {x->out, (size_t)(n * C) * 4, 0},     {x->dout, (size_t)(n * C) * 4, 0},
                                 {x->dqkv, (size_t)(n * 3 * C) * 4, 0}};
    j->backward = 1;
    j->nonfinite = counts[1];
    harness_run(&h, "quantized attention backward", call, j, REPLICAS, b, 7);
}

static void check(struct job *j, double size) {
    int64_t counts[2][REPLICAS];
    struct data x = make_data(j, size);
    run(j, &x, counts);
    for (int64_t i = 0; i < REPLICAS * j->B * j->H; i++) check_head(j, &x, i);
    for (int r = 0; r < REPLICAS; r++) assert_true(counts[0][r] == 0 && counts[1][r] == 0);
    free_data(&x);
}

static const char *const texts[] = {"e4m3fn/row",
                                    "e4m3fn/1x32:e8m0",
                                    "int8/tensor",
                                    "e5m2ieee:sr/tensor",
                                    "e2m1/1x16:e4m3fn+t",
                                    "e3m2:sr/16x16",
                                    "e4m3fn:sr24/col",
                                    "bf16",
                                    "e5m9:rtz"};
enum { TEXTS = sizeof texts / sizeof *texts };

static void equals_its_definition(void **unused) {
    (void)unused;
    static const int64_t lengths[] = {1, 5, 16, 17, 33, 48}, widths[] = {2, 6, 16, 18, 32};
    for (int i = 0; i < 6; i++)
        for (int w = 0; w < 5; w++) {
            struct job j = {.B = 1 + (i + w) % 2,
                            .T = lengths[i],
                            .H = 1 + (i + 2 * w) % 3,
                            .D = widths[w],
                            .first_sequence = 4 * w};
            harness_seed(600 + (uint64_t)(i * 10 + w));
            for (int s = 0; s < FPL_ATTN_SLOTS; s++)
                for (int r = 0; r < REPLICAS; r++)
                    j.q[s][r] = operand(r == 1 ? "-" : texts[(s + i + 2 * w + r) % TEXTS], s, r);
            check(&j, 1);
        }
    print_message("largest error / bound of probabilities: %.3f\n", harness_worst());
}

/* One slot at a time, the others in high precision: nothing but what its product feeds moves. */
static void each_slot_feeds_its_product(void **unused) {
    (void)unused;
    /* Probabilities are compared with those of no quantizer at all: by the way that keeps them. */
    setenv("FPLAW_CUDA_ATTENTION", "batched", 1);
    struct job plain = {.B = 1, .T = 24, .H = 2, .D = 16};
    int64_t counts[2][REPLICAS];
    const int64_t C = 32, rows = REPLICAS * 24;
    for (int s = 0; s < FPL_ATTN_SLOTS; s++)
        for (int r = 0; r < REPLICAS; r++) plain.q[s][r] = operand("-", s, r);
    harness_seed(11);
    struct data a = make_data(&plain, 1);
    float *before = harness_alloc(rows * 3 * C, 4);
    memcpy(before, a.qkv, (size_t)(rows * 3 * C) * 4);
    run(&plain, &a, counts);
    for (int s = 0; s < FPL_ATTN_SLOTS; s++) {
        struct job j = plain;
        for (int r = 0; r < REPLICAS; r++) j.q[s][r] = operand("e2m1/tensor", s, r);
        harness_seed(11);
        struct data b = make_data(&j, 1);
        assert_memory_equal(b.qkv, before, (size_t)(rows * 3 * C) * 4);
        run(&j, &b, counts);
        double moved[5] = {0}; /* probabilities, out, dq, dk, dv */
        for (int64_t i = 0; i < REPLICAS * 2 * 24 * 24; i++)
            moved[0] += fabs((double)(a.probs[i] - b.probs[i]));
        for (int64_t i = 0; i < rows * C; i++) moved[1] += fabs((double)(a.out[i] - b.out[i]));
        for (int64_t i = 0; i < rows * 3 * C; i++)
            moved[2 + i % (3 * C) / C] += fabs((double)(a.dqkv[i] - b.dqkv[i]));
        const int scores = s <= FPL_ATTN_S_K, dp = s == FPL_ATTN_DP_DOUT || s == FPL_ATTN_DP_V;
        const int expected[5] = {scores, scores || s == FPL_ATTN_OUT_P || s == FPL_ATTN_OUT_V,
                                 scores || dp || s == FPL_ATTN_DQ_DS || s == FPL_ATTN_DQ_K,
                                 scores || dp || s == FPL_ATTN_DK_DS || s == FPL_ATTN_DK_Q,
                                 scores || s == FPL_ATTN_DV_P || s == FPL_ATTN_DV_DOUT};
        /* another order of operations (normalising last) is not another value */
        const double slack = 1e-5 * (double)(rows * C);
        for (int k = 0; k < 5; k++)
            if ((moved[k] > slack) != expected[k])
                fail_msg("slot %d, result %d: moved %.3g, %s", s, k, moved[k],
                         expected[k] ? "should have" : "should not have");
        free_data(&b);
    }
    free_data(&a);
    free(before);
}

static void nonfinite_inputs_are_counted(void **unused) {
    (void)unused;
    struct job j = {.B = 1, .T = 20, .H = 1, .D = 8};
    int64_t counts[2][REPLICAS];
    for (int s = 0; s < FPL_ATTN_SLOTS; s++)
        for (int r = 0; r < REPLICAS; r++)
            j.q[s][r] = operand(s == FPL_ATTN_OUT_V || s == FPL_ATTN_DP_DOUT ? "e4m3/row" : "-", s, r);
    harness_seed(3);
    struct data x = make_data(&j, 1);
    x.qkv[2 * 8 + 5] = INFINITY;   /* replica 0: v of position 0 */
    x.dout[2 * 20 * 8 + 17] = NAN; /* replica 2 */
    x.dout[2 * 20 * 8 + 18] = -INFINITY;
    run(&j, &x, counts);
    assert_int_equal(counts[0][0], 1);
    assert_int_equal(counts[0][1] + counts[0][2], 0);
    assert_int_equal(counts[1][0] + counts[1][1], 0);
    assert_int_equal(counts[1][2], 2);
    free_data(&x);
}

/* ---- 3: gradients in double ------------------------------------------------------------------------- */

/* sum of out * weight */
static double objective(const struct job *j, const double *cosines, const double *sines, const double *qkv,
                        const double *weight) {
    const int64_t C = j->H * j->D, n = j->B * j->T;
    double *x = harness_alloc(n * 3 * C, sizeof *x), *out = harness_alloc(n * C, sizeof *out), sum = 0;
    double *P = harness_alloc(j->B * j->H * j->T * j->T, sizeof *P);
    memcpy(x, qkv, (size_t)(n * 3 * C) * sizeof *x);
    ref_attention_forward(1, j->B, j->T, j->H, j->D, cosines, sines, x, P, out, NULL);
    for (int64_t i = 0; i < n * C; i++) sum += out[i] * weight[i];
    free(x);
    free(out);
    free(P);
    return sum;
}

static void fine_quantizers_keep_the_gradient(void **unused) {
    (void)unused;
    struct job j = {.B = 2, .T = 7, .H = 2, .D = 4};
    const int64_t C = 8, n = 14;
    struct fpl_attention a = {.first_sequence = 0};
    /* 22 bits of mantissa: relative errors of 2^-23 in every operand */
    for (int s = 0; s < FPL_ATTN_SLOTS; s++) {
        j.q[s][0] = operand("e8m22ieee", s, 0);
        a.slot[s] = j.q[s];
    }
    harness_seed(21);
    struct data f = make_data(&j, 0.7);
    double *c = harness_widen(f.cosines, 14), *s = harness_widen(f.sines, 14);
    double *raw = harness_widen(f.qkv, n * 3 * C), *x = harness_widen(f.qkv, n * 3 * C);
    double *w = harness_widen(f.dout, n * C), *out = harness_alloc(n * C, sizeof *out);
    double *P = harness_alloc(4 * 49, sizeof *P), *dx = harness_alloc(n * 3 * C, sizeof *dx);
    ref_attention_forward(1, 2, 7, 2, 4, c, s, x, P, out, &a);
    ref_attention_backward(1, 2, 7, 2, 4, c, s, x, P, w, dx, &a);
    double error = 0, norm = 0;
    for (int64_t i = 0; i < n * 3 * C; i++) {
        const double keep = raw[i], step = 0x1p-12;
        raw[i] = keep + step;
        const double high = objective(&j, c, s, raw, w);
        raw[i] = keep - step;
        const double slope = (high - objective(&j, c, s, raw, w)) / (2 * step);
        raw[i] = keep;
        error += (slope - dx[i]) * (slope - dx[i]);
        norm += slope * slope;
    }
    /* truncation 2^-24 f''' / 6 and rounded operands 2^-23, a few of each */
    if (!(sqrt(error / norm) < 0x1p-19)) fail_msg("relative error %.3g", sqrt(error / norm));
    double *const owned[] = {c, s, raw, x, w, out, P, dx};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
    free_data(&f);
}

static int open_all(void **unused) {
    (void)unused;
    harness_open(&h);
    return 0;
}

static int close_all(void **unused) {
    (void)unused;
    harness_close(&h);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_its_definition),
        cmocka_unit_test(each_slot_feeds_its_product),
        cmocka_unit_test(nonfinite_inputs_are_counted),
        cmocka_unit_test(fine_quantizers_keep_the_gradient),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
