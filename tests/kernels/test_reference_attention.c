/* test_reference_attention.c - attention of the backend against the double reference.
 *
 * Bounds come from running error analysis: the formulas of the operation are evaluated once
 * more in struct bounded (harness.h), which carries the largest error that float32 roundings
 * in any order of summation can have made, exp within HARNESS_EXP u.  The backward pass is
 * given the backend's own rotated q, k and probabilities, so its inputs are exact.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../ref/harness.h"
#include "../ref/reference.h"

static struct harness h;

struct shape {
    int64_t B, T, H, D;
};

#define BYTES(count) ((size_t)(count) * sizeof(float))

static void call_forward(const struct harness *hh, struct fpl_device *dev, int first, int R, void **p,
                         const void *shape) {
    const struct shape *s = shape;
    (void)first;
    hh->kernels->attention_forward(dev, R, s->B, s->T, s->H, s->D, p[0], p[1], p[2], p[3], p[4], NULL);
}

static void call_backward(const struct harness *hh, struct fpl_device *dev, int first, int R, void **p,
                          const void *shape) {
    const struct shape *s = shape;
    (void)first;
    hh->kernels->attention_backward(dev, R, s->B, s->T, s->H, s->D, p[0], p[1], p[2], p[3], p[4], p[5], NULL);
}

static struct bounded rotated(const double *x, const double *c, const double *s, int64_t i, int64_t D,
                              double direction) {
    const int64_t pair = i % (D / 2);
    const struct bounded low = exactly(x[pair]), high = exactly(x[pair + D / 2]);
    const struct bounded cosine = exactly(c[pair]), sine = exactly(direction * s[pair]);
    if (i < D / 2) return b_sub(b_mul(cosine, low), b_mul(sine, high));
    return b_add(b_mul(cosine, high), b_mul(sine, low));
}

/* One head of one sequence: all with strides of the fused rows. */
struct head {
    const struct shape *s;
    const double *cosines, *sines, *x; /* x: rows of this sequence, before rotation */
    int64_t h;
};

static const double *part(const struct head *g, int64_t t, int which) {
    const int64_t C = g->s->H * g->s->D;
    return g->x + t * 3 * C + which * C + g->h * g->s->D;
}

/* Bounds of the forward pass of one query: probabilities p[0..t] and output o[D]. */
static void bound_query(const struct head *g, int64_t t, const struct bounded *q, const struct bounded *k,
                        struct bounded *p, struct bounded *o) {
    const int64_t D = g->s->D;
    const struct bounded scale = rounded(1 / sqrt((double)D), HARNESS_U);
    double max = 0, score_error = 0;
    for (int64_t j = 0; j <= t; j++) {
        struct b_sum sum = {0};
        for (int64_t i = 0; i < D; i++) b_sum_add(&sum, b_mul(q[t * D + i], k[j * D + i]));
        /* the scale may be applied to q, to the sum, or as a division */
        p[j] = b_mul(b_mul(b_sum_result(&sum), scale), exactly(1));
        if (j == 0 || p[j].v > max) max = p[j].v;
        if (p[j].e > score_error) score_error = p[j].e;
    }
    /* Softmax does not change when all scores shift together, so the maximum that is
     * subtracted has no error of its own; the subtraction rounds once. */
    struct b_sum total = {0};
    for (int64_t j = 0; j <= t; j++) {
        const double shifted = p[j].v - max;
        p[j] =
            b_exp((struct bounded){shifted, p[j].e + 1.01 * HARNESS_U * (fabs(shifted) + 2 * score_error)});
        b_sum_add(&total, p[j]);
    }
    const struct bounded sum = b_sum_result(&total);
    for (int64_t j = 0; j <= t; j++) {
        p[j] = b_div(p[j], sum);
        p[j].e += HARNESS_U * (p[j].v + p[j].e); /* multiplied by a reciprocal, perhaps */
    }
    for (int64_t i = 0; i < D; i++) {
        struct b_sum out = {0};
        for (int64_t j = 0; j <= t; j++) b_sum_add(&out, b_mul(p[j], exactly(part(g, j, 2)[i])));
        o[i] = b_sum_result(&out);
    }
}

