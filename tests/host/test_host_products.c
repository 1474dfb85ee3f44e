/* test_host_products.c - carriers of quantized operands, and how products say what they ran on.
 *
 * 1. Wherever fpl_cuda_passage_of says that a carrier holds a quantizer's values, all or those under scales
 * that are not flagged, it does: operands of every magnitude that float32 has, the ends included, through
 * fpl_quantize_reference; each value survives the carrier.  The witness knows nothing of plans: zero bits for
 * bf16 and tf32, the definition of fp16.
 * 2. The choice for named quantizers, written down by hand; for those that are refused a carrier, operands
 *    whose values it would change are found, so none is refused without need.
 * 3. Products at the ends of float32, where blocks leave their carrier and factors stay behind, within the
 * bound of cublaslt.h; every replica of a pack has the bits that it has alone.
 * 4. What a device reports after products in several carriers; a bad FPLAW_CUBLASLT.
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
enum { NOT, WHOLE, CHECKED };
int fpl_cuda_travels(const struct fpl_quantizer_plan *plan, int carrier);
int fpl_cuda_passage_of(const struct fpl_quantizer_plan *plan, int carrier, float *low, float *high);
int fpl_cuda_carrier_of(const struct fpl_quantizer_plan *plan);

static const char *const carrier_names[] = {"fp32", "bf16", "fp16", "tf32"};

enum { ROWS = 2, COLS = 48, SIZE = ROWS * COLS };

static int survives(int carrier, float v) {
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    if (isnan(v) || carrier == FP32) return 1;
    if (carrier == BF16) return (u & 0xffffu) == 0;
    if (carrier == TF32) return (u & 0x1fffu) == 0;
    /* 11 significant bits, units from 2^-24 on, below 2^16: without _Float16, which not all compilers have.
     */
    const float scaled = v * 0x1p24f;
    return isinf(v) || (fabsf(v) < 0x1p16f && scaled == truncf(scaled) && (u & 0x1fffu) == 0);
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

/* The first value of a sweep over all magnitudes, in groups whose scale is from `low` to `high`, that the
 * carrier changes; 0 where there is none. */
static int changes_between(const struct fpl_quantizer_plan *plan, int carrier, float low, float high,
                           float *value) {
    float x[SIZE], out[SIZE], scales[SIZE];
    int64_t rows, cols;
    fpl_quantizer_group_shape(plan, ROWS, COLS, &rows, &cols);
    const int64_t across = (COLS - 1) / cols + 1;
    for (int exponent = -149; exponent <= 127; exponent += exponent > -100 && exponent < 100 ? 20 : 1) {
        for (int turn = 0; turn < 2; turn++) {
            const struct fpl_random_at at = {7, 3, 5, (uint64_t)exponent * SIZE};
            fill(x, exponent, turn);
            if (exponent == 127 && turn) x[0] = 0x1.fffffep127f;
            (void)fpl_quantize_reference(plan, ROWS, COLS, COLS, 1, x, out, scales, &at);
            for (int i = 0; i < SIZE; i++) {
                const float s = scales[i / COLS / rows * across + i % COLS / cols];
                if (s < low || s > high || survives(carrier, out[i])) continue;
                *value = out[i];
                return 1;
            }
        }
    }
    return 0;
}

static int changes(const struct fpl_quantizer_plan *plan, int carrier, float *value) {
    return changes_between(plan, carrier, -INFINITY, INFINITY, value);
}

static int checked;

