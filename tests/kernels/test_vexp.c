/* test_vexp.c - the bounds that kernels/cpu/vec/vexp.h states, and equal bits at every level.
 *
 * exp: every 61st of the 2^32 float32 patterns (every one, with any argument on the command
 * line: a minute or two), against the double exponential of libm, whose own error is beyond
 * the digits that matter here.  The error is counted in units of the last place of the exact
 * result's binade, 2^-149 in the subnormal range.  log: against long double.
 */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The vectors of vexp.h are not used here, only its stated bounds. */
#define FPL_LEVEL baseline
#define FPL_LEVEL_baseline 1
#include "../../kernels/cpu/vec/vexp.h"

#ifdef FPL_X86
void fpl_exp_array_avx2(int64_t n, const float *x, float *out);
void fpl_exp_array_avx512(int64_t n, const float *x, float *out);
void fpl_log_array_avx2(int64_t n, const double *x, double *out);
void fpl_log_array_avx512(int64_t n, const double *x, double *out);
#endif

struct level {
    const char *name;
    void (*exp)(int64_t n, const float *x, float *out);
    void (*log)(int64_t n, const double *x, double *out);
};

enum { BATCH = 4096 };
static uint64_t stride = 61;

/* This machine's levels, the fastest first. */
static int levels(struct level *out) {
    int count = 0;
#ifdef FPL_X86
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
        out[count++] = (struct level){"avx512", fpl_exp_array_avx512, fpl_log_array_avx512};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        out[count++] = (struct level){"avx2", fpl_exp_array_avx2, fpl_log_array_avx2};
#endif
    out[count++] = (struct level){"baseline", fpl_exp_array_baseline, fpl_log_array_baseline};
    return count;
}

static float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint64_t fill(uint64_t bits, uint64_t step, float *x) {
    for (int i = 0; i < BATCH; i++, bits += step) x[i] = from_bits((uint32_t)bits);
    return bits;
}

/* |got - exact| in ulp of exact's binade; 0 where both overflow to infinity */
static double ulp_error(double got, double exact) {
    if (exact >= 0x1.ffffffp127 && isinf(got)) return 0.0;
    int exponent;
    frexp(exact, &exponent);
    double ulp = ldexp(1.0, exponent - 24 > -149 ? exponent - 24 : -149);
    return fabs(got - exact) / ulp;
}

static void exp_is_within_its_bound(void **state) {
    (void)state;
    struct level all[3];
    levels(all);
    static float x[BATCH], y[BATCH];
    double worst = 0.0;
    for (uint64_t bits = 0; bits < (uint64_t)1 << 32;) {
        bits = fill(bits, stride, x);
        all[0].exp(BATCH, x, y);
        for (int i = 0; i < BATCH; i++) {
            if (isnan(x[i])) {
                assert_true(isnan(y[i]));
                continue;
            }
            double error = ulp_error((double)y[i], exp((double)x[i]));
            if (!(error <= worst)) worst = error;
        }
    }
    print_message("exp: largest error %.4f ulp (%s, every %d)\n", worst, all[0].name, (int)stride);
    assert_true(worst <= VEXP_ULP);
}

static void exp_at_the_edges(void **state) {
    (void)state;
    const float x[] = {0.0f,    -0.0f,    INFINITY,   -INFINITY,  88.72283f, 88.72284f,
                       FLT_MAX, -FLT_MAX, -87.33654f, -103.9721f, -104.0f,   -103.97207f,
                       FLT_MIN, -FLT_MIN, 0x1p-149f,  -0x1p-149f, 0x1p-26f,  NAN};
    float y[sizeof x / sizeof x[0]];
    struct level all[3];
    int count = levels(all);
    for (int i = 0; i < count; i++) {
        all[i].exp(sizeof x / sizeof x[0], x, y);
        assert_true(y[0] == 1.0f && y[1] == 1.0f);
        assert_true(y[2] == INFINITY && y[3] == 0.0f && !signbit(y[3]));
        assert_true(y[4] < INFINITY && y[4] > 0x1.ffffp127f && y[5] == INFINITY && y[6] == INFINITY);
        assert_true(y[7] == 0.0f && y[8] >= 0x1.fffffcp-127f && y[8] <= 0x1.0001p-126f);
        assert_true(y[9] == 0.0f && y[10] == 0.0f && y[11] == 0x1p-149f);
        for (int k = 12; k < 17; k++) assert_true(y[k] == 1.0f);
        assert_true(isnan(y[17]));
    }
}

static void exp_has_the_same_bits_at_every_level(void **state) {
    (void)state;
    struct level all[3];
    int count = levels(all);
    static float x[BATCH], y[2][BATCH];
    for (uint64_t bits = 0; bits < (uint64_t)1 << 32;) {
        bits = fill(bits, stride * 29, x);
        all[0].exp(BATCH, x, y[0]);
        for (int i = 1; i < count; i++) {
            all[i].exp(BATCH, x, y[1]);
            for (int k = 0; k < BATCH; k++) /* a NaN's payload is free */
                if (!isnan(x[k])) assert_memory_equal(&y[0][k], &y[1][k], sizeof(float));
        }
    }
}

/* Values as cross-entropy meets them (1 to 2^17), around 1 where log vanishes, and any exponent. */
static void log_arguments(int64_t n, double *x) {
    uint64_t s = 1;
    for (int64_t i = 0; i < n; i++) {
        s = s * 6364136223846793005u + 1442695040888963407u;
        double u = (double)(s >> 11) * 0x1p-53;
        x[i] = i % 3 == 0   ? 1.0 + u * 131071.0
               : i % 3 == 1 ? 0.5 + u
                            : ldexp(1.0 + u, (int)(s >> 20 & 1023) - 512);
    }
    x[0] = 1.0;
}

static void log_is_within_its_bound_at_every_level(void **state) {
    (void)state;
    enum { N = 200003 };
    double *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y), *first = malloc(N * sizeof *first);
    assert_true(x != NULL && y != NULL && first != NULL);
    log_arguments(N, x);
    struct level all[3];
    int count = levels(all);
    long double worst = 0.0L;
    for (int i = 0; i < count; i++) {
        all[i].log(N, x, y);
        assert_true(y[0] == 0.0);
        if (i == 0) memcpy(first, y, N * sizeof *y);
        assert_memory_equal(first, y, N * sizeof *y);
    }
    for (int64_t k = 0; k < N; k++) {
        long double exact = logl((long double)x[k]), scale = fmaxl(1.0L, fabsl(exact));
        worst = fmaxl(worst, fabsl((long double)y[k] - exact) / scale);
    }
    print_message("log: largest error %.3Lg of max(1, |log x|)\n", worst);
    assert_true(worst <= (long double)VLOG_BOUND);
    const double odd[] = {(double)INFINITY, (double)NAN};
    all[0].log(2, odd, y);
    assert_true(isnan(y[0]) && isnan(y[1]));
    free(x);
    free(y);
    free(first);
}

int main(int argc, char **argv) {
    (void)argv;
    if (argc > 1) stride = 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_within_its_bound),
        cmocka_unit_test(exp_at_the_edges),
        cmocka_unit_test(exp_has_the_same_bits_at_every_level),
        cmocka_unit_test(log_is_within_its_bound_at_every_level),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
