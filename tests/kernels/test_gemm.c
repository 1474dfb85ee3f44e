/* test_gemm.c - the product is one fused-multiply-add chain per element, whatever happens.
 *
 * The expected bits come from scalar fmaf in increasing k.  Every level that this processor
 * has must give them for every role, shape, replica count, thread count and accumulation,
 * with and without the cache of packed weights; and the cache must never answer with
 * weights that are gone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../../kernels/kernels.h"

/* ---- helpers ----------------------------------------------------------------------------- */

static const char *const level_names[] = {"avx512", "avx2", "baseline"};

/* The table of a level, or NULL where the processor lacks it. */
static const struct fpl_kernels *level(const char *name) {
    setenv("FPLAW_SIMD", name, 1);
    const struct fpl_kernels *k = strcmp(fpl_simd_level(), name) == 0 ? fpl_backend("cpu") : NULL;
    unsetenv("FPLAW_SIMD");
    return k;
}

static struct fpl_device *open_device(const struct fpl_kernels *k, int threads) {
    struct fpl_device *dev = NULL;
    const struct fpl_device_options options = {.threads = threads};
    assert_int_equal(k->open(&dev, &options, NULL), FPL_OK);
    return dev;
}

static uint32_t state = 1;
static float random_value(void) {
    state = state * 1664525u + 1013904223u;
    return (float)((int32_t)state >> 8) * 0x1p-22f;
}

static float *filled(const struct fpl_kernels *k, struct fpl_device *dev, int64_t n) {
    float *p = k->alloc(dev, (size_t)n * sizeof *p);
    assert_non_null(p);
    for (int64_t i = 0; i < n; i++) p[i] = random_value();
    return p;
}

static struct fpl_operand identity(void) {
    struct fpl_operand q;
    memset(&q, 0, sizeof q);
    q.plan.identity = q.plan.round.identity = q.plan.scale.identity = q.plan.post.identity = 1;
    return q;
}

/* What kernels.h defines, element by element. */
static void expected(const struct fpl_gemm *g, float *out) {
    const int wgrad = g->role == FPL_WGRAD, forward = g->role == FPL_FORWARD;
    const int64_t M = wgrad ? g->O : g->n, N = forward ? g->O : g->I,
                  K = wgrad     ? g->n
                      : forward ? g->I
                                : g->O;
    for (int r = 0; r < g->R; r++) {
        const float *a = g->a + r * g->n * (forward ? g->I : g->O);
        const float *b = g->b + r * (wgrad ? g->n : g->O) * g->I;
        for (int64_t i = 0; i < M; i++)
            for (int64_t j = 0; j < N; j++) {
                float sum = g->accumulate ? out[(r * M + i) * N + j] : 0.0f;
                for (int64_t k = 0; k < K; k++)
                    sum = fmaf(wgrad ? a[k * g->O + i] : a[i * K + k],
                               forward ? b[j * g->I + k] : b[k * g->I + j], sum);
                out[(r * M + i) * N + j] = sum;
            }
    }
}

/* ---- tests ------------------------------------------------------------------------------- */

static void check_shape(const struct fpl_kernels *k, struct fpl_device *dev, int R, int64_t n, int64_t O,
                        int64_t I) {
    struct fpl_operand q[4] = {identity(), identity(), identity(), identity()};
    for (int role = 0; role < 3; role++) {
        struct fpl_gemm g = {.role = (enum fpl_role)role, .R = R, .n = n, .O = O, .I = I, .qa = q, .qb = q};
        const int64_t size = role == FPL_WGRAD ? O * I : role == FPL_FORWARD ? n * O : n * I;
        float *a = filled(k, dev, R * n * (role == FPL_FORWARD ? I : O));
        float *b = filled(k, dev, R * I * (role == FPL_WGRAD ? n : O));
        float *out = filled(k, dev, R * size), *want = k->alloc(dev, (size_t)(R * size) * sizeof *want);
        memcpy(want, out, (size_t)(R * size) * sizeof *want);
        g.a = a, g.b = b, g.out = out;
        for (int pass = 0; pass < 3; pass++) {
            g.accumulate = pass == 2;
            g.weights_version = (uint64_t)pass; /* 0: not cached, then a miss, a miss */
            k->gemm(dev, &g);
            g.out = want;
            expected(&g, want);
            g.out = out;
            if (memcmp(out, want, (size_t)(R * size) * sizeof *want) != 0)
                fail_msg("%s: role %d, R %d, n %d, O %d, I %d, pass %d", k->name, role, R, (int)n, (int)O,
                         (int)I, pass);
        }
        k->release(dev, a), k->release(dev, b), k->release(dev, out), k->release(dev, want);
    }
}

