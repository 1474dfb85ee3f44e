/* test_quantizer.c - quantizers: grammar, scale rules by hand, groups, limits of float32.
 *
 * Numbers are worked out by hand in the comments; test_oracle_quantizer.c compares many
 * random operands with an implementation written apart.
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

#include "../../formats/measure.h"
#include "../../formats/quantizer.h"
#include "../../formats/random.h"
#include "../../formats/scale.h"

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

/* ---- text ------------------------------------------------------------------------------- */

static void test_canonical_text(void **state) {
    static const char *const pairs[][2] = {
        {"-", "-"},
        {"e4m3fn", "e4m3fn"},
        {"E4M3FN:RNE:SAT", "e4m3fn"},
        {"bf16:ovf", "bf16"},
        {"bf16:sat", "bf16:sat"},
        {"e3m2:sr/row", "e3m2:sr/row"},
        {"e3m2:sr16/row", "e3m2:sr/row"},
        {"e3m2:sr7:satp/col", "e3m2:sr7:satp/col"},
        {"e3m2:sr32", "e3m2:sr32"},
        {"e2m1/1x32:e8m0", "e2m1/1x32:e8m0"},
        {"e2m1/1x32:floor", "e2m1/1x32:e8m0"},
        {"e2m1/1x32:ue8m0", "e2m1/1x32:ue8m0"},
        {"e2m1/1x16:e4m3fn+t", "e2m1/1x16:e4m3fn+t"},
        {"fp4_e2m1/1x16:FP8_E4M3+T", "e2m1/1x16:e4m3fn+t"},
        {"e4m3/128x128", "e4m3/128x128"},
        {"e4m3/128x128:fp32", "e4m3/128x128"},
        {"e2m1/tensor", "e2m1/tensor"},
        {"int8:rna/row:mul", "int8:rna/row:mul"},
        {"e4m3fn/1x32:rceil", "e4m3fn/1x32:rceil"},
        {"e4m3b-2:rtz/2147483647x1:even", "e4m3b-2:rtz/2147483647x1:even"},
        {"mxint8/1x32:ceil", "mxint8/1x32:ceil"},
        {"e2m1/1x32:p3109", "e2m1/1x32:p3109"},
        {"ue4m3fn/tensor:ue5m3fn", "ue4m3fn/tensor:ue5m3fn"},
        {"e4m3fn:rto:ovf/row:bf16", "e4m3fn:rto:ovf/row:bf16"},
        {"e3m2:sra", "e3m2:sr"},
        {"e3m2:sr16b", "e3m2:srb"},
        {"e3m2:SRC/row", "e3m2:src/row"},
        {"e3m2:sr8a", "e3m2:sr8"},
        {"e3m2:sr8c:ovf", "e3m2:sr8c:ovf"},
        {"uint4/1x32+z", "ue0m4/1x32+z"},
        {"uint8:sr/row:e8m0+mse+z", "ue0m8:sr/row:e8m0+z+mse"},
        {"uint2/1x16:e4m3fn+z+t", "ue0m2/1x16:e4m3fn+t+z"},
        {"e2m1/1x16:e4m3fn+46+t", "e2m1/1x16:e4m3fn+t+46"},
        {"fp4_e2m1/row:fp32+46", "e2m1/row+46"},
        {"e4m3fn/1x32:mul+MSE", "e4m3fn/1x32:mul+mse"},
        {"e4m3fn/tensor:delayed", "e4m3fn/tensor:delayed"},
        {"e4m3fn/tensor:delayed16m0", "e4m3fn/tensor:delayed"},
        {"e4m3fn/tensor:Delayed1024M31", "e4m3fn/tensor:delayed1024m31"},
        {"e4m3fn/tensor:delayedm2", "e4m3fn/tensor:delayedm2"},
        {"NF4/1x64", "nf4/1x64"},
        {"nf4:rtz:ovf/1x64:e4m3fn+t+mse", "nf4:rtz:ovf/1x64:e4m3fn+t+mse"},
        {"codebook(#0123456789ABCDEF):rna/row", "codebook(#0123456789abcdef):rna/row"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        const struct fpl_quantizer q = parse(pairs[i][0]);
        char text[FPL_QUANTIZER_TEXT];
        const int n = fpl_quantizer_print(&q, text, sizeof text);
        assert_string_equal(text, pairs[i][1]);
        assert_int_equal(n, (int)strlen(text));
        const struct fpl_quantizer back = parse(text);
        assert_memory_equal(&q, &back, sizeof q);
    }
}

/* Every combination of words the grammar has: parse(print(q)) == q. */
static void test_round_trip(void **state) {
    static const char *const forms[] = {"e4m3", "bf16", "e2m1", "int8", "e4m3b11fnuzns"};
    static const char *const roundings[] = {"",     ":rne", ":rna", ":rtz",  ":rup",
                                            ":rdn", ":rto", ":sr",  ":sr1b", ":sr32c"};
    static const char *const overflows[] = {"", ":sat", ":satp", ":ovf"};
    static const char *const scalings[] = {"",
                                           "/tensor",
                                           "/row",
                                           "/col:mul",
                                           "/1x32:e8m0",
                                           "/16x16:rceil",
                                           "/1x1:ceil",
                                           "/3x5:even",
                                           "/row:p3109",
                                           "/1x16:e4m3fn+t",
                                           "/8x8:ue5m3",
                                           "/tensor:fp16",
                                           "/row:ue8m0+t"};
    (void)state;
    int seen = 0;
    for (size_t f = 0; f < 5; f++)
        for (size_t r = 0; r < 10; r++)
            for (size_t o = 0; o < 4; o++)
                for (size_t s = 0; s < 13; s++, seen++) {
                    char text[128], printed[FPL_QUANTIZER_TEXT];
                    snprintf(text, sizeof text, "%s%s%s%s", forms[f], roundings[r], overflows[o],
                             scalings[s]);
                    const struct fpl_quantizer q = parse(text);
                    assert_true(fpl_quantizer_print(&q, printed, sizeof printed) < FPL_QUANTIZER_TEXT);
                    const struct fpl_quantizer back = parse(printed);
                    assert_memory_equal(&q, &back, sizeof q);
                }
    assert_int_equal(seen, 2600);
}

static void test_refused(void **state) {
    static const char *const rows[][2] = {
        {"", "character 1"},
        {"--", "character 1"},
        {"e4m3fn:", "a rounding"},
        {"e4m3fn:rnd", "character 8: found \"rnd\", expected a rounding"},
        {"e4m3fn:sr0", "sr1 to sr32"},
        {"e4m3fn:sr33", "sr1 to sr32"},
        {"e4m3fn:sr016", "sr1 to sr32"},
        {"e4m3fn:sat:rne", "character 11: found \":rne\""},
        {"e4m3fn:rne:clip", "an overflow: sat, satp or ovf"},
        {"e4m3fn:rne:rne", "an overflow: sat, satp or ovf"},
        {"e4m3fn/", "a granularity"},
        {"e4m3fn/block", "tensor, row, col, or rows x columns"},
        {"e4m3fn/none", "a granularity"},
        {"e4m3fn/0x32", "a granularity"},
        {"e4m3fn/1x0", "a granularity"},
        {"e4m3fn/1x", "a granularity"},
        {"e4m3fn/x32", "a granularity"},
        {"e4m3fn/-1x32", "a granularity"},
        {"e4m3fn/1x2147483648", "a granularity"},
        {"e4m3fn/1x32x2", "a granularity"},
        {"e4m3fn/rxc", "a granularity"},
        {"e4m3fn/1x32:", "a scale rule"},
        {"e4m3fn/1x32:e9m0", "a scale rule"},
        {"e4m3fn/1x32:format", "a scale rule"},
        {"e4m3fn/1x32+t", "only after a scale format, as in :e4m3fn+t"},
        {"e4m3fn/1x32:e8m0+t", "only after a scale format"},
        {"e4m3fn/1x32:e4m3fn+u", "\"t\""},
        {"e4m3fn/1x32:e4m3fn+t+t", "\"t\""},
        {"e4m3fn+t", "character 7: found \"+t\""},
        {"ue8m0/row", "no zero"},
        {"e8m3/row", "beyond float32"},
        {"e4m3fn/row/row", "a granularity"},
        {"e4m3fn row", "format"},
        {"e4m3fn:srd", "a rounding"},
        {"e4m3fn:srab", "a rounding"},
        {"e4m3fn:srb8", "a rounding"},
        {"e4m3fn:sr33b", "a rounding"},
        {"e4m3fn/1x32+q", "character 13: found \"q\", expected \"t\" (two-level scaling, \"+t\"), z"},
        {"e4m3fn/1x32+", "z (zero point), mse or 46"},
        {"e4m3fn/1x32+z", "a zero point only with uint1 to uint16"},
        {"int8/1x32+z", "a zero point only with uint1 to uint16"},
        {"ue0m17/1x32+z", "a zero point only with uint1 to uint16"},
        {"ue0m4b2/1x32+z", "a zero point only with uint1 to uint16"},
        {"nf4/1x32+z", "a zero point only with uint1 to uint16"},
        {"uint4+z", "expected \"/\" and a granularity"},
        {"uint4/1x32+z+z", "each flag once"},
        {"e2m1/1x32+mse+46", "one of mse and 46"},
        {"e2m1/1x32+mse+mse", "each flag once"},
        {"e4m3fn/1x16+46", "four over six only with e2m1"},
        {"e2m1/1x16:e8m0+46", "a scale in fp32 or a format"},
        {"e2m1ns/1x16+46", "four over six only with e2m1"},
        {"e4m3fn/tensor:delayed+mse", "looks at the values"},
        {"uint4/tensor:delayed+z", "looks at min and max"},
        {"e4m3fn/tensor:delayed+t", "only after a scale format"},
        {"e4m3fn/row:delayed", "for /tensor only"},
        {"e4m3fn/1x32:delayed4", "for /tensor only"},
        {"e4m3fn/tensor:delayed0", "1 to 1024 steps, margin 0 to 31"},
        {"e4m3fn/tensor:delayed1025", "1 to 1024 steps"},
        {"e4m3fn/tensor:delayed16m32", "margin 0 to 31"},
        {"e4m3fn/tensor:delayed16m", "1 to 1024 steps"},
        {"e4m3fn/tensor:delayed16x", "1 to 1024 steps"},
        {"nf4:rto/1x64", "rto has no meaning for a codebook"},
        {"e4m3fn/1x32:nf4", "a scale rule"},
        {"codebook", "expected codebook(FILE)"},
        {"codebook()", "expected codebook(FILE)"},
        {"codebook(a;b)", "without parentheses, semicolons"},
        {"codebook(#12)", "16 hex digits"},
        {"codebook(#0000000000000000)", "16 hex digits"},
        {"codebook(/no/such/file)/1x32", "No such file"},
        {"codebook(/no/such/file", "expected codebook(FILE)"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct fpl_quantizer q;
        struct fpl_error err = {FPL_OK, ""};
        if (fpl_quantizer_parse(rows[i][0], &q, &err) != FPL_INVALID)
            fail_msg("\"%s\" was accepted", rows[i][0]);
        if (strstr(err.text, rows[i][1]) == NULL)
            fail_msg("\"%s\": message \"%s\" lacks \"%s\"", rows[i][0], err.text, rows[i][1]);
    }
    char longest[FPL_QUANTIZER_TEXT + 8];
    struct fpl_quantizer q;
    memset(longest, 'e', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(fpl_quantizer_parse(longest, &q, NULL), FPL_INVALID);
}

/* ---- scales ------------------------------------------------------------------------------- */

static void test_scale_rules(void **state) {
    static const struct {
        const char *text;
        float amax, scale;
    } rows[] = {
        /* e2m1: largest 6 = 1.5 * 2^2 */
        {"e2m1/row:e8m0", 6.0f, 1.0f},  /* 2^(2-2) */
        {"e2m1/row:e8m0", 7.99f, 1.0f}, /* 2^(2-2): 7.99 clamps */
        {"e2m1/row:e8m0", 8.0f, 2.0f},
        {"e2m1/row:rceil", 6.0f, 1.0f},       /* 6 * 1 >= 6 */
        {"e2m1/row:rceil", 6.0000005f, 2.0f}, /* one ulp more needs 2 */
        {"e2m1/row:rceil", 0x1.8p-140f, 0x1p-127f},
        {"e2m1/row:ceil", 4.0f, 1.0f},       /* log2 exact */
        {"e2m1/row:ceil", 4.0000005f, 2.0f}, /* 2^(3-2) */
        {"e2m1/row:even", 6.9999995f, 1.0f}, /* below 7 = 1.75 * 4: rounds to 6 at M = 1 */
        {"e2m1/row:even", 7.0f, 2.0f},       /* rounds up to 8 */
        {"e2m1/row:p3109", 5.0f, 4.0f},
        {"e2m1/row:p3109", 6.0f, 8.0f}, /* tie of 4 (field 129) and 8 (field 130): even */
        {"e2m1/row:p3109", 3.0f, 2.0f}, /* tie of 2 (field 128) and 4: even */
        {"e2m1/row", 6.0f, 1.0f},
        {"e2m1/row", 1.0f, 0x1.555556p-3f}, /* fl(1/6) */
        {"e2m1/row", 0x1p-149f, 0x1p-126f}, /* clamped */
        {"e2m1/row:ue4m3fn", 3.0f, 0.5f},
        {"e2m1/row:ue4m3fn", 6.6f, 1.125f}, /* 1.1 between 1.0 and 1.125 */
        {"e2m1/row:ue4m3fn", 1e6f, 448.0f}, /* saturates */
        {"e2m1/row:ue8m0", 8.0f, 1.0f},     /* 1.333 to nearest */
        /* clamps of powers of two */
        {"e8m7ieee/row:e8m0", 1.0f, 0x1p-127f}, /* largest_exponent 127 */
        {"e4m3b147/row:e8m0", FLT_MAX, 0x1p127f},
        {"e2m1/row:e8m0", 0x1p-149f, 0x1p-127f}, /* 2^-151 */
        {"e2m1/row:even", FLT_MAX, 0x1p126f},    /* bits carry past 2^127 */
        {"int8/row:e8m0", 127.0f, 1.0f},
        {"int8/row:e8m0", 1.0f, 0x1p-6f},
        {"e3m2:rna/row:mul", 7.0f, 0.25f},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        float x[2] = {-rows[i].amax, 0.0f}, out[2], scale = -1.0f;
        assert_int_equal(quantize(rows[i].text, 1, 2, x, out, &scale), 0);
        same(rows[i].text, &scale, &rows[i].scale, 1);
    }
}

/* Divisions by powers of two are done by multiplying: the same bits for every float32. */
static void test_power_of_two_is_division(void **state) {
    (void)state;
    for (int k = -127; k <= 127; k += 2)
        for (uint32_t i = 0; i < 4000; i++) {
            uint32_t w[4];
            fpl_random_block(11, i, 0, fpl_stream(FPL_STREAM_TEST, 1), w);
            const float x = fpl_bits_float(w[0] & 0xff7fffffu), s = fpl_power_of_two(k);
            assert_int_equal(fpl_float_bits(x * fpl_power_of_two(-k)), fpl_float_bits(x / s));
        }
}

/* E1M6, E0M7 and int8 are one uniform grid up to a power of two: equal under absmax. */
static void test_uniform_grids_agree(void **state) {
    static const char *const scalings[] = {"tensor",   "row",       "1x8",     "2x3",
                                           "row:e8m0", "1x8:rceil", "col:ceil"};
    float x[12 * 40], a[12 * 40], b[12 * 40], c[12 * 40];
    (void)state;
    noise(x, 480, 20);
    for (size_t i = 0; i < sizeof scalings / sizeof scalings[0]; i++) {
        char e1m6[48], e0m7[48], int8[48];
        snprintf(e1m6, sizeof e1m6, "e1m6/%s", scalings[i]);
        snprintf(e0m7, sizeof e0m7, "e0m7/%s", scalings[i]);
        snprintf(int8, sizeof int8, "int8/%s", scalings[i]);
        quantize(e1m6, 12, 40, x, a, NULL);
        quantize(e0m7, 12, 40, x, b, NULL);
        quantize(int8, 12, 40, x, c, NULL);
        same(e1m6, a, c, 480);
        same(e0m7, b, c, 480);
    }
}

static void test_capybara_multiplies(void **state) {
    /* amax 3, largest 7 (int4): a = fl(7/3), b = fl(3/7); 1 -> 2.333 -> 2; -1.5 -> -3.5 -> ties away -4 */
    const float x[4] = {3.0f, 1.0f, -1.5f, -0.0f}, up = 7.0f / 3.0f, down = 3.0f / 7.0f;
    const float want[4] = {7.0f * down, 2.0f * down, -4.0f * down, -0.0f};
    float out[4];
    (void)state;
    assert_true(-1.5f * up <= -3.5f);
    quantize("int4:rna/row:mul", 1, 4, x, out, NULL);
    same("mul", out, want, 4);
    /* a factor that would overflow is clamped: zero stays zero, nothing becomes NaN */
    const float tiny[3] = {0x1p-149f, 0.0f, -0.0f};
    quantize("e4m3:rna/row:mul", 1, 3, tiny, out, NULL);
    assert_true(out[1] == 0.0f && !signbit(out[1]) && signbit(out[2]) && isfinite(out[0]));
}

static void test_nvfp4(void **state) {
    /* amax 12: s_enc = 2688/12 = 224.  Block 1 (amax 12): s_b = 2*224 = 448; block 2 (amax 3):
     * 0.5*224 = 112, an e4m3 value.  1/s_enc = fl(1/224). */
    float x[32] = {12.0f, 5.0f}, out[32], scales[2];
    x[16] = 3.0f;
    x[17] = -1.2f;
    const float dec = 1.0f / 224.0f, inverse = 1.0f / (448.0f * dec), inverse2 = 1.0f / (112.0f * dec);
    (void)state;
    quantize("e2m1/1x16:e4m3fn+t", 1, 32, x, out, scales);
    const float want_scales[2] = {448.0f, 112.0f};
    same("s_b", scales, want_scales, 2);
    /* 12 -> 6, 5 -> about 2.5: the tie is decided by the float32 product */
    const float q1 = 5.0f * inverse > 2.5f ? 3.0f : 2.0f;
    assert_true(12.0f * inverse > 5.0f && 3.0f * inverse2 > 5.0f);
    const float want[4] = {6.0f * 448.0f * dec, q1 * 448.0f * dec, 6.0f * 112.0f * dec, -2.0f * 112.0f * dec};
    const float got[4] = {out[0], out[1], out[16], out[17]};
    same("nvfp4", got, want, 4);
    assert_true(out[2] == 0.0f && out[31] == 0.0f);
    /* a block 2^20 below the tensor's largest: its scale rounds to zero, so it becomes zeros */
    x[16] = 12.0f * 0x1p-20f;
    x[17] = -x[16];
    quantize("e2m1/1x16:e4m3fn+t", 1, 32, x, out, scales);
    assert_true(scales[1] == 0.0f && out[16] == 0.0f && !signbit(out[16]) && signbit(out[17]));
}

/* ---- groups ------------------------------------------------------------------------------------ */

/* Each group's result is that of the group alone. */
static void check_groups(const char *head, int rows, int cols, int R, int C, const float *x) {
    char text[64], alone[64];
    float out[600], part[600], part_out[600], scales[600];
    snprintf(text, sizeof text, "%s/%dx%d:rceil", head, R, C);
    snprintf(alone, sizeof alone, "%s/tensor:rceil", head);
    quantize(text, rows, cols, x, out, scales);
    int group = 0;
    for (int i = 0; i < rows; i += R)
        for (int j = 0; j < cols; j += C, group++) {
            const int h = rows - i < R ? rows - i : R, w = cols - j < C ? cols - j : C;
            float scale;
            for (int k = 0; k < h * w; k++) part[k] = x[(i + k / w) * cols + j + k % w];
            quantize(alone, h, w, part, part_out, &scale);
            for (int k = 0; k < h * w; k++) same(text, &out[(i + k / w) * cols + j + k % w], &part_out[k], 1);
            same("scale", &scales[group], &scale, 1);
        }
}

static void test_ragged_blocks(void **state) {
    static const int shapes[][4] = {{5, 37, 1, 8}, {7, 29, 3, 4},   {1, 5, 1, 32},
                                    {9, 9, 4, 4},  {6, 10, 100, 3}, {3, 3, 1, 1}};
    float x[600];
    (void)state;
    noise(x, 600, 21);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        check_groups("e2m1", shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3], x);
    /* row, col and tensor are blocks of those shapes */
    float a[60], b[60];
    static const char *const pairs[][2] = {{"e3m2/row", "e3m2/1x10"},
                                           {"e3m2/col", "e3m2/6x1"},
                                           {"e3m2/tensor", "e3m2/6x10"},
                                           {"e3m2/1x32", "e3m2/row"}};
    for (size_t i = 0; i < 4; i++) {
        quantize(pairs[i][0], 6, 10, x, a, NULL);
        quantize(pairs[i][1], 6, 10, x, b, NULL);
        same(pairs[i][0], a, b, 60);
    }
    assert_int_equal(quantize("e3m2/row", 0, 10, x, a, NULL), 0);
    assert_int_equal(quantize("e3m2/row", 6, 0, x, a, NULL), 0);
}

/* A transposed view by strides gives the transposed result; random bits follow the element. */
static void test_transposed(void **state) {
    static const char *const texts[] = {"e2m1/1x8:e8m0", "e3m2/row", "e4m3fn/4x4:rceil", "e2m1:sr/1x8",
                                        "e2m1/1x16:e4m3fn+t"};
    enum { ROWS = 13, COLS = 21 };
    float x[ROWS * COLS], moved[ROWS * COLS], direct[ROWS * COLS], view[ROWS * COLS];
    const struct fpl_random_at at = {5, 6, 7, 8};
    (void)state;
    noise(x, ROWS * COLS, 22);
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLS; j++) moved[j * ROWS + i] = x[i * COLS + j];
    for (size_t t = 0; t < sizeof texts / sizeof texts[0]; t++) {
        const struct fpl_quantizer_plan plan = plan_of(texts[t]);
        /* the operand is COLS x ROWS: x seen with its reduction axis along rows of x */
        fpl_quantize_reference(&plan, COLS, ROWS, 1, COLS, x, view, NULL, &at);
        fpl_quantize_reference(&plan, COLS, ROWS, ROWS, 1, moved, direct, NULL, &at);
        if (plan.round.mode == FPL_SR) { /* the bits belong to places in x */
            for (int i = 0; i < ROWS * COLS; i++) {
                const uint32_t r = fpl_random_bits(5, 6, 7, 8 + (uint64_t)i, 16);
                const int row = i % COLS, first = i / COLS / 8 * 8;
                float amax = 0;
                for (int k = first; k < ROWS && k < first + 8; k++)
                    amax = fmaxf(amax, fabsf(x[k * COLS + row]));
                const struct fpl_group_scale g = fpl_group_scale(&plan, amax, 1.0f);
                const float want = fpl_quantize_element(&plan, &g, x[i], r);
                same(texts[t], &view[i], &want, 1);
            }
            continue;
        }
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < COLS; j++) same(texts[t], &view[i * COLS + j], &direct[j * ROWS + i], 1);
    }
    /* in place */
    const struct fpl_quantizer_plan plan = plan_of("e2m1/1x16:e4m3fn+t");
    fpl_quantize_reference(&plan, ROWS, COLS, COLS, 1, x, direct, NULL, &at);
    fpl_quantize_reference(&plan, ROWS, COLS, COLS, 1, x, x, NULL, &at);
    same("in place", x, direct, ROWS * COLS);
}