static void check_head_forward(const struct head *g, const float *qkv, const float *probs, const float *out,
                               const double *ref_qkv, const double *ref_probs, const double *ref_out) {
    const int64_t T = g->s->T, D = g->s->D, C = g->s->H * D;
    struct bounded *q = harness_alloc(T * D, sizeof *q), *k = harness_alloc(T * D, sizeof *k);
    struct bounded *p = harness_alloc(T, sizeof *p), *o = harness_alloc(D, sizeof *o);
    for (int64_t t = 0; t < T; t++) {
        for (int64_t i = 0; i < D; i++) {
            const double *c = g->cosines + t * (D / 2), *s = g->sines + t * (D / 2);
            q[t * D + i] = rotated(part(g, t, 0), c, s, i, D, 1);
            k[t * D + i] = rotated(part(g, t, 1), c, s, i, D, 1);
            const int64_t at = t * 3 * C + g->h * D + i;
            harness_within("rotated q", at, (double)qkv[at], ref_qkv[at], q[t * D + i].e);
            harness_within("rotated k", at + C, (double)qkv[at + C], ref_qkv[at + C], k[t * D + i].e);
            assert_true((double)qkv[at + 2 * C] == ref_qkv[at + 2 * C]);
        }
    }
    for (int64_t t = 0; t < T; t++) {
        bound_query(g, t, q, k, p, o);
        for (int64_t j = 0; j < T; j++) {
            if (j > t)
                assert_true(probs[t * T + j] == 0.0f);
            else
                harness_within("probabilities", t * T + j, (double)probs[t * T + j], ref_probs[t * T + j],
                               p[j].e);
        }
        for (int64_t i = 0; i < D; i++) {
            const int64_t at = t * C + g->h * D + i;
            harness_within("attention out", at, (double)out[at], ref_out[at], o[i].e);
        }
    }
    free(q);
    free(k);
    free(p);
    free(o);
}

/* Bounds of one head's gradients before rotation back: dq, dk, dv [T, D]. */
static void bound_backward(const struct head *g, const double *probs, const double *dout, struct bounded *dq,
                           struct bounded *dk, struct bounded *dv) {
    const int64_t T = g->s->T, D = g->s->D, C = g->s->H * D;
    const struct bounded scale = rounded(1 / sqrt((double)D), HARNESS_U);
    struct bounded *dS = harness_alloc(T * T, sizeof *dS);
    for (int64_t t = 0; t < T; t++) {
        const double *d = dout + t * C + g->h * D, *p = probs + t * T;
        struct b_sum mean = {0};
        for (int64_t j = 0; j <= t; j++) {
            struct b_sum sum = {0};
            for (int64_t i = 0; i < D; i++) b_sum_add(&sum, b_mul(exactly(d[i]), exactly(part(g, j, 2)[i])));
            dS[t * T + j] = b_sum_result(&sum);
            b_sum_add(&mean, b_mul(exactly(p[j]), dS[t * T + j]));
        }
        const struct bounded m = b_sum_result(&mean);
        for (int64_t j = 0; j <= t; j++)
            dS[t * T + j] = b_mul(b_mul(exactly(p[j]), b_sub(dS[t * T + j], m)), scale);
    }
    for (int64_t t = 0; t < T; t++) {
        for (int64_t i = 0; i < D; i++) {
            struct b_sum sq = {0}, sk = {0}, sv = {0};
            for (int64_t j = 0; j <= t; j++) b_sum_add(&sq, b_mul(dS[t * T + j], exactly(part(g, j, 1)[i])));
            for (int64_t j = t; j < T; j++) {
                b_sum_add(&sk, b_mul(dS[j * T + t], exactly(part(g, j, 0)[i])));
                b_sum_add(&sv, b_mul(exactly(probs[j * T + t]), exactly(dout[j * C + g->h * D + i])));
            }
            dq[t * D + i] = b_sum_result(&sq);
            dk[t * D + i] = b_sum_result(&sk);
            dv[t * D + i] = b_sum_result(&sv);
            /* the scale may also be applied last: one rounding more */
            dq[t * D + i].e += HARNESS_U * (fabs(dq[t * D + i].v) + dq[t * D + i].e);
            dk[t * D + i].e += HARNESS_U * (fabs(dk[t * D + i].v) + dk[t * D + i].e);
        }
    }
    free(dS);
}

/* Error of rotating back one component of x. */
static double rotated_error(const struct bounded *x, const double *c, const double *s, int64_t i, int64_t D) {
    const int64_t pair = i % (D / 2);
    const struct bounded low = x[pair], high = x[pair + D / 2];
    if (i < D / 2) return b_add(b_mul(exactly(c[pair]), low), b_mul(exactly(s[pair]), high)).e;
    return b_sub(b_mul(exactly(c[pair]), high), b_mul(exactly(s[pair]), low)).e;
}

static void check_head_backward(const struct head *g, const double *probs, const double *dout,
                                const float *dqkv, const double *ref_dqkv) {
    const int64_t T = g->s->T, D = g->s->D, C = g->s->H * D;
    struct bounded *dq = harness_alloc(T * D, sizeof *dq), *dk = harness_alloc(T * D, sizeof *dk);
    struct bounded *dv = harness_alloc(T * D, sizeof *dv);
    bound_backward(g, probs, dout, dq, dk, dv);
    for (int64_t t = 0; t < T; t++) {
        const double *c = g->cosines + t * (D / 2), *s = g->sines + t * (D / 2);
        for (int64_t i = 0; i < D; i++) {
            const int64_t at = t * 3 * C + g->h * D + i;
            harness_within("dq", at, (double)dqkv[at], ref_dqkv[at], rotated_error(dq + t * D, c, s, i, D));
            harness_within("dk", at + C, (double)dqkv[at + C], ref_dqkv[at + C],
                           rotated_error(dk + t * D, c, s, i, D));
            harness_within("dv", at + 2 * C, (double)dqkv[at + 2 * C], ref_dqkv[at + 2 * C], dv[t * D + i].e);
        }
    }
    free(dq);
    free(dk);
    free(dv);
}

