/* test_reference_rows.c - embedding, RMSNorm, SwiGLU and cross-entropy of the backend
 * against the double reference.
 *
 * Every bound is derived beside the check from the number of roundings (u = 2^-24 each) and
 * the magnitudes of what is added; sums may run in any order.  Operations that kernels.h
 * defines to the bit (embedding, h = x + delta) are compared to the bit.
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
    int64_t n, C, V;
    int flag;
    double number;
};

#define BYTES(count) ((size_t)(count) * sizeof(float))
static const double u = HARNESS_U;

static int32_t *random_tokens(int64_t count, int64_t V) {
    int32_t *t = harness_alloc(count, sizeof *t);
    for (int64_t i = 0; i < count; i++) t[i] = (int32_t)(harness_draw() % (uint32_t)V);
    return t;
}

/* ---- embedding --------------------------------------------------------------------------------- */

static void call_embedding_forward(const struct harness *hh, struct fpl_device *dev, int first, int R,
                                   void **p, const void *shape) {
    const struct shape *s = shape;
    (void)first;
    hh->kernels->embedding_forward(dev, R, s->n, s->C, s->V, p[0], p[1], p[2]);
}

static void call_embedding_backward(const struct harness *hh, struct fpl_device *dev, int first, int R,
                                    void **p, const void *shape) {
    const struct shape *s = shape;
    (void)first;
    hh->kernels->embedding_backward(dev, R, s->n, s->C, s->V, p[0], p[1], p[2]);
}

static void check_embedding(int R, int64_t n, int64_t C, int64_t V) {
    struct shape s = {.n = n, .C = C, .V = V};
    int32_t *tokens = random_tokens(R * n, V);
    float *table = harness_floats(R * V * C, 1), *out = harness_nans(R * n * C);
    struct harness_buffer b[] = {
        {tokens, (size_t)n * sizeof *tokens, 0}, {table, BYTES(V * C), 0}, {out, BYTES(n * C), 0}};
    harness_run(&h, "embedding_forward", call_embedding_forward, &s, R, b, 3);
    for (int64_t i = 0; i < R * n * C; i++) {
        const int64_t row = i / C, replica = row / n;
        assert_true(out[i] == table[(replica * V + tokens[row]) * C + i % C]);
    }
    /* Added in increasing row order: the sums are this chain, to the bit. */
    float *chain = harness_alloc(R * V * C, sizeof *chain), *dout = harness_floats(R * n * C, 1);
    memcpy(chain, table, BYTES(R * V * C));
    for (int64_t i = 0; i < R * n * C; i++) {
        const int64_t row = i / C, replica = row / n;
        chain[(replica * V + tokens[row]) * C + i % C] += dout[i];
    }
    struct harness_buffer back[] = {
        {tokens, (size_t)n * sizeof *tokens, 0}, {dout, BYTES(n * C), 0}, {table, BYTES(V * C), 0}};
    harness_run(&h, "embedding_backward", call_embedding_backward, &s, R, back, 3);
    harness_same_bits("embedding_backward", table, chain, R * V * C);
    free(tokens);
    free(table);
    free(out);
    free(chain);
    free(dout);
}

static void test_embedding(void **unused) {
    (void)unused;
    static const int64_t shapes[][3] = {{1, 1, 1},      {5, 7, 32},     {64, 16, 32},  {200, 17, 3},
                                        {256, 33, 256}, {9, 40, 50257}, {513, 64, 256}};
    for (int i = 0; i < 7; i++) {
        harness_seed(10 + (uint64_t)i);
        check_embedding(shapes[i][2] > 1000 ? 1 : 1 + i % 3, shapes[i][0], shapes[i][1], shapes[i][2]);
    }
}

/* ---- RMSNorm ------------------------------------------------------------------------------------- */

static void call_rmsnorm_forward(const struct harness *hh, struct fpl_device *dev, int first, int R, void **p,
                                 const void *shape) {
    const struct shape *s = shape;
    (void)first;
    /* flag 2: h is x */
    hh->kernels->rmsnorm_forward(dev, R, s->n, s->C, s->number, p[0], p[1], p[2], s->flag == 2 ? p[0] : p[3],
                                 p[4], p[5]);
}

