/* Deterministic sin and cos against long double, over the range they promise. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../formats/random.h"
#include "../../sim/base/detmath.h"

static double worst_error(double x) {
    double s, c;
    fpl_det_sincos(x, &s, &c);
    const long double es = fabsl(sinl((long double)x) - (long double)s);
    const long double ec = fabsl(cosl((long double)x) - (long double)c);
    return (double)(es > ec ? es : ec);
}

static void random_angles(void **state) {
    (void)state;
    double worst = 0;
    for (uint64_t i = 0; i < 400000; i++) {
        uint32_t w[4];
        fpl_random_block(1, i, 0, fpl_stream(FPL_STREAM_TEST, 1), w);
        const double x = (fpl_random_uniform(w[0], w[1]) - 0.5) * ldexp(1.0, (int)(w[2] % 22u));
        const double e = worst_error(x);
        if (e > worst) worst = e;
    }
    assert_true(worst < 0x1p-52);
}

/* Nearest doubles to multiples of pi/2: the hardest reductions in range. */
static void multiples_of_half_pi(void **state) {
    (void)state;
    for (int k = -667000; k <= 667000; k += 23) {
        const double x = (double)(1.57079632679489661923132169163975144L * (long double)k);
        assert_true(worst_error(x) < 0x1p-52);
    }
}

static void out_of_range_is_nan(void **state) {
    (void)state;
    const double bad[] = {0x1.0000000000001p20, -0x1.8p20, (double)INFINITY, (double)NAN};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        double s = 0, c = 0;
        fpl_det_sincos(bad[i], &s, &c);
        assert_true(isnan(s) && isnan(c));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_angles),
                                       cmocka_unit_test(multiples_of_half_pi),
                                       cmocka_unit_test(out_of_range_is_nan)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
