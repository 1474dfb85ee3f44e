/* test_reference_optimizer.c - squared norms and AdamW of the backend against the double
 * reference.
 *
 * sqnorm: squares of floats are exact in double, so only the additions round, each by
 * 2^-53.  AdamW: bounds count the roundings of m, v and the update with the magnitudes of
 * the terms before cancellation (u = 2^-24).
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
static const double u = HARNESS_U;

enum { MOST = 3, SEGMENTS = 5 };

struct job {
    int64_t sizes[SEGMENTS];
    int count;
    struct fpl_adamw a;
    float lr[MOST], decay[MOST];
    int32_t active[MOST];
    int use_active;
};

/* Segments of R replicas, each beginning at a multiple of 16 elements; the whole length. */
static int64_t lay_out(const struct job *j, int R, struct fpl_segment *s) {
    int64_t end = 0;
    for (int i = 0; i < j->count; i++) {
        s[i] = (struct fpl_segment){.offset = end, .size = j->sizes[i], .decay = i & 1};
        end += (R * j->sizes[i] + 15) / 16 * 16;
    }
    return end;
}

/* The harness lays replicas outermost; a flat buffer lays them inside segments. */
static int64_t replica_size(const struct job *j) {
    int64_t sum = 0;
    for (int i = 0; i < j->count; i++) sum += j->sizes[i];
    return sum;
}

static void gather(const struct job *j, int R, float *flat, float *packed, int into_flat) {
    struct fpl_segment s[SEGMENTS];
    lay_out(j, R, s);
    for (int r = 0; r < R; r++) {
        int64_t at = r * replica_size(j);
        for (int i = 0; i < j->count; i++) {
            float *there = flat + s[i].offset + r * s[i].size;
            const size_t bytes = (size_t)s[i].size * sizeof *there;
            if (into_flat)
                memcpy(there, packed + at, bytes);
            else
                memcpy(packed + at, there, bytes);
            at += s[i].size;
        }
    }
}

/* Buffers of the harness: p, g, m, v packed per replica, then the squared norms. */
static void call_step(const struct harness *hh, struct fpl_device *dev, int first, int R, void **p,
                      const void *shape) {
    const struct job *j = shape;
    const struct fpl_kernels *k = hh->kernels;
    struct fpl_segment s[SEGMENTS];
    const int64_t length = lay_out(j, R, s);
    float *packed = harness_alloc(R * replica_size(j), sizeof *packed), *flat[4];
    for (int i = 0; i < 4; i++) {
        flat[i] = k->alloc(dev, (size_t)length * sizeof(float));
        assert_non_null(flat[i]);
        float *host = harness_alloc(length, sizeof *host);
        k->download(dev, packed, p[i], (size_t)(R * replica_size(j)) * sizeof(float));
        gather(j, R, host, packed, 1);
        k->upload(dev, flat[i], host, (size_t)length * sizeof(float));
        free(host);
    }
    k->sqnorm(dev, R, s, j->count, flat[1], p[4]);
    struct fpl_adamw a = j->a;
    a.R = R;
    a.lr = j->lr + first;
    a.decay = j->decay + first;
    a.active = j->use_active ? j->active + first : NULL;
    a.sqnorm = p[4];
    k->adamw(dev, &a, s, j->count, flat[0], flat[1], flat[2], flat[3]);
    for (int i = 0; i < 4; i++) {
        float *host = harness_alloc(length, sizeof *host);
        k->download(dev, host, flat[i], (size_t)length * sizeof(float));
        gather(j, R, host, packed, 0);
        k->upload(dev, p[i], packed, (size_t)(R * replica_size(j)) * sizeof(float));
        k->release(dev, flat[i]);
        free(host);
    }
    free(packed);
}

struct state {
    float *p, *g, *m, *v;
    double *sqnorm;
};

