/* Tables that cannot support a law: clear refusals, runs left out with the reason, and fits that
 * say what the data do not determine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "law_synthetic.h"

static const struct fpl_fit_options plain = {.bootstrap = 0, .level = 0.95, .threads = 1};

static void refuses(const char *law, const struct fpl_runs *runs, const struct fpl_fit_options *options,
                    const char *says) {
    struct fpl_fit *fit = NULL;
    struct fpl_error err = {FPL_OK, ""};
    assert_int_equal(fpl_law_fit(fpl_law_find(law), runs, options, &fit, &err), FPL_INVALID);
    assert_null(fit);
    if (strstr(err.text, says) == NULL) fail_msg("%s says: %s (expected: %s)", law, err.text, says);
}

static struct fpl_fit *accepts(const char *law, const struct fpl_runs *runs) {
    struct fpl_fit *fit = NULL;
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_law_fit(fpl_law_find(law), runs, &plain, &fit, &err) != FPL_OK) fail_msg("%s", err.text);
    return fit;
}

static void test_too_few(void **state) {
    (void)state;
    struct synthetic s;
    synthetic_levels(&s, "chinchilla", 0.01, 1, 1);
    s.runs.count = 4;
    refuses("chinchilla", &s.runs, &plain, "has 5 parameters and only 4 runs");
    s.runs.count = 0;
    refuses("chinchilla", &s.runs, &plain, "no runs are left");
    synthetic_end(&s);
    synthetic_joint(&s, 0.01, 1, 0);
    s.runs.count = 17;
    refuses("joint", &s.runs, &plain, "has 18 parameters and only 17 runs");
    synthetic_end(&s);
}

/* A value in every column that some law takes. */
static void fill_columns(struct fpl_runs *runs) {
    for (size_t i = 0; i < runs->count; i++) {
        struct fpl_run *r = &runs->run[i];
        r->Pw = r->Pa = r->bits = 6;
        r->group = 32;
        r->step = 5.0 + (double)i;
        r->N_mean = r->x = 1e6;
        r->steps = 100;
        r->delta = 0.1;
        if (isnan(r->E)) r->E = r->M = 2, r->block = 32;
    }
}

/* The column of a law's target. */
static double *target_of(struct fpl_run *r, const struct fpl_law *law) {
    const char *target = fpl_law_target(law);
    return strcmp(target, "delta") == 0 ? &r->delta : strcmp(target, "lr") == 0 ? &r->lr : &r->loss;
}

static void test_nothing_usable(void **state) {
    (void)state;
    struct synthetic s;
    for (size_t k = 0; fpl_laws[k] != NULL; k++) {
        const struct fpl_law *law = fpl_laws[k];
        const char *name = fpl_law_name(law);
        char says[64];
        synthetic_joint(&s, 0.01, 1, 0);
        fill_columns(&s.runs);
        struct fpl_run *run = s.runs.run;
        for (size_t i = 0; i < s.runs.count; i++) run[i].status = FPL_RUN_DIVERGED;
        refuses(name, &s.runs, &plain, "no run can be used; of run r000: diverged");
        for (size_t i = 0; i < s.runs.count; i++) *target_of(&run[i], law) = NONE, run[i].loss = NONE;
        if (strcmp(fpl_law_target(law), "loss") == 0) refuses(name, &s.runs, &plain, "no run has a loss");
        for (size_t i = 0; i < s.runs.count; i++) run[i].status = FPL_RUN_OK;
        snprintf(says, sizeof says, "needs column '%s'", fpl_law_target(law));
        refuses(name, &s.runs, &plain, says);
        if (fpl_law_takes_schedule(law)) {
            for (size_t i = 0; i < s.runs.count; i++) run[i].loss = 2;
            refuses(name, &s.runs, &plain, "rows of one curve share their 'run'");
        } else {
            for (size_t i = 0; i < s.runs.count; i++) *target_of(&run[i], law) = -5, run[i].loss = 2;
            snprintf(says, sizeof says, "%s is -5", fpl_law_target(law));
            if (strcmp(fpl_law_target(law), "loss") != 0) refuses(name, &s.runs, &plain, says);
        }
        if (fpl_law_takes(law, FPL_VAR_N) == 2) {
            for (size_t i = 0; i < s.runs.count; i++) *target_of(&run[i], law) = 2, run[i].N = -5;
            refuses(name, &s.runs, &plain, "N is -5");
        }
        synthetic_end(&s);
    }
}

