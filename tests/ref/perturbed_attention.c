/* perturbed_attention.c - attention with float32-sized errors (formulas: reference_attention.c). */
#include "perturbed_internal.h"

#include <stdlib.h>

/* One head of one sequence: rows of width 3C in x, C in out. */
struct head {
    int64_t T, C, D, h;
    const double *cosines, *sines;
};

static int64_t part(const struct head *g, int64_t t, int which) {
    return t * 3 * g->C + which * g->C + g->h * g->D;
}

static void rotate(const struct head *g, double *x, int64_t t, double direction) {
    const int64_t half = g->D / 2;
    for (int64_t i = 0; i < half; i++) {
        const struct bounded c = get(g->cosines + t * half + i);
        struct bounded s = get(g->sines + t * half + i);
        s.v *= direction;
        const struct bounded low = get(x + i), high = get(x + i + half);
        put(x + i, b_sub(b_mul(c, low), b_mul(s, high)));
        put(x + i + half, b_add(b_mul(c, high), b_mul(s, low)));
    }
}

static struct bounded dot(const double *a, const double *b, int64_t D) {
    struct b_sum sum = {0};
    for (int64_t i = 0; i < D; i++) b_sum_add(&sum, b_mul(get(a + i), get(b + i)));
    return b_sum_result(&sum);
}

struct bounded perturbed_exponentials(struct bounded *x, int64_t n, double *max) {
    double error = 0;
    struct b_sum sum = {0};
    *max = x[0].v;
    for (int64_t j = 0; j < n; j++) {
        *max = x[j].v > *max ? x[j].v : *max;
        error = x[j].e > error ? x[j].e : error;
    }
    for (int64_t j = 0; j < n; j++) {
        const double shifted = x[j].v - *max;
        x[j] = b_exp((struct bounded){shifted, x[j].e + HARNESS_U * (fabs(shifted) + 2 * error)});
        b_sum_add(&sum, x[j]);
    }
    return b_sum_result(&sum);
}

static struct bounded root_scale(int64_t D) { return rounded(1 / sqrt((double)D), HARNESS_U); }

static void head_forward(const struct head *g, double *x, double *P, double *out) {
    struct bounded *p = harness_alloc(g->T, sizeof *p);
    for (int64_t t = 0; t < g->T; t++) {
        rotate(g, x + part(g, t, 0), t, 1);
        rotate(g, x + part(g, t, 1), t, 1);
    }
    for (int64_t t = 0; t < g->T; t++) {
        double max;
        for (int64_t j = 0; j <= t; j++)
            p[j] = b_mul(dot(x + part(g, t, 0), x + part(g, j, 1), g->D), root_scale(g->D));
        const struct bounded sum = perturbed_exponentials(p, t + 1, &max);
        for (int64_t j = 0; j < g->T; j++)
            put(P + t * g->T + j, j <= t ? b_mul(b_div(p[j], sum), exactly(1)) : exactly(0));
        for (int64_t i = 0; i < g->D; i++) {
            struct b_sum o = {0};
            for (int64_t j = 0; j <= t; j++)
                b_sum_add(&o, b_mul(get(P + t * g->T + j), get(x + part(g, j, 2) + i)));
            put(out + t * g->C + g->h * g->D + i, b_sum_result(&o));
        }
    }
    free(p);
}

static void score_gradients(const struct head *g, const double *x, const double *P, const double *dout,
                            struct bounded *dS) {
    for (int64_t t = 0; t < g->T; t++) {
        struct b_sum mean = {0};
        struct bounded *row = dS + t * g->T;
        for (int64_t j = 0; j <= t; j++) {
            row[j] = dot(dout + t * g->C + g->h * g->D, x + part(g, j, 2), g->D);
            b_sum_add(&mean, b_mul(get(P + t * g->T + j), row[j]));
        }
        const struct bounded m = b_sum_result(&mean);
        for (int64_t j = 0; j <= t; j++)
            row[j] = b_mul(b_mul(get(P + t * g->T + j), b_sub(row[j], m)), root_scale(g->D));
    }
}

static void head_backward(const struct head *g, const double *x, const double *P, const double *dout,
                          double *dx) {
    struct bounded *dS = harness_alloc(g->T * g->T, sizeof *dS);
    score_gradients(g, x, P, dout, dS);
    for (int64_t t = 0; t < g->T; t++) {
        for (int64_t i = 0; i < g->D; i++) {
            struct b_sum q = {0}, k = {0}, v = {0};
            for (int64_t j = 0; j <= t; j++)
                b_sum_add(&q, b_mul(dS[t * g->T + j], get(x + part(g, j, 1) + i)));
            for (int64_t j = t; j < g->T; j++) {
                b_sum_add(&k, b_mul(dS[j * g->T + t], get(x + part(g, j, 0) + i)));
                b_sum_add(&v, b_mul(get(P + j * g->T + t), get(dout + j * g->C + g->h * g->D + i)));
            }
            /* the factor 1/sqrt(D) may come last: a rounding more */
            put(dx + part(g, t, 0) + i, b_mul(b_sum_result(&q), exactly(1)));
            put(dx + part(g, t, 1) + i, b_mul(b_sum_result(&k), exactly(1)));
            put(dx + part(g, t, 2) + i, b_sum_result(&v));
        }
        rotate(g, dx + part(g, t, 0), t, -1);
        rotate(g, dx + part(g, t, 1), t, -1);
    }
    free(dS);
}

void perturbed_attention_forward(struct fpl_device *dev, int R, int64_t B, int64_t T, int64_t H, int64_t D,
                                 const double *cosines, const double *sines, double *qkv, double *probs,
                                 double *out, const struct fpl_attention *quantized) {
    (void)quantized;
    const int64_t C = H * D;
    (void)dev;
    for (int64_t i = 0; i < R * B * H; i++) {
        const struct head g = {T, C, D, i % H, cosines, sines};
        head_forward(&g, qkv + i / H * T * 3 * C, probs + i * T * T, out + i / H * T * C);
    }
}

void perturbed_attention_backward(struct fpl_device *dev, int R, int64_t B, int64_t T, int64_t H, int64_t D,
                                  const double *cosines, const double *sines, const double *qkv,
                                  const double *probs, const double *out, const double *dout, double *dqkv,
                                  const struct fpl_attention *quantized) {
    (void)out;
    (void)quantized;
    const int64_t C = H * D;
    (void)dev;
    for (int64_t i = 0; i < R * B * H; i++) {
        const struct head g = {T, C, D, i % H, cosines, sines};
        head_backward(&g, qkv + i / H * T * 3 * C, probs + i * T * T, dout + i / H * T * C,
                      dqkv + i / H * T * 3 * C);
    }
}