static void check_replica(const struct job *j, int r, const struct state *before, const struct state *after) {
    const int64_t size = replica_size(j);
    struct fpl_segment s[SEGMENTS];
    int64_t at = 0;
    double exact = 0;
    for (int i = 0; i < j->count; i++) {
        s[i] = (struct fpl_segment){.offset = at, .size = j->sizes[i], .decay = i & 1};
        at += j->sizes[i];
    }
    double *p = harness_widen(before->p + r * size, size), *g = harness_widen(before->g + r * size, size);
    double *m = harness_widen(before->m + r * size, size), *v = harness_widen(before->v + r * size, size);
    ref_sqnorm(1, s, j->count, g, &exact);
    harness_within("sqnorm", r, after->sqnorm[r], exact, (double)size * 0x1p-52 * exact);

    struct fpl_adamw a = j->a;
    a.R = 1;
    a.lr = j->lr + r;
    a.decay = j->decay + r;
    a.active = j->use_active ? j->active + r : NULL;
    a.sqnorm = after->sqnorm + r;
    ref_adamw(&a, s, j->count, p, g, m, v);
    const double norm = sqrt(exact), shrink = a.clip > 0 && norm > a.clip ? a.clip / norm : 1;
    const double c1 = 1 - pow(a.beta1, (double)a.step), c2 = 1 - pow(a.beta2, (double)a.step);
    const double lr = (double)j->lr[r];
    for (int64_t i = 0; i < size; i++) {
        const int64_t k = r * size + i;
        const int moved = !j->use_active || j->active[r];
        const double gradient = fabs(g[i]) * shrink, m0 = fabs((double)before->m[k]);
        int64_t segment = 0;
        for (int64_t end = j->sizes[0]; i >= end; end += j->sizes[segment]) segment++;
        /* m: g shrink two roundings, the constant, the difference or the two products, the
         * product and the sum: at most four on either term */
        const double e_m = moved ? 4.01 * u * (m0 + (1 - a.beta1) * (gradient + m0)) + 0x1p-148 : 0;
        /* v: all terms positive; the gradient twice with two roundings, constant, three
         * products and the sum: at most eight */
        const double e_v = moved ? 8.01 * u * v[i] + 0x1p-147 : 0;
        harness_within("m", k, (double)after->m[k], m[i], e_m);
        harness_within("v", k, (double)after->v[k], v[i], e_v);
        /* update: m errs by e_m; the denominator by half of v's share, the root, both
         * constants and the sum (4 more); the quotient and lr by four; decay's product and
         * factor by three of lr decay |p|; the result by two of its terms */
        const double denominator = sqrt(v[i] / c2) + a.eps;
        const double e_root = sqrt((v[i] + e_v) / c2) - sqrt(fmax(v[i] - e_v, 0) / c2);
        const double update = fabs(m[i]) / c1 / denominator;
        const double e_update =
            e_m / c1 / denominator + (update + e_m / c1 / denominator) * (e_root / denominator + 8.01 * u);
        const double decay = s[segment].decay ? (double)j->decay[r] : 0;
        const double p0 = fabs((double)before->p[k]);
        const double e_p = lr * e_update + 3.01 * u * (p0 + lr * (update + e_update) + lr * decay * p0);
        harness_within("p", k, (double)after->p[k], p[i], moved ? e_p : 0);
        assert_true(after->g[k] == before->g[k]);
    }
    free(p);
    free(g);
    free(m);
    free(v);
}

static void check_step(struct job *j, int R, double gradient_size) {
    const int64_t size = replica_size(j);
    struct state now = {harness_floats(R * size, 1), harness_floats(R * size, gradient_size),
                        harness_floats(R * size, gradient_size / 2), harness_floats(R * size, gradient_size),
                        harness_alloc(R, sizeof(double))};
    struct state before = {harness_alloc(R * size, 4), harness_alloc(R * size, 4), harness_alloc(R * size, 4),
                           harness_alloc(R * size, 4), NULL};
    for (int64_t i = 0; i < R * size; i++) {
        now.v[i] *= now.v[i]; /* second moments are not negative */
        if (j->a.step == 1) now.m[i] = now.v[i] = 0;
        if (i % 19 == 3) now.g[i] = 0;
    }
    memcpy(before.p, now.p, (size_t)(R * size) * 4);
    memcpy(before.g, now.g, (size_t)(R * size) * 4);
    memcpy(before.m, now.m, (size_t)(R * size) * 4);
    memcpy(before.v, now.v, (size_t)(R * size) * 4);
    const size_t bytes = (size_t)size * 4;
    struct harness_buffer b[] = {{now.p, bytes, 0},
                                 {now.g, bytes, 0},
                                 {now.m, bytes, 0},
                                 {now.v, bytes, 0},
                                 {now.sqnorm, sizeof(double), 0}};
    harness_run(&h, "adamw", call_step, j, R, b, 5);
    for (int r = 0; r < R; r++) check_replica(j, r, &before, &now);
    void *const owned[] = {now.p, now.g, now.m, now.v, now.sqnorm, before.p, before.g, before.m, before.v};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
}

static void test_steps(void **unused) {
    (void)unused;
    static const int64_t layouts[][SEGMENTS] = {{1, 0, 0, 0, 0},
                                                {7, 16, 33, 0, 0},
                                                {100, 1, 4096, 15, 31},
                                                {5000, 12289, 3, 0, 0},
                                                {32, 64, 96, 128, 160}};
    static const int counts[] = {1, 3, 5, 3, 5};
    static const int64_t steps[] = {1, 2, 10, 1000, 100000};
    static const double clips[] = {0, 1, 0.01, 1e9};
    for (int l = 0; l < 5; l++) {
        for (int t = 0; t < 5; t++) {
            for (int c = 0; c < 4; c++) {
                struct job j = {
                    .count = counts[l],
                    .a = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .step = steps[t], .clip = clips[c]},
                    .lr = {1e-3f, 3e-2f, 0},
                    .decay = {0.1f, 0, 0.1f},
                    .active = {1, 0, 1},
                    .use_active = (l + t + c) % 4 == 0};
                memcpy(j.sizes, layouts[l], sizeof j.sizes);
                harness_seed((uint64_t)(l * 100 + t * 10 + c));
                check_step(&j, 1 + (l + t + c) % 3, c == 2 ? 1e-4 : 0.3);
            }
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps)};
    return cmocka_run_group_tests(tests, open_all, close_all);
}
