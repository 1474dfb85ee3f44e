/* Constants that were put in come out: each law fitted to synthetic studies of known constants
 * with the noise of small runs, intervals counted against the truth.
 *
 * Bounds on coverage: with n independent intervals of level 0.95 the count of misses stays below
 * 0.05 n + 3.3 sqrt(0.0475 n) in all but one of 2,000 tables; decisions of one table are
 * correlated, so each table counts as one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "law_synthetic.h"

enum { TABLES = 12, RESAMPLES = 120 };
#define NOISE 0.015

/* Least number of hits that 95 % intervals on `tables` independent tables keep (see above). */
static int least_hits(int tables) { return (int)floor(0.95 * tables - 3.3 * sqrt(0.0475 * tables)); }

static struct fpl_fit *fit_table(const char *law, const struct synthetic *s, int resamples) {
    struct fpl_fit *fit = NULL;
    struct fpl_error err = {FPL_OK, ""};
    const struct fpl_fit_options options = {.bootstrap = resamples, .level = 0.95, .threads = 2};
    if (fpl_law_fit(fpl_law_find(law), &s->runs, &options, &fit, &err) != FPL_OK) fail_msg("%s", err.text);
    return fit;
}

static int covers(const struct fpl_estimate *e, double truth) { return e->lo <= truth && truth <= e->hi; }

/* Adds 1 per parameter whose interval holds the truth. */
static void count_parameters(const struct synthetic *s, const struct fpl_fit *fit, int *hits) {
    double truth[FPL_LAW_PARAMS];
    s->law->publish(s->law, s->theta, &s->centre, truth);
    for (int j = 0; j < s->law->params; j++) {
        struct fpl_estimate e;
        if (!fpl_fit_value(fit, s->law->param[j].name, &e)) fail_msg("%s is missing", s->law->param[j].name);
        hits[j] += covers(&e, truth[j]);
    }
}

static void check_hits(const struct fpl_law *law, const int *hits) {
    for (int j = 0; j < law->params; j++)
        if (!law->param[j].nuisance && hits[j] < least_hits(TABLES))
            fail_msg("%s: %s covers the truth in %d of %d tables", law->name, law->param[j].name, hits[j],
                     TABLES);
}

static void recover_levels(const char *law, int repeats) {
    int hits[FPL_LAW_PARAMS] = {0}, predicted = 0;
    for (int k = 0; k < TABLES; k++) {
        struct synthetic s;
        synthetic_levels(&s, law, NOISE, (uint64_t)k, repeats);
        struct fpl_fit *fit = fit_table(law, &s, RESAMPLES);
        assert_int_not_equal(fpl_fit_state(fit), FPL_FIT_NOT_CONVERGED);
        count_parameters(&s, fit, hits);
        const struct fpl_point_at at = {4e4, 2e6, NONE, NONE, 2, 1, 32},
                                  plain = {4e4, 2e6, NONE, NONE, NONE, NONE, NONE};
        const struct fpl_point_at *asked = s.law->penalty_at >= 0 ? &at : &plain;
        struct fpl_law_at point;
        struct fpl_answer a;
        fpl_law_at_point(asked, &s.centre, &point);
        assert_int_equal(fpl_fit_predict(fit, asked, &a, NULL), FPL_OK);
        predicted += covers(&a.loss, exp(s.law->log_loss(s.law, s.theta, &point, NULL)));
        fpl_fit_free(fit);
        synthetic_end(&s);
    }
    check_hits(fpl_law_find(law), hits);
    assert_true(predicted >= least_hits(TABLES));
}

static void test_chinchilla(void **state) {
    (void)state;
    recover_levels("chinchilla", 9);
}

static void test_capybara(void **state) {
    (void)state;
    recover_levels("capybara", 2);
}

static void test_joint(void **state) {
    (void)state;
    int hits[FPL_LAW_PARAMS] = {0}, loss = 0, lr = 0, batch = 0, crit = 0;
    for (int k = 0; k < TABLES; k++) {
        struct synthetic s;
        synthetic_joint(&s, NOISE, (uint64_t)k, 0);
        assert_int_equal(s.runs.count, 84);
        struct fpl_fit *fit = fit_table("joint", &s, RESAMPLES);
        assert_int_equal(fpl_fit_state(fit), FPL_FIT_CONVERGED);
        count_parameters(&s, fit, hits);
        const struct fpl_point_at at = {5e4, 2e6, NONE, NONE, 2, 1, 32};
        struct fpl_law_at point;
        struct fpl_answer a;
        fpl_law_at_point(&at, &s.centre, &point);
        assert_int_equal(fpl_fit_predict(fit, &at, &a, NULL), FPL_OK);
        loss += covers(&a.loss, exp(s.law->log_loss(s.law, s.theta, &point, NULL)));
        lr += covers(&a.lr, exp(s.law->log_lr(s.law, s.theta, &point, NULL)));
        batch += covers(&a.batch_tokens, exp(s.law->log_batch(s.law, s.theta, &point, NULL)));
        crit += covers(&a.D_crit, exp(s.law->log_dcrit(s.law, s.theta, &point, NULL) + s.centre.d));
        fpl_fit_free(fit);
        synthetic_end(&s);
    }
    check_hits(fpl_law_find("joint"), hits);
    assert_true(loss >= least_hits(TABLES) && lr >= least_hits(TABLES));
    assert_true(batch >= least_hits(TABLES) && crit >= least_hits(TABLES));
}