/* Laws of one condition refuse tables of several, and say which column differs. */
static void test_one_condition(void **state) {
    (void)state;
    struct synthetic s;
    synthetic_joint(&s, 0.01, 1, 0);
    s.runs.count = 36; /* unquantized */
    refuses("bowl", &s.runs, &plain, "fitted to one condition, but the runs have");
    refuses("surge", &s.runs, &plain, "fitted to one condition, but the runs have");
    synthetic_end(&s);
    synthetic_levels(&s, "capybara", 0.01, 1, 1);
    refuses("capacity", &s.runs, &plain, "choose one with --where");
    refuses("capybara-e", &s.runs, &plain, "choose one with --where");
    synthetic_end(&s);
}

static void test_missing_columns(void **state) {
    (void)state;
    struct synthetic s;
    synthetic_levels(&s, "chinchilla", 0.01, 1, 3);
    refuses("joint", &s.runs, &plain, "needs column 'lr'");
    refuses("steplaw", &s.runs, &plain, "needs column 'lr'");
    refuses("capybara", &s.runs, &plain, "needs column 'E'");
    for (size_t i = 0; i < s.runs.count; i++) s.runs.run[i].D = NONE;
    refuses("chinchilla", &s.runs, &plain, "needs column 'D'");
    synthetic_end(&s);
    /* formats are there, but none that the law can use */
    synthetic_levels(&s, "capybara", 0.01, 1, 1);
    for (size_t i = 0; i < s.runs.count; i++)
        if (!isnan(s.runs.run[i].E) && i > 1) s.runs.run[i].block = NONE;
    s.runs.run[1].status = FPL_RUN_COLLAPSED;
    refuses("capybara", &s.runs, &plain, "is quantized");
    synthetic_end(&s);
}

/* What was left out is listed once each, with the reason. */
static void test_left_out(void **state) {
    (void)state;
    struct synthetic s;
    synthetic_joint(&s, 0.01, 2, 0);
    struct fpl_run *r = s.runs.run;
    r[1].status = FPL_RUN_DIVERGED;
    r[2].status = FPL_RUN_COLLAPSED;
    r[3].status = FPL_RUN_STOPPED;
    r[5].loss = NONE;
    r[6].N = HUGE_VAL;
    r[7].lr = 0;
    r[9].batch_tokens = NONE;
    r[40].block = NONE;
    snprintf(r[40].granularity, sizeof r[40].granularity, "row");
    r[41].M = NONE;
    static const char *const expected[][2] = {{"r001", "diverged"},
                                              {"r002", "collapsed"},
                                              {"r003", "stopped"},
                                              {"r005", "loss is nan"},
                                              {"r006", "N is inf"},
                                              {"r007", "lr is 0"},
                                              {"r009", "batch_tokens is nan"},
                                              {"r040", "fixed block (row)"},
                                              {"r041", "without one exponent"}};
    struct fpl_fit *fit = accepts("joint", &s.runs);
    const char *run, *why;
    size_t found = 0, listed = 0;
    for (; fpl_fit_left_out(fit, listed, &run, &why); listed++)
        for (size_t k = 0; k < sizeof expected / sizeof expected[0]; k++)
            found += strcmp(run, expected[k][0]) == 0 && strstr(why, expected[k][1]) != NULL;
    assert_int_equal(found, sizeof expected / sizeof expected[0]);
    struct fpl_fit_summary summary;
    fpl_fit_summarize(fit, &summary);
    assert_int_equal(summary.used + listed, s.runs.count);
    fpl_fit_free(fit);
    /* laws without precision leave quantized runs out */
    fit = accepts("chinchilla", &s.runs);
    fpl_fit_summarize(fit, &summary);
    assert_true(summary.used <= 36 && summary.used >= 9);
    fpl_fit_free(fit);
    synthetic_end(&s);
}

/* Without a status column losses far above their group count as diverged; with one they are
 * judged by it. */
static void test_diverged_by_loss(void **state) {
    (void)state;
    struct synthetic s;
    const char *run, *why;
    synthetic_levels(&s, "chinchilla", 0.005, 2, 8);
    s.runs.run[30].loss *= 1.5;
    s.runs.lacks_status = 1;
    struct fpl_fit *fit = accepts("chinchilla", &s.runs);
    assert_true(fpl_fit_left_out(fit, 0, &run, &why));
    assert_string_equal(run, "r030");
    assert_non_null(strstr(why, "counts as diverged"));
    assert_false(fpl_fit_left_out(fit, 1, &run, &why));
    fpl_fit_free(fit);
    s.runs.lacks_status = 0;
    fit = accepts("chinchilla", &s.runs);
    assert_false(fpl_fit_left_out(fit, 0, &run, &why));
    fpl_fit_free(fit);
    synthetic_end(&s);
}

