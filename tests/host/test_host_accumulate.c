/* test_host_accumulate.c - emulated accumulators and rare quantizers: the CUDA backend against the CPU's, bit
 * by bit.
 *
 * Both backends restate formats/accumulator.h and formats/reference.c in their own order of work, and
 * the CPU's is held to the definitions by test_accumulate.c and test_quantize_rare.c.  Every kind of
 * accumulator, all roles, ragged shapes, replicas with sums and quantizers of their own (so a pack is cut
 * into runs that sum alike), accumulation into old values, random bits that depend on the place of a call in
 * its step, and operands with infinities and NaN.
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

#include "../ref/harness.h"

enum { R = 4 };

static const struct fpl_kernels *tables[2];
static struct fpl_device *devices[2];

static struct fpl_accumulator_plan sum_plan(const char *text) {
    struct fpl_accumulator a;
    struct fpl_accumulator_plan plan;
    struct fpl_error err = {0};
    if (fpl_accumulator_parse(text, &a, &err) != FPL_OK) fail_msg("%s", err.text);
    fpl_accumulator_lower(&a, &plan);
    return plan;
}

static struct fpl_operand operand(const char *text, uint32_t stream, uint64_t element) {
    struct fpl_quantizer q;
    struct fpl_operand o;
    struct fpl_error err = {0};
    memset(&o, 0, sizeof o);
    if (fpl_quantizer_parse(text, &q, &err) != FPL_OK) fail_msg("%s: %s", text, err.text);
    fpl_quantizer_lower(&q, NULL, &o.plan);
    o.at = (struct fpl_random_at){.seed = 7 + stream, .step = 3, .stream = stream, .element = element};
    return o;
}

/* What operands hold beside ordinary values; LARGE and SMALL: products near the ends of float32. */
enum special { ORDINARY, NONFINITE, LARGE, SMALL, SPECIALS };

static float *values(int64_t count, enum special special) {
    float *x = harness_floats(count, 1);
    for (int64_t i = 0; i < count; i++) {
        if (harness_draw() % 3 == 0) x[i] = (float)(int32_t)(harness_draw() % 15) * 0.25f - 1.75f; /* ties */
        if (harness_draw() % 9 == 0) x[i] = ldexpf(x[i], (int)(harness_draw() % 40) - 20);
        if (special == NONFINITE && harness_draw() % 40 == 0) x[i] = harness_draw() % 2 ? INFINITY : NAN;
        if (special == LARGE) x[i] = ldexpf(x[i], 50 + (int)(harness_draw() % 14));
        if (special == SMALL) x[i] = ldexpf(x[i], -(int)(60 + harness_draw() % 16));
    }
    return x;
}

/* One call on one backend; out and bad are host arrays. */
static void run(int which, struct fpl_gemm g, int64_t a_size, int64_t b_size, int64_t out_size,
                const float *a, const float *b, const float *old, float *out, int64_t *bad) {
    const struct fpl_kernels *k = tables[which];
    struct fpl_device *dev = devices[which];
    struct fpl_error err = {0};
    float *memory[3] = {k->alloc(dev, (size_t)(R * a_size) * 4), k->alloc(dev, (size_t)(R * b_size) * 4),
                        k->alloc(dev, (size_t)(R * out_size) * 4)};
    g.nonfinite = k->alloc(dev, R * sizeof(int64_t));
    k->upload(dev, memory[0], a, (size_t)(R * a_size) * 4);
    k->upload(dev, memory[1], b, (size_t)(R * b_size) * 4);
    k->upload(dev, memory[2], old, (size_t)(R * out_size) * 4);
    g.a = memory[0];
    g.b = memory[1];
    g.out = memory[2];
    k->gemm(dev, &g);
    k->download(dev, out, memory[2], (size_t)(R * out_size) * 4);
    k->download(dev, bad, g.nonfinite, R * sizeof(int64_t));
    if (k->check(dev, &err) != FPL_OK) fail_msg("%s: %s", k->name, err.text);
    for (int i = 0; i < 3; i++) k->release(dev, memory[i]);
    k->release(dev, g.nonfinite);
}

