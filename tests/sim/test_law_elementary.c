/* Eight doubles at a time (elementary.h): exponential, logarithm and the bend of a bowl against long double,
 * and the same bits on every instruction set that this machine has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../../formats/random.h"
#include "../../sim/law/elementary.h"

enum { COUNT = 1 << 16, FUNCTIONS = 7 };
#define UNIT 0x1p-53

static double uniform(uint64_t element) {
    uint32_t w[4];
    fpl_random_block(7, element, 0, fpl_stream(FPL_STREAM_TEST, 44), w);
    return fpl_random_uniform(w[0], w[1]);
}

/* Every function of one argument; those that it is not made for are told apart by the caller. */
FPL_INLINE void all_functions(const lanes *x, lanes out[FUNCTIONS]) {
    lanes by, slope;
    out[0] = exp_of(*x);
    out[1] = log_of(*x);
    out[2] = log1p_of(abs_of(*x), &by);
    out[3] = by;
    out[4] = phi_of(*x, &slope);
    out[5] = slope;
    out[6] = max_of(*x, all_of(0.5));
}

static void baseline(const lanes *x, lanes out[FUNCTIONS]) { all_functions(x, out); }
#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("avx2"))) static void avx2(const lanes *x, lanes out[FUNCTIONS]) {
    all_functions(x, out);
}
__attribute__((target("avx512f,avx512dq"))) static void avx512(const lanes *x, lanes out[FUNCTIONS]) {
    all_functions(x, out);
}
#endif

static double extreme(uint64_t i) {
    static const double edges[] = {
        0.0,    -0.0,     700.0,     -700.0,      1e-300,      0x1p-1022,
        0.5,    -0.5,     HUGE_VAL,  -HUGE_VAL,   (double)NAN, 1e15,
        1e308,  -1e308,   0x1p-1074, 0x1.fp1023,  1.0,         -1.0,
        0.4999, -0.49999, 1e-17,     -1e-17,      2.0,         0.34657359027997264,
        701.0,  -701.0,   1.4142135, 0.707106781, 4.0,         -0.34657359027997264};
    const size_t count = sizeof edges / sizeof edges[0];
    return i < count ? edges[i] : (uniform(i) - 0.5) * (i % 3 == 0 ? 1500.0 : i % 3 == 1 ? 4.0 : 1.2);
}

static void test_same_bits(void **state) {
    (void)state;
#if defined(__x86_64__) && defined(__GNUC__)
    void (*const level[])(const lanes *, lanes[FUNCTIONS]) = {avx2, avx512};
    const int there[] = {__builtin_cpu_supports("avx2"),
                         __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")};
    for (int k = 0; k < 2; k++)
        for (uint64_t i = 0; there[k] && i < COUNT; i += FPL_LANES) {
            lanes x, want[FUNCTIONS], got[FUNCTIONS];
            for (uint64_t j = 0; j < FPL_LANES; j++) x[j] = extreme(i + j);
            baseline(&x, want);
            level[k](&x, got);
            for (int f = 0; f < FUNCTIONS; f++)
                for (int j = 0; j < FPL_LANES; j++)
                    if (memcmp((double *)&got[f] + j, (double *)&want[f] + j, 8) != 0 &&
                        !(isnan(got[f][j]) && isnan(want[f][j])))
                        fail_msg("level %d, function %d of %a: %a and %a", k, f, x[j], got[f][j], want[f][j]);
        }
#else
    skip();
#endif
}

static double worst(double worst, double got, long double want) {
    const double error = (double)(fabsl((long double)got - want) / fabsl(want));
    return error > worst ? error : worst;
}

/* Bounds, in units of 2^-53.  exp: rounding of p r + 1 and of the reduction, 1.5 and 0.5 |r| twice.  log:
 * sums of two terms of which the smaller is at most 0.35 of the larger.  log1p: that and the correction's. */
static void test_exp_and_log(void **state) {
    (void)state;
    double e = 0.0, l = 0.0, p = 0.0;
    for (uint64_t i = 0; i < COUNT; i++) {
        const double x = (uniform(i) - 0.5) * (i % 2 ? 1400.0 : 4.0), y = exp(x), z = y < 1e15 ? y : 1e15;
        lanes by;
        e = worst(e, exp_of(all_of(x))[0], expl((long double)x));
        if (y != 1.0) l = worst(l, log_of(all_of(y))[0], logl((long double)y));
        p = worst(p, log1p_of(all_of(z), &by)[0], log1pl((long double)z));
        assert_true(fabs(by[0] - 1.0 / (1.0 + z)) <= 2 * UNIT * by[0]);
    }
    printf("largest relative error: exp %.2g, log %.2g, log1p %.2g\n", e, l, p);
    assert_true(e <= 2.5 * UNIT && l <= 4 * UNIT && p <= 5 * UNIT);
    assert_true(exp_of(all_of(0.0))[0] == 1.0 && log_of(all_of(1.0))[0] == 0.0);
    assert_true(exp_of(all_of(1e9))[0] == exp_of(all_of(700.0))[0]);
    assert_true(exp_of(all_of(-1e9))[0] == exp_of(all_of(-700.0))[0]);
    assert_true(isnan(exp_of(all_of((double)NAN))[0]) && isnan(log_of(all_of((double)NAN))[0]));
    assert_true(isnan(log_of(all_of(0.0))[0]) && isnan(log_of(all_of(-1.0))[0]));
}

/* 2 (e^z - z - 1)/z^2 and its derivative by their series in long double, all terms of one sign for z > 0;
 * for z < 0 by e^z times that of -z: e^z - z - 1 has no short series without cancelling. */
static long double phi_series(long double z, long double *slope) {
    long double sum = 0.0L, rise = 0.0L, term = 1.0L;
    for (int k = 0; k < 400; k++) {
        sum += term;
        rise += (long double)(k + 1) * term / (long double)(k + 3);
        term *= z / (long double)(k + 3);
    }
    *slope = rise;
    return sum;
}

/* The closed form is worst where it begins, at z = -1/2: e^z - z - 1 = 0.107 of terms of up to 1.11, exact to
 * 1.5 e^z + 1.11 units, and the few of the product; phi = 0.852, and 2 + z phi - 2 phi = -0.130 takes 2.5
 * times the error of phi. */
static void test_phi(void **state) {
    (void)state;
    double value = 0.0, slope = 0.0;
    for (uint64_t i = 0; i < COUNT; i++) {
        const double z = (uniform(i) - 0.3) * (i % 2 ? 1.6 : 8.0);
        long double want_slope, want = phi_series((long double)z, &want_slope);
        lanes got_slope;
        const lanes got = phi_of(all_of(z), &got_slope);
        value = worst(value, got[0], want);
        slope = worst(slope, got_slope[0], want_slope);
    }
    printf("largest relative error: phi %.2g, its derivative %.2g\n", value, slope);
    assert_true(value <= 24 * UNIT && slope <= (24 * 2.5 * 0.852 + 4) / 0.130 * UNIT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_exp_and_log),
        cmocka_unit_test(test_phi),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
