/* test_oracle_quantizer.c - fpl_quantize_reference against the oracle, bit for bit.
 *
 * Formats x granularities x scale rules x roundings on ragged shapes, plain and transposed,
 * with data that spans binades, groups of zeros, subnormals, Inf, NaN and values at the
 * ends of the float32 range.  A golden case by hand keeps both from being wrong together.
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
#include "oracle.h"

enum { ROOM = 4096 };

static uint64_t state;

static uint32_t draw(void) {
    uint32_t w[4];
    fpl_random_block(23, state++, 0, fpl_stream(FPL_STREAM_TEST, 2), w);
    return w[0];
}

/* kind 0: about normal in size; 1: many binades; 2: as 1 with zeros, Inf and NaN;
 * 3: near both ends of float32 */
static void fill(float *x, int64_t n, int kind) {
    for (int64_t i = 0; i < n; i++) {
        const double u = (double)draw() * 0x1p-31 - 1.0;
        const int e = (int)(draw() % 40) - 20;
        double v = kind == 0 ? u : ldexp(u, e);
        if (kind == 3) v = ldexp(u, (i / 24) % 2 ? 127 : -130);
        x[i] = (float)v;
        if (kind == 2) {
            const uint32_t r = draw() % 20;
            if (r == 0 || (i / 16) % 3 == 0) x[i] = draw() & 1 ? 0.0f : -0.0f;
            if (r == 1) x[i] = INFINITY;
            if (r == 2) x[i] = -INFINITY;
            if (r == 3) x[i] = NAN;
        }
    }
}

static int same(float a, float b) {
    if (isnan(a) || isnan(b)) return isnan(a) && isnan(b);
    return fpl_float_bits(a) == fpl_float_bits(b);
}

static void compare(const char *text, const struct fpl_format *post, int64_t rows, int64_t cols,
                    int transposed, int kind) {
    static float x[ROOM], got[ROOM], want[ROOM], got_scale[ROOM], want_scale[ROOM];
    struct fpl_error err = {0};
    struct fpl_quantizer q;
    struct fpl_quantizer_plan plan;
    if (fpl_quantizer_parse(text, &q, &err) != FPL_OK) fail_msg("%s: %s", text, err.text);
    fpl_quantizer_lower(&q, post, &plan);
    fill(x, rows * cols, kind);
    const struct fpl_random_at at = {0x123456789abcdefull, 7, 3, 1000003};
    const int64_t rs = transposed ? 1 : cols, cs = transposed ? rows : 1;
    memset(got_scale, 0, sizeof got_scale);
    memset(want_scale, 0, sizeof want_scale);
    const int64_t bad = fpl_quantize_reference(&plan, rows, cols, rs, cs, x, got, got_scale, &at);
    const int64_t expected = oracle_quantize(&q, post, rows, cols, rs, cs, x, want, want_scale, &at);
    if (bad != expected)
        fail_msg("%s: %lld non-finite inputs, oracle %lld", text, (long long)bad, (long long)expected);
    for (int64_t i = 0; i < rows * cols; i++) {
        if (!same(got[i], want[i]))
            fail_msg("%s %lldx%lld%s data %d: element %lld, %a becomes %a, oracle %a", text, (long long)rows,
                     (long long)cols, transposed ? " transposed" : "", kind, (long long)i, (double)x[i],
                     (double)got[i], (double)want[i]);
    }
    for (int64_t i = 0; q.granularity != FPL_UNSCALED && !q.two_level && i < ROOM; i++) {
        if (!same(got_scale[i], want_scale[i]))
            fail_msg("%s %lldx%lld data %d: scale %lld is %a, oracle %a", text, (long long)rows,
                     (long long)cols, kind, (long long)i, (double)got_scale[i], (double)want_scale[i]);
    }
    /* In place gives the same. */
    fpl_quantize_reference(&plan, rows, cols, rs, cs, x, x, NULL, &at);
    for (int64_t i = 0; i < rows * cols; i++) assert_true(same(x[i], got[i]));
}

