/* detmath against long double: errors in ulp over random and special arguments. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../../formats/random.h"
#include "../../sim/base/detmath.h"

static double uniform(uint64_t i) {
    uint32_t w[4];
    fpl_random_block(7, i, 0, fpl_stream(FPL_STREAM_TEST, 0), w);
    return fpl_random_uniform(w[0], w[1]);
}

static double ulps(double got, long double want) {
    double near = (double)want;
    return (double)fabsl((long double)got - want) / (nextafter(fabs(near), HUGE_VAL) - fabs(near));
}

static void log_within_two_ulp(void **state) {
    (void)state;
    double worst = 0.0;
    for (uint64_t i = 0; i < 400000; i++) {
        double u = uniform(i), x = i % 4 == 0   ? exp((u - 0.5) * 1400.0)
                                   : i % 4 == 1 ? 0.5 + u
                                   : i % 4 == 2 ? 1.0 + (u - 0.5) * 1e-3
                                                : (double)i + 2.7;
        double e = ulps(fpl_det_log(x), logl((long double)x));
        if (e > worst) worst = e;
    }
    assert_true(worst < 2.0);
    assert_true(fpl_det_log(1.0) == 0.0);
}

static void exp_within_two_ulp(void **state) {
    (void)state;
    double worst = 0.0;
    for (uint64_t i = 0; i < 400000; i++) {
        double x = (uniform(i) - 0.5) * (i % 2 == 0 ? 1400.0 : 2.0);
        double e = ulps(fpl_det_exp(x), expl((long double)x));
        if (e > worst) worst = e;
    }
    assert_true(worst < 2.0);
    assert_true(fpl_det_exp(0.0) == 1.0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(log_within_two_ulp),
                                       cmocka_unit_test(exp_within_two_ulp)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