/* flag 0: no delta, 1: delta, 2: delta and h = x */
static void check_rmsnorm_forward(int R, int64_t n, int64_t C, int flag, double size) {
    struct shape s = {.n = n, .C = C, .flag = flag, .number = 1e-5};
    const int64_t all = R * n * C;
    float *x = harness_floats(all, size), *delta = flag ? harness_floats(all, size / 2) : NULL;
    float *gain = harness_floats(R * C, 1), *y = harness_nans(all), *rstd = harness_nans(R * n);
    float *hidden = flag == 1 ? harness_nans(all) : NULL;
    float *sum = harness_alloc(all, sizeof *sum);
    for (int64_t i = 0; i < all; i++) sum[i] = delta ? x[i] + delta[i] : x[i];
    float *x_before = harness_alloc(all, sizeof *x);
    memcpy(x_before, x, BYTES(all));
    struct harness_buffer b[] = {{x, BYTES(n * C), 0},      {delta, BYTES(n * C), 0}, {gain, BYTES(C), 0},
                                 {hidden, BYTES(n * C), 0}, {y, BYTES(n * C), 0},     {rstd, BYTES(n), 0}};
    harness_run(&h, "rmsnorm_forward", call_rmsnorm_forward, &s, R, b, 6);
    if (hidden) harness_same_bits("rmsnorm h", hidden, sum, all);
    harness_same_bits("rmsnorm x", x, flag == 2 ? sum : x_before, all);

    double *wide = harness_widen(sum, all), *wide_gain = harness_widen(gain, R * C);
    double *ref_y = harness_alloc(all, sizeof *ref_y), *ref_rstd = harness_alloc(R * n, sizeof *ref_rstd);
    ref_rmsnorm_forward(R, n, C, s.number, wide, NULL, wide_gain, NULL, ref_y, ref_rstd);
    /* mean + eps: C squares and sums (gamma_C relative, all terms positive), the division,
     * eps as float32 and its addition: C + 3.  The square root halves that; it and the
     * reciprocal round once each.  y rounds twice more. */
    const double relative = (harness_gamma(C + 3) / 2 + 2 * u) * (1 + 4 * u);
    for (int64_t i = 0; i < R * n; i++)
        harness_within("rmsnorm rstd", i, (double)rstd[i], ref_rstd[i], relative * ref_rstd[i]);
    for (int64_t i = 0; i < all; i++)
        harness_within("rmsnorm y", i, (double)y[i], ref_y[i],
                       (relative + 2.01 * u) * fabs(ref_y[i]) + 0x1p-148);
    void *const owned[] = {x, delta, gain, y, rstd, hidden, sum, x_before, wide, wide_gain, ref_y, ref_rstd};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
}

static void call_rmsnorm_backward(const struct harness *hh, struct fpl_device *dev, int first, int R,
                                  void **p, const void *shape) {
    const struct shape *s = shape;
    (void)first;
    /* flag 2: dh is dh_in */
    hh->kernels->rmsnorm_backward(dev, R, s->n, s->C, p[0], p[1], p[2], p[3], p[4],
                                  s->flag == 2 ? p[4] : p[5], p[6]);
}

