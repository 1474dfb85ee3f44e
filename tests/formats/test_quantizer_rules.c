/* test_quantizer_rules.c - zero points, searched and delayed scales, clips: by hand.
 *
 * Small groups whose results can be worked out on paper, and properties that hold whatever the
 * data: a search never loses against the rule it starts from, groups may be done in portions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/quantizer.h"
#include "../../formats/random.h"

static struct fpl_quantizer parse(const char *text) {
    struct fpl_quantizer q;
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_quantizer_parse(text, &q, &err) != FPL_OK) fail_msg("\"%s\" refused: %s", text, err.text);
    return q;
}

static struct fpl_quantizer_plan plan_of(const char *text) {
    struct fpl_quantizer_plan plan;
    const struct fpl_quantizer q = parse(text);
    fpl_quantizer_lower(&q, NULL, &plan);
    return plan;
}

/* Row-major, seed 1. */
static int64_t quantize(const char *text, int64_t rows, int64_t cols, const float *x, float *out,
                        float *scales) {
    const struct fpl_quantizer_plan plan = plan_of(text);
    const struct fpl_random_at at = {1, 0, 0, 0};
    return fpl_quantize_reference(&plan, rows, cols, cols, 1, x, out, scales, &at);
}

static void same(const char *what, const float *got, const float *want, int n) {
    for (int i = 0; i < n; i++)
        if (fpl_float_bits(got[i]) != fpl_float_bits(want[i]) && !(isnan(got[i]) && isnan(want[i])))
            fail_msg("%s, element %d: got %a, expected %a", what, i, (double)got[i], (double)want[i]);
}

static void noise(float *x, int n, uint32_t stream) {
    for (int i = 0; i < n; i += 4) {
        uint32_t w[4];
        fpl_random_block(3, (uint64_t)i, 0, fpl_stream(FPL_STREAM_TEST, stream), w);
        for (int k = 0; k < 4 && i + k < n; k++)
            x[i + k] = ldexpf((float)(int32_t)w[k] * 0x1p-31f, (int)(w[k] % 7) - 3);
    }
}

/* min -1, max 2: s = 3/3 = 1, z = 1; -1 .. 2 are the four values of uint2. */
static void test_zero_point_by_hand(void **state) {
    const float x[8] = {-1.0f, 2.0f, 0.4f, 0.5f, 1.5f, -0.6f, -0.0f, INFINITY};
    const float want[8] = {-1.0f, 2.0f, 0.0f, 0.0f, 2.0f, -1.0f, 0.0f, 2.0f};
    float out[8], scale;
    (void)state;
    assert_int_equal(quantize("uint2/row+z", 1, 8, x, out, &scale), 1);
    same("uint2/row+z", out, want, 8);
    assert_true(scale == 1.0f);
    /* All positive: zero counts in, so z = 0 and s = 3/3. */
    const float positive[4] = {3.0f, 2.6f, 0.2f, 1.0f}, kept[4] = {3.0f, 3.0f, 0.0f, 1.0f};
    quantize("uint2/row+z", 1, 4, positive, out, &scale);
    same("uint2/row+z, positive", out, kept, 4);
    /* A range beyond float32 is clamped to it. */
    const float wide[2] = {-FLT_MAX, FLT_MAX};
    quantize("uint8/row+z", 1, 2, wide, out, &scale);
    assert_true(scale == FLT_MAX / 255.0f && isfinite(out[0]) && isfinite(out[1]));
}

/* A block that 4 serves better: 10, 7.5, 5, 2.5 are 4, 3, 2, 1 times 2.5, but 6 4.5 3 1.5 times
 * 5/3, where 4.5 is no value.  8, 6 on the other hand are better at 6: 6, 4.5 against 4, 3. */
static void test_four_over_six_by_hand(void **state) {
    const float x[4] = {10.0f, 7.5f, 5.0f, 2.5f};
    float out[4], scale;
    (void)state;
    quantize("e2m1/1x4+46", 1, 4, x, out, &scale);
    same("e2m1/1x4+46", out, x, 4);
    assert_true(scale == 2.5f);
    const float y[4] = {6.0f, 4.0f, 3.0f, 1.5f};
    quantize("e2m1/1x4+46", 1, 4, y, out, &scale);
    same("e2m1/1x4+46", out, y, 4);
    assert_true(scale == 1.0f);
    /* Two levels: the largest block's scale is 256 at 6, so that 384 exists at 4. */
    struct fpl_quantizer_plan plan = plan_of("e2m1/1x4:e4m3fn+t+46");
    assert_true(plan.scale_largest == 256.0f);
    quantize("e2m1/1x4:e4m3fn+t+46", 1, 4, x, out, &scale);
    assert_true(scale == 384.0f);
    for (int i = 0; i < 4; i++) assert_true(fabsf(out[i] - x[i]) <= 1e-6f * x[i]);
}

static double error_of(const char *text, const float *x, int n) {
    float *out = malloc((size_t)n * sizeof *out);
    double sum = 0.0;
    assert_non_null(out);
    quantize(text, 1, n, x, out, NULL);
    for (int i = 0; i < n; i++) sum += ((double)x[i] - (double)out[i]) * ((double)x[i] - (double)out[i]);
    free(out);
    return sum;
}