/* ---- zeros, NaN, Inf, ends of float32 ------------------------------------------------------------ */

static const char *const every_rule[] = {"e2m1/1x4",       "e2m1/1x4:mul",    "e2m1/1x4:e8m0",
                                         "e2m1/1x4:rceil", "e2m1/1x4:ceil",   "e2m1/1x4:even",
                                         "e2m1/1x4:p3109", "e2m1/1x4:e4m3fn", "e2m1/1x4:e4m3fn+t",
                                         "e5m2/1x4",       "e2m1:sr/1x4:e8m0"};
enum { RULES = sizeof every_rule / sizeof every_rule[0] };

static void test_zero_groups(void **state) {
    const float x[8] = {0.0f, -0.0f, 0.0f, -0.0f, 1.0f, 2.0f, 3.0f, 4.0f};
    (void)state;
    for (int i = 0; i < RULES; i++) {
        float out[8], scales[2];
        quantize(every_rule[i], 1, 8, x, out, scales);
        same(every_rule[i], out, x, 4);
        assert_true(scales[0] == 1.0f);
        quantize(every_rule[i], 2, 4, x, out, scales);
        same(every_rule[i], out, x, 4);
    }
}

static void test_bad_values_leave_neighbours_alone(void **state) {
    const float clean[8] = {1.0f, -0.3f, 0.7f, 0.05f, 2.0f, 0.0f, -1.1f, 0.9f};
    (void)state;
    for (int i = 0; i < RULES; i++)
        for (int bad = 0; bad < 3; bad++) {
            const float value = bad == 0 ? NAN : bad == 1 ? INFINITY : -INFINITY;
            float x[8], with_zero[8], a[8], b[8];
            memcpy(x, clean, sizeof x);
            memcpy(with_zero, clean, sizeof x);
            x[2] = value;
            with_zero[2] = 0.0f;
            assert_int_equal(quantize(every_rule[i], 1, 8, x, a, NULL), 1);
            assert_int_equal(quantize(every_rule[i], 1, 8, with_zero, b, NULL), 0);
            if (bad == 0)
                assert_true(isnan(a[2]));
            else
                assert_true(isfinite(a[2]) && signbit(a[2]) == signbit(value) &&
                            a[2] != 0.0f); /* sat clamps */
            a[2] = b[2] = 0.0f;
            same(every_rule[i], a, b, 8);
        }
    float x[3] = {INFINITY, -INFINITY, 1.0f}, out[3];
    quantize("e4m3fn:rne:satp/row", 1, 3, x, out, NULL);
    assert_true(out[0] == INFINITY && out[1] == -INFINITY && out[2] == 1.0f);
    quantize("e4m3fn:rne:ovf/row", 1, 3, x, out, NULL);
    assert_true(isnan(out[0]) && isnan(out[1]) && out[2] == 1.0f);
    quantize("e5m2ieee:ovf/row:ue4m3fn", 1, 3, x, out, NULL); /* scale rounds to 0 */
    assert_true(out[0] == INFINITY && out[1] == -INFINITY && out[2] == 0.0f);
}

