/* test_reference_gemm.c - the backend's three products of a linear layer.
 *
 * kernels.h promises more than an error bound: each output element is one chain of fused
 * multiply-adds in increasing k, starting from +0 or, accumulating, from the old value.  So
 * bits are compared with that chain, run with fmaf on operands that
 * fpl_quantize_reference prepared.  Apart from that every element is held to the error of
 * such a chain against the double-precision product, gamma_K (|old| + sum |a| |b|).
 * A matrix unit's library promises the bound of cublaslt.h only, gamma_4(K+2), and that a NaN
 * among the products of an element makes it NaN: "cublasLt" in the device's description.
 * Shapes are odd on purpose: rows and columns around every tile width, K = 1 and K long.
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
static int any_order; /* products are held to the library's bound */

static const char *const role_names[] = {"forward", "dgrad", "wgrad"};

enum { MOST = 3 };

struct product {
    enum fpl_role role;
    int64_t n, O, I;
    int accumulate;
    struct fpl_operand qa[MOST], qb[MOST];
};

static void call_gemm(const struct harness *hh, struct fpl_device *dev, int first, int R, void **p,
                      const void *shape) {
    const struct product *s = shape;
    const struct fpl_gemm g = {.role = s->role,
                               .R = R,
                               .n = s->n,
                               .O = s->O,
                               .I = s->I,
                               .a = p[0],
                               .b = p[1],
                               .out = p[2],
                               .accumulate = s->accumulate,
                               .qa = s->qa + first,
                               .qb = s->qb + first,
                               .nonfinite = p[3]};
    hh->kernels->gemm(dev, &g);
}

static void set_plan(struct fpl_operand *o, const char *quantizer, const char *post, uint32_t stream) {
    struct fpl_quantizer q;
    struct fpl_format f;
    struct fpl_error err = {0};
    if (fpl_quantizer_parse(quantizer, &q, &err) != FPL_OK) fail_msg("%s: %s", quantizer, err.text);
    if (post && fpl_format_parse(post, &f, &err) != FPL_OK) fail_msg("%s: %s", post, err.text);
    fpl_quantizer_lower(&q, post ? &f : NULL, &o->plan);
    o->at = (struct fpl_random_at){.seed = 99 + stream, .step = 4, .stream = stream, .element = 40 * stream};
}

/* A replica's operand as the product must see it. */
static float *prepared(const struct fpl_operand *o, const float *x, int64_t size, int64_t rows, int64_t depth,
                       int64_t row_stride, int64_t col_stride, int64_t *bad) {
    float *q = harness_alloc(size, sizeof *q);
    const int64_t count =
        fpl_quantize_reference(&o->plan, rows, depth, row_stride, col_stride, x, q, NULL, &o->at);
    if (!o->plan.identity) *bad += count;
    return q;
}

static void check_replica(const char *name, const struct product *s, int r, const float *a, const float *b,
                          const float *old, const float *got, int64_t nonfinite, int finite) {
    const struct ref_product p = ref_product_shape(s->role, s->n, s->O, s->I);
    int64_t bad = 0;
    float *A = prepared(&s->qa[r], a, p.a_size, p.rows, p.depth, p.a_row, p.a_col, &bad);
    float *B = prepared(&s->qb[r], b, p.b_size, p.cols, p.depth, p.b_row, p.b_col, &bad);
    float *chain = harness_alloc(p.out_size, sizeof *chain);
    for (int64_t i = 0; i < p.rows; i++) {
        for (int64_t j = 0; j < p.cols; j++) {
            const int64_t at = i * p.cols + j;
            float acc = s->accumulate ? old[at] : 0.0f;
            double exact = (double)acc, magnitude = fabs((double)acc);
            int nan = 0;
            for (int64_t k = 0; k < p.depth; k++) {
                const float x = A[i * p.a_row + k * p.a_col], y = B[j * p.b_row + k * p.b_col];
                acc = fmaf(x, y, acc);
                nan |= isnan(x * y);
                exact += (double)x * (double)y;
                magnitude += fabs((double)x * (double)y);
            }
            chain[at] = acc;
            if (finite)
                harness_within(name, at, (double)got[at], exact,
                               harness_gamma(any_order ? 4 * (p.depth + 2) : p.depth) * magnitude +
                                   (double)(p.depth + 2) * 0x1p-149);
            if (nan) assert_true(isnan(got[at]));
        }
    }
    if (!any_order) harness_same_bits(name, got, chain, p.out_size);
    assert_int_equal(nonfinite, bad);
    free(A);
    free(B);
    free(chain);
}

