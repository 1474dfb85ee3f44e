/* Formats in the planner: capybara's published constants, typed again and minimised over a fine grid of ln N;
 * break-even speeds by bisection on that grid's minima; critical sizes and cost-optimal bits as published.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "plan_helpers.h"

static void test_break_even(void **state) {
    (void)state;
    struct fpl_fit *fit = preset("capybara:paper");
    const struct fpl_plan_format ref = format("bf16", NONE, 1.0);
    const struct fpl_plan_limits none = FPL_PLAN_NO_LIMITS;
    struct fpl_fit_vector v;
    fpl_fit_vector_at(fit, -1, &v);
    static const double shapes[][2] = {{4, 3}, {2, 1}, {3, 2}, {1, 1}};
    static const char *const names[] = {"e4m3", "e2m1", "e3m2", "e1m1"};
    for (double flop = 1e19; flop < 2e25; flop *= 1e3)
        for (int i = 0; i < 4; i++) {
            double size, low = 0.0, high = log(1e3);
            const struct fpl_plan_format f = format(names[i], 128.0, 3.0);
            const double target = least_capybara(flop, NONE, NONE, &size), hint[2] = {0.0, 0.0};
            for (int k = 0; k < 60; k++) {
                const double middle = 0.5 * (low + high);
                *(least_capybara(flop * exp(middle), shapes[i][0], shapes[i][1], &size) > target ? &low
                                                                                                 : &high) =
                    middle;
            }
            /* the loss is known to u L on both sides, its slope in ln s is about 0.02 and more */
            assert_near(fpl_plan_break_even(&v, &f, &ref, &none, flop, hint), exp(low), 1e-10);
        }
    fpl_fit_free(fit);
}

static void test_equivalents(void **state) {
    (void)state;
    struct fpl_fit *fit = preset("capybara:paper");
    const struct fpl_plan_format ref = format("bf16", NONE, 1.0);
    const struct fpl_plan_limits none = FPL_PLAN_NO_LIMITS;
    struct fpl_fit_vector v;
    struct fpl_plan_point p;
    double share[3], size;
    fpl_fit_vector_at(fit, -1, &v);
    assert_true(fpl_plan_best(&v, &ref, &none, 1e21, 0.0, &p));
    const double loss = capybara(p.N, p.D, 2, 1, 7.0);
    fpl_plan_equivalents(&v, &ref, &none, 1e21, &p, loss, share);
    for (int i = 0; i < 3; i++) assert_true(share[i] > 0.0 && share[i] < 1.0);
    assert_near(capybara(share[0] * p.N, p.D, NONE, NONE, 0.0), loss, 1e-11);
    assert_near(capybara(p.N, share[1] * p.D, NONE, NONE, 0.0), loss, 1e-11);
    assert_near(least_capybara(share[2] * 1e21, NONE, NONE, &size), loss, 1e-11);
    /* no gap is a share of 1; a loss below the reference's is that of no smaller run */
    fpl_plan_equivalents(&v, &ref, &none, 1e21, &p, p.loss, share);
    for (int i = 0; i < 3; i++) assert_near(share[i], 1.0, 1e-9);
    fpl_plan_equivalents(&v, &ref, &none, 1e21, &p, 0.99 * p.loss, share);
    for (int i = 0; i < 3; i++) assert_true(isnan(share[i]));
    fpl_fit_free(fit);
}

/* Beyond the critical size tokens are left unspent: D_crit = [d gamma N^alpha .../log2 B]^(1/(2 beta)). */
static void test_critical_size(void **state) {
    (void)state;
    struct fpl_fit *fit = preset("capybara:paper");
    const struct fpl_plan_format f = format("e2m1", 128.0, 1.0);
    struct fpl_plan_limits l = FPL_PLAN_NO_LIMITS;
    l.N = 1e9;
    const double scale =
        68973.0621 * 11334.5197 * pow(1e9, 0.2368) * pow(2.5, 3.1926) * pow(1.5, 2.9543) / 7.0;
    const double critical = pow(scale, 0.5 / 0.5162);
    struct fpl_plan_point p = limited(fit, &f, l, 6e9 * 10.0 * critical);
    assert_near(p.D, critical, 1e-9);
    assert_near(p.spent, 0.1, 1e-9);
    assert_true((p.bounds & FPL_BOUND_D_CRIT) && (p.bounds & FPL_BOUND_UNSPENT));
    p = limited(fit, &f, l, 6e9 * 0.5 * critical);
    assert_near(p.spent, 1.0, 1e-12);
    assert_int_equal(p.bounds, FPL_BOUND_N);
    assert_near(critical, 0.393e12, 5e-4 / 0.393); /* the notes' three digits */
    fpl_fit_free(fit);
}

/* The notes' table: bits at C = (6/16) P N D, B = 128, and what must be said of 1e24. */
static void test_bits(void **state) {
    (void)state;
    static const double table[][2] = {{1e21, 4.19}, {1e24, 5.01}, {1e28, 6.34}, {1e31, 7.58}};
    struct fpl_fit *fit = preset("capybara:paper");
    struct fpl_plan_bits b;
    for (int i = 0; i < 4; i++) {
        assert_true(fpl_plan_best_bits(fit, table[i][0], 128.0, &b));
        assert_true(fabs(b.bits.value - table[i][1]) <= 0.005 + 1e-3);
        assert_near(6.0 / 16.0 * b.bits.value * b.N.value * b.D.value, table[i][0], 1e-12);
        if (i == 1) assert_true(fabs(b.N.value - 8e11) < 0.5e11 && b.D.value < b.N.value);
    }
    fpl_fit_free(fit);
    fit = preset("chinchilla:refit");
    assert_false(fpl_plan_best_bits(fit, 1e24, 128.0, &b));
    fpl_fit_free(fit);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_break_even),
        cmocka_unit_test(test_equivalents),
        cmocka_unit_test(test_critical_size),
        cmocka_unit_test(test_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