/* The recipe's optimum at the centre, from grids of full size. */
static void test_steplaw(void **state) {
    (void)state;
    int lr = 0, batch = 0;
    for (int k = 0; k < TABLES; k++) {
        struct synthetic s;
        synthetic_grid(&s, 0.001, (uint64_t)k);
        struct fpl_fit *fit = fit_table("steplaw", &s, RESAMPLES);
        const struct fpl_point_at at = {exp(s.centre.n), exp(s.centre.d), NONE, NONE, NONE, NONE, NONE};
        struct fpl_answer a;
        assert_int_equal(fpl_fit_predict(fit, &at, &a, NULL), FPL_OK);
        lr += covers(&a.lr, exp(s.theta[9]));
        batch += covers(&a.batch_tokens, exp(s.theta[12]));
        assert_true(fabs(log(a.lr.value / exp(s.theta[9]))) < OCTAVE &&
                    fabs(log(a.batch_tokens.value / exp(s.theta[12]))) < OCTAVE);
        fpl_fit_free(fit);
        synthetic_end(&s);
    }
    assert_true(lr >= least_hits(TABLES) && batch >= least_hits(TABLES));
}

/* Without noise the truth is found to rounding, by every law of the loss. */
static void test_exact(void **state) {
    (void)state;
    static const char *const laws[] = {"chinchilla", "capybara", "joint"};
    for (int k = 0; k < 3; k++) {
        struct synthetic s;
        if (k == 2)
            synthetic_joint(&s, 0, 1, 0);
        else
            synthetic_levels(&s, laws[k], 0, 1, 1);
        struct fpl_fit *fit = fit_table(laws[k], &s, 0);
        double truth[FPL_LAW_PARAMS];
        s.law->publish(s.law, s.theta, &s.centre, truth);
        for (int j = 0; j < s.law->params; j++) {
            struct fpl_estimate e;
            assert_true(fpl_fit_value(fit, s.law->param[j].name, &e));
            if (!(fabs(e.value / truth[j] - 1) < 1e-4))
                fail_msg("%s %s: %.9g, put in %.9g", laws[k], s.law->param[j].name, e.value, truth[j]);
        }
        fpl_fit_free(fit);
        synthetic_end(&s);
    }
}

/* A few mislabelled or lucky runs do not move a Huber fit far. */
static void test_outliers(void **state) {
    (void)state;
    struct synthetic s;
    synthetic_levels(&s, "capybara", NOISE, 5, 2);
    s.runs.run[3].loss *= 1.4;
    s.runs.run[50].loss *= 0.7;
    s.runs.run[90].loss *= 1.3;
    struct fpl_fit *fit = fit_table("capybara", &s, RESAMPLES);
    const struct fpl_point_at at = {4e4, 2e6, NONE, NONE, 2, 1, 32};
    struct fpl_law_at point;
    struct fpl_answer a;
    fpl_law_at_point(&at, &s.centre, &point);
    assert_int_equal(fpl_fit_predict(fit, &at, &a, NULL), FPL_OK);
    assert_true(fabs(log(a.loss.value) - s.law->log_loss(s.law, s.theta, &point, NULL)) < 0.01);
    fpl_fit_free(fit);
    synthetic_end(&s);
}

/* The same bits on any number of threads, resamples included. */
static void test_threads(void **state) {
    (void)state;
    struct synthetic s;
    char *json[3];
    synthetic_joint(&s, NOISE, 3, 0);
    for (int k = 0; k < 3; k++) {
        struct fpl_fit *fit = NULL;
        const struct fpl_fit_options options = {
            .bootstrap = 60, .level = 0.9, .threads = k + 1, .hold_out = "cell", .seed = 5};
        assert_int_equal(fpl_law_fit(fpl_law_find("joint"), &s.runs, &options, &fit, NULL), FPL_OK);
        json[k] = fpl_fits_to_json(&fit, 1, &s.runs);
        assert_non_null(json[k]);
        fpl_fit_free(fit);
    }
    assert_string_equal(json[0], json[1]);
    assert_string_equal(json[0], json[2]);
    for (int k = 0; k < 3; k++) free(json[k]);
    synthetic_end(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chinchilla), cmocka_unit_test(test_capybara), cmocka_unit_test(test_joint),
        cmocka_unit_test(test_steplaw),    cmocka_unit_test(test_exact),    cmocka_unit_test(test_outliers),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