static void check_rmsnorm_backward(int R, int64_t n, int64_t C, int flag) {
    struct shape s = {.n = n, .C = C, .flag = flag};
    const int64_t all = R * n * C;
    float *dy = harness_floats(all, 1), *x = harness_floats(all, 2), *gain = harness_floats(R * C, 1);
    float *rstd = harness_alloc(R * n, sizeof *rstd), *dh_in = flag ? harness_floats(all, 1) : NULL;
    float *dh = flag == 2 ? NULL : harness_nans(all), *dgain = harness_floats(R * C, 1);
    for (int64_t row = 0; row < R * n; row++) {
        double squares = 0;
        for (int64_t i = 0; i < C; i++) squares += (double)x[row * C + i] * (double)x[row * C + i];
        rstd[row] = (float)(1 / sqrt(squares / (double)C + 1e-5));
    }
    double *w_dy = harness_widen(dy, all), *w_x = harness_widen(x, all), *w_gain = harness_widen(gain, R * C);
    double *w_rstd = harness_widen(rstd, R * n), *w_in = dh_in ? harness_widen(dh_in, all) : NULL;
    double *w_dh = harness_alloc(all, sizeof *w_dh), *w_dgain = harness_widen(dgain, R * C);
    double *magnitude = harness_alloc(R * C, sizeof *magnitude);
    for (int64_t i = 0; i < R * C; i++) magnitude[i] = fabs(w_dgain[i]);
    ref_rmsnorm_backward(R, n, C, w_dy, w_x, w_gain, w_rstd, w_in, w_dh, w_dgain);

    struct harness_buffer b[] = {{dy, BYTES(n * C), 0}, {x, BYTES(n * C), 0},     {gain, BYTES(C), 0},
                                 {rstd, BYTES(n), 0},   {dh_in, BYTES(n * C), 0}, {dh, BYTES(n * C), 0},
                                 {dgain, BYTES(C), 0}};
    harness_run(&h, "rmsnorm_backward", call_rmsnorm_backward, &s, R, b, 7);

    const float *got = flag == 2 ? dh_in : dh;
    for (int64_t row = 0; row < R * n; row++) {
        const double *g = w_gain + row / n * C, rs = w_rstd[row];
        double sum = 0;
        for (int64_t i = row * C; i < (row + 1) * C; i++) sum += fabs(g[i % C] * w_dy[i] * w_x[i]);
        for (int64_t i = row * C; i < (row + 1) * C; i++) {
            /* three terms: dh_in exact; s g dy two products; h s^3 dot / C with C + 2 roundings
             * in the dot product and five outside; two additions of all. */
            const double direct = fabs(rs * g[i % C] * w_dy[i]),
                         through = fabs(w_x[i]) * rs * rs * rs * sum / (double)C;
            const double residual = w_in ? fabs(w_in[i]) : 0;
            harness_within("rmsnorm dh", i, (double)got[i], w_dh[i],
                           harness_gamma(2) * residual + harness_gamma(4) * direct +
                               harness_gamma(C + 9) * through);
            magnitude[row / n * C + i % C] += fabs(w_dy[i] * w_x[i] * rs);
        }
    }
    /* two roundings in each term, n additions */
    for (int64_t i = 0; i < R * C; i++)
        harness_within("rmsnorm dgain", i, (double)dgain[i], w_dgain[i], harness_gamma(n + 2) * magnitude[i]);
    void *const owned[] = {dy,  x,      gain,   rstd, dh_in, dh,      dgain,    w_dy,
                           w_x, w_gain, w_rstd, w_in, w_dh,  w_dgain, magnitude};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
}

static void test_rmsnorm(void **unused) {
    (void)unused;
    static const int64_t rows[] = {1, 2, 15, 16, 33, 130, 257},
                         widths[] = {1, 2, 8, 15, 16, 17, 40, 64, 97, 257};
    for (int i = 0; i < 7; i++) {
        for (int j = 0; j < 10; j++) {
            harness_seed(100 + (uint64_t)(i * 20 + j));
            const int R = 1 + (i + j) % 3, flag = (i * 2 + j) % 3;
            check_rmsnorm_forward(R, rows[i], widths[j], flag, j % 3 == 0 ? 1e-3 : 2);
            check_rmsnorm_backward(R, rows[i], widths[j], flag);
        }
    }
    print_message("largest error / bound: %.3f\n", harness_worst());
}

/* ---- SwiGLU ---------------------------------------------------------------------------------------- */

static void call_swiglu_forward(const struct harness *hh, struct fpl_device *dev, int first, int R, void **p,
                                const void *shape) {
    const struct shape *s = shape;
    (void)first;
    hh->kernels->swiglu_forward(dev, R, s->n, s->C, p[0], p[1]);
}

static void call_swiglu_backward(const struct harness *hh, struct fpl_device *dev, int first, int R, void **p,
                                 const void *shape) {
    const struct shape *s = shape;
    (void)first;
    hh->kernels->swiglu_backward(dev, R, s->n, s->C, p[0], p[1], p[2]);
}

