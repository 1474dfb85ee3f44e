/* test_specials.c - what every format makes of the values at the ends of things.
 *
 * For each alias and a dozen other formats, each rounding and overflow policy: NaNs of several
 * payloads (kept, bit for bit), both infinities, both zeros, the largest values of the format and
 * of float32, the smallest normal and subnormal of both.  The expectations follow from the
 * format's limits and the words of formats.md, section 1, without rounding anything; the scalar
 * rounder and the kernels of every instruction set must meet them.  The second part is scales at
 * the same ends: the smallest that a rule gives, subnormal ones, and those that round to zero.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../../kernels/kernels.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const char *const level_names[] = {"avx512", "avx2", "baseline"};
static const char *const modes[FPL_ROUNDINGS] = {"rne", "rna", "rtz",  "rup", "rdn",
                                                 "rto", "sr",  "sr8b", "sr8c"};
static const char *const policies[FPL_OVERFLOWS] = {"sat", "satp", "ovf"};

static const struct fpl_kernels *level(const char *name) {
    setenv("FPLAW_SIMD", name, 1);
    const struct fpl_kernels *k = strcmp(fpl_simd_level(), name) == 0 ? fpl_backend("cpu") : NULL;
    unsetenv("FPLAW_SIMD");
    return k;
}

static void operand_of(const char *text, struct fpl_operand *q) {
    struct fpl_quantizer parsed;
    struct fpl_error err = {FPL_OK, ""};
    memset(q, 0, sizeof *q);
    if (fpl_quantizer_parse(text, &parsed, &err) != FPL_OK) fail_msg("%s: %s", text, err.text);
    fpl_quantizer_lower(&parsed, NULL, &q->plan);
    q->at = (struct fpl_random_at){.seed = 1, .step = 2, .stream = 3, .element = 0};
}

/* Every level makes `want` of x[rows, cols], and the reference does. */
static void expect(const char *text, int64_t rows, int64_t cols, const float *x, const float *want) {
    struct fpl_operand q;
    float got[64];
    const int64_t n = rows * cols;
    operand_of(text, &q);
    for (int l = -1; l < (int)COUNT(level_names); l++) {
        const struct fpl_kernels *k = l < 0 ? NULL : level(level_names[l]);
        if (l >= 0 && k == NULL) continue;
        if (l < 0) {
            fpl_quantize_reference(&q.plan, rows, cols, cols, 1, x, got, NULL, &q.at);
        } else {
            struct fpl_device *dev;
            int64_t bad;
            assert_int_equal(k->open(&dev, &(struct fpl_device_options){.threads = 1}, NULL), FPL_OK);
            k->quantize(dev, 1, rows, cols, &q, x, got, &bad);
            k->close(dev);
        }
        for (int64_t i = 0; i < n; i++) {
            const int made_nan = isnan(want[i]) && !isnan(x[i]); /* of an overflow: any NaN */
            if (made_nan ? isnan(got[i]) : fpl_float_bits(got[i]) == fpl_float_bits(want[i])) continue;
            fail_msg("%s, %s: %a (%08x) becomes %a (%08x), expected %a", text,
                     l < 0 ? "reference" : level_names[l], (double)x[i], fpl_float_bits(x[i]), (double)got[i],
                     fpl_float_bits(got[i]), (double)want[i]);
        }
    }
}

/* ---- values ------------------------------------------------------------------------------------ */

struct asked {
    const struct fpl_format *f;
    struct fpl_format_limits limits;
    int mode, overflow, is_fp32;
};

static float zero_of(const struct asked *a, float sign) {
    if (!a->f->is_signed || !a->limits.has_negative_zero) return 0.0f;
    return copysignf(0.0f, sign);
}

/* Of a negative value of an unsigned format, zero aside. */
static float clipped(const struct asked *a, float zero) {
    return a->overflow == FPL_OVF && a->limits.has_nan ? NAN : zero;
}

/* Of x beyond the largest value, by far. */
static float beyond(const struct asked *a, float x) {
    const float largest = (float)a->limits.largest;
    const int inward = a->mode == FPL_RTZ || a->mode == FPL_RTO || (a->mode == FPL_RUP && x < 0) ||
                       (a->mode == FPL_RDN && x > 0);
    if (a->overflow == FPL_SAT || (isfinite(x) && (a->overflow == FPL_SATP || inward)))
        return copysignf(largest, x);
    if (a->overflow == FPL_SATP || a->limits.has_inf) return copysignf(INFINITY, x);
    return a->limits.has_nan ? NAN : copysignf(largest, x);
}

