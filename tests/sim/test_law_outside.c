/* How far outside the fitted range a question lies: of every variable that the law takes, given or optimal,
 * the same after a fit has been written and read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "law_design.h"

/* By hand: the least and largest of the runs that the fit used. */
static void range_of(const struct design *d, const struct fpl_fit *fit, enum fpl_variable which,
                     double range[2]) {
    range[0] = HUGE_VAL;
    range[1] = -HUGE_VAL;
    for (size_t i = 0; i < d->runs.count; i++) {
        const char *run, *why;
        int left = 0;
        for (size_t k = 0; fpl_fit_left_out(fit, k, &run, &why); k++)
            left |= strcmp(run, d->runs.run[i].run) == 0;
        const double x = fpl_question_of_run(&d->runs.run[i]).value[which];
        if (left || isnan(x)) continue;
        range[0] = fmin(range[0], x);
        range[1] = fmax(range[1], x);
    }
}

static struct fpl_answer ask(const struct fpl_fit *fit, const struct fpl_question *q) {
    struct fpl_answer a;
    assert_int_equal(fpl_fit_ask(fit, q, &a, NULL), FPL_OK);
    return a;
}

static void check_variable(const struct design *d, const struct fpl_fit *fit,
                           const struct fpl_question *inside, enum fpl_variable which) {
    double range[2];
    const double more = which == FPL_VAR_E || which == FPL_VAR_M ? 0.5 : 0.0;
    char name[40];
    range_of(d, fit, which, range);
    snprintf(name, sizeof name, "%s = ", fpl_variables[which].name);
    for (int side = 0; side < 2; side++) {
        struct fpl_question q = *inside;
        q.value[which] = side ? 4.0 * (range[1] + more) - more : (range[0] + more) / 4.0 - more;
        if (q.value[which] < fpl_variables[which].lo || (which <= FPL_VAR_BLOCK && q.value[which] < 0.0))
            continue;
        if (which == FPL_VAR_BLOCK && q.value[which] < 1.0) continue;
        const struct fpl_answer a = ask(fit, &q);
        if (fabs(a.outside - 2.0) > 1e-9 || strstr(a.warning, name) == NULL)
            fail_msg("%s%g: outside %g, '%s'", name, q.value[which], a.outside, a.warning);
    }
    for (int side = 0; side < 2; side++) { /* the ends are inside */
        struct fpl_question q = *inside;
        q.value[which] = range[side];
        if (ask(fit, &q).outside > 0.0) fail_msg("%s%g lies outside", name, range[side]);
    }
}

static void test_variables(void **state) {
    (void)state;
    static const struct {
        const char *law;
        enum fpl_variable which[8];
    } cases[] = {{"joint",
                  {FPL_VAR_N, FPL_VAR_D, FPL_VAR_LR, FPL_VAR_BATCH, FPL_VAR_E, FPL_VAR_M, FPL_VAR_BLOCK,
                   FPL_VARIABLES}},
                 {"capybara", {FPL_VAR_E, FPL_VAR_M, FPL_VAR_BLOCK, FPL_VARIABLES}},
                 {"kumar", {FPL_VAR_PW, FPL_VAR_PA, FPL_VAR_PKV, FPL_VARIABLES}},
                 {"qat", {FPL_VAR_GROUP, FPL_VARIABLES}}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct design d;
        struct fpl_fit *fit = NULL, **read = NULL;
        size_t count = 0;
        const struct fpl_fit_options options = {.level = 0.95, .threads = 2};
        assert_true(design_make(&d, fpl_law_find(cases[c].law), 2, 0));
        assert_int_equal(fpl_law_fit(d.law, &d.runs, &options, &fit, NULL), FPL_OK);
        char *text = fpl_fits_to_json(&fit, 1, &d.runs);
        assert_int_equal(fpl_fits_parse("fit", text, strlen(text), &read, &count, NULL), FPL_OK);
        struct fpl_question q = d.asked[1];
        if (strcmp(cases[c].law, "joint") == 0)
            q.value[FPL_VAR_LR] = exp(-5.3), q.value[FPL_VAR_BATCH] = 200.0;
        assert_true(ask(fit, &q).outside <= 0.0);
        for (int k = 0; cases[c].which[k] != FPL_VARIABLES; k++) {
            check_variable(&d, fit, &q, cases[c].which[k]);
            check_variable(&d, read[0], &q, cases[c].which[k]);
        }
        free(text);
        fpl_fits_free(read, count);
        fpl_fit_free(fit);
        design_end(&d);
    }
}

/* A learning rate that is not given is judged at its optimum: far out in N it leaves the rates tried. */
static void test_optimum(void **state) {
    (void)state;
    struct design d;
    struct fpl_fit *fit = NULL;
    const struct fpl_fit_options options = {.level = 0.95, .threads = 2};
    assert_true(design_make(&d, fpl_law_find("joint"), 2, 0));
    assert_int_equal(fpl_law_fit(d.law, &d.runs, &options, &fit, NULL), FPL_OK);
    struct fpl_question q = d.asked[1];
    q.value[FPL_VAR_N] = 1e9;
    q.value[FPL_VAR_E] = q.value[FPL_VAR_M] = q.value[FPL_VAR_BLOCK] = NONE;
    const struct fpl_answer a = ask(fit, &q);
    assert_non_null(strstr(a.warning, "the optimal lr = "));
    assert_true(a.outside > 10.0);
    fpl_fit_free(fit);
    design_end(&d);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_variables), cmocka_unit_test(test_optimum)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