/* Seeds of one setting stay together; the best setting of a cell is chosen by their mean. */
static void test_best_setting(void **state) {
    (void)state;
    struct synthetic s;
    synthetic_levels(&s, "chinchilla", 0, 2, 4);
    for (size_t i = 0; i < s.runs.count; i++) {
        s.runs.run[i].lr = i / 9 < 2 ? 1e-3 : 2e-3; /* repeats 0, 1 against 2, 3 */
        s.runs.run[i].batch_tokens = 256;
        if (i / 9 >= 2) s.runs.run[i].loss *= i / 9 == 2 ? 0.99 : 1.05; /* luckier once, worse in the mean */
    }
    struct fpl_fit *fit = accepts("chinchilla", &s.runs);
    struct fpl_fit_summary summary;
    fpl_fit_summarize(fit, &summary);
    assert_int_equal(summary.used, 18);
    assert_true(summary.rms_log_residual < 1e-6);
    fpl_fit_free(fit);
    synthetic_end(&s);
}

static void says_unidentified(const struct fpl_fit *fit, const char *says) {
    assert_int_equal(fpl_fit_state(fit), FPL_FIT_UNIDENTIFIED);
    if (strstr(fpl_fit_message(fit), says) == NULL)
        fail_msg("message: %s (expected: %s)", fpl_fit_message(fit), says);
}

static void test_unidentified(void **state) {
    (void)state;
    struct synthetic s;
    synthetic_levels(&s, "chinchilla", 0.01, 3, 4);
    struct fpl_error err = {FPL_OK, ""};
    assert_int_equal(fpl_runs_where(&s.runs, "N=5120", &err), FPL_OK);
    struct fpl_fit *fit = accepts("chinchilla", &s.runs);
    says_unidentified(fit, "alpha");
    says_unidentified(fit, "all runs have one N");
    const struct fpl_point_at at = {5120, 1e6, NONE, NONE, NONE, NONE, NONE};
    struct fpl_answer a;
    assert_int_equal(fpl_fit_predict(fit, &at, &a, &err), FPL_OK);
    assert_non_null(strstr(a.warning, "unidentified"));
    fpl_fit_free(fit);
    synthetic_end(&s);

    synthetic_joint(&s, 0.015, 4, 1); /* formats only at the fp32 optimum */
    fit = accepts("joint", &s.runs);
    says_unidentified(fit, "lr_shift");
    says_unidentified(fit, "too near their optimal learning rate");
    fpl_fit_free(fit);
    synthetic_end(&s);

    synthetic_joint(&s, 0.015, 4, 0);
    for (size_t i = 0; i < s.runs.count; i++) s.runs.run[i].lr = 1e-3;
    fit = accepts("joint", &s.runs);
    says_unidentified(fit, "all runs have one learning rate");
    fpl_fit_free(fit);
    synthetic_end(&s);
}

static void test_hold_out(void **state) {
    (void)state;
    struct synthetic s;
    synthetic_levels(&s, "chinchilla", 0.01, 3, 2);
    struct fpl_fit_options o = plain;
    o.hold_out = "N>1e9";
    refuses("chinchilla", &s.runs, &o, "holds for none of the 18 runs");
    o.hold_out = "N>1";
    refuses("chinchilla", &s.runs, &o, "leaves 0 runs for 5 parameters");
    o.hold_out = "N>";
    refuses("chinchilla", &s.runs, &o, "--hold-out: 'N>'");
    o = plain;
    o.level = 1;
    refuses("chinchilla", &s.runs, &o, "level 1");
    o = plain;
    o.bootstrap = -1;
    refuses("chinchilla", &s.runs, &o, "bootstrap -1");
    for (size_t i = 0; i < s.runs.count; i++) s.runs.run[i].N = s.runs.run[i].D = 1e6;
    o = plain;
    o.hold_out = "cell";
    refuses("chinchilla", &s.runs, &o, "only one (N, D)");
    synthetic_end(&s);

    /* the error on held-out cells is near the noise, and its count is every run */
    synthetic_levels(&s, "chinchilla", 0.01, 3, 6);
    struct fpl_fit *fit = NULL;
    struct fpl_fit_summary summary;
    assert_int_equal(fpl_law_fit(fpl_law_find("chinchilla"), &s.runs, &o, &fit, NULL), FPL_OK);
    fpl_fit_summarize(fit, &summary);
    assert_string_equal(summary.hold_out, "cell");
    assert_int_equal(summary.held_out_runs, 54);
    assert_true(summary.held_out_rms > 0.8 * 0.01 && summary.held_out_rms < 2 * 0.01);
    fpl_fit_free(fit);
    synthetic_end(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_too_few),       cmocka_unit_test(test_nothing_usable),
        cmocka_unit_test(test_one_condition), cmocka_unit_test(test_missing_columns),
        cmocka_unit_test(test_left_out),      cmocka_unit_test(test_diverged_by_loss),
        cmocka_unit_test(test_best_setting),  cmocka_unit_test(test_unidentified),
        cmocka_unit_test(test_hold_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