static int check_exact(const char *text, const char *post) {
    const struct fpl_quantizer_plan plan = plan_of(text, post);
    int admitted = 0;
    float value;
    for (int c = BF16; c <= TF32; c++) {
        float low, high;
        const int passage = fpl_cuda_passage_of(&plan, c, &low, &high);
        if (passage == CHECKED && changes_between(&plan, c, low, high, &value))
            fail_msg("%s: %s does not hold %a, whose scale is not flagged", text, carrier_names[c],
                     (double)value);
        if (passage == CHECKED && !(low <= 0x1p-60f / plan.largest && high >= 0x1p59f / plan.largest))
            fail_msg("%s: %s flags ordinary scales, beyond %a and %a", text, carrier_names[c], (double)low,
                     (double)high);
        checked += passage == CHECKED;
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
    print_message("%d quantizers, admitted to a narrow carrier %d, with checks %d\n", tried, admitted,
                  checked);
    assert_true(tried > 2000 && admitted > 1000 && checked > 500);
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

/* ---- products at the ends of float32 ------------------------------------------------------------------ */

enum { R = 3, N_ROWS = 12, OUT = 20, IN = 64 };

struct ends {
    const char *a, *b;
    int smallest, largest; /* exponents of the rows of a in replicas 1 and 2; b makes up for them */
    const char *says;      /* carriers of the forward product */
};

static void ends_product(const struct fpl_kernels *k, struct fpl_device *dev, const struct ends *e, int first,
                         int count, int accumulate, const float *x, const float *w, float *y) {
    struct fpl_operand qa[R], qb[R];
    struct fpl_error err = {0};
    for (int r = 0; r < R; r++) {
        qa[r] = (struct fpl_operand){.plan = plan_of(e->a, NULL)};
        qb[r] = (struct fpl_operand){.plan = plan_of(e->b, NULL)};
    }
    const size_t a = (size_t)count * N_ROWS * IN * sizeof(float),
                 b = (size_t)count * OUT * IN * sizeof(float),
                 c = (size_t)count * N_ROWS * OUT * sizeof(float);
    float *dx = k->alloc(dev, a), *dw = k->alloc(dev, b), *dy = k->alloc(dev, c);
    k->upload(dev, dx, x + first * N_ROWS * IN, a);
    k->upload(dev, dw, w + first * OUT * IN, b);
    k->upload(dev, dy, y + first * N_ROWS * OUT, c);
    const struct fpl_gemm g = {.role = FPL_FORWARD,
                               .R = count,
                               .n = N_ROWS,
                               .O = OUT,
                               .I = IN,
                               .a = dx,
                               .b = dw,
                               .out = dy,
                               .accumulate = accumulate,
                               .qa = qa,
                               .qb = qb};
    k->gemm(dev, &g);
    if (k->check(dev, &err) != FPL_OK) fail_msg("%s: %s", e->a, err.text);
    k->download(dev, y + first * N_ROWS * OUT, dy, c);
    k->release(dev, dx);
    k->release(dev, dw);
    k->release(dev, dy);
}

/* The bound of cublaslt.h and carried.h for every element of replica r. */
static void check_ends(const struct ends *e, int r, const float *x, const float *w, const float *old,
                       const float *y) {
    float a[N_ROWS * IN], b[OUT * IN];
    const struct fpl_quantizer_plan pa = plan_of(e->a, NULL), pb = plan_of(e->b, NULL);
    (void)fpl_quantize_reference(&pa, N_ROWS, IN, IN, 1, x, a, NULL, NULL);
    (void)fpl_quantize_reference(&pb, OUT, IN, IN, 1, w, b, NULL, NULL);
    for (int i = 0; i < N_ROWS; i++)
        for (int j = 0; j < OUT; j++) {
            double exact = old != NULL ? (double)old[i * OUT + j] : 0, sum = fabs(exact), others = IN + 2;
            for (int l = 0; l < IN; l++) {
                const double p = (double)a[i * IN + l], q = (double)b[j * IN + l];
                exact += p * q;
                sum += fabs(p * q);
                others += fabs(p) + fabs(q);
            }
            const double bound = harness_gamma(4 * (IN + 2)) * sum + 0x1p-149 * others;
            const double got = (double)y[i * OUT + j];
            if (!(fabs(got - exact) <= bound))
                fail_msg("%s, %s: replica %d, element (%d, %d) is %a, exactly %a: off by %g, bound %g", e->a,
                         e->b, r, i, j, got, exact, fabs(got - exact), bound);
        }
}

static void fill_ends(const struct ends *e, float *x, float *w, float *y) {
    for (int r = 0; r < R; r++) {
        const int middle = r == 0 ? 0 : r == 1 ? e->smallest : e->largest;
        for (int i = 0; i < N_ROWS * IN; i++) {
            const int level = r == 0 ? 0 : i / IN % 4; /* some rows less extreme than others */
            const double v = ldexp(harness_normal() / 4, middle + (middle < 0 ? level : -level));
            x[r * N_ROWS * IN + i] = (float)v;
        }
        for (int i = 0; i < OUT * IN; i++)
            w[r * OUT * IN + i] = (float)ldexp(harness_normal() / 4, middle < -100  ? 100
                                                                     : middle > 100 ? -100
                                                                                    : 0);
        for (int i = 0; i < N_ROWS * OUT; i++) y[r * N_ROWS * OUT + i] = (float)ldexp(harness_normal(), -30);
    }
}

static void test_ends(void **unused) {
    (void)unused;
    static const struct ends list[] = {{"e4m3fn/1x32:e8m0", "e4m3fn/1x32:rceil", -130, 126, "bf16"},
                                       {"e5m2ieee/1x16:rceil", "e4m3fn", -125, 126, "bf16"},
                                       {"e4m3fn/row", "e4m3fn/tensor", -20, 20, "bf16"},
                                       {"e5m2ieee/tensor", "e4m3fn", -20, 20, "bf16"},
                                       {"e5m9ieee/row", "e4m3fn/16x16:e8m0", -20, 20, "tf32"},
                                       {"e5m9ieee/row", "e4m3fn", -20, 20, "fp16"},
                                       {"e2m1/1x16:e4m3fn+t", "e2m1/16x16:e4m3fn+t", -20, 20, "bf16"},
                                       {"e4m3fn/row", "e4m3fn/1x32:e8m0", -20, 20, "tf32"},
                                       {"e4m3fn/1x32", "e4m3fn/1x32:e8m0", -20, 20, "fp32"}};
    const struct fpl_kernels *k = fpl_backend("cuda");
    const struct fpl_device_options options = {.threads = 1};
    static float x[R * N_ROWS * IN], w[R * OUT * IN], y[R * N_ROWS * OUT], old[R * N_ROWS * OUT],
        alone[R * N_ROWS * OUT];
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            const struct ends *e = &list[i];
            struct fpl_device *dev;
            struct fpl_error err = {0};
            char text[160], want[32];
            harness_seed(50 + i);
            if (k->open(&dev, &options, &err) != FPL_OK) fail_msg("%s", err.text);
            fill_ends(e, x, w, y);
            memcpy(old, y, sizeof y);
            memcpy(alone, y, sizeof y);
            ends_product(k, dev, e, 0, R, accumulate, x, w, y);
            k->describe(dev, text, sizeof text);
            snprintf(want, sizeof want, " forward=%s", e->says);
            if (strstr(text, "cublasLt") != NULL && strstr(text, want) == NULL)
                fail_msg("%s, %s: %s, not%s", e->a, e->b, text, want);
            for (int r = 0; r < R; r++) {
                check_ends(e, r, x + r * N_ROWS * IN, w + r * OUT * IN,
                           accumulate ? old + r * N_ROWS * OUT : NULL, y + r * N_ROWS * OUT);
                ends_product(k, dev, e, r, 1, accumulate, x, w, alone);
            }
            k->close(dev);
            if (memcmp(alone, y, sizeof y) != 0) fail_msg("%s, %s: alone has other bits", e->a, e->b);
        }
}

/* ---- what a device says ----------------------------------------------------------------------------------
 */

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
                                       cmocka_unit_test(test_ends), cmocka_unit_test(test_report)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
