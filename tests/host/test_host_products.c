/* test_host_products.c - carriers of quantized operands, and how products say what they ran on.
 *
 * 1. Wherever fpl_cuda_travels says that a carrier holds a quantizer's values, it does: operands of every
 *    magnitude that float32 has, the ends included, through fpl_quantize_reference; each value survives the
 *    carrier.  The witness knows nothing of plans: zero bits for bf16 and tf32, the compiler's _Float16.
 * 2. The choice for named quantizers, written down by hand; for those that are refused a carrier, operands
 *    whose values it would change are found, so none is refused without need.
 * 3. What a device reports after products in several carriers; a bad FPLAW_CUBLASLT.
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

#include "../../kernels/kernels.h"
#include "../ref/harness.h"

/* carrier.h and operand.h are C++. */
enum { FP32, BF16, FP16, TF32 };
int fpl_cuda_travels(const struct fpl_quantizer_plan *plan, int carrier);
int fpl_cuda_carrier_of(const struct fpl_quantizer_plan *plan);

static const char *const carrier_names[] = {"fp32", "bf16", "fp16", "tf32"};

enum { ROWS = 2, COLS = 48, SIZE = ROWS * COLS };

static int survives(int carrier, float v) {
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    if (isnan(v) || carrier == FP32) return 1;
    if (carrier == BF16) return (u & 0xffffu) == 0;
    if (carrier == TF32) return (u & 0x1fffu) == 0;
    return (float)(_Float16)v == v;
}

static struct fpl_quantizer_plan plan_of(const char *text, const char *post) {
    struct fpl_quantizer q;
    struct fpl_format f;
    struct fpl_error err = {0};
    struct fpl_quantizer_plan plan;
    if (fpl_quantizer_parse(text, &q, &err) != FPL_OK) fail_msg("%s: %s", text, err.text);
    if (post != NULL && fpl_format_parse(post, &f, &err) != FPL_OK) fail_msg("%s: %s", post, err.text);
    fpl_quantizer_lower(&q, post != NULL ? &f : NULL, &plan);
    return plan;
}

/* Magnitudes around 2^exponent, some far below, zeros, and now and then what is not finite. */
static void fill(float x[SIZE], int exponent, int specials) {
    for (int i = 0; i < SIZE; i++) {
        const int e = exponent - (int)(harness_draw() % 4 == 0 ? harness_draw() % 60 : harness_draw() % 6);
        const double v = ldexp(1.0 + (double)(harness_draw() % (1u << 23)) * 0x1p-23, e < -149 ? -149 : e);
        x[i] = (float)(harness_draw() & 1 ? v : -v);
        if (!isfinite(x[i])) x[i] = 0x1.fffffep127f;
        if (harness_draw() % 16 == 0) x[i] = 0.0f;
        if (specials && harness_draw() % 20 == 0) x[i] = harness_draw() & 1 ? INFINITY : NAN;
    }
    x[harness_draw() % SIZE] = (float)ldexp(1.0, exponent);
}

/* The first value of a sweep over all magnitudes that the carrier changes; 0 where there is none. */
static int changes(const struct fpl_quantizer_plan *plan, int carrier, float *value) {
    float x[SIZE], out[SIZE];
    for (int exponent = -149; exponent <= 127; exponent += exponent > -100 && exponent < 100 ? 20 : 1) {
        for (int turn = 0; turn < 2; turn++) {
            const struct fpl_random_at at = {7, 3, 5, (uint64_t)exponent * SIZE};
            fill(x, exponent, turn);
            if (exponent == 127 && turn) x[0] = 0x1.fffffep127f;
            (void)fpl_quantize_reference(plan, ROWS, COLS, COLS, 1, x, out, NULL, &at);
            for (int i = 0; i < SIZE; i++)
                if (!survives(carrier, out[i])) {
                    *value = out[i];
                    return 1;
                }
        }
    }
    return 0;
}