/* specials: sprinkle zeros, Inf and NaN over the operands */
static void run_product(struct product *s, int R, int specials, const char *what) {
    char name[200];
    if (!harness_take()) return;
    snprintf(name, sizeof name, "%s %s n=%lld O=%lld I=%lld R=%d acc=%d", what, role_names[s->role],
             (long long)s->n, (long long)s->O, (long long)s->I, R, s->accumulate);
    const struct ref_product p = ref_product_shape(s->role, s->n, s->O, s->I);
    float *a = harness_floats(R * p.a_size, 1), *b = harness_floats(R * p.b_size, 0.25);
    if (specials) {
        static const float values[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 3e38f, 1e-40f};
        for (int64_t i = 5; i < R * p.a_size; i += 11 + harness_draw() % 60)
            a[i] = values[harness_draw() % 7];
        for (int64_t i = 3; i < R * p.b_size; i += 13 + harness_draw() % 60)
            b[i] = values[harness_draw() % 7];
    }
    float *out = s->accumulate ? harness_floats(R * p.out_size, 1) : harness_nans(R * p.out_size);
    float *old = harness_alloc(R * p.out_size, sizeof *old);
    memcpy(old, out, (size_t)(R * p.out_size) * sizeof *old);
    int64_t nonfinite[MOST] = {0};
    struct harness_buffer buffers[] = {{a, (size_t)p.a_size * sizeof *a, 0},
                                       {b, (size_t)p.b_size * sizeof *b, 0},
                                       {out, (size_t)p.out_size * sizeof *out, 0},
                                       {nonfinite, sizeof *nonfinite, 0}};
    harness_run(&h, name, call_gemm, s, R, buffers, 4);
    for (int r = 0; r < R; r++)
        check_replica(name, s, r, a + r * p.a_size, b + r * p.b_size, old + r * p.out_size,
                      out + r * p.out_size, nonfinite[r], !specials);
    free(a);
    free(b);
    free(out);
    free(old);
}

static void plans(struct product *s, const char *qa, const char *qb, const char *post) {
    for (int r = 0; r < MOST; r++) {
        set_plan(&s->qa[r], qa, post, (uint32_t)r);
        set_plan(&s->qb[r], qb, post, (uint32_t)r + 8);
    }
}

/* Every combination of edges at tile borders, all roles. */
static void test_identity(void **unused) {
    (void)unused;
    static const int64_t sizes[] = {1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 48, 65, 97};
    const int count = (int)(sizeof sizes / sizeof *sizes);
    struct product s = {0};
    plans(&s, "-", "-", NULL);
    for (int role = 0; role < 3; role++) {
        for (int i = 0; i < count; i++) {
            for (int j = 0; j < count; j++) {
                harness_seed((uint64_t)(role * 1000 + i * 20 + j));
                s.role = (enum fpl_role)role;
                s.n = sizes[i];
                s.O = sizes[j];
                s.I = sizes[(i * 3 + j * 5) % count];
                s.accumulate = (i + j) & 1;
                run_product(&s, 1 + (i + j) % 3, 0, "identity");
            }
        }
    }
    print_message("largest error / bound: %.3f\n", harness_worst());
}

