/* test_quantize_rare.c - quantizers that the CPU backend does by the definition, or partly so.
 *
 * Zero points, searched and delayed scales, codebooks and the variants B and C of stochastic
 * rounding: the backend's `quantize` and the operands of its products equal
 * fpl_quantize_reference at every level, with one thread and with three.
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
#include "../../kernels/kernels.h"

static const char *const texts[] = {"uint4/1x32+z",
                                    "uint8:sr/row+z",
                                    "uint2/16x16:e8m0+z",
                                    "uint4/col+z+mse",
                                    "int4/tensor+mse",
                                    "int3/1x32+mse",
                                    "e2m1/1x16:e4m3fn+t+46",
                                    "e2m1:sr/1x16+46",
                                    "e4m3fn/tensor:delayed",
                                    "e5m2ieee:sr/tensor:delayed4m2",
                                    "nf4/1x64",
                                    "nf4:sr/row",
                                    "nf4:srb",
                                    "nf4:satp/3x7:mul",
                                    "e4m3fn:srb/1x32",
                                    "e4m3fn:sr8c/row:e8m0",
                                    "e2m1:src:ovf",
                                    "fp16:sr32b"};
enum { TEXTS = sizeof texts / sizeof texts[0], ROWS = 67, COLS = 130, ALL = ROWS * COLS };

static const struct fpl_kernels *level(const char *name) {
    setenv("FPLAW_SIMD", name, 1);
    const struct fpl_kernels *k = strcmp(fpl_simd_level(), name) == 0 ? fpl_backend("cpu") : NULL;
    unsetenv("FPLAW_SIMD");
    return k;
}

static void fill(float *x, int n) {
    for (int i = 0; i < n; i += 4) {
        uint32_t w[4];
        fpl_random_block(31, (uint64_t)i, 0, fpl_stream(FPL_STREAM_TEST, 5), w);
        for (int k = 0; k < 4 && i + k < n; k++)
            x[i + k] = ldexpf((float)(int32_t)w[k], -31 - (int)(w[k] % 9));
    }
    x[5] = INFINITY;
    x[n / 2] = NAN;
    x[n - 3] = -0.0f;
}

static void operand_of(const char *text, struct fpl_operand *q) {
    struct fpl_quantizer parsed;
    struct fpl_error err = {FPL_OK, ""};
    memset(q, 0, sizeof *q);
    if (fpl_quantizer_parse(text, &parsed, &err) != FPL_OK) fail_msg("%s", err.text);
    fpl_quantizer_lower(&parsed, NULL, &q->plan);
    if (q->plan.history > 0) q->plan.delayed_amax = 0.7f;
    q->at = (struct fpl_random_at){.seed = 99, .step = 4, .stream = 2, .element = 21};
}

static void same(const char *what, const float *got, const float *want) {
    for (int i = 0; i < ALL; i++)
        if (fpl_float_bits(got[i]) != fpl_float_bits(want[i]))
            fail_msg("%s, element %d: %a, expected %a", what, i, (double)got[i], (double)want[i]);
}

static void test_quantize(void **state) {
    static const char *const levels[] = {"avx512", "avx2", "baseline"};
    static float x[ALL], want[ALL], got[ALL];
    (void)state;
    fill(x, ALL);
    for (int t = 0; t < TEXTS; t++) {
        struct fpl_operand q;
        operand_of(texts[t], &q);
        const int64_t bad = fpl_quantize_reference(&q.plan, ROWS, COLS, COLS, 1, x, want, NULL, &q.at);
        for (int run = 0; run < 6; run++) {
            const struct fpl_kernels *k = level(levels[run / 2]);
            struct fpl_device *dev;
            int64_t nonfinite = 0;
            if (k == NULL) continue;
            const struct fpl_device_options options = {.threads = run % 2 ? 3 : 1};
            assert_int_equal(k->open(&dev, &options, NULL), FPL_OK);
            k->quantize(dev, 1, ROWS, COLS, &q, x, got, &nonfinite);
            assert_int_equal(k->check(dev, NULL), FPL_OK);
            k->close(dev);
            same(texts[t], got, want);
            assert_int_equal(nonfinite, bad);
        }
    }
}

/* dx = Q(dy) Q(w) with dy the identity hands out Q(w), whose reduction axis runs down its
 * columns: the transposed view of the reference. */
static void test_transposed_operand(void **state) {
    enum { N = 48 };
    static float w[N * N], one[N * N], want[N * N], got[N * N];
    (void)state;
    fill(w, N * N);
    for (int i = 0; i < N * N; i++) {
        one[i] = i % (N + 1) == 0 ? 1.0f : 0.0f;
        if (!isfinite(w[i])) w[i] = 0.25f;
    }
    const struct fpl_kernels *k = fpl_backend("cpu");
    for (int t = 0; t < TEXTS; t++) {
        struct fpl_device *dev;
        struct fpl_operand q, none;
        operand_of(texts[t], &q);
        operand_of("-", &none);
        fpl_quantize_reference(&q.plan, N, N, 1, N, w, want, NULL, &q.at);
        const struct fpl_gemm g = {.role = FPL_DGRAD,
                                   .R = 1,
                                   .n = N,
                                   .O = N,
                                   .I = N,
                                   .a = one,
                                   .b = w,
                                   .out = got,
                                   .qa = &none,
                                   .qb = &q};
        assert_int_equal(k->open(&dev, &(struct fpl_device_options){.threads = 2}, NULL), FPL_OK);
        k->gemm(dev, &g);
        assert_int_equal(k->check(dev, NULL), FPL_OK);
        k->close(dev);
        for (int i = 0; i < N * N; i++)
            if (got[i] != want[i]) /* signs of zero are lost in sums */
                fail_msg("%s, element %d: %a, expected %a", texts[t], i, (double)got[i], (double)want[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantize),
        cmocka_unit_test(test_transposed_operand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