/* A search never loses against the rule that it starts from, and wins on rounded bells. */
static void test_search_wins(void **state) {
    static const char *const pairs[][2] = {{"int3/row", "int3/row+mse"},
                                           {"int4/1x32", "int4/1x32+mse"},
                                           {"e2m1/1x32:e8m0", "e2m1/1x32:e8m0+mse"},
                                           {"uint3/1x64+z", "uint3/1x64+z+mse"},
                                           {"e2m1/1x16", "e2m1/1x16+46"},
                                           {"nf4/1x64", "nf4/1x64+mse"}};
    float x[1024];
    (void)state;
    for (uint32_t block = 0; block < 1024 / 4; block++) { /* sums of uniform numbers */
        float sum[4] = {0};
        for (uint32_t k = 0; k < 6; k++) {
            uint32_t w[4];
            fpl_random_block(11, block, k, fpl_stream(FPL_STREAM_TEST, 9), w);
            for (int i = 0; i < 4; i++) sum[i] += (float)(int32_t)w[i] * 0x1p-31f;
        }
        memcpy(x + 4 * block, sum, sizeof sum);
    }
    for (size_t p = 0; p < sizeof pairs / sizeof pairs[0]; p++) {
        const double plain = error_of(pairs[p][0], x, 1024), searched = error_of(pairs[p][1], x, 1024);
        if (!(searched < plain)) fail_msg("%s: error %g, %s: %g", pairs[p][0], plain, pairs[p][1], searched);
    }
}

static void test_delayed_by_hand(void **state) {
    const float x[3] = {3.0f, -1.0f, 100.0f};
    float out[3], scale;
    const float history[4] = {0.0f, 12.0f, -14.0f, INFINITY};
    (void)state;
    assert_true(fpl_delayed_amax(history, 4) == 14.0f);
    assert_true(fpl_delayed_amax(history, 1) == 0.0f && fpl_delayed_amax(NULL, 0) == 0.0f);
    struct fpl_quantizer_plan plan = plan_of("int4/tensor:delayed4m1");
    assert_int_equal(plan.history, 4);
    assert_int_equal(plan.margin, 1);
    plan.delayed_amax = fpl_delayed_amax(history, 4); /* s = 14/7 * 2 = 4 */
    fpl_quantize_reference(&plan, 1, 3, 3, 1, x, out, &scale, NULL);
    const float want[3] = {4.0f, -0.0f, 28.0f};
    same("int4/tensor:delayed4m1", out, want, 3);
    assert_true(scale == 4.0f);
    plan.delayed_amax = 0.0f; /* nothing known: its own amax */
    fpl_quantize_reference(&plan, 1, 3, 3, 1, x, out, &scale, NULL);
    assert_true(scale == 100.0f / 7.0f * 2.0f);
}

/* Clips are where the rounding without an end would pass it: 7.4 of int4 rounds to 7. */
static void test_clips(void **state) {
    const float x[6] = {7.4f, 7.6f, -7.5f, 6.0f, INFINITY, NAN};
    const uint8_t want[6] = {0, 1, 1, 0, 1, 0}, codebook[6] = {1, 1, 1, 1, 1, 0};
    uint8_t clips[6];
    (void)state;
    const struct fpl_quantizer_plan int4 = plan_of("int4"), nf4 = plan_of("nf4");
    assert_int_equal(fpl_clips_reference(&int4, 1, 6, 6, 1, x, clips, NULL), 3);
    assert_memory_equal(clips, want, 6);
    assert_int_equal(fpl_clips_reference(&nf4, 1, 6, 6, 1, x, clips, NULL), 5);
    assert_memory_equal(clips, codebook, 6);
    /* By an absmax scale nothing clips, but by the floor rule what lies above largest s does. */
    const struct fpl_quantizer_plan row = plan_of("e2m1/row"), floor_rule = plan_of("e2m1/row:e8m0");
    const float y[3] = {7.9f, 7.0f, 1.0f};
    assert_int_equal(fpl_clips_reference(&row, 1, 3, 3, 1, y, clips, NULL), 0);
    assert_int_equal(fpl_clips_reference(&floor_rule, 1, 3, 3, 1, y, clips, NULL), 2);
    const struct fpl_quantizer_plan z = plan_of("uint2/row+z");
    assert_int_equal(fpl_clips_reference(&z, 1, 3, 3, 1, y, clips, NULL), 0);
}

/* Groups may be done in any portions. */
static void test_groups_in_parts(void **state) {
    static const char *const texts[] = {"e2m1:sr/1x16:e4m3fn+t+46", "uint4/3x5+z", "int4/col+mse",
                                        "e4m3fn/row"};
    enum { ROWS = 7, COLS = 33, ALL = ROWS * COLS };
    float x[ALL], whole[ALL], parts[ALL];
    (void)state;
    noise(x, ALL, 12);
    for (size_t t = 0; t < 4; t++) {
        const struct fpl_quantizer_plan plan = plan_of(texts[t]);
        const int64_t groups = fpl_quantizer_groups(&plan, ROWS, COLS);
        const float s_enc = fpl_quantize_tensor_scale(&plan, ROWS, COLS, COLS, 1, x);
        fpl_quantize_reference(&plan, ROWS, COLS, COLS, 1, x, whole, NULL, NULL);
        for (int64_t n = groups - 1; n >= 0; n--)
            fpl_quantize_groups(&plan, ROWS, COLS, COLS, 1, x, parts, NULL, NULL, s_enc, n, 1);
        same(texts[t], parts, whole, ALL);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zero_point_by_hand),
        cmocka_unit_test(test_four_over_six_by_hand),
        cmocka_unit_test(test_search_wins),
        cmocka_unit_test(test_delayed_by_hand),
        cmocka_unit_test(test_clips),
        cmocka_unit_test(test_groups_in_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