/* The shapes of a small model, a long reduction, and a wide vocabulary. */
static void test_model_shapes(void **unused) {
    (void)unused;
    static const int64_t shapes[][3] = {{128, 48, 16},  {64, 96, 32},   {256, 32, 88},
                                        {64, 256, 64},  {2048, 24, 16}, {3, 1024, 40},
                                        {130, 192, 64}, {1, 50257, 16}, {600, 33, 7}};
    struct product s = {0};
    plans(&s, "-", "-", NULL);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int role = 0; role < 3; role++) {
            harness_seed(500 + i * 3 + (uint64_t)role);
            s.role = (enum fpl_role)role;
            s.n = shapes[i][0];
            s.O = shapes[i][1];
            s.I = shapes[i][2];
            s.accumulate = role == FPL_WGRAD;
            run_product(&s, 1 + (int)(i % 2), 0, "identity");
        }
    }
    print_message("largest error / bound: %.3f\n", harness_worst());
}

static const char *const quantizers[][2] = {{"e4m3fn/1x32:e8m0", "e4m3fn/1x32:e8m0"},
                                            {"e2m1/1x16", "e2m1/16x16"},
                                            {"e4m3/row", "e4m3/tensor"},
                                            {"bf16", "bf16"},
                                            {"e3m2:sr/1x32", "e3m2/1x32:e8m0"},
                                            {"e5m2ieee/tensor", "e4m3fn/tensor"},
                                            {"-", "e4m3:rna/row:mul"},
                                            {"e2m1:rtz/1x4:e8m0", "-"},
                                            {"int8/row", "int4/1x32"},
                                            {"e4m3fn/128x128", "e4m3fn:sr/1x128"},
                                            {"e2m1/col", "e3m0/7x5"},
                                            {"e2m1:sr/1x16:e4m3fn+t", "e2m1/16x16:e4m3fn+t"},
                                            {"e4m3fn/1x32:rceil", "e5m2ieee/1x16:e8m0"},
                                            {"e4m3fn/tensor", "e2m1/1x16:e4m3fn+t"}};

static void test_quantized(void **unused) {
    (void)unused;
    static const int64_t shapes[][3] = {{1, 1, 1}, {5, 33, 17}, {64, 48, 32}, {37, 16, 70}, {96, 130, 40}};
    struct product s = {0};
    for (size_t q = 0; q < sizeof quantizers / sizeof *quantizers; q++) {
        plans(&s, quantizers[q][0], quantizers[q][1], q % 3 == 0 ? "bf16" : NULL);
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            for (int role = 0; role < 3; role++) {
                harness_seed(2000 + q * 100 + i * 3 + (uint64_t)role);
                s.role = (enum fpl_role)role;
                s.n = shapes[i][0];
                s.O = shapes[i][1];
                s.I = shapes[i][2];
                s.accumulate = (int)(q + i) & 1;
                run_product(&s, 1 + (int)((q + i) % 3), 0, quantizers[q][0]);
            }
        }
    }
    print_message("largest error / bound: %.3f\n", harness_worst());
}

/* Replicas with different quantizers in one pack, identity among them. */
static void test_mixed_pack(void **unused) {
    (void)unused;
    struct product s = {.n = 41, .O = 50, .I = 35};
    for (int role = 0; role < 3; role++) {
        harness_seed(4000 + (uint64_t)role);
        s.role = (enum fpl_role)role;
        set_plan(&s.qa[0], "-", NULL, 1);
        set_plan(&s.qa[1], "e4m3fn:sr/1x32:e8m0", NULL, 2);
        set_plan(&s.qa[2], "-", "bf16", 3);
        set_plan(&s.qb[0], "e2m1/1x16", NULL, 4);
        set_plan(&s.qb[1], "e2m1:sr/tensor", NULL, 5);
        set_plan(&s.qb[2], "-", "bf16", 6);
        run_product(&s, 3, 0, "mixed");
        s.accumulate = 1;
        run_product(&s, 3, 0, "mixed");
        s.accumulate = 0;
    }
}

static void test_specials(void **unused) {
    (void)unused;
    struct product s = {.n = 33, .O = 49, .I = 66};
    for (size_t q = 0; q < sizeof quantizers / sizeof *quantizers; q++) {
        plans(&s, quantizers[q][0], quantizers[q][1], NULL);
        for (int role = 0; role < 3; role++) {
            harness_seed(6000 + q * 10 + (uint64_t)role);
            s.role = (enum fpl_role)role;
            run_product(&s, 2, 1, "specials");
        }
    }
}