static void test_float32_limits(void **state) {
    (void)state;
    /* rceil: amax just above 1.5 * 2^127 needs s = 2^126; q = 4 -> 2^128 clamps to FLT_MAX */
    float x[2] = {FLT_MAX, -FLT_MAX}, out[2];
    const float clamped[2] = {FLT_MAX, -FLT_MAX};
    quantize("e2m1/row:rceil", 1, 2, x, out, NULL);
    same("rceil", out, clamped, 2);
    const char *const finite[] = {"e4m3fn/row", "e4m3:rna/row:mul", "int8/tensor:e8m0", "e2m1/1x16:e4m3fn+t",
                                  "e3m2/row:even"};
    const float ends[6] = {FLT_MAX, -FLT_MAX, 0x1p-149f, -0x1p-149f, 0x1p-126f, 1.0f};
    for (size_t i = 0; i < 5; i++) {
        float y[6];
        for (int n = 1; n <= 6; n++) {
            quantize(finite[i], 1, n, ends + 6 - n, y, NULL);
            for (int k = 0; k < n; k++) assert_true(isfinite(y[k]));
        }
    }
}

static void test_identity_and_post(void **state) {
    float x[4] = {1.00390625f, -0.1f, INFINITY, -0.0f}, out[4];
    (void)state;
    assert_int_equal(quantize("-", 1, 4, x, out, NULL), 1);
    assert_memory_equal(x, out, sizeof x);
    assert_int_equal(plan_of("-").identity, 1);
    assert_int_equal(plan_of("fp32").identity, 1);
    assert_int_equal(plan_of("fp32:sat").identity, 0);
    assert_int_equal(plan_of("fp32/row").identity, 0);
    for (uint32_t i = 0; i < 1u << 16; i++) { /* every exponent and sign, NaN payloads too */
        const float v = fpl_bits_float(i << 16 | (i * 40503u & 0xffffu));
        float w;
        quantize("fp32", 1, 1, &v, &w, NULL);
        assert_int_equal(fpl_float_bits(v), fpl_float_bits(w));
    }
    const struct fpl_quantizer q = parse("-"), scaled = parse("e4m3:rna/row:mul");
    struct fpl_format bf16;
    struct fpl_quantizer_plan plan;
    fpl_format_parse("bf16", &bf16, NULL);
    fpl_quantizer_lower(&q, &bf16, &plan);
    assert_int_equal(fpl_quantize_reference(&plan, 1, 4, 4, 1, x, out, NULL, NULL), 1);
    const float rounded[4] = {1.0f, -0x1.9ap-4f, INFINITY, -0.0f}; /* 1.00390625 is a tie */
    same("post", out, rounded, 4);
    fpl_quantizer_lower(&scaled, &bf16, &plan);
    x[2] = 3.0f;
    fpl_quantize_reference(&plan, 1, 4, 4, 1, x, out, NULL, NULL);
    for (int i = 0; i < 4; i++) assert_int_equal(fpl_float_bits(out[i]) & 0xffffu, 0);
}