static int check_exact(const char *text, const char *post) {
    const struct fpl_quantizer_plan plan = plan_of(text, post);
    int admitted = 0;
    float value;
    for (int c = BF16; c <= TF32; c++) {
        if (!fpl_cuda_travels(&plan, c)) continue;
        admitted++;
        if (changes(&plan, c, &value))
            fail_msg("%s%s%s: %s does not hold %a", text, post != NULL ? " then " : "",
                     post != NULL ? post : "", carrier_names[c], (double)value);
    }
    return admitted;
}

static void test_exact(void **unused) {
    (void)unused;
    static const char *const policies[] = {"", "ieee", "fn", "fnuz", "p3109e", "p3109f"};
    static const char *const scales[] = {
        "",           "/1x16:e8m0",  "/1x16:rceil", "/row:ceil",      "/tensor:even",
        "/8x8:p3109", "/1x16:ue4m3", "/1x16:ue5m3", "/1x16:e4m3fn+t", "/row"};
    static const char *const roundings[] = {"", ":sr", ":rup", ":rto"};
    int admitted = 0, tried = 0;
    harness_seed(11);
    for (int e = 0; e <= 8; e++)
        for (int m = 0; m <= 11; m++)
            for (int p = 0; p < 6; p++)
                for (int s = 0; s < 10; s++) {
                    char text[96];
                    struct fpl_quantizer q;
                    struct fpl_error err = {0};
                    snprintf(text, sizeof text, "e%dm%d%s%s%s", e, m, policies[p], roundings[(e + m + s) % 4],
                             scales[s]);
                    if (fpl_quantizer_parse(text, &q, &err) != FPL_OK) continue;
                    admitted += check_exact(text, NULL);
                    tried++;
                }
    for (int s = 0; s < 10; s++) {
        char text[64];
        snprintf(text, sizeof text, "e3m4%s", scales[s]);
        admitted += check_exact(text, "bf16") + check_exact(text, "fp16") + check_exact(text, "tf32");
    }
    print_message("%d quantizers, %d admitted to a narrow carrier\n", tried, admitted);
    assert_true(tried > 2000 && admitted > 1000);
}

static void test_choice(void **unused) {
    (void)unused;
    static const struct {
        const char *text, *post;
        int carrier;
    } known[] = {{"e4m3fn", NULL, BF16},
                 {"e5m2ieee", NULL, BF16},
                 {"bf16", NULL, BF16},
                 {"-", "bf16", BF16},
                 {"int8", NULL, BF16},
                 {"fp16", NULL, FP16},
                 {"e5m9", NULL, TF32}, /* 2^16 is beyond fp16 */
                 {"e5m9ieee", NULL, FP16},
                 {"tf32", NULL, TF32},
                 {"e8m11ieee", NULL, FP32},
                 {"fp32", NULL, FP32},
                 {"-", NULL, FP32},
                 {"e2m1/1x32:e8m0", NULL, BF16},
                 {"e3m2/1x32:e8m0", NULL, BF16},
                 {"e2m3/1x32:e8m0", NULL, BF16},
                 {"int8/1x32:e8m0", NULL, BF16},
                 {"e4m3fn/1x32:e8m0", NULL, TF32}, /* 2^-9 2^-127 needs the finer quantum */
                 {"e4m3fn/1x32:rceil", NULL, FP32},
                 {"e5m2ieee/1x32:e8m0", NULL, FP32},
                 {"e2m1/1x16:ue5m3", NULL, BF16},
                 {"e4m3fn/1x16:ue4m3", NULL, BF16},
                 {"e4m4/1x16:ue4m3", NULL, TF32}, /* nine bits together */
                 {"e4m3/1x32", "bf16", BF16},
                 {"e4m3/1x32", NULL, FP32},
                 {"uint4/1x32+z", NULL, FP32},
                 {"nf4", NULL, FP32}};
    harness_seed(12);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const struct fpl_quantizer_plan plan = plan_of(known[i].text, known[i].post);
        const int got = fpl_cuda_carrier_of(&plan);
        float value;
        if (got != known[i].carrier)
            fail_msg("%s: %s, not %s", known[i].text, carrier_names[got], carrier_names[known[i].carrier]);
        for (int c = BF16; c <= TF32; c++)
            if (!fpl_cuda_travels(&plan, c) && !changes(&plan, c, &value) && known[i].carrier == FP32)
                fail_msg("%s: %s holds all values and was refused", known[i].text, carrier_names[c]);
    }
}