static void compare(const char *name, const struct fpl_gemm *g, enum special special) {
    const int64_t a_size = g->n * (g->role == FPL_FORWARD ? g->I : g->O);
    const int64_t b_size = (g->role == FPL_WGRAD ? g->n : g->O) * g->I;
    const int64_t out_size = g->role == FPL_FORWARD ? g->n * g->O
                             : g->role == FPL_DGRAD ? g->n * g->I
                                                    : g->O * g->I;
    float *a = values(R * a_size, special), *b = values(R * b_size, special),
          *old = harness_floats(R * out_size, 1);
    float *out[2];
    int64_t bad[2][R];
    for (int i = 0; i < 2; i++) {
        out[i] = harness_alloc(R * out_size, sizeof(float));
        run(i, *g, a_size, b_size, out_size, a, b, old, out[i], bad[i]);
    }
    harness_same_bits(name, out[1], out[0], R * out_size);
    assert_memory_equal(bad[0], bad[1], sizeof bad[0]);
    for (int i = 0; i < 2; i++) free(out[i]);
    free(a);
    free(b);
    free(old);
}

static void all_roles(const char *const sums[R], const char *const qa[R], const char *const qb[R],
                      int hadamard) {
    /* n, O, I: less than a tile; more than a slice; several tiles and slices, none of them whole. */
    static const int64_t shapes[][3] = {{5, 17, 33}, {20, 9, 48}, {37, 70, 136}};
    const int shape_count = sizeof shapes / sizeof *shapes - (hadamard != 0);
    struct fpl_accumulator_plan plans[R];
    struct fpl_operand a[R], b[R];
    for (int r = 0; r < R; r++) plans[r] = sum_plan(sums[r]);
    for (int shape = 0; shape < shape_count; shape++)
        for (int role = 0; role < 3; role++) {
            struct fpl_gemm g = {.role = (enum fpl_role)role, .R = R, .qa = a, .qb = b, .accumulator = plans};
            g.n = shapes[shape][0], g.O = shapes[shape][1], g.I = shapes[shape][2];
            g.accumulate = shape == 1;
            const int64_t width = role == FPL_FORWARD ? g.I : g.O;
            for (int r = 0; r < R; r++) {
                a[r] = operand(qa[r], 2, (uint64_t)(40 * width));
                b[r] = operand(qb[r], 5, 80);
                a[r].hadamard = b[r].hadamard = r == 1 ? hadamard : 0;
            }
            char name[128];
            snprintf(name, sizeof name, "%s.. %s.. %s.. role %d shape %d", sums[0], qa[0], qb[0], role,
                     shape);
            harness_seed((uint64_t)(role + 3 * shape));
            for (int special = 0; special < (shape < 2 ? SPECIALS : 1); special++)
                compare(name, &g, (enum special)special);
        }
}

static void test_sums(void **unused) {
    (void)unused;
    static const char *const sums[][R] = {{"fp16", "bf16:rtz/8", "fp32", "e5m10:sr"},
                                          {"chunk:e5m10/16", "align:16,13", "align:4,25/8", "e8m13ieee:rto"},
                                          {"e4m3fn", "e5m2ieee:ovf/4", "chunk:bf16:sr8/5", "align:32,2"},
                                          {"fp32", "fp32", "fp16:srb/6", "e6m9:rna"},
                                          /* by tiles (kernels/cuda/accumulate_step.h) */
                                          {"fp16", "fp16/24", "e5m10", "e5m10:satp/5"},
                                          {"bf16", "tf32/40", "bf16:rtz", "fp32:rtz/7"},
                                          {"fp16:rtz", "e4m3fn:rna", "e2m12:rtz/33", "fp32/16"},
                                          {"bf16:sr", "tf32:sr8/12", "fp16:sr", "e5m10:sr8/9"},
                                          {"fp32:sr", "e4m3:sr4", "bf16:sr3", "e8m13ieee:sr"},
                                          {"align:8,24", "align:16,25/32", "align:32,13", "align:1,1"},
                                          {"align:4,21/12", "align:32,38", "align:64,20", "align:5,23"},
                                          {"e8m22ieee", "fp16:rup", "e5m0", "e4m3fnuz"}};
    static const char *const none[R] = {"-", "-", "-", "-"};
    static const char *const some[R] = {"e4m3fn/1x32:e8m0", "-", "e2m1:sr/row", "e5m2ieee/tensor"};
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++) {
        all_roles(sums[i], none, none, 0);
        all_roles(sums[i], some, none, 16);
    }
}