static void check_swiglu(int R, int64_t n, int64_t F) {
    struct shape s = {.n = n, .C = F};
    const int64_t all = R * n * F;
    float *in = harness_floats(2 * all, 3), *out = harness_nans(all), *dout = harness_floats(all, 1);
    float *din = harness_nans(2 * all);
    for (int64_t i = 0; i < 2 * all; i += 7) in[i] *= 40; /* far into both tails */
    if (all > 3) in[0] = 0, in[1] = 200, in[2] = -200, in[3] = -88.5f;
    double *w_in = harness_widen(in, 2 * all), *w_dout = harness_widen(dout, all);
    double *w_out = harness_alloc(all, sizeof *w_out), *w_din = harness_alloc(2 * all, sizeof *w_din);
    ref_swiglu_forward(R, n, F, w_in, w_out);
    ref_swiglu_backward(R, n, F, w_in, w_dout, w_din);
    struct harness_buffer f[] = {{in, BYTES(2 * n * F), 0}, {out, BYTES(n * F), 0}};
    struct harness_buffer b[] = {
        {in, BYTES(2 * n * F), 0}, {dout, BYTES(n * F), 0}, {din, BYTES(2 * n * F), 0}};
    harness_run(&h, "swiglu_forward", call_swiglu_forward, &s, R, f, 2);
    harness_run(&h, "swiglu_backward", call_swiglu_backward, &s, R, b, 3);
    for (int64_t i = 0; i < all; i++) {
        const int64_t row = i / F, gate = row * 2 * F + i % F, up = gate + F;
        const double a = w_in[gate], sigma = 1 / (1 + exp(-a)), d = fabs(w_dout[i]), v = fabs(w_in[up]);
        /* sigma: exp, one sum, one division; where exp(-a) overflows sigma is below 2^-126 and
         * may be 0.  1 - sigma then has sigma's absolute error and one rounding. */
        const double e_sigma = (HARNESS_EXP + 2.01) * u * sigma + (a < -85 ? 0x1p-126 : 0);
        const double forward = fabs(a) * v * (e_sigma + 2.01 * u * sigma) + 0x1p-126;
        harness_within("swiglu", i, (double)out[i], w_out[i], forward);
        harness_within("swiglu dup", i, (double)din[up], w_din[up],
                       fabs(a) * d * (e_sigma + 2.01 * u * sigma) + 0x1p-126);
        /* d v sigma (1 + a (1 - sigma)): the factor errs by |a| (e_sigma + 2 u (1 - sigma))
         * and one rounding of it, the outer product by three */
        const double factor = 1 + a * (1 - sigma), size = 1 + fabs(a) * (1 - sigma);
        const double e_factor = fabs(a) * (e_sigma + 2.01 * u * (1 - sigma)) + 1.01 * u * size;
        const double e =
            d * v * (sigma * e_factor + e_sigma * (fabs(factor) + e_factor) + 3.01 * u * sigma * size);
        harness_within("swiglu dgate", i, (double)din[gate], w_din[gate], e + 0x1p-126);
    }
    void *const owned[] = {in, out, dout, din, w_in, w_dout, w_out, w_din};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
}

static void test_swiglu(void **unused) {
    (void)unused;
    static const int64_t rows[] = {1, 3, 64, 131}, widths[] = {1, 8, 15, 16, 17, 48, 88, 100};
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 8; j++) {
            harness_seed(300 + (uint64_t)(i * 20 + j));
            check_swiglu(1 + (i + j) % 3, rows[i], widths[j]);
        }
    }
    print_message("largest error / bound: %.3f\n", harness_worst());
}

/* ---- cross-entropy ----------------------------------------------------------------------------------- */

static void call_cross_entropy(const struct harness *hh, struct fpl_device *dev, int first, int R, void **p,
                               const void *shape) {
    const struct shape *s = shape;
    (void)first;
    float *gradient = s->flag == 0 ? NULL : s->flag == 1 ? p[3] : p[0];
    hh->kernels->cross_entropy(dev, R, s->n, s->V, p[0], p[1], s->number, p[2], gradient);
}