/* Of x far below half of the smallest value; stochastic modes need their bits to be all ones. */
static float vanishing(const struct asked *a, float x) {
    const int up = (a->mode == FPL_RUP && x > 0) || (a->mode == FPL_RDN && x < 0) || a->mode == FPL_RTO;
    return up ? copysignf((float)a->limits.smallest, x) : zero_of(a, x);
}

static void check_values(const char *name, const struct asked *a) {
    char text[64];
    float x[32], want[32];
    int n = 0;
    const float largest = (float)a->limits.largest, smallest = (float)a->limits.smallest;
    const int has_zero = fpl_format_value(a->f, 0) == 0.0;
    snprintf(text, sizeof text, "%s:%s:%s", name, modes[a->mode], policies[a->overflow]);

    static const uint32_t nans[] = {0x7fc00000u, 0xffc00000u, 0x7f800001u,
                                    0xff800001u, 0x7fffffffu, 0xffabcdefu};
    for (size_t i = 0; i < COUNT(nans); i++, n++) x[n] = want[n] = fpl_bits_float(nans[i]);
    for (int s = 1; s >= (a->f->is_signed ? -1 : 1); s -= 2) {
        const float sign = (float)s, own[] = {largest, smallest, (float)a->limits.smallest_normal};
        for (int i = 0; i < 3; i++)
            if (own[i] != 0) x[n] = want[n] = sign * own[i], n++;
        x[n] = sign * INFINITY;
        want[n] = beyond(a, x[n]), n++;
        if (largest < FLT_MAX / 4) x[n] = sign * FLT_MAX, want[n] = beyond(a, x[n]), n++;
        x[n] = copysignf(0.0f, sign);
        want[n] = has_zero ? zero_of(a, sign) : smallest, n++;
        /* float32's smallest values, where the format's is far above them */
        if (has_zero && smallest > 0x1p-100f) {
            x[n] = sign * FLT_TRUE_MIN, want[n] = vanishing(a, x[n]), n++;
            x[n] = sign * (FLT_MIN - FLT_TRUE_MIN), want[n] = vanishing(a, x[n]), n++;
            x[n] = sign * FLT_MIN, want[n] = vanishing(a, x[n]), n++;
        }
    }
    if (!a->f->is_signed) {
        const float zero = has_zero ? 0.0f : smallest,
                    negative[] = {-largest, -FLT_MAX, -INFINITY, -FLT_TRUE_MIN};
        for (int i = 0; i < 4; i++) x[n] = negative[i], want[n] = clipped(a, zero), n++;
        x[n] = -0.0f, want[n] = zero, n++;
    }
    expect(text, 1, n, x, want);
}

static void check_format(const char *name, int *pairs) {
    struct fpl_format f;
    assert_int_equal(fpl_format_parse(name, &f, NULL), FPL_OK);
    struct asked a = {.f = &f};
    fpl_format_limits(&f, &a.limits);
    for (a.mode = 0; a.mode < FPL_ROUNDINGS; a.mode++)
        for (a.overflow = 0; a.overflow < FPL_OVERFLOWS; a.overflow++, ++*pairs) check_values(name, &a);
}

static void every_format_at_its_ends(void **unused) {
    static const char *const others[] = {"e4m3",     "e5m2",     "e4m3fnuz",   "e5m2fnuz",   "e4m3b11fnuz",
                                         "e3m4ieee", "e4m3ieee", "e4m3p3109e", "e4m3p3109f", "e5m2p3109e",
                                         "e3m0",     "e2m0",     "e1m2",       "e4m3fnns",   "e5m2ieeens",
                                         "e2m1ns",   "ue4m3",    "e6m9",       "ue5m2ieee"};
    int pairs = 0;
    (void)unused;
    for (const struct fpl_format_alias *a = fpl_format_aliases; a->name != NULL; a++)
        if (strcmp(a->name, "fp32") != 0) check_format(a->name, &pairs);
    for (size_t i = 0; i < COUNT(others); i++) check_format(others[i], &pairs);
    print_message("%d formats with rounding and overflow\n", pairs);
    assert_true(pairs > 40 * FPL_ROUNDINGS * FPL_OVERFLOWS / 2);
}