static void check_attention(int R, struct shape s, double size) {
    const int64_t C = s.H * s.D, n = s.B * s.T, angles = s.T * (s.D / 2), grid = s.B * s.H * s.T * s.T;
    float *cosines = harness_alloc(angles, sizeof *cosines), *sines = harness_alloc(angles, sizeof *sines);
    for (int64_t i = 0; i < angles; i++) {
        const double angle =
            (double)(i / (s.D / 2)) * pow(10000.0, -2.0 * (double)(i % (s.D / 2)) / (double)s.D);
        cosines[i] = (float)cos(angle);
        sines[i] = (float)sin(angle);
    }
    float *qkv = harness_floats(R * n * 3 * C, size), *probs = harness_nans(R * grid),
          *out = harness_nans(R * n * C);
    float *dout = harness_floats(R * n * C, 1), *dqkv = harness_nans(R * n * 3 * C);
    double *w_cos = harness_widen(cosines, angles), *w_sin = harness_widen(sines, angles);
    double *before = harness_widen(qkv, R * n * 3 * C), *w_qkv = harness_widen(qkv, R * n * 3 * C);
    double *w_probs = harness_alloc(R * grid, sizeof *w_probs),
           *w_out = harness_alloc(R * n * C, sizeof *w_out);
    ref_attention_forward(R, s.B, s.T, s.H, s.D, w_cos, w_sin, w_qkv, w_probs, w_out, NULL);
    struct harness_buffer f[] = {{cosines, BYTES(angles), 1},
                                 {sines, BYTES(angles), 1},
                                 {qkv, BYTES(n * 3 * C), 0},
                                 {probs, BYTES(grid), 0},
                                 {out, BYTES(n * C), 0}};
    harness_run(&h, "attention_forward", call_forward, &s, R, f, 5);

    double *in_qkv = harness_widen(qkv, R * n * 3 * C), *in_probs = harness_widen(probs, R * grid);
    double *w_dout = harness_widen(dout, R * n * C), *w_dqkv = harness_alloc(R * n * 3 * C, sizeof *w_dqkv);
    ref_attention_backward(R, s.B, s.T, s.H, s.D, w_cos, w_sin, in_qkv, in_probs, w_dout, w_dqkv, NULL);
    struct harness_buffer b[] = {{cosines, BYTES(angles), 1}, {sines, BYTES(angles), 1},
                                 {qkv, BYTES(n * 3 * C), 0},  {probs, BYTES(grid), 0},
                                 {dout, BYTES(n * C), 0},     {dqkv, BYTES(n * 3 * C), 0}};
    harness_run(&h, "attention_backward", call_backward, &s, R, b, 6);

    for (int64_t i = 0; i < R * s.B; i++) {
        for (int64_t head = 0; head < s.H; head++) {
            const int64_t rows = i * s.T, square = (i * s.H + head) * s.T * s.T;
            struct head g = {&s, w_cos, w_sin, before + rows * 3 * C, head};
            check_head_forward(&g, qkv + rows * 3 * C, probs + square, out + rows * C, w_qkv + rows * 3 * C,
                               w_probs + square, w_out + rows * C);
            g.x = in_qkv + rows * 3 * C;
            check_head_backward(&g, in_probs + square, w_dout + rows * C, dqkv + rows * 3 * C,
                                w_dqkv + rows * 3 * C);
        }
    }
    void *const owned[] = {cosines, sines, qkv,     probs, out,    dout,     dqkv,   w_cos, w_sin,
                           before,  w_qkv, w_probs, w_out, in_qkv, in_probs, w_dout, w_dqkv};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
}

static void test_shapes(void **unused) {
    (void)unused;
    static const int64_t lengths[] = {1, 2, 5, 15, 16, 17, 33, 64}, widths[] = {2, 4, 6, 16, 18, 32};
    for (int i = 0; i < 8; i++) {
        for (int j = 0; j < 6; j++) {
            harness_seed(100 + (uint64_t)(i * 10 + j));
            const struct shape s = {
                .B = 1 + (i + j) % 3, .T = lengths[i], .H = 1 + (i + 2 * j) % 4, .D = widths[j]};
            check_attention(1 + (2 * i + j) % 3, s, 1);
        }
    }
    print_message("largest error / bound: %.3f\n", harness_worst());
}

/* Large scores: probabilities from 1 down to below the smallest float32. */
static void test_peaked(void **unused) {
    (void)unused;
    static const struct shape shapes[] = {{2, 20, 2, 16}, {1, 64, 1, 8}};
    for (int i = 0; i < 2; i++) {
        harness_seed(900 + (uint64_t)i);
        check_attention(2, shapes[i], 7);
    }
    print_message("largest error / bound: %.3f\n", harness_worst());
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
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_peaked),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