/* flag 0: no gradient, 1: gradient apart, 2: in place */
static void check_cross_entropy(int R, int64_t n, int64_t V, int flag, double size) {
    struct shape s = {.n = n, .V = V, .flag = flag, .number = 1.0 / 37};
    const int64_t all = R * n * V;
    float *z = harness_floats(all, size), *gradient = flag == 1 ? harness_nans(all) : NULL;
    int32_t *targets = random_tokens(R * n, V);
    double *loss = harness_alloc(R * n, sizeof *loss), *w_loss = harness_alloc(R * n, sizeof *w_loss);
    double *w_z = harness_widen(z, all), *w_gradient = harness_alloc(all, sizeof *w_gradient);
    ref_cross_entropy(R, n, V, w_z, targets, s.number, w_loss, w_gradient);
    struct harness_buffer b[] = {{z, BYTES(n * V), 0},
                                 {targets, (size_t)n * sizeof *targets, 0},
                                 {loss, (size_t)n * sizeof *loss, 0},
                                 {gradient, BYTES(n * V), 0}};
    harness_run(&h, "cross_entropy", call_cross_entropy, &s, R, b, 4);
    const float *got = flag == 2 ? z : gradient;
    /* kernels/cpu adds chunks of 1024 columns in sixteen lanes and the chunks in double: a
     * term meets at most 64 + 4 additions in float32 */
    const int64_t additions = V < 68 ? V : 68;
    for (int64_t row = 0; row < R * n; row++) {
        const double *x = w_z + row * V;
        double max = x[0], sum = 0, spread = 0;
        for (int64_t j = 1; j < V; j++) max = x[j] > max ? x[j] : max;
        for (int64_t j = 0; j < V; j++) {
            const double e = exp(x[j] - max);
            sum += e;
            spread += e * (max - x[j]); /* x - max rounds once: e errs by u |x - max| */
        }
        const double e_sum = (1.001 * u * spread / sum + HARNESS_EXP * u) * (1 + harness_gamma(additions)) +
                             harness_gamma(additions) + (double)V * HARNESS_TINY / sum;
        /* log turns e_sum into an absolute error; the rest of the loss is in double */
        const double e_loss =
            -log1p(-e_sum) + 0x1p-50 * (1 + fabs(w_loss[row]) + fabs(max) + fabs(x[targets[row]]));
        harness_within("cross_entropy loss", row, loss[row], w_loss[row],
                       e_loss + u * fabs(max - x[targets[row]]));
        for (int64_t j = 0; flag && j < V; j++) {
            const double p = exp(x[j] - max) / sum, hot = j == targets[row];
            /* e: u |x - max| and exp; its sum, the factor scale / sum, two products; then the
             * one-hot subtraction */
            const double e_p = p * (u * (max - x[j]) * 1.001 + (HARNESS_EXP + 4.01) * u + e_sum);
            const double bound =
                s.number * (e_p + 2.01 * u * (p + hot)) + HARNESS_TINY * (2 + s.number / sum);
            harness_within("cross_entropy gradient", row * V + j, (double)got[row * V + j],
                           w_gradient[row * V + j], bound);
        }
    }
    void *const owned[] = {z, gradient, targets, loss, w_loss, w_z, w_gradient};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
}

static void test_cross_entropy(void **unused) {
    (void)unused;
    static const int64_t vocabularies[] = {1, 2, 17, 32, 65, 256, 1025, 3000, 50257};
    static const int64_t rows[] = {1, 5, 16, 70};
    for (int i = 0; i < 9; i++) {
        for (int j = 0; j < 4; j++) {
            const int64_t n = vocabularies[i] > 10000 ? 2 : rows[j];
            harness_seed(500 + (uint64_t)(i * 10 + j));
            check_cross_entropy(1 + (i + j) % 3, n, vocabularies[i], (i + j) % 3, j == 3 ? 30 : 2);
        }
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
        cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_rmsnorm),
        cmocka_unit_test(test_swiglu),
        cmocka_unit_test(test_cross_entropy),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