static void chain_bits(void **unused) {
    (void)unused;
    static const int64_t sizes[][3] = {{1, 1, 1},     {2, 3, 5},    {64, 16, 16}, {64, 96, 32},
                                       {37, 33, 31},  {13, 49, 7},  {256, 32, 8}, {400, 47, 17},
                                       {12, 20, 410}, {23, 210, 65}};
    for (size_t l = 0; l < 3; l++) {
        const struct fpl_kernels *k = level(level_names[l]);
        if (k == NULL) continue;
        for (int threads = 1; threads <= 3; threads += 2) {
            struct fpl_device *dev = open_device(k, threads);
            for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
                check_shape(k, dev, 1 + (int)(s % 3), sizes[s][0], sizes[s][1], sizes[s][2]);
            for (int64_t n = 1; n <= 34; n++) check_shape(k, dev, 1, n, 35 - n, 3);
            assert_int_equal(k->check(dev, NULL), FPL_OK);
            k->close(dev);
        }
    }
}

/* A hit gives the packed weights, and only while they are those of the version. */
static void cache(void **unused) {
    (void)unused;
    const struct fpl_kernels *k = fpl_backend("cpu");
    struct fpl_device *dev = open_device(k, 1);
    struct fpl_operand q = identity();
    float *x = filled(k, dev, 6), *w = filled(k, dev, 6), out[4], want[4], changed[6];
    struct fpl_gemm g = {.role = FPL_FORWARD,
                         .R = 1,
                         .n = 2,
                         .O = 2,
                         .I = 3,
                         .a = x,
                         .b = w,
                         .out = out,
                         .qa = &q,
                         .qb = &q,
                         .weights_version = 7};
    k->gemm(dev, &g);
    memcpy(want, out, sizeof out);
    w[0] += 1.0f; /* behind the device's back: version 7 still means the old weights */
    k->gemm(dev, &g);
    assert_memory_equal(out, want, sizeof out);
    g.weights_version = 8;
    k->gemm(dev, &g);
    g.out = want;
    expected(&g, want);
    g.out = out;
    assert_memory_equal(out, want, sizeof out);
    memcpy(changed, w, sizeof changed);
    changed[1] -= 3.0f;
    k->upload(dev, w, changed, sizeof changed); /* same version, new contents: not a hit */
    k->gemm(dev, &g);
    g.out = want;
    expected(&g, want);
    g.out = out;
    assert_memory_equal(out, want, sizeof out);
    k->zero(dev, w, 6 * sizeof *w);
    k->gemm(dev, &g);
    for (int i = 0; i < 4; i++) assert_true(out[i] == 0.0f);
    k->close(dev);
    free(x), free(w);
}

/* Signed zeros and special values: a chain from +0 never gives -0 from products of zeros. */
static void special_values(void **unused) {
    (void)unused;
    for (size_t l = 0; l < 3; l++) {
        const struct fpl_kernels *k = level(level_names[l]);
        if (k == NULL) continue;
        struct fpl_device *dev = open_device(k, 1);
        struct fpl_operand q = identity();
        float *x = k->alloc(dev, 4 * sizeof *x), *w = k->alloc(dev, 4 * sizeof *w), out[4];
        const float values[4] = {-0.0f, INFINITY, 0x1p-149f, NAN}, weights[4] = {0.0f, 1.0f, 0.5f, 1.0f};
        memcpy(x, values, sizeof values), memcpy(w, weights, sizeof weights);
        struct fpl_gemm g = {.role = FPL_FORWARD,
                             .R = 1,
                             .n = 4,
                             .O = 1,
                             .I = 1,
                             .a = x,
                             .b = w + 2,
                             .out = out,
                             .qa = &q,
                             .qb = &q};
        k->gemm(dev, &g);
        assert_true(out[0] == 0.0f && !signbit(out[0]));
        assert_true(isinf(out[1]) && out[2] == 0.0f && isnan(out[3]));
        k->release(dev, x), k->release(dev, w);
        k->close(dev);
    }
}

static void device_arguments(void **unused) {
    (void)unused;
    const struct fpl_kernels *k = fpl_backend("cpu");
    struct fpl_device *dev = NULL;
    struct fpl_error err = {0};
    const struct fpl_device_options none = {.threads = 0};
    assert_int_equal(k->open(&dev, &none, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "threads"));
    assert_null(fpl_backend("gpu"));
    assert_string_equal(fpl_backend_names[0], "cpu");

    dev = open_device(k, 1);
    char text[64];
    k->describe(dev, text, sizeof text);
    assert_non_null(strstr(text, fpl_simd_level()));
    assert_null(strchr(text, ','));
    assert_null(k->alloc(dev, SIZE_MAX / 2));
    assert_int_equal(k->check(dev, &err), FPL_MEMORY);
    k->close(dev);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chain_bits),
        cmocka_unit_test(cache),
        cmocka_unit_test(special_values),
        cmocka_unit_test(device_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
