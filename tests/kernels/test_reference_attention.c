/* test_reference_attention.c - attention of the backend against the double reference.
 *
 * Bounds come from running error analysis: the formulas of the operation are evaluated once
 * more in struct bounded (harness.h), which carries the largest error that float32 roundings
 * in any order of summation can have made, exp within HARNESS_EXP u.  The backward pass is
 * given the backend's own rotated q, k and what it kept, so its inputs are exact.
 *
 * A backend keeps the probabilities, or of each query -s max and 1 / sum (kernels/cuda/attention.h), from
 * which it makes them anew: then the test does so in double, and their roundings enter the bounds.
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
    hh->kernels->attention_backward(dev, R, s->B, s->T, s->H, s->D, p[0], p[1], p[2], p[3], p[4], p[5], p[6],
                                    NULL);
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

/* Keys that a backend takes at a time where it normalises as it goes. */
enum { TILE = 64 };

static int keeps_probabilities(const struct shape *s) {
    return h.kernels->attention_kept(s->B, s->T, s->H, s->D, 0) == s->B * s->H * s->T * s->T;
}

/* Bounds of the forward pass of one query: probabilities p[0..t] and output o[D]. */
static void bound_query(const struct head *g, int64_t t, const struct bounded *q, const struct bounded *k,
                        struct bounded *p, struct bounded *o) {
    const int64_t D = g->s->D;
    const struct bounded scale = rounded(1 / sqrt((double)D), HARNESS_U);
    double max = 0, score_error = 0, largest = 0;
    for (int64_t j = 0; j <= t; j++) {
        struct b_sum sum = {0};
        for (int64_t i = 0; i < D; i++) b_sum_add(&sum, b_mul(q[t * D + i], k[j * D + i]));
        /* the scale may be applied to q, to the sum, or as a division */
        p[j] = b_mul(b_mul(b_sum_result(&sum), scale), exactly(1));
        if (j == 0 || p[j].v > max) max = p[j].v;
        if (p[j].e > score_error) score_error = p[j].e;
        largest = fmax(largest, fabs(p[j].v) + p[j].e);
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
    struct bounded sum = b_sum_result(&total);
    /* Between tiles the sums so far are multiplied by exp(-s m' + s m): of two rounded products a rounded
     * difference, an exponential, a product, and an addition more. */
    const double tiles = keeps_probabilities(g->s) ? 0 : (double)(t / TILE);
    const double each = HARNESS_U * (4 * largest + HARNESS_EXP + 3);
    sum.e += 1.01 * tiles * each * (sum.v + sum.e);
    for (int64_t j = 0; j <= t; j++) {
        p[j].e += 1.01 * tiles * each * (p[j].v + p[j].e);
        p[j] = b_div(p[j], sum);
        p[j].e += HARNESS_U * (p[j].v + p[j].e); /* multiplied by a reciprocal, perhaps */
    }
    for (int64_t i = 0; i < D; i++) {
        struct b_sum out = {0};
        for (int64_t j = 0; j <= t; j++) b_sum_add(&out, b_mul(p[j], exactly(part(g, j, 2)[i])));
        o[i] = b_sum_result(&out);
    }
}

static void check_head_forward(const struct head *g, const float *qkv, const struct bounded *probs,
                               const float *out, const double *ref_qkv, const double *ref_probs,
                               const double *ref_out) {
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
                assert_true(probs[t * T + j].v == 0.0);
            else
                harness_within("probabilities", t * T + j, probs[t * T + j].v, ref_probs[t * T + j], p[j].e);
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

/* Error of sum_d dout out against sum_j P dP, where a backend takes the one for the other; out is its own. */
static double delta_error(const struct head *g, const float *out, const double *d, int64_t t, double mean) {
    const int64_t at = t * g->s->H * g->s->D + g->h * g->s->D;
    struct b_sum sum = {0};
    for (int64_t i = 0; i < g->s->D; i++) b_sum_add(&sum, b_mul(exactly(d[i]), exactly((double)out[at + i])));
    const struct bounded delta = b_sum_result(&sum);
    return delta.e + fabs(delta.v - mean);
}

/* Bounds of one head's gradients before rotation back: dq, dk, dv [T, D]. */
static void bound_backward(const struct head *g, const struct bounded *probs, const float *out,
                           const double *dout, struct bounded *dq, struct bounded *dk, struct bounded *dv) {
    const int64_t T = g->s->T, D = g->s->D, C = g->s->H * D;
    const struct bounded scale = rounded(1 / sqrt((double)D), HARNESS_U);
    struct bounded *dS = harness_alloc(T * T, sizeof *dS);
    for (int64_t t = 0; t < T; t++) {
        const double *d = dout + t * C + g->h * D;
        const struct bounded *p = probs + t * T;
        struct b_sum mean = {0};
        for (int64_t j = 0; j <= t; j++) {
            struct b_sum sum = {0};
            for (int64_t i = 0; i < D; i++) b_sum_add(&sum, b_mul(exactly(d[i]), exactly(part(g, j, 2)[i])));
            dS[t * T + j] = b_sum_result(&sum);
            b_sum_add(&mean, b_mul(p[j], dS[t * T + j]));
        }
        struct bounded m = b_sum_result(&mean);
        if (!keeps_probabilities(g->s)) m.e = delta_error(g, out, d, t, m.v);
        for (int64_t j = 0; j <= t; j++) dS[t * T + j] = b_mul(b_mul(p[j], b_sub(dS[t * T + j], m)), scale);
    }
    for (int64_t t = 0; t < T; t++) {
        for (int64_t i = 0; i < D; i++) {
            struct b_sum sq = {0}, sk = {0}, sv = {0};
            for (int64_t j = 0; j <= t; j++) b_sum_add(&sq, b_mul(dS[t * T + j], exactly(part(g, j, 1)[i])));
            for (int64_t j = t; j < T; j++) {
                b_sum_add(&sk, b_mul(dS[j * T + t], exactly(part(g, j, 0)[i])));
                b_sum_add(&sv, b_mul(probs[j * T + t], exactly(dout[j * C + g->h * D + i])));
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

static void check_head_backward(const struct head *g, const struct bounded *probs, const float *out,
                                const double *dout, const float *dqkv, const double *ref_dqkv) {
    const int64_t T = g->s->T, D = g->s->D, C = g->s->H * D;
    struct bounded *dq = harness_alloc(T * D, sizeof *dq), *dk = harness_alloc(T * D, sizeof *dk);
    struct bounded *dv = harness_alloc(T * D, sizeof *dv);
    bound_backward(g, probs, out, dout, dq, dk, dv);
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

/* Probabilities of one head from rotated q, k, from rows [T, 3C], and what was kept of it. */
static void recall(const struct head *g, const float *kept, struct bounded *p) {
    const int64_t T = g->s->T, D = g->s->D;
    const double scale = (double)(float)(1 / sqrt((double)D));
    for (int64_t i = 0; i < T * T; i++) {
        const int64_t t = i / T, j = i % T;
        p[i] = exactly(0);
        if (j > t) continue;
        if (keeps_probabilities(g->s)) {
            p[i] = exactly((double)kept[i]);
            continue;
        }
        struct b_sum sum = {0};
        for (int64_t d = 0; d < D; d++)
            b_sum_add(&sum, b_mul(exactly(part(g, t, 0)[d]), exactly(part(g, j, 1)[d])));
        p[i] = b_add(b_mul(b_sum_result(&sum), exactly(scale)), exactly((double)kept[2 * t]));
        p[i] = b_mul(b_exp(p[i]), exactly((double)kept[2 * t + 1]));
    }
}

static void check_attention(int R, struct shape s, double size) {
    const int64_t C = s.H * s.D, n = s.B * s.T, angles = s.T * (s.D / 2), grid = s.B * s.H * s.T * s.T;
    const int64_t keeps = h.kernels->attention_kept(s.B, s.T, s.H, s.D, 0);
    float *cosines = harness_alloc(angles, sizeof *cosines), *sines = harness_alloc(angles, sizeof *sines);
    for (int64_t i = 0; i < angles; i++) {
        const double angle =
            (double)(i / (s.D / 2)) * pow(10000.0, -2.0 * (double)(i % (s.D / 2)) / (double)s.D);
        cosines[i] = (float)cos(angle);
        sines[i] = (float)sin(angle);
    }
    float *qkv = harness_floats(R * n * 3 * C, size), *kept = harness_nans(R * keeps),
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
                                 {kept, BYTES(keeps), 0},
                                 {out, BYTES(n * C), 0}};
    harness_run(&h, "attention_forward", call_forward, &s, R, f, 5);

    double *in_qkv = harness_widen(qkv, R * n * 3 * C), *in_probs = harness_alloc(R * grid, sizeof *in_probs);
    struct bounded *p = harness_alloc(R * grid, sizeof *p);
    for (int64_t i = 0; i < R * s.B * s.H; i++) {
        const struct head g = {&s, w_cos, w_sin, in_qkv + i / s.H * s.T * 3 * C, i % s.H};
        recall(&g, kept + i * (keeps / (s.B * s.H)), p + i * s.T * s.T);
    }
    for (int64_t i = 0; i < R * grid; i++) in_probs[i] = p[i].v;
    double *w_dout = harness_widen(dout, R * n * C), *w_dqkv = harness_alloc(R * n * 3 * C, sizeof *w_dqkv);
    ref_attention_backward(R, s.B, s.T, s.H, s.D, w_cos, w_sin, in_qkv, in_probs, w_dout, w_dqkv, NULL);
    struct harness_buffer b[] = {{cosines, BYTES(angles), 1}, {sines, BYTES(angles), 1},
                                 {qkv, BYTES(n * 3 * C), 0},  {kept, BYTES(keeps), 0},
                                 {out, BYTES(n * C), 0},      {dout, BYTES(n * C), 0},
                                 {dqkv, BYTES(n * 3 * C), 0}};
    harness_run(&h, "attention_backward", call_backward, &s, R, b, 7);

    for (int64_t i = 0; i < R * s.B; i++) {
        for (int64_t head = 0; head < s.H; head++) {
            const int64_t rows = i * s.T, square = (i * s.H + head) * s.T * s.T;
            struct head g = {&s, w_cos, w_sin, before + rows * 3 * C, head};
            check_head_forward(&g, qkv + rows * 3 * C, p + square, out + rows * C, w_qkv + rows * 3 * C,
                               w_probs + square, w_out + rows * C);
            g.x = in_qkv + rows * 3 * C;
            check_head_backward(&g, p + square, out + rows * C, w_dout + rows * C, dqkv + rows * 3 * C,
                                w_dqkv + rows * 3 * C);
        }
    }
    void *const owned[] = {cosines, sines,  qkv,   kept,    p,     out,    dout,     dqkv,   w_cos,
                           w_sin,   before, w_qkv, w_probs, w_out, in_qkv, in_probs, w_dout, w_dqkv};
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
    static const struct shape shapes[] = {
        {2, 20, 2, 16}, {1, 64, 1, 8}, {1, 130, 1, 8}, {1, 129, 2, 34}, {1, 66, 1, 66}};
    for (int i = 0; i < 5; i++) {
        harness_seed(900 + (uint64_t)i);
        check_attention(2, shapes[i], 7);
    }
    print_message("largest error / bound: %.3f\n", harness_worst());
}

static void run_once(const struct shape *s, float *const f[7]) {
    const int64_t C = s->H * s->D, n = s->B * s->T, angles = s->T * (s->D / 2);
    const int64_t keeps = h.kernels->attention_kept(s->B, s->T, s->H, s->D, 0);
    struct harness_buffer forward[] = {{f[0], BYTES(angles), 1},
                                       {f[1], BYTES(angles), 1},
                                       {f[2], BYTES(n * 3 * C), 0},
                                       {f[3], BYTES(keeps), 0},
                                       {f[4], BYTES(n * C), 0}};
    harness_run(&h, "attention_forward", call_forward, s, 1, forward, 5);
    struct harness_buffer backward[] = {forward[0],
                                        forward[1],
                                        forward[2],
                                        forward[3],
                                        forward[4],
                                        {f[5], BYTES(n * C), 0},
                                        {f[6], BYTES(n * 3 * C), 0}};
    harness_run(&h, "attention_backward", call_backward, s, 1, backward, 7);
}

enum { SEEN_T = 67, SEEN_D = 6 };

/* The same inputs twice, the second time with NaN: at positions [from, to), dq (0, and out), dk (1) or dv (2)
 * keep their bits. */
static void expect_unseen(void (*spoil)(float *qkv, float *dout), int64_t from, int64_t to, int gradient) {
    const struct shape s = {1, SEEN_T, 1, SEEN_D};
    const int64_t T = s.T, D = s.D,
                  sizes[7] = {T * D / 2, T * D / 2, T * 3 * D, T * T, T * D, T * D, T * 3 * D};
    float *plain[7], *spoilt[7];
    harness_seed(77);
    for (int i = 0; i < 7; i++) {
        plain[i] = harness_floats(sizes[i], 1);
        spoilt[i] = harness_alloc(sizes[i], sizeof(float));
        memcpy(spoilt[i], plain[i], BYTES(sizes[i]));
    }
    spoil(spoilt[2], spoilt[5]);
    run_once(&s, plain);
    run_once(&s, spoilt);
    if (gradient == 0) harness_same_bits("out", spoilt[4] + from * D, plain[4] + from * D, (to - from) * D);
    for (int64_t t = from; t < to; t++) {
        const int64_t at = (t * 3 + gradient) * D;
        harness_same_bits(gradient == 0   ? "dq"
                          : gradient == 1 ? "dk"
                                          : "dv",
                          spoilt[6] + at, plain[6] + at, D);
    }
    for (int i = 0; i < 7; i++) {
        free(plain[i]);
        free(spoilt[i]);
    }
}

static void spoil_last(float *qkv, float *dout) {
    for (int64_t i = 65 * 3 * SEEN_D; i < SEEN_T * 3 * SEEN_D; i++) qkv[i] = i % 3 != 0 ? NAN : INFINITY;
    for (int64_t i = 65 * SEEN_D; i < SEEN_T * SEEN_D; i++) dout[i] = NAN;
}

static void spoil_first(float *qkv, float *dout) {
    (void)qkv;
    for (int64_t i = 0; i < SEEN_D; i++) dout[i] = NAN;
}

/* No query sees a later position, no key's gradient an earlier query, not even by its NaN.  The CPU's row
 * sums of P dP take whole tiles of sixteen keys: there a NaN reaches back to its tile's start. */
static void others_are_not_seen(void **unused) {
    (void)unused;
    const struct shape s = {1, SEEN_T, 1, SEEN_D};
    expect_unseen(spoil_last, 0, keeps_probabilities(&s) ? 64 : 65, 0);
    expect_unseen(spoil_first, 1, SEEN_T, 1);
    expect_unseen(spoil_first, 1, SEEN_T, 2);
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
        cmocka_unit_test(others_are_not_seen),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