/* A weight cache must notice new versions and may not confuse tensors, roles or packs. */
static void test_weight_cache(void **unused) {
    (void)unused;
    const struct fpl_kernels *k = h.kernels;
    struct product s = {.n = 9, .O = 40, .I = 33};
    plans(&s, "e4m3fn/1x32:e8m0", "e2m1:sr/1x32:e8m0", NULL);
    const int R = 2;
    float *x = harness_floats(R * s.n * s.I, 1), *dy = harness_floats(R * s.n * s.O, 1);
    float *dx = k->alloc(h.one, (size_t)(R * s.n * s.I) * sizeof *x);
    float *dev_x = k->alloc(h.one, (size_t)(R * s.n * s.I) * sizeof *x);
    float *dev_dy = k->alloc(h.one, (size_t)(R * s.n * s.O) * sizeof *x);
    float *y = k->alloc(h.one, (size_t)(R * s.n * s.O) * sizeof *x);
    float *w[2] = {k->alloc(h.one, (size_t)(R * s.O * s.I) * sizeof *x),
                   k->alloc(h.one, (size_t)(R * s.O * s.I) * sizeof *x)};
    k->upload(h.one, dev_x, x, (size_t)(R * s.n * s.I) * sizeof *x);
    k->upload(h.one, dev_dy, dy, (size_t)(R * s.n * s.O) * sizeof *x);
    float *host = harness_alloc(R * s.n * s.O, sizeof *host),
          *host_dx = harness_alloc(R * s.n * s.I, sizeof *host);
    for (int round = 0; round < 6; round++) {
        for (int tensor = 0; tensor < 2; tensor++) {
            /* new values every second round; the version rises with them */
            harness_seed(7000 + (uint64_t)(round / 2 * 2 + tensor));
            float *values = harness_floats(R * s.O * s.I, 1);
            k->upload(h.one, w[tensor], values, (size_t)(R * s.O * s.I) * sizeof *x);
            struct fpl_gemm g = {.role = FPL_FORWARD,
                                 .R = R,
                                 .n = s.n,
                                 .O = s.O,
                                 .I = s.I,
                                 .a = dev_x,
                                 .b = w[tensor],
                                 .out = y,
                                 .qa = s.qa,
                                 .qb = s.qb,
                                 .weights_version = 11 + (uint64_t)(round / 2)};
            k->gemm(h.one, &g);
            g.role = FPL_DGRAD;
            g.a = dev_dy;
            g.out = dx;
            k->gemm(h.one, &g);
            k->download(h.one, host, y, (size_t)(R * s.n * s.O) * sizeof *x);
            k->download(h.one, host_dx, dx, (size_t)(R * s.n * s.I) * sizeof *x);
            for (int r = 0; r < R; r++) {
                s.role = FPL_FORWARD;
                check_replica("cached forward", &s, r, x + r * s.n * s.I, values + r * s.O * s.I, NULL,
                              host + r * s.n * s.O, 0, 1);
                s.role = FPL_DGRAD;
                check_replica("cached dgrad", &s, r, dy + r * s.n * s.O, values + r * s.O * s.I, NULL,
                              host_dx + r * s.n * s.I, 0, 1);
            }
            free(values);
        }
    }
    float *device[] = {dx, dev_x, dev_dy, y, w[0], w[1]};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++) k->release(h.one, device[i]);
    free(x);
    free(dy);
    free(host);
    free(host_dx);
}

static int open_all(void **unused) {
    (void)unused;
    char text[256];
    harness_open(&h);
    h.kernels->describe(h.one, text, sizeof text);
    any_order = strstr(text, "cublasLt") != NULL;
    return 0;
}

static int close_all(void **unused) {
    (void)unused;
    harness_close(&h);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identity),  cmocka_unit_test(test_model_shapes),
        cmocka_unit_test(test_quantized), cmocka_unit_test(test_mixed_pack),
        cmocka_unit_test(test_specials),  cmocka_unit_test(test_weight_cache),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
