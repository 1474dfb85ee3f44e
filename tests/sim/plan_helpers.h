/* plan_helpers.h - shared by the tests of plans. */
#ifndef FPL_TEST_PLAN_HELPERS_H
#define FPL_TEST_PLAN_HELPERS_H

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../../sim/plan/plan.h"

#ifndef NONE
#define NONE ((double)NAN)
#endif

static inline struct fpl_fit *preset(const char *text) {
    struct fpl_fit *fit;
    struct fpl_error err;
    assert_int_equal(fpl_law_preset(text, &fit, &err), FPL_OK);
    return fit;
}

static inline struct fpl_plan_format format(const char *name, double block, double speed) {
    struct fpl_plan_format f;
    struct fpl_error err;
    assert_int_equal(fpl_plan_format_parse(name, block, speed, &f, &err), FPL_OK);
    return f;
}

static inline void assert_near(double found, double expected, double relative) {
    if (!(fabs(found - expected) <= relative * fabs(expected)))
        fail_msg("found %.17g, expected %.17g within %g", found, expected, relative);
}

static inline struct fpl_plan_point limited(const struct fpl_fit *fit, const struct fpl_plan_format *f,
                                            struct fpl_plan_limits limits, double flop) {
    struct fpl_fit_vector v;
    struct fpl_plan_point p;
    fpl_fit_vector_at(fit, -1, &v);
    assert_true(fpl_plan_best(&v, f, &limits, flop, 0.0, &p));
    return p;
}

/* Capybara's published constants, typed again. */
static inline double capybara(double N, double D, double E, double M, double log2_block) {
    const double base = 69.2343 * pow(N, -0.2368) + 68973.0621 * pow(D, -0.5162) + 1.9061;
    if (isnan(E)) return base;
    return base + pow(D, 0.5162) * pow(N, -0.2368) * log2_block /
                      (11334.5197 * pow(E + 0.5, 3.1926) * pow(M + 0.5, 2.9543));
}

/* Least loss on the curve 6 N D = C: a coarse grid, then finer ones around its least point. */
static inline double least_capybara(double flop, double E, double M, double *size) {
    double low = log(1e4), high = log(1e17), at = low;
    for (int round = 0; round < 14; round++) {
        double least = HUGE_VAL;
        const double step = (high - low) / 400.0;
        for (int i = 0; i <= 400; i++) {
            const double x = low + step * i, loss = capybara(exp(x), flop / 6.0 / exp(x), E, M, 7.0);
            if (loss < least) least = loss, at = x;
        }
        low = at - 4.0 * step, high = at + 4.0 * step;
    }
    *size = exp(at);
    return capybara(*size, flop / 6.0 / *size, E, M, 7.0);
}

#endif