static void test_measure(void **state) {
    /* e2m1, one scale 1 (amax 6 in e8m0): 7 -> clips in block 2 (amax 7, scale 1), 0.1 -> 0 */
    const float x[8] = {6.0f, 0.1f, 3.0f, 0.0f, 7.0f, -2.5f, NAN, INFINITY};
    float out[8];
    struct fpl_quantizer_measure m;
    const struct fpl_quantizer q = parse("e2m1/1x4:e8m0"), high = parse("-"),
                               two = parse("e2m1/1x4:e4m3fn+t");
    (void)state;
    quantize("e2m1/1x4:e8m0", 1, 8, x, out, NULL);
    fpl_quantizer_measure(&q, 1, 8, x, out, &m);
    assert_int_equal(m.elements, 8);
    assert_int_equal(m.nonfinite, 2);
    assert_true(m.amax == 7.0);
    assert_true(m.bits_per_value == 4.0 + 2 * 8.0 / 8);
    assert_true(m.underflow == 1.0 / 5); /* of 6, 0.1, 3, 7, -2.5 */
    assert_true(m.clipped == 1.0 / 6);
    const double tenth = (double)0.1f, signal = 36 + tenth * tenth + 9 + 49 + 6.25,
                 error = tenth * tenth + 1 + 0.25;
    assert_true(fabs(m.sqnr_db - 10 * log10(signal / error)) < 1e-12);
    fpl_quantizer_measure(&high, 2, 4, x, x, &m);
    assert_true(m.bits_per_value == 32 && isinf(m.sqnr_db) && m.clipped == 0);
    fpl_quantizer_measure(&two, 1, 8, x, out, &m);
    assert_true(m.bits_per_value == 4.0 + 2 * 8.0 / 8 + 32.0 / 8);
    fpl_quantizer_measure(&q, 1, 0, x, out, &m);
    assert_true(m.elements == 0 && m.underflow == 0 && m.clipped == 0 && isnan(m.sqnr_db));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_canonical_text),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_scale_rules),
        cmocka_unit_test(test_power_of_two_is_division),
        cmocka_unit_test(test_uniform_grids_agree),
        cmocka_unit_test(test_capybara_multiplies),
        cmocka_unit_test(test_nvfp4),
        cmocka_unit_test(test_ragged_blocks),
        cmocka_unit_test(test_transposed),
        cmocka_unit_test(test_zero_groups),
        cmocka_unit_test(test_bad_values_leave_neighbours_alone),
        cmocka_unit_test(test_float32_limits),
        cmocka_unit_test(test_identity_and_post),
        cmocka_unit_test(test_measure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
