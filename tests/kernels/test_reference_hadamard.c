/* test_reference_hadamard.c - operands under the random Hadamard transform, and the clip mask.
 *
 * The transform has no entry of its own; it is seen through products.  A product whose operand
 * asks for a transform must have the bits of the product of the operand that fpl_hadamard
 * transformed here, in the layout of the role: that holds for any accumulator and quantizer.
 * With identity operands it must equal the plain product up to rounding: each transformed
 * operand is off by at most eta = gamma_7 times its group's norm in every element, so a
 * product of K terms by at most (2 eta + eta^2 + gamma_K) times the product of the norms of
 * its rows, a plain one by gamma_K sum |a| |b|.
 *
 * The mask: against fpl_clips_reference, bit for bit without a transform; with one, groups in
 * which nothing clips keep their bits and the others are held to the dense transform.
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

enum { MOST = 3 };

struct product {
    enum fpl_role role;
    int64_t n, O, I;
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
                               .qa = s->qa + first,
                               .qb = s->qb + first,
                               .nonfinite = p[3]};
    hh->kernels->gemm(dev, &g);
}

static struct fpl_operand operand(const char *quantizer, int hadamard, uint32_t stream) {
    struct fpl_operand o = {.hadamard = hadamard};
    struct fpl_quantizer q;
    struct fpl_error err = {0};
    if (fpl_quantizer_parse(quantizer, &q, &err) != FPL_OK) fail_msg("%s: %s", quantizer, err.text);
    fpl_quantizer_lower(&q, NULL, &o.plan);
    o.at = (struct fpl_random_at){.seed = 7 + stream, .step = 3, .stream = stream, .element = 24 * stream};
    return o;
}

static const struct {
    int64_t n, O, I;
} shapes[] = {
    {16, 16, 16}, {64, 48, 32}, {33, 70, 47}, {32, 5, 96}, {15, 130, 31}, {100, 33, 1},
};
static const char *const plans[][2] = {
    {"-", "-"},
    {"e2m1/1x16:e4m3fn+t", "e2m1:sr/1x16:e4m3fn+t"},
    {"bf16", "e4m3/tensor"},
    {"e3m2/col", "-"},
};
static const int transforms[][2] = {{16, 16}, {32, 32}, {16, 0}, {0, 32}};
#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static void run(struct product *s, int R, const float *a, const float *b, float *out, int64_t *bad) {
    const struct ref_product p = ref_product_shape(s->role, s->n, s->O, s->I);
    struct harness_buffer buffers[] = {{(void *)(uintptr_t)a, (size_t)p.a_size * sizeof *a, 0},
                                       {(void *)(uintptr_t)b, (size_t)p.b_size * sizeof *b, 0},
                                       {out, (size_t)p.out_size * sizeof *out, 0},
                                       {bad, sizeof *bad, 0}};
    harness_run(&h, "hadamard", call_gemm, s, R, buffers, 4);
}

/* One shape and role: three replicas with transforms of their own. */
static void check_products(enum fpl_role role, size_t shape, size_t plan) {
    struct product s = {.role = role, .n = shapes[shape].n, .O = shapes[shape].O, .I = shapes[shape].I};
    const struct ref_product p = ref_product_shape(role, s.n, s.O, s.I);
    if (!harness_take()) return;
    float *a = harness_floats(MOST * p.a_size, 1), *b = harness_floats(MOST * p.b_size, 0.25);
    float *ta = harness_alloc(MOST * p.a_size, sizeof *ta), *tb = harness_alloc(MOST * p.b_size, sizeof *tb);
    float *out = harness_nans(MOST * p.out_size), *want = harness_nans(MOST * p.out_size);
    int64_t bad[MOST] = {0}, want_bad[MOST] = {0};
    if (plan == 1) a[0] = INFINITY, b[p.b_size - 1] = NAN; /* counted after the transform */
    memcpy(ta, a, (size_t)(MOST * p.a_size) * sizeof *a);
    memcpy(tb, b, (size_t)(MOST * p.b_size) * sizeof *b);
    for (int r = 0; r < MOST; r++) {
        const int *t = transforms[((size_t)r + shape) % COUNT(transforms)];
        s.qa[r] = operand(plans[plan][0], t[0], (uint32_t)r);
        s.qb[r] = operand(plans[plan][1], t[1], (uint32_t)(8 + r));
        ref_hadamard_float(t[0], p.rows, p.depth, p.a_row, p.a_col, ta + r * p.a_size);
        ref_hadamard_float(t[1], p.cols, p.depth, p.b_row, p.b_col, tb + r * p.b_size);
    }
    run(&s, MOST, a, b, out, bad);
    for (int r = 0; r < MOST; r++) s.qa[r].hadamard = s.qb[r].hadamard = 0;
    run(&s, MOST, ta, tb, want, want_bad);
    harness_same_bits("transformed product", out, want, MOST * p.out_size);
    assert_memory_equal(bad, want_bad, sizeof bad);
    free(a), free(b), free(ta), free(tb), free(out), free(want);
}