static void sweep(const char *scale, int kinds) {
    static const char *const formats[] = {"e4m3fn", "e2m1",     "e3m2", "e5m2ieee",  "e3m0",
                                          "int8",   "e4m3fnuz", "e1m2", "e4m3p3109e"};
    static const char *const roundings[] = {"", ":rna", ":rtz", ":sr", ":sr24", ":rup:ovf", ":rto:satp"};
    static const char *const grains[] = {"tensor", "row", "col", "1x16", "1x32", "3x5", "16x16", "1x1"};
    static const int shapes[][2] = {{1, 1}, {1, 37}, {5, 32}, {17, 33}, {33, 50}};
    for (size_t f = 0; f < 9; f++) {
        for (size_t r = 0; r < 7; r++) {
            for (size_t g = 0; g < 8; g++) {
                char text[96];
                snprintf(text, sizeof text, "%s%s/%s%s", formats[f], roundings[r], grains[g], scale);
                for (size_t s = 0; s < 5; s++) {
                    for (int kind = 0; kind < kinds; kind++) {
                        if ((f + r + g + s + (size_t)kind) % 5) continue; /* every pair still meets */
                        compare(text, NULL, shapes[s][0], shapes[s][1], (int)(s + r) & 1, kind);
                    }
                }
            }
        }
    }
}

static void test_fp32_scales(void **unused) {
    (void)unused;
    sweep("", 4);
}
static void test_e8m0_scales(void **unused) {
    (void)unused;
    sweep(":e8m0", 4);
}
static void test_rceil_scales(void **unused) {
    (void)unused;
    sweep(":rceil", 4);
}
static void test_ceil_scales(void **unused) {
    (void)unused;
    sweep(":ceil", 4);
}
static void test_even_scales(void **unused) {
    (void)unused;
    sweep(":even", 4);
}
static void test_mul_scales(void **unused) {
    (void)unused;
    sweep(":mul", 4);
}
static void test_format_scales(void **unused) {
    (void)unused;
    sweep(":ue5m3fn", 4);
}
static void test_two_level_scales(void **unused) {
    (void)unused;
    sweep(":ue4m3fn+t", 4);
}

static void test_unscaled(void **unused) {
    (void)unused;
    static const char *const texts[] = {"bf16", "fp16", "e4m3fn", "e2m1:sr", "e5m2ieee:rdn:ovf", "e3m2:rna"};
    for (size_t i = 0; i < 6; i++) {
        for (int kind = 0; kind < 4; kind++) compare(texts[i], NULL, 9, 31, kind & 1, kind);
    }
}

static void test_post_rounding(void **unused) {
    (void)unused;
    struct fpl_format bf16;
    struct fpl_error err = {0};
    assert_int_equal(fpl_format_parse("bf16", &bf16, &err), FPL_OK);
    static const char *const texts[] = {"e4m3:rna/1x32:mul", "e2m1:rna/row:mul", "e3m2/tensor", "bf16"};
    for (size_t i = 0; i < 4; i++) {
        for (int kind = 0; kind < 3; kind++) compare(texts[i], &bf16, 7, 70, kind & 1, kind);
    }
}

/* By hand: e2m1 values 0 .5 1 1.5 2 3 4 6, largest exponent 2.  amax 10 = 1.25 2^3, so the
 * floor rule gives 2^(3-2) = 2, rceil the first power with 6 s >= 10, also 2.
 * x / 2 = -5 (tie of 4 and 6, to 4), 1.25 (tie of 1 and 1.5, to 1), .3 (to .5), 0. */
static void test_by_hand(void **unused) {
    (void)unused;
    const float x[4] = {-10.0f, 2.5f, 0.6f, -0.0f}, want[4] = {-8.0f, 2.0f, 1.0f, -0.0f};
    static const char *const texts[] = {"e2m1/row:e8m0", "e2m1/1x4:rceil"};
    for (int i = 0; i < 2; i++) {
        struct fpl_quantizer q;
        struct fpl_quantizer_plan plan;
        struct fpl_error err = {0};
        float out[4], scale = 0;
        assert_int_equal(fpl_quantizer_parse(texts[i], &q, &err), FPL_OK);
        fpl_quantizer_lower(&q, NULL, &plan);
        fpl_quantize_reference(&plan, 1, 4, 4, 1, x, out, &scale, NULL);
        assert_true(scale == 2.0f);
        for (int j = 0; j < 4; j++) assert_true(same(out[j], want[j]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),       cmocka_unit_test(test_unscaled),
        cmocka_unit_test(test_fp32_scales),   cmocka_unit_test(test_e8m0_scales),
        cmocka_unit_test(test_rceil_scales),  cmocka_unit_test(test_ceil_scales),
        cmocka_unit_test(test_even_scales),   cmocka_unit_test(test_mul_scales),
        cmocka_unit_test(test_format_scales), cmocka_unit_test(test_two_level_scales),
        cmocka_unit_test(test_post_rounding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
