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

#include "../../formats/codebook.h"
#include "../../formats/random.h"
#include "oracle.h"

enum { ROOM = 4096 };

static const int shapes[][2] = {{1, 1}, {1, 37}, {5, 32}, {17, 33}, {33, 50}};

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

static void compare_delayed(const char *text, const struct fpl_format *post, int64_t rows, int64_t cols,
                            int transposed, int kind, float delayed) {
    static float x[ROOM], got[ROOM], want[ROOM], got_scale[ROOM], want_scale[ROOM];
    struct fpl_error err = {0};
    struct fpl_quantizer q;
    struct fpl_quantizer_plan plan;
    if (fpl_quantizer_parse(text, &q, &err) != FPL_OK) fail_msg("%s: %s", text, err.text);
    fpl_quantizer_lower(&q, post, &plan);
    plan.delayed_amax = delayed;
    fill(x, rows * cols, kind);
    const struct fpl_random_at at = {0x123456789abcdefull, 7, 3, 1000003};
    const int64_t rs = transposed ? 1 : cols, cs = transposed ? rows : 1;
    memset(got_scale, 0, sizeof got_scale);
    memset(want_scale, 0, sizeof want_scale);
    const int64_t bad = fpl_quantize_reference(&plan, rows, cols, rs, cs, x, got, got_scale, &at);
    const int64_t expected =
        oracle_quantize(&q, post, (double)delayed, rows, cols, rs, cs, x, want, want_scale, &at);
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

static void compare(const char *text, const struct fpl_format *post, int64_t rows, int64_t cols,
                    int transposed, int kind) {
    compare_delayed(text, post, rows, cols, transposed, kind, 0.0f);
}

static int all_pairs; /* with the argument `all` (ctest -L slow) */

static void sweep(const char *scale, int kinds) {
    static const char *const formats[] = {"e4m3fn", "e2m1",     "e3m2", "e5m2ieee",  "e3m0",
                                          "int8",   "e4m3fnuz", "e1m2", "e4m3p3109e"};
    static const char *const roundings[] = {"",         ":rna",      ":rtz",  ":sr",   ":sr24",
                                            ":rup:ovf", ":rto:satp", ":sr8b", ":sr24c"};
    static const char *const grains[] = {"tensor", "row", "col", "1x16", "1x32", "3x5", "16x16", "1x1"};
    for (size_t f = 0; f < 9; f++) {
        for (size_t r = 0; r < 9; r++) {
            for (size_t g = 0; g < 8; g++) {
                char text[96];
                snprintf(text, sizeof text, "%s%s/%s%s", formats[f], roundings[r], grains[g], scale);
                for (size_t s = 0; s < 5; s++) {
                    for (int kind = 0; kind < kinds; kind++) {
                        /* every pair still meets */
                        if ((f + r + g + s + (size_t)kind) % (all_pairs ? 5 : 13)) continue;
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

static void test_p3109_scales(void **unused) {
    (void)unused;
    sweep(":p3109", 4);
}

static void test_delayed_scales(void **unused) {
    (void)unused;
    static const char *const texts[] = {"e4m3fn/tensor:delayed", "e5m2ieee/tensor:delayed1m3",
                                        "e2m1:sr/tensor:delayed1024m31", "int8:rna/tensor:delayed"};
    static const float amaxes[] = {0.0f, 1.0f, 0.37f, 1e-40f, 3e38f, 1e20f};
    for (size_t t = 0; t < 4; t++)
        for (size_t a = 0; a < 6; a++)
            for (int kind = 0; kind < 4; kind++)
                compare_delayed(texts[t], NULL, 7, 33, (int)t & 1, kind, amaxes[a]);
}

/* Each text on each shape and kind of data, both ways of lying in memory. */
static void on_all_data(const char *text) {
    for (size_t s = 0; s < 5; s++)
        for (int kind = 0; kind < 4; kind++)
            compare(text, NULL, shapes[s][0], shapes[s][1], (int)s & 1, kind);
}

static void test_zero_points(void **unused) {
    (void)unused;
    static const char *const elements[] = {"uint1", "uint2", "uint4", "uint8", "uint16", "ue0m5"};
    static const char *const roundings[] = {"",         ":rna",      ":rtz", ":rup",
                                            ":rdn:ovf", ":rto:satp", ":sr",  ":sr3b"};
    static const char *const scalings[] = {"tensor+z",    "row+z",         "col:mul+z",       "1x16:e8m0+z",
                                           "3x5:rceil+z", "1x32:e4m3fn+z", "16x16:p3109+z",   "1x8:ceil+z",
                                           "1x32:even+z", "row:fp32+z",    "1x16:e4m3fn+t+z", "1x1+z"};
    char text[96];
    for (size_t e = 0; e < 6; e++)
        for (size_t r = 0; r < 8; r++)
            for (size_t g = 0; g < 12; g++) {
                if ((e + r + g) % 4) continue;
                snprintf(text, sizeof text, "%s%s/%s", elements[e], roundings[r], scalings[g]);
                on_all_data(text);
            }
}

static void test_searched_scales(void **unused) {
    (void)unused;
    static const char *const texts[] = {"e2m1/1x16+mse",
                                        "e2m1/1x32:e8m0+mse",
                                        "int4/row+mse",
                                        "int3:rna/tensor+mse",
                                        "e4m3fn/1x32:rceil+mse",
                                        "e2m1/1x16:e4m3fn+t+mse",
                                        "e3m2:sr/16x16:mul+mse",
                                        "uint4/1x32+z+mse",
                                        "uint3:sr/1x16:e8m0+z+mse",
                                        "e2m1:rtz/col:even+mse",
                                        "nf4/1x32+mse",
                                        "e2m1/1x16:e4m3fn+t+46",
                                        "e2m1/1x16:e4m3fn+46",
                                        "e2m1:sr/16x16:e4m3fn+t+46",
                                        "e2m1/row+46",
                                        "e2m1/1x16:ue4m0+t+46",
                                        "e2m1:srb/1x16:ue5m3fn+46"};
    for (size_t t = 0; t < sizeof texts / sizeof texts[0]; t++) on_all_data(texts[t]);
}

/* nf4 and a lopsided codebook from memory. */
static void test_codebooks(void **unused) {
    (void)unused;
    static const float values[] = {-3.0f, 0.0f, 0.75f, 1.0f, 1.0625f, 0x1p-20f, 8.0f};
    static const char *const rest[] = {"/1x32",    ":rna/row",     ":rtz/tensor",  ":rup/1x16:e8m0",
                                       ":rdn/col", ":sr/1x32:mul", ":sr5b/3x5",    ":sr32c/1x64",
                                       "",         ":satp/16x16",  ":rne:ovf/row", "/1x16:e4m3fn+t"};
    const struct fpl_codebook *c;
    struct fpl_error err = {0};
    char text[96];
    assert_int_equal(fpl_codebook_add(values, 7, NULL, &c, &err), FPL_OK);
    for (size_t t = 0; t < sizeof rest / sizeof rest[0]; t++) {
        snprintf(text, sizeof text, "nf4%s", rest[t]);
        on_all_data(text);
        snprintf(text, sizeof text, "codebook(#%016llx)%s", (unsigned long long)c->hash, rest[t]);
        on_all_data(text);
    }
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

int main(int argc, char **argv) {
    all_pairs = argc > 1 && strcmp(argv[1], "all") == 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),         cmocka_unit_test(test_unscaled),
        cmocka_unit_test(test_fp32_scales),     cmocka_unit_test(test_e8m0_scales),
        cmocka_unit_test(test_rceil_scales),    cmocka_unit_test(test_ceil_scales),
        cmocka_unit_test(test_even_scales),     cmocka_unit_test(test_mul_scales),
        cmocka_unit_test(test_format_scales),   cmocka_unit_test(test_two_level_scales),
        cmocka_unit_test(test_post_rounding),   cmocka_unit_test(test_p3109_scales),
        cmocka_unit_test(test_delayed_scales),  cmocka_unit_test(test_zero_points),
        cmocka_unit_test(test_searched_scales), cmocka_unit_test(test_codebooks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