static void test_products(void **state) {
    (void)state;
    harness_seed(1);
    for (int role = FPL_FORWARD; role <= FPL_WGRAD; role++)
        for (size_t shape = 0; shape < COUNT(shapes); shape++)
            for (size_t plan = 0; plan < COUNT(plans); plan++)
                check_products((enum fpl_role)role, shape, plan);
}

static double norm(const float *x, int64_t depth, int64_t stride) {
    double sum = 0;
    for (int64_t k = 0; k < depth; k++) sum += (double)x[k * stride] * (double)x[k * stride];
    return sqrt(sum);
}

/* Identity operands, both transformed: the plain product up to rounding. */
static void test_unchanged_product(void **state) {
    (void)state;
    harness_seed(2);
    for (int n = 16; n <= 32; n *= 2) {
        for (int role = FPL_FORWARD; role <= FPL_WGRAD; role++) {
            for (size_t shape = 0; shape < COUNT(shapes); shape++) {
                struct product s = {
                    .role = (enum fpl_role)role, shapes[shape].n, shapes[shape].O, shapes[shape].I};
                const struct ref_product p = ref_product_shape(s.role, s.n, s.O, s.I);
                float *a = harness_floats(p.a_size, 1), *b = harness_floats(p.b_size, 1);
                float *out = harness_nans(p.out_size);
                int64_t bad = 0;
                s.qa[0] = operand("-", n, 0);
                s.qb[0] = operand("-", n, 1);
                run(&s, 1, a, b, out, &bad);
                assert_int_equal(bad, 0);
                const double eta = harness_gamma(7) * sqrt((double)n), growth = harness_gamma(p.depth);
                for (int64_t i = 0; i < p.out_size; i++) {
                    const float *x = a + i / p.cols * p.a_row, *y = b + i % p.cols * p.b_row;
                    double exact = 0;
                    for (int64_t k = 0; k < p.depth; k++)
                        exact += (double)x[k * p.a_col] * (double)y[k * p.b_col];
                    const double norms = norm(x, p.depth, p.a_col) * norm(y, p.depth, p.b_col);
                    harness_within("unchanged", i, (double)out[i], exact,
                                   (2 * eta + eta * eta + growth * (1 + eta) * (1 + eta)) * norms);
                }
                free(a), free(b), free(out);
            }
        }
    }
    print_message("largest error / bound of an unchanged product: %.3f\n", harness_worst());
}

/* ---- clip mask ---------------------------------------------------------------------------------- */

struct masking {
    int64_t rows, cols;
    struct fpl_operand q[MOST];
};

static void call_mask(const struct harness *hh, struct fpl_device *dev, int first, int R, void **p,
                      const void *shape) {
    const struct masking *s = shape;
    hh->kernels->clip_mask(dev, R, s->rows, s->cols, s->q + first, p[0], p[1]);
}

static const char *const clippers[] = {
    "e2m1",
    "e2m1/1x32:e8m0",
    "e2m1:sr/1x32:e8m0",
    "e4m3fn",
    "e2m1/1x16:e4m3fn+t",
    "e4m3fn/tensor",
    "int4:rup/row:e8m0",
    "e3m2:rdn:ovf/col:e8m0",
    "e2m1:sr3/7x5:floor",
    "uint4/1x16+z",
    "e2m1/1x16+mse",
    "ue4m3fn",
    "e2m3/1x8:p3109",
    "fp16",
    "-",
    "e2m1:rtz/128x128:even",
};