/* One product of one role with both operands of a quantizer, on arrays that begin `shift` elements into their
 * memory. */
static void product(const struct fpl_kernels *k, struct fpl_device *dev, enum fpl_role role, int64_t O,
                    const char *text, const char *accumulator, int shift) {
    const struct fpl_operand q = {.plan = plan_of(text, NULL)};
    struct fpl_accumulator a;
    struct fpl_accumulator_plan sum;
    struct fpl_error err = {0};
    if (fpl_accumulator_parse(accumulator, &a, &err) != FPL_OK) fail_msg("%s", err.text);
    fpl_accumulator_lower(&a, &sum);
    float *x[3];
    for (int i = 0; i < 3; i++) x[i] = k->alloc(dev, 400 * sizeof *x[i]);
    const struct fpl_gemm g = {.role = role,
                               .R = 1,
                               .n = 16,
                               .O = O,
                               .I = 16,
                               .a = x[0] + shift,
                               .b = x[1] + shift,
                               .out = x[2] + shift,
                               .qa = &q,
                               .qb = &q,
                               .accumulator = &sum};
    k->gemm(dev, &g);
    if (k->check(dev, &err) != FPL_OK) fail_msg("%s: %s", text, err.text);
    for (int i = 0; i < 3; i++) k->release(dev, x[i]);
}

static char prefix[160]; /* of the description: the device, its architecture, the library */

static void assert_says(const struct fpl_kernels *k, struct fpl_device *dev, const char *products) {
    char text[160], want[300];
    k->describe(dev, text, sizeof text);
    snprintf(want, sizeof want, "%s%s", prefix, products);
    assert_string_equal(text, want);
}

static void test_report(void **unused) {
    (void)unused;
    const struct fpl_kernels *k = fpl_backend("cuda");
    const struct fpl_device_options options = {.threads = 1};
    struct fpl_device *dev;
    struct fpl_error err = {0};
    if (k->open(&dev, &options, &err) != FPL_OK) fail_msg("%s", err.text);
    k->describe(dev, prefix, sizeof prefix);
    if (strstr(prefix, "; gemm=cublasLt-") == NULL) {
        print_message("%s: no library to be told of\n", prefix);
        k->close(dev);
        skip();
    }
    if (strncmp(prefix, "host execution", 14) == 0)
        assert_string_equal(prefix, "host execution; sm_90; gemm=cublasLt-13.99.0");
    product(k, dev, FPL_FORWARD, 16, "e4m3fn", "fp32", 0);
    product(k, dev, FPL_FORWARD, 17, "fp16", "fp32", 0); /* odd shapes too */
    product(k, dev, FPL_DGRAD, 16, "tf32", "fp32", 0);
    product(k, dev, FPL_WGRAD, 16, "-", "fp32", 0);
    product(k, dev, FPL_WGRAD, 16, "e4m3fn", "fp16", 0);
    assert_says(k, dev, " forward=bf16+fp16 dgrad=tf32 wgrad=fp32+emulated");
    product(k, dev, FPL_DGRAD, 16, "-", "fp32", 1); /* not where a model puts a tensor of this shape */
    assert_says(k, dev, " forward=bf16+fp16 dgrad=tf32+own-fp32 wgrad=fp32+emulated");
    k->close(dev);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_exact), cmocka_unit_test(test_choice),
                                       cmocka_unit_test(test_report)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