/* fp32 is the identity on every pattern under its own overflow. */
static void fp32_changes_nothing(void **unused) {
    const float x[] = {NAN,     -NAN,     INFINITY, -INFINITY,    0.0f,          -0.0f,
                       FLT_MAX, -FLT_MAX, FLT_MIN,  FLT_TRUE_MIN, -FLT_TRUE_MIN, 1.1f};
    (void)unused;
    for (int m = 0; m < FPL_ROUNDINGS; m++) {
        char text[32];
        snprintf(text, sizeof text, "fp32:%s", modes[m]);
        expect(text, 1, COUNT(x), x, x);
    }
}

/* ---- scales ------------------------------------------------------------------------------------- */

static void power_of_two_scales_at_the_low_end(void **unused) {
    (void)unused;
    /* floor(log2 amax) - 2 = -127: the scale is subnormal and no element is lost. */
    const float x[] = {0x1.8p-125f, -0x1p-128f, 0x1p-129f, -0x1.8p-128f, 0x1.4p-126f, 0.0f, -0.0f, 0x1p-149f},
                want[] = {0x1.8p-125f, -0x1p-128f, 0.0f, -0x1p-127f, 0x1p-126f, 0.0f, -0.0f, 0.0f};
    expect("e2m1/row:e8m0", 1, 8, x, want);
    expect("e2m1/1x32:ceil", 1, 8, x,
           (const float[]){0x1.8p-125f, -0.0f, 0.0f, -0x1p-127f, 0x1p-126f, 0.0f, -0.0f, 0.0f});
    /* Clamped to 2^-127: 2^-130 is 1/8 of it, a quarter of the smallest element. */
    const float low[] = {0x1p-130f, -0x1.8p-129f, 0x1p-131f, 0.0f}, gone[] = {0.0f, -0x1p-128f, 0.0f, 0.0f};
    expect("e2m1/1x4:e8m0", 1, 4, low, gone);
    expect("e2m1/1x4:rceil", 1, 4, low, gone);
    /* fp32 scales stop at 2^-126. */
    const float tiny[] = {0x1p-126f, -0x1p-127f, 0x1p-128f, 0x1p-149f},
                kept[] = {0x1p-126f, -0x1p-127f, 0.0f, 0.0f};
    expect("e2m1/row", 1, 4, tiny, kept);
}

static void scales_in_a_small_format(void **unused) {
    (void)unused;
    /* ue4m3fn's smallest is 2^-9: a subnormal scale of it, then one that rounds to zero. */
    const float x[] = {0x1.8p-7f, -0x1p-10f, 0x1.4p-8f, 0.0f}, want[] = {0x1.8p-7f, -0x1p-10f, 0x1p-8f, 0.0f};
    expect("e2m1/row:ue4m3fn", 1, 4, x, want);
    const float below[] = {0x1.7p-8f, -0x1p-10f, -0x1p-9f, NAN}, zeros[] = {0.0f, -0.0f, -0.0f, NAN};
    expect("e2m1/row:ue4m3fn", 1, 4, below, zeros);
    /* Two levels, tensor scale 1 (amax 6 * 448): the same in the second and third block. */
    const float blocks[] = {2688.0f,   -1344.0f,  224.0f, 0.0f,  0x1.8p-7f, -0x1p-10f, 0x1p-8f, 0.0f,
                            0x1.7p-8f, -0x1p-10f, 0.0f,   -0.0f, INFINITY,  -INFINITY, NAN,     0.0f};
    const float values[] = {2688.0f, -1344.0f, 224.0f, 0.0f,  0x1.8p-7f, -0x1p-10f, 0x1p-8f, 0.0f,
                            0.0f,    -0.0f,    0.0f,   -0.0f, 6.0f,      -6.0f,     NAN,     0.0f};
    expect("e2m1/1x4:e4m3fn+t", 1, 16, blocks, values);
}

static void scales_at_the_high_end(void **unused) {
    (void)unused;
    const float x[] = {FLT_MAX, -FLT_MAX, 0x1p127f, 1.0f, -0x1p-149f},
                fine[] = {FLT_MAX, -FLT_MAX, 0x1p127f, 0.0f, -0.0f};
    expect("e2m1/row:rceil", 1, 5, x, fine); /* s = 2^126, q = 4: dequantized overflow is clamped */
    expect("e4m3fn/row:e8m0", 1, 5, x, (const float[]){0x1.cp127f, -0x1.cp127f, 0x1p127f, 0.0f, -0.0f});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_format_at_its_ends), cmocka_unit_test(fp32_changes_nothing),
        cmocka_unit_test(power_of_two_scales_at_the_low_end), cmocka_unit_test(scales_in_a_small_format),
        cmocka_unit_test(scales_at_the_high_end)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