/* What must be masked in replica r; counts say what the test saw. */
static void check_mask(const char *name, const struct masking *s, int r, const float *x, const float *old,
                       const float *got, int64_t seen[2]) {
    const int64_t size = s->rows * s->cols, cols = s->cols;
    const int n = s->q[r].hadamard;
    float *tx = harness_alloc(size, sizeof *tx);
    uint8_t *clips = harness_alloc(size, 1);
    double *want = harness_widen(old, size);
    memcpy(tx, x, (size_t)size * sizeof *tx);
    ref_hadamard_float(n, s->rows, cols, cols, 1, tx);
    if (!s->q[r].plan.identity)
        fpl_clips_reference(&s->q[r].plan, s->rows, cols, cols, 1, tx, clips, &s->q[r].at);
    double *gx = harness_widen(x, size);
    ref_clip_mask(1, s->rows, cols, &s->q[r], gx, want);
    for (int64_t i = 0; i < size; i++) {
        const int64_t line = i / cols, j = i % cols, first = n ? line * cols + j / n * n : i;
        const int grouped = n && j / n * n + n <= cols;
        int any = 0;
        double magnitude = 0;
        for (int64_t k = first; k < first + (grouped ? n : 1); k++) {
            any |= clips[grouped ? k : i];
            magnitude += fabs((double)old[grouped ? k : i]);
        }
        seen[any]++;
        if (!any)
            assert_true(fpl_float_bits(got[i]) == fpl_float_bits(old[i]));
        else if (!grouped)
            assert_true(got[i] == 0.0f);
        else
            harness_within(name, i, (double)got[i], want[i], 3 * harness_gamma(7) * magnitude);
    }
    free(tx), free(clips), free(want), free(gx);
}

static void test_clip_mask(void **state) {
    static const struct { int64_t rows, cols; } sizes[] = {{1, 1}, {3, 16}, {17, 48}, {40, 77}, {64, 200}};
    int64_t seen[2] = {0, 0};
    (void)state;
    harness_seed(3);
    for (size_t c = 0; c < COUNT(clippers); c++) {
        for (size_t z = 0; z < COUNT(sizes); z++) {
            if (!harness_take()) continue;
            struct masking s = {.rows = sizes[z].rows, .cols = sizes[z].cols};
            const int64_t size = s.rows * s.cols;
            float *x = harness_floats(MOST * size, 3), *g = harness_floats(MOST * size, 1);
            float *old = harness_alloc(MOST * size, sizeof *old);
            for (int64_t i = 0; i < MOST * size; i += 29) x[i] *= 1000.0f;
            if (size > 200) x[7] = INFINITY, x[40] = -INFINITY, x[55] = NAN;
            memcpy(old, g, (size_t)(MOST * size) * sizeof *old);
            for (int r = 0; r < MOST; r++)
                s.q[r] = operand(clippers[c], r == 1 ? 16 : r == 2 ? 32 : 0, (uint32_t)r);
            struct harness_buffer buffers[] = {{x, (size_t)size * sizeof *x, 0},
                                               {g, (size_t)size * sizeof *g, 0}};
            harness_run(&h, clippers[c], call_mask, &s, MOST, buffers, 2);
            for (int r = 0; r < MOST; r++)
                check_mask(clippers[c], &s, r, x + r * size, old + r * size, g + r * size, seen);
            free(x), free(g), free(old);
        }
    }
    print_message("groups without and with a clipped element: %lld, %lld elements\n", (long long)seen[0],
                  (long long)seen[1]);
    assert_true(seen[0] > 10000 && seen[1] > 10000);
}

static int open_all(void **state) {
    (void)state;
    harness_open(&h);
    return 0;
}

static int close_all(void **state) {
    (void)state;
    harness_close(&h);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_unchanged_product),
        cmocka_unit_test(test_clip_mask),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