static void test_blocks(void **unused) {
    (void)unused;
    static const char *const sums[][R] = {
        {"block", "block:fp16", "block:align:8,13", "fp32"},
        {"block:chunk:bf16/4", "block:e5m10:sr", "block", "block:fp16/3"},
        {"block:bf16", "block:align:32,13/64", "block:bf16:sr", "block:e5m10:rtz/9"}};
    static const char *const qa[][R] = {{"e4m3fn/1x16", "e2m1/1x8:e4m3fn+t", "e4m3fn/4x5", "-"},
                                        {"int8/row", "e4m3fn:sr/1x8:e8m0", "-", "uint4/1x8+z"},
                                        {"e4m3/1x12", "e4m3/1x32", "e4m3/1x8", "e3m2/1x40"}};
    static const char *const qb[][R] = {{"e4m3fn/16x16", "e2m1/1x16:e4m3fn+t", "-", "e4m3fn/tensor"},
                                        {"e2m1/1x8+mse", "bf16", "nf4/1x12", "e2m1/1x16:e4m3fn+t+46"},
                                        {"e4m3/1x16", "e4m3/1x32", "e4m3/8x8", "e3m2/1x32"}};
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++) {
        all_roles(sums[i], qa[i], qb[i], 0);
        all_roles(sums[i], qa[i], qb[i], 32);
    }
}

/* Zero points and searched scales, whose scales take more than an amax. */
static void test_rare(void **unused) {
    (void)unused;
    static const char *const texts[] = {
        "uint4/1x8+z",           "uint8/row+z",     "uint2/tensor+z", "uint4/4x3+z+mse", "int4/1x8+mse",
        "e2m1/1x16:e4m3fn+t+46", "e4m3:sr/row+mse", "nf4/1x16+mse",   "uint4:sr/col+z",  "e2m1/1x16+46"};
    enum { ROWS = 13, COLS = 37, SIZE = ROWS * COLS };
    for (size_t t = 0; t < sizeof texts / sizeof *texts; t++) {
        struct fpl_operand q[2] = {operand(texts[t], 1, 5), operand("e4m3fn/row", 1, 5)};
        int64_t bad[2][2] = {{0}};
        float *out[2];
        harness_seed(900 + t);
        float *x = values(2 * SIZE, 1);
        for (int i = 0; i < 2; i++) {
            float *p = tables[i]->alloc(devices[i], 2 * SIZE * sizeof *p);
            int64_t *counts = tables[i]->alloc(devices[i], sizeof bad[i]);
            tables[i]->upload(devices[i], p, x, 2 * SIZE * sizeof *p);
            tables[i]->quantize(devices[i], 2, ROWS, COLS, q, p, p, counts);
            out[i] = harness_alloc(2 * SIZE, sizeof *p);
            tables[i]->download(devices[i], out[i], p, 2 * SIZE * sizeof *p);
            tables[i]->download(devices[i], bad[i], counts, sizeof bad[i]);
            tables[i]->release(devices[i], p);
            tables[i]->release(devices[i], counts);
        }
        harness_same_bits(texts[t], out[1], out[0], 2 * SIZE);
        assert_memory_equal(bad[0], bad[1], sizeof bad[0]);
        free(out[0]);
        free(out[1]);
        free(x);
    }
}

/* No entry is missing. */
static void test_table(void **unused) {
    (void)unused;
    unsigned char none[sizeof(void *)] = {0};
    assert_string_equal(tables[1]->name, "cuda");
    for (size_t i = 0; i + sizeof none <= sizeof *tables[1]; i += sizeof none)
        assert_memory_not_equal((const unsigned char *)tables[1] + i, none, sizeof none);
}

static int open_all(void **unused) {
    (void)unused;
    const struct fpl_device_options options = {.threads = 1};
    struct fpl_error err = {0};
    tables[0] = fpl_backend("cpu");
    tables[1] = fpl_backend("cuda");
    for (int i = 0; i < 2; i++)
        if (tables[i] == NULL || tables[i]->open(&devices[i], &options, &err) != FPL_OK) return -1;
    return 0;
}

static int close_all(void **unused) {
    (void)unused;
    for (int i = 0; i < 2; i++) tables[i]->close(devices[i]);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_table), cmocka_unit_test(test_sums),
                                       cmocka_unit_test(test_blocks), cmocka_unit_test(test_rare)};
    return cmocka_run_group_tests(tests, open_all, close_all);
}
